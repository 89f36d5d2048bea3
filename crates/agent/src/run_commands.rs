//! One remote command: a script fed to a shell, its output collected within bounds.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};

use crate::account::{Account, AccountError};
use crate::pty;

/// Longest script, in bytes (MeshCentral's own limit of 65,535 characters).
pub const MAX_SCRIPT: usize = 65_535;
/// Output kept; what comes after is counted, not stored.
pub const MAX_OUTPUT: usize = 256 * 1024;
/// A script that takes longer is ended.
pub const TIME_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long nothing may be written after the shell has ended, while a background process holds the output open.
const DRAIN: Duration = Duration::from_millis(500);
/// How long what was written until then may take to be passed on.
const REST: Duration = Duration::from_secs(20);

/// Who the script runs as (`runAsUser`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunAs {
    /// The agent's own account.
    Agent,
    /// The logged-in user if there is one, else the agent.
    UserIfPossible,
    /// The logged-in user or nobody.
    User,
}

impl RunAs {
    /// Reads the number of the protocol; anything unknown is the strictest.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Agent,
            1 => Self::UserIfPossible,
            _ => Self::User,
        }
    }

    fn account(self) -> Result<Account, AccountError> {
        match self {
            Self::Agent => Account::own(),
            Self::UserIfPossible => Account::logged_in().or_else(|_| Account::own()),
            Self::User => Account::logged_in(),
        }
    }
}

/// Why a script did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Too long.
    #[error("the script has {0} bytes, more than {MAX_SCRIPT}")]
    TooLong(usize),
    /// No such user.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The shell did not start.
    #[error("starting /bin/sh: {0}")]
    Start(#[from] std::io::Error),
}

/// A script that ran.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    /// What it wrote to both outputs, in order of arrival.
    pub output: String,
    /// What it exited with; none when it was ended by a signal or at the time limit.
    pub exit: Option<i32>,
}

/// Runs `script` in `/bin/sh`. With `live`, every piece of output is passed on as it comes as well; a
/// receiver that is slow slows the script.
pub async fn run(
    script: &str,
    run_as: RunAs,
    time_limit: Duration,
    live: Option<mpsc::Sender<String>>,
) -> Result<Ran, RunError> {
    if script.len() > MAX_SCRIPT {
        return Err(RunError::TooLong(script.len()));
    }
    let account = run_as.account()?;
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(std::io::Error::from)?;
    let mut command = Command::new("/bin/sh");
    command
        .arg("-s")
        .stdin(Stdio::piped())
        .stdout(Stdio::from(writer.try_clone()?))
        .stderr(Stdio::from(writer))
        .env_clear()
        .envs(account.environment())
        .current_dir(account.start_folder())
        .kill_on_drop(true);
    pty::detach(&mut command, Some(&account));
    let mut child = command.spawn()?;
    // The parent's ends of the output must be closed for the end of it to be seen.
    drop(command);
    let group = child.id().and_then(|pid| i32::try_from(pid).ok());
    let mut output = tokio::net::unix::pipe::Receiver::from_owned_fd(reader)?;
    let mut input = child.stdin.take().expect("stdin is piped");

    let mut collected = Collected::default();
    let (ended, over) = watch::channel(false);
    let work = async {
        let script = [script.as_bytes(), b"\nexit\n"].concat();
        let feed = async move {
            // A script that ends early closes its input; that is its right.
            let _ = input.write_all(&script).await;
        };
        let status = async {
            let status = child.wait().await;
            let _ = ended.send(true);
            tokio::time::sleep(REST).await;
            status
        };
        let collect = collect(&mut output, &mut collected, live.as_ref(), over);
        tokio::pin!(feed, status, collect);
        let mut fed = false;
        loop {
            tokio::select! {
                () = &mut feed, if !fed => fed = true,
                () = &mut collect => break,
                _ = &mut status => break,
            }
        }
    };
    let in_time = tokio::time::timeout(time_limit, work).await.is_ok();
    // Both outputs can be closed before the shell ends; it is given a moment to say how.
    let exit = tokio::time::timeout(DRAIN, child.wait()).await.ok().and_then(Result::ok);
    let exit = exit.filter(|_| in_time).and_then(|status| status.code());
    if !in_time {
        if let Some(group) = group {
            let _ = nix::sys::signal::killpg(
                nix::unistd::Pid::from_raw(group),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        let note = format!("\n[ended after {} s, the time limit]\n", time_limit.as_secs());
        collected.note(&note);
        if let Some(live) = &live {
            let _ = live.send(note).await;
        }
    }
    Ok(Ran { output: collected.into_text(), exit })
}

async fn collect(
    output: &mut tokio::net::unix::pipe::Receiver,
    into: &mut Collected,
    live: Option<&mpsc::Sender<String>>,
    mut over: watch::Receiver<bool>,
) {
    let mut buffer = [0u8; 4096];
    let mut split = Vec::new();
    loop {
        let quiet = async {
            let _ = over.wait_for(|over| *over).await;
            tokio::time::sleep(DRAIN).await;
        };
        let n = tokio::select! {
            biased;
            read = output.read(&mut buffer) => read.unwrap_or(0),
            () = quiet => 0,
        };
        if n == 0 {
            break;
        }
        let kept = into.take(&buffer[..n]);
        if let Some(live) = live.filter(|_| kept > 0) {
            split.extend_from_slice(&buffer[..kept]);
            // A character cut by the end of the buffer waits for its rest.
            let whole = match std::str::from_utf8(&split) {
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                _ => split.len(),
            };
            let text = String::from_utf8_lossy(&split[..whole]).into_owned();
            split.drain(..whole);
            let _ = live.send(text).await;
        }
    }
}

/// Output up to [`MAX_OUTPUT`], and how much was left out.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    left_out: u64,
}

impl Collected {
    /// Keeps what fits and says how much that was.
    fn take(&mut self, piece: &[u8]) -> usize {
        let kept = piece.len().min(MAX_OUTPUT - self.bytes.len().min(MAX_OUTPUT));
        self.bytes.extend_from_slice(&piece[..kept]);
        self.left_out += (piece.len() - kept) as u64;
        kept
    }

    fn note(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn into_text(mut self) -> String {
        if self.left_out > 0 {
            let note = format!("\n[{} more bytes of output left out]\n", self.left_out);
            self.note(&note);
        }
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn output_of(script: &str) -> String {
        run(script, RunAs::Agent, Duration::from_secs(20), None).await.expect("run").output
    }

    #[tokio::test]
    async fn how_it_ended_is_known() {
        for (script, exit) in [("true", Some(0)), ("echo x\nexit 7", Some(7)), ("kill -9 $$", None)] {
            let ran = run(script, RunAs::Agent, Duration::from_secs(20), None).await.expect("run");
            assert_eq!(ran.exit, exit, "{script}");
        }
    }

    #[tokio::test]
    async fn both_outputs_come_back() {
        let output = output_of("echo grün\necho error >&2\nfalse").await;
        assert!(output.contains("grün\n") && output.contains("error\n"), "{output:?}");
    }

    #[tokio::test]
    async fn endless_output_is_bounded() {
        let output = output_of("head -c 3000000 /dev/zero | tr '\\0' x").await;
        assert!(output.len() < MAX_OUTPUT + 100, "{}", output.len());
        assert!(output.contains("more bytes of output left out"));
    }

    #[tokio::test]
    async fn a_script_that_hangs_is_ended_with_its_children() {
        let started = std::time::Instant::now();
        let Ran { output, exit } =
            run("echo before; sleep 61.25 & sleep 61.25", RunAs::Agent, Duration::from_secs(1), None)
                .await
                .expect("run");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(output.contains("before") && output.contains("time limit"), "{output:?}");
        assert_eq!(exit, None);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let left =
            crate::processes::list().into_iter().filter(|process| process.command == "sleep 61.25").count();
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn a_background_process_does_not_hold_the_answer() {
        let started = std::time::Instant::now();
        let output = output_of("sleep 7.5 &\necho done").await;
        assert!(output.contains("done"));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn live_output_is_whole_characters() {
        let (sender, mut receiver) = mpsc::channel::<String>(4);
        let gather = async move {
            let mut all = String::new();
            while let Some(piece) = receiver.recv().await {
                all += &piece;
            }
            all
        };
        let script = "i=0; while [ $i -lt 3000 ]; do printf 'ä€𝄞'; i=$((i+1)); done";
        let (result, all) =
            tokio::join!(run(script, RunAs::Agent, Duration::from_secs(20), Some(sender)), gather);
        assert_eq!(result.expect("run").output, all);
        assert_eq!(all, "ä€𝄞".repeat(3000));
    }

    #[tokio::test]
    async fn a_slow_receiver_gets_what_was_written_before_the_end() {
        let (sender, mut receiver) = mpsc::channel::<String>(1);
        let gather = async move {
            let mut all = 0;
            while let Some(piece) = receiver.recv().await {
                all += piece.len();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            all
        };
        let script = "head -c 60000 /dev/zero | tr '\\0' x; echo end";
        let (ran, all) =
            tokio::join!(run(script, RunAs::Agent, Duration::from_secs(20), Some(sender)), gather);
        assert_eq!((ran.expect("run").output.len(), all), (60_004, 60_004));
    }

    #[tokio::test]
    async fn an_oversized_script_is_refused() {
        let script = "x".repeat(MAX_SCRIPT + 1);
        assert!(matches!(run(&script, RunAs::Agent, TIME_LIMIT, None).await, Err(RunError::TooLong(_))));
    }
}
