//! `devicefile.ashx`: a file of a device as an ordinary download (tunnel-protocols §5.6), which the browser's own
//! downloader may go on with after a cut (RFC 9110 §14), and several files or a folder as a ZIP archive, which is
//! made on its way. The last two are Outpost's own and need its agent.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_RANGE, RANGE, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use outpost_wire::id::DeviceId;
use serde::Deserialize;
use serde_json::json;
use tokio_websockets::{Message, WebSocketStream};

use super::opening::query_value;
use super::request::{Connection, header};
use super::router::not_found;
use super::sockets::{messages, upgrade_stream};
use super::tunnels::{agents_download, downloader};
use crate::model::Event;
use crate::recordings::Way;
use crate::relay::{self, DownloadSession, Half, Purpose, Relay, Side, Stream, TunnelRequest, viewer_rights};
use crate::site::Site;

/// How long the agent may take to come (tunnel-protocols §1.6).
const AGENT_TIME: Duration = Duration::from_secs(30);
/// How long it may take for each piece after that.
const PIECE_TIME: Duration = Duration::from_secs(120);
/// Longest message taken from it, in bytes.
const LONGEST_MESSAGE: usize = 256 << 10;
/// Longest path asked for, in bytes.
const LONGEST_PATH: usize = 4096;
/// Longest list of names asked for, in bytes.
const LONGEST_NAMES: usize = 16 << 10;
/// Longest tag of a file's version that an agent may give.
const LONGEST_TAG: usize = 100;
/// Protocol number of a file that is pushed.
const PUSH: u16 = 10;
/// Consent bit: the user of the device is asked before files are touched.
const ASK_FILES: u32 = 0x20;

/// `GET devicefile.ashx?c=&n=&f=` of a person, or the WebSocket of the agent.
pub(super) async fn serve(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let remote = connection.remote.ip().to_canonical();
    if request.headers().contains_key(UPGRADE) {
        let half = match agents_download(&site, &query, remote) {
            Ok(half) => half,
            Err(reason) => {
                log::info!(target: "relay", REMOTE:% = remote; "an agent's half from {remote} was refused: {reason}");
                return (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response();
            }
        };
        return upgrade_stream(request, move |stream| async move {
            connection.permit.release();
            if let Err(error) = Box::pin(Relay::join(&site, half, stream)).await {
                log::info!(target: "relay", "a download's half from {remote} ended: {error}");
            }
        });
    }
    let wanted = Wanted::read(&query, request.headers());
    match Box::pin(download(&site, &query, wanted, remote)).await {
        Ok(response) => {
            connection.permit.release();
            response
        }
        Err(Failure::NotFound) => not_found(),
        Err(Failure::Consent) => (
            StatusCode::FORBIDDEN,
            "The user of this device is asked before files are touched: use the files session.\n",
        )
            .into_response(),
        Err(Failure::Unrecorded(why)) => {
            (StatusCode::FORBIDDEN, format!("This download has to be recorded and cannot be: {why}\n"))
                .into_response()
        }
        Err(Failure::Unreadable) => {
            (StatusCode::UNAUTHORIZED, "The device could not open this file.\n").into_response()
        }
        Err(Failure::NoArchives) => {
            (StatusCode::NOT_IMPLEMENTED, "The agent of this device cannot send archives.\n").into_response()
        }
    }
}

/// Why there is no download; the statuses are MeshCentral's.
enum Failure {
    /// Bad cookie, unknown device, no right, not connected: 404.
    NotFound,
    /// Somebody has to be asked first: 403.
    Consent,
    /// It has to be recorded and cannot be: 403.
    Unrecorded(String),
    /// The agent cannot open the file: 401.
    Unreadable,
    /// It does not know archives: 501.
    NoArchives,
}

/// What of a path is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// A file, all of it.
    File,
    /// A file from this byte on, if it is still the version of this tag.
    Rest { from: u64, tag: Option<String> },
    /// An archive of these entries of a folder, or of all of it.
    Archive(Vec<String>),
}

impl Wanted {
    /// `z` in the query is `1` or a JSON list of names; a range that is not "from here to the end" is not honoured,
    /// which RFC 9110 §14.2 allows.
    fn read(query: &str, headers: &HeaderMap) -> Option<Wanted> {
        if let Some(names) = query_value(query, "z") {
            if names == "1" {
                return Some(Wanted::Archive(Vec::new()));
            }
            let names = Some(names).filter(|names| names.len() <= LONGEST_NAMES)?;
            let names: Vec<String> = serde_json::from_str(&names).ok()?;
            let good = names.iter().all(|name| outpost_wire::files::Name::new(name).is_some());
            return (good && !names.is_empty()).then_some(Wanted::Archive(names));
        }
        let from = header(headers, RANGE)
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-')?.trim().parse().ok());
        Some(match from {
            Some(from) => {
                let tag = Some(header(headers, IF_RANGE)).filter(|tag| !tag.is_empty());
                Wanted::Rest { from, tag: tag.map(str::to_owned) }
            }
            None => Wanted::File,
        })
    }

    /// Options that tell the agent.
    fn options(&self, path: &str) -> serde_json::Value {
        let mut options = json!({ "type": "options", "file": path });
        match self {
            // Asked for even at the start, so that the answer has a tag to go on with.
            Wanted::File => options["offset"] = 0.into(),
            Wanted::Rest { from, .. } => options["offset"] = (*from).into(),
            Wanted::Archive(names) => options["zip"] = names.clone().into(),
        }
        options
    }
}

/// What the agent says first.
#[derive(Deserialize)]
struct Opened {
    op: String,
    /// Bytes of the whole file.
    #[serde(default)]
    size: u64,
    /// Where it begins; absent when it begins at the beginning whatever was asked.
    #[serde(default)]
    offset: Option<u64>,
    /// The file's version.
    #[serde(default)]
    tag: Option<String>,
    /// It sends an archive of unknown size.
    #[serde(default)]
    zip: bool,
}

impl Opened {
    /// The tag as a header has it.
    fn tag(&self) -> Option<String> {
        let plain = |tag: &&String| {
            (1..=LONGEST_TAG).contains(&tag.len())
                && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        };
        self.tag.as_ref().filter(plain).map(|tag| format!("\"{tag}\""))
    }
}

async fn download(
    site: &Arc<Site>,
    query: &str,
    wanted: Option<Wanted>,
    remote: std::net::IpAddr,
) -> Result<Response<Body>, Failure> {
    let mut wanted = wanted.ok_or(Failure::NotFound)?;
    let cookie = query_value(query, "c").ok_or(Failure::NotFound)?;
    let (viewer, fixed) = downloader(site, &cookie, remote).ok_or(Failure::NotFound)?;
    let asked = query_value(query, "n").map(|id| DeviceId::complete(viewer.user.domain(), &id));
    let device = match (fixed, asked) {
        (Some(fixed), _) => fixed,
        (None, Some(Ok(asked))) => asked,
        _ => return Err(Failure::NotFound),
    };
    let path = query_value(query, "f")
        .filter(|path| path.len() <= LONGEST_PATH && !path.contains('\0'))
        .ok_or(Failure::NotFound)?;
    let purpose = Purpose::Session(Some(PUSH));
    let rights = viewer_rights(site, &viewer, &device, &purpose).map_err(|_| Failure::NotFound)?;
    if asks_first(site, &viewer, &device) {
        return Err(Failure::Consent);
    }
    let asking =
        Asking { site, viewer: &viewer, device: &device, rights, remote, purpose: &purpose, path: &path };
    let (mut socket, mut opened) = Box::pin(asking.ask(&wanted)).await?;
    if let Wanted::Rest { from, tag } = &wanted {
        // Another version now, or an agent that cannot begin further on: the whole file instead.
        let same = tag.is_none() || *tag == opened.tag();
        if opened.offset != Some(*from) || !same {
            let began = opened.offset.unwrap_or(0);
            wanted = Wanted::File;
            if began != 0 {
                drop(socket);
                (socket, opened) = Box::pin(asking.ask(&wanted)).await?;
            }
        }
    }
    if matches!(wanted, Wanted::Rest { from, .. } if from >= opened.size) {
        let there = [(CONTENT_RANGE, format!("bytes */{}", opened.size))];
        return Ok((StatusCode::RANGE_NOT_SATISFIABLE, there).into_response());
    }
    let size = (!opened.zip).then_some(opened.size);
    announce(site, &viewer, &device, &path, size).await;
    let mut name: String =
        path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or("files").to_owned();
    if let Wanted::Archive(names) = &wanted {
        if let [only] = &names[..] {
            name.clone_from(only);
        }
        name.push_str(".zip");
    }
    let kind = if opened.zip { "application/zip" } else { "application/octet-stream" };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut set = |name, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(CONTENT_DISPOSITION, disposition(&name));
    if let (Some(tag), Some(_)) = (opened.tag(), opened.offset) {
        set(ETAG, tag);
        set(ACCEPT_RANGES, "bytes".into());
    }
    let from = if let Wanted::Rest { from, .. } = wanted { from } else { 0 };
    let left = size.map(|size| size.saturating_sub(from));
    if let (Some(left), Some(size)) = (left, size) {
        set(CONTENT_LENGTH, left.to_string());
        if let Wanted::Rest { from, .. } = wanted {
            set(CONTENT_RANGE, format!("bytes {from}-{}/{size}", size.saturating_sub(1)));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
    }
    *response.body_mut() = match left {
        Some(left) => Body::from_stream(pieces(socket, left)),
        None => Body::from_stream(archive(socket)),
    };
    Ok(response)
}

/// Somebody allowed to who asks a device for a file.
struct Asking<'a> {
    site: &'a Arc<Site>,
    viewer: &'a relay::Viewer,
    device: &'a DeviceId,
    rights: crate::model::Rights,
    remote: std::net::IpAddr,
    purpose: &'a Purpose,
    path: &'a str,
}

impl Asking<'_> {
    /// Has the agent come and open what is wanted.
    async fn ask(&self, wanted: &Wanted) -> Result<(Device, Opened), Failure> {
        let Asking { site, viewer, device, rights, remote, purpose, path } = *self;
        let id = relay::new_id();
        let mut expected =
            site.relay.expect(&id, Side::Viewer(viewer.clone())).map_err(|_| Failure::NotFound)?;
        let request =
            TunnelRequest { page: "devicefile.ashx", id: &id, viewer, rights, remote, device, purpose };
        request.send(site).map_err(|_| Failure::NotFound)?;
        let (agent, stream) = expected.other(AGENT_TIME).await.map_err(|_| Failure::NotFound)?;
        drop(expected);
        let side = Side::Viewer(viewer.clone());
        let half = Half { side, id, purpose: purpose.clone(), device: Some(device.clone()), remote };
        let session = DownloadSession::begin(site, half, &agent)
            .await
            .map_err(|error| Failure::Unrecorded(error.to_string()))?;
        let mut socket = Device { socket: messages(stream, LONGEST_MESSAGE), session };
        let opened = tokio::time::timeout(PIECE_TIME, open(&mut socket, wanted.options(path))).await;
        let opened = opened.ok().flatten().ok_or(Failure::Unreadable)?;
        if matches!(wanted, Wanted::Archive(_)) != opened.zip {
            return Err(Failure::NoArchives);
        }
        Ok((socket, opened))
    }
}

fn asks_first(site: &Site, viewer: &relay::Viewer, device: &DeviceId) -> bool {
    let Some(access) = site.access(&viewer.user) else { return true };
    let Some(device) = access.directory().device(device).cloned() else { return true };
    let usual = access.consent(&device, site.config.domain(&device.domain).consent);
    (usual | viewer.guest.as_ref().map_or(0, |share| share.consent)) & ASK_FILES != 0
}

/// The agent's end of a download, with the session that it is.
struct Device {
    socket: WebSocketStream<Stream>,
    session: DownloadSession,
}

impl Device {
    async fn say(&mut self, text: String) -> Option<()> {
        self.session.message(Way::FromViewer, false, text.as_bytes()).await.ok()?;
        self.socket.send(Message::text(text)).await.ok()
    }

    /// The next message; none at the end, when it has to be recorded and cannot be, or when the server stops.
    async fn next(&mut self) -> Option<Message> {
        let message = tokio::select! {
            message = self.socket.next() => message?.ok()?,
            () = self.session.stopped() => return None,
        };
        if message.is_text() || message.is_binary() {
            let said = self.session.message(Way::FromDevice, message.is_binary(), message.as_payload());
            said.await.ok()?;
        }
        Some(message)
    }

    async fn close(&mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.socket.close()).await;
    }
}

/// Tells the agent which file; what it says of it, when it can be read.
async fn open(socket: &mut Device, options: serde_json::Value) -> Option<Opened> {
    let joined = socket.session.joined();
    socket.socket.send(Message::text(joined)).await.ok()?;
    for text in [options.to_string(), PUSH.to_string()] {
        socket.say(text).await?;
    }
    loop {
        let message = socket.next().await?;
        if message.is_close() {
            return None;
        }
        // Agents say other things too (consent, round trips); the file itself comes only after this.
        if let Some(opened) = message.as_text().and_then(|text| serde_json::from_str::<Opened>(text).ok()) {
            return (opened.op == "ok").then_some(opened);
        }
        if message.is_binary() {
            return None;
        }
    }
}

/// The file, piece by piece, and not a byte more than announced. One that ends early breaks the download off,
/// so that nobody takes half a file for a whole one.
fn pieces(socket: Device, size: u64) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::unfold((socket, size), |(mut socket, left)| async move {
        if left == 0 {
            socket.close().await;
            return None;
        }
        let cut = |why: &str| Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, why.to_owned()));
        loop {
            let message = match tokio::time::timeout(PIECE_TIME, socket.next()).await {
                Ok(Some(message)) if !message.is_close() => message,
                Ok(_) => return Some((cut("the device ended the download"), (socket, 0))),
                Err(_) => return Some((cut("the device sends nothing"), (socket, 0))),
            };
            if message.is_binary() {
                let mut piece = Bytes::from(message.into_payload());
                piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - piece.len() as u64;
                return Some((Ok(piece), (socket, left)));
            }
        }
    })
}

/// An archive, piece by piece, until the agent says that it is whole. One that ends without that word breaks the
/// download off.
fn archive(socket: Device) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::unfold(Some(socket), |socket| async move {
        let mut socket = socket?;
        let cut = |why: &str| Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, why.to_owned()));
        loop {
            let message = match tokio::time::timeout(PIECE_TIME, socket.next()).await {
                Ok(Some(message)) if !message.is_close() => message,
                Ok(_) => return Some((cut("the device ended the download"), None)),
                Err(_) => return Some((cut("the device sends nothing"), None)),
            };
            if message.is_binary() {
                return Some((Ok(Bytes::from(message.into_payload())), Some(socket)));
            }
            let word = message.as_text().and_then(|text| serde_json::from_str::<Opened>(text).ok());
            if word.is_some_and(|word| word.op == "done") {
                socket.close().await;
                return None;
            }
        }
    })
}

/// `attachment; filename="…"`, the name percent-encoded as MeshCentral's clients expect it.
fn disposition(name: &str) -> String {
    let kept: String = name.chars().filter(|c| !r#"\/:*?"<>|'"#.contains(*c)).collect();
    let encoded: String = form_urlencoded::byte_serialize(kept.as_bytes()).collect();
    format!("attachment; filename=\"{}\"", encoded.replace('+', "%20"))
}

async fn announce(site: &Site, viewer: &relay::Viewer, id: &DeviceId, path: &str, size: Option<u64>) {
    let directory = site.store.directory();
    let (Some(user), Some(device)) = (directory.user(&viewer.user), directory.device(id)) else { return };
    // The size of an archive is not known before its end.
    let size = size.map_or_else(|| "archive".to_owned(), |size| size.to_string());
    let mut event = Event::new("node", "agentlog", user.id.domain())
        .by(user)
        .on_device(id)
        .says(106, &[path, &size], format!("Download: \"{path}\", Size: {size}"))
        .to_device(device, &directory)
        .to([user.id.as_str()]);
    if let Some(share) = &viewer.guest {
        event = event.with("guestname", share.guest_name.as_str());
    }
    site.events.announce(event).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_read_or_refused() {
        let with = |headers: &[(axum::http::HeaderName, &'static str)]| -> HeaderMap {
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
        };
        let none = HeaderMap::new();
        assert_eq!(Wanted::read("f=/a", &none), Some(Wanted::File));
        assert_eq!(Wanted::read("f=/a&z=1", &none), Some(Wanted::Archive(Vec::new())));
        assert_eq!(Wanted::read("f=/a&z=%5B%22b%22%5D", &none), Some(Wanted::Archive(vec!["b".to_owned()])));
        for bad in ["z=2", "z=%5B%5D", "z=%5B%22..%22%5D", "z=%5B%22a/b%22%5D", "z=%5B1%5D", "z={}"] {
            assert_eq!(Wanted::read(bad, &none), None, "{bad}");
        }
        let rest = |range, tag: Option<&'static str>| {
            let mut headers = vec![(RANGE, range)];
            headers.extend(tag.map(|tag| (IF_RANGE, tag)));
            Wanted::read("f=/a", &with(&headers))
        };
        assert_eq!(rest("bytes=5-", None), Some(Wanted::Rest { from: 5, tag: None }));
        assert_eq!(
            rest("bytes=5-", Some("\"x\"")),
            Some(Wanted::Rest { from: 5, tag: Some("\"x\"".to_owned()) })
        );
        for odd in ["bytes=5-9", "bytes=-5", "bytes=1-2,5-", "lines=5-", "bytes=x-"] {
            assert_eq!(rest(odd, None), Some(Wanted::File), "{odd}");
        }
    }

    #[test]
    fn tags_of_agents_are_harmless_in_a_header() {
        let tag = |tag: &str| {
            Opened { op: String::new(), size: 0, offset: None, tag: Some(tag.into()), zip: false }.tag()
        };
        assert_eq!(tag("1a-2.b").as_deref(), Some("\"1a-2.b\""));
        for bad in ["", "a\"b", "a\r\nX: y", "a b", &"x".repeat(200)] {
            assert_eq!(tag(bad), None);
        }
    }

    #[test]
    fn names_in_headers_are_harmless() {
        assert_eq!(super::disposition("a b\"\r\nX: y.txt"), "attachment; filename=\"a%20b%0D%0AX%20y.txt\"");
        assert_eq!(super::disposition("résumé.pdf"), "attachment; filename=\"r%C3%A9sum%C3%A9.pdf\"");
    }
}
