//! Where a port relay leads to, as seen from the device.

use std::fmt;

use serde_json::{Map, Value};

use crate::auth::shares::SharedPort;

/// Longest name or address.
const LONGEST: usize = 255;

/// A TCP or UDP port on the device, or on a machine that the device reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTarget {
    /// `tcp` or `udp`.
    pub kind: PortKind,
    /// Port, not 0.
    pub port: u16,
    /// Name or address; the device itself when none.
    pub address: Option<String>,
}

/// Which kind of port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A connection.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Why a target is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Not a port.
    #[error("{0}: expected a port from 1 to 65535")]
    Port(&'static str),
    /// Not a name or address.
    #[error("{0}: expected a name or address")]
    Address(&'static str),
}

impl fmt::Display for PortTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PortKind::Tcp => "TCP",
            PortKind::Udp => "UDP",
        };
        write!(out, "{kind} port {}", self.port)?;
        self.address.as_ref().map_or(Ok(()), |host| write!(out, " of {host}"))
    }
}

impl PortTarget {
    /// The target that named values give, if they name one.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn read(value: impl Fn(&str) -> Option<String>) -> Result<Option<PortTarget>, PortError> {
        for (kind, port, address) in
            [(PortKind::Tcp, "tcpport", "tcpaddr"), (PortKind::Udp, "udpport", "udpaddr")]
        {
            let Some(text) = value(port) else { continue };
            let number = text.parse().ok().filter(|port| *port != 0).ok_or(PortError::Port(port))?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
            let host = value(address).filter(|host| !host.is_empty());
            if host.as_ref().is_some_and(|host| host.len() > LONGEST || !host.bytes().all(plain)) {
                return Err(PortError::Address(address));
            }
            return Ok(Some(PortTarget { kind, port: number, address: host }));
        }
        Ok(None)
    }

    /// The target of a share.
    ///
    /// # Errors
    /// [`PortError`]: its host is none.
    pub fn shared(port: &SharedPort) -> Result<PortTarget, PortError> {
        let target = PortTarget::read(|name| match name {
            "tcpport" => Some(port.port.to_string()),
            "tcpaddr" => port.host.clone(),
            _ => None,
        })?;
        target.ok_or(PortError::Port("port"))
    }

    /// Adds the target to a request to an agent. The port is a text there, as agents are used to.
    pub fn add_to(&self, request: &mut Map<String, Value>) {
        let (port, address) = match self.kind {
            PortKind::Tcp => ("tcpport", "tcpaddr"),
            PortKind::Udp => ("udpport", "udpaddr"),
        };
        request.insert(port.into(), self.port.to_string().into());
        let host = self.address.clone().unwrap_or_else(|| "127.0.0.1".into());
        request.insert(address.into(), host.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<PortTarget>, PortError> {
        PortTarget::read(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn targets_are_read_or_refused() {
        assert_eq!(read(&[("id", "x")]), Ok(None));
        let ssh = read(&[("tcpport", "22")]).expect("a target").expect("one");
        assert_eq!((ssh.kind, ssh.port, ssh.address.clone()), (PortKind::Tcp, 22, None));
        let mut request = Map::new();
        ssh.add_to(&mut request);
        assert_eq!((&request["tcpport"], &request["tcpaddr"]), (&"22".into(), &"127.0.0.1".into()));
        let dns = read(&[("udpport", "53"), ("udpaddr", "192.0.2.1")]).expect("a target").expect("one");
        assert_eq!((dns.kind, dns.address.as_deref()), (PortKind::Udp, Some("192.0.2.1")));
        for bad in ["0", "65536", "-1", "ssh", ""] {
            assert_eq!(read(&[("tcpport", bad)]), Err(PortError::Port("tcpport")), "{bad}");
        }
        assert_eq!(read(&[("tcpport", "1"), ("tcpaddr", "a b")]), Err(PortError::Address("tcpaddr")));
    }
}
