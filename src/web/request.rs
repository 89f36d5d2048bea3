//! What every handler wants to know of a request.

use std::net::SocketAddr;

use axum::http::header::{COOKIE, HOST, ORIGIN, USER_AGENT};
use axum::http::{HeaderMap, HeaderName};

use super::permits::ConnectionPermit;

/// The connection that a request came in on.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) remote: SocketAddr,
    pub(super) permit: ConnectionPermit,
}

/// A header as text, `""` when it is absent or not ASCII.
pub(super) fn header(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The browser as it names itself.
pub(super) fn user_agent(headers: &HeaderMap) -> &str {
    header(headers, USER_AGENT)
}

/// `host[:port]` as the client reached the server, if it is one; it goes into links and commands, so nothing
/// but the characters of a name or address is let through.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    let host = header(headers, HOST);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (!host.is_empty() && host.len() <= 255 && host.bytes().all(plain)).then_some(host)
}

/// The value of a cookie.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then_some(value)
        })
}

/// Whether a request that a browser sent on behalf of a page came from a page of this server. Requests
/// without an `Origin` are not from a page (`strict` refuses them too: a WebSocket of a browser has one).
pub(super) fn same_origin(headers: &HeaderMap, allowed: &[String], strict: bool) -> bool {
    let site = header(headers, HeaderName::from_static("sec-fetch-site"));
    let Some(origin) = headers.get(ORIGIN) else {
        return !strict && !matches!(site, "cross-site" | "same-site");
    };
    let Ok(origin) = origin.to_str() else { return false };
    if allowed.iter().any(|allowed| allowed == "*" || allowed == origin) {
        return true;
    }
    let authority = origin.strip_prefix("https://").unwrap_or_default();
    let host = host(headers).unwrap_or_default();
    let bare = |text: &str| text.strip_suffix(":443").unwrap_or(text).to_ascii_lowercase();
    let listed = allowed.iter().any(|allowed| bare(allowed) == bare(authority));
    !authority.is_empty() && (bare(authority) == bare(host) || listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).expect("a name"), value.parse().expect("a value"))
            })
            .collect()
    }

    #[test]
    fn only_our_own_pages_have_our_origin() {
        let ours = headers(&[("host", "192.0.2.1:8443"), ("origin", "https://192.0.2.1:8443")]);
        assert!(same_origin(&ours, &[], true));
        assert!(same_origin(&headers(&[("host", "box"), ("origin", "https://box:443")]), &[], true));
        for (host, origin) in [
            ("192.0.2.1:8443", "https://evil.example"),
            ("192.0.2.1:8443", "http://192.0.2.1:8443"),
            ("192.0.2.1:8443", "https://192.0.2.1"),
            ("192.0.2.1", "null"),
            ("", ""),
        ] {
            assert!(!same_origin(&headers(&[("host", host), ("origin", origin)]), &[], false), "{origin}");
        }
        let other = headers(&[("host", "a"), ("origin", "https://b.example")]);
        assert!(same_origin(&other, &["b.example".into()], true));
        assert!(!same_origin(&headers(&[("host", "a")]), &[], true));
        assert!(same_origin(&headers(&[("host", "a")]), &[], false));
        assert!(!same_origin(&headers(&[("host", "a"), ("sec-fetch-site", "cross-site")]), &[], false));
    }

    #[test]
    fn hosts_and_cookies_are_read_strictly() {
        assert_eq!(host(&headers(&[("host", "[fe80::1]:443")])), Some("[fe80::1]:443"));
        assert_eq!(host(&headers(&[("host", "a'; rm -rf /")])), None);
        assert_eq!(cookie(&headers(&[("cookie", "a=1; xid=abc")]), "xid"), Some("abc"));
        assert_eq!(cookie(&headers(&[("cookie", "axid=1")]), "xid"), None);
    }
}
