//! Where a server is reached: the parsed form of `wss://host:port/path`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustls::pki_types::ServerName;

/// Longest address accepted (MeshAgent's own limit is 1,023 characters).
const MAX_URL: usize = 1023;

/// Why an address is not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Too long or with characters that no address has.
    #[error("the server address is too long or has characters that do not belong in one")]
    Malformed,
    /// Another scheme than `wss`.
    #[error("{0:?} does not begin with wss:// (an agent speaks to its server by TLS only)")]
    Scheme(String),
    /// No usable host name or number.
    #[error("{0:?} has no valid host")]
    Host(String),
    /// The port is not a number of 1 to 65535.
    #[error("{0:?} has no valid port")]
    Port(String),
}

/// Host, port and path of a secure WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: Host,
    port: u16,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr, u32),
}

impl Endpoint {
    /// Reads `wss://host[:port][/path[?query]]`; IPv6 in brackets, with `%scope` if link-local.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        if url.len() > MAX_URL || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EndpointError::Malformed);
        }
        let rest = url.strip_prefix("wss://").ok_or_else(|| EndpointError::Scheme(url.to_owned()))?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let bad_port = || EndpointError::Port(url.to_owned());
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or_else(|| EndpointError::Host(url.to_owned()))?;
                let port =
                    if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad_port)?) };
                (host, port)
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None => 443,
            Some(text) => text.parse().ok().filter(|&port| port != 0).ok_or_else(bad_port)?,
        };
        let host = Host::parse(host).ok_or_else(|| EndpointError::Host(url.to_owned()))?;
        Ok(Self { host, port, path: path.to_owned() })
    }

    /// The same server at another path (which begins with `/`).
    pub fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// What the TLS client greets the server by.
    pub fn server_name(&self) -> ServerName<'static> {
        match &self.host {
            Host::Name(name) => ServerName::try_from(name.clone()).expect("checked when parsed"),
            Host::Address(address, _) => ServerName::IpAddress((*address).into()),
        }
    }

    /// `host:port` for name resolution or a proxy.
    pub fn authority(&self) -> String {
        match &self.host {
            Host::Address(IpAddr::V6(address), _) => format!("[{address}]:{}", self.port),
            Host::Address(address, _) => format!("{address}:{}", self.port),
            Host::Name(name) => format!("{name}:{}", self.port),
        }
    }

    /// The socket address, where no name has to be resolved.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Name(_) => None,
            Host::Address(IpAddr::V6(address), scope) => {
                Some(SocketAddrV6::new(address, self.port, 0, scope).into())
            }
            Host::Address(address, _) => Some(SocketAddr::new(address, self.port)),
        }
    }

    /// Whether it is an IPv6 number.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.host, Host::Address(IpAddr::V6(_), _))
    }

    /// The request target of the WebSocket upgrade, without a scope (it means nothing to the server).
    pub fn uri(&self) -> Result<http::Uri, EndpointError> {
        format!("wss://{}{}", self.authority(), self.path).parse().map_err(|_| EndpointError::Malformed)
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let (address, scope) = match text.split_once('%') {
            Some((address, scope)) => (address, Some(scope)),
            None => (text, None),
        };
        match (address.parse::<IpAddr>(), scope) {
            (Ok(IpAddr::V6(address)), Some(scope)) => {
                Some(Self::Address(address.into(), scope_number(address, scope)?))
            }
            (Ok(address), None) => Some(Self::Address(address, 0)),
            (Err(_), None) if ServerName::try_from(text).is_ok() => Some(Self::Name(text.to_owned())),
            _ => None,
        }
    }
}

fn scope_number(_address: Ipv6Addr, scope: &str) -> Option<u32> {
    scope.parse().ok().or_else(|| nix::net::if_::if_nametoindex(scope).ok())
}

impl fmt::Display for Endpoint {
    /// Without the query, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "wss://{}{path}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        let endpoint =
            Endpoint::parse("wss://mesh.example.org:4430/dom/agent.ashx?key=secret").expect("name");
        assert_eq!(endpoint.authority(), "mesh.example.org:4430");
        assert_eq!(endpoint.to_string(), "wss://mesh.example.org:4430/dom/agent.ashx");
        assert_eq!(endpoint.socket_address(), None);
        let endpoint = Endpoint::parse("wss://192.168.1.2/agent.ashx").expect("v4");
        assert_eq!(endpoint.socket_address(), Some("192.168.1.2:443".parse().expect("address")));
        let endpoint = Endpoint::parse("wss://[fe80::1%4]:8443/agent.ashx").expect("v6");
        let Some(SocketAddr::V6(address)) = endpoint.socket_address() else { panic!("not v6") };
        assert_eq!((address.port(), address.scope_id()), (8443, 4));
        assert_eq!(endpoint.uri().expect("uri").host(), Some("[fe80::1]"));
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        assert_eq!(Endpoint::parse("http://x/"), Err(EndpointError::Scheme("http://x/".into())));
        assert!(matches!(Endpoint::parse("wss://h:0/"), Err(EndpointError::Port(_))));
        assert!(matches!(Endpoint::parse("wss://h:99999/"), Err(EndpointError::Port(_))));
        assert!(matches!(Endpoint::parse("wss://[::1]x/"), Err(EndpointError::Port(_))));
        for bad in ["wss://", "wss:///x", "wss://a b/", "wss://[::1", "wss://%1/"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Endpoint::parse(&format!("wss://{}/", "a".repeat(2000))), Err(EndpointError::Malformed));
    }
}
