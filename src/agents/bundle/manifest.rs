//! What a bundle has, as it is kept beside it.

use outpost_wire::id::Hash384;
use serde::{Deserialize, Serialize};

use super::parts::{self, Part};

/// Name of the manifest in the data folder's `agents`. It also says which folder is the bundle's, so a new
/// bundle takes the place of the old one in the moment this file is replaced.
pub(super) const FILE_NAME: &str = "official.json";
/// What names of bundles' folders begin with.
pub(super) const FOLDER_PREFIX: &str = "meshcentral-";
/// What names of folders begin with while they are being filled.
pub(super) const STAGING_PREFIX: &str = ".import-";
/// Longest manifest read, in bytes. A real one has about 30 KiB.
pub(super) const LARGEST: u64 = 1 << 20;

/// A bundle's contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of the package.
    pub version: String,
    /// When it was imported, Unix ms.
    pub imported: i64,
    /// Name of its folder, beside the manifest.
    pub folder: String,
    /// Its files, by path.
    pub files: Vec<BundleFile>,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleFile {
    /// Path inside the package.
    pub path: String,
    /// What it is for.
    pub part: Part,
    /// Architecture numbers of an agent (agent-protocol §2.6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<u32>,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// What names the executable whatever it carries (agent-protocol §2.3), for agents.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_hash")]
    pub executable_hash: Option<Hash384>,
    /// SHA-384 of the whole file, for agents.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_hash")]
    pub file_hash: Option<Hash384>,
    /// When it was built, Unix seconds, as far as the package says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<i64>,
}

impl Manifest {
    /// Whether every file is one that a bundle may have, so that no path leads elsewhere.
    pub(super) fn is_sound(&self) -> bool {
        self.folder.starts_with(FOLDER_PREFIX)
            && !self.folder.contains(['/', '\0'])
            && self.files.iter().all(|file| {
                Part::of(&file.path) == Some(file.part) && parts::architectures(&file.path) == file.ids
            })
    }

    /// The file of an agent.
    pub fn agent(&self, id: u32) -> Option<&BundleFile> {
        self.files.iter().find(|file| file.part == Part::Agent && file.ids.contains(&id))
    }

    /// The file at a path of the package.
    pub fn file(&self, path: &str) -> Option<&BundleFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

mod optional_hash {
    use outpost_wire::id::Hash384;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(hash: &Option<Hash384>, serializer: S) -> Result<S::Ok, S::Error> {
        match hash {
            Some(hash) => serializer.serialize_str(&hash.to_hex()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Hash384>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|hex| Hash384::from_hex(&hex).map_err(serde::de::Error::custom))
            .transpose()
    }
}
