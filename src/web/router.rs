//! The HTTPS server: accepting, TLS, routes and headers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::permits::Permits;
use super::request::{Connection, host};
use super::{
    api, appliance, assets, batch, conversations, copies, device_file, downloads, entry, imports, invite,
    listener, official, pages, recordings, records, sharing, sockets, tunnels, user_files,
};
use crate::agents::AgentBinaries;
use crate::site::Site;

/// Bytes that wait in TLS for a peer that does not read. The library's 64 KiB would be more than the rest of a
/// tunnel holds.
const TLS_BUFFER: usize = 8 << 10;
/// How long a TLS handshake may take.
const TLS_TIME: Duration = Duration::from_secs(15);
/// How long the head of a request may take, and how long a connection may idle between requests.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const LARGEST_HEAD: usize = 32 << 10;
/// Bytes of a request's body; uploads have doors of their own.
const LARGEST_BODY: usize = 64 << 10;

fn routes(site: Arc<Site>) -> Router {
    let binaries = Arc::new(AgentBinaries::new(&site.config.data_folder));
    Router::new()
        .route("/", get(entry::root))
        .route("/login", get(entry::root))
        .route("/app", get(assets::index))
        .route("/app/{*path}", get(assets::index))
        .route("/api/bootstrap", get(api::bootstrap))
        .route("/api/login", post(api::login))
        .route("/api/logout", post(api::logout))
        .route("/api/account", post(api::create_account))
        .route("/api/password-strength", post(api::password_strength))
        .route("/api/agents", get(imports::list).delete(imports::remove))
        .route("/api/agents/import", post(imports::import))
        .route("/api/box", get(appliance::show))
        .route("/api/box/sticks", get(appliance::sticks))
        .route(
            "/api/box/update",
            post(appliance::upload).delete(appliance::stop).layer(DefaultBodyLimit::disable()),
        )
        .route("/api/box/update/url", post(appliance::from_url))
        .route("/api/box/update/stick", post(appliance::from_stick))
        .route("/api/box/restart", post(appliance::restart))
        .route("/api/box/off", post(appliance::power_off))
        .route("/api/box/reset", post(appliance::reset))
        .route("/api/box/time", post(appliance::set_time))
        .route("/api/export", get(copies::download).post(copies::ticket))
        .route("/api/install", get(downloads::install_choices))
        .route("/install.sh", get(downloads::install_script))
        .route("/meshagents", get(downloads::agents))
        .route("/meshosxagent", get(official::mac_package))
        .route("/meshsettings", get(downloads::settings))
        .route("/MeshServerRootCert.cer", get(downloads::root_certificate))
        .route("/agentinvite", get(invite::page))
        .route("/invite", get(pages::invite).post(pages::invite_by_code))
        .route("/uploadfile.ashx", post(user_files::upload).layer(DefaultBodyLimit::disable()))
        .route("/uploadfilebatch.ashx", post(batch::upload).layer(DefaultBodyLimit::disable()))
        .route("/agentdownload.ashx", get(batch::download))
        .route("/downloadfile.ashx", get(user_files::download))
        .route("/userfiles/{user}/{*path}", get(user_files::public))
        .route("/terms", get(pages::terms))
        .route("/logout", get(pages::logout))
        .route("/devicepowerevents.ashx", get(records::power_events))
        .route("/userimage.ashx", get(records::user_image))
        .route("/recordings.ashx", any(recordings::serve))
        .route("/backup.zip", get(records::nothing))
        .route("/invite.css", get(invite::style))
        .route("/health.ashx", get(|| async { axum::response::Html("ok") }))
        .route("/refresh.ashx", get(|| async { "OK" }))
        .route("/agent.ashx", any(sockets::agent))
        .route("/control.ashx", any(sockets::control))
        .route("/meshrelay.ashx", any(tunnels::relay))
        .route("/messenger", get(conversations::page))
        .route("/api/chat", get(conversations::about))
        .route("/sharing", get(sharing::page))
        .route("/api/share", get(sharing::share))
        .route("/devicefile.ashx", get(device_file::serve))
        .fallback(assets::file)
        .layer(axum::Extension(binaries))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(site.clone(), secure))
        .with_state(site)
}

/// Headers that every answer carries.
async fn secure(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response<Body> {
    let own = host(request.headers()).map(str::to_owned);
    let mut response = next.run(request).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let sockets = own.map_or(String::new(), |host| format!(" wss://{host}"));
    let framing = if site.config.settings.allow_framing { "*" } else { "'self'" };
    let policy = format!(
        "default-src 'self'; connect-src 'self'{sockets}; img-src 'self' data: blob:; \
         object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {framing}"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), microphone=(), geolocation=()"),
    );
    if !site.config.settings.allow_framing {
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("sameorigin"));
    }
    if !site.identity.web.self_made {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=63072000"));
    }
    response
}

/// Accepts connections until `stop`.
pub async fn serve(site: Arc<Site>, listener: TcpListener, acceptor: TlsAcceptor, stop: CancellationToken) {
    let limits = site.config.settings.limits;
    let permits = Permits::new(limits.unauthenticated_connections, limits.unauthenticated_per_network);
    let routes = routes(site);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files or memory: others have to end first.
                log::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // An IPv4 peer of a dual-stack socket is shown as what it is.
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let Some(permit) = permits.take(remote.ip()) else {
            log::debug!("a connection from {remote} was dropped: too many that have not logged in");
            continue;
        };
        listener::prepare(&stream);
        let connection = Connection { remote, permit };
        let (routes, acceptor) = (routes.clone(), acceptor.clone());
        tokio::spawn(Box::pin(serve_connection(routes, acceptor, stream, remote, connection)));
    }
}

async fn serve_connection(
    routes: Router,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    remote: SocketAddr,
    connection: Connection,
) {
    let mut stream = match tokio::time::timeout(TLS_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return log::debug!("TLS with {remote} failed: {error}"),
        Err(_) => return log::debug!("TLS with {remote} took too long"),
    };
    stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
    let service = ConnectionService { routes, connection };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        log::debug!("the connection of {remote} failed: {error}");
    }
}

/// The routes as a service that knows its connection.
#[derive(Clone)]
struct ConnectionService {
    routes: Router,
    connection: Connection,
}

impl tower_service::Service<hyper::Request<hyper::body::Incoming>> for ConnectionService {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = <Router as tower_service::Service<Request>>::Future;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<hyper::body::Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.connection.clone());
        self.routes.call(request)
    }
}

/// The answer to a path that is not there.
pub(super) fn not_found() -> Response<Body> {
    (StatusCode::NOT_FOUND, "There is nothing at this address.\n").into_response()
}
