//! What the store keeps of jobs and their runs.

use std::fmt;

use outpost_wire::arch::{self, Platform};
use outpost_wire::id::{DeviceId, UserId};
use outpost_wire::message::ShellKind;
use outpost_wire::random;
use serde::{Deserialize, Serialize};

use crate::model::User;

/// Output kept of a run, in bytes; the end of it where there is more.
pub const OUTPUT_KEPT: usize = 64 << 10;

/// Name of a job: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct JobId(String);

impl JobId {
    /// A new one.
    pub fn random() -> JobId {
        JobId(random::bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<JobId, Self::Error> {
        let fits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if fits { Ok(JobId(text)) } else { Err("expected 16 hexadecimal digits") }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a script is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shell {
    /// The system's own: `cmd.exe` on Windows, `/bin/sh` elsewhere.
    #[default]
    System,
    /// `/bin/sh`.
    Sh,
    /// `bash`.
    Bash,
    /// `cmd.exe`.
    Cmd,
    /// Windows PowerShell.
    PowerShell,
}

impl Shell {
    /// The interpreter that an agent of this architecture is told, and the script as it is told.
    ///
    /// # Errors
    /// When its system has no such interpreter, in words.
    pub fn on(self, architecture: u32, script: &str) -> Result<(ShellKind, String), &'static str> {
        let windows =
            arch::by_id(architecture).is_some_and(|architecture| architecture.platform == Platform::Windows);
        let kind = match (self, windows) {
            (Shell::System | Shell::Cmd, true) => ShellKind::Cmd,
            (Shell::PowerShell, true) => ShellKind::PowerShell,
            (Shell::System | Shell::Sh, false) => ShellKind::Sh,
            // Agents know /bin/sh only.
            (Shell::Bash, false) => {
                return Ok((ShellKind::Sh, format!("exec bash -c '{}'", script.replace('\'', r"'\''"))));
            }
            (Shell::Sh | Shell::Bash, true) => {
                return Err("This device runs Windows, which has no such shell");
            }
            (Shell::Cmd | Shell::PowerShell, false) => {
                return Err("This device does not run Windows, and has no such shell");
            }
        };
        Ok((kind, script.to_owned()))
    }
}

/// A script for devices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Domain of user and devices.
    #[serde(default)]
    pub domain: String,
    /// Who asked. The script runs with this person's rights of the moment it is sent.
    pub userid: UserId,
    /// The name at that time.
    pub username: String,
    /// What it is written for.
    #[serde(default)]
    pub shell: Shell,
    /// The script.
    pub cmds: String,
    /// 0 as the agent, 1 as the user at the console if there is one, 2 only as that user.
    #[serde(default, rename = "runAsUser")]
    pub run_as_user: u8,
    /// When it was asked for, Unix ms.
    pub created: i64,
    /// Devices that were not there until then do not get it any more, Unix ms.
    pub expires: i64,
}

/// What the id of a job's record begins with.
pub const JOB_RECORD: &str = "job-";
/// What the id of a run's record begins with.
pub const RUN_RECORD: &str = "jobrun-";

impl Job {
    /// A job of a user.
    pub fn new(user: &User, shell: Shell, cmds: String, run_as_user: u8, now: i64, expires: i64) -> Job {
        Job {
            id: JobId::random(),
            domain: user.domain.clone(),
            userid: user.id.clone(),
            username: user.name.clone(),
            shell,
            cmds,
            run_as_user,
            created: now,
            expires,
        }
    }

    /// Id of its record.
    pub fn record(&self) -> String {
        format!("{JOB_RECORD}{}", self.id)
    }
}

/// How far a job has come on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// The device is not there, or busy with an earlier one.
    Waiting,
    /// The device was sent it, and has not answered.
    Sent,
    /// It answered.
    Done,
    /// It was not run, and will not be.
    Refused,
    /// It was sent and was not answered in time. It may have run.
    Unanswered,
    /// The device did not come in time.
    Expired,
    /// Somebody took it back before it was sent.
    Cancelled,
}

impl RunState {
    /// Nothing more is expected to happen.
    pub fn is_over(self) -> bool {
        !matches!(self, RunState::Waiting | RunState::Sent)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Waiting => "waiting",
            RunState::Sent => "sent",
            RunState::Done => "done",
            RunState::Refused => "refused",
            RunState::Unanswered => "unanswered",
            RunState::Expired => "expired",
            RunState::Cancelled => "cancelled",
        }
    }
}

/// What becomes of a job on a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The job.
    pub job: JobId,
    /// The device.
    pub nodeid: DeviceId,
    /// The device's name at that time.
    pub name: String,
    /// How far it has come.
    pub state: RunState,
    /// Since when, Unix ms.
    pub changed: i64,
    /// What the script exited with, where the agent says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// What it wrote, [`OUTPUT_KEPT`] at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Bytes of output before what is kept.
    #[serde(default, rename = "leftOut", skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Run {
    /// Id of its record.
    pub fn record(&self) -> String {
        Run::record_of(&self.job, &self.nodeid)
    }

    /// Id of the record of a job on a device.
    pub fn record_of(job: &JobId, device: &DeviceId) -> String {
        format!("{RUN_RECORD}{job}-{device}")
    }

    /// What the ids of the records of a job's runs begin with.
    pub fn records_of(job: &JobId) -> String {
        format!("{RUN_RECORD}{job}-")
    }
}

/// The end of a text that fits into `most` bytes, and how many bytes are before it.
pub fn end_of(mut text: String, most: usize) -> (String, usize) {
    let mut cut = text.len().saturating_sub(most);
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    text.drain(..cut);
    (text, cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_go_to_interpreters_that_are_there() {
        let (linux, windows) = (6, 4);
        assert_eq!(Shell::System.on(linux, "ls"), Ok((ShellKind::Sh, "ls".into())));
        assert_eq!(Shell::System.on(windows, "dir"), Ok((ShellKind::Cmd, "dir".into())));
        assert_eq!(Shell::PowerShell.on(windows, "gci"), Ok((ShellKind::PowerShell, "gci".into())));
        assert_eq!(
            Shell::Bash.on(linux, "echo 'a b'"),
            Ok((ShellKind::Sh, r"exec bash -c 'echo '\''a b'\'''".into()))
        );
        assert!(Shell::PowerShell.on(linux, "gci").is_err());
        assert!(Shell::Bash.on(windows, "ls").is_err());
    }

    #[test]
    fn ids_are_checked() {
        let id = JobId::random();
        assert_eq!(JobId::try_from(id.to_string()), Ok(id));
        for bad in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "../../../etc/pass"] {
            assert!(JobId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_end_of_a_text_is_whole_characters() {
        assert_eq!(end_of("abc".into(), 3), ("abc".into(), 0));
        assert_eq!(end_of("aäb".into(), 2), ("b".into(), 3));
        assert_eq!(end_of("aäb".into(), 3), ("äb".into(), 1));
    }
}
