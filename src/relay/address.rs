//! The address of a tunnel: `*/meshrelay.ashx?p=1&nodeid=…&id=…&rauth=…`.

use outpost_wire::id::{DeviceId, base64x_encode};
use outpost_wire::random;

/// Longest id of a tunnel.
pub const LONGEST_ID: usize = 128;
/// Longest address.
const LONGEST: usize = 4096;

/// Why an address is not one of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelAddressError {
    /// Not `*/meshrelay.ashx?…`. Anything else would have the agent dial elsewhere.
    #[error("expected `*/meshrelay.ashx?…`")]
    Elsewhere,
    /// No usable id.
    #[error("expected an `id` of 1 to {LONGEST_ID} letters, digits, `@`, `$`, `-`, `_`, `.`")]
    Id,
    /// The protocol is not a number.
    #[error("expected a number as `p`")]
    Protocol,
}

/// A new id of a tunnel: 15 random bytes.
pub fn new_id() -> String {
    base64x_encode(&random::bytes::<15>())
}

/// A tunnel's address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelUrl {
    /// What both halves share.
    pub id: String,
    /// Protocol number.
    pub protocol: Option<u16>,
    /// The device it names, full id or bare.
    pub device: Option<String>,
}

impl TunnelUrl {
    /// Takes an address apart that a viewer sends for the agent.
    ///
    /// # Errors
    /// [`TunnelAddressError`].
    pub fn parse(value: &str) -> Result<TunnelUrl, TunnelAddressError> {
        let rest = value
            .strip_prefix("*/")
            .filter(|_| value.len() <= LONGEST)
            .ok_or(TunnelAddressError::Elsewhere)?;
        let (page, query) = rest.split_once('?').ok_or(TunnelAddressError::Elsewhere)?;
        let name = page.rsplit_once('/').map_or(page, |(_, name)| name);
        if name != "meshrelay.ashx" || page.matches('/').count() > 1 {
            return Err(TunnelAddressError::Elsewhere);
        }
        TunnelUrl::from_query(query, || None)
    }

    /// Takes the query of either half apart. Where the server starts a tunnel the viewer needs no id: `made`
    /// gives one.
    ///
    /// # Errors
    /// [`TunnelAddressError`].
    pub fn from_query(
        query: &str,
        made: impl FnOnce() -> Option<String>,
    ) -> Result<TunnelUrl, TunnelAddressError> {
        let (mut id, mut protocol, mut device) = (None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "id" => id = Some(value.into_owned()),
                "p" => protocol = Some(value.parse().map_err(|_| TunnelAddressError::Protocol)?),
                "nodeid" => device = Some(value.into_owned()),
                _ => {}
            }
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@$-_.".contains(&byte);
        let id = id
            .or_else(made)
            .filter(|id| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain))
            .ok_or(TunnelAddressError::Id)?;
        Ok(TunnelUrl { id, protocol, device })
    }

    /// The address that the agent is to dial: rebuilt, so that nothing of the viewer's text but the id and the
    /// protocol reaches it.
    pub fn for_agent(&self, device: &DeviceId, rauth: &str) -> String {
        for_agent("meshrelay.ashx", self.protocol, device, &self.id, rauth)
    }
}

/// The address of a page of this server that an agent is to dial.
pub(super) fn for_agent(
    page: &str,
    protocol: Option<u16>,
    device: &DeviceId,
    id: &str,
    rauth: &str,
) -> String {
    let protocol = protocol.map_or(String::new(), |protocol| format!("p={protocol}&"));
    format!("*/{page}?{protocol}nodeid={device}&id={id}&rauth={rauth}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_relay_is_dialled() {
        let url =
            TunnelUrl::parse("*/meshrelay.ashx?p=1&nodeid=node//abc&id=x1&rauth=C@=").expect("an address");
        assert_eq!(url, TunnelUrl { id: "x1".into(), protocol: Some(1), device: Some("node//abc".into()) });
        assert!(TunnelUrl::parse("*/dom/meshrelay.ashx?id=x").is_ok());
        for elsewhere in [
            "wss://evil.example/meshrelay.ashx?id=x",
            "*evil.example/meshrelay.ashx?id=x",
            "*/../agent.ashx?id=x",
            "*/a/b/meshrelay.ashx?id=x",
            "*/meshrelay.ashx",
            "",
        ] {
            assert_eq!(TunnelUrl::parse(elsewhere), Err(TunnelAddressError::Elsewhere), "{elsewhere}");
        }
        assert_eq!(TunnelUrl::parse("*/meshrelay.ashx?p=1"), Err(TunnelAddressError::Id));
        assert_eq!(TunnelUrl::parse("*/meshrelay.ashx?id=a%20b"), Err(TunnelAddressError::Id));
        assert_eq!(TunnelUrl::parse("*/meshrelay.ashx?id=a&p=x"), Err(TunnelAddressError::Protocol));
    }

    #[test]
    fn the_agents_address_is_rebuilt() {
        let device = DeviceId::new("", &"a".repeat(64)).expect("an id");
        let url = TunnelUrl::parse("*/meshrelay.ashx?p=1&id=x1&rauth=theirs&evil=1").expect("an address");
        let built = url.for_agent(&device, "OURS");
        assert_eq!(built, format!("*/meshrelay.ashx?p=1&nodeid={device}&id=x1&rauth=OURS"));
    }
}
