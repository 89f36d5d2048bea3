//! A server, browsers and agents for tests, all in this process and on loopback.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use outpost::Server;
use outpost::config::{self, Config, Document};
use outpost::site::Site;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

pub const PASSWORD: &str = "correct horse battery";
const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a port of its own, with its data in a folder that outlives it.
pub struct TestServer {
    server: Option<Server>,
    pub folder: Arc<tempfile::TempDir>,
    pub address: SocketAddr,
}

impl TestServer {
    pub async fn start() -> TestServer {
        TestServer::with("{}").await
    }

    /// Starts with a `config.json`.
    pub async fn with(config: &str) -> TestServer {
        TestServer::on(Arc::new(tempfile::tempdir().expect("a folder")), config).await
    }

    /// Starts on the data of an earlier one.
    pub async fn on(folder: Arc<tempfile::TempDir>, config: &str) -> TestServer {
        let config = read_config(folder.path(), config);
        let server = Server::start(config).await.expect("the server starts");
        let port = server.site().ports.get().expect("bound").https.port();
        TestServer { server: Some(server), folder, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    pub fn site(&self) -> &Arc<Site> {
        self.server.as_ref().expect("running").site()
    }

    /// Stops it and starts another on the same data.
    pub async fn restart(mut self, config: &str) -> TestServer {
        self.stop().await;
        TestServer::on(self.folder.clone(), config).await
    }

    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Makes the first account and logs it in.
    pub async fn admin(&self) -> Browser {
        let mut browser = Browser::new(self.address);
        let answer = browser.post("/api/account", json!({ "username": "Admin", "password": PASSWORD })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        browser
    }

    /// An account logged in, made by an administrator.
    pub async fn member(&self, admin: &mut Control, name: &str) -> Browser {
        let added = admin.ask(json!({ "action": "adduser", "username": name, "pass": PASSWORD })).await;
        assert_eq!(added["result"], "ok", "{added}");
        let mut browser = Browser::new(self.address);
        assert_eq!(browser.login(name, PASSWORD).await.status, StatusCode::OK);
        browser
    }
}

fn read_config(folder: &Path, text: &str) -> Config {
    let document = Document::parse(text, Path::new("config.json")).expect("JSON");
    let (mut config, problems) = config::read(&document, folder.to_owned());
    assert!(problems.is_empty(), "{problems:?}");
    config.recordings_folder = folder.join("recordings");
    config.places.socket = folder.join("box.sock");
    config.places.staging = folder.join("box/updates");
    config.settings.port = 0;
    config.settings.port_bind = Some([127, 0, 0, 1].into());
    config.settings.redir_port = None;
    // Tests of discovery have network namespaces of their own.
    config.settings.discovery.enabled = false;
    config
}

/// Accepts the certificate that the server made for itself.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub type Tls = TlsStream<TcpStream>;

pub async fn connect(address: SocketAddr) -> std::io::Result<Tls> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// SHA-384 of the certificate that the server presents.
pub fn presented(tls: &Tls) -> outpost_wire::id::Hash384 {
    let (_, connection) = tls.get_ref();
    outpost_wire::id::Hash384::of(&connection.peer_certificates().expect("certificates")[0])
}

/// What an HTTP request was answered with.
pub struct Answer {
    pub status: StatusCode,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A browser: keeps its session cookie, sends the headers that pages send.
#[derive(Clone)]
pub struct Browser {
    pub address: SocketAddr,
    pub cookie: Option<String>,
    pub origin: Option<String>,
}

impl Browser {
    pub fn new(address: SocketAddr) -> Browser {
        Browser { address, cookie: None, origin: Some(format!("https://{address}")) }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await
    }

    pub async fn post(&mut self, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path, Some(body)).await
    }

    pub async fn login(&mut self, name: &str, password: &str) -> Answer {
        self.post("/api/login", json!({ "username": name, "password": password })).await
    }

    /// Asks with a further header.
    pub async fn get_with(&mut self, path: &str, name: &str, value: &str) -> Answer {
        let body = Full::new(Bytes::new());
        self.exchange(Method::GET, path, &[(name, value)], body).await
    }

    async fn request(&mut self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let json = [("content-type", "application/json")];
        let headers = if body.is_some() { &json[..] } else { &[] };
        let body = Full::new(Bytes::from(body.map_or(String::new(), |body| body.to_string())));
        self.exchange(method, path, headers, body).await
    }

    /// Asks with these headers and this body.
    pub async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Full<Bytes>,
    ) -> Answer {
        let tls = connect(self.address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.expect("HTTP");
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", format!("xid={cookie}"));
        }
        if let Some(origin) = &self.origin {
            request = request.header("origin", origin);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(body).expect("a request")).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let cookie = parts.headers.get("set-cookie").and_then(|value| value.to_str().ok());
        if let Some(value) = cookie.and_then(|cookie| cookie.strip_prefix("xid=")) {
            let value = value.split(';').next().unwrap_or_default();
            self.cookie = (!value.is_empty()).then(|| value.to_owned());
        }
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Opens a WebSocket as a page of this browser would.
    pub async fn socket(&self, path: &str) -> Result<WebSocketStream<Tls>, tokio_websockets::Error> {
        let mut headers = Vec::new();
        if let Some(cookie) = &self.cookie {
            headers.push(("cookie", format!("xid={cookie}")));
        }
        if let Some(origin) = &self.origin {
            headers.push(("origin", origin.clone()));
        }
        socket(self.address, path, &headers).await
    }

    /// Opens a control session.
    pub async fn control(&self) -> Control {
        let socket = self.socket("/control.ashx").await.expect("a socket");
        Control::open(socket).await
    }
}

/// Opens a WebSocket with these headers.
pub async fn socket(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, String)],
) -> Result<WebSocketStream<Tls>, tokio_websockets::Error> {
    sized_socket(address, path, headers, tokio_websockets::Config::default()).await
}

/// The same with messages in parts of a size of one's own.
pub async fn sized_socket(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, String)],
    config: tokio_websockets::Config,
) -> Result<WebSocketStream<Tls>, tokio_websockets::Error> {
    let tls = connect(address).await?;
    let uri = format!("wss://{address}{path}").parse().expect("an address");
    let mut builder = ClientBuilder::from_uri(uri).config(config);
    for (name, value) in headers {
        let name = name.parse().expect("a name");
        builder = builder.add_header(name, value.parse().expect("a value")).expect("an allowed header");
    }
    Ok(builder.connect_on(tls).await?.0)
}

/// An open control session.
pub struct Control {
    pub socket: WebSocketStream<Tls>,
    next_id: u32,
    /// Messages that came while an answer was waited for.
    pub heard: Vec<Value>,
}

impl Control {
    async fn open(socket: WebSocketStream<Tls>) -> Control {
        let mut control = Control { socket, next_id: 0, heard: Vec::new() };
        assert_eq!(control.next().await["action"], "serverinfo");
        assert_eq!(control.next().await["action"], "userinfo");
        control
    }

    pub async fn try_next(&mut self) -> Option<Value> {
        loop {
            let message =
                tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message in time")?;
            let message = message.ok()?;
            if let Some(text) = message.as_text() {
                return Some(serde_json::from_str(text).expect("JSON"));
            }
            if message.is_close() {
                return None;
            }
        }
    }

    pub async fn next(&mut self) -> Value {
        self.try_next().await.expect("the session is open")
    }

    pub async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&mut self, mut request: Value) -> Value {
        self.next_id += 1;
        let id = format!("r{}", self.next_id);
        request["responseid"] = json!(id);
        request["requestid"] = json!(id);
        self.send(request).await;
        loop {
            let message = self.next().await;
            if message["requestid"] == json!(id) || message["responseid"] == json!(id) {
                return message;
            }
            self.heard.push(message);
        }
    }

    /// The event with this action, heard already or to come.
    pub async fn event(&mut self, action: &str) -> Value {
        let is_it = |message: &Value| message["action"] == "event" && message["event"]["action"] == action;
        if let Some(at) = self.heard.iter().position(is_it) {
            return self.heard.remove(at)["event"].clone();
        }
        loop {
            let message = self.next().await;
            if is_it(&message) {
                return message["event"].clone();
            }
            self.heard.push(message);
        }
    }

    pub async fn group(&mut self, name: &str) -> String {
        let made = self.ask(json!({ "action": "createmesh", "meshname": name, "meshtype": 2 })).await;
        assert_eq!(made["result"], "ok", "{made}");
        made["meshid"].as_str().expect("an id").to_owned()
    }

    /// All devices, whatever their group.
    pub async fn devices(&mut self) -> Vec<Value> {
        let answer = self.ask(json!({ "action": "nodes" })).await;
        answer["nodes"]
            .as_object()
            .expect("groups")
            .values()
            .flat_map(|list| list.as_array().expect("a list").clone())
            .collect()
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
