//! Users: list, add, edit, remove.

use outpost_wire::id::{DeviceId, GroupId, UserGroupId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::context::{Context, safe_user};
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::auth::password;
use crate::clock;
use crate::model::{Event, Links, SiteRights, User};

/// Longest login name (data-formats §1).
const LONGEST_NAME: usize = 64;
/// Longest e-mail address (RFC 5321).
const LONGEST_EMAIL: usize = 254;
/// Longest real name.
const LONGEST_REAL_NAME: usize = 256;
/// Site rights that somebody who manages users, but is not a site administrator, may give and take.
const MANAGEABLE: u32 = 2 | 32 | 64 | 128;

/// `users`.
///
/// # Errors
/// Without the right to manage users.
pub async fn list(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    context.with_site_right(SiteRights::MANAGE_USERS, "Access denied")?;
    let directory = context.site.store.directory();
    let users: Vec<Value> = directory
        .users_of(context.domain())
        .filter(|user| user.id.key() != "~")
        .map(|user| Value::Object(safe_user(user)))
        .collect();
    Ok(Answer::Body(fields! { "users" => users }))
}

/// `wssessioncount`: sessions per user; empty for those who may not manage users.
///
/// # Errors
/// When the account is gone.
pub async fn session_count(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let counts = if context.user()?.siteadmin.contains(SiteRights::MANAGE_USERS) {
        context.site.sessions.counts(context.domain())
    } else {
        Default::default()
    };
    Ok(Answer::Body(fields! { "wssessions" => counts }))
}

/// Checks a new login name; the id's key is its lower-cased form.
///
/// # Errors
/// A text that says what is wrong.
pub fn check_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if length == 0 || length > LONGEST_NAME {
        return Err(format!("A user name has 1 to {LONGEST_NAME} characters; this one has {length}"));
    }
    if name.starts_with('~') {
        return Err("A user name cannot start with ~".into());
    }
    if let Some(bad) = name.chars().find(|c| c.is_whitespace() || c.is_control() || "\",/\\<>".contains(*c)) {
        return Err(format!("A user name cannot contain {bad:?}"));
    }
    Ok(())
}

/// Checks an e-mail address and lower-cases it.
pub fn check_email(email: &str) -> Option<String> {
    let (local, host) = email.rsplit_once('@')?;
    let (_, top) = host.rsplit_once('.')?;
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\\\"".contains(c);
    let fits = !local.is_empty()
        && top.len() >= 2
        && top.chars().all(char::is_alphanumeric)
        && !host.starts_with('.')
        && !host.contains("..")
        && email.len() <= LONGEST_EMAIL
        && email.matches('@').count() == 1
        && email.chars().all(plain);
    fits.then(|| email.to_lowercase())
}

/// A new account without any rights.
pub fn new_user(id: UserId, name: &str, email: Option<String>) -> User {
    let domain = id.domain().to_owned();
    User {
        id,
        name: name.to_owned(),
        domain,
        email,
        email_verified: None,
        realname: None,
        creation: clock::now_seconds(),
        login: None,
        pastlogin: None,
        access: None,
        passchange: Some(clock::now_seconds()),
        siteadmin: SiteRights::NONE,
        remove_rights: 0,
        links: Links::new(),
        salt: None,
        hash: None,
        consent: 0,
        sessions_since: 0,
        session_kept: None,
        extra: Map::new(),
    }
}

/// The event of a new account.
pub fn created_event(user: &User, by: &User) -> Event {
    // Clients take this event's user for the new one.
    let event = Event::new("user", "accountcreate", &user.domain)
        .by(user)
        .with("creatorid", by.id.as_str())
        .with("account", Value::Object(safe_user(user)))
        .to(["*", "server-users"]);
    match &user.email {
        Some(email) => event.says(65, &[email], format!("Account created with the address {email}")),
        None => event.says(64, &[&user.name], format!("Account {} created", user.name)),
    }
}

/// The event of a changed account.
pub fn changed_event(context: &Context, user: &User, by: &User, msgid: u32, text: String) -> Event {
    context
        .event("user", "accountchange")
        .by(by)
        .with("account", Value::Object(safe_user(user)))
        .says(msgid, &[&user.name], text)
        .to_account(&user.id)
}

/// `adduser`.
#[derive(Deserialize)]
pub struct AddUser {
    username: String,
    pass: Option<String>,
    #[serde(rename = "randomPassword", default)]
    random_password: bool,
    email: Option<String>,
    #[serde(rename = "emailVerified")]
    email_verified: Option<bool>,
    #[serde(rename = "resetNextLogin", default)]
    reset_next_login: bool,
    siteadmin: Option<u32>,
    realname: Option<String>,
    consent: Option<u32>,
}

/// Adds an account.
///
/// # Errors
/// Texts as control-protocol §4.2, and what the password policy misses.
pub async fn add(context: &Context, request: AddUser) -> Result<Answer, Refusal> {
    let by = context
        .with_site_right(SiteRights::MANAGE_USERS, "Permission denied")
        .map_err(|refusal| Refusal { msgid: Some(1), ..refusal })?;
    check_name(&request.username).map_err(|_| Refusal::numbered("Invalid username", 2))?;
    let id = UserId::from_name(context.domain(), &request.username)
        .map_err(|_| Refusal::numbered("Invalid username", 2))?;
    let email = match request.email.as_deref().filter(|email| !email.is_empty()) {
        Some(email) => Some(check_email(email).ok_or_else(|| Refusal::numbered("Invalid email", 4))?),
        None => None,
    };
    let rights = SiteRights(request.siteadmin.unwrap_or(0));
    if !by.siteadmin.is_full() && rights.0 & !MANAGEABLE != 0 {
        return Err(Refusal::numbered("Invalid site permissions", 6));
    }
    let generated = request.random_password.then(random_password);
    let password = generated.clone().or(request.pass).unwrap_or_default();
    let policy = &context.site.config.domain(context.domain()).password;
    if generated.is_none() {
        let unmet = password::unmet(policy, &password);
        if !unmet.is_empty() {
            return Err(Refusal::numbered("Invalid password", 3).with("unmet", unmet));
        }
    }
    if let Some(name) = &request.realname
        && name.chars().count() > LONGEST_REAL_NAME
    {
        return Err(Refusal::numbered("Validation exception", 9));
    }
    let limit = context.site.config.domain(context.domain()).limits.max_user_accounts;
    let hash = context.site.hash_password(password).await;
    let mut user = new_user(id.clone(), &request.username, email);
    user.email_verified = request.email_verified.filter(|verified| *verified && user.email.is_some());
    user.realname = request.realname.filter(|name| !name.is_empty());
    user.siteadmin = rights;
    user.consent = request.consent.unwrap_or(0);
    user.salt = Some(hash.salt);
    user.hash = Some(hash.hash);
    if request.reset_next_login {
        user.passchange = Some(-1);
    }
    context
        .site
        .change(|change| {
            if change.directory().user(&id).is_some() {
                return Err(Refusal::numbered("User already exists", 7));
            }
            if limit.is_some_and(|limit| change.directory().users_of(id.domain()).count() >= limit) {
                return Err(Refusal::numbered("Account limit reached", 10));
            }
            let user = change.put_user(user);
            Ok(((), vec![created_event(&user, &by)]))
        })
        .await?;
    match generated {
        Some(password) => Ok(Answer::OkWith(fields! { "password" => password })),
        None => Ok(Answer::Ok),
    }
}

/// `adduserbatch`.
#[derive(Deserialize)]
pub struct AddUsers {
    users: Vec<NewUser>,
}

#[derive(Deserialize)]
struct NewUser {
    user: String,
    pass: String,
    email: Option<String>,
    #[serde(rename = "emailVerified")]
    email_verified: Option<bool>,
    #[serde(rename = "resetNextLogin", default)]
    reset_next_login: bool,
    realname: Option<String>,
}

/// Most accounts added at once: each costs a password hash.
const LARGEST_BATCH: usize = 100;

/// Adds accounts one by one. The first that cannot be added ends it and is named; those before it stay.
///
/// # Errors
/// `Access denied`, `Invalid users`, and what is wrong with an account.
pub async fn add_batch(context: &Context, request: AddUsers) -> Result<Answer, Refusal> {
    context.with_site_right(SiteRights::MANAGE_USERS, "Access denied")?;
    if request.users.is_empty() || request.users.len() > LARGEST_BATCH {
        return Err(Refusal::new("Invalid users"));
    }
    for new in request.users {
        let name = new.user.clone();
        let one = AddUser {
            username: new.user,
            pass: Some(new.pass),
            random_password: false,
            email: new.email,
            email_verified: new.email_verified,
            reset_next_login: new.reset_next_login,
            siteadmin: None,
            realname: new.realname,
            consent: None,
        };
        Box::pin(add(context, one))
            .await
            .map_err(|refusal| Refusal { text: format!("{name}: {}", refusal.text), ..refusal })?;
    }
    Ok(Answer::Nothing)
}

/// 20 characters of base64: 120 random bits.
pub fn random_password() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(outpost_wire::random::bytes::<15>())
}

/// `edituser`.
#[derive(Deserialize)]
pub struct EditUser {
    userid: Option<String>,
    username: Option<String>,
    id: Option<String>,
    email: Option<String>,
    realname: Option<String>,
    #[serde(rename = "emailVerified")]
    email_verified: Option<bool>,
    #[serde(rename = "resetNextLogin", default)]
    reset_next_login: bool,
    consent: Option<u32>,
    phone: Option<String>,
    msghandle: Option<String>,
    flags: Option<u32>,
    #[serde(rename = "removeRights")]
    remove_rights: Option<u32>,
    siteadmin: Option<u32>,
    groups: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    quota: Option<Option<u64>>,
}

/// Tells an absent field (`None`) from one that is `null` (`Some(None)`).
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::<u64>::deserialize(deserializer).map(Some)
}

/// Changes an account.
///
/// # Errors
/// Texts as control-protocol §4.2.
pub async fn edit(context: &Context, request: EditUser) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::MANAGE_USERS, "Permission denied")?;
    let named = request.userid.as_deref().or(request.username.as_deref()).or(request.id.as_deref());
    let target = context.user_named(named.ok_or_else(|| Refusal::new("Invalid userid"))?)?;
    if target.siteadmin.is_full() && !by.siteadmin.is_full() {
        return Err(Refusal::new("Permission denied"));
    }
    let email = match request.email.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(email) => Some(Some(check_email(email).ok_or_else(|| Refusal::new("Invalid email"))?)),
    };
    if request.realname.as_ref().is_some_and(|name| name.chars().count() > LONGEST_REAL_NAME) {
        return Err(Refusal::new("The real name is too long"));
    }
    let rights = match request.siteadmin.map(SiteRights) {
        Some(wanted) if wanted != target.siteadmin => {
            if target.id == by.id {
                return Err(Refusal::new("You cannot change your own site rights"));
            }
            let changed = wanted.0 ^ target.siteadmin.0;
            // What one holds oneself of the two reading rights one may pass on.
            let own = by.siteadmin.0 & (256 | 512);
            if !by.siteadmin.is_full() && (target.siteadmin.is_full() || changed & !(MANAGEABLE | own) != 0) {
                return Err(Refusal::new("Permission denied"));
            }
            Some(wanted)
        }
        _ => None,
    };
    let user = context
        .site
        .change(|change| {
            let stored =
                change.directory().user(&target.id).ok_or_else(|| Refusal::new("User does not exists"))?;
            let mut user = (**stored).clone();
            if let Some(email) = email {
                user.email_verified = None;
                user.email = email;
            }
            if let Some(verified) = request.email_verified {
                user.email_verified = Some(verified && user.email.is_some());
            }
            if let Some(name) = request.realname {
                user.realname = Some(name).filter(|name| !name.is_empty());
            }
            if let Some(consent) = request.consent {
                user.consent = consent;
            }
            if let Some(removed) = request.remove_rights {
                user.remove_rights = removed;
            }
            if let Some(rights) = rights {
                user.siteadmin = rights;
            }
            if request.reset_next_login {
                user.passchange = Some(-1);
            }
            set_extra(&mut user, "phone", request.phone.map(|phone| Value::from(phone).non_empty()));
            set_extra(
                &mut user,
                "msghandle",
                request.msghandle.map(|handle| Value::from(handle).non_empty()),
            );
            set_extra(&mut user, "flags", request.flags.map(|flags| Value::from(flags).non_empty()));
            set_extra(&mut user, "quota", request.quota.map(|quota| quota.map(Value::from)));
            set_extra(&mut user, "groups", request.groups.map(|realms| realms_value(realms).non_empty()));
            let user = change.put_user(user);
            let event = changed_event(context, &user, &by, 66, format!("Account {} changed", user.name));
            Ok::<_, Refusal>((user, vec![event]))
        })
        .await?;
    if user.siteadmin.restricted_by(SiteRights::LOCKED) {
        for session in context.site.sessions.of(&user.id) {
            session.cancel.cancel();
        }
    }
    context.site.events.resubscribe(&user.id);
    Ok(Answer::Ok)
}

trait NonEmpty: Sized {
    fn non_empty(self) -> Option<Self>;
}

impl NonEmpty for Value {
    fn non_empty(self) -> Option<Value> {
        let empty = match &self {
            Value::String(text) => text.is_empty(),
            Value::Number(number) => number.as_u64() == Some(0),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        (!empty).then_some(self)
    }
}

fn set_extra(user: &mut User, field: &str, change: Option<Option<Value>>) {
    match change {
        None => {}
        Some(None) => {
            user.extra.remove(field);
        }
        Some(Some(value)) => {
            user.extra.insert(field.into(), value);
        }
    }
}

fn realms_value(realms: Vec<String>) -> Value {
    let mut realms: Vec<String> = realms
        .into_iter()
        .map(|realm| realm.trim().to_lowercase())
        .filter(|realm| !realm.is_empty() && realm.len() <= 64)
        .collect();
    realms.sort();
    realms.dedup();
    realms.into()
}

/// `deleteuser`.
#[derive(Deserialize)]
pub struct DeleteUser {
    userid: String,
}

/// Removes an account with every link to it.
///
/// # Errors
/// Texts as control-protocol §4.2.
pub async fn delete(context: &Context, request: DeleteUser) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::MANAGE_USERS, "Permission denied")?;
    let target = context.user_named(&request.userid)?;
    if target.id == by.id {
        return Err(Refusal::new("You cannot remove your own account here"));
    }
    if target.siteadmin.is_full() && !by.siteadmin.is_full() {
        return Err(Refusal::new("Permission denied"));
    }
    context
        .site
        .change(|change| {
            let mut events = Vec::new();
            for linked in target.links.keys() {
                unlink(context, change, linked, &target, &by, &mut events);
            }
            for id in [format!("nt{}", target.id), format!("ws{}", target.id), format!("im{}", target.id)] {
                change.delete(&id);
            }
            change.remove_user(&target.id);
            events.push(
                context
                    .event("user", "accountremove")
                    .with("userid", target.id.as_str())
                    .with("username", target.name.as_str())
                    .says(63, &[], format!("Account {} removed", target.name))
                    .to(["*", "server-users"]),
            );
            Ok::<_, Refusal>(((), events))
        })
        .await?;
    // An account made again under the same name must not find the tools of this one.
    context.site.tokens.remove(&context.site.store, &target.id, |_| true).await?;
    context.site.shares.remove(&context.site.store, |share| share.userid == target.id).await?;
    for session in context.site.sessions.of(&target.id) {
        session.cancel.cancel();
    }
    Ok(Answer::Ok)
}

/// Takes a user's link out of a group, device or user group, with the event of it.
fn unlink(
    context: &Context,
    change: &mut crate::store::Transaction,
    linked: &str,
    user: &User,
    by: &User,
    events: &mut Vec<Event>,
) {
    if let Ok(id) = GroupId::parse(linked)
        && let Some(mut group) = change.directory().group(&id).map(|group| (**group).clone())
    {
        group.links.remove(user.id.as_str());
        let group = change.put_group(group);
        events.push(super::groups::changed_event(context, &group, by).says(
            72,
            &[&user.name],
            format!("User {} removed", user.name),
        ));
    } else if let Ok(id) = DeviceId::parse(linked)
        && let Some(mut device) = change.directory().device(&id).map(|device| (**device).clone())
    {
        device.links.remove(user.id.as_str());
        let device = change.put_device(device);
        let event = super::devices::changed_event(context, &device, by, change.directory());
        events.push(event.says(60, &[&user.name], format!("Device rights of {} removed", user.name)));
    } else if let Ok(id) = UserGroupId::parse(linked)
        && let Some(mut group) = change.directory().user_group(&id).map(|group| (**group).clone())
    {
        group.links.remove(user.id.as_str());
        let group = change.put_user_group(group);
        events.push(super::user_groups::changed_event(context, &group, by).says(
            62,
            &[&user.name],
            format!("User {} left the user group {}", user.name, group.name),
        ));
    }
}

/// `changeuserpass`.
#[derive(Deserialize)]
pub struct ChangeUserPassword {
    userid: String,
    pass: String,
    #[serde(rename = "removeMultiFactor", default)]
    remove_multi_factor: bool,
    #[serde(rename = "resetNextLogin", default)]
    reset_next_login: bool,
}

/// Sets somebody's password and ends that person's sessions.
///
/// # Errors
/// Missing right, unknown user, or what the policy misses.
pub async fn change_password(context: &Context, request: ChangeUserPassword) -> Result<Answer, Refusal> {
    let by = context.with_site_right(SiteRights::MANAGE_USERS, "Permission denied")?;
    let target = context.user_named(&request.userid)?;
    if target.siteadmin.is_full() && !by.siteadmin.is_full() {
        return Err(Refusal::new("Permission denied"));
    }
    let hash = if request.pass.is_empty() {
        None
    } else {
        let unmet = password::unmet(&context.site.config.domain(context.domain()).password, &request.pass);
        if !unmet.is_empty() {
            return Err(Refusal::new(unmet.join(". ")).with("unmet", unmet));
        }
        Some(context.site.hash_password(request.pass).await)
    };
    let changed = hash.is_some();
    context
        .site
        .change(|change| {
            let stored =
                change.directory().user(&target.id).ok_or_else(|| Refusal::new("User does not exists"))?;
            let mut user = (**stored).clone();
            if let Some(hash) = hash {
                user.salt = Some(hash.salt);
                user.hash = Some(hash.hash);
                user.passchange = Some(clock::now_seconds());
                user.sessions_since = context.site.web_sessions.after_all(clock::now_ms());
                user.session_kept = None;
            }
            if request.reset_next_login {
                user.passchange = Some(-1);
            }
            if request.remove_multi_factor {
                for factor in
                    ["otpsecret", "otpekey", "otpkeys", "otphkeys", "otpdev", "otpduo", "otpsms", "otpmsg"]
                {
                    user.extra.remove(factor);
                }
            }
            let user = change.put_user(user);
            let event =
                changed_event(context, &user, &by, 75, format!("Credentials of {} changed", user.name));
            Ok::<_, Refusal>(((), vec![event]))
        })
        .await?;
    if changed {
        for session in
            context.site.sessions.of(&target.id).iter().filter(|session| session.id != context.session.id)
        {
            session.cancel.cancel();
        }
    }
    Ok(Answer::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_checked() {
        assert!(check_name("Bob").is_ok());
        for bad in ["", "a b", "~t:x", "a,b", "a\"b", "a/b", "<script>", &"x".repeat(65), "a\u{7}b"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(check_email("Bob@Example.com").as_deref(), Some("bob@example.com"));
        for bad in
            ["", "bob", "bob@", "@example.com", "bob@localhost", "a b@example.com", "a@b@c.de", "a@b..de"]
        {
            assert_eq!(check_email(bad), None, "{bad:?}");
        }
    }
}
