//! The hardware inventory (`sysinfo`): maker, board, processor, memory, disks, graphics; no programs run.

use std::fs;

use ring::digest::{SHA384, digest};
use serde_json::{Map, Value, json};

use crate::{host, smbios};

/// Disks and graphics adapters listed at most.
const MAX_LISTED: usize = 64;
/// MeshCentral rejects the whole inventory when one string is longer.
const MAX_STRING: usize = 1024;

/// The `data` of a `sysinfo` message, its own hash included, and that hash.
pub fn inventory() -> (Value, String) {
    let mut data = json!({
        "hardware": {
            "identifiers": identifiers(),
            "linux": { "memory": memory() },
            "agentvers": { "outpost": env!("CARGO_PKG_VERSION") },
            "network": { "dns": dns_servers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default()) },
        },
    });
    if std::path::Path::new("/run/reboot-required").exists() {
        data["pendingReboot"] = json!("Reboot required by installed updates");
    }
    shorten(&mut data);
    let hash: String = digest(&SHA384, data.to_string().as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    data["hash"] = json!(hash);
    (data, hash)
}

fn identifiers() -> Value {
    let mut identifiers = Map::new();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            identifiers.insert(key.into(), value.into());
        }
    };
    for field in [
        "bios_date",
        "bios_vendor",
        "bios_version",
        "board_name",
        "board_serial",
        "board_vendor",
        "board_version",
        "chassis_serial",
        "chassis_asset_tag",
        "product_name",
        "product_serial",
        "product_uuid",
        "sys_vendor",
    ] {
        set(field, host::dmi(field));
    }
    if let Some(model) = host::board_model() {
        set("product_name", Some(model.clone()));
        set("board_name", Some(model));
        set("product_serial", host::board_serial());
    }
    set(
        "bios_mode",
        Some(if std::path::Path::new("/sys/firmware/efi").exists() { "UEFI" } else { "Legacy" }.into())
            .filter(|_| std::path::Path::new("/sys/class/dmi/id").exists()),
    );
    set("cpu_name", cpu_name(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()));
    identifiers.insert("storage_devices".into(), storage_devices());
    let graphics = graphics();
    if !graphics.is_empty() {
        identifiers.insert("gpu_name".into(), graphics.into());
    }
    Value::Object(identifiers)
}

fn memory() -> Value {
    let modules = smbios::tables().map(|tables| smbios::memory_modules(&tables)).unwrap_or_default();
    let mut memory = json!({ "Memory_Device": modules });
    if let Some(total) = meminfo("MemTotal") {
        memory["total"] = json!(total);
    }
    memory
}

/// A figure of `/proc/meminfo` in bytes.
pub fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// x86 names the model per core; ARM boards name it once or (older kernels) not at all.
fn cpu_name(cpuinfo: &str) -> Option<String> {
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned()).filter(|value| !value.is_empty())
        })
    };
    field("model name")
        .or_else(|| field("Hardware"))
        .or_else(|| field("uarch"))
        .or_else(|| field("cpu model"))
}

/// Whole disks; partitions, memory disks and mapped devices are not hardware.
fn storage_devices() -> Value {
    let Ok(entries) = fs::read_dir("/sys/block") else { return json!([]) };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| {
        !["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"].iter().any(|kind| name.starts_with(kind))
    });
    names.sort();
    let disks: Vec<Value> = names.iter().take(MAX_LISTED).filter_map(|name| storage_device(name)).collect();
    disks.into()
}

fn storage_device(name: &str) -> Option<Value> {
    let sysfs = |field: &str| host::read_line(&format!("/sys/block/{name}/{field}"));
    // The kernel counts 512-byte sectors whatever the disk's own are.
    let size = sysfs("size")?.parse::<u64>().ok()?.checked_mul(512).filter(|&size| size > 0)?;
    let mut disk = json!({ "Caption": name, "Size": size });
    if let Some(model) = sysfs("device/model").or_else(|| sysfs("device/name")) {
        disk["Model"] = json!(model);
    }
    if let Some(serial) = sysfs("device/serial") {
        disk["SerialNumber"] = json!(serial);
    }
    Some(disk)
}

/// Graphics adapters by driver and PCI id (names would need a database of them).
fn graphics() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/class/drm") else { return Vec::new() };
    let mut cards: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.strip_prefix("card").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())))
        .collect();
    cards.sort();
    cards.truncate(MAX_LISTED);
    cards.iter().filter_map(|card| graphics_name(card)).collect()
}

fn graphics_name(card: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/class/drm/{card}/device/uevent")).ok()?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    match (field("DRIVER"), field("PCI_ID")) {
        (Some(driver), Some(id)) => Some(format!("{driver} ({id})")),
        (Some(driver), None) => Some(driver.to_owned()),
        (None, Some(id)) => Some(format!("PCI {id}")),
        (None, None) => None,
    }
}

fn dns_servers(resolv: &str) -> Vec<String> {
    resolv
        .lines()
        .filter_map(|line| {
            line.strip_prefix("nameserver")?.split_ascii_whitespace().next().map(str::to_owned)
        })
        .take(8)
        .collect()
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => {
            let cut = text.floor_char_boundary(MAX_STRING.min(text.len()));
            text.truncate(cut);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_stays_while_the_machine_does() {
        let ((data, one), (_, two)) = (inventory(), inventory());
        assert_eq!(one, two);
        assert_eq!(one.len(), 96);
        assert!(data["hardware"]["identifiers"]["cpu_name"].is_string() || cfg!(not(target_arch = "x86_64")));
    }

    /// MeshCentral rejects the whole inventory over one key outside this alphabet.
    #[test]
    fn keys_are_what_servers_accept() {
        fn check(value: &Value) {
            if let Value::Object(fields) = value {
                for (key, value) in fields {
                    assert!(
                        key.len() <= 100 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
                        "{key}"
                    );
                    check(value);
                }
            }
        }
        check(&inventory().0);
    }

    #[test]
    fn processors_are_named_on_pc_and_board() {
        assert_eq!(cpu_name("processor\t: 0\nmodel name\t: Acme 9000\n").as_deref(), Some("Acme 9000"));
        assert_eq!(cpu_name("processor\t: 0\nHardware\t: BCM2835\n").as_deref(), Some("BCM2835"));
        assert_eq!(cpu_name(""), None);
    }

    #[test]
    fn long_strings_are_cut_between_characters() {
        let mut value = json!({"a": "é".repeat(1000)});
        shorten(&mut value);
        assert!(value["a"].as_str().expect("text").len() <= MAX_STRING);
    }
}
