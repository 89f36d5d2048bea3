//! The HTTP port: sends everybody to HTTPS, and hands the root certificate out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::permits::Permits;
use super::request::host;
use crate::site::Site;

/// How long the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Connections held at the same time, together and of one network.
const CONNECTIONS: (usize, usize) = (128, 32);

/// Accepts connections until `stop`.
pub async fn serve(site: Arc<Site>, listener: TcpListener, stop: CancellationToken) {
    let permits = Permits::new(CONNECTIONS.0, CONNECTIONS.1);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, remote)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(permit) = permits.take(remote.ip()) else { continue };
        let site = site.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&site, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(16 << 10)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                log::debug!("an HTTP connection of {remote} failed: {error}");
            }
            drop(permit);
        });
    }
}

fn answer(site: &Site, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    if request.uri().path() == "/MeshServerRootCert.cer" {
        let body = Full::new(Bytes::copy_from_slice(&site.identity.root));
        return Response::builder()
            .header(CONTENT_TYPE, "application/x-x509-ca-cert")
            .header(CONTENT_DISPOSITION, "attachment; filename=\"OutpostRoot.cer\"")
            .body(body)
            .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR));
    }
    let Some(host) = host(request.headers()) else { return plain(StatusCode::BAD_REQUEST) };
    let name = without_port(host);
    let port = match site.public_port() {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let rest = request.uri().path_and_query().map_or("/", |rest| rest.as_str());
    Response::builder()
        .status(StatusCode::FOUND)
        .header(LOCATION, format!("https://{name}{port}{rest}"))
        .body(Full::default())
        .unwrap_or_else(|_| plain(StatusCode::BAD_REQUEST))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn ports_are_cut_off_names_and_addresses() {
        assert_eq!(without_port("box.example:80"), "box.example");
        assert_eq!(without_port("192.0.2.1"), "192.0.2.1");
        assert_eq!(without_port("[fe80::1]:80"), "[fe80::1]");
        assert_eq!(without_port("[fe80::1]"), "[fe80::1]");
    }
}
