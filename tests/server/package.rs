//! A package as MeshCentral's is laid out, small and made up, for tests of imports.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use outpost_wire::id::Hash384;
use tar::{Builder, EntryType, Header};

/// The version that a made-up package has.
pub const VERSION: &str = "9.8.7";

/// A package in the making.
#[derive(Clone)]
pub struct Package {
    /// Contents by path inside the package.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Package {
    /// One that can be imported: an agent for Linux, one for Windows, one for macOS and their cores.
    pub fn new() -> Package {
        let mut package = Package { files: BTreeMap::new() }
            .with(
                "package.json",
                format!("{{\"name\":\"meshcentral\",\"version\":\"{VERSION}\"}}").as_bytes(),
            )
            .with("LICENSE", b"Free to use.")
            .with("readme.md", b"Not taken.")
            .with("agents/meshagent_x86-64", &executable(b"\x7fELF linux", 150_000))
            .with("agents/MeshService64.exe", &windows())
            .with("agents/meshagent_osx-universal-64", &executable(b"mac", 9000))
            .with("agents/meshcore.js", "var core = \"ü\";".as_bytes())
            .with("agents/meshcore.min.js", b"var core=1;")
            .with("agents/recoverycore.js", b"var recovery = 1;")
            .with("agents/meshcore_diagnostic.js", b"var diagnostic = 1;")
            .with("agents/tinycore.js", b"var tiny = 1;")
            .with("agents/meshinstall-linux.sh", b"#!/bin/sh\r\nwget {{{wgetoptionshttps}}}x\r\n")
            .with("agents/meshinstall-linux.js", b"var msh = {};\nrun(msh);\n")
            .with(
                "agents/agent-translations.json",
                "{\"zh-chs\": {\"ok\": \"好 = yes\"}, \"en\": {}}".as_bytes(),
            )
            .with("agents/MeshService64.pdb", b"Not taken.");
        for (name, text) in [
            ("amt-lme.js", "amt('\"\\');\r\n\tü\u{7}"),
            ("smbios.js", "smbios();"),
            ("win-console.js", "win();"),
            ("linux-dhcp.js", "linux();"),
            ("sysinfo.js", "info();"),
            ("words.json", "{\"ja\": \"はい\", \"q\": \"it's\"}"),
        ] {
            package = package.with(&format!("agents/modules_meshcore/{name}"), text.as_bytes());
        }
        package.with("agents/modules_meshcore_min/sysinfo.min.js", b"i();")
    }

    /// Adds or replaces a file.
    #[must_use]
    pub fn with(mut self, path: &str, bytes: &[u8]) -> Package {
        self.files.insert(path.to_owned(), bytes.to_vec());
        self
    }

    /// Takes a file away.
    #[must_use]
    pub fn without(mut self, path: &str) -> Package {
        assert!(self.files.remove(path).is_some(), "{path} was there");
        self
    }

    /// With the list of its agents' hashes, as they are now.
    #[must_use]
    pub fn listed(self) -> Package {
        let names =
            [(6, "meshagent_x86-64"), (4, "MeshService64.exe"), (10005, "meshagent_osx-universal-64")];
        let entries: Vec<String> = names
            .iter()
            .filter_map(|(id, name)| {
                let bytes = self.files.get(&format!("agents/{name}"))?;
                Some(format!(
                    "\"{id}\":{{\"filename\":\"{name}\",\"hash\":\"{}\",\"size\":{},\
                     \"mtime\":\"2024-08-06T15:30:40Z\"}}",
                    Hash384::of(bytes).to_hex(),
                    bytes.len()
                ))
            })
            .collect();
        self.with("agents/hashagents.json", format!("{{{}}}", entries.join(",")).as_bytes())
    }

    /// As npm packs it.
    pub fn tgz(&self) -> Vec<u8> {
        self.packed(|_| {})
    }

    /// As npm packs it, with further entries.
    pub fn packed(&self, more: impl FnOnce(&mut Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, bytes) in &self.files {
            append(&mut builder, &format!("package/{path}"), EntryType::Regular, bytes);
        }
        more(&mut builder);
        builder.into_inner().and_then(GzEncoder::finish).expect("written to memory")
    }

    /// As it lies in `node_modules`.
    pub fn unpack(&self, folder: &Path) {
        for (path, bytes) in &self.files {
            let place = folder.join(path);
            std::fs::create_dir_all(place.parent().expect("a folder")).expect("made");
            std::fs::write(place, bytes).expect("written");
        }
    }
}

/// Adds an entry whatever its name is.
pub fn append<W: Write>(builder: &mut Builder<W>, path: &str, kind: EntryType, bytes: &[u8]) {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.set_link_name("/etc/passwd").expect("short");
    }
    header.set_cksum();
    builder.append(&header, bytes).expect("written to memory");
}

/// Bytes that do not compress away and are no executable of Windows.
pub fn executable(begin: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = begin.to_vec();
    let mut state = 1_u32;
    while bytes.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The least that counts as a 64-bit executable of Windows, not signed.
pub fn windows() -> Vec<u8> {
    let mut file = vec![0; 4096];
    file[..2].copy_from_slice(b"MZ");
    file[60..64].copy_from_slice(&128_u32.to_le_bytes());
    file[128..132].copy_from_slice(b"PE\0\0");
    file[152..154].copy_from_slice(&0x20b_u16.to_le_bytes());
    file
}
