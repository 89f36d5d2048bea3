//! The doors of the WebSockets of agents and of the control channel.

use std::future::Future;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use futures_util::SinkExt;
use hyper_util::rt::TokioIo;
use tokio_websockets::{Config, Limits, Message, ServerBuilder, WebSocketStream};

use super::opening;
use super::request::{Connection, header, host};
use crate::agents;
use crate::control::{self, Credentials, Opening};
use crate::relay::Stream;
use crate::site::Site;

/// Messages to agents are never fragmented: MeshAgent loses fragmented ones beyond 64 KiB
/// (agent-protocol §1.3).
const NEVER_FRAGMENT: usize = 1 << 30;
/// Turns a request into a WebSocket and hands its messages over; answers what cannot be one.
fn upgrade<F>(
    request: Request,
    longest: usize,
    serve: impl FnOnce(WebSocketStream<Stream>) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    upgrade_stream(request, move |stream| serve(messages(stream, longest)))
}

/// A WebSocket's messages, each at most `longest` bytes.
pub(super) fn messages(stream: Stream, longest: usize) -> WebSocketStream<Stream> {
    ServerBuilder::new()
        .config(Config::default().frame_size(NEVER_FRAGMENT))
        .limits(Limits::default().max_payload_len(Some(longest)))
        .serve(stream)
}

/// Turns a request into a WebSocket and hands its bytes over; answers what cannot be one.
pub(super) fn upgrade_stream<F>(
    mut request: Request,
    serve: impl FnOnce(Stream) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    let headers = request.headers();
    let wants = |name: HeaderName, word: &str| {
        header(headers, name).split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if !wants(UPGRADE, "websocket") || !wants(CONNECTION, "upgrade") {
        return (StatusCode::NOT_FOUND, "This address is for WebSockets.\n").into_response();
    }
    let key = header(headers, SEC_WEBSOCKET_KEY);
    if header(headers, SEC_WEBSOCKET_VERSION) != "13" || key.len() != 24 {
        return (StatusCode::BAD_REQUEST, "Not a WebSocket of version 13.\n").into_response();
    }
    let accept = outpost_wire::websocket::accept_key(key);
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => Box::pin(serve(TokioIo::new(upgraded))).await,
            Err(error) => log::debug!("a WebSocket did not come to be: {error}"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("base64 is ASCII"));
    response
}

/// `agent.ashx`.
pub(super) async fn agent(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response<Body> {
    upgrade(request, agents::LONGEST_MESSAGE, move |socket| {
        agents::serve(site, connection.remote, connection.permit, socket)
    })
}

/// `control.ashx`.
pub(super) async fn control(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response<Body> {
    let headers = request.headers().clone();
    let query = request.uri().query().unwrap_or_default().to_owned();
    upgrade(request, control::LONGEST_MESSAGE, move |mut socket| async move {
        let remote = connection.remote.ip().to_canonical();
        let opened = Box::pin(opening::open(&site, &headers, query, remote, &mut socket));
        match opened.await {
            Ok(proven) => {
                connection.permit.release();
                let host = host(&headers).unwrap_or("localhost").to_owned();
                let credentials = Credentials {
                    user: proven.user.id.clone(),
                    web_session: proven.web_session.map(|session| session.id),
                    token: proven.token.map(|token| token.user_name.clone()),
                };
                control::serve(site, Opening { credentials, remote, host }, socket).await;
            }
            Err(refused) => {
                let closing = async {
                    if socket.send(Message::text(refused.to_message())).await.is_ok() {
                        let _ = socket.close().await;
                    }
                };
                let _ = tokio::time::timeout(std::time::Duration::from_secs(5), closing).await;
            }
        }
    })
}
