//! What the box's own screen shows: where a browser finds the server, and the same as a QR code.

use std::path::{Path, PathBuf};

use qrcodegen::{QrCode, QrCodeEcc};

use super::protocol::Incident;
use crate::server;
use crate::site::Site;

/// Name of the file, read by whatever writes it on screens.
const FILE_NAME: &str = "greeting";

/// Light modules around a code that scanners ask for (ISO/IEC 18004: 4; 2 are enough for phones, and a
/// screen of 25 lines has no room for more).
const QUIET: i32 = 2;

/// Characters of a line of a screen, and incidents shown there: the page has them all, and whole.
const WIDTH: usize = 80;
const MOST_INCIDENTS: usize = 2;

/// The greeting in a folder. It is written again when it has changed.
pub(super) struct Greeting {
    file: PathBuf,
    shown: String,
    /// What happened to the disk at this start; it does not change.
    incidents: Vec<Incident>,
}

impl Greeting {
    pub(super) fn new(folder: PathBuf, incidents: Vec<Incident>) -> Greeting {
        Greeting { file: folder.join(FILE_NAME), shown: String::new(), incidents }
    }

    /// Writes what is true now, if it is not what stands there.
    pub(super) fn refresh(&mut self, site: &Site) {
        let is_new = site.store.directory().users_of("").next().is_none();
        let text = render(&server::urls(site), is_new, &self.incidents);
        if text == self.shown {
            return;
        }
        match replace(&self.file, &text) {
            Ok(()) => self.shown = text,
            Err(error) => log::debug!("{} could not be written: {error}", self.file.display()),
        }
    }
}

/// Readers see the old text or the new one, never a part.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    // Nothing secret, for a reader that is somebody else.
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(new, file)
}

/// The text for a screen of 80 columns and 25 lines.
fn render(urls: &[String], is_new: bool, incidents: &[Incident]) -> String {
    let mut text = format!("\n  Outpost {}\n\n", env!("CARGO_PKG_VERSION"));
    for Incident { sentence, .. } in incidents.iter().take(MOST_INCIDENTS) {
        let cut: String = sentence.chars().take(WIDTH - 4).collect();
        text.push_str(&format!("  ! {cut}\n"));
    }
    if urls.is_empty() {
        text.push_str("  There is no network yet. Please plug in a cable.\n");
        return text;
    }
    text.push_str("  Open one of these in a browser:\n");
    for url in urls {
        text.push_str(&format!("    {url}\n"));
    }
    if is_new {
        text.push_str("  There is no account yet: the first one made administers this server.\n");
    }
    if let Some(code) = urls.first().and_then(|url| QrCode::encode_text(url, QrCodeEcc::Low).ok()) {
        text.push('\n');
        text.push_str(&blocks(&code));
    }
    text
}

/// A code in half blocks, two rows of modules a line. Screens are dark, so light modules are the ones drawn.
fn blocks(code: &QrCode) -> String {
    let size = code.size();
    let light = |x, y| {
        let outside = !(0..size).contains(&x) || !(0..size).contains(&y);
        outside || !code.get_module(x, y)
    };
    let mut text = String::new();
    for y in (-QUIET..size + QUIET).step_by(2) {
        text.push_str("  ");
        for x in -QUIET..size + QUIET {
            text.push(match (light(x, y), light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appliance::protocol::IncidentKind;

    #[test]
    fn a_greeting_fits_a_small_screen_and_names_the_addresses() {
        let urls = ["https://192.168.100.200/".to_owned(), "https://outpost.local/".to_owned()];
        let long = "The data partition was checked. ".repeat(5);
        let repaired = Incident { kind: IncidentKind::Repaired, sentence: long };
        let text = render(&urls, true, &[repaired.clone(), repaired.clone(), repaired]);
        assert!(
            text.contains("https://192.168.100.200/") && text.contains("https://outpost.local/"),
            "{text}"
        );
        assert!(text.contains("no account yet") && text.contains("  ! The data partition"), "{text}");
        assert!(text.lines().count() <= 25, "{} lines", text.lines().count());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!render(&urls, false, &[]).contains("no account yet"));
        assert!(render(&[], true, &[]).contains("plug in a cable"));
    }

    #[test]
    fn the_code_is_drawn_whole_with_its_corners() {
        let code = QrCode::encode_text("https://10.0.0.5/", QrCodeEcc::Low).expect("short enough");
        let text = blocks(&code);
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().skip(2).collect()).collect();
        let side = usize::try_from(code.size() + 2 * QUIET).expect("small");
        assert_eq!(lines.len(), side.div_ceil(2));
        assert!(lines.iter().all(|line| line.len() == side));
        // Quiet zone, then the finder pattern: seven dark modules over a ring whose inside is light.
        assert!(lines[0].iter().all(|block| *block == '█'));
        assert_eq!(lines[1][..10].iter().collect::<String>(), "██ ▄▄▄▄▄ █");
    }
}
