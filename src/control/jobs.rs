//! Commands for many devices, those included that are away (`crate::jobs`). These actions are ours;
//! MeshCentral has nothing like them.

use std::sync::Arc;

use outpost_wire::id::DeviceId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::actions::{LONGEST_SCRIPT, small};
use super::context::Context;
use super::devices::MOST_DEVICES;
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::clock;
use crate::jobs::{self, Counts, Job, JobId, QueueError, Run, Shell};
use crate::model::{Access, Rights};

const HOUR: i64 = 3_600_000;
/// How long commands wait for devices when nothing is said: a week.
const USUAL_HOURS: u32 = 7 * 24;
/// How long they may wait: 90 days.
const MOST_HOURS: u32 = 90 * 24;
/// Jobs in one list.
const MOST_LISTED: usize = 500;
/// Runs in one answer: with their outputs they have to fit into a message.
const RUNS_AT_ONCE: usize = 100;
/// The same with whole outputs.
const WHOLE_AT_ONCE: usize = 10;

/// `queuecommands`.
#[derive(Deserialize)]
pub struct Queue {
    nodeids: Vec<String>,
    #[serde(default)]
    shell: Shell,
    #[serde(default)]
    cmds: String,
    /// A file of one's own on the server with the script, instead of `cmds`.
    cmdpath: Option<String>,
    #[serde(rename = "runAsUser", default, deserialize_with = "small")]
    run_as_user: u8,
    /// How many hours to wait for devices that are away.
    hours: Option<u32>,
}

/// Runs a script on devices now, and on those that are away when they return. Answers with the job and with
/// the devices it is refused for.
///
/// # Errors
/// A bad field; no device on which the user may run commands; no room.
pub async fn queue(context: &Context, mut request: Queue) -> Result<Answer, Refusal> {
    if let Some(link) = request.cmdpath.take() {
        request.cmds = super::server_files::script(context, &link, LONGEST_SCRIPT).await?;
    }
    if request.nodeids.is_empty() || request.nodeids.len() > MOST_DEVICES {
        return Err(Refusal::new("Invalid nodeids"));
    }
    // As the longest form in which it is sent: with every quote escaped.
    let longest = request.cmds.len() + 3 * request.cmds.matches('\'').count();
    let limit = if request.shell == Shell::Bash { LONGEST_SCRIPT - 16 } else { LONGEST_SCRIPT };
    let length = if request.shell == Shell::Bash { longest } else { request.cmds.len() };
    if request.cmds.trim().is_empty() || length > limit {
        return Err(Refusal::new(format!("cmds: expected 1 to {limit} bytes, found {length}")));
    }
    if request.run_as_user > 2 {
        return Err(Refusal::new("runAsUser: expected 0, 1 or 2"));
    }
    let hours = request.hours.unwrap_or(USUAL_HOURS);
    if !(1..=MOST_HOURS).contains(&hours) {
        return Err(Refusal::new(format!("hours: expected 1 to {MOST_HOURS}")));
    }
    let mut devices: Vec<(DeviceId, String)> = Vec::new();
    let mut refused = Vec::new();
    for id in &request.nodeids {
        match context.device(id, Rights::RUN_COMMANDS) {
            Ok((device, _)) if devices.iter().any(|(known, _)| *known == device.id) => {}
            Ok((device, _)) if device.agent.is_none() => {
                refused.push(json!({ "nodeid": id, "reason": "This device has no agent" }));
            }
            Ok((device, _)) => devices.push((device.id.clone(), device.name.clone())),
            Err(refusal) => refused.push(json!({ "nodeid": id, "reason": refusal.text })),
        }
    }
    if devices.is_empty() {
        let reason = refused.first().and_then(|first| first["reason"].as_str()).unwrap_or("Invalid nodeids");
        return Err(Refusal::new(reason));
    }
    let now = clock::now_ms();
    let user = context.user()?;
    let expires = now + i64::from(hours) * HOUR;
    let job = Job::new(&user, request.shell, request.cmds, request.run_as_user, now, expires);
    let job = jobs::queue(&context.site, job, devices).await.map_err(|error| match error {
        QueueError::Store(error) => Refusal::from(error),
        full @ QueueError::NoRoom => Refusal::new(full.to_string()),
    })?;
    Ok(Answer::OkWith(fields! { "jobid" => job.id, "refused" => refused }))
}

fn view(job: &Job, counts: &Counts, own: bool) -> Value {
    json!({
        "jobid": job.id, "userid": job.userid, "username": job.username, "shell": job.shell, "cmds": job.cmds,
        "runAsUser": job.run_as_user, "created": job.created, "expires": job.expires, "counts": counts, "own": own,
    })
}

/// What a user may do with a job.
struct Sight {
    access: Access,
    own: bool,
}

impl Sight {
    fn of(context: &Context, job: &Job) -> Result<Sight, Refusal> {
        let access = context.access()?;
        Ok(Sight { own: job.userid == access.user().id, access })
    }

    fn sees(&self, device: &DeviceId) -> bool {
        self.own || self.access.device(device, Rights::RUN_COMMANDS).is_ok()
    }
}

/// The jobs one may see, newest first: one's own, and those on devices where one may run commands.
///
/// # Errors
/// When the account is gone.
pub async fn list(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    let access = context.access()?;
    let user = access.user().id.clone();
    let sees = |device: &DeviceId| access.device(device, Rights::RUN_COMMANDS).is_ok();
    let mut listed = context.site.jobs.board().list(context.domain(), |job| job.userid == user, sees);
    let more = listed.len() > MOST_LISTED;
    listed.truncate(MOST_LISTED);
    let jobs: Vec<Value> =
        listed.iter().map(|one| view(&one.job, &one.counts, one.job.userid == user)).collect();
    Ok(Answer::Body(fields! { "jobs" => jobs, "more" => more }))
}

/// `job`.
#[derive(Deserialize)]
pub struct Show {
    jobid: JobId,
    /// The last device of the answer before.
    after: Option<String>,
    /// Only this device.
    nodeid: Option<DeviceId>,
    /// With whole outputs, not just their ends.
    #[serde(default)]
    whole: bool,
}

fn job_of(context: &Context, id: &JobId) -> Result<(Arc<Job>, Sight), Refusal> {
    let unknown = || Refusal::new("There are no such commands");
    let job = context.site.jobs.board().job(id).ok_or_else(unknown)?;
    if job.domain != context.domain() {
        return Err(unknown());
    }
    let sight = Sight::of(context, &job)?;
    let visible = sight.own || context.site.jobs.board().devices(id).iter().any(|device| sight.sees(device));
    if visible { Ok((job, sight)) } else { Err(unknown()) }
}

/// A job with what became of it on each device, a page at a time in the order of ids.
///
/// # Errors
/// An unknown job, or one that the user may not see.
pub async fn show(context: &Context, request: Show) -> Result<Answer, Refusal> {
    let (job, sight) = job_of(context, &request.jobid)?;
    let mut devices = context.site.jobs.board().devices(&job.id);
    devices.retain(|device| sight.sees(device));
    let total = devices.len();
    if let Some(only) = &request.nodeid {
        devices.retain(|device| device == only);
    }
    let start = request
        .after
        .as_deref()
        .map_or(0, |after| devices.partition_point(|device| device.as_str() <= after));
    let page =
        &devices[start..devices.len().min(start + if request.whole { WHOLE_AT_ONCE } else { RUNS_AT_ONCE })];
    let mut runs: Vec<Map<String, Value>> = Vec::new();
    for device in page {
        if let Some(run) = context.site.store.get::<Run>(Run::record_of(&job.id, device)).await? {
            runs.push(jobs::view_run(&context.site, &run, request.whole));
        }
    }
    let more = start + page.len() < devices.len();
    let after = page.last().filter(|_| more);
    let counts = context.site.jobs.board().counts(&job.id, |device| sight.sees(device));
    Ok(Answer::Body(fields! {
        "job" => view(&job, &counts, sight.own), "runs" => runs, "total" => total, "after" => after,
    }))
}

/// `canceljob`.
#[derive(Deserialize)]
pub struct Cancel {
    jobid: JobId,
    /// Only on these.
    nodeids: Option<Vec<String>>,
}

/// Takes back what was not sent yet. Answers with how many devices will not get it.
///
/// # Errors
/// An unknown job.
pub async fn cancel(context: &Context, request: Cancel) -> Result<Answer, Refusal> {
    let (job, sight) = job_of(context, &request.jobid)?;
    let mut devices = context.site.jobs.board().devices(&job.id);
    devices.retain(|device| sight.sees(device));
    if let Some(only) = &request.nodeids {
        devices.retain(|device| only.iter().any(|id| id == device.as_str() || id == device.key()));
    }
    let cancelled = jobs::cancel(&context.site, &job, &devices).await;
    Ok(Answer::OkWith(fields! { "cancelled" => cancelled }))
}

/// `removejob`.
#[derive(Deserialize)]
pub struct Remove {
    jobid: JobId,
}

/// Forgets a job with its outputs; what was not sent is not sent any more. Its lines in the event log stay.
///
/// # Errors
/// An unknown job, or somebody else's.
pub async fn remove(context: &Context, request: Remove) -> Result<Answer, Refusal> {
    let (job, sight) = job_of(context, &request.jobid)?;
    if !sight.own && !sight.access.user().siteadmin.is_full() {
        return Err(Refusal::new("Access denied"));
    }
    jobs::remove(&context.site, &job.id).await?;
    Ok(Answer::Ok)
}
