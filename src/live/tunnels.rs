//! Who is connected to which device, by what the relay carries: an agent can neither hide nor invent anybody.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use outpost_wire::id::DeviceId;
use serde_json::{Map, Value, json};

/// What somebody does in a tunnel, as clients name it (tunnel-protocols §1.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelKind {
    /// The screen.
    Desktop,
    /// A shell.
    Terminal,
    /// Files.
    Files,
    /// A TCP port, or whatever is none of the others.
    Tcp,
    /// A UDP port.
    Udp,
}

impl TunnelKind {
    /// Every kind.
    pub const ALL: [TunnelKind; 5] =
        [TunnelKind::Desktop, TunnelKind::Terminal, TunnelKind::Files, TunnelKind::Tcp, TunnelKind::Udp];

    /// Its key in a device's `sessions`.
    pub fn key(self) -> &'static str {
        match self {
            TunnelKind::Desktop => "kvm",
            TunnelKind::Terminal => "terminal",
            TunnelKind::Files => "files",
            TunnelKind::Tcp => "tcp",
            TunnelKind::Udp => "udp",
        }
    }
}

/// How many tunnels of a kind each seat has: a user's id, for a guest with `/guest:` and the name behind it.
type Seats = BTreeMap<TunnelKind, BTreeMap<String, u32>>;

/// The tunnels that are open, by device.
#[derive(Default)]
pub struct OpenTunnels {
    devices: Mutex<HashMap<DeviceId, Seats>>,
}

impl OpenTunnels {
    fn devices(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, Seats>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a tunnel.
    pub fn add(&self, device: &DeviceId, kind: TunnelKind, seat: &str) {
        let mut devices = self.devices();
        let kinds = devices.entry(device.clone()).or_default();
        *kinds.entry(kind).or_default().entry(seat.to_owned()).or_default() += 1;
    }

    /// Counts one less.
    pub fn remove(&self, device: &DeviceId, kind: TunnelKind, seat: &str) {
        let mut devices = self.devices();
        let Some(kinds) = devices.get_mut(device) else { return };
        if let Some(seats) = kinds.get_mut(&kind) {
            if let Some(count) = seats.get_mut(seat) {
                *count -= 1;
            }
            seats.retain(|_, count| *count > 0);
        }
        kinds.retain(|_, seats| !seats.is_empty());
        if kinds.is_empty() {
            devices.remove(device);
        }
    }

    /// How many devices have one.
    pub fn devices_count(&self) -> usize {
        self.devices().len()
    }

    /// Puts the tunnels of a device into its `sessions`, in place of what its agent says of such ones.
    pub fn correct(&self, device: &DeviceId, sessions: &mut Map<String, Value>) {
        let devices = self.devices();
        let open = devices.get(device);
        for kind in TunnelKind::ALL {
            match open.and_then(|kinds| kinds.get(&kind)) {
                Some(seats) => sessions.insert(kind.key().to_owned(), json!(seats)),
                None => sessions.remove(kind.key()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_say_of_tunnels_gives_way_to_what_is_known() {
        let (open, device) =
            (OpenTunnels::default(), DeviceId::complete("", &"a".repeat(64)).expect("an id"));
        let said = json!({ "kvm": { "user//ghost": 1 }, "msg": { "user//ann": 1 } });
        let corrected = |open: &OpenTunnels| {
            let mut sessions = said.as_object().expect("an object").clone();
            open.correct(&device, &mut sessions);
            Value::Object(sessions)
        };
        assert_eq!(corrected(&open), json!({ "msg": { "user//ann": 1 } }));
        for seat in ["user//ann", "user//ann", "user//bob"] {
            open.add(&device, TunnelKind::Terminal, seat);
        }
        open.add(&device, TunnelKind::Desktop, "user//bob");
        open.remove(&device, TunnelKind::Terminal, "user//ann");
        open.remove(&device, TunnelKind::Terminal, "user//bob");
        let left = json!({
            "kvm": { "user//bob": 1 }, "terminal": { "user//ann": 1 }, "msg": { "user//ann": 1 },
        });
        assert_eq!(corrected(&open), left);
        open.remove(&device, TunnelKind::Terminal, "user//ann");
        open.remove(&device, TunnelKind::Desktop, "user//bob");
        assert!(open.devices().is_empty(), "nothing is kept of a device without tunnels");
    }
}
