//! The doors of tunnels: `meshrelay.ashx` for both halves, `devicefile.ashx` for downloads.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Response, StatusCode};
use axum::response::IntoResponse;
use outpost_wire::id::{DeviceId, UserId};
use serde_json::{Map, Value};

use super::authentication::{by_claims, by_login_cookie, by_session};
use super::opening::{Login, query_value};
use super::request::{Connection, header, same_origin};
use super::sockets::upgrade_stream;
use super::{conversations, sharing};
use crate::auth::session::close_enough;
use crate::clock;
use crate::relay::{
    self, Half, PortTarget, Purpose, Relay, Side, TunnelRequest, TunnelUrl, Viewer, viewer_rights,
};
use crate::site::Site;

/// How long a relay cookie of an agent is good, in minutes (control-protocol §2.5).
const RELAY_COOKIE_MINUTES: u32 = 240;
/// How long a cookie for one device, or of a guest, is good, in minutes.
const DEVICE_COOKIE_MINUTES: u32 = 60;

/// `meshrelay.ashx`.
pub(super) async fn relay(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response<Body> {
    let headers = request.headers().clone();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let remote = connection.remote.ip().to_canonical();
    if conversations::is_one(&query) {
        return conversations::join(site, connection, query, request).await;
    }
    let found = match agents_half(&site, &query, remote) {
        Some(found) => found,
        None => Box::pin(viewers_half(&site, &headers, &query, remote)).await,
    };
    let (half, starts) = match found {
        Ok(found) => found,
        Err(reason) => {
            log::info!(target: "relay", REMOTE:% = remote; "a tunnel's half from {remote} was refused: {reason}");
            return (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response();
        }
    };
    upgrade_stream(request, move |stream| async move {
        connection.permit.release();
        let joined = match starts {
            Starts::Elsewhere => {
                Box::pin(Relay::join(&site, half, stream)).await.map_err(|error| error.to_string())
            }
            Starts::Here => Box::pin(start(&site, half, stream)).await,
        };
        if let Err(error) = joined {
            log::info!(target: "relay", "a tunnel from {remote} ended: {error}");
        }
    })
}

/// Who asks the agent for its half.
enum Starts {
    /// The viewer did, or will, over its control socket.
    Elsewhere,
    /// The server does, because of this half.
    Here,
}

type Found = Result<(Half, Starts), String>;

/// The half of an agent, when there is a cookie of one.
fn agents_half(site: &Site, query: &str, remote: IpAddr) -> Option<Found> {
    let rauth = query_value(query, "rauth")?;
    let claims =
        outpost_wire::cookie::open(&site.keys.login, &rauth, clock::now_seconds(), RELAY_COOKIE_MINUTES);
    // Whoever has a cookie for the other side beside a bad one here may still be a viewer.
    Some(agent_of(&claims.ok()?, query, remote))
}

fn agent_of(claims: &Map<String, Value>, query: &str, remote: IpAddr) -> Found {
    let url = TunnelUrl::from_query(query, || None).map_err(|error| error.to_string())?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let user = text("ruserid").and_then(|id| UserId::parse(id).ok()).ok_or("rauth: no user in it")?;
    // Cookies made here for one tunnel are good for that one only.
    if text("id").is_some_and(|id| id != url.id) {
        return Err("rauth: it is for another tunnel".into());
    }
    let device = device(text("nodeid").or(url.device.as_deref()), user.domain())?;
    let purpose = Purpose::Session(url.protocol);
    Ok((Half { side: Side::Agent(user), id: url.id, purpose, device, remote }, Starts::Elsewhere))
}

fn device(asked: Option<&str>, domain: &str) -> Result<Option<DeviceId>, String> {
    asked.map(|id| DeviceId::complete(domain, id).map_err(|error| format!("nodeid: {error}"))).transpose()
}

/// Somebody at this side of a tunnel, and what their cookie fixes of it.
struct Comer {
    viewer: Viewer,
    device: Option<DeviceId>,
    ports: Option<PortTarget>,
    protocol: Option<u16>,
}

impl Comer {
    fn account(user: UserId) -> Comer {
        Comer { viewer: Viewer { user, guest: None }, device: None, ports: None, protocol: None }
    }
}

/// The half of a person, with the right to this tunnel.
async fn viewers_half(site: &Site, headers: &HeaderMap, query: &str, remote: IpAddr) -> Found {
    let comer = who(site, headers, query, remote).await?;
    let ports = match comer.ports {
        Some(ports) => Some(ports),
        None => PortTarget::read(|name| query_value(query, name)).map_err(|error| error.to_string())?,
    };
    let guest = comer.viewer.guest.is_some();
    let starts = if ports.is_some() || guest { Starts::Here } else { Starts::Elsewhere };
    let made = || matches!(starts, Starts::Here).then(relay::new_id);
    let url = TunnelUrl::from_query(query, made).map_err(|error| error.to_string())?;
    let asked = device(url.device.as_deref(), comer.viewer.user.domain())?;
    let device = match (comer.device, asked) {
        (Some(fixed), Some(asked)) if fixed != asked => {
            return Err("nodeid: the cookie is for another one".into());
        }
        (Some(device), _) | (None, Some(device)) => device,
        (None, None) => return Err("nodeid: expected a device".into()),
    };
    let purpose = match ports {
        Some(ports) => Purpose::Port(ports),
        None => Purpose::Session(url.protocol.or(comer.protocol)),
    };
    viewer_rights(site, &comer.viewer, &device, &purpose)?;
    let side = Side::Viewer(comer.viewer);
    Ok((Half { side, id: url.id, purpose, device: Some(device), remote }, starts))
}

/// Somebody with an account, who is not here for one device only.
pub(super) async fn account(
    site: &Site,
    headers: &HeaderMap,
    query: &str,
    remote: IpAddr,
) -> Result<UserId, String> {
    let comer = who(site, headers, query, remote).await?;
    // Cookies for one device, and of guests, are for its tunnels only.
    match (comer.viewer.guest, comer.device) {
        (None, None) => Ok(comer.viewer.user),
        _ => Err("not logged in".into()),
    }
}

/// The ways to be somebody here (tunnel-protocols §1.2).
async fn who(site: &Site, headers: &HeaderMap, query: &str, remote: IpAddr) -> Result<Comer, String> {
    let login = Login { site, headers, remote };
    if let Some(proven) = login.by_query(query).await.map_err(|_| "not logged in")? {
        return Ok(Comer::account(proven.user.id.clone()));
    }
    // Programs come with the link itself, for the port that it shares.
    if let Some(link) = query_value(query, "c") {
        let share = sharing::opened(site, link).ok_or("the link is not open now")?;
        let port = share.tcp.as_ref().ok_or("the link shares no port")?;
        let ports = Some(PortTarget::shared(port).map_err(|error| error.to_string())?);
        let device = Some(share.device.clone());
        let viewer = Viewer { user: share.userid.clone(), guest: Some(share) };
        return Ok(Comer { viewer, device, ports, protocol: None });
    }
    if let Some(text) = query_value(query, "auth")
        && let Some(comer) = by_device_cookie(site, &text, remote)
    {
        return Ok(comer);
    }
    let mesh_auth = header(headers, HeaderName::from_static("x-meshauth"));
    if mesh_auth != "*"
        && let Some(proven) = login.by_header(mesh_auth).await.map_err(|_| "not logged in")?
    {
        return Ok(Comer::account(proven.user.id.clone()));
    }
    // Only a page of ours may use the cookie that a browser sends by itself.
    if same_origin(headers, &site.config.domain("").allowed_origins, true)
        && let Some(proven) = by_session(site, headers, remote)
    {
        return Ok(Comer::account(proven.user.id.clone()));
    }
    Err("not logged in".into())
}

/// A cookie of `getcookie`, for one device, or of a share, for a guest.
fn by_device_cookie(site: &Site, text: &str, remote: IpAddr) -> Option<Comer> {
    let text = text.split('?').next().unwrap_or_default();
    let opened =
        outpost_wire::cookie::open(&site.keys.login, text, clock::now_seconds(), DEVICE_COOKIE_MINUTES);
    let mut claims = opened.ok()?;
    if let Some(guest) = guest_of(site, &claims, remote) {
        return Some(guest);
    }
    let value = |name: &str| match claims.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let ports = PortTarget::read(value).ok()?;
    let protocol = claims.get("p").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok());
    let Some(Value::String(device)) = claims.remove("nodeid") else { return None };
    let device = DeviceId::parse(&device).ok()?;
    let proven = by_claims(site, &claims, remote)?;
    let viewer = Viewer { user: proven.user.id.clone(), guest: None };
    Some(Comer { viewer, device: Some(device), ports, protocol })
}

/// The guest that a cookie of a share's page is for.
fn guest_of(site: &Site, claims: &Map<String, Value>, remote: IpAddr) -> Option<Comer> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let share = site.shares.get(text("pid")?)?;
    let ip: IpAddr = text("ip")?.parse().ok()?;
    if !close_enough(site.config.settings.cookie_ip_check, ip, remote) {
        return None;
    }
    let device = Some(share.device.clone());
    let viewer = Viewer { user: share.userid.clone(), guest: Some(share) };
    Some(Comer { viewer, device, ports: None, protocol: None })
}

/// Asks the agent for its half and serves the tunnel.
async fn start(site: &Arc<Site>, half: Half, stream: relay::Stream) -> Result<(), String> {
    let (Side::Viewer(viewer), Some(device)) = (&half.side, &half.device) else {
        return Err("only a viewer starts a tunnel".into());
    };
    let rights = viewer_rights(site, viewer, device, &half.purpose)?;
    let mut expected = site.relay.expect(&half.id, half.side.clone()).map_err(|error| error.to_string())?;
    let (purpose, remote) = (&half.purpose, half.remote);
    TunnelRequest { page: "meshrelay.ashx", id: &half.id, viewer, rights, remote, device, purpose }
        .send(site)
        .map_err(|error| error.to_string())?;
    let other = expected.other(relay::PAIRING_TIME).await.map_err(|error| error.to_string())?;
    Relay::serve(site, (half, stream), other).await;
    Ok(())
}

/// Who asks for a download: `c=` is a login cookie or a guest's.
pub(super) fn downloader(site: &Site, cookie: &str, remote: IpAddr) -> Option<(Viewer, Option<DeviceId>)> {
    if let Some(proven) = by_login_cookie(site, cookie, remote) {
        return Some((Viewer { user: proven.user.id.clone(), guest: None }, None));
    }
    let comer = by_device_cookie(site, cookie, remote)?;
    Some((comer.viewer, comer.device))
}

/// The agent's half of a download.
pub(super) fn agents_download(site: &Site, query: &str, remote: IpAddr) -> Result<Half, String> {
    agents_half(site, query, remote).ok_or("rauth: expected a relay cookie")?.map(|(half, _)| half)
}
