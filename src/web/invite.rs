//! The page that an invitation opens: how to install an agent, for somebody without an account.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::{Html, IntoResponse};
use serde::Deserialize;

use super::downloads::{install_line, invited_group};
use super::imports;
use super::request::host;
use crate::agents::AgentBinaries;
use crate::site::Site;

const STYLE: &str = include_str!("invite.css");

#[derive(Deserialize)]
pub(super) struct Invitation {
    c: Option<String>,
}

/// The style of the page, a file of its own since inline styles are not for pages.
pub(super) async fn style() -> Response<Body> {
    ([(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=3600")], STYLE).into_response()
}

/// Text as it may stand in a page.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A page of this server without the app. `title` and `content` are HTML already.
pub(super) fn frame(title: &str, content: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <link rel=\"icon\" href=\"mark.svg\"><link rel=\"stylesheet\" href=\"invite.css\"></head><body><main>{content}</main></body></html>"
    ))
}

/// `GET agentinvite?c=<invitation>`.
pub(super) async fn page(
    State(site): State<Arc<Site>>,
    Extension(binaries): Extension<Arc<AgentBinaries>>,
    Query(invitation): Query<Invitation>,
    headers: HeaderMap,
) -> Response<Body> {
    let cookie = invitation.c.unwrap_or_default();
    let (Some(group), Some(host)) = (invited_group(&site, &cookie), host(&headers)) else {
        let content = "<h1>This invitation is not valid</h1><p>It has expired, or the link is incomplete. \
                       Ask whoever sent it for a new one.</p>";
        return (StatusCode::NOT_FOUND, frame("Invitation", content)).into_response();
    };
    let key: String = form_urlencoded::byte_serialize(cookie.as_bytes()).collect();
    let (line, _) = install_line(&site, &group, host, &format!("c={key}"), &binaries).await;
    let all = tokio::task::spawn_blocking(move || binaries.all()).await.unwrap_or_default();
    let item = |name: &str, size: u64, url: &str| {
        let mib = size as f64 / f64::from(1 << 20);
        format!("<li><a href=\"{}\">{}</a> <small>{mib:.1} MiB</small></li>", escape(url), escape(name))
    };
    let own: String = all
        .iter()
        .map(|agent| {
            let url = format!("meshagents?id={}&meshid={key}&agent=outpost", agent.id);
            item(agent.name, agent.size, &url)
        })
        .collect();
    let official: String = match site.official.bundle.get() {
        None => String::new(),
        Some(bundle) => {
            let items: String = imports::for_guests(&bundle, &key)
                .iter()
                .map(|(name, size, url)| item(name, *size, url))
                .collect();
            format!(
                "<h2>Windows and macOS</h2><p>The settings are inside. On Windows run it as administrator and \
                 choose Install; on macOS unpack it and open the installer.</p><ul>{items}</ul>"
            )
        }
    };
    let title = escape(&site.title(&group.domain));
    let (name, line) = (escape(&group.name), escape(&line));
    let content = format!(
        "<p class=\"from\">{title}</p><h1>Add this computer to “{name}”</h1>\
         <p>Whoever administers this server will be able to see and control this computer.</p>\
         <h2>Linux</h2><p>Paste this line into a terminal:</p><pre tabindex=\"0\">{line}</pre>\
         <p>Or download it; the settings are inside. Run it as root with <code>install</code>.</p>\
         <ul>{own}</ul>{official}"
    );
    ([(CACHE_CONTROL, "no-store")], frame("Add this computer", &content)).into_response()
}
