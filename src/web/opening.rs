//! The ways to open a control socket, in MeshCentral's order (control-protocol §2).
//!
//! The upgrade always succeeds; who is refused gets one message with the reason and is closed.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use outpost_wire::random;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio_websockets::{Message, WebSocketStream};

use super::authentication::{
    Attempt, LoginError, MeshAuth, Proven, REMEMBERED, by_login_cookie, by_password, by_session,
};
use super::request::{cookie, header, same_origin, user_agent};
use crate::model::SiteRights;
use crate::relay::Stream;
use crate::site::Site;

/// A control socket that is being opened.
type Socket = WebSocketStream<Stream>;

/// How long a client may take to say who it is, once it has said that it will.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// Longest nonce of a client, in characters (control-protocol §2.4).
const LONGEST_NONCE: usize = 256;
/// Bytes of the server's nonce.
const NONCE: usize = 48;

/// How a control socket is refused (control-protocol §2.2).
pub(super) struct Refused {
    cause: &'static str,
    msg: &'static str,
    details: Map<String, Value>,
}

impl Refused {
    fn new(cause: &'static str, msg: &'static str) -> Refused {
        Refused { cause, msg, details: Map::new() }
    }

    fn no_auth(msg: &'static str) -> Refused {
        Refused::new("noauth", msg)
    }

    /// The message, ready to send.
    pub(super) fn to_message(&self) -> String {
        let mut message = json!({ "action": "close", "cause": self.cause, "msg": self.msg });
        if let Value::Object(fields) = &mut message {
            fields.extend(self.details.clone());
        }
        message.to_string()
    }

    /// What a failed login means to a tool; `msg` is the number of the way it tried.
    fn login(error: &LoginError, msg: &'static str, site: &Site) -> Refused {
        match error {
            LoginError::TooManyAttempts(_) => Refused::new("banned", "banned-1"),
            LoginError::CodeRequired | LoginError::BadCode => {
                let days = site.config.domain("").remember_second_factor;
                let Value::Object(details) = json!({
                    "email2fa": false, "sms2fa": false, "msg2fa": false, "twoFactorCookieDays": days,
                }) else {
                    unreachable!("an object was written")
                };
                Refused { details, ..Refused::no_auth("tokenrequired") }
            }
            LoginError::BadCredentials | LoginError::Locked | LoginError::Storage => Refused::no_auth(msg),
        }
    }
}

pub(super) fn query_value(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, value)| key == name && !value.is_empty())
        .map(|(_, value)| value.into_owned())
}

/// Finds out who opens the socket.
///
/// # Errors
/// [`Refused`].
pub(super) async fn open(
    site: &Site,
    headers: &HeaderMap,
    mut query: String,
    remote: IpAddr,
    socket: &mut Socket,
) -> Result<Proven, Refused> {
    if query_value(&query, "moreargs").as_deref() == Some("1") {
        query = more_arguments(query, socket).await?;
    }
    let allowed = &site.config.domain("").allowed_origins;
    if !same_origin(headers, allowed, false) {
        return Err(Refused::new("invalidorigin", "invalidorigin"));
    }
    let login = Login { site, headers, remote };
    let mesh_auth = header(headers, HeaderName::from_static("x-meshauth"));
    if mesh_auth == "*" {
        return inner(&login, socket).await;
    }
    if let Some(proven) = login.by_query(&query).await? {
        return Ok(proven);
    }
    if let Some(proven) = login.by_header(mesh_auth).await? {
        return Ok(proven);
    }
    // Only a page of ours may use the cookie that a browser sends by itself.
    if same_origin(headers, allowed, true)
        && let Some(proven) = by_session(site, headers, remote)
    {
        return Ok(proven);
    }
    Err(Refused::no_auth("noauth"))
}

/// The ways that both the control socket and the relay know.
pub(super) struct Login<'a> {
    pub(super) site: &'a Site,
    pub(super) headers: &'a HeaderMap,
    pub(super) remote: IpAddr,
}

impl Login<'_> {
    /// `user=` and `pass=`, or `auth=`; `None` when the query has neither, or a cookie that is not good: then
    /// the other ways are tried.
    pub(super) async fn by_query(&self, query: &str) -> Result<Option<Proven>, Refused> {
        if let (Some(name), Some(pass)) = (query_value(query, "user"), query_value(query, "pass")) {
            let code = query_value(query, "token");
            return self.by_password(&name, &pass, code.as_deref(), "noauth-2a").await.map(Some);
        }
        let cookie = query_value(query, "auth");
        Ok(cookie.and_then(|text| by_login_cookie(self.site, &text, self.remote)))
    }

    /// `x-meshauth: base64(user),base64(password)[,base64(code)]`; `None` without the header.
    pub(super) async fn by_header(&self, value: &str) -> Result<Option<Proven>, Refused> {
        if value.is_empty() {
            return Ok(None);
        }
        let auth = MeshAuth::parse(value).ok_or(Refused::no_auth("noauth-2c"))?;
        self.by_password(&auth.name, &auth.password, auth.code.as_deref(), "noauth-2d").await.map(Some)
    }

    async fn by_password(
        &self,
        name: &str,
        password: &str,
        code: Option<&str>,
        msg: &'static str,
    ) -> Result<Proven, Refused> {
        let attempt = Attempt {
            name,
            password,
            code,
            remembered: cookie(self.headers, REMEMBERED),
            remote: self.remote,
            browser: user_agent(self.headers),
        };
        let proven =
            by_password(self.site, &attempt).await.map_err(|error| Refused::login(&error, msg, self.site))?;
        if proven.user.siteadmin.restricted_by(SiteRights::NO_TOOLS) {
            return Err(Refused::new("notools", "notools"));
        }
        Ok(proven)
    }
}

/// The next message, which must be this action with fields of a known shape.
async fn said<T: DeserializeOwned>(
    socket: &mut Socket,
    action: &str,
    refusal: &'static str,
) -> Result<T, Refused> {
    let message = tokio::time::timeout(ANSWER_TIME, socket.next()).await;
    let Ok(Some(Ok(message))) = message else { return Err(Refused::no_auth(refusal)) };
    let fields: Option<Value> = message.as_text().and_then(|text| serde_json::from_str(text).ok());
    let fields = fields.filter(|fields| fields["action"] == action).ok_or(Refused::no_auth(refusal))?;
    serde_json::from_value(fields).map_err(|_| Refused::no_auth(refusal))
}

/// `moreargs=1`: the first message carries further arguments, so that they do not stand in the URL.
async fn more_arguments(query: String, socket: &mut Socket) -> Result<String, Refused> {
    #[derive(Deserialize)]
    struct Arguments {
        args: Map<String, Value>,
    }
    let Arguments { args } = said(socket, "urlargs", "badargs").await?;
    let mut all = form_urlencoded::Serializer::new(query);
    for (name, value) in args.iter().take(64) {
        match value {
            Value::String(text) => all.append_pair(name, text),
            Value::Number(number) => all.append_pair(name, &number.to_string()),
            _ => continue,
        };
    }
    Ok(all.finish())
}

/// `x-meshauth: *`: the server proves its identity inside the socket before the client says who it is
/// (control-protocol §2.4).
async fn inner(login: &Login<'_>, socket: &mut Socket) -> Result<Proven, Refused> {
    #[derive(Deserialize)]
    struct ServerAuth {
        cnonce: String,
        tlshash: String,
    }
    #[derive(Deserialize)]
    struct UserAuth {
        #[serde(default)]
        username: String,
        #[serde(default)]
        password: String,
        token: Option<String>,
        auth: Option<String>,
    }
    let identity = &login.site.identity;
    let asked: ServerAuth = said(socket, "serverAuth", "badargs").await?;
    let nonce_of_client = STANDARD.decode(&asked.cnonce).ok();
    let (Some(cnonce), 1..=LONGEST_NONCE) = (nonce_of_client, asked.cnonce.len()) else {
        return Err(Refused::no_auth("badargs"));
    };
    let seen = [identity.web.full_hash, identity.web.key_hash]
        .into_iter()
        .find(|hash| hash.to_hex().eq_ignore_ascii_case(&asked.tlshash))
        .ok_or(Refused::no_auth("badtlscert"))?;
    let nonce: [u8; NONCE] = random::bytes();
    let signed = [&cnonce[..], &seen.0[..], &nonce[..]].concat();
    let signer = identity.agent.signer.clone();
    let signature = tokio::task::spawn_blocking(move || signer.sign(&signed)).await;
    let signature = signature.map_err(|_| Refused::no_auth("noauth"))?;
    let proof = json!({
        "action": "serverAuth", "cert": STANDARD.encode(&identity.agent.certificate),
        "nonce": STANDARD.encode(nonce), "signature": STANDARD.encode(signature),
    });
    let sent = tokio::time::timeout(ANSWER_TIME, socket.send(Message::text(proof.to_string()))).await;
    if !matches!(sent, Ok(Ok(()))) {
        return Err(Refused::no_auth("noauth"));
    }
    let user: UserAuth = said(socket, "userAuth", "noauth-2c").await?;
    if let Some(cookie) = &user.auth {
        return by_login_cookie(login.site, cookie, login.remote).ok_or(Refused::no_auth("noauth-2c"));
    }
    let decoded = |text: &str| STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (Some(name), Some(password)) = (decoded(&user.username), decoded(&user.password)) else {
        return Err(Refused::no_auth("noauth-2c"));
    };
    login.by_password(&name, &password, user.token.as_deref(), "noauth-2c").await
}
