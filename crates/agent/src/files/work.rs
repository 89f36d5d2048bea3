//! Work on the disk that takes its time: done beside the session, told of as it goes on, and ended when asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::mpsc;

/// Pieces of work at once in one session.
pub(super) const MOST: usize = 4;
/// Between two reports.
const PAUSE: Duration = Duration::from_millis(250);

/// What came of a piece of work.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What the event log says of it.
    pub(super) text: String,
    /// More of the answer.
    pub(super) fields: Map<String, Value>,
}

impl From<String> for Outcome {
    fn from(text: String) -> Self {
        Self { text, fields: Map::new() }
    }
}

/// How far a piece of work is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Bytes.
    pub(super) done: u64,
    /// Bytes in all, where that is known.
    pub(super) total: Option<u64>,
    /// Entries.
    pub(super) items: u64,
    /// The entry it is at.
    pub(super) name: String,
}

/// What a piece of work tells its session.
#[derive(Debug)]
pub(super) enum Told {
    Progress(Progress),
    Ended(Result<Outcome, String>),
}

/// A piece of work, seen from within.
pub(super) struct Work {
    progress: Progress,
    tell: Option<(usize, mpsc::Sender<(usize, Told)>)>,
    stop: Arc<AtomicBool>,
    last: Instant,
}

impl Work {
    /// Work that nobody watches.
    pub(super) fn unwatched() -> Work {
        Work { progress: Progress::default(), tell: None, stop: Arc::default(), last: Instant::now() }
    }

    /// How many bytes there are to do.
    pub(super) fn expect(&mut self, total: u64) {
        self.progress.total = Some(total);
    }

    /// Says which entry is next; fails when the work is to end.
    pub(super) fn at(&mut self, name: impl FnOnce() -> String) -> Result<(), String> {
        self.progress.items += 1;
        if self.tell.is_some() && self.last.elapsed() >= PAUSE {
            self.progress.name = name();
        }
        self.moved(0)
    }

    /// Says that so many more bytes are done; fails when the work is to end.
    pub(super) fn moved(&mut self, bytes: u64) -> Result<(), String> {
        self.progress.done += bytes;
        if self.stop.load(Ordering::Relaxed) {
            return Err("cancelled".into());
        }
        if let Some((number, tell)) = &self.tell
            && self.last.elapsed() >= PAUSE
        {
            self.last = Instant::now();
            // A report that finds no room is not missed: the next one says more.
            let _ = tell.try_send((*number, Told::Progress(self.progress.clone())));
        }
        Ok(())
    }

    /// Entries seen so far.
    pub(super) fn items(&self) -> u64 {
        self.progress.items
    }
}

/// A piece of work under way.
struct Job {
    number: usize,
    /// The action it was asked for as.
    action: &'static str,
    reqid: Value,
    /// Number of its text in the event log.
    log: Option<u32>,
    stop: Arc<AtomicBool>,
}

/// What a piece of work said, and which.
pub(super) struct News {
    pub(super) action: &'static str,
    pub(super) reqid: Value,
    pub(super) log: Option<u32>,
    pub(super) told: Told,
}

/// The work of one session; what is under way ends when this is dropped.
pub(super) struct Jobs {
    jobs: Vec<Job>,
    next: usize,
    tell: mpsc::Sender<(usize, Told)>,
    heard: mpsc::Receiver<(usize, Told)>,
}

impl Jobs {
    pub(super) fn new() -> Jobs {
        let (tell, heard) = mpsc::channel(2 * MOST);
        Jobs { jobs: Vec::new(), next: 0, tell, heard }
    }

    /// Begins a piece of work; fails when too many are under way.
    pub(super) fn begin(
        &mut self,
        action: &'static str,
        reqid: Value,
        log: Option<u32>,
        work: impl FnOnce(&mut Work) -> Result<Outcome, String> + Send + 'static,
    ) -> Result<(), String> {
        if self.jobs.len() >= MOST {
            return Err(format!("{MOST} pieces of work are under way in this session already"));
        }
        let (number, stop) = (self.next, Arc::new(AtomicBool::new(false)));
        self.next += 1;
        self.jobs.push(Job { number, action, reqid, log, stop: stop.clone() });
        let tell = self.tell.clone();
        tokio::task::spawn_blocking(move || {
            let mut within = Work {
                progress: Progress::default(),
                tell: Some((number, tell.clone())),
                stop,
                last: Instant::now(),
            };
            let ended = work(&mut within);
            // The session may have gone.
            let _ = tell.blocking_send((number, Told::Ended(ended)));
        });
        Ok(())
    }

    /// The next word of any piece of work; without one waits for ever.
    pub(super) async fn next(&mut self) -> News {
        loop {
            let Some((number, told)) = self.heard.recv().await else {
                return std::future::pending().await;
            };
            let Some(at) = self.jobs.iter().position(|job| job.number == number) else { continue };
            let job = &self.jobs[at];
            let news = News { action: job.action, reqid: job.reqid.clone(), log: job.log, told };
            if matches!(news.told, Told::Ended(_)) {
                self.jobs.remove(at);
            }
            return news;
        }
    }

    /// Tells what was asked for under this id, or everything, to end.
    pub(super) fn cancel(&self, reqid: &Value) {
        for job in self.jobs.iter().filter(|job| reqid.is_null() || job.reqid == *reqid) {
            job.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.cancel(&Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_told_of_and_ends_when_asked() {
        let mut jobs = Jobs::new();
        let endless = |work: &mut Work| loop {
            std::thread::sleep(Duration::from_millis(1));
            work.at(|| "x".into())?;
            work.moved(1)?;
        };
        for reqid in 0..MOST {
            jobs.begin("rm", reqid.into(), None, endless).expect("begun");
        }
        assert!(jobs.begin("rm", 9.into(), None, endless).is_err(), "too many");
        let news = jobs.next().await;
        assert!(matches!(news.told, Told::Progress(progress) if progress.done > 0 && progress.name == "x"));
        jobs.cancel(&2.into());
        loop {
            let news = jobs.next().await;
            if let Told::Ended(ended) = news.told {
                assert_eq!((news.reqid, ended.expect_err("cancelled")), (2.into(), "cancelled".to_owned()));
                break;
            }
        }
        jobs.begin("mkdir", 10.into(), Some(44), |_| Ok("made".to_owned().into())).expect("there is room");
        loop {
            let news = jobs.next().await;
            if let Told::Ended(ended) = news.told {
                assert_eq!((news.log, ended.expect("done").text), (Some(44), "made".to_owned()));
                break;
            }
        }
    }
}
