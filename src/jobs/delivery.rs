//! Doing what the board says: to the store first, then to the device, then to whoever may see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use outpost_wire::id::DeviceId;
use outpost_wire::message::{AgentMsg, RunCommands, ToAgent};
use serde_json::{Map, Value, json};

use super::board::Board;
use super::records::{JOB_RECORD, Job, JobId, OUTPUT_KEPT, RUN_RECORD, Run, RunState, end_of};
use crate::clock;
use crate::live::Agent;
use crate::model::{Event, Rights};
use crate::site::Site;
use crate::store::{Durability, Store, StoreError};

/// What the agent's answer to a job is called: this and the job's id.
const ANSWER: &str = "job-";
/// Devices that are sent a new job at the same time; the store writes for them together.
const AT_ONCE: usize = 64;
/// Output of a run that its line in the event log carries, in bytes.
const LOGGED_OUTPUT: usize = 2048;
/// Output of a run that lists and notices carry, in bytes: mailboxes are bounded.
const SHOWN_OUTPUT: usize = 2048;
/// Longest piece of live output that is passed on, in bytes.
const LONGEST_PIECE: usize = 64 << 10;

/// All jobs of the server.
#[derive(Debug, Default)]
pub struct Jobs {
    board: Mutex<Board>,
}

/// Why a job was not taken; nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Too many are kept.
    #[error("Too many commands are waiting for devices; cancel some first")]
    NoRoom,
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Jobs {
    /// Those in the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(store: &Store) -> Result<Jobs, StoreError> {
        let jobs: Vec<(String, Job)> = store.with_prefix(JOB_RECORD).await?;
        let runs: Vec<(String, Run)> = store.with_prefix(RUN_RECORD).await?;
        let mut board = Board::default();
        for (_, job) in jobs {
            board.add_job(Arc::new(job));
        }
        for (_, run) in runs {
            board.add_run(&run.job, &run.nodeid, run.state, run.changed, run.output.len());
        }
        Ok(Jobs { board: Mutex::new(board) })
    }

    /// The board. Never held across a wait.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a job for devices (with their names); those that are there get it at once. It is stored when this
/// returns.
///
/// # Errors
/// [`QueueError`].
pub async fn queue(
    site: &Arc<Site>,
    job: Job,
    devices: Vec<(DeviceId, String)>,
) -> Result<Arc<Job>, QueueError> {
    tidy(site, devices.len()).await?;
    if !site.jobs.board().has_room(devices.len()) {
        return Err(QueueError::NoRoom);
    }
    let job = Arc::new(job);
    let runs: Vec<Run> = devices
        .into_iter()
        .map(|(nodeid, name)| Run {
            job: job.id.clone(),
            nodeid,
            name,
            state: RunState::Waiting,
            changed: job.created,
            exit: None,
            output: String::new(),
            left_out: 0,
            reason: None,
        })
        .collect();
    site.store
        .write(Durability::Durable, |change| {
            change.put(&job.record(), "job", &*job);
            for run in &runs {
                change.put(&run.record(), "jobrun", run);
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    {
        let mut board = site.jobs.board();
        board.add_job(job.clone());
        for run in &runs {
            board.add_run(&job.id, &run.nodeid, run.state, run.changed, 0);
        }
    }
    let site = site.clone();
    tokio::spawn(async move {
        futures_util::stream::iter(runs)
            .for_each_concurrent(AT_ONCE, |run| {
                let site = site.clone();
                async move { ready(&site, &run.nodeid).await }
            })
            .await;
    });
    Ok(job)
}

/// Sends a device what waits for it, if it is there and can take commands.
pub async fn ready(site: &Arc<Site>, device: &DeviceId) {
    while let Some(agent) = site.agents.get(device).filter(|agent| agent.is_ready()) {
        let Some(job) = site.jobs.board().claim(device, clock::now_ms()) else { return };
        match send(site, &agent, &job).await {
            Ok(()) => return,
            Err(Unsent::Refused(reason)) => {
                finish(site, &job, device, RunState::Refused, |run| run.reason = Some(reason)).await;
            }
            Err(Unsent::Later(reason)) => {
                log::warn!("commands for {device} wait on: {reason}");
                let now = clock::now_ms();
                let from = [RunState::Sent];
                site.jobs.board().turn(&job.id, device, &from, RunState::Waiting, now, 0);
                write(site, &job.id, device, RunState::Waiting, now, |_| {}).await;
                return;
            }
        }
    }
}

enum Unsent {
    /// It will never be.
    Refused(String),
    /// It may be when the device or the store is back.
    Later(String),
}

async fn send(site: &Arc<Site>, agent: &Agent, job: &Job) -> Result<(), Unsent> {
    let refused = |reason: &str| Err(Unsent::Refused(reason.to_owned()));
    let Some(access) = site.access(&job.userid) else {
        return refused("The account of who asked for it no longer exists");
    };
    let Ok((device, _)) = access.device(&agent.device, Rights::RUN_COMMANDS) else {
        return refused("Who asked for it may no longer run commands on this device");
    };
    let (shell, cmds) = match job.shell.on(agent.architecture, &job.cmds) {
        Ok(found) => found,
        Err(reason) => return refused(reason),
    };
    let now = clock::now_ms();
    // On the disk before it is on its way: a server that is cut off here does not send it twice.
    write_or(site, &job.id, &device.id, RunState::Sent, now, |_| {})
        .await
        .map_err(|error| Unsent::Later(error.to_string()))?;
    let run = ToAgent::RunCommands(Box::new(RunCommands {
        shell,
        cmds,
        run_as_user: job.run_as_user,
        reply: true,
        live: true,
        responseid: Some(format!("{ANSWER}{}", job.id)),
        sessionid: None,
    }));
    agent.send(Bytes::from(run.to_json())).map_err(|error| Unsent::Later(error.to_string()))?;
    let msgid = match job.run_as_user {
        0 => 24,
        1 => 100,
        _ => 99,
    };
    let event = Event::new("node", "runcommands", &job.domain)
        .by(access.user())
        .on_device(&device.id)
        .with("cmds", job.cmds.as_str())
        .with("runAsUser", job.run_as_user)
        .with("jobid", job.id.as_str())
        .says(msgid, &[], "Commands run")
        .to_device(&device, &site.store.directory())
        .to(["server-users", job.userid.as_str()]);
    site.events.announce(event).await;
    tell_state(site, job, &device.id, RunState::Sent, &Map::new());
    Ok(())
}

/// Takes what an agent says of a script it was sent. `false` when it says something else.
pub async fn answered(site: &Arc<Site>, device: &DeviceId, message: &AgentMsg) -> bool {
    let named = message.responseid.as_deref().and_then(|id| id.strip_prefix(ANSWER));
    let Some(Ok(id)) = named.map(|id| JobId::try_from(id.to_owned())) else { return false };
    let Some(job) = site.jobs.board().job(&id) else { return true };
    match message.kind.as_str() {
        "runoutput" => said(site, &job, device, message.text("text").unwrap_or_default()),
        "runcommands" => {
            let text = message.text("result").unwrap_or_default().to_owned();
            if message.body.get("failed") == Some(&Value::Bool(true)) {
                finish(site, &job, device, RunState::Refused, |run| run.reason = Some(end_of(text, 4096).0))
                    .await;
            } else {
                let exit = message.body.get("exitcode").and_then(Value::as_i64);
                finish(site, &job, device, RunState::Done, |run| {
                    run.exit = exit.and_then(|exit| i32::try_from(exit).ok());
                    (run.output, run.left_out) = end_of(text, OUTPUT_KEPT);
                })
                .await;
            }
            Box::pin(ready(site, device)).await;
        }
        _ => return false,
    }
    true
}

/// Passes on what a running script writes.
fn said(site: &Site, job: &Job, device: &DeviceId, text: &str) {
    if text.len() <= LONGEST_PIECE && site.jobs.board().hear(&job.id, device, text) {
        let mut body = Map::new();
        body.insert("text".into(), text.into());
        tell(site, job, device, "joboutput", &body);
    }
}

/// Ends a run that was sent: keeps how, logs it, tells it. Nothing when it has ended before.
async fn finish(
    site: &Arc<Site>,
    job: &Job,
    device: &DeviceId,
    state: RunState,
    describe: impl FnOnce(&mut Run),
) {
    let now = clock::now_ms();
    let id = Run::record_of(&job.id, device);
    let mut run = match site.store.get::<Run>(id).await {
        Ok(Some(run)) => run,
        Ok(None) => return,
        Err(error) => return log::warn!("what became of commands on {device} is lost: {error}"),
    };
    describe(&mut run);
    let from = [RunState::Sent, RunState::Unanswered];
    if !site.jobs.board().turn(&job.id, device, &from, state, now, run.output.len()) {
        return;
    }
    (run.state, run.changed) = (state, now);
    let how = match (state, run.exit) {
        (RunState::Done, Some(exit)) => format!("Commands on {} ended with {exit}", run.name),
        (RunState::Done, None) => format!("Commands on {} ended", run.name),
        _ => format!("Commands were not run on {}", run.name),
    };
    let (excerpt, _) = end_of(run.output.clone(), LOGGED_OUTPUT);
    let directory = site.store.directory();
    let mut event = Event::new("node", "commandresult", &job.domain)
        .with("userid", job.userid.as_str())
        .with("username", job.username.as_str())
        .on_device(device)
        .with("jobid", job.id.as_str())
        .with("exitcode", run.exit)
        .with("reason", run.reason.clone())
        .with("output", Some(excerpt).filter(|excerpt| !excerpt.is_empty()))
        .with("msg", how)
        .to(["server-users", job.userid.as_str()]);
    if let Some(device) = directory.device(device) {
        event = event.to_device(device, &directory);
    }
    let stored = site
        .store
        .write(Durability::Durable, |change| {
            change.put(&run.record(), "jobrun", &run);
            change.log(&event, now);
            Ok::<_, StoreError>(())
        })
        .await;
    if let Err(error) = stored {
        log::warn!("what became of commands on {device} could not be kept: {error}");
    }
    site.events.show(&event, now);
    tell_state(site, job, device, state, &view_run(site, &run, false));
}

/// Takes back what was not sent yet: everywhere, or on some devices. How many runs that were.
pub async fn cancel(site: &Arc<Site>, job: &Job, devices: &[DeviceId]) -> usize {
    let now = clock::now_ms();
    let mut cancelled = Vec::new();
    {
        let mut board = site.jobs.board();
        for device in devices {
            if board.turn(&job.id, device, &[RunState::Waiting], RunState::Cancelled, now, 0) {
                cancelled.push(device.clone());
            }
        }
    }
    for device in &cancelled {
        write(site, &job.id, device, RunState::Cancelled, now, |_| {}).await;
        tell_state(site, job, device, RunState::Cancelled, &Map::new());
    }
    cancelled.len()
}

/// Forgets a job with its runs; what is not sent is not sent any more.
///
/// # Errors
/// [`StoreError`]; it is kept then.
pub async fn remove(site: &Site, id: &JobId) -> Result<(), StoreError> {
    let devices = site.jobs.board().devices(id);
    let Some(job) = site.jobs.board().job(id) else { return Ok(()) };
    site.store
        .write(Durability::Durable, |change| {
            for device in &devices {
                change.delete(&Run::record_of(id, device));
            }
            change.delete(&job.record());
            Ok::<_, StoreError>(())
        })
        .await?;
    site.jobs.board().remove(id);
    Ok(())
}

/// Removes the jobs that are kept long enough, or that must give way to `more` runs.
async fn tidy(site: &Site, more: usize) -> Result<(), StoreError> {
    let outdated = site.jobs.board().outdated(clock::now_ms(), more);
    for id in outdated {
        remove(site, &id).await?;
    }
    Ok(())
}

/// Looks after all jobs: to be called every few seconds.
pub async fn sweep(site: &Arc<Site>) {
    let now = clock::now_ms();
    let directory = site.store.directory();
    let changed = site.jobs.board().age(now, |device| directory.device(device).is_some());
    for change in changed {
        let removed = change.state == RunState::Refused;
        write(site, &change.job, &change.device, change.state, now, |run| {
            run.reason = removed.then(|| "The device was removed".into());
        })
        .await;
        let job = site.jobs.board().job(&change.job);
        if let Some(job) = job {
            tell_state(site, &job, &change.device, change.state, &Map::new());
        }
    }
    let waited_for = site.jobs.board().waited_for();
    for device in waited_for {
        ready(site, &device).await;
    }
    if let Err(error) = tidy(site, 0).await {
        log::warn!("old commands could not be removed: {error}");
    }
}

/// Keeps the state of a run; a store that refuses is logged, since the board goes on all the same.
async fn write(
    site: &Site,
    job: &JobId,
    device: &DeviceId,
    state: RunState,
    now: i64,
    describe: impl FnOnce(&mut Run),
) {
    if let Err(error) = write_or(site, job, device, state, now, describe).await {
        log::warn!("the state of commands on {device} could not be kept: {error}");
    }
}

async fn write_or(
    site: &Site,
    job: &JobId,
    device: &DeviceId,
    state: RunState,
    now: i64,
    describe: impl FnOnce(&mut Run),
) -> Result<(), StoreError> {
    let Some(mut run) = site.store.get::<Run>(Run::record_of(job, device)).await? else { return Ok(()) };
    (run.state, run.changed) = (state, now);
    describe(&mut run);
    site.store
        .write(Durability::Durable, |change| {
            change.put(&run.record(), "jobrun", &run);
            Ok::<_, StoreError>(())
        })
        .await
}

/// A run as people see it: with all of its output, or with the end of it and `cut` when there is more.
pub fn view_run(site: &Site, run: &Run, whole: bool) -> Map<String, Value> {
    let mut run = run.clone();
    let mut cut = false;
    if !whole {
        let (end, before) = end_of(run.output, SHOWN_OUTPUT);
        (run.output, cut) = (end, before > 0);
    }
    let mut fields = match serde_json::to_value(&run) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.remove("job");
    if cut {
        fields.insert("cut".into(), true.into());
    }
    let board = site.jobs.board();
    let heard = board.heard(&run.job, &run.nodeid);
    if !heard.is_empty() {
        fields.insert("output".into(), heard.into());
    }
    fields
}

fn tell_state(site: &Site, job: &Job, device: &DeviceId, state: RunState, more: &Map<String, Value>) {
    let mut body = more.clone();
    body.insert("state".into(), state.word().into());
    body.insert("changed".into(), clock::now_ms().into());
    tell(site, job, device, "jobrun", &body);
}

/// Tells those who may see it: who asked, and whoever may run commands on the device.
fn tell(site: &Site, job: &Job, device: &DeviceId, action: &str, body: &Map<String, Value>) {
    let mut text: Option<Bytes> = None;
    for session in site.sessions.all() {
        let may_hear = session.user.domain() == job.domain
            && (session.user == job.userid
                || site
                    .access(&session.user)
                    .is_some_and(|access| access.device(device, Rights::RUN_COMMANDS).is_ok()));
        if !may_hear {
            continue;
        }
        let message = text.get_or_insert_with(|| {
            let mut event = body.clone();
            event.insert("action".into(), action.into());
            event.insert("jobid".into(), job.id.as_str().into());
            event.insert("nodeid".into(), device.as_str().into());
            event.insert("nolog".into(), 1.into());
            Bytes::from(json!({ "action": "event", "event": event }).to_string())
        });
        session.send(message.clone());
    }
}
