//! Login tokens (control-protocol §4.10).

use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use crate::auth::{LoginToken, tokens};
use crate::clock;

/// Longest name of a token, in characters (control-protocol §4.10).
const LONGEST_NAME: usize = 100;

/// `createLoginToken`.
#[derive(Deserialize)]
pub struct CreateLoginToken {
    #[serde(default)]
    name: Value,
    /// Minutes; 0 never.
    #[serde(default)]
    expire: Value,
}

fn permitted(context: &Context) -> Result<(), Refusal> {
    context.without_token()?;
    let user = &context.session.user;
    let domain = context.site.config.domain(user.domain());
    if domain.login_tokens.allows(user) { Ok(()) } else { Err(Refusal::new("Not supported")) }
}

/// Makes a login token; its password is shown this once.
///
/// # Errors
/// `Access denied`, `Not supported`, `Invalid name`, `Invalid expire value`.
pub async fn create(context: &Context, request: CreateLoginToken) -> Result<Answer, Refusal> {
    permitted(context)?;
    let name = request.name.as_str().filter(|name| (1..=LONGEST_NAME).contains(&name.chars().count()));
    let name = name.ok_or_else(|| Refusal::new("Invalid name"))?.to_owned();
    let minutes = request.expire.as_f64().filter(|minutes| *minutes >= 0.0 && *minutes < 1e9);
    let minutes = minutes.ok_or_else(|| Refusal::new("Invalid expire value"))?;
    let site = &context.site;
    let user = context.user()?;
    let now = clock::now_ms();
    if site.tokens.of(&user.id, now).len() >= tokens::MOST {
        return Err(Refusal::new(format!("An account has at most {} login tokens", tokens::MOST)));
    }
    // Below 1e9 minutes this is exact.
    let expire = if minutes == 0.0 { 0 } else { now + (minutes * 60_000.0) as i64 };
    let made = {
        let (id, name) = (user.id.clone(), name.clone());
        let _turn = site.hashing.acquire().await;
        tokio::task::spawn_blocking(move || LoginToken::new(&id, &name, now, expire)).await
    };
    let (token, password) = made.map_err(|_| Refusal::new("The token could not be made"))?;
    let token = site.tokens.add(&site.store, token, now).await?;
    let event = context
        .event("user", "loginTokenAdded")
        .by(&user)
        .with("newToken", token.view())
        .says(115, &[&name], format!("Added login token {name}"))
        .to_account(&user.id);
    site.events.announce(event).await;
    let mut answer = fields! { "tokenPass" => password };
    if let Value::Object(view) = token.view() {
        answer.extend(view);
    }
    Ok(Answer::Body(answer))
}

/// `loginTokens`.
#[derive(Deserialize)]
pub struct ListLoginTokens {
    /// User names of tokens to remove first.
    #[serde(default)]
    remove: Vec<String>,
}

/// The account's login tokens, after removing some. Their sessions end.
///
/// # Errors
/// `Access denied`, `Not supported`.
pub async fn list(context: &Context, request: ListLoginTokens) -> Result<Answer, Refusal> {
    permitted(context)?;
    let site = &context.site;
    let user = context.user()?;
    let list = || -> Vec<Value> {
        site.tokens.of(&user.id, clock::now_ms()).iter().map(|token| token.view()).collect()
    };
    if !request.remove.is_empty() {
        let removed = site
            .tokens
            .remove(&site.store, &user.id, |token| request.remove.contains(&token.user_name))
            .await?;
        if !removed.is_empty() {
            let names: Vec<&str> = removed.iter().map(|token| token.user_name.as_str()).collect();
            for session in site.sessions.of(&user.id) {
                if session.token.as_deref().is_some_and(|token| names.contains(&token)) {
                    session.cancel.cancel();
                }
            }
            let event = context
                .event("user", "loginTokenChanged")
                .by(&user)
                .with("loginTokens", list())
                .with("removed", json!(names))
                .to_account(&user.id)
                .unlogged();
            site.events.announce(event).await;
        }
    }
    Ok(Answer::Body(fields! { "loginTokens" => list() }))
}
