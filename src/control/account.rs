//! One's own account: password, address, sessions, logins.

use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::auth::password;
use crate::clock;
use crate::model::SiteRights;
use crate::store::EventQuery;

/// Logins listed by `previousLogins`.
const LOGINS: usize = 100;

/// `websessions`: where this account is logged in with a browser.
///
/// # Errors
/// None.
pub async fn web_sessions(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let current = context.session.web_session.as_deref();
    let sessions: Vec<Value> = context
        .site
        .web_sessions
        .of(&context.session.user)
        .into_iter()
        .map(|session| {
            let mut view = json!(session);
            view["current"] = json!(current == Some(session.id.as_str()));
            view
        })
        .collect();
    Ok(Answer::Body(fields! { "sessions" => sessions }))
}

/// `revokewebsession`.
#[derive(Deserialize)]
pub struct RevokeWebSession {
    id: String,
}

/// Ends one of one's own web sessions, with the pages that are open in it.
///
/// # Errors
/// `Unknown session`.
pub async fn revoke_web_session(context: &Context, request: RevokeWebSession) -> Result<Answer, Refusal> {
    let own = context.site.web_sessions.of(&context.session.user);
    if !own.iter().any(|session| session.id == request.id) {
        return Err(Refusal::new("Unknown session"));
    }
    context.site.web_sessions.revoke(&request.id);
    context.site.store_revocations().await?;
    for session in context.site.sessions.of(&context.session.user) {
        if session.web_session.as_deref() == Some(request.id.as_str()) {
            session.cancel.cancel();
        }
    }
    Ok(Answer::Ok)
}

/// `changepassword`.
#[derive(Deserialize)]
pub struct ChangePassword {
    oldpass: String,
    newpass: String,
}

/// Changes one's own password. Every other session of the account ends; this one goes on.
///
/// # Errors
/// A wrong old password, or what the policy misses.
pub async fn change_password(context: &Context, request: ChangePassword) -> Result<Answer, Refusal> {
    context.without_token()?;
    let user = context.user()?;
    if user.siteadmin.restricted_by(SiteRights::LOCKED_SETTINGS) {
        return Err(Refusal::new("The settings of this account are locked"));
    }
    let limit = context.site.config.settings.max_invalid_login.clone();
    let now = std::time::Instant::now();
    if let Some(limit) = &limit
        && let Some(wait) = context.site.throttle.wait(&user.id, context.remote, limit, now)
    {
        return Err(Refusal::new(format!("Too many wrong passwords. Try again in {} s", wait.as_secs() + 1)));
    }
    if !context.site.check_password(Some(&user), request.oldpass).await {
        if let Some(limit) = &limit {
            context.site.throttle.bad(&user.id, context.remote, limit, now);
        }
        return Err(Refusal::new("The current password is wrong").with("field", "oldpass"));
    }
    let unmet = password::unmet(&context.site.config.domain(context.domain()).password, &request.newpass);
    if !unmet.is_empty() {
        return Err(Refusal::new(unmet.join(". ")).with("field", "newpass").with("unmet", unmet));
    }
    let hash = context.site.hash_password(request.newpass).await;
    context
        .site
        .change(|change| {
            let stored =
                change.directory().user(&user.id).ok_or_else(|| Refusal::new("User does not exists"))?;
            let mut user = (**stored).clone();
            user.salt = Some(hash.salt);
            user.hash = Some(hash.hash);
            user.passchange = Some(clock::now_seconds());
            // Every session begun before now ends, listed or not, but for the page in front of the user.
            user.sessions_since = context.site.web_sessions.after_all(clock::now_ms());
            user.session_kept.clone_from(&context.session.web_session);
            let user = change.put_user(user);
            let text = format!("Password of {} changed", user.name);
            let event = super::users::changed_event(context, &user, &user, 74, text);
            Ok::<_, Refusal>(((), vec![event]))
        })
        .await?;
    for session in context.site.sessions.of(&user.id) {
        if session.id != context.session.id && session.web_session != context.session.web_session {
            session.cancel.cancel();
        }
    }
    Ok(Answer::Ok)
}

/// `changeemail`.
#[derive(Deserialize)]
pub struct ChangeEmail {
    email: String,
}

/// Changes one's own e-mail address; an empty one removes it.
///
/// # Errors
/// For an address that cannot be one, or is another account's.
pub async fn change_email(context: &Context, request: ChangeEmail) -> Result<Answer, Refusal> {
    context.without_token()?;
    let user = context.user()?;
    if user.siteadmin.restricted_by(SiteRights::LOCKED_SETTINGS) {
        return Err(Refusal::new("The settings of this account are locked"));
    }
    let email = match request.email.as_str() {
        "" => None,
        email => Some(
            super::users::check_email(email)
                .ok_or_else(|| Refusal::new("This is not an e-mail address").with("field", "email"))?,
        ),
    };
    context
        .site
        .change(|change| {
            let taken = email.is_some()
                && change
                    .directory()
                    .users_of(user.id.domain())
                    .any(|other| other.id != user.id && other.email == email);
            if taken {
                return Err(Refusal::new("This address is already in use").with("field", "email"));
            }
            let stored =
                change.directory().user(&user.id).ok_or_else(|| Refusal::new("User does not exists"))?;
            let mut user = (**stored).clone();
            user.email = email;
            user.email_verified = None;
            let user = change.put_user(user);
            let event = super::users::changed_event(
                context,
                &user,
                &user,
                66,
                format!("Account {} changed", user.name),
            );
            Ok(((), vec![event]))
        })
        .await?;
    Ok(Answer::Ok)
}

/// `previousLogins`.
#[derive(Deserialize)]
pub struct PreviousLogins {
    userid: Option<String>,
}

/// Logins, good and bad, of one's own account or, with the right to manage users, of another's.
///
/// # Errors
/// Without that right.
pub async fn previous_logins(context: &Context, request: PreviousLogins) -> Result<Answer, Refusal> {
    let id = match &request.userid {
        Some(id) if id != context.session.user.as_str() => {
            context.with_site_right(SiteRights::MANAGE_USERS, "Access denied")?;
            context.user_named(id)?.id.clone()
        }
        _ => context.session.user.clone(),
    };
    let mut logins = Vec::new();
    for action in ["login", "authfail"] {
        let query = EventQuery {
            any_of: vec![EventQuery::about_user(id.as_str())],
            domain: context.domain().to_owned(),
            action: Some(action.into()),
            between: None,
            limit: LOGINS,
        };
        logins.extend(context.site.store.events(query).await?);
    }
    logins.sort_by(|a, b| {
        let time = |event: &serde_json::Map<String, Value>| {
            event.get("time").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        time(b).cmp(&time(a))
    });
    logins.truncate(LOGINS);
    let events: Vec<Value> = logins
        .into_iter()
        .map(|event| json!({ "t": event.get("time"), "m": event.get("msgid"), "a": event.get("msgArgs") }))
        .collect();
    Ok(Answer::Body(fields! { "userid" => id, "events" => events }))
}
