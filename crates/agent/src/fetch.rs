//! Fetching a file from the server because it says so: uploads to many devices (agent-protocol §6.5 `wget`).

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outpost_wire::id::Hash384;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::agent::Context;
use crate::dial::{self, DialError, Purpose};
use crate::tunnel::{Origin, Requester};

/// Longest head of the answer.
const LONGEST_HEAD: usize = 16 << 10;
/// Bytes read at once.
const PIECE: usize = 32 << 10;
/// How long the server may take for the head, and for each piece.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rights: remote control, without the bit that takes files away.
const RIGHT_REMOTE_CONTROL: u32 = 8;
const RIGHT_NO_FILES: u32 = 0x400;
const RIGHT_ALL: u32 = 0xFFFF_FFFF;
/// Consent bit: the user of the device is asked before files are touched.
const ASKS_FILES: u32 = 32;
/// Number of the event log: a file was uploaded, with its size.
const LOG_UPLOADED: u32 = 105;

/// What the server asks for.
#[derive(Debug, Deserialize)]
struct Wanted {
    urlpath: String,
    path: String,
    #[serde(default)]
    overwrite: bool,
    #[serde(rename = "createFolder", default)]
    create_folder: bool,
    servertlshash: Option<String>,
    #[serde(default)]
    userid: String,
    username: Option<String>,
    sessionid: Option<String>,
    remoteaddr: Option<String>,
    #[serde(default)]
    rights: u32,
    #[serde(default)]
    consent: u32,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the request was not understood: {0}")]
    Request(String),
    #[error("no right to put files on this device")]
    NoRight,
    #[error("the user of this device must be asked before files are touched")]
    Consent,
    #[error("{0}: expected the full path of a file")]
    Path(String),
    #[error("{0} is there already")]
    Exists(String),
    #[error("{0}: {1}")]
    Write(String, std::io::Error),
    #[error("dialling the server: {0}")]
    Dial(#[from] DialError),
    #[error("another certificate than the server's was presented")]
    ForeignCertificate,
    #[error("the server answered {0:?}")]
    Refused(String),
    #[error("the connection ended too early")]
    Cut,
    #[error("the server sends nothing")]
    Silent,
}

/// Fetches the file of a `wget` request, and tells whoever asked what became of it.
pub async fn fetch(context: Arc<Context>, origin: Origin, request: Map<String, Value>) {
    let wanted: Wanted = match serde_json::from_value(Value::Object(request)) {
        Ok(wanted) => wanted,
        Err(error) => return log::warn!("{}", FetchError::Request(error.to_string())),
    };
    let requester = Requester {
        user: wanted.userid.clone(),
        name: wanted.username.clone(),
        session: wanted.sessionid.clone(),
        address: wanted.remoteaddr.clone(),
        ..Requester::default()
    };
    match Box::pin(get(&context, &origin, &wanted)).await {
        Ok(size) => {
            let text = format!("Upload: \"{}\", Size: {size}", wanted.path);
            context.uplink.send(&requester.log(&text, Some(LOG_UPLOADED))).await;
        }
        Err(error) => {
            log::warn!("a file of {}: {error}", wanted.userid);
            context.uplink.send(&requester.say(&error.to_string())).await;
        }
    }
}

async fn get(context: &Context, origin: &Origin, wanted: &Wanted) -> Result<u64, FetchError> {
    let may = wanted.rights == RIGHT_ALL
        || wanted.rights & (RIGHT_REMOTE_CONTROL | RIGHT_NO_FILES) == RIGHT_REMOTE_CONTROL;
    if !may {
        return Err(FetchError::NoRight);
    }
    if (wanted.consent | context.settings.local_consent) & ASKS_FILES != 0 {
        return Err(FetchError::Consent);
    }
    let url = url(&wanted.urlpath).ok_or_else(|| FetchError::Request("urlpath".into()))?;
    let target = target(&wanted.path)?;
    if !wanted.overwrite && target.symlink_metadata().is_ok() {
        return Err(FetchError::Exists(wanted.path.clone()));
    }
    let endpoint = origin.endpoint.at(&url);
    let connecting = dial::connect_tls(&endpoint, &context.tls, context.proxy(), Purpose::Tunnel);
    let connected = tokio::time::timeout(dial::TIME_LIMIT, Box::pin(connecting)).await;
    let (mut stream, certificate) = connected.map_err(|_| DialError::Timeout)??;
    let named = wanted.servertlshash.as_deref().and_then(|hex| Hash384::from_hex(hex).ok());
    if certificate != origin.certificate && Some(certificate) != named {
        return Err(FetchError::ForeignCertificate);
    }
    let request = format!(
        "GET {url} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        endpoint.authority()
    );
    stream.write_all(request.as_bytes()).await.map_err(|_| FetchError::Cut)?;
    let mut read = Vec::new();
    let size = loop {
        if let Some((size, length)) = head(&read)? {
            read.drain(..length);
            break size;
        }
        if read.len() > LONGEST_HEAD || piece(&mut stream, &mut read).await? == 0 {
            return Err(FetchError::Cut);
        }
    };
    let folder = target.parent().unwrap_or(Path::new("/")).to_owned();
    let failed = |error| FetchError::Write(wanted.path.clone(), error);
    if wanted.create_folder {
        std::fs::create_dir_all(&folder).map_err(failed)?;
    }
    // Beside its place until it is whole: nobody finds half a file, and nobody can have put a link to somewhere
    // else under a name that cannot be guessed.
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.outpost-part", &Hash384::random().to_hex()[..8]));
    let part = folder.join(name);
    let written = Box::pin(body(&mut stream, read, size, &part, wanted)).await;
    let moved = written.and_then(|()| std::fs::rename(&part, &target).map_err(failed));
    if moved.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    moved.map(|()| size)
}

async fn body<S: tokio::io::AsyncRead + Unpin>(
    stream: &mut S,
    mut read: Vec<u8>,
    size: u64,
    part: &Path,
    wanted: &Wanted,
) -> Result<(), FetchError> {
    let failed = |error| FetchError::Write(wanted.path.clone(), error);
    let mut file = std::fs::File::create_new(part).map_err(failed)?;
    let mut left = size;
    loop {
        read.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= read.len() as u64;
        // Disks may hang, so the agent's thread does not wait for them.
        let block = std::mem::take(&mut read);
        let writing = tokio::task::spawn_blocking(move || {
            let outcome = std::io::Write::write_all(&mut file, &block);
            (file, outcome)
        });
        let (same, outcome) = writing.await.map_err(|_| FetchError::Cut)?;
        outcome.map_err(failed)?;
        file = same;
        if left == 0 {
            return Ok(());
        }
        if piece(stream, &mut read).await? == 0 {
            return Err(FetchError::Cut);
        }
    }
}

async fn piece<S: tokio::io::AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut Vec<u8>,
) -> Result<usize, FetchError> {
    read.reserve(PIECE);
    match tokio::time::timeout(PATIENCE, stream.read_buf(read)).await {
        Ok(Ok(count)) => Ok(count),
        Ok(Err(_)) => Ok(0),
        Err(_) => Err(FetchError::Silent),
    }
}

/// Path and query to ask for: this server's own page for such files, and nothing else.
fn url(text: &str) -> Option<String> {
    let (page, query) = text.split_once('?')?;
    let name = page.strip_prefix('/')?;
    let (domain, name) = name.rsplit_once('/').unwrap_or(("", name));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = name == "agentdownload.ashx"
        && domain.bytes().all(plain)
        && !domain.starts_with('.')
        && query.len() < 4096
        && query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    good.then(|| text.replace('$', "%24").replace('@', "%40"))
}

/// A full path without steps back, which can stand in a log.
fn target(text: &str) -> Result<PathBuf, FetchError> {
    let path = PathBuf::from(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain && path.file_name().is_some() && !text.chars().any(char::is_control) {
        Ok(path)
    } else {
        Err(FetchError::Path(text.escape_debug().take(200).collect()))
    }
}

/// The size of the file and the length of the answer's head, once it is all there.
fn head(read: &[u8]) -> Result<Option<(u64, usize)>, FetchError> {
    let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&read[..end]);
    let mut lines = text.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(FetchError::Refused(status.chars().take(100).collect()));
    }
    let size = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    let size = size.ok_or_else(|| FetchError::Refused("an answer without a length".into()))?;
    Ok(Some((size, end + 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_page_is_asked() {
        assert_eq!(url("/agentdownload.ashx?c=a@b$").as_deref(), Some("/agentdownload.ashx?c=a%40b%24"));
        assert!(url("/dom/agentdownload.ashx?c=x").is_some());
        for bad in [
            "/control.ashx?c=x",
            "https://x/agentdownload.ashx?c=x",
            "//x/agentdownload.ashx?c=x",
            "/../agentdownload.ashx?c=x",
            "/agentdownload.ashx",
            "/agentdownload.ashx?c=x\r\nHost: y",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_are_whole_and_straight() {
        assert!(target("/srv/a b").is_ok());
        for bad in ["relative", "/srv/../etc/passwd", "/", "", "/a\0b", "/a\nb", "/a\u{1b}[2Jb"] {
            assert!(target(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn heads_tell_the_size_or_the_reason() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(head(good).expect("a head"), Some((5, good.len() - 5)));
        assert_eq!(head(&good[..20]).expect("not yet"), None);
        assert!(matches!(head(b"HTTP/1.1 404 Not Found\r\n\r\n"), Err(FetchError::Refused(_))));
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
