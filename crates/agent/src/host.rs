//! Facts about the machine that every server asks for: name, system, kind, boot time.

use std::fs;

use nix::unistd::geteuid;
use outpost_wire::handshake::PlatformType;

/// Host name; `localhost` when the kernel has none.
pub fn name() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .ok()
        .filter(|name| !name.is_empty() && name != "(none)")
        .unwrap_or_else(|| "localhost".into())
}

/// What os-release calls the system, e.g. `Debian GNU/Linux 12 (bookworm)`.
pub fn system() -> String {
    ["/etc/os-release", "/usr/lib/os-release"]
        .into_iter()
        .find_map(|path| pretty_name(&fs::read_to_string(path).ok()?))
        .unwrap_or_else(|| "Linux".into())
}

fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?.trim();
    let value = value.trim_matches(|c| c == '"' || c == '\'');
    let value = value.replace("\\\"", "\"").replace("\\$", "$").replace("\\\\", "\\");
    (!value.is_empty()).then_some(value)
}

/// Kernel release, e.g. `6.1.0-18-amd64`.
pub fn kernel() -> String {
    read_line("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// The architecture number of this build (agent-protocol §2.6); 0 when the table has none.
pub fn architecture() -> u32 {
    let machine = match std::env::consts::ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        other => other,
    };
    outpost_wire::arch::by_machine(machine).map_or(0, |row| row.id)
}

/// The short name servers show after the system: `x64`, `arm64`, …
pub fn architecture_name() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x64",
        "x86" => "x86",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Whether the agent has all rights on the machine.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Time of the last boot in milliseconds since 1970, from the kernel's own record.
pub fn boot_time_ms() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let seconds: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(seconds * 1000)
}

/// Seconds since boot.
pub fn uptime_seconds() -> Option<u64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    text.split(['.', ' ']).next()?.parse().ok()
}

/// Model name of a board that has a device tree (`Raspberry Pi 4 Model B Rev 1.4`).
pub fn board_model() -> Option<String> {
    read_line("/proc/device-tree/model")
}

/// Serial number of a board that has a device tree.
pub fn board_serial() -> Option<String> {
    read_line("/proc/device-tree/serial-number")
}

/// One value of the firmware's description of the machine; placeholders of careless makers are nothing.
pub fn dmi(field: &str) -> Option<String> {
    const PLACEHOLDERS: [&str; 5] =
        ["to be filled by o.e.m.", "default string", "not specified", "system serial number", "none"];
    read_line(&format!("/sys/class/dmi/id/{field}"))
        .filter(|value| !PLACEHOLDERS.contains(&value.to_ascii_lowercase().as_str()))
}

/// What kind of machine this is; servers choose the first icon by it.
pub fn platform_type() -> PlatformType {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    kind(dmi("chassis_type").as_deref(), board_model().as_deref(), has_flag(&cpu, "hypervisor"))
}

fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_ascii_whitespace().any(|word| word == flag))
}

/// Chassis numbers are those of the SMBIOS specification, table 17 ("System Enclosure or Chassis Types").
fn kind(chassis: Option<&str>, board: Option<&str>, hypervisor: bool) -> PlatformType {
    if hypervisor {
        return PlatformType::Virtual;
    }
    if board.is_some_and(|model| model.contains("Raspberry Pi")) {
        return PlatformType::Pi;
    }
    match chassis.and_then(|number| number.parse::<u8>().ok()) {
        Some(8..=10 | 14 | 31 | 32) => PlatformType::Laptop,
        Some(11 | 30) => PlatformType::Mobile,
        Some(17 | 23 | 25 | 28 | 29) => PlatformType::Server,
        _ => PlatformType::Desktop,
    }
}

/// The first line of a small kernel file, without the NUL that device trees end strings with.
pub fn read_line(path: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
    let line = text.lines().next()?.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_with_and_without_quotes() {
        let text = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(text).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("PRETTY_NAME=Buildroot\n").as_deref(), Some("Buildroot"));
        assert_eq!(pretty_name("NAME=x\n"), None);
    }

    #[test]
    fn machines_are_told_apart() {
        assert_eq!(kind(Some("10"), None, false), PlatformType::Laptop);
        assert_eq!(kind(Some("23"), None, false), PlatformType::Server);
        assert_eq!(kind(Some("1"), None, true), PlatformType::Virtual);
        assert_eq!(kind(None, Some("Raspberry Pi 4 Model B"), false), PlatformType::Pi);
        assert_eq!(kind(None, None, false), PlatformType::Desktop);
    }

    #[test]
    fn boot_time_lies_in_the_past() {
        let boot = boot_time_ms().expect("/proc/stat has btime");
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_millis();
        assert!(u128::from(boot) <= now + 2000);
    }
}
