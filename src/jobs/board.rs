//! All jobs and how far each has come, in memory: what may happen next to whom. No I/O, no clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use outpost_wire::id::DeviceId;

use super::records::{Job, JobId, RunState, end_of};

/// Runs that are kept of all jobs; the oldest jobs that are over go when there are more.
const MOST_RUNS: usize = 20_000;
/// Output that is kept of all runs, in bytes; the same.
const MOST_OUTPUT: usize = 64 << 20;
/// Jobs that are over are kept so long, in ms: 90 days, as events by default.
const KEPT: i64 = 90 * 86_400_000;
/// A device gets its next script when the one before has ended, or after so many ms.
const TURN: i64 = 120_000;
/// A script that was not answered for so many ms will not be: agents end them after 30 minutes.
const ANSWER: i64 = 35 * 60_000;
/// Output that is held of a running script, in bytes.
const LIVE_KEPT: usize = 16 << 10;
/// Output that is held of all running scripts, in bytes; what comes while there is more is shown, not held.
const MOST_LIVE: usize = 4 << 20;

#[derive(Clone, Copy, Debug)]
struct Light {
    state: RunState,
    changed: i64,
    output: u32,
}

#[derive(Debug)]
struct Entry {
    job: Arc<Job>,
    runs: BTreeMap<DeviceId, Light>,
}

impl Entry {
    fn is_over(&self) -> bool {
        self.runs.values().all(|run| run.state.is_over())
    }

    fn counts(&self, sees: impl Fn(&DeviceId) -> bool) -> Counts {
        let mut counts = Counts::default();
        for (_, run) in self.runs.iter().filter(|(device, _)| sees(device)) {
            counts.add(run.state);
        }
        counts
    }

    fn last_change(&self) -> i64 {
        self.runs.values().map(|run| run.changed).max().unwrap_or(self.job.created)
    }
}

/// How many runs of a job are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs, reason = "named after the states")]
pub struct Counts {
    pub waiting: usize,
    pub sent: usize,
    pub done: usize,
    pub refused: usize,
    pub unanswered: usize,
    pub expired: usize,
    pub cancelled: usize,
}

impl Counts {
    fn add(&mut self, state: RunState) {
        *match state {
            RunState::Waiting => &mut self.waiting,
            RunState::Sent => &mut self.sent,
            RunState::Done => &mut self.done,
            RunState::Refused => &mut self.refused,
            RunState::Unanswered => &mut self.unanswered,
            RunState::Expired => &mut self.expired,
            RunState::Cancelled => &mut self.cancelled,
        } += 1;
    }
}

/// A job as somebody may see it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The job.
    pub job: Arc<Job>,
    /// Of the runs that may be seen.
    pub counts: Counts,
}

/// A run that changed by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// The job.
    pub job: JobId,
    /// The device.
    pub device: DeviceId,
    /// What it became.
    pub state: RunState,
}

/// All jobs.
#[derive(Debug, Default)]
pub struct Board {
    jobs: HashMap<JobId, Entry>,
    /// Jobs of a device that are not over, oldest first.
    open: HashMap<DeviceId, Vec<JobId>>,
    live: HashMap<(JobId, DeviceId), String>,
    live_bytes: usize,
    runs: usize,
    output: usize,
}

impl Board {
    /// Adds a job, without runs as yet.
    pub fn add_job(&mut self, job: Arc<Job>) {
        self.jobs.insert(job.id.clone(), Entry { job, runs: BTreeMap::new() });
    }

    /// Adds a run of a job that is there; `false` when it is not.
    pub fn add_run(
        &mut self,
        job: &JobId,
        device: &DeviceId,
        state: RunState,
        changed: i64,
        output: usize,
    ) -> bool {
        let Some(entry) = self.jobs.get_mut(job) else { return false };
        let output_light = u32::try_from(output).unwrap_or(u32::MAX);
        let fresh =
            entry.runs.insert(device.clone(), Light { state, changed, output: output_light }).is_none();
        if fresh {
            self.runs += 1;
            self.output += output;
        }
        if !state.is_over() {
            let created = entry.job.created;
            let queue = self.open.entry(device.clone()).or_default();
            if !queue.contains(job) {
                let at = queue.partition_point(|other| {
                    self.jobs.get(other).is_some_and(|other| other.job.created <= created)
                });
                queue.insert(at, job.clone());
            }
        }
        true
    }

    /// A job.
    pub fn job(&self, id: &JobId) -> Option<Arc<Job>> {
        self.jobs.get(id).map(|entry| entry.job.clone())
    }

    /// The state of a run.
    pub fn state(&self, job: &JobId, device: &DeviceId) -> Option<RunState> {
        self.jobs.get(job)?.runs.get(device).map(|run| run.state)
    }

    /// The devices of a job.
    pub fn devices(&self, job: &JobId) -> Vec<DeviceId> {
        self.jobs.get(job).map_or_else(Vec::new, |entry| entry.runs.keys().cloned().collect())
    }

    /// The next job for a device that is there, claimed: it counts as sent from now on. `None` when there is
    /// none, or an earlier one still has its turn.
    pub fn claim(&mut self, device: &DeviceId, now: i64) -> Option<Arc<Job>> {
        let queue = self.open.get(device)?;
        for id in queue {
            let entry = self.jobs.get_mut(id)?;
            let run = entry.runs.get_mut(device)?;
            match run.state {
                RunState::Sent if now - run.changed < TURN => return None,
                RunState::Waiting if entry.job.expires > now => {
                    (run.state, run.changed) = (RunState::Sent, now);
                    return Some(entry.job.clone());
                }
                _ => {}
            }
        }
        None
    }

    /// Moves a run from one state to another; `false` when it is not in the first.
    pub fn turn(
        &mut self,
        job: &JobId,
        device: &DeviceId,
        from: &[RunState],
        to: RunState,
        now: i64,
        output: usize,
    ) -> bool {
        let Some(run) = self.jobs.get_mut(job).and_then(|entry| entry.runs.get_mut(device)) else {
            return false;
        };
        if !from.contains(&run.state) {
            return false;
        }
        self.output = self.output - run.output as usize + output;
        *run = Light { state: to, changed: now, output: u32::try_from(output).unwrap_or(u32::MAX) };
        if to.is_over() {
            self.close(job, device);
        }
        true
    }

    fn close(&mut self, job: &JobId, device: &DeviceId) {
        if let Some(queue) = self.open.get_mut(device) {
            queue.retain(|other| other != job);
            if queue.is_empty() {
                self.open.remove(device);
            }
        }
        if let Some(text) = self.live.remove(&(job.clone(), device.clone())) {
            self.live_bytes -= text.len();
        }
    }

    /// Notes what a running script wrote. `false` when no such script runs.
    pub fn hear(&mut self, job: &JobId, device: &DeviceId, text: &str) -> bool {
        if !matches!(self.state(job, device), Some(RunState::Sent | RunState::Unanswered)) {
            return false;
        }
        let held = self.live.entry((job.clone(), device.clone())).or_default();
        if self.live_bytes + text.len() <= MOST_LIVE {
            self.live_bytes -= held.len();
            held.push_str(text);
            *held = end_of(std::mem::take(held), LIVE_KEPT).0;
            self.live_bytes += held.len();
        }
        true
    }

    /// What a running script has written lately.
    pub fn heard(&self, job: &JobId, device: &DeviceId) -> &str {
        self.live.get(&(job.clone(), device.clone())).map_or("", String::as_str)
    }

    /// What time has changed: runs that expired, were never answered, or whose device is gone.
    pub(super) fn age(&mut self, now: i64, exists: impl Fn(&DeviceId) -> bool) -> Vec<Changed> {
        let mut changed = Vec::new();
        for (device, queue) in &self.open {
            for id in queue {
                let Some(entry) = self.jobs.get(id) else { continue };
                let Some(run) = entry.runs.get(device) else { continue };
                let state = match run.state {
                    RunState::Sent if run.changed + ANSWER <= now => RunState::Unanswered,
                    RunState::Waiting if !exists(device) => RunState::Refused,
                    RunState::Waiting if entry.job.expires <= now => RunState::Expired,
                    _ => continue,
                };
                changed.push(Changed { job: id.clone(), device: device.clone(), state });
            }
        }
        for Changed { job, device, state } in &changed {
            let from = [RunState::Sent, RunState::Waiting];
            self.turn(job, device, &from, *state, now, 0);
        }
        changed
    }

    /// Devices for which something may wait.
    pub fn waited_for(&self) -> Vec<DeviceId> {
        self.open.keys().cloned().collect()
    }

    /// Jobs that have to go: over for long, or the oldest that are over when there is no room for `more` runs.
    pub fn outdated(&self, now: i64, more: usize) -> Vec<JobId> {
        let mut over: Vec<_> = self.jobs.values().filter(|entry| entry.is_over()).collect();
        over.sort_by_key(|entry| entry.last_change());
        let (mut runs, mut output) = (self.runs + more, self.output);
        let mut gone = Vec::new();
        for entry in over {
            if entry.last_change() + KEPT > now && runs <= MOST_RUNS && output <= MOST_OUTPUT {
                break;
            }
            runs -= entry.runs.len();
            output -= entry.runs.values().map(|run| run.output as usize).sum::<usize>();
            gone.push(entry.job.id.clone());
        }
        gone
    }

    /// Whether there is room for so many runs more, once [`Board::outdated`] jobs have gone.
    pub fn has_room(&self, more: usize) -> bool {
        self.runs + more <= MOST_RUNS
    }

    /// Forgets a job with its runs.
    pub fn remove(&mut self, job: &JobId) -> Option<Arc<Job>> {
        let devices = self.devices(job);
        for device in &devices {
            self.close(job, device);
        }
        let entry = self.jobs.remove(job)?;
        self.runs -= entry.runs.len();
        self.output -= entry.runs.values().map(|run| run.output as usize).sum::<usize>();
        Some(entry.job)
    }

    /// How many runs of a job are in which state, of those on devices that `sees` lets through.
    pub fn counts(&self, job: &JobId, sees: impl Fn(&DeviceId) -> bool) -> Counts {
        self.jobs.get(job).map_or_else(Counts::default, |entry| entry.counts(sees))
    }

    /// The jobs of a domain that somebody may see something of, newest first: those that are `own`, and those
    /// with runs on devices that `sees` lets through. What is counted is what may be seen.
    pub fn list(
        &self,
        domain: &str,
        own: impl Fn(&Job) -> bool,
        sees: impl Fn(&DeviceId) -> bool,
    ) -> Vec<Listed> {
        let mut found = Vec::new();
        for entry in self.jobs.values().filter(|entry| entry.job.domain == domain) {
            let all = own(&entry.job);
            let counts = entry.counts(|device| all || sees(device));
            if all || counts != Counts::default() {
                found.push(Listed { job: entry.job.clone(), counts });
            }
        }
        found.sort_by(|a, b| (b.job.created, &b.job.id).cmp(&(a.job.created, &a.job.id)));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Shell;
    use outpost_wire::id::UserId;

    fn device(n: u8) -> DeviceId {
        DeviceId::of_hash("", &outpost_wire::id::Hash384([n; 48])).expect("an id")
    }

    fn job(created: i64, expires: i64) -> Arc<Job> {
        Arc::new(Job {
            id: JobId::random(),
            domain: String::new(),
            userid: UserId::from_name("", "ann").expect("an id"),
            username: "ann".into(),
            shell: Shell::System,
            cmds: "true".into(),
            run_as_user: 0,
            created,
            expires,
        })
    }

    fn board(jobs: &[&Arc<Job>], devices: &[u8]) -> Board {
        let mut board = Board::default();
        for job in jobs {
            board.add_job((*job).clone());
            for n in devices {
                assert!(board.add_run(&job.id, &device(*n), RunState::Waiting, job.created, 0));
            }
        }
        board
    }

    #[test]
    fn a_device_gets_its_scripts_once_and_in_order() {
        let (first, second) = (job(10, 1_000_000), job(20, 1_000_000));
        let mut board = board(&[&second, &first], &[1]);
        assert_eq!(board.claim(&device(1), 100).map(|job| job.id.clone()), Some(first.id.clone()));
        assert!(board.claim(&device(1), 101).is_none(), "the first has its turn");
        assert!(board.turn(&first.id, &device(1), &[RunState::Sent], RunState::Done, 200, 5));
        assert_eq!(board.claim(&device(1), 201).map(|job| job.id.clone()), Some(second.id.clone()));
        assert!(board.claim(&device(1), 201 + TURN).is_none(), "none is left");
        assert!(
            !board.turn(&first.id, &device(1), &[RunState::Sent], RunState::Done, 300, 9),
            "answered once"
        );
        assert!(board.claim(&device(2), 100).is_none());
    }

    #[test]
    fn a_script_that_does_not_end_lets_the_next_go_after_its_turn() {
        let (first, second) = (job(10, 1_000_000), job(20, 1_000_000));
        let mut board = board(&[&first, &second], &[1]);
        board.claim(&device(1), 100);
        assert!(board.claim(&device(1), 99 + TURN).is_none());
        assert_eq!(board.claim(&device(1), 100 + TURN).map(|job| job.id.clone()), Some(second.id.clone()));
    }

    #[test]
    fn time_ends_what_waits() {
        let job = job(0, 500);
        let mut board = board(&[&job], &[1, 2, 3]);
        board.claim(&device(1), 10);
        assert!(board.claim(&device(2), 500).is_none(), "it is too late for it");
        let gone = board.age(20, |other| *other != device(3));
        assert_eq!(gone, [Changed { job: job.id.clone(), device: device(3), state: RunState::Refused }]);
        assert_eq!(board.age(500, |_| true).len(), 1);
        assert_eq!(board.state(&job.id, &device(2)), Some(RunState::Expired));
        assert_eq!(board.age(10 + ANSWER, |_| true).len(), 1);
        assert_eq!(board.state(&job.id, &device(1)), Some(RunState::Unanswered));
        assert!(board.waited_for().is_empty());
        // Late is better than never.
        assert!(board.turn(
            &job.id,
            &device(1),
            &[RunState::Sent, RunState::Unanswered],
            RunState::Done,
            9_999_999,
            1
        ));
    }

    #[test]
    fn old_jobs_make_room_and_open_ones_stay() {
        let jobs: Vec<_> = (0..3).map(|n| job(n, 1_000_000)).collect();
        let mut board = board(&[&jobs[0], &jobs[1], &jobs[2]], &[1, 2]);
        for n in [1, 2] {
            for job in &jobs[..2] {
                board.turn(&job.id, &device(n), &[RunState::Waiting], RunState::Done, job.created, 7);
            }
        }
        assert!(board.outdated(100, 0).is_empty());
        assert_eq!(board.outdated(100, MOST_RUNS - 5), [jobs[0].id.clone()]);
        assert_eq!(board.outdated(KEPT + 2, 0), [jobs[0].id.clone(), jobs[1].id.clone()]);
        assert!(!board.has_room(MOST_RUNS - 5));
        board.remove(&jobs[0].id);
        assert!(board.has_room(MOST_RUNS - 5));
        assert_eq!((board.runs, board.output), (4, 14));
    }

    #[test]
    fn output_of_running_scripts_is_bounded() {
        let job = job(0, 1_000_000);
        let mut board = board(&[&job], &[1]);
        assert!(!board.hear(&job.id, &device(1), "early"), "it was not sent yet");
        board.claim(&device(1), 1);
        for _ in 0..100 {
            assert!(board.hear(&job.id, &device(1), &"x".repeat(1000)));
        }
        assert_eq!(board.heard(&job.id, &device(1)).len(), LIVE_KEPT);
        assert_eq!(board.live_bytes, LIVE_KEPT);
        board.turn(&job.id, &device(1), &[RunState::Sent], RunState::Done, 5, 3);
        assert_eq!((board.heard(&job.id, &device(1)), board.live_bytes), ("", 0));
    }

    #[test]
    fn people_see_what_is_theirs() {
        let job = job(0, 1_000_000);
        let board = board(&[&job], &[1, 2]);
        let seen = |own: bool, sees: Option<u8>| {
            let listed = board.list("", |_| own, |other| sees.is_some_and(|n| *other == device(n)));
            listed.first().map(|listed| listed.counts.waiting)
        };
        assert_eq!(seen(true, None), Some(2));
        assert_eq!(seen(false, Some(1)), Some(1));
        assert_eq!(seen(false, None), None);
        assert!(board.list("elsewhere", |_| true, |_| true).is_empty());
    }
}
