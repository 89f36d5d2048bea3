//! The server's way to the root helper.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::protocol::{Cause, LONGEST_REPLY, Progress, Reply, Request, Status, StickBundle};

/// How long an answer may take. The helper is a process that has to start, on a card that may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an installation may say nothing: it writes 256 MiB without a word.
const INSTALLING: Duration = Duration::from_secs(20 * 60);

/// Why the helper did not do something.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// There is none: this is no box.
    #[error("This server runs on a system of its own; updates come by its package manager")]
    NoBox,
    /// It ended, hangs, or said something that cannot be understood.
    #[error("The box's helper does not answer as it should: {0}")]
    Broken(String),
    /// It says no.
    #[error("{message}")]
    Refused { code: Cause, message: String },
}

impl HelperError {
    fn broken(error: impl std::fmt::Display) -> HelperError {
        HelperError::Broken(error.to_string())
    }
}

/// The helper by its socket.
#[derive(Clone, Debug)]
pub struct Helper {
    socket: PathBuf,
}

impl Helper {
    /// The one behind this socket.
    pub fn new(socket: PathBuf) -> Helper {
        Helper { socket }
    }

    /// The state of the box; none where there is no box.
    ///
    /// # Errors
    /// [`HelperError::Broken`], [`HelperError::Refused`].
    pub async fn status(&self) -> Result<Option<Status>, HelperError> {
        match self.ask(&Request::Status, |_| {}).await {
            Ok(Reply::Status(status)) => Ok(Some(*status)),
            Ok(other) => Err(HelperError::broken(format!("{other:?}"))),
            Err(HelperError::NoBox) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bundles on USB sticks.
    ///
    /// # Errors
    /// [`HelperError`].
    pub async fn sticks(&self) -> Result<Vec<StickBundle>, HelperError> {
        match self.ask(&Request::Sticks, |_| {}).await? {
            Reply::Sticks { bundles } => Ok(bundles),
            other => Err(HelperError::broken(format!("{other:?}"))),
        }
    }

    /// Installs; gives the release that starts next.
    ///
    /// # Errors
    /// [`HelperError`].
    pub async fn install(
        &self,
        request: &Request,
        report: impl FnMut(Progress),
    ) -> Result<String, HelperError> {
        match self.ask(request, report).await? {
            Reply::Installed { version, .. } => Ok(version),
            other => Err(HelperError::broken(format!("{other:?}"))),
        }
    }

    /// Has something done that is answered with nothing.
    ///
    /// # Errors
    /// [`HelperError`].
    pub async fn perform(&self, request: &Request) -> Result<(), HelperError> {
        match self.ask(request, |_| {}).await? {
            Reply::Done => Ok(()),
            other => Err(HelperError::broken(format!("{other:?}"))),
        }
    }

    async fn ask(&self, request: &Request, mut report: impl FnMut(Progress)) -> Result<Reply, HelperError> {
        let connected = timeout(PATIENCE, UnixStream::connect(&self.socket)).await;
        let mut stream = connected.map_err(HelperError::broken)?.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => HelperError::NoBox,
            io::ErrorKind::PermissionDenied => HelperError::broken("only root and the server may ask it"),
            _ => HelperError::broken(error),
        })?;
        let mut line = serde_json::to_vec(request).expect("requests are plain data");
        line.push(b'\n');
        stream.write_all(&line).await.map_err(HelperError::broken)?;
        let installs = matches!(request, Request::Install { .. } | Request::InstallFromStick { .. });
        let patience = if installs { INSTALLING } else { PATIENCE };
        let mut replies = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut replies).take(LONGEST_REPLY as u64);
            let read = timeout(patience, limited.read_until(b'\n', &mut line)).await;
            read.map_err(|_| HelperError::broken("it says nothing"))?.map_err(HelperError::broken)?;
            if line.last() != Some(&b'\n') {
                return Err(HelperError::broken("it ended without an answer"));
            }
            match serde_json::from_slice(&line).map_err(HelperError::broken)? {
                Reply::Progress(progress) => report(progress),
                Reply::Refused { code, message } => return Err(HelperError::Refused { code, message }),
                reply => return Ok(reply),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appliance::protocol::Slot;

    /// A helper that answers one request with these bytes.
    async fn answering(bytes: &'static [u8], request: Request) -> (Result<Reply, HelperError>, Vec<u8>) {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("control.sock");
        let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.readable().await.expect("asked");
            stream.write_all(bytes).await.expect("answered");
        });
        let mut heard = Vec::new();
        let reply = Helper::new(socket).ask(&request, |progress| heard.push(progress.percent)).await;
        serving.await.expect("served");
        (reply, heard)
    }

    #[tokio::test]
    async fn progress_comes_before_the_reply() {
        let (reply, heard) = answering(
            b"{\"reply\":\"progress\",\"percent\":20,\"step\":\"x\"}\n{\"reply\":\"installed\",\"version\":\"2\",\"slot\":\"B\"}\n",
            Request::Restart,
        )
        .await;
        assert_eq!(reply.expect("good"), Reply::Installed { version: "2".into(), slot: Slot::B });
        assert_eq!(heard, [20]);
    }

    #[tokio::test]
    async fn a_helper_that_breaks_off_or_babbles_is_told_from_one_that_refuses() {
        for bytes in [&b""[..], b"{\"reply\":\"done\"}", b"what?\n", b"{\"reply\":\"other\"}\n"] {
            let (reply, _) = answering(bytes, Request::Restart).await;
            assert!(matches!(reply, Err(HelperError::Broken(_))), "{reply:?}");
        }
        let (reply, _) =
            answering(b"{\"reply\":\"refused\",\"code\":\"busy\",\"message\":\"m\"}\n", Request::Restart)
                .await;
        assert!(matches!(reply, Err(HelperError::Refused { code: Cause::Busy, .. })), "{reply:?}");
    }

    #[tokio::test]
    async fn without_a_socket_this_is_no_box() {
        let helper = Helper::new("/nowhere/control.sock".into());
        assert_eq!(helper.status().await.expect("no error"), None);
        assert!(matches!(helper.perform(&Request::Restart).await, Err(HelperError::NoBox)));
    }
}
