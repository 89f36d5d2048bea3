//! Fetching an update from the network, when an administrator or `selfUpdate` asks for it.
//!
//! What is trusted is the signature inside the bundle, which the installer checks; so any certificate will do for the
//! way here, and `http` as well. An index is not signed: it is believed no more than to name bundles, of which none
//! older than what runs is installed by itself.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Address, dial};
use crate::config::{Url, UrlError};

/// How long a server may take to be reached, and to say something more.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most other addresses that an address leads to.
const MOST_REDIRECTIONS: usize = 5;

/// Why nothing was fetched.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It leads to what is no address.
    #[error(transparent)]
    Address(#[from] UrlError),
    /// The server is not there.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable { host: String, reason: String },
    /// It says no.
    #[error("{host} answers with status {status}")]
    Status { host: String, status: u16 },
    /// It sends around in circles.
    #[error("the address leads to more than {MOST_REDIRECTIONS} others")]
    Redirections,
    /// It stopped sending.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It sends more than is wanted.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// An answer whose content comes in pieces.
pub struct Fetched {
    /// Bytes it will have, where the server says so.
    pub length: Option<u64>,
    body: Incoming,
}

impl Fetched {
    /// Asks for an address, and for those it leads to.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn get(url: &Url) -> Result<Fetched, FetchError> {
        let mut url = url.clone();
        for _ in 0..=MOST_REDIRECTIONS {
            let response = timeout(PATIENCE, ask(&url)).await.map_err(|_| FetchError::Unreachable {
                host: url.host().to_owned(),
                reason: "it does not answer".into(),
            })??;
            let status = response.status();
            if status == StatusCode::OK {
                let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
                let length = length.and_then(|text| text.parse().ok());
                return Ok(Fetched { length, body: response.into_body() });
            }
            let onward = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match onward.filter(|_| status.is_redirection()) {
                Some(onward) => url = url.join(onward)?,
                None => {
                    return Err(FetchError::Status { host: url.host().to_owned(), status: status.as_u16() });
                }
            }
        }
        Err(FetchError::Redirections)
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// [`FetchError::Broken`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let frame = timeout(PATIENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| FetchError::Broken("nothing comes any more".into()))?;
            match frame.transpose().map_err(|error| FetchError::Broken(error.to_string()))? {
                None => return Ok(None),
                // Trailers are of no interest.
                Some(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// [`FetchError::TooLong`], [`FetchError::Broken`].
    pub async fn whole(mut self, longest: usize) -> Result<Vec<u8>, FetchError> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if whole.len() + bytes.len() > longest {
                return Err(FetchError::TooLong(longest));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}

async fn ask(url: &Url) -> Result<Response<Incoming>, FetchError> {
    let unreachable = |reason: String| FetchError::Unreachable { host: url.host().to_owned(), reason };
    let bare = url.host().trim_start_matches('[').trim_end_matches(']');
    if url.scheme() == "http" {
        let tcp = TcpStream::connect((bare, url.port().unwrap_or(80))).await;
        return exchange(url, tcp.map_err(|error| unreachable(error.to_string()))?).await;
    }
    let port = url.port().unwrap_or(443);
    let address = Address { host: url.host().to_owned(), port, path: String::new() };
    let (tls, _) = dial(&address, None).await.map_err(|error| unreachable(error.to_string()))?;
    exchange(url, tls).await
}

async fn exchange<S>(url: &Url, stream: S) -> Result<Response<Incoming>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| FetchError::Broken(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer, or when nobody wants that any more.
    tokio::spawn(connection);
    let request = Request::get(url.path())
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("outpost/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT_ENCODING, "identity")
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Broken(error.to_string()))?;
    sender.send_request(request).await.map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server that answers each connection with the next of these texts.
    async fn serving(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let serving = tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (port, serving)
    }

    async fn fetch(answers: &[&str], longest: usize) -> Result<String, FetchError> {
        let (port, _serving) = serving(answers.iter().map(|&text| text.to_owned()).collect()).await;
        let fetched = Fetched::get(&Url::parse(&format!("http://127.0.0.1:{port}/a")).expect("one")).await?;
        fetched.whole(longest).await.map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[tokio::test]
    async fn an_address_is_fetched_where_it_leads() {
        let found = "HTTP/1.1 302 Found\r\nlocation: b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(fetch(&[found, whole], 5).await.expect("fetched"), "hello");
        assert_eq!(fetch(&[chunked], 5).await.expect("fetched"), "hello");
        assert!(matches!(fetch(&[whole], 4).await, Err(FetchError::TooLong(4))));
        assert!(matches!(fetch(&[found; 6], 5).await, Err(FetchError::Redirections)));
        let gone = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(fetch(&[gone], 5).await, Err(FetchError::Status { status: 404, .. })));
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello";
        assert!(matches!(fetch(&[cut], 50).await, Err(FetchError::Broken(_))));
        let unreachable = Fetched::get(&Url::parse("http://127.0.0.1:9/").expect("one")).await;
        assert!(matches!(unreachable, Err(FetchError::Unreachable { .. })));
    }
}
