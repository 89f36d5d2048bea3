//! Proving who somebody is over HTTP: a password, a session cookie, an encrypted cookie.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use base64::Engine as _;
use outpost_wire::id::UserId;

use super::request::{cookie, user_agent};
use crate::auth::WebSession;
use crate::auth::session::{COOKIE, close_enough};
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
    /// The account is locked.
    #[error("This account is locked")]
    Locked,
    /// The store failed.
    #[error("The server could not read or write its storage")]
    Storage,
}

/// Checks a name and password, with back-off, and logs the outcome.
///
/// # Errors
/// [`LoginError`].
pub(super) async fn by_password(
    site: &Site,
    name: &str,
    password: &str,
    remote: IpAddr,
    browser: &str,
) -> Result<Arc<User>, LoginError> {
    let id = UserId::from_name("", name).map_err(|_| LoginError::BadCredentials)?;
    let limit = site.config.settings.max_invalid_login.as_ref();
    if let Some(limit) = limit
        && let Some(wait) = site.throttle.wait(&id, remote, limit, Instant::now())
    {
        return Err(LoginError::TooManyAttempts(wait));
    }
    let user = site.store.directory().user(&id).cloned().filter(|user| !site.is_no_users_account(&user.id));
    let good = site.check_password(user.as_deref(), password.to_owned()).await;
    let Some(user) = user.filter(|_| good) else {
        if let Some(limit) = limit {
            site.throttle.bad(&id, remote, limit, Instant::now());
        }
        let known = site.store.directory().user(&id).cloned();
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
    Ok(user)
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

/// Notes a login in the account and the log.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn note_login(
    site: &Site,
    user: &User,
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
            let event = Event::new("user", "login", &user.domain)
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
pub(super) fn by_session(
    site: &Site,
    headers: &HeaderMap,
    remote: IpAddr,
) -> Option<(Arc<User>, Option<WebSession>)> {
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
            .map(|user| (user, None));
    }
    if let Some(name) = &settings.default_user {
        let id = UserId::from_name("", name).ok()?;
        if let Some(user) = directory.user(&id) {
            return Some((user.clone(), None));
        }
    }
    let value = cookie(headers, COOKIE)?;
    match site.web_sessions.check(value, remote, user_agent(headers), &directory, clock::now_ms()) {
        Ok((session, user)) => Some((user.clone(), Some(session))),
        Err(error) => {
            log::debug!(target: "auth", "a session cookie from {remote} was not accepted: {error}");
            None
        }
    }
}

/// Who an encrypted login cookie (`auth=`) is for (control-protocol §2.5). What follows a `?` inside the value
/// is not part of it: a client of MeshCentral appends another query there.
pub(super) fn by_login_cookie(site: &Site, text: &str, remote: IpAddr) -> Option<Arc<User>> {
    let text = text.split('?').next().unwrap_or_default();
    let claims = outpost_wire::cookie::open(&site.keys.login, text, clock::now_seconds(), 60).ok()?;
    let id = claims.get("userid").or_else(|| {
        let login = claims.get("a").and_then(serde_json::Value::as_u64) == Some(3);
        claims.get("u").filter(|_| login)
    })?;
    let id = UserId::parse(id.as_str()?).ok()?;
    let domain = claims.get("domainid").and_then(serde_json::Value::as_str);
    if domain.is_some_and(|domain| domain != id.domain()) {
        return None;
    }
    if let Some(ip) = claims.get("ip").and_then(serde_json::Value::as_str) {
        let ip: IpAddr = ip.parse().ok()?;
        if !close_enough(site.config.settings.cookie_ip_check, ip, remote) {
            return None;
        }
    }
    let user = site.store.directory().user(&id).cloned()?;
    (!user.siteadmin.restricted_by(SiteRights::LOCKED)).then_some(user)
}

/// Name and password of an `x-meshauth` header (control-protocol §2.3).
pub(super) fn mesh_auth(value: &str) -> Option<(String, String)> {
    let mut parts = value.split(',').map(|part| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(part.trim()).ok()?;
        String::from_utf8(bytes).ok()
    });
    let (name, password) = (parts.next()??, parts.next()??);
    (parts.count() <= 1).then_some((name, password))
}
