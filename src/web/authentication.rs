//! Proving who somebody is over HTTP: a password, a session cookie, an encrypted cookie.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use base64::Engine as _;
use outpost_wire::id::UserId;

use super::request::{cookie, user_agent};
use crate::auth::second_factor::{self, BackupCode, Proof};
use crate::auth::session::{COOKIE, close_enough};
use crate::auth::{LoginToken, SecondFactor, WebSession, tokens};
use crate::clock;
use crate::model::{Event, SiteRights, User};
use crate::site::Site;
use crate::store::{Durability, StoreError};

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Wrong name or password; which of the two is not said.
    #[error("The user name or password is wrong")]
    BadCredentials,
    /// Too many wrong tries.
    #[error("Too many wrong tries. Try again in {} s", .0.as_secs() + 1)]
    TooManyAttempts(Duration),
    /// The password is right; the account has a second factor.
    #[error("Enter the code of your authenticator app, or a backup code")]
    CodeRequired,
    /// The password is right; the code is not.
    #[error("This code is wrong or was used before")]
    BadCode,
    /// The account is locked.
    #[error("This account is locked")]
    Locked,
    /// The store failed.
    #[error("The server could not read or write its storage")]
    Storage,
}

/// Name of the cookie of a browser that has shown its second factor (control-protocol §1.4).
pub(super) const REMEMBERED: &str = "twofactor";

/// Somebody who has proved who they are.
#[derive(Clone)]
pub(super) struct Proven {
    pub(super) user: Arc<User>,
    /// The login token they used, if so: it cannot do everything that the account can.
    pub(super) token: Option<Arc<LoginToken>>,
    /// Their web session, if it was its cookie.
    pub(super) web_session: Option<WebSession>,
}

impl Proven {
    fn account(user: Arc<User>) -> Proven {
        Proven { user, token: None, web_session: None }
    }
}

/// A name and password, and what came with them.
pub(super) struct Attempt<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a str,
    /// Code of the second factor, or `cookie=` and what `second_factor::remember` made.
    pub(super) code: Option<&'a str>,
    /// What [`remember`] made, from the browser's cookie.
    pub(super) remembered: Option<&'a str>,
    pub(super) remote: IpAddr,
    pub(super) browser: &'a str,
}

/// Checks a name, a password and the second factor, with back-off, and logs failures.
///
/// # Errors
/// [`LoginError`].
pub(super) async fn by_password(site: &Site, attempt: &Attempt<'_>) -> Result<Proven, LoginError> {
    let id = UserId::from_name("", attempt.name).map_err(|_| LoginError::BadCredentials)?;
    let (remote, browser) = (attempt.remote, attempt.browser);
    let limit = site.config.settings.max_invalid_login.as_ref();
    if let Some(limit) = limit
        && let Some(wait) = site.throttle.wait(&id, remote, limit, Instant::now())
    {
        return Err(LoginError::TooManyAttempts(wait));
    }
    let token = site.tokens.get(attempt.name, clock::now_ms());
    let is_token = attempt.name.starts_with(tokens::PREFIX);
    let owner = token.as_ref().map_or(&id, |token| &token.userid);
    let user = site.store.directory().user(owner).cloned().filter(|user| !site.is_no_users_account(&user.id));
    let good = match &token {
        Some(token) => site.check_hash(Some(token.password()), attempt.password.to_owned()).await,
        None => site.check_password(user.as_deref(), attempt.password.to_owned()).await,
    };
    let Some(user) = user.filter(|_| good && token.is_some() == is_token) else {
        if let Some(limit) = limit {
            site.throttle.bad(&id, remote, limit, Instant::now());
        }
        let known = site.store.directory().user(owner).cloned();
        let name = attempt.name;
        log::warn!(target: "auth", USER_ID:% = id, REMOTE:% = remote; "wrong password for {name:?} from {remote}");
        if let Some(user) = known {
            announce(site, failed(&user, 110, remote, browser, "wrong password")).await;
        }
        return Err(LoginError::BadCredentials);
    };
    if user.siteadmin.restricted_by(SiteRights::LOCKED) {
        announce(site, failed(&user, 109, remote, browser, "the account is locked")).await;
        return Err(LoginError::Locked);
    }
    site.throttle.good(&id);
    if let Some(token) = token {
        return Ok(Proven { token: Some(token), ..Proven::account(user) });
    }
    let user = check_second_factor(site, user, attempt).await?;
    Ok(Proven::account(user))
}

/// Asks for the second factor of an account that has one.
async fn check_second_factor(
    site: &Site,
    user: Arc<User>,
    attempt: &Attempt<'_>,
) -> Result<Arc<User>, LoginError> {
    let factor = SecondFactor::of(&user);
    if !site.config.settings.second_factor || !factor.is_set_up() {
        return Ok(user);
    }
    let in_code = attempt.code.and_then(|code| code.strip_prefix("cookie="));
    let days = site.config.domain(&user.domain).remember_second_factor;
    let shown =
        |cookie| second_factor::is_remembered(&site.keys.login, &user, days, cookie, clock::now_seconds());
    if in_code.or(attempt.remembered).is_some_and(shown) {
        return Ok(user);
    }
    let Some(code) = attempt.code.filter(|code| in_code.is_none() && !code.starts_with("**")) else {
        return Err(LoginError::CodeRequired);
    };
    let limit = site.config.settings.max_invalid_2fa.as_ref();
    let remote = attempt.remote;
    if let Some(limit) = limit
        && let Some(wait) = site.code_throttle.wait(&user.id, remote, limit, Instant::now())
    {
        return Err(LoginError::TooManyAttempts(wait));
    }
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let accepted = match factor.check(&code, clock::now_seconds()) {
        Some(Proof::App { step }) => site.used_codes.take(&user.id, step, remote).then(|| user.clone()),
        Some(Proof::Backup(backup)) => use_up(site, &user.id, backup).await?,
        None => None,
    };
    let Some(user) = accepted else {
        if let Some(limit) = limit {
            site.code_throttle.bad(&user.id, remote, limit, Instant::now());
        }
        log::warn!(target: "auth", USER_ID:% = user.id, REMOTE:% = remote; "wrong second factor of {} from {remote}", user.id);
        announce(site, failed(&user, 108, remote, attempt.browser, "wrong second factor")).await;
        return Err(LoginError::BadCode);
    };
    site.code_throttle.good(&user.id);
    Ok(user)
}

/// Marks a backup code as used; `None` when somebody was faster.
async fn use_up(site: &Site, id: &UserId, code: BackupCode) -> Result<Option<Arc<User>>, LoginError> {
    let used = site.store.write(Durability::Durable, |change| {
        let Some(user) = change.directory().user(id).cloned() else { return Ok(None) };
        let factor = SecondFactor::of(&user);
        if !factor.backup_codes().contains(&code) {
            return Ok(None);
        }
        let mut user = (*user).clone();
        user.extra.insert("otpkeys".into(), factor.without(code));
        Ok::<_, StoreError>(Some(change.put_user(user)))
    });
    used.await.map_err(|error| {
        log::error!("a backup code could not be marked as used: {error}");
        LoginError::Storage
    })
}

async fn announce(site: &Site, event: Event) {
    site.events.announce(event).await;
}

fn failed(user: &User, msgid: u32, remote: IpAddr, browser: &str, why: &str) -> Event {
    let from = remote.to_string();
    Event::new("user", "authfail", &user.domain)
        .by(user)
        .says(msgid, &[&from, &short(browser)], format!("Login refused from {from}: {why}"))
        .to_account(&user.id)
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Begins a web session; returns its cookie as `Set-Cookie` takes it.
pub(super) fn begin_session(
    site: &Site,
    user: &User,
    token: Option<&LoginToken>,
    remote: IpAddr,
    browser: &str,
) -> String {
    let token = token.map(|token| token.user_name.as_str());
    site.web_sessions.note_clock(clock::now_ms(), site.started.elapsed());
    // A clock that was set back must not make the session older than what ended the earlier ones.
    let now = clock::now_ms().max(user.sessions_since).max(user.creation.saturating_mul(1000));
    let (_, value) = site.web_sessions.begin(&user.id, token, remote, browser, now);
    let life = site.config.settings.session_time;
    let life = life.map_or(String::new(), |life| format!("; Max-Age={}", life.as_secs()));
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{life}")
}

/// Notes a login in the account and the log.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn note_login(
    site: &Site,
    user: &User,
    token: Option<&LoginToken>,
    remote: IpAddr,
    browser: &str,
) -> Result<Arc<User>, StoreError> {
    let now = clock::now_ms();
    let (user, event) = site
        .store
        .write(Durability::Lazy, |change| {
            let stored =
                change.directory().user(&user.id).map_or_else(|| user.clone(), |user| (**user).clone());
            let mut user = stored;
            user.pastlogin = user.login;
            user.login = Some(now / 1000);
            user.access = Some(now / 1000);
            let user = change.put_user(user);
            let from = remote.to_string();
            let mut event = Event::new("user", "login", &user.domain);
            if let Some(token) = token {
                event =
                    event.with("tokenName", token.name.as_str()).with("tokenUser", token.user_name.as_str());
            }
            let event = event
                .by(&user)
                .with("account", crate::control::safe_user(&user))
                .says(107, &[&from, &short(browser)], format!("Login from {from}"))
                .to_account(&user.id);
            change.log(&event, now);
            Ok::<_, StoreError>((user, event))
        })
        .await?;
    site.events.show(&event, now);
    Ok(user)
}

/// Who is logged in by the session cookie, or by the configuration (`user`, `noUsers`).
pub(super) fn by_session(site: &Site, headers: &HeaderMap, remote: IpAddr) -> Option<Proven> {
    let directory = site.store.directory();
    let settings = &site.config.settings;
    if settings.no_users {
        // The guide promises loopback only; MeshCentral does not keep that promise, we do.
        let id = UserId::from_name("", "~").ok()?;
        return remote
            .to_canonical()
            .is_loopback()
            .then(|| directory.user(&id).cloned())
            .flatten()
            .map(Proven::account);
    }
    if let Some(name) = &settings.default_user {
        let id = UserId::from_name("", name).ok()?;
        if let Some(user) = directory.user(&id) {
            return Some(Proven::account(user.clone()));
        }
    }
    let value = cookie(headers, COOKIE)?;
    let now = clock::now_ms();
    site.web_sessions.note_clock(now, site.started.elapsed());
    match site.web_sessions.check(value, remote, user_agent(headers), &directory, now) {
        Ok((session, user)) => {
            let token = match &session.token {
                Some(name) => Some(site.tokens.get(name, now).filter(|token| token.userid == user.id)?),
                None => None,
            };
            Some(Proven { user: user.clone(), token, web_session: Some(session) })
        }
        Err(error) => {
            log::debug!(target: "auth", "a session cookie from {remote} was not accepted: {error}");
            None
        }
    }
}

/// How long a login cookie is good, in minutes, when it does not say so (control-protocol §2.5).
const LOGIN_COOKIE_MINUTES: u32 = 60;

/// Who an encrypted login cookie (`auth=`, `login=`) is for (control-protocol §2.5). What follows a `?` inside
/// the value is not part of it: a client of MeshCentral appends another query there.
pub(super) fn by_login_cookie(site: &Site, text: &str, remote: IpAddr) -> Option<Proven> {
    let text = text.split('?').next().unwrap_or_default();
    let opened =
        outpost_wire::cookie::open(&site.keys.login, text, clock::now_seconds(), LOGIN_COOKIE_MINUTES);
    let claims = opened
        .inspect_err(|error| log::debug!(target: "auth", "a login cookie from {remote} was refused: {error}"))
        .ok()?;
    let proven = by_claims(site, &claims, remote)?;
    // Made once, good once.
    if claims.get("once").and_then(serde_json::Value::as_str).is_some_and(|once| !once.is_empty()) {
        return site.used_cookies.take(text, clock::now_seconds()).then_some(proven);
    }
    Some(proven)
}

/// Who the claims of a cookie are for, if it is one that logs in: `{userid, domainid}` or `{u, a: 3}`. Cookies
/// for one device, one share or a second factor are of the same key and are none.
pub(super) fn by_claims(
    site: &Site,
    claims: &serde_json::Map<String, serde_json::Value>,
    remote: IpAddr,
) -> Option<Proven> {
    let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
    if ["nid", "nodeid", "pid", "r", "gn", "ruserid"].iter().any(|bound| claims.contains_key(*bound)) {
        return None;
    }
    let id = match (text("userid"), text("u")) {
        (Some(id), _) => {
            let id = UserId::parse(id).ok()?;
            (text("domainid")? == id.domain()).then_some(id)?
        }
        (None, Some(id)) if claims.get("a").and_then(serde_json::Value::as_u64) == Some(3) => {
            UserId::parse(id).ok()?
        }
        _ => return None,
    };
    if let Some(ip) = text("ip")
        && !close_enough(site.config.settings.cookie_ip_check, ip.parse().ok()?, remote)
    {
        return None;
    }
    let user = site.store.directory().user(&id).cloned()?;
    if user.siteadmin.restricted_by(SiteRights::LOCKED) {
        return None;
    }
    let token = match text("lt") {
        Some(name) => Some(site.tokens.get(name, clock::now_ms()).filter(|token| token.userid == id)?),
        None => None,
    };
    Some(Proven { token, ..Proven::account(user) })
}

/// What an `x-meshauth` header carries (control-protocol §2.3).
pub(super) struct MeshAuth {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) code: Option<String>,
}

impl MeshAuth {
    /// Takes the header apart: two or three parts of base64.
    pub(super) fn parse(value: &str) -> Option<MeshAuth> {
        let parts: Option<Vec<String>> = value
            .split(',')
            .map(|part| {
                let bytes = base64::engine::general_purpose::STANDARD.decode(part.trim()).ok()?;
                String::from_utf8(bytes).ok()
            })
            .collect();
        let mut parts = parts?.into_iter();
        let (name, password) = (parts.next()?, parts.next()?);
        let code = parts.next().filter(|code| !code.is_empty());
        parts.next().is_none().then_some(MeshAuth { name, password, code })
    }
}
