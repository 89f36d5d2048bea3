//! A terminal session over a tunnel: a shell on a pseudo-terminal, in step with a browser.
//!
//! Output waits for the reader: the pseudo-terminal is not read while the socket cannot be written, so
//! the program blocks as it would on a slow screen. A browser cannot push back on a WebSocket, so it may
//! ask for a window: then at most that many bytes are under way without its acknowledgement.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use outpost_wire::tunnel::{Control, Options};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_websockets::Message;

use crate::account::{Account, AccountError};
use crate::pty::{self, Pty, Size};
use crate::surroundings;

/// Largest piece of output in one frame, in bytes.
const MAX_PIECE: usize = 16 * 1024;
/// Smallest window taken seriously: one line of a wide terminal.
const MIN_WINDOW: u64 = 4096;
/// Keystrokes and pastes under way to the program, in pieces of at most [`INPUT_PIECE`] bytes.
const INPUT_QUEUE: usize = 32;
const INPUT_PIECE: usize = 4096;
/// Answers to control messages that may wait while the socket is busy; more are dropped.
const ANSWER_QUEUE: usize = 16;
/// How long background processes may still write after the shell has ended. What is waiting by then is
/// sent; it bounds time for those that write now and then, [`MAX_LAST_WORDS`] for those that never pause.
const LINGER: Duration = Duration::from_millis(500);
/// Output taken after the shell has ended, in bytes. What the shell itself left is at most the kernel's
/// terminal buffer of 64 KiB.
const MAX_LAST_WORDS: usize = 128 * 1024;
/// Between the hang-up and the kill. Process numbers are not used again within it.
const GRACE: Duration = Duration::from_secs(2);

/// Why no shell was started.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// The account.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// `/bin/login` needs root.
    #[error("a login prompt needs an agent that runs as root")]
    LoginNeedsRoot,
    /// Not one of the device's shells.
    #[error("{0:?} is none of this device's shells (/etc/shells)")]
    NoShell(String),
    /// There is no login program.
    #[error("this device has no /bin/login")]
    NoLogin,
    /// The system.
    #[error("starting the shell: {0}")]
    Start(#[from] std::io::Error),
}

/// What the shell of a session is to be.
#[derive(Debug)]
pub struct Shell {
    command: Command,
    account: Option<Account>,
    launch: Option<String>,
}

impl Shell {
    /// Chooses the shell: a login prompt, the named account's, the logged-in user's (`as_user`) or the
    /// agent's own. `launch` is a line the server wants typed into a shell of the agent's own account.
    pub fn choose(options: &Options, as_user: bool, launch: Option<&str>) -> Result<Self, TerminalError> {
        let (command, account) = if options.require_login {
            if !crate::host::is_root() {
                return Err(TerminalError::LoginNeedsRoot);
            }
            let login =
                ["/bin/login", "/usr/bin/login"].into_iter().find(|path| std::path::Path::new(path).exists());
            let mut command = Command::new(login.ok_or(TerminalError::NoLogin)?);
            command.env_clear().envs(Account::own()?.environment()).current_dir("/");
            (command, None)
        } else {
            let account = match &options.user {
                Some(name) => Account::named(name)?,
                None if as_user => Account::logged_in()?,
                None => Account::own()?,
            };
            let shell = match &options.shell {
                Some(wanted) => surroundings::shells()
                    .into_iter()
                    .find(|shell| shell == std::path::Path::new(wanted))
                    .ok_or_else(|| TerminalError::NoShell(wanted.chars().take(100).collect()))?,
                None => account.shell.clone(),
            };
            let mut command = Command::new(&shell);
            // A leading dash makes a login shell, which reads the profile as on a console.
            let name = shell.file_name().unwrap_or_default().to_string_lossy().into_owned();
            command.arg0(format!("-{name}")).env_clear().envs(account.environment());
            command.env("SHELL", &shell).env("HISTCONTROL", "ignoreboth").current_dir(account.start_folder());
            (command, Some(account))
        };
        let mut shell = Self { command, account, launch: None };
        shell.command.env("TERM", "xterm-256color").env("COLORTERM", "truecolor");
        if options.user.is_none() && !as_user && !options.require_login {
            shell.launch = launch.filter(|text| !text.is_empty()).map(|text| format!("{text}\n"));
        }
        Ok(shell)
    }
}

/// Output bytes sent and acknowledged.
#[derive(Debug)]
struct Flow {
    window: Option<u64>,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// The program does not read what is typed, so acknowledgements behind the typing cannot arrive. The
    /// window then gives way (the socket's own pushing back remains), or both would wait for ever.
    input_stalled: AtomicBool,
    changed: Notify,
}

impl Flow {
    fn new(window: Option<u64>) -> Self {
        Self {
            window: window.map(|bytes| bytes.max(MIN_WINDOW)),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            input_stalled: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// How much may be sent now.
    fn room(&self) -> usize {
        let Some(window) = self.window else { return MAX_PIECE };
        if self.input_stalled.load(Ordering::Relaxed) {
            return MAX_PIECE;
        }
        let under_way = self.sent.load(Ordering::Relaxed) - self.acknowledged.load(Ordering::Relaxed);
        usize::try_from(window.saturating_sub(under_way)).unwrap_or(MAX_PIECE).min(MAX_PIECE)
    }

    fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A total; one that goes back or beyond what was sent is brought into bounds.
    fn acknowledge(&self, total: u64) {
        let total = total.min(self.sent.load(Ordering::Relaxed));
        self.acknowledged.fetch_max(total, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn stall(&self, stalled: bool) {
        self.input_stalled.store(stalled, Ordering::Relaxed);
        self.changed.notify_one();
    }
}

/// Runs the session until the shell or the tunnel ends, and ends the other.
pub async fn run<O, I, E>(
    mut sink: O,
    stream: I,
    shell: Shell,
    options: &Options,
) -> Result<(), TerminalError>
where
    O: Sink<Message, Error = E> + Unpin,
    I: Stream<Item = Result<Message, E>> + Unpin,
{
    let size = match (options.cols, options.rows) {
        (Some(cols), Some(rows)) => Size { cols, rows },
        _ => Size::default(),
    };
    let (pty, slave) = Pty::open(size)?;
    let Shell { mut command, account, launch } = shell;
    command.env("COLUMNS", size.cols.to_string()).env("LINES", size.rows.to_string());
    let mut child = pty::spawn(command, slave, account.as_ref())?;
    let shell = process(&child);
    let flow = Flow::new(options.window);
    let (input, mut typed) = mpsc::channel(INPUT_QUEUE);
    let (answers, answered) = mpsc::channel(ANSWER_QUEUE);
    if let Some(launch) = launch {
        let _ = input.try_send(Bytes::from(launch));
    }
    {
        let type_in = async {
            while let Some(piece) = typed.recv().await {
                // Fails when the shell has gone; the output side sees to the end.
                if pty.write_all(&piece).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let output = pin!(send_output(&mut sink, &pty, &flow, answered, &mut child));
        let place = || surroundings::describe(account.as_ref(), pty.foreground(), shell);
        let input = pin!(take_input(stream, &pty, &flow, input, answers, place));
        tokio::select! {
            () = output => {}
            () = input => {}
            () = type_in => {}
        }
    }
    let _ = tokio::time::timeout(GRACE, sink.close()).await;
    end(child, pty.foreground());
    Ok(())
}

/// From the program to the browser, until the program has ended or the socket has.
async fn send_output<O: Sink<Message> + Unpin>(
    sink: &mut O,
    pty: &Pty,
    flow: &Flow,
    mut answers: mpsc::Receiver<String>,
    child: &mut Child,
) {
    let mut buffer = vec![0; MAX_PIECE];
    let (mut last_call, mut last_words) = (None, 0);
    loop {
        let room = flow.room();
        let linger = tokio::time::sleep_until(last_call.unwrap_or_else(Instant::now));
        let message = tokio::select! {
            biased;
            Some(answer) = answers.recv() => Message::text(answer),
            () = flow.changed.notified() => continue,
            output = pty.read(&mut buffer[..room]), if room > 0 => match output {
                Ok(n) if n > 0 => {
                    flow.sent(n);
                    if last_call.is_some() {
                        last_words += n;
                        if last_words > MAX_LAST_WORDS {
                            return;
                        }
                    }
                    Message::binary(Bytes::copy_from_slice(&buffer[..n]))
                }
                _ => return,
            },
            _ = child.wait(), if last_call.is_none() => {
                last_call = Some(Instant::now() + LINGER);
                continue;
            }
            // Comes last, so it is taken only when nothing waits to be read.
            () = linger, if last_call.is_some() && room > 0 => return,
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

/// From the browser to the program, until the socket ends.
async fn take_input<I, E>(
    mut stream: I,
    pty: &Pty,
    flow: &Flow,
    input: mpsc::Sender<Bytes>,
    answers: mpsc::Sender<String>,
    place: impl Fn() -> serde_json::Value,
) where
    I: Stream<Item = Result<Message, E>> + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        if message.is_binary() {
            let mut typed = Bytes::from(message.into_payload());
            while !typed.is_empty() {
                let piece = typed.split_to(typed.len().min(INPUT_PIECE));
                if let Err(mpsc::error::TrySendError::Full(piece)) = input.try_send(piece) {
                    flow.stall(true);
                    let sent = input.send(piece).await;
                    flow.stall(false);
                    if sent.is_err() {
                        return;
                    }
                }
            }
        } else if let Some(text) = message.as_text() {
            match Control::parse(text) {
                Some(Control::TermSize { cols, rows }) => {
                    if let Err(error) = pty.resize(Size { cols, rows }) {
                        log::debug!("resizing a terminal: {error}");
                    }
                }
                Some(Control::Ack { bytes }) => flow.acknowledge(bytes),
                Some(Control::Close) => return,
                Some(Control::Surroundings) => {
                    let mut told = place();
                    told["ctrlChannel"] = "102938".into();
                    told["type"] = "surroundings".into();
                    let _ = answers.try_send(told.to_string());
                }
                Some(control) => {
                    if let Some(answer) = answer(control) {
                        let _ = answers.try_send(answer);
                    }
                }
                None => {}
            }
        } else if message.is_close() {
            return;
        }
    }
}

/// What a control message is answered with, in any state of a tunnel.
pub fn answer(control: Control) -> Option<String> {
    match control {
        Control::Rtt { .. } => Some(control.to_json()),
        Control::Ping => Some(Control::Pong.to_json()),
        _ => None,
    }
}

/// The process of a shell, while it has not been reaped.
fn process(child: &Child) -> Option<Pid> {
    child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
}

/// Hangs up on the shell and on what runs in the foreground, kills what stays, and reaps the shell. Jobs
/// that were put into the background with `nohup` live on, as after any log-out.
fn end(mut child: Child, foreground: Option<Pid>) {
    let shell = process(&child);
    let groups: Vec<Pid> = [shell, foreground.filter(|_| shell.is_some())].into_iter().flatten().collect();
    let signal = move |signal| {
        for &group in &groups {
            let _ = killpg(group, signal);
        }
    };
    signal(Signal::SIGHUP);
    signal(Signal::SIGCONT); // a stopped process hears nothing
    tokio::spawn(async move {
        tokio::time::sleep(GRACE).await;
        signal(Signal::SIGKILL);
        let _ = child.wait().await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_bounds_what_is_under_way() {
        let flow = Flow::new(Some(20_000));
        assert_eq!(flow.room(), MAX_PIECE);
        flow.sent(16_384);
        assert_eq!(flow.room(), 20_000 - 16_384);
        flow.sent(flow.room());
        assert_eq!(flow.room(), 0);
        flow.acknowledge(10_000);
        assert_eq!(flow.room(), 10_000);
        flow.acknowledge(5_000);
        assert_eq!(flow.room(), 10_000, "a total does not go back");
        flow.acknowledge(u64::MAX);
        assert_eq!(flow.room(), MAX_PIECE, "nor beyond what was sent");
    }

    #[test]
    fn without_a_window_only_the_socket_holds_back() {
        let flow = Flow::new(None);
        flow.sent(10_000_000);
        assert_eq!(flow.room(), MAX_PIECE);
    }

    #[test]
    fn a_stalled_program_does_not_dead_lock() {
        let flow = Flow::new(Some(0));
        flow.sent(usize::try_from(MIN_WINDOW).expect("small"));
        assert_eq!(flow.room(), 0);
        flow.stall(true);
        assert!(flow.room() > 0);
    }
}
