//! Devices as a table of comma-separated values: 42 columns whose names and order scripts know
//! (control-protocol §4.5).

use std::fmt::Write as _;

use serde_json::Value;

/// Where a column's value comes from.
enum Source {
    /// The first of these JSON pointers that leads to a text, number or truth.
    At(&'static [&'static str]),
    /// Made of several values.
    Made(fn(&Value) -> String),
}
use Source::{At, Made};

const COLUMNS: [(&str, Source); 42] = [
    ("id", At(&["/node/_id"])),
    ("name", At(&["/node/name"])),
    ("rname", At(&["/node/rname"])),
    ("host", At(&["/node/host"])),
    ("icon", At(&["/node/icon"])),
    ("ip", At(&["/node/ip"])),
    ("osdesc", At(&["/node/osdesc"])),
    ("groupname", At(&["/node/groupname"])),
    ("av", At(&["/node/wsc/antiVirus"])),
    ("update", At(&["/node/wsc/autoUpdate"])),
    ("firewall", At(&["/node/wsc/firewall"])),
    ("bitlocker", Made(encrypted_volumes)),
    ("avdetails", Made(virus_scanners)),
    ("tags", Made(tags)),
    ("lastbootuptime", At(&["/node/lastbootuptime"])),
    ("cpu", At(&["/sys/hardware/windows/cpu/0/Name", "/sys/hardware/identifiers/cpu_name"])),
    ("osbuild", At(&["/sys/hardware/windows/osinfo/BuildNumber"])),
    ("biosDate", At(&["/sys/hardware/linux/bios_date", "/sys/hardware/identifiers/bios_date"])),
    (
        "biosVendor",
        At(&[
            "/sys/hardware/linux/bios_vendor",
            "/sys/hardware/identifiers/bios_vendor",
            "/sys/hardware/mobile/bootloader",
        ]),
    ),
    ("biosVersion", At(&["/sys/hardware/linux/bios_version", "/sys/hardware/identifiers/bios_version"])),
    ("biosSerial", At(&["/sys/hardware/linux/product_serial", "/sys/hardware/identifiers/bios_serial"])),
    ("biosMode", At(&["/sys/hardware/identifiers/bios_mode"])),
    (
        "boardName",
        At(&[
            "/sys/hardware/linux/board_name",
            "/sys/hardware/identifiers/board_name",
            "/sys/hardware/mobile/model",
        ]),
    ),
    (
        "boardVendor",
        At(&[
            "/sys/hardware/linux/board_vendor",
            "/sys/hardware/identifiers/board_vendor",
            "/sys/hardware/mobile/brand",
        ]),
    ),
    ("boardVersion", At(&["/sys/hardware/linux/board_version", "/sys/hardware/identifiers/board_version"])),
    (
        "productUuid",
        At(&[
            "/sys/hardware/linux/product_uuid",
            "/sys/hardware/identifiers/product_uuid",
            "/sys/hardware/mobile/id",
        ]),
    ),
    ("tpmversion", At(&["/sys/hardware/tpm/SpecVersion"])),
    ("tpmmanufacturer", At(&["/sys/hardware/tpm/ManufacturerId"])),
    ("tpmmanufacturerversion", At(&["/sys/hardware/tpm/ManufacturerVersion"])),
    ("tpmisactivated", At(&["/sys/hardware/tpm/IsActivated"])),
    ("tpmisenabled", At(&["/sys/hardware/tpm/IsEnabled"])),
    ("tpmisowned", At(&["/sys/hardware/tpm/IsOwned"])),
    ("totalMemory", Made(memory)),
    ("agentOpenSSL", At(&["/sys/hardware/agentvers/openssl"])),
    ("agentCommitDate", At(&["/sys/hardware/agentvers/commitDate"])),
    ("agentCommitHash", At(&["/sys/hardware/agentvers/commitHash"])),
    ("agentCompileTime", At(&["/sys/hardware/agentvers/compileTime"])),
    ("netIfCount", Made(interface_count)),
    ("macs", Made(|device| interfaces(device, "mac"))),
    ("addresses", Made(|device| interfaces(device, "address"))),
    ("lastConnectTime", At(&["/lastConnect/time"])),
    ("lastConnectAddr", At(&["/lastConnect/addr"])),
];

/// The table of devices as `getDeviceDetails` describes them: `{node, sys?, net?, lastConnect?}`.
pub fn table(devices: &[Value]) -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let mut out = names.join(",");
    out.push_str("\r\n");
    for device in devices {
        for (n, (_, source)) in COLUMNS.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            match source {
                At(pointers) => {
                    let value = pointers.iter().find_map(|pointer| {
                        device.pointer(pointer).filter(|value| !value.is_null() && **value != "")
                    });
                    cell(&mut out, value);
                }
                Made(make) => cell(&mut out, Some(&Value::String(make(device)))),
            }
        }
        out.push_str("\r\n");
    }
    out
}

/// Texts are quoted, and rid of what would end a cell. One that a spreadsheet would take for a formula is
/// kept a text: devices name themselves.
fn cell(out: &mut String, value: Option<&Value>) {
    match value {
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => {
            let formula = text.starts_with(['=', '+', '-', '@']) && text.parse::<f64>().is_err();
            let clean: String = text.chars().filter(|c| !matches!(c, '"' | ',') && !c.is_control()).collect();
            let _ = write!(out, "\"{}{clean}\"", if formula { "'" } else { "" });
        }
        Some(value @ (Value::Number(_) | Value::Bool(_))) => {
            let _ = write!(out, "{value}");
        }
        _ => {}
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn encrypted_volumes(device: &Value) -> String {
    let volumes = device.pointer("/node/volumes").and_then(Value::as_object).into_iter().flatten();
    let known = volumes.filter(|(_, volume)| volume.get("protectionStatus").is_some());
    known
        .map(|(name, volume)| match volume.get("volumeStatus") {
            Some(Value::String(status)) => format!("{name}/{status}"),
            status => format!("{name}/{}", status.unwrap_or(&Value::Null)),
        })
        .collect::<Vec<_>>()
        .join("|")
}

fn virus_scanners(device: &Value) -> String {
    let scanners = device.pointer("/node/av").and_then(Value::as_array).into_iter().flatten();
    let is =
        |scanner: &Value, field: &str| scanner.get(field).is_some_and(|flag| *flag == true || *flag == 1);
    scanners
        .filter(|scanner| !text(scanner, "product").is_empty())
        .map(|scanner| {
            format!(
                "{}/{}/{}",
                text(scanner, "product"),
                if is(scanner, "enabled") { "enabled" } else { "disabled" },
                if is(scanner, "updated") { "updated" } else { "notupdated" },
            )
        })
        .collect::<Vec<_>>()
        .join("|")
}

fn tags(device: &Value) -> String {
    let tags = device.pointer("/node/tags").and_then(Value::as_array).into_iter().flatten();
    tags.filter_map(Value::as_str).collect::<Vec<_>>().join("|")
}

/// Bytes: Windows tells its modules in bytes, Linux in GiB.
fn memory(device: &Value) -> String {
    // Agents write `16` as well as `"16 GB"`; only the number before the unit counts.
    let number = |value: Option<&Value>| match value {
        Some(Value::Number(number)) => number.as_u64().unwrap_or(0),
        Some(Value::String(text)) => text
            .trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0),
        _ => 0,
    };
    let sum = |pointer: &str, field: &str| {
        let modules = device.pointer(pointer)?.as_array()?;
        Some(modules.iter().fold(0u64, |all, module| all.saturating_add(number(module.get(field)))))
    };
    let bytes = sum("/sys/hardware/windows/memory", "Capacity").or_else(|| {
        sum("/sys/hardware/linux/memory/Memory_Device", "Size").map(|gib| gib.saturating_mul(1 << 30))
    });
    bytes.map_or(String::new(), |bytes| bytes.to_string())
}

fn interface_count(device: &Value) -> String {
    let interfaces = device.pointer("/net/netif2").and_then(Value::as_object);
    interfaces.map_or(String::new(), |interfaces| interfaces.len().to_string())
}

fn interfaces(device: &Value, field: &str) -> String {
    let interfaces = device.pointer("/net/netif2").and_then(Value::as_object).into_iter().flatten();
    let addresses = interfaces.filter_map(|(_, addresses)| addresses.as_array()).flatten();
    addresses
        .map(|address| text(address, field))
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_device_is_a_row_of_all_columns() {
        let device = json!({
            "node": { "_id": "node//x", "name": "=cmd(),\"x\"", "icon": 1, "tags": ["a", "b"],
                      "av": [{ "product": "Scan", "enabled": true }] },
            "sys": { "hardware": { "linux": { "memory": { "Memory_Device": [{ "Size": 8 }, { "Size": "8 GB" }] } } } },
            "net": { "netif2": { "lo": [{ "address": "127.0.0.1" }], "eth0": [{ "mac": "02:00", "address": "192.0.2.1" }] } },
            "lastConnect": { "time": 5, "addr": "127.0.0.1:1" },
        });
        let table = table(&[device]);
        let rows: Vec<&str> = table.split("\r\n").collect();
        assert_eq!(rows.len(), 3);
        assert!(
            rows[0].starts_with("id,name,rname,") && rows[0].ends_with("lastConnectTime,lastConnectAddr")
        );
        let cells: Vec<&str> = rows[1].split(',').collect();
        assert_eq!(cells.len(), 42);
        assert_eq!(cells[..5], ["\"node//x\"", "\"'=cmd()x\"", "", "", "1"]);
        assert_eq!(cells[12..14], ["\"Scan/enabled/notupdated\"", "\"a|b\""]);
        assert_eq!(cells[32], "\"17179869184\"");
        assert_eq!(cells[37], "\"2\"");
        assert_eq!(cells[40..], ["5", "\"127.0.0.1:1\""]);
    }
}
