//! Archives that are made for a download: a zipped agent, the installer package for macOS.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use outpost_wire::id::Hash384;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::bundle::{Bundle, BundleFile};

/// Most entries of the macOS packager. The real one has 32.
const MOST_ENTRIES: usize = 512;
/// Most bytes of one of its entries, unpacked. The largest real one has 190 KiB.
const LARGEST_ENTRY: u64 = 4 << 20;
/// The folder in it that is the package.
const PACKAGE: &str = "MeshAgent.mpkg/";
/// Where the agent and its settings go.
const CONTENTS: &str = "MeshAgent.mpkg/Contents/Packages/internal.pkg/Contents/";

/// A file without a name, so that it is gone when it is closed, however that happens.
fn nameless(bundle: &Bundle) -> io::Result<File> {
    let path = bundle.folder().join(format!(".made-{}", &Hash384::random().to_hex()[..16]));
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn deflated(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(mode)
}

/// What the agents' installers say, by language, as one line of JSON. The installer that is a script does not
/// start without it.
///
/// # Errors
/// When the bundle cannot be read.
pub fn translations(bundle: &Bundle) -> io::Result<String> {
    let text = bundle.read("agents/agent-translations.json")?.unwrap_or_default();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut languages: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(text).unwrap_or_default();
    // Agents know Chinese by its script.
    for (name, known_as) in [("zh-chs", "zh-hans"), ("zh-cht", "zh-hant")] {
        if let Some(words) = languages.remove(name) {
            languages.insert(known_as.into(), words);
        }
    }
    languages.entry("en").or_insert_with(|| serde_json::json!({}));
    Ok(serde_json::Value::Object(languages).to_string())
}

/// Where the agent lies in a zip file with the single entry `meshagent`; it is made when it is first asked for.
///
/// # Errors
/// When the agent cannot be read or the archive not written.
pub fn zipped(bundle: &Bundle, agent: &BundleFile) -> io::Result<PathBuf> {
    let path = bundle.folder().join(format!("{}.zip", agent.path));
    if path.exists() {
        return Ok(path);
    }
    let new = path.with_extension("zip.new");
    let mut zip = ZipWriter::new(
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?,
    );
    zip.start_file("meshagent", deflated(0o755))?;
    io::copy(&mut File::open(bundle.place(agent))?, &mut zip)?;
    zip.finish()?.sync_all()?;
    fs::rename(&new, &path)?;
    Ok(path)
}

fn rewound(zip: ZipWriter<File>) -> io::Result<File> {
    let mut file = zip.finish()?;
    file.flush()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// What stands in the texts of the macOS package.
pub struct MacPackage<'a> {
    /// Name of the device group, for people.
    pub group: &'a str,
    /// Who runs the server, for people.
    pub title: &'a str,
    /// The settings.
    pub settings: &'a str,
}

/// The installer package for macOS in a zip file; none if the bundle has no packager.
///
/// # Errors
/// When the packager is damaged, or something cannot be read or written.
pub fn for_mac(bundle: &Bundle, agent: &BundleFile, what: &MacPackage<'_>) -> io::Result<Option<File>> {
    let Some(packager) = bundle.manifest.file("agents/MeshAgentOSXPackager.zip") else { return Ok(None) };
    let mut source = ZipArchive::new(File::open(bundle.place(packager))?)?;
    if source.len() > MOST_ENTRIES {
        return Err(io::Error::other("the packager has too many entries"));
    }
    // The text stands in a CDATA section.
    let plain = |text: &str| text.replace(['[', ']'], "");
    let welcome = format!(
        "This installs the agent for \"{}\" of {}. Whoever administers that server will be able to see and \
         control this computer.\n",
        plain(what.group),
        plain(what.title)
    );
    let kib = (agent.size + what.settings.len() as u64) / 1024;
    let marks = [
        ("###DISPLAYNAME###", "Mesh Agent".to_owned()),
        ("###WELCOMEMSG###", welcome),
        ("###INSTALLSIZE###", kib.to_string()),
        ("###SERVICENAME###", "meshagent".to_owned()),
        ("###COMPANYNAME###", "meshagent".to_owned()),
        ("###EXECUTABLENAME###", "meshagent".to_owned()),
    ];
    let mut zip = ZipWriter::new(nameless(bundle)?);
    for at in 0..source.len() {
        let entry = source.by_index(at)?;
        let name = entry.name()?.into_owned();
        if !entry.is_file() || !name.starts_with(PACKAGE) || name.split('/').any(|part| part == "..") {
            continue;
        }
        if entry.size() > LARGEST_ENTRY {
            return Err(io::Error::other(format!("{name} in the packager is too large")));
        }
        let mut bytes = Vec::new();
        entry.take(LARGEST_ENTRY).read_to_end(&mut bytes)?;
        // Programs are told from pictures by being text.
        if let Ok(text) = std::str::from_utf8(&bytes)
            && text.contains("###")
        {
            let filled = marks.iter().fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value));
            bytes = filled.into_bytes();
        }
        let is_program = name.ends_with("postflight") || name.ends_with("Uninstall.command");
        zip.start_file(name, deflated(if is_program { 0o755 } else { 0o644 }))?;
        zip.write_all(&bytes)?;
    }
    zip.start_file(format!("{CONTENTS}meshagent_osx64.bin"), deflated(0o755))?;
    io::copy(&mut File::open(bundle.place(agent))?, &mut zip)?;
    zip.start_file(format!("{CONTENTS}meshagent_osx64.msh"), deflated(0o644))?;
    zip.write_all(what.settings.as_bytes())?;
    rewound(zip).map(Some)
}
