//! The browser app, embedded in the server, compressed beforehand.
//!
//! Of files that were compressed only the small form is carried: every browser takes it over HTTPS, and a
//! client that names no encodings takes any (RFC 9110 §12.5.3).

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use axum::response::IntoResponse;
use rust_embed::Embed;

use super::request::header;
use super::router::not_found;

#[derive(Embed)]
#[folder = "web/dist"]
#[exclude = "*.html"]
#[exclude = "*.js"]
#[exclude = "*.css"]
#[exclude = "*.svg"]
#[exclude = "*.json"]
#[exclude = "*.txt"]
#[exclude = "*.webmanifest"]
struct Dist;

/// The page of the app, for every address that is a view of it.
pub(super) async fn index(headers: HeaderMap) -> Response<Body> {
    answer("index.html", &headers).unwrap_or_else(|| {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "The browser app was not built into this server: run `make web` before building it.\n",
        )
            .into_response()
    })
}

/// A file of the app.
pub(super) async fn file(request: Request) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    if path.is_empty() || path.ends_with(".br") {
        return not_found();
    }
    answer(path, request.headers()).unwrap_or_else(not_found)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "webmanifest") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

fn answer(path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let packed = Dist::get(&format!("{path}.br"));
    let is_packed = packed.is_some();
    let file = packed.or_else(|| Dist::get(path))?;
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let takes_brotli = |encodings: &str| {
        encodings
            .split(',')
            .map(|part| part.split(';').next().unwrap_or_default().trim())
            .any(|e| e == "br" || e == "*")
    };
    if is_packed && accepted.is_some_and(|encodings| !takes_brotli(encodings)) {
        let text = "This file is only there compressed with brotli, which this client does not take.\n";
        return Some((StatusCode::NOT_ACCEPTABLE, text).into_response());
    }
    let hash = file.metadata.sha256_hash();
    let tag: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    // Names of assets carry a hash of their content, so they never change.
    let caching =
        if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = Response::builder()
        .header(CACHE_CONTROL, caching)
        .header(ETAG, &tag)
        .header(VARY, "accept-encoding")
        .header(CONTENT_TYPE, content_type(path));
    if header(headers, IF_NONE_MATCH) == tag {
        return response.status(StatusCode::NOT_MODIFIED).body(Body::empty()).ok();
    }
    if is_packed {
        response = response.header(CONTENT_ENCODING, "br");
    }
    let body = match file.data {
        Cow::Borrowed(bytes) => Body::from(bytes),
        Cow::Owned(bytes) => Body::from(bytes),
    };
    response.body(body).ok()
}
