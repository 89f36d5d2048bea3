//! The architecture numbers that agents report, and what each one stands for (agent-protocol §2.6).

/// Which operating system family an architecture number belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    /// Windows of any width.
    Windows,
    /// Linux with a desktop or server distribution.
    Linux,
    /// macOS.
    MacOs,
    /// FreeBSD or OpenBSD.
    Bsd,
    /// OpenWrt and its relatives.
    OpenWrt,
    /// Android.
    Android,
    /// ChromeOS.
    ChromeOs,
    /// Tools and numbers that say nothing about the system.
    Other,
}

/// Which JavaScript core MeshAgent of this architecture runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CoreFlavour {
    /// No core exists for it.
    None,
    /// Windows, with Intel AMT modules.
    WindowsAmt,
    /// Not Windows, with Intel AMT modules.
    LinuxAmt,
    /// Not Windows, without Intel AMT modules.
    LinuxNoAmt,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// The number in command 3 and in download URLs.
    pub id: u32,
    /// File name of the binary on the server.
    pub binary: &'static str,
    /// File name a download gets.
    pub served_name: &'static str,
    /// A name for people.
    pub description: &'static str,
    /// The system it runs on.
    pub platform: Platform,
    /// The core it runs.
    pub core: CoreFlavour,
    /// Whether servers offer it new binaries.
    pub updates: bool,
}

/// The row with this number.
pub fn by_id(id: u32) -> Option<&'static Architecture> {
    TABLE.binary_search_by_key(&id, |row| row.id).ok().map(|at| &TABLE[at])
}

/// The Linux row for what `uname -m` prints, as the installer script chooses it.
pub fn by_machine(uname: &str) -> Option<&'static Architecture> {
    by_id(match uname {
        "x86_64" | "amd64" => 6,
        "x86" | "i386" | "i486" | "i586" | "i686" => 5,
        "armv6l" | "armv7l" => 25,
        "aarch64" | "arm64" => 26,
        "riscv64" => 45,
        _ => return None,
    })
}

/// Every row, in the order of its numbers.
pub fn all() -> &'static [Architecture] {
    TABLE
}

const fn row(
    id: u32,
    binary: &'static str,
    served_name: &'static str,
    description: &'static str,
    platform: Platform,
    core: CoreFlavour,
    updates: bool,
) -> Architecture {
    Architecture { id, binary, served_name, description, platform, core, updates }
}

use CoreFlavour::{LinuxAmt as LA, LinuxNoAmt as LN, None as NO, WindowsAmt as WA};
use Platform::{Android, Bsd, ChromeOs, Linux, MacOs, OpenWrt, Other, Windows};

#[rustfmt::skip]
static TABLE: &[Architecture] = &[
    row(0, "", "", "Unknown agent", Other, LN, false),
    row(1, "MeshConsole.exe", "meshconsole32.exe", "Windows x86-32 console", Windows, WA, true),
    row(2, "MeshConsole64.exe", "meshconsole64.exe", "Windows x86-64 console", Windows, WA, true),
    row(3, "MeshService.exe", "meshagent32.exe", "Windows x86-32 service", Windows, WA, true),
    row(4, "MeshService64.exe", "meshagent64.exe", "Windows x86-64 service", Windows, WA, true),
    row(5, "meshagent_x86", "meshagent", "Linux x86-32", Linux, LA, true),
    row(6, "meshagent_x86-64", "meshagent", "Linux x86-64", Linux, LA, true),
    row(7, "meshagent_mips", "meshagent", "Linux MIPS", Linux, LN, true),
    row(8, "MeshAgent-Linux-XEN-x86-32", "meshagent", "XEN x86-32", Linux, LA, true),
    row(9, "meshagent_arm", "meshagent", "Linux ARM 5", Linux, LN, true),
    row(10, "MeshAgent-Linux-ARM-PlugPC", "meshagent", "Linux ARM PlugPC", Linux, LN, true),
    row(11, "meshagent_osx-x86-32", "meshosx", "macOS x86-32", MacOs, LN, true),
    row(12, "MeshAgent-Android-x86", "meshandroid", "Android x86", Android, LN, true),
    row(13, "meshagent_pogo", "meshagent", "Linux ARM PogoPlug", Linux, LN, true),
    row(14, "meshagent_android.apk", "meshandroid.apk", "Android", Android, LN, false),
    row(15, "meshagent_poky", "meshagent", "Linux Poky x86-32", Linux, LN, true),
    row(16, "meshagent_osx-x86-64", "meshagent", "macOS x86-64", MacOs, LN, true),
    row(17, "MeshAgent-ChromeOS", "meshagent", "ChromeOS", ChromeOs, LN, false),
    row(18, "meshagent_poky64", "meshagent", "Linux Poky x86-64", Linux, LN, true),
    row(19, "meshagent_x86_nokvm", "meshagent", "Linux x86-32, no desktop", Linux, LA, true),
    row(20, "meshagent_x86-64_nokvm", "meshagent", "Linux x86-64, no desktop", Linux, LA, true),
    row(21, "MeshAgent-WinMinCore-Console-x86-32.exe", "meshagent.exe", "Windows MinCore console", Windows, WA, true),
    row(22, "MeshAgent-WinMinCore-Service-x86-64.exe", "meshagent.exe", "Windows MinCore service", Windows, WA, true),
    row(23, "MeshAgent-NodeJS", "meshagent", "NodeJS", Other, NO, false),
    row(24, "meshagent_arm-linaro", "meshagent", "Linux ARM Linaro", Linux, LN, true),
    row(25, "meshagent_armhf", "meshagent", "Linux ARM 6/7 hard-float", Linux, LN, true),
    row(26, "meshagent_aarch64", "meshagent", "Linux ARM 64", Linux, LN, true),
    row(27, "meshagent_armhf2", "meshagent", "Linux ARM hard-float, old Raspbian", Linux, LN, true),
    row(28, "meshagent_mips24kc", "meshagent", "OpenWrt MIPS 24Kc", OpenWrt, LN, true),
    row(29, "meshagent_osx-arm-64", "meshagent", "macOS ARM 64", MacOs, LN, true),
    row(30, "meshagent_freebsd_x86-64", "meshagent", "FreeBSD x86-64", Bsd, LN, true),
    row(32, "meshagent_aarch64", "meshagent", "Linux ARM 64", Linux, LN, true),
    row(33, "meshagent_openwrt_x86_64", "meshagent", "OpenWrt x86-64", OpenWrt, LN, true),
    row(34, "assistant_windows", "meshassistant", "Windows assistant", Windows, LN, false),
    row(35, "meshagent_linux-armada370-hf", "meshagent", "Linux ARM Armada 370", Linux, LN, true),
    row(36, "meshagent_openwrt_x86_64", "meshagent", "OpenWrt x86-64", OpenWrt, LN, true),
    row(37, "meshagent_openbsd_x86-64", "meshagent", "OpenBSD x86-64", Bsd, LN, true),
    row(40, "meshagent_mipsel24kc", "meshagent", "OpenWrt MIPSEL 24Kc", OpenWrt, LN, true),
    row(41, "meshagent_aarch64-cortex-a53", "meshagent", "OpenWrt ARM 64 Cortex-A53", OpenWrt, LN, true),
    row(42, "MeshConsoleARM64.exe", "meshconsolearm64.exe", "Windows ARM 64 console", Windows, WA, true),
    row(43, "MeshServiceARM64.exe", "meshagentarm64.exe", "Windows ARM 64 service", Windows, WA, true),
    row(45, "meshagent_riscv64", "meshagent", "Linux RISC-V 64", Linux, LN, true),
    row(10003, "MeshService.exe", "meshagent32.exe", "Windows x86-32 service, unsigned", Windows, WA, true),
    row(10004, "MeshService64.exe", "meshagent64.exe", "Windows x86-64 service, unsigned", Windows, WA, true),
    row(10005, "meshagent_osx-universal-64", "meshagent", "macOS universal", MacOs, LN, true),
    row(10006, "MeshCentralAssistant.exe", "MeshCentralAssistant.exe", "MeshCentral Assistant", Windows, NO, false),
    row(11000, "MeshCmd.exe", "MeshCmd.exe", "MeshCmd x86-32", Windows, NO, false),
    row(11001, "MeshCmd64.exe", "MeshCmd64.exe", "MeshCmd x86-64", Windows, NO, false),
    row(11002, "MeshCmdARM64.exe", "MeshCmdARM64.exe", "MeshCmd ARM 64", Windows, NO, false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_number() {
        assert!(TABLE.windows(2).all(|pair| pair[0].id < pair[1].id));
        for row in TABLE {
            assert_eq!(by_id(row.id), Some(row));
        }
        for unused in [31, 38, 39, 44, 46, u32::MAX] {
            assert_eq!(by_id(unused), None);
        }
    }

    #[test]
    fn machines_choose_the_binary_the_installer_would() {
        assert_eq!(by_machine("x86_64").unwrap().binary, "meshagent_x86-64");
        assert_eq!(by_machine("armv7l").unwrap().id, 25);
        assert_eq!(by_machine("aarch64").unwrap().id, 26);
        assert_eq!(by_machine("riscv64").unwrap().platform, Platform::Linux);
        assert_eq!(by_machine("vax"), None);
    }
}
