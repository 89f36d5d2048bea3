//! Copying between the two halves of a tunnel, frame by frame.
//!
//! A frame's payload goes on while it still comes in, so a tunnel holds two buffers a direction whatever the
//! size of its messages. The next bytes are read when the last have gone to the kernel: a slow reader slows its
//! writer down, and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outpost_wire::websocket::{FrameError, Opcode};

use super::frames::{Sink, SinkError, Source};
use super::input::{Choice, Gate, Verdict};
use super::journal::Journal;
use super::recorder::{self, Recorder};
use super::{Half, Purpose, Side, Stream, Viewer, viewer_rights};
use crate::model::Rights;
use crate::recordings::{Plan, TapeError, Way};
use crate::site::Site;

/// How long a half may take to take a few KiB before its tunnel is ended.
const STUCK: Duration = Duration::from_secs(300);
/// How often the viewer's rights are looked at again.
const RIGHTS_CHECK: Duration = Duration::from_secs(5);
/// Longest message put together before it goes on: those in parts on their way to an agent, as MeshAgent loses
/// fragmented messages beyond 64 KiB (agent-protocol §1.3), and those that are judged.
const LONGEST_WHOLE: usize = 66 << 10;
/// Longest first message that may choose a protocol, or say how the session is wanted, in a tunnel whose address does
/// not say what it is for; what is longer is none.
const LONGEST_CHOICE: u64 = 16 << 10;
/// How much of a message goes on when it cannot be recorded any more: so that the viewer can be told why.
const UNRECORDED_REST: u64 = 256 << 10;

/// Why one direction ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("it was closed")]
    Closed,
    #[error("the connection failed: {0}")]
    Failed(#[from] std::io::Error),
    #[error("bad WebSocket frame: {0}")]
    Frame(#[from] FrameError),
    #[error("a client's frame without a mask, or a part without a beginning")]
    Protocol,
    #[error("a message in parts is longer than {LONGEST_WHOLE} bytes")]
    TooLong,
    #[error("the other side does not read")]
    Stuck,
    #[error("another protocol was chosen than the one allowed")]
    Refused,
    #[error("{0}")]
    Unrecorded(#[from] TapeError),
}

impl From<SinkError> for End {
    fn from(error: SinkError) -> End {
        match error {
            SinkError::Failed(error) => End::Failed(error),
            SinkError::Stuck => End::Stuck,
        }
    }
}

/// Serves a tunnel until either half ends it, or the viewer loses the right to it.
pub(super) async fn run(site: &Arc<Site>, viewer: (Half, Stream), agent: (Half, Stream)) {
    let (viewer_half, viewer_stream) = viewer;
    let (agent_half, agent_stream) = agent;
    let Side::Viewer(who) = &viewer_half.side else { return };
    let Some(device) = &viewer_half.device else { return };
    // The half may have waited while rights were taken away; what is taken from here on is heard of.
    let shares = site.shares.changes();
    let Ok(rights) = viewer_rights(site, who, device, &viewer_half.purpose) else { return };
    let plan = recorder::plan(site, who, device, &viewer_half.purpose);
    let gate = gate(who, &viewer_half.purpose, rights, &plan);
    let journal = Journal::new(site, &viewer_half, &agent_half);
    let (mut from_viewer, to_viewer) = ends(viewer_stream);
    let (mut from_agent, to_agent) = ends(agent_stream);
    let tape = match recorder::begin(site, plan, &viewer_half, &agent_half).await {
        Ok(tape) => tape,
        Err(error) => {
            let _ = to_viewer.whole(Opcode::Text, outpost_wire::tunnel::JOINED_RECORDED.as_bytes()).await;
            to_viewer.last_words(&recorder::apology(&error)).await;
            tokio::join!(to_viewer.close(), to_agent.close());
            return journal.unrecorded(&error).await;
        }
    };
    let joined = async {
        let word = match tape {
            Some(_) => outpost_wire::tunnel::JOINED_RECORDED,
            None => outpost_wire::tunnel::JOINED,
        };
        to_viewer.whole(Opcode::Text, word.as_bytes()).await?;
        to_agent.whole(Opcode::Text, word.as_bytes()).await
    };
    if joined.await.is_err() {
        return recorder::finish(site, tape);
    }
    // What is known to have begun is in the log before anything of it passes.
    if viewer_half.purpose != Purpose::Session(None) {
        journal.begin().await;
    }
    let begun = async {
        journal.begin().await;
        std::future::pending::<String>().await
    };
    // Which protocol it is may be said in the tunnel only; that one needs its rights too.
    let choose = |protocol| {
        journal.decide(protocol);
        viewer_rights(site, who, device, &journal.purpose()).is_ok()
    };
    let (bytes_in, bytes_out) = (AtomicU64::new(0), AtomicU64::new(0));
    let tape_of = |way| tape.as_deref().map(|tape| Recorder { tape, way });
    let upward = Direction {
        back: &to_viewer,
        to: &to_agent,
        bytes: &bytes_in,
        whole_only: true,
        choose: Some(&choose),
        recorder: tape_of(Way::FromViewer),
    };
    let downward = Direction {
        back: &to_agent,
        to: &to_viewer,
        bytes: &bytes_out,
        whole_only: false,
        choose: None,
        recorder: tape_of(Way::FromDevice),
    };
    let end = tokio::select! {
        end = upward.copy(&mut from_viewer, gate) => format!("viewer: {end}"),
        end = downward.copy(&mut from_agent, None) => format!("agent: {end}"),
        why = until_forbidden(site, who, device, &journal, shares) => {
            log::info!(
                target: "relay", USER_ID:% = who.user, REMOTE:% = viewer_half.remote;
                "a tunnel of {} was ended: {why}", who.user
            );
            why.to_owned()
        }
        failure = recorder::kept(tape.as_deref()) => failure.to_string(),
        () = site.relay.stopped() => "the server stops".to_owned(),
        never = begun => never,
    };
    let failure = tape.as_deref().and_then(|tape| tape.failure().cloned());
    if let Some(failure) = &failure {
        to_viewer.last_words(&recorder::apology(failure)).await;
    }
    log::debug!(target: "relay", "tunnel {} ended: {end}", viewer_half.id);
    tokio::join!(to_viewer.close(), to_agent.close());
    journal.ended(bytes_in.into_inner(), bytes_out.into_inner()).await;
    if let Some(failure) = &failure {
        journal.unrecorded(failure).await;
    }
    recorder::finish(site, tape);
}

fn ends(stream: Stream) -> (Source, Sink) {
    let (reader, writer) = tokio::io::split(stream);
    (Source::new(reader), Sink::new(writer, STUCK))
}

/// What stands between this viewer and the device; for most it only sees that the session is what it was opened as,
/// since agents know their rights.
fn gate(viewer: &Viewer, purpose: &Purpose, rights: Rights, plan: &Plan) -> Option<Gate> {
    let Purpose::Session(protocol) = purpose else { return None };
    let look_only = *protocol == Some(2) && rights.restricted_by(Rights::VIEW_ONLY);
    let by_rights = match (&viewer.guest, protocol) {
        (Some(share), Some(protocol)) => Some(Choice::OneOf(share.shared.usages(*protocol))),
        (Some(_), None) => Some(Choice::OneOf(&[])),
        (None, _) => look_only.then_some(Choice::OneOf(&[2])),
    };
    let by_recording = match plan {
        Plan::Record(_) => Some(protocol.map_or(Choice::Any, Choice::Like)),
        Plan::Watch(policy) => Some(Choice::Unrecorded(policy.clone())),
        Plan::Free => None,
    };
    // What the log and the others are told is what it is.
    let by_address = protocol.map(Choice::Like);
    let choices: Vec<Choice> = by_rights.into_iter().chain(by_recording).chain(by_address).collect();
    Some(Gate::new(choices, look_only, matches!(plan, Plan::Record(_))))
}

async fn until_forbidden(
    site: &Arc<Site>,
    viewer: &Viewer,
    device: &outpost_wire::id::DeviceId,
    journal: &Journal,
    mut shares: tokio::sync::watch::Receiver<()>,
) -> &'static str {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RIGHTS_CHECK) => {}
            changed = shares.changed() => if changed.is_err() { return "the server stops" },
        }
        if let Err(why) = viewer_rights(site, viewer, device, &journal.purpose()) {
            return why;
        }
    }
}

/// One way through a tunnel.
struct Direction<'a> {
    /// Towards whoever is read: answers to its pings.
    back: &'a Sink,
    to: &'a Sink,
    bytes: &'a AtomicU64,
    /// Messages in parts are put together first.
    whole_only: bool,
    /// Told of the protocol that is chosen here; whether it may be.
    choose: Option<&'a (dyn Fn(Option<u16>) -> bool + Sync)>,
    /// Where what is said here is written down.
    recorder: Option<Recorder<'a>>,
}

impl Direction<'_> {
    async fn copy(&self, from: &mut Source, gate: Option<Gate>) -> End {
        match Box::pin(self.copy_frames(from, gate)).await {
            Ok(never) => match never {},
            // The viewer is told why between two messages: the direction that leads there ends the tunnel, or time.
            Err(End::Unrecorded(_)) if self.whole_only => std::future::pending().await,
            Err(end) => end,
        }
    }

    fn chose(&self, protocol: Option<u16>) -> Result<(), End> {
        match self.choose {
            Some(choose) if !choose(protocol) => Err(End::Refused),
            _ => Ok(()),
        }
    }

    async fn copy_frames(
        &self,
        from: &mut Source,
        mut gate: Option<Gate>,
    ) -> Result<std::convert::Infallible, End> {
        // The message being put together: its kind and what there is of it.
        let mut parts: Option<(Opcode, Vec<u8>)> = None;
        // A message whose parts go on as they come.
        let mut streaming = false;
        loop {
            let head = match from.buffered_head()? {
                Some(head) => head,
                None => {
                    self.to.flush().await?;
                    from.head().await?
                }
            };
            let mask = head.mask.ok_or(End::Protocol)?;
            match head.opcode {
                Opcode::Close => return Err(End::Closed),
                Opcode::Pong => from.skip(head.length).await?,
                Opcode::Ping => {
                    let mut payload = Vec::new();
                    from.append(&mut payload, head.length, mask).await?;
                    self.back.pong(payload).await?;
                }
                Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                    let begins = head.opcode != Opcode::Continuation;
                    if begins == (parts.is_some() || streaming) {
                        return Err(End::Protocol);
                    }
                    self.bytes.fetch_add(head.length, Ordering::Relaxed);
                    let is_text = head.opcode == Opcode::Text;
                    if head.length > LONGEST_CHOICE && gate.as_ref().is_some_and(Gate::only_listens) {
                        gate = None;
                        self.chose(None)?;
                    }
                    let watched = gate.as_ref().is_some_and(|gate| gate.is_watching(is_text));
                    if parts.is_some() || (begins && (watched || (self.whole_only && !head.last))) {
                        let (opcode, mut message) = parts.take().unwrap_or((head.opcode, Vec::new()));
                        if head.length > (LONGEST_WHOLE - message.len()) as u64 {
                            return Err(End::TooLong);
                        }
                        from.append(&mut message, head.length, mask).await?;
                        if !head.last {
                            parts = Some((opcode, message));
                            continue;
                        }
                        let open = gate.as_ref().is_some_and(|gate| gate.chosen().is_none());
                        let verdict = gate.as_mut().map(|gate| gate.judge(opcode == Opcode::Text, &message));
                        if let (true, Some(chosen)) = (open, gate.as_ref().and_then(Gate::chosen)) {
                            self.chose(chosen)?;
                        }
                        match verdict {
                            None | Some(Verdict::Pass) => {
                                if let Some(recorder) = &self.recorder {
                                    recorder.message(opcode, &message).await?;
                                }
                                self.to.whole(opcode, &message).await?;
                            }
                            Some(Verdict::Drop) => {}
                            Some(Verdict::End) => return Err(End::Refused),
                        }
                    } else {
                        if let (true, Some(recorder)) = (begins, &self.recorder) {
                            recorder.start(head).await?;
                        }
                        streaming = !head.last;
                        let mut frame = self.to.frame(head).await?;
                        let mut passed = 0;
                        while passed < head.length {
                            let piece = from.piece(head.length - passed, mask, passed).await?;
                            if let Some(recorder) = &self.recorder
                                && let Err(failure) = recorder.tape.piece(recorder.way, piece).await
                                && head.length - passed > UNRECORDED_REST
                            {
                                return Err(failure.into());
                            }
                            frame.write(piece).await?;
                            passed += piece.len() as u64;
                            let taken = piece.len();
                            from.taken(taken);
                        }
                        frame.finish().await?;
                        if let (true, Some(recorder)) = (head.last, &self.recorder) {
                            recorder.tape.end(recorder.way).await?;
                        }
                    }
                }
            }
        }
    }
}
