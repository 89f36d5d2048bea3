//! The helper on a machine of folders and scripts. What the stand-in for RAUC says is what RAUC 1.8 says.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Value, json};

use super::*;

const STATUS: &str = r#"{"compatible":"outpost-qemu-arm64","variant":"","booted":"A","boot_primary":"rootfs.0","slots":[{"rootfs.1":{"class":"rootfs","device":"/dev/vda3","type":"ext4","bootname":"B","state":"inactive","parent":null,"mountpoint":null,"boot_status":"good","slot_status":{"bundle":{"compatible":null}}}},{"rootfs.0":{"class":"rootfs","device":"/dev/vda2","type":"ext4","bootname":"A","state":"booted","parent":null,"mountpoint":null,"boot_status":"good","slot_status":{"bundle":{"compatible":null}}}}]}"#;

/// A stand-in whose bundles say what becomes of them: `good`, `board`, `unsigned`, `short`, `breaks`.
const RAUC: &str = r#"#!/bin/sh
echo "$*" >>"@HOME@/rauc.log"
case $1 in
status) cat "@HOME@/status.json" ;;
info)
    case $(cat "$3") in
    unsigned) echo "rauc-Message: Reading bundle" >&2; echo "signature verification failed: Verify error: self-signed certificate" >&2; exit 1 ;;
    short) echo "Invalid bundle format: Signature size (6204355188133457667) exceeds bundle size" >&2; exit 1 ;;
    board) echo '{"compatible":"outpost-rpi-arm64","version":"0.2.0"}' ;;
    *) echo '{"compatible":"outpost-qemu-arm64","version":"0.2.0"}' ;;
    esac ;;
install)
    echo installing; echo "  0% Installing"; echo " 20% Checking bundle"
    if [ "$(cat "$2")" = breaks ]; then
        echo "100% Installing failed."; echo "LastError: Failed mounting bundle: Failed to open /dev/mapper/control: No such file or directory"
        echo "Installing \`$2\` failed" >&2; exit 1
    fi
    echo "100% Installing done."; echo "Installing \`$2\` succeeded" ;;
esac
"#;

/// What the kernel was asked.
#[derive(Default)]
struct Asked {
    clock: Option<i64>,
    mounted: Vec<PathBuf>,
}

/// A kernel for which a stick is a folder beside the device nodes.
struct Folders(Rc<RefCell<Asked>>);

impl Kernel for Folders {
    fn mount(&self, device: &Path, place: &Path) -> io::Result<()> {
        self.0.borrow_mut().mounted.push(device.to_owned());
        for entry in fs::read_dir(device)?.flatten() {
            let to = place.join(entry.file_name());
            if entry.file_type()?.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(entry.path())?, to)?;
            } else {
                fs::copy(entry.path(), to)?;
            }
        }
        Ok(())
    }

    fn unmount(&self, place: &Path) {
        for entry in fs::read_dir(place).expect("mounted").flatten() {
            fs::remove_file(entry.path()).expect("removed");
        }
    }

    fn set_clock(&self, ms: i64) -> io::Result<()> {
        self.0.borrow_mut().clock = Some(ms);
        Ok(())
    }
}

struct Box_ {
    home: tempfile::TempDir,
    machine: Machine,
    asked: Rc<RefCell<Asked>>,
}

impl Box_ {
    fn new() -> Box_ {
        let home = tempfile::tempdir().expect("a folder");
        let at = |name: &str| home.path().join(name);
        for folder in
            ["state", "run", "staging", "blocks", "dev", "pci/usb1/sda/sda1", "pci/mmc/mmcblk0/mmcblk0p1"]
        {
            fs::create_dir_all(at(folder)).expect("made");
        }
        let script = |name: &str, text: &str| {
            let text = text.replace("@HOME@", home.path().to_str().expect("text"));
            fs::write(at(name), text).expect("written");
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).expect("made executable");
        };
        script("rauc", RAUC);
        script("systemctl", "#!/bin/sh\necho \"$*\" >>\"@HOME@/systemctl.log\"\n");
        fs::write(at("status.json"), STATUS).expect("written");
        fs::write(at("run/slot"), "A\n").expect("written");
        std::os::unix::fs::symlink("/dev/mmcblk0", at("run/disk")).expect("a link");
        let asked = Rc::new(RefCell::new(Asked::default()));
        let machine = Machine {
            state: at("state"),
            run: at("run"),
            staging: at("staging"),
            blocks: at("blocks"),
            devices: at("dev"),
            synchronised: at("synchronised"),
            saved_clock: at("saved"),
            rauc: at("rauc"),
            systemctl: at("systemctl"),
            kernel: Box::new(Folders(asked.clone())),
        };
        Box_ { home, machine, asked }
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.home.path().join(path), text).expect("written");
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.home.path().join(path)).ok()
    }

    fn told(&self, line: &[u8]) -> Vec<Value> {
        let mut out = Vec::new();
        serve(line, &mut out, &self.machine);
        let text = String::from_utf8(out).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The last reply to a request.
    fn ask(&self, request: Value) -> Value {
        self.told(format!("{request}\n").as_bytes()).pop().expect("a reply")
    }

    fn install(&self, text: &str) -> Value {
        self.write("staging/a.raucb", text);
        self.ask(json!({ "action": "install", "file": "a.raucb" }))
    }

    fn outcome(&self) -> Value {
        self.ask(json!({ "action": "status" }))["outcome"].clone()
    }

    /// Plugs a stick in with a file.
    fn plug_in(&self, file: &str, text: &str) {
        for (name, path) in [
            ("sda", "pci/usb1/sda"),
            ("sda1", "pci/usb1/sda/sda1"),
            ("mmcblk0p1", "pci/mmc/mmcblk0/mmcblk0p1"),
        ] {
            let link = self.machine.blocks.join(name);
            std::os::unix::fs::symlink(self.home.path().join(path), link).expect("a link");
        }
        for path in ["pci/usb1/sda/sda1/partition", "pci/mmc/mmcblk0/mmcblk0p1/partition"] {
            self.write(path, "1\n");
        }
        for device in ["dev/sda1", "dev/mmcblk0p1"] {
            fs::create_dir(self.home.path().join(device)).expect("made");
            self.write(&format!("{device}/{file}"), text);
        }
    }
}

#[test]
fn a_bundle_is_installed_with_progress_and_noted() {
    let this = Box_::new();
    this.write("staging/a.raucb", "good");
    this.write("state/rollback", "of an earlier update\n");
    let replies = this.told(b"{\"action\":\"install\",\"file\":\"a.raucb\"}\n");
    assert_eq!(
        *replies.last().expect("one"),
        json!({ "reply": "installed", "version": "0.2.0", "slot": "B" })
    );
    let steps: Vec<u64> = replies.iter().filter_map(|reply| reply["percent"].as_u64()).collect();
    assert_eq!(steps, [0, 0, 20, 100]);
    let update: Value = serde_json::from_str(&this.read("state/update.json").expect("noted")).expect("JSON");
    assert_eq!((&update["from_slot"], &update["to_slot"]), (&json!("A"), &json!("B")));
    assert_eq!(
        (&update["from_version"], &update["to_version"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!("0.2.0"))
    );
    assert!(this.read("state/rollback").is_none(), "what an earlier one failed of is past");
    assert!(this.read("staging/a.raucb").is_none() && this.read("state/incoming.raucb").is_none());
    assert!(this.read("rauc.log").expect("called").contains("install"));
}

#[test]
fn what_became_of_an_update_is_told_after_the_restart() {
    let this = Box_::new();
    assert_eq!(this.outcome(), Value::Null);
    this.install("good");
    assert_eq!(this.outcome(), json!({ "kind": "waiting", "version": "0.2.0" }));
    // A restart empties /run.
    fs::remove_file(this.machine.run.join("update-waits")).expect("was there");
    let outcome = this.outcome();
    assert_eq!((&outcome["kind"], &outcome["reason"]), (&json!("rolled-back"), &Value::Null));
    this.write("state/rollback", "the server was not well within 5 minutes\nmore\n");
    assert_eq!(this.outcome()["reason"], "the server was not well within 5 minutes");
    this.write("run/slot", "B\n");
    let status = this.ask(json!({ "action": "status" }));
    assert_eq!(
        (&status["outcome"]["kind"], &status["outcome"]["version"]),
        (&json!("updated"), &json!("0.2.0"))
    );
    assert_eq!(
        status["slots"][0]["version"],
        env!("CARGO_PKG_VERSION"),
        "what it came from is in the other slot"
    );
}

#[test]
fn bad_bundles_are_refused_with_their_reason_and_leave_nothing() {
    let this = Box_::new();
    for (text, code) in
        [("unsigned", "not-signed"), ("short", "damaged"), ("board", "other-board"), ("breaks", "failed")]
    {
        let reply = this.install(text);
        assert_eq!((&reply["reply"], &reply["code"]), (&json!("refused"), &json!(code)), "{reply}");
        assert!(this.read("state/update.json").is_none());
        assert!(this.read("staging/a.raucb").is_none() && this.read("state/incoming.raucb").is_none());
    }
    this.write("staging/a.raucb", "good");
    let reply = this.ask(json!({ "action": "install", "file": "a.raucb", "version": "0.3.0" }));
    assert_eq!(reply["code"], "other-version", "an old one under a new one's name: {reply}");
    let log = this.read("rauc.log").expect("called");
    assert_eq!(
        log.lines().filter(|line| line.starts_with("install")).count(),
        1,
        "only the last is begun: {log}"
    );
}

#[test]
fn only_a_file_of_the_staging_folder_is_taken() {
    let this = Box_::new();
    this.write("secret.raucb", "good");
    let secret = this.home.path().join("secret.raucb");
    std::os::unix::fs::symlink(&secret, this.machine.staging.join("link.raucb")).expect("a link");
    fs::hard_link(&secret, this.machine.staging.join("name.raucb")).expect("another name");
    fs::create_dir(this.machine.staging.join("folder.raucb")).expect("made");
    nix::unistd::mkfifo(&this.machine.staging.join("pipe.raucb"), nix::sys::stat::Mode::S_IRWXU)
        .expect("a pipe");
    for file in ["link.raucb", "name.raucb", "folder.raucb", "pipe.raucb", "missing.raucb"] {
        let reply = this.ask(json!({ "action": "install", "file": file }));
        assert_eq!(
            (&reply["reply"], &reply["code"]),
            (&json!("refused"), &json!("no-file")),
            "{file}: {reply}"
        );
    }
    for file in ["../secret.raucb", "/etc/shadow", ""] {
        assert_eq!(this.ask(json!({ "action": "install", "file": file }))["code"], "bad-request", "{file}");
    }
    assert!(this.read("rauc.log").is_none_or(|log| !log.contains("install")));
    assert_eq!(this.read("secret.raucb").as_deref(), Some("good"));
    // None of it is in the way of a real one.
    assert_eq!(this.install("good")["reply"], "installed");
}

#[test]
fn requests_that_are_none_are_refused() {
    let this = Box_::new();
    for line in [&b""[..], b"\n", b"{}", b"[1]", b"{\"action\":\"shell\"}\n", &[b'x'; 100_000], &[0xff; 10]] {
        let replies = this.told(line);
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0]["code"], "bad-request", "{replies:?}");
    }
}

#[test]
fn one_installs_at_a_time() {
    let this = Box_::new();
    let file = fs::File::create(this.machine.run.join("install.lock")).expect("made");
    let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error);
    let held = held.expect("free");
    // RAUC says nothing else while it installs.
    let text = "#!/bin/sh\necho 'Error retrieving slot status via D-Bus: already processing a different method' >&2; exit 1\n";
    let rauc = this.read("rauc").expect("a script");
    this.write("rauc", text);
    assert_eq!(this.ask(json!({ "action": "status" }))["installing"], true);
    this.write("rauc", &rauc);
    assert_eq!(this.install("good")["code"], "busy");
    assert!(this.read("staging/a.raucb").is_some(), "what was staged is still there");
    drop(held);
    assert_eq!(this.ask(json!({ "action": "status" }))["installing"], false);
    assert_eq!(this.install("good")["reply"], "installed");
}

#[test]
fn bundles_of_usb_sticks_are_listed_and_installed_and_the_own_disk_is_none() {
    let this = Box_::new();
    this.plug_in("Outpost 0.2.raucb", "good");
    this.write("dev/sda1/notes.txt", "no bundle");
    std::os::unix::fs::symlink("/etc/passwd", this.home.path().join("dev/sda1/link.raucb")).expect("a link");
    let list = this.ask(json!({ "action": "sticks" }));
    assert_eq!(
        list["bundles"],
        json!([{ "stick": "sda1", "title": "USB stick", "file": "Outpost 0.2.raucb", "size": 4 }])
    );
    let take = |stick: &str, file: &str| {
        this.ask(json!({ "action": "install-from-stick", "stick": stick, "file": file }))
    };
    assert_eq!(take("mmcblk0p1", "Outpost 0.2.raucb")["code"], "no-file", "the box's own disk is no stick");
    assert_eq!(take("sda1", "missing.raucb")["code"], "no-file");
    assert_eq!(take("sda1", "link.raucb")["code"], "no-file", "links are not followed");
    assert_eq!(take("sda1", "../x.raucb")["code"], "bad-request");
    assert_eq!(take("sda1", "Outpost 0.2.raucb")["reply"], "installed");
    assert!(this.asked.borrow().mounted.iter().all(|device| device.ends_with("sda1")));
    assert!(this.read("state/incoming.raucb").is_none());
    assert_eq!(this.read("dev/sda1/Outpost 0.2.raucb").as_deref(), Some("good"), "the stick keeps it");
}

#[test]
fn restart_power_and_reset_go_to_the_service_manager() {
    let this = Box_::new();
    for (action, verb) in [("restart", "reboot"), ("power-off", "poweroff"), ("factory-reset", "reboot")] {
        assert!(this.read("state/factory-reset").is_none(), "before {action}");
        assert_eq!(this.ask(json!({ "action": action }))["reply"], "done");
        let log = this.read("systemctl.log").expect("called");
        assert_eq!(log.lines().last(), Some(format!("--no-block {verb}").as_str()));
    }
    assert!(this.read("state/factory-reset").is_some());
}

#[test]
fn the_clock_is_set_while_no_time_server_does_and_within_reason() {
    let this = Box_::new();
    let set = |ms: i64| this.ask(json!({ "action": "set-time", "ms": ms }));
    for absurd in [0, -1, i64::MIN, i64::MAX, 1_700_000_000_000, 4_102_444_800_000] {
        assert_eq!(set(absurd)["code"], "clock", "{absurd}");
    }
    assert_eq!(this.asked.borrow().clock, None);
    assert_eq!(set(1_795_454_143_007)["reply"], "done");
    assert_eq!(this.asked.borrow().clock, Some(1_795_454_143_007));
    this.write("synchronised", "");
    assert_eq!(set(1_795_454_143_008)["code"], "clock");
    assert_eq!(this.asked.borrow().clock, Some(1_795_454_143_007));
}

#[test]
fn what_happened_to_the_disk_is_passed_on() {
    let this = Box_::new();
    this.write(
        "run/incidents",
        "repaired The data was repaired.\nset-aside It was \u{7}set aside.\ncard It wears out.\nbutton It is stuck.\nother x\n\nreset\n",
    );
    let status = this.ask(json!({ "action": "status" }));
    assert_eq!(
        status["incidents"],
        json!([
            { "kind": "repaired", "sentence": "The data was repaired." },
            { "kind": "set-aside", "sentence": "It was set aside." },
            { "kind": "card", "sentence": "It wears out." },
            { "kind": "button", "sentence": "It is stuck." },
        ])
    );
    assert_eq!((&status["booted"], &status["synchronised"]), (&json!("A"), &json!(false)));
}

#[test]
fn an_installation_goes_on_when_nobody_listens() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let this = Box_::new();
    this.write("staging/a.raucb", "good");
    serve(&b"{\"action\":\"install\",\"file\":\"a.raucb\"}\n"[..], &mut Gone, &this.machine);
    assert!(this.read("state/update.json").is_some());
}
