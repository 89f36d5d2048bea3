//! Addresses on the web, read strictly.

use hyper::Uri;

/// Longest address, in bytes.
const LONGEST: usize = 2048;

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address; expected http:// or https://")]
pub struct UrlError(String);

/// An address with `http` or `https` and a host, without a name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    host: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let bad = || UrlError(text.chars().filter(|c| !c.is_control()).take(100).collect());
        if text.len() > LONGEST {
            return Err(bad());
        }
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.as_str().contains('@') {
            return Err(bad());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?.to_owned();
        Ok(Url { uri, host })
    }

    /// The address that a text means on a page of this one: whole, or a path, or a name beside it.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn join(&self, text: &str) -> Result<Url, UrlError> {
        if text.contains("://") {
            return Url::parse(text);
        }
        let (scheme, authority) = (self.scheme(), self.authority());
        let folder = self.uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        match text.strip_prefix('/') {
            Some(path) => Url::parse(&format!("{scheme}://{authority}/{path}")),
            None => Url::parse(&format!("{scheme}://{authority}{folder}/{text}")),
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.uri.scheme_str().unwrap_or_default()
    }

    /// Name or address of the server; an IPv6 one in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where one is named.
    pub fn port(&self) -> Option<u16> {
        self.uri.port_u16()
    }

    /// `host[:port]`.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.uri.fmt(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly_and_joined() {
        for bad in [
            "",
            "outpost.raucb",
            "ftp://x/y",
            "file:///etc/passwd",
            "http://",
            "http://me:secret@x/",
            "http://a b/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
        let index = Url::parse(" https://updates.example:8443/stable/index.json?a=b ").expect("an address");
        for (text, whole) in [
            ("outpost.raucb", "https://updates.example:8443/stable/outpost.raucb"),
            ("/x/y", "https://updates.example:8443/x/y"),
            ("http://[2001:db8::1]/z", "http://[2001:db8::1]/z"),
        ] {
            assert_eq!(index.join(text).expect("joined").to_string(), whole);
        }
        assert!(index.join("file:///etc/passwd").is_err());
    }
}
