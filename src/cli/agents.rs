//! Commands on the official agents in the data folder, whether the server runs or not.

use std::io::Write as _;
use std::path::Path;

use outpost_wire::arch;

use super::arguments::AgentsCommand;
use super::refuse;
use crate::agents::bundle::{self, Bundle, BundleFile, Manifest, Part};
use crate::clock;
use crate::config::Config;

/// Does the command and prints its outcome.
///
/// # Errors
/// In words for the administrator; what was there is as it was then.
pub fn run(command: &AgentsCommand, config: &Config) -> anyhow::Result<()> {
    let folder = &config.data_folder;
    let mut out = std::io::stdout().lock();
    match command {
        AgentsCommand::Import(package) => {
            crate::server::make_private_folder(folder)?;
            let manifest = bundle::import_path(Path::new(package), folder).map_err(|error| {
                refuse(format!("{error}\nNothing was imported; what was there before is as it was."))
            })?;
            write!(out, "{}", description(&manifest))?;
        }
        AgentsCommand::List => match Bundle::load(folder)? {
            Some(bundle) => write!(out, "{}", description(&bundle.manifest))?,
            None => writeln!(
                out,
                "There are no official agents. `outpost agents import <package>` takes them from \
                 MeshCentral's npm package."
            )?,
        },
        AgentsCommand::Remove => {
            if bundle::remove(folder)? {
                writeln!(out, "The official agents are removed.")?;
            } else {
                writeln!(out, "There were no official agents.")?;
            }
        }
    }
    Ok(())
}

/// What a bundle has, as a list for people.
fn description(manifest: &Manifest) -> String {
    let mut text = format!(
        "MeshCentral {}, imported {}, {} files, {}\n\nAgents\n",
        manifest.version,
        &clock::iso8601(manifest.imported)[..16].replace('T', " "),
        manifest.files.len(),
        size(manifest.size())
    );
    let of = |part: Part| manifest.files.iter().filter(move |file| file.part == part);
    let mut agents: Vec<(u32, &BundleFile)> =
        of(Part::Agent).flat_map(|file| file.ids.iter().map(move |id| (*id, file))).collect();
    agents.sort_by_key(|(id, _)| *id);
    for (id, file) in agents {
        let name = arch::by_id(id).map_or("", |row| row.description);
        let built = file.built.map_or(String::new(), |at| clock::iso8601(at * 1000)[..10].to_owned());
        text +=
            &format!("  {id:>5}  {name:<38} {:>9}  {built:<10}  {}\n", size(file.size), &file.sha256[..16]);
    }
    for (title, part) in [
        ("Cores and tools in JavaScript", Part::Core),
        ("Installers", Part::Installer),
        ("macOS packager", Part::Packager),
        ("Programs for people's computers", Part::Tool),
        ("Licence", Part::Licence),
    ] {
        let mut files = of(part).peekable();
        if files.peek().is_some() {
            text += &format!("\n{title}\n");
        }
        for file in files {
            text += &format!("  {:<46} {:>9}\n", file.path, size(file.size));
        }
    }
    text + &format!("\nModules: {}\n", of(Part::Module).count())
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes >> 20),
    }
}
