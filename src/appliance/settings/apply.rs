//! One start's reading of the card: what is new is kept first, then secrets leave the card, then the text is remembered.

use std::collections::BTreeSet;
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::document::{Document, LARGEST, Problem};
use super::durable;
use super::kept::{self, Root};
use super::machine::Machine;
use super::takeover::Request;
use super::wanted::{self, Wanted};

/// Names of the file. Windows hides the second one's ending from those who named it like the first.
const FILES: [&str; 2] = ["outpost.toml", "outpost.toml.txt"];
/// What is wrong with it, for whoever puts the card into a computer again.
const PROBLEMS: &str = "outpost.toml.problems.txt";
/// Beginning of the lines among what happened at this start.
const INCIDENT: &str = "settings";

/// What became of the file.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Sections that were taken over now.
    pub taken: Vec<&'static str>,
    /// What is wrong, for the journal and the screen too.
    pub problems: Vec<Problem>,
}

/// Reads the file, takes over what is new in it, and makes true what was ever taken over.
pub fn apply(root: &Root, machine: &impl Machine) -> Outcome {
    let mut outcome = Outcome::default();
    let file = FILES.iter().map(|name| root.boot().join(name)).find(|file| file.is_file());
    if let Some(file) = &file {
        match durable::read(file, LARGEST) {
            Ok(text) => read(root, machine, file, &text.unwrap_or_default(), &mut outcome),
            Err(error) => outcome.problems.push(Problem::of("", format!("cannot be read: {error}"))),
        }
    }
    outcome.problems.extend(kept::restore(root, machine));
    if let Err(error) = tell(root, machine, &outcome.problems) {
        outcome.problems.push(Problem::of("", format!("{PROBLEMS} cannot be written: {error}")));
    }
    outcome
}

fn read(root: &Root, machine: &impl Machine, file: &Path, text: &[u8], outcome: &mut Outcome) {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(problem) => return outcome.problems.push(problem),
    };
    let (wanted, problems) = Wanted::read(&document, root);
    outcome.problems = problems;
    let known = kept::remembers(root, text);
    let mut taken: BTreeSet<&'static str> = wanted.names().collect();
    let mut failed = false;
    if !known {
        for problem in keep(root, machine, wanted) {
            taken.retain(|name| !problem.key.starts_with(name));
            outcome.problems.push(problem);
            failed = true;
        }
        outcome.taken = taken.iter().copied().collect();
    }
    // What is kept in memory only is forgotten at the next start: then the card has to have it still.
    if root.data_is_aside() {
        return;
    }
    // What was taken over and is still there, the cut of an earlier start included.
    taken.retain(|name| document.sections.get(*name).is_some_and(|section| wanted::is_secret(name, section)));
    let left = match without(machine, file, &document, &taken) {
        Ok(left) => left,
        Err(error) => {
            let message = format!("secrets are still on the card, which cannot be written: {error}");
            outcome.problems.push(Problem::of("", message));
            None
        }
    };
    // What failed is tried again at the next start.
    if !failed
        && (!known || left.is_some())
        && let Err(error) = kept::remember(root, left.as_deref().unwrap_or(text))
    {
        outcome.problems.push(Problem::of("", format!("cannot be remembered as taken over: {error}")));
    }
}

/// Keeps each section; gives what could not be kept.
fn keep(root: &Root, machine: &impl Machine, wanted: Wanted) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tried = |key: &str, done: Option<io::Result<()>>| {
        if let Some(Err(error)) = done {
            problems.push(Problem::of(key, format!("cannot be kept: {error}")));
        }
    };
    tried("hostname", wanted.host_name.map(|name| kept::keep_host_name(root, &name)));
    tried("timezone", wanted.time_zone.map(|zone| kept::keep_time_zone(root, &zone)));
    tried("wifi", wanted.wifi.map(|wifi| kept::keep_wifi(root, &wifi)));
    tried("network", wanted.wired.map(|wired| kept::keep_wired(root, &wired)));
    tried("ssh", wanted.ssh.map(|keys| kept::keep_keys(root, &keys)));
    let request = Request { config: wanted.config, admin: wanted.admin };
    let asked: Vec<&str> = [("config", request.config.is_some()), ("admin", request.admin.is_some())]
        .into_iter()
        .filter_map(|(name, is_asked)| is_asked.then_some(name))
        .collect();
    if !asked.is_empty() {
        match machine.take_over(&request) {
            Ok(refused) => problems.extend(refused),
            Err(error) => problems.extend(asked.iter().map(|name| Problem::of(*name, error.to_string()))),
        }
    }
    problems
}

/// Takes sections out of the file on the card; gives its new text, `None` when there was nothing to take.
fn without(
    machine: &impl Machine,
    file: &Path,
    document: &Document,
    names: &BTreeSet<&'static str>,
) -> io::Result<Option<Vec<u8>>> {
    if names.is_empty() {
        return Ok(None);
    }
    let left = document.without(names).unwrap_or_else(|| {
        "# What stood here was taken over by the box and removed, since it held secrets.\n".to_owned()
    });
    while_writable(machine, || {
        // The old text is written over as well, not only forgotten by the file system.
        let mut old = OpenOptions::new().write(true).open(file)?;
        let length = old.metadata()?.len();
        durable::replace(file, left.as_bytes(), 0o600)?;
        old.rewind()?;
        io::copy(&mut io::Read::take(io::repeat(0), length), &mut old)?;
        old.sync_all()
    })?;
    Ok(Some(left.into_bytes()))
}

/// Says what is wrong where people look: on the card, and among what happened at this start.
fn tell(root: &Root, machine: &impl Machine, problems: &[Problem]) -> io::Result<()> {
    note(&root.incidents(), problems)?;
    let file = root.boot().join(PROBLEMS);
    let there = durable::read(&file, LARGEST)?;
    if problems.is_empty() {
        return if there.is_some() { while_writable(machine, || durable::remove(&file)) } else { Ok(()) };
    }
    let mut text = "Outpost could not take over everything in outpost.toml:\r\n\r\n".to_owned();
    for problem in problems {
        text.push_str(&format!("  {problem}\r\n"));
    }
    text.push_str(
        "\r\nThe sections named here changed nothing. Please mend them, and start the box again.\r\n",
    );
    if there.as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    while_writable(machine, || durable::replace(&file, text.as_bytes(), 0o600))
}

/// Puts our lines among those of others in the list of incidents, in place of those of an earlier run.
fn note(file: &Path, problems: &[Problem]) -> io::Result<()> {
    let there = durable::read(file, LARGEST)?;
    if there.is_none() && problems.is_empty() {
        return Ok(());
    }
    let before = String::from_utf8_lossy(there.as_deref().unwrap_or_default()).into_owned();
    let others = before.lines().filter(|line| !line.starts_with(INCIDENT));
    let mut text: String = others.map(|line| format!("{line}\n")).collect();
    for problem in problems {
        text.push_str(&format!("{INCIDENT} outpost.toml, {problem}\n"));
    }
    if text == before {
        return Ok(());
    }
    durable::replace(file, text.as_bytes(), 0o644)?;
    std::fs::set_permissions(file, Permissions::from_mode(0o644))
}

/// Does something on the boot partition, which is read-only before and after.
fn while_writable(machine: &impl Machine, done: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    machine.set_boot_writable(true)?;
    let done = done();
    machine.set_boot_writable(false)?;
    done
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@laptop";

    /// A box in a folder.
    struct Bench {
        folder: tempfile::TempDir,
        name: RefCell<String>,
        asked: RefCell<Vec<Request>>,
        /// The boot partition is write-protected.
        stuck: bool,
        /// The server's data refuses this section.
        refuses: Option<&'static str>,
        writable: RefCell<bool>,
    }

    impl Bench {
        fn new(text: &str) -> Bench {
            let folder = tempfile::tempdir().expect("a folder");
            for place in ["boot/firmware", "run/outpost-box", "var/lib", "usr/share/zoneinfo/Europe"] {
                std::fs::create_dir_all(folder.path().join(place)).expect("made");
            }
            std::fs::write(folder.path().join("usr/share/zoneinfo/Europe/Berlin"), "").expect("written");
            std::fs::write(folder.path().join("boot/firmware/outpost.toml"), text).expect("written");
            Bench {
                folder,
                name: RefCell::default(),
                asked: RefCell::default(),
                stuck: false,
                refuses: None,
                writable: RefCell::default(),
            }
        }

        fn start(&self) -> Outcome {
            let outcome = apply(&Root::new(self.folder.path()), self);
            assert!(!*self.writable.borrow(), "the boot partition was left writable");
            outcome
        }

        fn at(&self, place: &str) -> PathBuf {
            self.folder.path().join(place)
        }

        fn text(&self, place: &str) -> String {
            std::fs::read_to_string(self.at(place)).unwrap_or_default()
        }

        fn on_card(&self) -> String {
            self.text("boot/firmware/outpost.toml")
        }
    }

    impl Machine for Bench {
        fn set_host_name(&self, name: &str) -> io::Result<()> {
            *self.name.borrow_mut() = name.to_owned();
            Ok(())
        }

        fn set_boot_writable(&self, writable: bool) -> io::Result<()> {
            if self.stuck {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            *self.writable.borrow_mut() = writable;
            Ok(())
        }

        fn take_over(&self, request: &Request) -> io::Result<Vec<Problem>> {
            self.asked
                .borrow_mut()
                .push(Request { config: request.config.clone(), admin: request.admin.clone() });
            Ok(self.refuses.iter().map(|name| Problem::of(*name, "refused")).collect())
        }
    }

    fn whole() -> String {
        format!(
            r#"# The box in the attic.
hostname = "Attic"
timezone = "Europe/Berlin"

[wifi]
ssid = "Home"
passphrase = "quiet harbour"

[network]
address = "192.168.1.10/24"

[ssh]
keys = ["{KEY}"]

[admin]
name = "ada"
password = "slate harbour violin"

[config.settings]
port = 8443
"#
        )
    }

    #[test]
    fn everything_is_kept_made_true_and_secrets_leave_the_card() {
        let bench = Bench::new(&whole());
        let outcome = bench.start();
        assert_eq!(outcome.problems, []);
        assert_eq!(outcome.taken, ["admin", "config", "hostname", "network", "ssh", "timezone", "wifi"]);
        assert_eq!(*bench.name.borrow(), "attic");
        assert_eq!(
            std::fs::read_link(bench.at("run/outpost-box/localtime")).expect("a link"),
            Path::new("/usr/share/zoneinfo/Europe/Berlin")
        );
        assert!(bench.text("run/systemd/network/70-outpost.network").contains("Address=192.168.1.10/24"));
        assert!(bench.text("var/lib/iwd/Home.psk").contains("Passphrase=quiet harbour"));
        assert!(bench.text("run/outpost-box/iwd.conf").contains("[General]"));
        assert_eq!(bench.text("var/lib/outpost-box/ssh/authorized_keys"), format!("{KEY}\n"));
        let mode = std::fs::metadata(bench.at("var/lib/iwd/Home.psk")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        {
            let asked = bench.asked.borrow();
            assert_eq!(asked[0].admin.as_ref().map(|admin| admin.name.as_str()), Some("ada"));
            assert!(asked[0].config.is_some());
        }
        let left = bench.on_card();
        assert!(!left.contains("harbour") && !left.contains("[wifi]\n") && !left.contains("8443"), "{left}");
        assert!(left.contains("# The box in the attic.") && left.contains("192.168.1.10/24"), "{left}");
        let memory = bench.text("var/lib/outpost-box/settings/taken.json");
        assert!(!memory.is_empty() && !memory.contains("harbour"));
    }

    #[test]
    fn a_second_start_takes_nothing_over_again_and_makes_true_what_is_kept() {
        let bench = Bench::new(&whole());
        bench.start();
        std::fs::remove_dir_all(bench.at("run")).expect("a restart");
        bench.name.borrow_mut().clear();
        let outcome = bench.start();
        assert_eq!((outcome.taken, outcome.problems), (vec![], vec![]));
        assert_eq!(bench.asked.borrow().len(), 1);
        assert_eq!(*bench.name.borrow(), "attic");
        assert!(bench.text("run/systemd/network/70-outpost.network").contains("192.168.1.10"));
        // A changed file is taken over as it is now; what it no longer names stays.
        std::fs::write(
            bench.at("boot/firmware/outpost.toml"),
            "hostname = \"cellar\"\n[network]\naddress = \"dhcp\"\n",
        )
        .expect("written");
        assert_eq!(bench.start().taken, ["hostname", "network"]);
        assert_eq!(*bench.name.borrow(), "cellar");
        assert!(!bench.at("run/systemd/network/70-outpost.network").exists());
        assert!(bench.at("var/lib/iwd/Home.psk").exists());
    }

    #[test]
    fn a_mistake_costs_its_section_and_is_said_everywhere() {
        let bench = Bench::new(
            "hostname = \"attic\"\ntimezone = \"Europe/Berlim\"\n[wifi]\nssid = \"Home\"\npassphrase = \"short\"\n[wlan]\n",
        );
        std::fs::write(bench.at("run/outpost-box/incidents"), "repaired The data partition was repaired.\n")
            .expect("written");
        let outcome = bench.start();
        assert_eq!(outcome.taken, ["hostname"]);
        let said: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
        assert_eq!(said[0], "line 2: timezone: there is no time zone Europe/Berlim here");
        assert!(
            said[1].starts_with("line 5: wifi.passphrase: ") && said[2].starts_with("line 6: wlan: "),
            "{said:?}"
        );
        assert!(!bench.at("var/lib/iwd").exists());
        let file = bench.text("boot/firmware/outpost.toml.problems.txt");
        assert!(file.contains("line 5: wifi.passphrase") && !file.contains("short"), "{file}");
        let incidents = bench.text("run/outpost-box/incidents");
        assert!(
            incidents.starts_with("repaired ") && incidents.contains("\nsettings outpost.toml, line 2: "),
            "{incidents}"
        );
        // The passphrase stays: whoever mistyped it wants to mend it.
        assert!(bench.on_card().contains("short"));
        // Said again at the next start, and no more once it is mended.
        assert_eq!(bench.start().problems.len(), 3);
        std::fs::write(bench.at("boot/firmware/outpost.toml"), "hostname = \"attic\"\n").expect("written");
        assert_eq!(bench.start().problems, []);
        assert!(!bench.at("boot/firmware/outpost.toml.problems.txt").exists());
        assert_eq!(bench.text("run/outpost-box/incidents"), "repaired The data partition was repaired.\n");
    }

    #[test]
    fn what_the_server_refuses_stays_on_the_card_and_is_tried_again() {
        let mut bench = Bench::new(&whole());
        bench.refuses = Some("admin");
        let outcome = bench.start();
        assert_eq!(outcome.problems, [Problem::of("admin", "refused")]);
        assert!(bench.on_card().contains("slate harbour violin") && !bench.on_card().contains("8443"));
        bench.refuses = None;
        assert!(bench.start().taken.contains(&"admin"));
        assert_eq!(bench.asked.borrow().len(), 2);
        assert!(!bench.on_card().contains("slate"));
        assert!(bench.start().taken.is_empty());
    }

    #[test]
    fn a_card_that_cannot_be_written_is_said_and_asked_again() {
        let mut bench = Bench::new(&whole());
        bench.stuck = true;
        let outcome = bench.start();
        assert!(outcome.taken.contains(&"wifi"));
        assert!(outcome.problems[0].message.contains("secrets are still on the card"), "{outcome:?}");
        bench.stuck = false;
        let outcome = bench.start();
        // Nothing again, the account least of all; only the secrets go.
        assert_eq!((outcome.taken, outcome.problems), (vec![], vec![]));
        assert_eq!(bench.asked.borrow().len(), 1);
        assert!(!bench.on_card().contains("harbour"));
    }

    #[test]
    fn data_that_are_set_aside_are_no_place_to_keep_secrets() {
        let bench = Bench::new(&whole());
        std::fs::write(bench.at("run/outpost-box/data-aside"), "").expect("written");
        assert!(bench.start().taken.contains(&"wifi"));
        assert_eq!(*bench.name.borrow(), "attic");
        assert!(bench.on_card().contains("quiet harbour"));
        // Once data are kept again, they are taken over for good.
        std::fs::remove_file(bench.at("run/outpost-box/data-aside")).expect("there");
        assert!(bench.start().taken.contains(&"wifi"));
        assert!(!bench.on_card().contains("quiet harbour"));
    }

    #[test]
    fn windows_hides_an_ending_and_nobody_needs_a_file() {
        let bench = Bench::new("");
        std::fs::remove_file(bench.at("boot/firmware/outpost.toml")).expect("there");
        assert!(bench.start().problems.is_empty());
        std::fs::write(bench.at("boot/firmware/outpost.toml.txt"), "\u{feff}hostname = \"attic\"\r\n")
            .expect("written");
        assert_eq!(bench.start().taken, ["hostname"]);
    }

    #[test]
    fn a_file_that_is_no_toml_changes_nothing() {
        let bench = Bench::new("hostname = \"attic\"\n[wifi\n");
        let outcome = bench.start();
        assert!(outcome.taken.is_empty() && outcome.problems[0].line == Some(2), "{outcome:?}");
        assert_eq!(*bench.name.borrow(), "");
    }
}
