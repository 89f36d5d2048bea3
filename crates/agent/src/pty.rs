//! Pseudo-terminals: the master side as an asynchronous file, and a process on the slave side.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::unistd::{Gid, Pid, Uid, setgid, setgroups, setsid, setuid, tcgetpgrp};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use crate::account::Account;

nix::ioctl_write_ptr_bad!(
    /// Sets the window size; the kernel sends SIGWINCH to the foreground group.
    set_window_size, nix::libc::TIOCSWINSZ, Winsize);
nix::ioctl_write_int_bad!(
    /// Makes the terminal the controlling one of the calling session leader.
    set_controlling_terminal, nix::libc::TIOCSCTTY);

/// Size of a terminal in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns, at least 1.
    pub cols: u16,
    /// Rows, at least 1.
    pub rows: u16,
}

impl Size {
    fn winsize(self) -> Winsize {
        Winsize { ws_row: self.rows, ws_col: self.cols, ws_xpixel: 0, ws_ypixel: 0 }
    }
}

impl Default for Size {
    /// 80 by 25, what MeshAgent takes when the browser says nothing.
    fn default() -> Self {
        Self { cols: 80, rows: 25 }
    }
}

/// The master side.
#[derive(Debug)]
pub struct Pty {
    master: AsyncFd<OwnedFd>,
}

impl Pty {
    /// A fresh pair; the slave is handed to [`spawn`].
    pub fn open(size: Size) -> io::Result<(Self, OwnedFd)> {
        let pair = openpty(&size.winsize(), None)?;
        for fd in [&pair.master, &pair.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        let flags = OFlag::from_bits_retain(fcntl(&pair.master, FcntlArg::F_GETFL)?);
        fcntl(&pair.master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: an OwnedFd is the same open descriptor from here until it is dropped.
        let master = unsafe { AsyncFd::register_with_interest(pair.master, interest) }?;
        Ok((Self { master }, pair.slave))
    }

    /// Changes the window size.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as `self`, and the struct lives through the call.
        unsafe { set_window_size(self.master.as_raw_fd(), &size.winsize()) }?;
        Ok(())
    }

    /// The process group that has the terminal now; a shell gives each of its jobs one.
    pub fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(self.master.get_ref()).ok().filter(|group| group.as_raw() > 1)
    }

    /// Waits for output and reads what is there, up to the whole of `buffer`; 0 when the last process
    /// on the slave side has gone.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.readable().await?;
            let mut filled = 0;
            while filled < buffer.len() {
                match nix::unistd::read(self.master.get_ref(), &mut buffer[filled..]) {
                    Ok(0) | Err(Errno::EIO) => return Ok(filled), // EIO: no slave is open any more
                    Ok(n) => filled += n,
                    Err(Errno::EAGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if filled > 0 {
                return Ok(filled);
            }
        }
    }

    /// Types all of `input` into the terminal, waiting while the program does not read.
    pub async fn write_all(&self, mut input: &[u8]) -> io::Result<()> {
        while !input.is_empty() {
            let mut ready = self.master.writable().await?;
            match nix::unistd::write(self.master.get_ref(), input) {
                Ok(n) => input = &input[n..],
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Starts `command` on `slave` as the leader of its own session, as `account` when that is not the
/// agent's own. The environment and folder are the caller's to set.
pub fn spawn(mut command: Command, slave: OwnedFd, account: Option<&Account>) -> io::Result<Child> {
    command
        .stdin(Stdio::from(slave.try_clone()?))
        .stdout(Stdio::from(slave.try_clone()?))
        .stderr(Stdio::from(slave))
        .kill_on_drop(true);
    let identity = account.filter(|account| !account.is_own()).map(Identity::of);
    // SAFETY: between fork and exec only system calls are made (setsid, ioctl, setgroups, setgid,
    // setuid); nothing allocates or takes a lock. Descriptor 0 is the slave by then.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            set_controlling_terminal(0, 0)?;
            identity.as_ref().map_or(Ok(()), Identity::assume)
        });
    }
    command.spawn()
}

/// Makes `command` run in a session of its own, without a terminal, as `account`.
pub fn detach(command: &mut Command, account: Option<&Account>) {
    let identity = account.filter(|account| !account.is_own()).map(Identity::of);
    // SAFETY: as in `spawn`.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            identity.as_ref().map_or(Ok(()), Identity::assume)
        });
    }
}

/// The numbers a child takes on before it runs the program.
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    fn of(account: &Account) -> Self {
        Self { uid: account.uid, gid: account.gid, groups: account.groups.clone() }
    }

    /// Groups first: after `setuid` there is no right left to change them.
    fn assume(&self) -> io::Result<()> {
        setgroups(&self.groups)?;
        setgid(self.gid)?;
        setuid(self.uid)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn read_all(pty: &Pty) -> String {
        let mut output = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let n = tokio::time::timeout(Duration::from_secs(10), pty.read(&mut buffer))
                .await
                .expect("in time")
                .expect("read");
            if n == 0 {
                return String::from_utf8_lossy(&output).into_owned();
            }
            output.extend_from_slice(&buffer[..n]);
        }
    }

    #[tokio::test]
    async fn a_process_gets_a_controlling_terminal_of_the_asked_size() {
        let (pty, slave) = Pty::open(Size { cols: 91, rows: 17 }).expect("pty");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "stty size </dev/tty; echo größe"]);
        let mut child = spawn(command, slave, None).expect("spawn");
        let output = read_all(&pty).await;
        assert!(output.contains("17 91"), "{output:?}");
        assert!(output.contains("größe"), "{output:?}");
        assert!(child.wait().await.expect("wait").success());
    }

    #[tokio::test]
    async fn a_resize_reaches_the_program() {
        let (pty, slave) = Pty::open(Size::default()).expect("pty");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read line; stty size; echo \"got $line\""]);
        let _child = spawn(command, slave, None).expect("spawn");
        pty.resize(Size { cols: 132, rows: 43 }).expect("resize");
        pty.write_all("héllo\r".as_bytes()).await.expect("write");
        let output = read_all(&pty).await;
        assert!(output.contains("43 132") && output.contains("got héllo"), "{output:?}");
    }
}
