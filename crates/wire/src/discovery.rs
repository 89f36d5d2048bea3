//! How agents find a server on their network: UDP datagrams to multicast groups (agent-protocol §7).
//!
//! Nothing in them is proved; an agent that follows an answer checks the server in the handshake. With a
//! [`DiscoveryKey`] each datagram is `iv[16] ‖ AES-256-CBC`, which hides it and no more.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use aes::Aes256;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};

use crate::{id::Hash384, random, text};

/// The IPv4 group.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 235);
/// The IPv6 group, link-local.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfe);
/// Where servers listen.
pub const SERVER_PORT: u16 = 16989;
/// Where agents listen for announcements.
pub const AGENT_PORT: u16 = 16990;
/// Longest datagram, in bytes: agents take less than 1,024.
pub const MAX_DATAGRAM: usize = 1023;

/// What a tool sends that looks for servers of any identity.
const SCAN: &[u8] = b"MeshServerScan";
const REPLY_START: &str = "MeshCentral2|";
const IV: usize = 16;
/// Hexadecimal digits of a server's id.
const ID_DIGITS: usize = 96;
/// Where the URL begins in a reply: after the start, the id and a bar.
const URL_AT: usize = REPLY_START.len() + ID_DIGITS + 1;

/// The key that hides datagrams.
#[derive(Clone, PartialEq, Eq)]
pub struct DiscoveryKey([u8; 32]);

impl DiscoveryKey {
    /// The key of a passphrase: the first 32 bytes of its SHA-384. Passphrases that begin with `0x` do not
    /// reach MeshAgent unchanged.
    pub fn from_passphrase(passphrase: &str) -> Self {
        let hash = Hash384::of(passphrase.as_bytes());
        Self(*hash.0.first_chunk().expect("48 bytes hold 32"))
    }
}

/// Never the key itself.
impl fmt::Debug for DiscoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiscoveryKey(…)")
    }
}

/// Hides a datagram.
pub fn seal(key: &DiscoveryKey, datagram: &[u8]) -> Vec<u8> {
    let iv: [u8; IV] = random::bytes();
    let cipher = cbc::Encryptor::<Aes256>::new_from_slices(&key.0, &iv).expect("32 and 16 bytes");
    [&iv[..], &cipher.encrypt_padded_vec::<Pkcs7>(datagram)].concat()
}

/// Reveals a datagram; none if it was not hidden with this key or is too long to be one.
pub fn open(key: &DiscoveryKey, datagram: &[u8]) -> Option<Vec<u8>> {
    if datagram.len() > MAX_DATAGRAM + 2 * IV {
        return None;
    }
    let (iv, body) = datagram.split_first_chunk::<IV>()?;
    let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&key.0, iv).ok()?;
    cipher.decrypt_padded_vec::<Pkcs7>(body).ok()
}

/// What an agent sends to find its server: the 96 digits of the id, upper case, and nothing else.
pub fn query(server_id: &Hash384) -> Vec<u8> {
    server_id.to_hex().into_bytes()
}

/// What a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// An agent looks for the server with this id. Others stay silent.
    Agent(Hash384),
    /// A tool looks for any server.
    Scan,
}

/// Reads a question. None for anything else: magic packets, noise, questions hidden with a key.
pub fn parse_request(datagram: &[u8]) -> Option<Request> {
    if datagram == SCAN {
        return Some(Request::Scan);
    }
    if datagram.len() != ID_DIGITS {
        return None;
    }
    Hash384::from_hex(std::str::from_utf8(datagram).ok()?).ok().map(Request::Agent)
}

/// What a server answers an agent, and announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its id.
    pub server_id: Hash384,
    /// Where its agents connect, with a literal `%s` for the address that the reply came from.
    pub url_template: String,
}

impl Reply {
    /// The answer of a server whose agents connect to this port. `v6` for answers over IPv6.
    pub fn of_server(server_id: Hash384, port: u16, v6: bool) -> Self {
        let host = if v6 { "[%s]" } else { "%s" };
        Self { server_id, url_template: format!("wss://{host}:{port}/agent.ashx") }
    }

    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        format!("{REPLY_START}{}|{}", self.server_id.to_hex(), self.url_template).into_bytes()
    }

    /// Reads an answer. The id must be in upper case, the URL `wss:` or `ws:`, in ASCII.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > MAX_DATAGRAM {
            return None;
        }
        let text = std::str::from_utf8(datagram).ok()?;
        let id = text.strip_prefix(REPLY_START)?.get(..ID_DIGITS)?;
        let server_id = Hash384::from_hex(id).ok().filter(|hash| hash.to_hex() == id)?;
        if text.as_bytes().get(URL_AT - 1) != Some(&b'|') {
            return None;
        }
        let url = text.get(URL_AT..)?;
        let legal = url.bytes().all(|b| b.is_ascii_graphic() && b != b'|');
        let websocket = url.starts_with("wss://") || url.starts_with("ws://");
        (legal && websocket).then(|| Self { server_id, url_template: url.to_owned() })
    }

    /// Where to connect, given where the reply came from.
    pub fn url(&self, from: SocketAddr) -> String {
        let host = match from {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            // Link-local addresses mean nothing without their interface.
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("[{}%{}]", v6.ip(), v6.scope_id()),
            SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
                Some(v4) => v4.to_string(),
                None => format!("[{}]", IpAddr::V6(*v6.ip())),
            },
        };
        // The address brings its own brackets, whatever the server thought the family was.
        self.url_template.replacen("[%s]", "%s", 1).replacen("%s", &host, 1)
    }
}

/// What a server answers a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanReply {
    /// Its id and URL; here the host may be its name.
    pub reply: Reply,
    /// Its name, for people.
    pub name: String,
    /// A description, for people.
    pub info: String,
}

impl ScanReply {
    /// The datagram. Bars in the texts become spaces; texts are shortened to what fits.
    pub fn encode(&self) -> Vec<u8> {
        let plain =
            |text: &str| text::shortened(text, 255).replace(|c: char| c == '|' || c.is_control(), " ");
        let mut out = self.reply.encode();
        out.extend(format!("|{}|{}", plain(&self.name), plain(&self.info)).into_bytes());
        out
    }

    /// Reads an answer.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > MAX_DATAGRAM {
            return None;
        }
        let text = std::str::from_utf8(datagram).ok()?;
        let url_len = text.get(URL_AT..)?.find('|')?;
        let (reply, rest) = text.split_at(URL_AT + url_len);
        let (name, info) = rest[1..].split_once('|')?;
        Some(Self {
            reply: Reply::parse(reply.as_bytes())?,
            name: text::line(name, 255).ok()?,
            info: text::line(info, 255).ok()?,
        })
    }
}

/// The datagram of a tool that looks for servers.
pub fn scan() -> Vec<u8> {
    SCAN.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> Hash384 {
        Hash384::of(b"server")
    }

    #[test]
    fn questions() {
        assert_eq!(query(&id()).len(), 96);
        assert_eq!(parse_request(&query(&id())), Some(Request::Agent(id())));
        assert_eq!(parse_request(&scan()), Some(Request::Scan));
        let magic_packet = [[0xff; 6].to_vec(), [1, 2, 3, 4, 5, 6].repeat(16)].concat();
        for other in [&b""[..], b"MeshServerScan2", &[b'G'; 96], &[b'A'; 95], &[0xff; 96], &magic_packet] {
            assert_eq!(parse_request(other), None);
        }
    }

    #[test]
    fn answers_take_the_address_they_came_from() {
        let v4 = Reply::of_server(id(), 4443, false);
        assert_eq!(
            v4.encode(),
            format!("MeshCentral2|{}|wss://%s:4443/agent.ashx", id().to_hex()).into_bytes()
        );
        assert_eq!(v4.encode()[URL_AT..URL_AT + 4], *b"wss:");
        assert_eq!(URL_AT, 110);
        assert_eq!(Reply::parse(&v4.encode()), Some(v4.clone()));
        let from_v4: SocketAddr = "10.1.2.3:16989".parse().unwrap();
        let from_v6: SocketAddr = "[fe80::1%4]:16989".parse().unwrap();
        let from_global: SocketAddr = "[2001:db8::1]:16989".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.1.2.3]:16989".parse().unwrap();
        let v6 = Reply::of_server(id(), 4443, true);
        assert_eq!(v6.url_template, "wss://[%s]:4443/agent.ashx");
        for reply in [v4, v6] {
            assert_eq!(reply.url(from_v4), "wss://10.1.2.3:4443/agent.ashx");
            assert_eq!(reply.url(from_v6), "wss://[fe80::1%4]:4443/agent.ashx");
            assert_eq!(reply.url(from_global), "wss://[2001:db8::1]:4443/agent.ashx");
            assert_eq!(reply.url(mapped), "wss://10.1.2.3:4443/agent.ashx");
        }
    }

    #[test]
    fn tools_get_a_name_and_a_description() {
        let reply = Reply { server_id: id(), url_template: "wss://outpost.local:443/agent.ashx".into() };
        let scan = ScanReply { reply, name: "Büro|1".into(), info: "Outpost".into() };
        let read = ScanReply::parse(&scan.encode()).unwrap();
        assert_eq!((read.name.as_str(), read.info.as_str()), ("Büro 1", "Outpost"));
        assert_eq!(read.reply, scan.reply);
        assert_eq!(Reply::parse(&scan.encode()), None, "an agent takes no further fields");
        assert_eq!(ScanReply::parse(&scan.reply.encode()), None);
    }

    #[test]
    fn malformed_answers_are_dropped() {
        let hex = id().to_hex();
        for text in [
            String::new(),
            "MeshCentral2|".into(),
            format!("MeshCentral2|{hex}"),
            format!("MeshCentral2|{}|wss://%s:1/", hex.to_lowercase()),
            format!("MeshCentral2|{hex};wss://%s:1/"),
            format!("MeshCentral2|{hex}|https://%s:1/"),
            format!("MeshCentral2|{hex}|wss://a b/"),
            format!("MeshCentral2|{hex}|wss://%s/{}", "a".repeat(1000)),
            format!("MeshCentral3|{hex}|wss://%s:1/"),
        ] {
            assert_eq!(Reply::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Reply::parse(&[&b"MeshCentral2|"[..], &"é".repeat(200).into_bytes()].concat()), None);
    }

    #[test]
    fn hidden_datagrams() {
        let key = DiscoveryKey::from_passphrase("correct horse");
        let hidden = seal(&key, &query(&id()));
        assert_eq!(hidden.len(), 128, "as observed of a real agent");
        assert_eq!(parse_request(&open(&key, &hidden).unwrap()), Some(Request::Agent(id())));
        assert_eq!(parse_request(&hidden), None);
        let other = DiscoveryKey::from_passphrase("wrong horse");
        assert_eq!(open(&other, &hidden).and_then(|d| parse_request(&d)), None);
        assert_eq!(open(&key, &query(&id())).and_then(|d| parse_request(&d)), None, "plain ones are dropped");
        for bad in [&hidden[..127], &hidden[..16], &hidden[..3], &[0; 4096]] {
            assert_eq!(open(&key, bad), None);
        }
        // Key derivation, checked against another implementation.
        assert_eq!(crate::id::hex_upper(&key.0[..8]), DERIVED);
    }
    const DERIVED: &str = "02B20A6F2EBB1360";
}
