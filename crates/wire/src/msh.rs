//! `.msh` files: the settings that an agent is installed with, and how they hide in its executable
//! (agent-protocol §2).

mod binary;

pub use binary::{
    Attachment, Embedding, MAX_EMBEDDED, MAX_SCRIPT, embed, embedding, executable_hash, extract,
};

use std::{fmt, io};

use crate::{
    discovery::DiscoveryKey,
    id::{Hash384, IdError},
};

/// Longest file, in bytes. One with all translations has about 35 KiB.
pub const MAX_MSH: usize = 262_144;
/// Most lines that set something.
const MAX_ENTRIES: usize = 1024;
/// Longest server URL, in bytes.
const MAX_URL: usize = 1023;
/// Most servers in one file.
const MAX_SERVERS: usize = 32;

/// Why settings, or an executable with settings, were refused.
#[derive(Debug, thiserror::Error)]
pub enum MshError {
    /// Longer than [`MAX_MSH`].
    #[error("the settings have {0} bytes, more than {MAX_MSH}")]
    TooLong(usize),
    /// More lines than any real file.
    #[error("the settings have more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// A key that is needed is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value is not what its key needs.
    #[error("{key}: {reason}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The numbers of servers and of their ids differ.
    #[error("MeshServer names {servers} servers, ServerID {ids}")]
    Unpaired {
        /// Servers named.
        servers: usize,
        /// Ids given.
        ids: usize,
    },
    /// A Windows executable whose signature leaves no room for settings.
    #[error("the executable cannot carry settings: {0}")]
    BadExecutable(&'static str),
    /// Reading failed.
    #[error("reading the executable: {0}")]
    Io(#[from] io::Error),
}

/// One server to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub address: ServerAddress,
    /// Who it is.
    pub id: Hash384,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// On the local network, to be found by discovery.
    Local,
    /// At this `wss://` (or `ws://`) URL.
    Url(String),
}

/// The settings in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Msh {
    /// Keys and values. Of a repeated key the last one counts.
    pub entries: Vec<(String, String)>,
}

impl Msh {
    /// Reads a file: `key=value` lines; lines that begin with `#` or have no `=` are ignored, and so is the key
    /// `CoreModule`, which no file may set.
    pub fn parse(text: &str) -> Result<Self, MshError> {
        if text.len() > MAX_MSH {
            return Err(MshError::TooLong(text.len()));
        }
        let mut entries = Vec::new();
        for line in text.split('\n').filter(|line| !line.starts_with('#')) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let (key, value) = (key.trim(), value.trim());
            let unfit = |c: char| c.is_control() && c != '\t';
            if key.is_empty()
                || key.starts_with('#')
                || key == "CoreModule"
                || key.contains(unfit)
                || value.contains(unfit)
            {
                continue;
            }
            if entries.len() == MAX_ENTRIES {
                return Err(MshError::TooManyEntries);
            }
            entries.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self { entries })
    }

    /// The value of a key; an empty one counts as absent, since it deletes the key in the agent.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.entries.iter().rev().find(|(name, _)| name == key)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// Adds a line. Characters that would make it two lines, or a comment, become spaces or vanish.
    pub fn push(&mut self, key: &str, value: &str) {
        let plain = |text: &str| text.replace(|c: char| c.is_control(), " ").trim().to_owned();
        let key = plain(key).replace('=', "");
        self.entries.push((key.trim_start_matches('#').trim().to_owned(), plain(value)));
    }

    /// `MeshID`: the device group.
    pub fn group_id(&self) -> Result<Hash384, MshError> {
        let value = self.get("MeshID").ok_or(MshError::Missing("MeshID"))?;
        let digits = value.strip_prefix("0x").unwrap_or(value);
        Hash384::from_hex(digits).map_err(|e| bad("MeshID", &e))
    }

    /// `ServerID`: who the server is; of several the first.
    pub fn server_id(&self) -> Result<Hash384, MshError> {
        Ok(self.server_ids()?[0])
    }

    fn server_ids(&self) -> Result<Vec<Hash384>, MshError> {
        let value = self.get("ServerID").ok_or(MshError::Missing("ServerID"))?;
        value
            .split(',')
            .take(MAX_SERVERS)
            .map(|id| Hash384::from_hex(id.trim()).map_err(|e| bad("ServerID", &e)))
            .collect()
    }

    /// `MeshServer` with `ServerID`: the servers in the order of the file. One id may serve for all of them,
    /// which is how `local,wss://…` says that both lead to the same server.
    pub fn servers(&self) -> Result<Vec<Server>, MshError> {
        let value = self.get("MeshServer").ok_or(MshError::Missing("MeshServer"))?;
        let addresses = value
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .take(MAX_SERVERS)
            .map(server_address)
            .collect::<Result<Vec<_>, _>>()?;
        let mut ids = self.server_ids()?;
        // A list that says the same id again and again says it once, whatever the number of addresses.
        if ids.iter().all(|id| Some(id) == ids.first()) {
            ids.truncate(1);
        }
        if addresses.is_empty() {
            return Err(MshError::Missing("MeshServer"));
        }
        if ids.len() != 1 && ids.len() != addresses.len() {
            return Err(MshError::Unpaired { servers: addresses.len(), ids: ids.len() });
        }
        let ids = ids.iter().cycle();
        Ok(addresses.into_iter().zip(ids).map(|(address, &id)| Server { address, id }).collect())
    }

    /// `DiscoveryKey`: what hides datagrams on the local network.
    pub fn discovery_key(&self) -> Option<DiscoveryKey> {
        self.get("DiscoveryKey").map(DiscoveryKey::from_passphrase)
    }

    /// `ServerTlsCertHash`: a TLS certificate to be trusted from the first connection.
    pub fn tls_hash(&self) -> Result<Option<Hash384>, MshError> {
        self.get("ServerTlsCertHash")
            .map(|value| {
                let digits = value.strip_prefix("0x").unwrap_or(value);
                Hash384::from_hex(digits).map_err(|e| bad("ServerTlsCertHash", &e))
            })
            .transpose()
    }
}

fn bad(key: &'static str, error: &IdError) -> MshError {
    MshError::BadValue { key, reason: error.to_string() }
}

fn server_address(text: &str) -> Result<ServerAddress, MshError> {
    if text == "local" {
        return Ok(ServerAddress::Local);
    }
    let websocket = text.starts_with("wss://") || text.starts_with("ws://");
    if websocket && text.len() <= MAX_URL && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(ServerAddress::Url(text.to_owned()))
    } else {
        let reason = "each server is `local` or a wss:// URL of at most 1023 bytes".into();
        Err(MshError::BadValue { key: "MeshServer", reason })
    }
}

/// An empty line, then `key=value` lines that end with CR LF, as MeshCentral writes it.
impl fmt::Display for Msh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\r\n")?;
        self.entries.iter().try_for_each(|(key, value)| write!(f, "{key}={value}\r\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(servers: &str, ids: &str) -> Msh {
        let mut msh = Msh::default();
        msh.push("MeshName", "Büro\r\nServerID=x");
        msh.push("MeshType", "2");
        msh.push("MeshID", &format!("0x{}", Hash384::of(b"group").to_hex()));
        msh.push("ServerID", ids);
        msh.push("MeshServer", servers);
        msh
    }

    #[test]
    fn files_make_the_round_trip() {
        let id = Hash384::of(b"server");
        let msh = sample("local", &id.to_hex());
        let text = msh.to_string();
        assert!(text.starts_with("\r\nMeshName=Büro  ServerID=x\r\nMeshType=2\r\nMeshID=0x"), "{text}");
        assert_eq!(Msh::parse(&text).unwrap(), msh);
        assert_eq!(msh.group_id().unwrap(), Hash384::of(b"group"));
        assert_eq!(msh.server_id().unwrap(), id);
        assert_eq!(msh.servers().unwrap(), [Server { address: ServerAddress::Local, id }]);
        assert_eq!(msh.discovery_key(), None);
        assert_eq!(msh.tls_hash().unwrap(), None);
    }

    #[test]
    fn lines_that_say_nothing_are_ignored() {
        let text = "\r\n#MeshID=1\r\n a = b=c \r\nnothing\r\nCoreModule=x\r\na=\r\nb=1\r\nb=2\n=5\nc=\u{0}\n";
        let msh = Msh::parse(text).unwrap();
        assert_eq!(msh.get("a"), None, "an empty value deletes");
        assert_eq!(msh.get("b"), Some("2"));
        assert_eq!(msh.entries[0], ("a".into(), "b=c".into()));
        assert_eq!(msh.entries.len(), 4);
        assert!(matches!(Msh::parse(&" ".repeat(MAX_MSH + 1)), Err(MshError::TooLong(_))));
        assert!(matches!(Msh::parse(&"a=b\n".repeat(MAX_ENTRIES + 1)), Err(MshError::TooManyEntries)));
    }

    #[test]
    fn several_servers() {
        let (a, b) = (Hash384::of(b"a"), Hash384::of(b"b"));
        let url = "wss://outpost.example:443/agent.ashx";
        let one = sample(&format!("local, {url}"), &a.to_hex()).servers().unwrap();
        assert_eq!(one[0], Server { address: ServerAddress::Local, id: a });
        assert_eq!(one[1], Server { address: ServerAddress::Url(url.into()), id: a });
        let two =
            sample(&format!("{url},local"), &format!("{},{}", a.to_hex(), b.to_hex())).servers().unwrap();
        assert_eq!((two[0].id, two[1].id), (a, b));
        let three = sample(&format!("{url},{url},local"), &format!("{},{}", a.to_hex(), b.to_hex()));
        assert!(matches!(three.servers(), Err(MshError::Unpaired { servers: 3, ids: 2 })));
        assert!(sample("http://x/", &a.to_hex()).servers().is_err());
        assert!(sample(",", &a.to_hex()).servers().is_err());
        assert!(sample("local", "12").servers().is_err());
        assert!(matches!(Msh::default().servers(), Err(MshError::Missing("MeshServer"))));
        assert!(matches!(Msh::default().group_id(), Err(MshError::Missing("MeshID"))));
    }
}
