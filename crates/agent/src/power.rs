//! Power actions: an orderly end under an init system, the kernel's own where there is none.

use std::fs;
use std::io;
use std::path::Path;

use nix::libc;
use nix::sys::reboot::{RebootMode, reboot};
use outpost_wire::message::PowerActionKind;
use tokio::process::Command;

/// What can be done to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// Power off.
    Off,
    /// Restart.
    Reset,
    /// Suspend to memory.
    Sleep,
}

/// Why nothing happened.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// Only root may.
    #[error("the agent does not run as root, so it has no say over the machine's power")]
    NotRoot,
    /// The request is not one that Linux can do.
    #[error("power action {0:?} is not one this agent can do (off, reset and sleep are)")]
    Unknown(PowerActionKind),
    /// The system refused.
    #[error("{action}: {source}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl PowerAction {
    /// What of MeshCentral's list can be done on Linux.
    pub fn from_request(kind: PowerActionKind) -> Result<Self, PowerError> {
        match kind {
            PowerActionKind::Off => Ok(Self::Off),
            PowerActionKind::Reset => Ok(Self::Reset),
            PowerActionKind::Sleep => Ok(Self::Sleep),
            other => Err(PowerError::Unknown(other)),
        }
    }

    /// Does it. Returns once the system has taken the order.
    pub async fn perform(self) -> Result<(), PowerError> {
        if !crate::host::is_root() {
            return Err(PowerError::NotRoot);
        }
        match self {
            Self::Sleep => sleep().await,
            Self::Off | Self::Reset => self.shut_down().await,
        }
    }

    async fn shut_down(self) -> Result<(), PowerError> {
        if runs_systemd() {
            return self.signal_systemd();
        }
        // Other init systems bring programs of their own that stop services first.
        let program = if self == Self::Off { "poweroff" } else { "reboot" };
        for folder in ["/sbin", "/usr/sbin", "/bin"] {
            let path = Path::new(folder).join(program);
            if path.exists() && Command::new(path).status().await.is_ok_and(|status| status.success()) {
                return Ok(());
            }
        }
        nix::unistd::sync();
        let mode = if self == Self::Off { RebootMode::RB_POWER_OFF } else { RebootMode::RB_AUTOBOOT };
        match reboot(mode) {
            Ok(never) => match never {},
            Err(errno) => Err(PowerError::Refused { action: "reboot(2)", source: errno.into() }),
        }
    }

    /// systemd(1), "Signals": SIGRTMIN+4 starts poweroff.target, SIGRTMIN+5 reboot.target. It needs
    /// neither D-Bus nor a program.
    #[allow(unsafe_code)]
    fn signal_systemd(self) -> Result<(), PowerError> {
        let signal = libc::SIGRTMIN() + if self == Self::Off { 4 } else { 5 };
        // SAFETY: kill(2) takes numbers only; nix has no type for real-time signals.
        match unsafe { libc::kill(1, signal) } {
            0 => Ok(()),
            _ => Err(PowerError::Refused { action: "asking systemd", source: io::Error::last_os_error() }),
        }
    }
}

/// logind locks screens and tells programs; the kernel alone merely stops.
async fn sleep() -> Result<(), PowerError> {
    if runs_systemd()
        && Command::new("systemctl").arg("suspend").status().await.is_ok_and(|status| status.success())
    {
        return Ok(());
    }
    nix::unistd::sync();
    // The write returns after the machine has woken.
    tokio::task::spawn_blocking(|| fs::write("/sys/power/state", "mem"))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|source| PowerError::Refused { action: "suspending to memory", source })
}

/// Whether systemd is the init system (sd_booted(3)).
pub fn runs_systemd() -> bool {
    sd_notify::booted().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_linux_can_do_is_taken() {
        assert_eq!(PowerAction::from_request(PowerActionKind::Off).ok(), Some(PowerAction::Off));
        assert_eq!(PowerAction::from_request(PowerActionKind::Reset).ok(), Some(PowerAction::Reset));
        assert_eq!(PowerAction::from_request(PowerActionKind::Sleep).ok(), Some(PowerAction::Sleep));
        assert!(PowerAction::from_request(PowerActionKind::Beep).is_err());
    }
}
