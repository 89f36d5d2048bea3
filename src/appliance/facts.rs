//! What the server sees of the machine without asking root: memory, room, temperature, network, clock.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::clock;
use crate::discovery;

/// Made by systemd-timesyncd once a time server has answered since the start.
pub const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// The machine now. Sizes in bytes, times in Unix milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Its host name.
    pub name: String,
    /// What the board calls itself.
    pub model: Option<String>,
    /// Seconds since the machine started.
    pub uptime: u64,
    /// Memory.
    pub memory: Memory,
    /// The file system of the data.
    pub storage: Option<Storage>,
    /// Degrees Celsius of the warmest sensor.
    pub temperature: Option<f64>,
    /// Network interfaces but the loopback one.
    pub network: Vec<Interface>,
    /// The clock.
    pub time: Time,
}

/// Memory.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Of the machine.
    pub total: u64,
    /// That programs could still have.
    pub available: u64,
    /// Of this process.
    pub own: u64,
}

/// Room on the disk.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Of the file system.
    pub total: u64,
    /// That is left for others than root.
    pub free: u64,
}

/// Where the data is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Of its file system.
    #[serde(flatten)]
    pub room: Room,
    /// Of the store.
    pub store: u64,
}

/// A network interface.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// The kernel's name.
    pub name: String,
    /// It is a radio's.
    pub wireless: bool,
    /// Whether there is a carrier: a cable with somebody at its other end, an access point.
    pub link: bool,
    /// Megabits a second, where the driver knows.
    pub speed: Option<u32>,
    /// Hardware address.
    pub hardware: Option<String>,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
}

/// The clock.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Time {
    /// Now.
    pub now: i64,
    /// A time server has set it since the start.
    pub synchronised: bool,
    /// The machine has a clock that runs while it is off.
    pub battery: bool,
}

impl Facts {
    /// Looks. It reads small files of the kernel, and does not block.
    pub fn now(data_folder: &Path) -> Facts {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let uptime = text("/proc/uptime");
        let uptime = uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
        // Ended by a zero in the device tree.
        let model = text("/proc/device-tree/model");
        let model = model.trim_end_matches(['\0', '\n']).trim();
        Facts {
            name: host_name(),
            model: (!model.is_empty()).then(|| model.to_owned()),
            uptime,
            memory: memory(&text("/proc/meminfo")),
            storage: room(data_folder).map(|room| {
                let store = fs::metadata(data_folder.join(crate::store::FILE_NAME));
                Storage { room, store: store.map_or(0, |meta| meta.len()) }
            }),
            temperature: temperature(Path::new("/sys/class/thermal")),
            network: network(Path::new("/sys/class/net"), discovery::interface_addresses()),
            time: Time {
                now: clock::now_ms(),
                synchronised: Path::new(SYNCHRONISED).exists(),
                battery: Path::new("/sys/class/rtc/rtc0").exists(),
            },
        }
    }
}

/// The name of this machine.
pub fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Room on the file system of a folder; none when that cannot be asked.
pub fn room(folder: &Path) -> Option<Room> {
    let stat = nix::sys::statvfs::statvfs(folder).ok()?;
    // Numbers of the kernel are 32 or 64 bits wide, by machine.
    #[allow(clippy::useless_conversion, reason = "not on 32-bit machines")]
    let bytes = |blocks: nix::libc::fsblkcnt_t| u64::from(blocks).saturating_mul(stat.fragment_size().into());
    Some(Room { total: bytes(stat.blocks()), free: bytes(stat.blocks_available()) })
}

fn memory(meminfo: &str) -> Memory {
    let value = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let kib: u64 = line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        kib * 1024
    };
    let own = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = own.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    Memory { total: value("MemTotal:"), available: value("MemAvailable:"), own: pages * 4096 }
}

/// The warmest of the sensors. Each is in thousandths of a degree; what no silicon survives is a broken sensor.
fn temperature(sensors: &Path) -> Option<f64> {
    let zones = fs::read_dir(sensors).ok()?;
    let degrees =
        zones.flatten().filter(|zone| zone.file_name().to_string_lossy().starts_with("thermal_zone"));
    let degrees = degrees.filter_map(|zone| {
        let text = fs::read_to_string(zone.path().join("temp")).ok()?;
        let thousandths: i32 = text.trim().parse().ok()?;
        (-40_000..150_000).contains(&thousandths).then(|| f64::from(thousandths) / 1000.0)
    });
    degrees.reduce(f64::max)
}

fn network(interfaces: &Path, mut addresses: BTreeMap<String, Vec<std::net::IpAddr>>) -> Vec<Interface> {
    let mut found: Vec<Interface> = fs::read_dir(interfaces)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let read =
                |file: &str| fs::read_to_string(path.join(file)).ok().map(|text| text.trim().to_owned());
            // 772 is the loopback one's type. Without a device behind it, it is made by software.
            if read("type").as_deref() == Some("772") {
                return None;
            }
            Some(Interface {
                wireless: path.join("wireless").exists() || path.join("phy80211").exists(),
                link: read("carrier").as_deref() == Some("1"),
                speed: read("speed").and_then(|speed| speed.parse().ok()),
                hardware: read("address").filter(|address| address != "00:00:00:00:00:00"),
                addresses: addresses.remove(&name).unwrap_or_default(),
                name,
            })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        folder
    }

    #[test]
    fn the_warmest_sensor_that_works_counts() {
        let sensors = tree(&[
            ("thermal_zone0/temp", "48312\n"),
            ("thermal_zone1/temp", "51000\n"),
            ("thermal_zone2/temp", "-2147483648\n"),
            ("thermal_zone3/temp", "n/a\n"),
            ("cooling_device0/temp", "90000\n"),
        ]);
        assert_eq!(temperature(sensors.path()), Some(51.0));
        assert_eq!(temperature(tree(&[]).path()), None);
    }

    #[test]
    fn interfaces_have_links_and_addresses() {
        let interfaces = tree(&[
            ("lo/type", "772\n"),
            ("eth0/type", "1\n"),
            ("eth0/carrier", "1\n"),
            ("eth0/speed", "1000\n"),
            ("eth0/address", "b8:27:eb:00:00:01\n"),
            ("wlan0/type", "1\n"),
            ("wlan0/phy80211/name", "phy0\n"),
            ("wlan0/speed", "-1\n"),
        ]);
        let address: std::net::IpAddr = "192.0.2.7".parse().expect("an address");
        let found = network(interfaces.path(), BTreeMap::from([("eth0".to_owned(), vec![address])]));
        let [eth, wlan] = &found[..] else { panic!("{found:?}") };
        assert_eq!((eth.name.as_str(), eth.link, eth.speed, eth.wireless), ("eth0", true, Some(1000), false));
        assert_eq!(eth.addresses, [address]);
        assert_eq!((wlan.name.as_str(), wlan.link, wlan.speed, wlan.wireless), ("wlan0", false, None, true));
    }

    #[test]
    fn memory_is_read_from_the_kernels_table() {
        let memory = memory("MemTotal:         486532 kB\nMemFree: 1 kB\nMemAvailable:     435628 kB\n");
        assert_eq!((memory.total, memory.available), (486_532 * 1024, 435_628 * 1024));
        assert!(memory.own > 0);
    }

    #[test]
    fn there_is_room_on_the_disk_of_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let room = room(folder.path()).expect("asked");
        assert!(room.total >= room.free && room.total > 0);
        assert!(super::room(Path::new("/nowhere/at/all")).is_none());
    }
}
