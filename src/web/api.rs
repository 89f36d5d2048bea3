//! What a page asks before it has a control socket: who is here, log in, log out, make an account.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, State};
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use outpost_wire::id::UserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::authentication::{self, Attempt, LoginError, Proven, REMEMBERED, by_password, by_session};
use super::request::{Connection, cookie, host, same_origin, user_agent};
use crate::auth::session::COOKIE;
use crate::auth::{LoginToken, password, second_factor};
use crate::clock;
use crate::control;
use crate::model::{Event, SiteRights, User};
use crate::site::Site;
use crate::store::StoreError;

/// `passchange` of an account that has to choose a new password (control-protocol §3.2).
const MUST_CHANGE: i64 = -1;

/// An error as pages show it beside the field it is about.
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<&'static str>,
    retry_after: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into(), field: None, retry_after: None }
    }

    pub(super) fn field(field: &'static str, message: impl Into<String>) -> ApiError {
        let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message);
        ApiError { field: Some(field), ..error }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(field) = self.field {
            error["field"] = field.into();
        }
        if let Some(seconds) = self.retry_after {
            error["retryAfter"] = seconds.into();
        }
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> ApiError {
        let message = error.to_string();
        match error {
            LoginError::BadCredentials => ApiError::new(StatusCode::UNAUTHORIZED, "bad-credentials", message),
            LoginError::TooManyAttempts(wait) => ApiError {
                retry_after: Some(wait.as_secs() + 1),
                ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", message)
            },
            LoginError::CodeRequired => ApiError::new(StatusCode::UNAUTHORIZED, "token-required", message),
            LoginError::BadCode => ApiError {
                field: Some("token"),
                ..ApiError::new(StatusCode::UNAUTHORIZED, "bad-token", message)
            },
            LoginError::Locked => ApiError::new(StatusCode::FORBIDDEN, "locked", message),
            LoginError::Storage => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", message),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        log::error!("a request failed: {error}");
        LoginError::Storage.into()
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> ApiError {
        ApiError::new(rejection.status(), "bad-request", rejection.body_text())
    }
}

pub(super) fn check_origin(site: &Site, headers: &HeaderMap) -> Result<(), ApiError> {
    if same_origin(headers, &site.config.domain("").allowed_origins, false) {
        Ok(())
    } else {
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "bad-origin",
            "This request came from a page of another server",
        ))
    }
}

/// A site administrator with all rights, logged in by a session that no tool opened; `only` says to others that this
/// is not for them.
pub(super) fn administrator(
    site: &Site,
    connection: &Connection,
    headers: &HeaderMap,
    only: &str,
) -> Result<Arc<User>, ApiError> {
    let proven = by_session(site, headers, connection.remote.ip().to_canonical())
        .ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "login", "Log in first"))?;
    if proven.user.siteadmin == SiteRights::FULL && proven.token.is_none() {
        return Ok(proven.user);
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "refused", only))
}

fn is_first_run(site: &Site) -> bool {
    site.store.directory().users_of("").next().is_none()
}

/// `GET api/bootstrap`: what a page needs to know before anybody has logged in.
pub(super) async fn bootstrap(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response<Body> {
    let remote = connection.remote.ip().to_canonical();
    let user = by_session(&site, &headers, remote).map(|proven| proven.user);
    let settings = &site.config.settings;
    let policy = &site.config.domain("").password;
    let first_run = is_first_run(&site);
    let addresses = if first_run || user.is_some() { crate::server::urls(&site) } else { Vec::new() };
    let mut answer = json!({
        "server": {
            "name": settings.cert.clone().or_else(|| host(&headers).map(str::to_owned)),
            "title": site.title(""),
            "mode": settings.mode.word(),
            "port": site.public_port(),
            "addresses": addresses,
        },
        "firstRun": first_run,
        "newAccounts": site.config.domain("").new_accounts,
        "passwordPolicy": {
            "min": policy.min, "max": policy.max, "upper": policy.upper, "lower": policy.lower,
            "numeric": policy.numeric, "nonalpha": policy.nonalpha,
        },
        "user": user.as_ref().map(|user| json!({ "_id": user.id, "name": user.name })),
    });
    if user.is_some() || first_run {
        answer["server"]["version"] = env!("CARGO_PKG_VERSION").into();
    }
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

#[derive(Deserialize)]
pub(super) struct Login {
    username: String,
    password: String,
    /// A new password, when the account has to choose one.
    #[serde(rename = "newPassword")]
    new_password: Option<String>,
    /// Code of the second factor.
    token: Option<String>,
    /// Do not ask this browser for the second factor again for a while.
    #[serde(default)]
    remember: bool,
}

/// `POST api/login`.
pub(super) async fn login(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Result<Json<Login>, JsonRejection>,
) -> Result<Response<Body>, ApiError> {
    let Json(login) = body?;
    check_origin(&site, &headers)?;
    let remote = connection.remote.ip().to_canonical();
    let browser = user_agent(&headers);
    let attempt = Attempt {
        name: login.username.trim(),
        password: &login.password,
        code: login.token.as_deref().map(str::trim).filter(|code| !code.is_empty()),
        remembered: cookie(&headers, REMEMBERED),
        remote,
        browser,
    };
    let Proven { mut user, token, .. } = by_password(&site, &attempt).await?;
    if token.is_none() && user.passchange == Some(MUST_CHANGE) {
        user = choose_password(&site, &user, &login).await?;
    }
    let user = authentication::note_login(&site, &user, token.as_deref(), remote, browser).await?;
    let mut response = logged_in(&site, &user, token.as_deref(), remote, browser, StatusCode::OK);
    if login.remember
        && attempt.code.is_some()
        && token.is_none()
        && let days = site.config.domain(&user.domain).remember_second_factor
        && let Some(cookie) = second_factor::remember(&site.keys.login, &user, days, clock::now_seconds())
    {
        let life = u64::from(days) * 86_400;
        let cookie = format!("{REMEMBERED}={cookie}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={life}");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    Ok(response)
}

/// Sets the new password of an account that has to choose one before it is let in.
async fn choose_password(site: &Site, user: &User, login: &Login) -> Result<Arc<User>, ApiError> {
    let Some(new) = &login.new_password else {
        let message = "An administrator asks you to choose a new password";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "password-change", message));
    };
    let mut unmet = password::unmet(&site.config.domain("").password, new);
    if *new == login.password {
        unmet.push("Another password than the one you have".into());
    }
    if !unmet.is_empty() {
        return Err(ApiError::field("newPassword", unmet.join(". ")));
    }
    let hash = site.hash_password(new.clone()).await;
    site.change(|change| {
        let stored = change.directory().user(&user.id).ok_or(LoginError::BadCredentials)?;
        let mut user = (**stored).clone();
        user.salt = Some(hash.salt);
        user.hash = Some(hash.hash);
        user.passchange = Some(clock::now_seconds());
        let user = change.put_user(user);
        let event = Event::new("user", "accountchange", &user.domain)
            .by(&user)
            .with("account", control::safe_user(&user))
            .says(74, &[&user.name], format!("Password of {} changed", user.name))
            .to_account(&user.id);
        Ok((user, vec![event]))
    })
    .await
}

fn logged_in(
    site: &Site,
    user: &User,
    token: Option<&LoginToken>,
    remote: std::net::IpAddr,
    browser: &str,
    status: StatusCode,
) -> Response<Body> {
    let cookie = authentication::begin_session(site, user, token, remote, browser);
    let body = Json(json!({ "user": { "_id": user.id, "name": user.name } }));
    let mut response = (status, [(CACHE_CONTROL, "no-store")], body).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// `POST api/logout`: ends the session and every page open in it.
pub(super) async fn logout(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    check_origin(&site, &headers)?;
    let gone = end_session(&site, &headers).await?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, gone)]).into_response())
}

/// Ends the web session of a request, with the pages that are open in it; gives the cookie that removes its
/// own.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn end_session(site: &Site, headers: &HeaderMap) -> Result<String, StoreError> {
    if let Some((id, user)) = cookie(headers, COOKIE).and_then(|value| site.web_sessions.end(value)) {
        site.store_revocations().await?;
        for session in site.sessions.of(&user) {
            if session.web_session.as_deref() == Some(id.as_str()) {
                session.cancel.cancel();
            }
        }
    }
    Ok(format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"))
}

#[derive(Deserialize)]
pub(super) struct NewAccount {
    username: String,
    email: Option<String>,
    password: String,
}

/// `POST api/account`: the first account, which becomes the site administrator, or one a stranger makes where
/// that is allowed.
pub(super) async fn create_account(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Result<Json<NewAccount>, JsonRejection>,
) -> Result<Response<Body>, ApiError> {
    let Json(wanted) = body?;
    check_origin(&site, &headers)?;
    let domain = site.config.domain("");
    let not_allowed = || {
        ApiError::new(
            StatusCode::FORBIDDEN,
            "new-account-not-allowed",
            "Ask an administrator of this server for an account",
        )
    };
    if !is_first_run(&site) && !domain.new_accounts {
        return Err(not_allowed());
    }
    let name = wanted.username.trim();
    control::check_name(name).map_err(|reason| ApiError::field("username", reason))?;
    let id = UserId::from_name("", name).map_err(|error| ApiError::field("username", error.to_string()))?;
    let email = match wanted.email.as_deref().map(str::trim).filter(|email| !email.is_empty()) {
        Some(email) => Some(
            control::check_email(email)
                .ok_or_else(|| ApiError::field("email", "This is not an e-mail address"))?,
        ),
        None => None,
    };
    let unmet = password::unmet(&domain.password, &wanted.password);
    if !unmet.is_empty() {
        return Err(ApiError::field("password", unmet.join(". ")));
    }
    let hash = site.hash_password(wanted.password).await;
    let user = site
        .change(|change| {
            // Decided here, where changes happen one after another: there is only one first account.
            let first = change.directory().users_of("").next().is_none();
            if !first && !domain.new_accounts {
                return Err(not_allowed());
            }
            if change.directory().user(&id).is_some() {
                return Err(ApiError::field("username", "This name is taken"));
            }
            let full = domain.limits.max_user_accounts;
            if full.is_some_and(|limit| change.directory().users_of("").count() >= limit) {
                return Err(not_allowed());
            }
            let mut user = control::new_user(id.clone(), name, email.clone());
            user.salt = Some(hash.salt);
            user.hash = Some(hash.hash);
            user.siteadmin = if first { SiteRights::FULL } else { domain.new_accounts_rights };
            let user = change.put_user(user);
            let event = control::created_event(&user, &user);
            Ok((user, vec![event]))
        })
        .await?;
    let remote = connection.remote.ip().to_canonical();
    let browser = user_agent(&headers);
    let user = authentication::note_login(&site, &user, None, remote, browser).await?;
    Ok(logged_in(&site, &user, None, remote, browser, StatusCode::CREATED))
}

#[derive(Deserialize)]
pub(super) struct Judge {
    password: String,
    #[serde(default)]
    context: Vec<String>,
}

/// `POST api/password-strength`: an honest estimate, for the page that asks for a new password.
pub(super) async fn password_strength(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    body: Result<Json<Judge>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(judge) = body?;
    check_origin(&site, &headers)?;
    let policy = site.config.domain("").password.clone();
    let _turn = site.hashing.acquire().await;
    let strength =
        tokio::task::spawn_blocking(move || password::strength(&policy, &judge.password, &judge.context))
            .await
            .map_err(|_| {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "The password could not be judged")
            })?;
    Ok(Json(json!(strength)))
}
