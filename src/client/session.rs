//! A control session with a server, and tunnels beside it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use outpost_wire::id::Hash384;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_websockets::{ClientBuilder, Limits, Message, WebSocketStream};

/// How long the server may take to be reached, and to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest message of the server: its list of devices.
const LONGEST_MESSAGE: usize = 64 << 20;

/// A connection to the server.
pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or address.
    pub host: String,
    /// HTTPS port.
    pub port: u16,
    /// Path of the domain, empty or `/name`.
    pub path: String,
}

/// Who comes.
#[derive(Clone)]
pub struct Login {
    /// Account or login token.
    pub user: String,
    /// Its password.
    pub pass: String,
    /// Code of the second factor.
    pub code: Option<String>,
}

/// Why something did not work.
#[allow(missing_docs, reason = "a variant's line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address of a server.
    #[error("`{0}` is not the address of a server; expected https://<name>[:<port>]")]
    Address(String),
    /// Not the link of a share.
    #[error("this is not the link of a share; expected https://<name>/sharing?c=…")]
    Link,
    /// It cannot be reached.
    #[error("{host}:{port} cannot be reached: {reason}")]
    Unreachable { host: String, port: u16, reason: String },
    /// It is another one than was logged in to.
    #[error(
        "the certificate of this server is not the one that was logged in to ({found}); if that is expected, run `outpost login` again"
    )]
    OtherServer { found: String },
    /// It wants the code of the second factor.
    #[error("the server asks for the code of the second factor")]
    CodeNeeded,
    /// It refuses the login.
    #[error("the server refuses this login")]
    Refused,
    /// It ended the connection, or said nothing.
    #[error("the server {0}")]
    Silent(&'static str),
    /// It refuses a request.
    #[error("{0}")]
    Answer(String),
    /// No such device.
    #[error("there is no device `{0}`")]
    UnknownDevice(String),
    /// Several devices of one name.
    #[error("there are {count} devices called `{name}`; name one by its id: {ids}")]
    Ambiguous { name: String, count: usize, ids: String },
    /// It is not there.
    #[error("{0} is offline")]
    Offline(String),
}

impl Address {
    /// `https://host[:port][/domain]`; the scheme may be left out.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn parse(text: &str) -> Result<Address, ClientError> {
        let bad = || ClientError::Address(text.to_owned());
        let rest = match text.split_once("://") {
            Some(("https" | "wss", rest)) => rest,
            Some(_) => return Err(bad()),
            None => text,
        };
        let uri: hyper::Uri = format!("https://{rest}").parse().map_err(|_| bad())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || uri.query().is_some()
        {
            return Err(bad());
        }
        Ok(Address {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(443),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// As it is kept and shown.
    pub fn url(&self) -> String {
        let port = if self.port == 443 { String::new() } else { format!(":{}", self.port) };
        format!("https://{}{port}{}", self.host, self.path)
    }
}

/// Takes the one certificate that is pinned or, when none is, any, which it notes.
#[derive(Debug)]
struct Pinned {
    pin: Option<Hash384>,
    seen: Mutex<Option<Hash384>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Hash384::of(certificate);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        match self.pin {
            Some(pin) if pin != found => Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            )),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS connection and the hash of the certificate at its other end.
pub(crate) async fn dial(
    address: &Address,
    pin: Option<Hash384>,
) -> Result<(TlsStream<TcpStream>, Hash384), ClientError> {
    let unreachable =
        |reason: String| ClientError::Unreachable { host: address.host.clone(), port: address.port, reason };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned { pin, seen: Mutex::default(), provider: provider.clone() });
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has these versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let bare = address.host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| ClientError::Address(address.url()))?;
    let connecting = async {
        let tcp =
            TcpStream::connect((bare, address.port)).await.map_err(|error| unreachable(error.to_string()))?;
        let _ = tcp.set_nodelay(true);
        let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let seen = *verifier.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (connected, seen, pin) {
            (Ok(tls), Some(seen), _) => Ok((tls, seen)),
            (Err(_), Some(seen), Some(pin)) if seen != pin => {
                Err(ClientError::OtherServer { found: fingerprint(&seen) })
            }
            (Err(error), ..) => Err(unreachable(error.to_string())),
            (Ok(_), None, _) => Err(unreachable("it showed no certificate".into())),
        }
    };
    timeout(PATIENCE, connecting).await.map_err(|_| unreachable("it does not answer".into()))?
}

/// The first half of a certificate's hash, in groups: enough to compare by eye, and no other has it.
pub fn fingerprint(hash: &Hash384) -> String {
    let hex = hash.to_hex();
    let groups: Vec<&str> = (0..48).step_by(6).map(|at| &hex[at..at + 6]).collect();
    groups.join(" ")
}

/// A device as its user names it.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// An open control session.
pub struct Session {
    address: Address,
    pin: Hash384,
    socket: tokio::sync::Mutex<Socket>,
}

impl Session {
    /// The certificate of a server, before anything is told to it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn certificate(address: &Address) -> Result<Hash384, ClientError> {
        dial(address, None).await.map(|(_, hash)| hash)
    }

    /// Logs in to the server with this certificate.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open(address: Address, pin: Hash384, login: &Login) -> Result<Session, ClientError> {
        let parts = [Some(&login.user), Some(&login.pass), login.code.as_ref()];
        let header: Vec<String> = parts.into_iter().flatten().map(|part| STANDARD.encode(part)).collect();
        let mut socket =
            upgrade(&address, pin, "control.ashx", Some(&header.join(",")), LONGEST_MESSAGE).await?;
        loop {
            let message = next(&mut socket).await?;
            match message["action"].as_str() {
                Some("userinfo") => break,
                Some("close") if message["msg"] == "tokenrequired" => return Err(ClientError::CodeNeeded),
                Some("close") => return Err(ClientError::Refused),
                _ => {}
            }
        }
        Ok(Session { address, pin, socket: tokio::sync::Mutex::new(socket) })
    }

    /// Asks for something and gives the answer.
    ///
    /// # Errors
    /// [`ClientError::Silent`].
    pub async fn ask(&self, mut request: Value) -> Result<Value, ClientError> {
        let mut socket = self.socket.lock().await;
        request["requestid"] = json!("cli");
        let sent = socket.send(Message::text(request.to_string())).await;
        sent.map_err(|_| ClientError::Silent("ended the connection"))?;
        let answered = async {
            loop {
                let message = next(&mut socket).await?;
                if message["requestid"] == "cli" {
                    return Ok(message);
                }
            }
        };
        timeout(PATIENCE, answered).await.map_err(|_| ClientError::Silent("does not answer"))?
    }

    /// Reads and forgets what the server tells, so that the session stays open between requests.
    pub async fn stay(&self) -> ClientError {
        loop {
            let heard = {
                let mut socket = self.socket.lock().await;
                timeout(Duration::from_millis(200), socket.next()).await
            };
            match heard {
                Ok(Some(Ok(_))) => {}
                Ok(_) => return ClientError::Silent("ended the connection"),
                Err(_) => tokio::time::sleep(Duration::from_millis(800)).await,
            }
        }
    }

    /// The online device with this id or name.
    ///
    /// # Errors
    /// [`ClientError::UnknownDevice`], [`ClientError::Ambiguous`], [`ClientError::Offline`].
    pub async fn device(&self, wanted: &str) -> Result<Device, ClientError> {
        let answer = self.ask(json!({ "action": "nodes" })).await?;
        let groups = answer["nodes"].as_object();
        let all = groups.into_iter().flat_map(|groups| groups.values()).filter_map(Value::as_array).flatten();
        let text = |device: &Value, field: &str| device[field].as_str().unwrap_or_default().to_owned();
        let mut found = Vec::new();
        for device in all {
            let id = text(device, "_id");
            if id == wanted || id.rsplit('/').next() == Some(wanted) {
                found = vec![device];
                break;
            }
            if text(device, "name").eq_ignore_ascii_case(wanted)
                || text(device, "rname").eq_ignore_ascii_case(wanted)
            {
                found.push(device);
            }
        }
        let online = |device: &&&Value| device["conn"].as_u64().unwrap_or(0) & 1 != 0;
        match found.as_slice() {
            [] => Err(ClientError::UnknownDevice(wanted.to_owned())),
            [one] if online(&one) => Ok(Device { id: text(one, "_id"), name: text(one, "name") }),
            [one] => Err(ClientError::Offline(text(one, "name"))),
            several => Err(ClientError::Ambiguous {
                name: wanted.to_owned(),
                count: several.len(),
                ids: several.iter().map(|one| text(one, "_id")).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// Opens a tunnel to a port; it is connected through to the device when this returns.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tunnel(&self, query: &str) -> Result<Socket, ClientError> {
        let answer = self.ask(json!({ "action": "authcookie" })).await?;
        let cookie = answer["cookie"].as_str().ok_or(ClientError::Silent("gave no cookie"))?;
        let cookie: String = form_urlencoded::byte_serialize(cookie.as_bytes()).collect();
        let place = format!("meshrelay.ashx?{query}&auth={cookie}");
        paired(upgrade(&self.address, self.pin, &place, None, 1 << 20).await?).await
    }
}

/// The link of a share, as a way to the port that it shares.
pub struct GuestLink {
    /// The server.
    pub address: Address,
    cookie: String,
}

impl GuestLink {
    /// `https://host[:port][/domain]/sharing?c=…`.
    ///
    /// # Errors
    /// [`ClientError::Link`].
    pub fn parse(text: &str) -> Result<GuestLink, ClientError> {
        let (server, cookie) = text.trim().split_once("/sharing?c=").ok_or(ClientError::Link)?;
        let is_cookie = |byte: u8| byte.is_ascii_alphanumeric() || b"@$%=-_".contains(&byte);
        if cookie.is_empty() || !cookie.bytes().all(is_cookie) {
            return Err(ClientError::Link);
        }
        let address = Address::parse(server).map_err(|_| ClientError::Link)?;
        Ok(GuestLink { address, cookie: cookie.to_owned() })
    }

    /// Opens a tunnel to the port, on the server with this certificate.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tunnel(&self, pin: Hash384) -> Result<Socket, ClientError> {
        let place = format!("meshrelay.ashx?c={}", self.cookie);
        let socket = upgrade(&self.address, pin, &place, None, 1 << 20).await;
        paired(socket.map_err(|error| match error {
            ClientError::Silent(_) => ClientError::Answer(
                "the link opens no port now: it has ended, was taken back, or shares something else".into(),
            ),
            other => other,
        })?)
        .await
    }
}

/// Waits until a tunnel is connected through to the device.
async fn paired(mut socket: Socket) -> Result<Socket, ClientError> {
    let refused = || ClientError::Answer("the device did not open the port".into());
    let waiting = async {
        loop {
            let message = socket.next().await.and_then(Result::ok).ok_or_else(refused)?;
            match message.as_text() {
                Some("c" | "cr") => return Ok(()),
                _ if message.is_close() => return Err(refused()),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, waiting).await.map_err(|_| ClientError::Silent("does not reach the device"))??;
    Ok(socket)
}

async fn upgrade(
    address: &Address,
    pin: Hash384,
    place: &str,
    login: Option<&str>,
    longest: usize,
) -> Result<Socket, ClientError> {
    let (tls, _) = dial(address, Some(pin)).await?;
    let uri = format!("wss://{}:{}{}/{place}", address.host, address.port, address.path);
    let uri = uri.parse().map_err(|_| ClientError::Address(address.url()))?;
    let mut builder = ClientBuilder::from_uri(uri).limits(Limits::default().max_payload_len(Some(longest)));
    if let Some(login) = login {
        let value = login.parse().map_err(|_| ClientError::Refused)?;
        builder = builder
            .add_header(hyper::header::HeaderName::from_static("x-meshauth"), value)
            .map_err(|_| ClientError::Refused)?;
    }
    match timeout(PATIENCE, builder.connect_on(tls)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(_)) => Err(ClientError::Silent("does not open the connection: it is no Outpost, or refuses")),
        Err(_) => Err(ClientError::Silent("does not answer")),
    }
}

async fn next(socket: &mut Socket) -> Result<Value, ClientError> {
    loop {
        let heard = timeout(PATIENCE, socket.next()).await;
        let message = heard.map_err(|_| ClientError::Silent("does not answer"))?;
        let message = message.and_then(Result::ok).ok_or(ClientError::Silent("ended the connection"))?;
        if let Some(text) = message.as_text() {
            return serde_json::from_str(text).map_err(|_| ClientError::Silent("does not speak JSON"));
        }
        if message.is_close() {
            return Err(ClientError::Silent("ended the connection"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, url) in [
            ("https://outpost.local", "https://outpost.local"),
            ("outpost.local:8443/", "https://outpost.local:8443"),
            ("wss://10.0.0.1/customer", "https://10.0.0.1/customer"),
            ("[::1]:444", "https://[::1]:444"),
        ] {
            assert_eq!(Address::parse(text).expect("an address").url(), url);
        }
        for bad in ["", "http://outpost.local", "https://", "ann@outpost.local", "a b", "x?y=z"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fingerprints_can_be_compared_by_eye() {
        let print = fingerprint(&Hash384([0xAB; 48]));
        assert_eq!(print.len(), 55);
        assert!(print.to_uppercase().starts_with("ABABAB ABABAB"));
    }
}
