//! The one thread that writes: group commit, lazy writes, and what is published when.

use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::Durability;
use super::engine::{Engine, StoreError};
use super::pending::Pending;
use crate::model::Directory;

/// How long a lazy write may wait for company.
const LAZY_DELAY: Duration = Duration::from_secs(5);
/// Most changes of one commit; bounds its memory.
const GROUP_LIMIT: usize = 4096;
/// Lazy changes are committed early when so many wait.
const LAZY_LIMIT: usize = 8192;

/// The newest staged picture, and how often staged work was thrown away.
pub(super) struct Head {
    pub(super) directory: Arc<Directory>,
    pub(super) epoch: u64,
}

impl Head {
    pub(super) fn new(directory: Arc<Directory>) -> Head {
        Head { directory, epoch: 0 }
    }
}

/// One staged change on its way to the disk.
pub(super) struct Job {
    pub(super) ops: Vec<super::engine::Op>,
    /// The picture after this change.
    pub(super) directory: Arc<Directory>,
    /// The epoch it was staged in: a job built on a picture that never came to be is refused.
    pub(super) epoch: u64,
    pub(super) durability: Durability,
    pub(super) done: Option<oneshot::Sender<Result<(), StoreError>>>,
}

enum Message {
    Job(Job),
    Close,
}

/// The writing thread.
pub(super) struct Writer {
    jobs: mpsc::Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(
        engine: Arc<dyn Engine>,
        lazy: Arc<Pending>,
        published: Arc<ArcSwap<Directory>>,
        head: Arc<Mutex<Head>>,
    ) -> Writer {
        let (jobs, queue) = mpsc::channel();
        let work = Work { engine, published, head, lazy, lazy_due: None };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || work.run(&queue))
            .expect("the system can start a thread");
        Writer { jobs, thread: Mutex::new(Some(thread)) }
    }

    pub(super) fn send(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.send(Message::Job(job)).map_err(|_| StoreError::Closed)
    }

    pub(super) fn close(&self) {
        // A writer that is already gone has nothing left to write.
        let _ = self.jobs.send(Message::Close);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

struct Work {
    engine: Arc<dyn Engine>,
    published: Arc<ArcSwap<Directory>>,
    head: Arc<Mutex<Head>>,
    lazy: Arc<Pending>,
    lazy_due: Option<Instant>,
}

impl Work {
    fn run(mut self, queue: &mpsc::Receiver<Message>) {
        loop {
            let first = match self.lazy_due {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => queue.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            let mut group = Vec::new();
            let mut closing = false;
            match first {
                Ok(Message::Job(job)) => group.push(job),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => closing = true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let mut size: usize = group.iter().map(|job| job.ops.len()).sum();
            while !closing && size < GROUP_LIMIT {
                match queue.try_recv() {
                    Ok(Message::Job(job)) => {
                        size += job.ops.len();
                        group.push(job);
                    }
                    Ok(Message::Close) => closing = true,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.take(group);
            let due = self.lazy_due.is_some_and(|due| due <= Instant::now());
            if closing || due || self.lazy.lock().len() >= LAZY_LIMIT {
                self.flush_lazy();
            }
            if closing {
                return;
            }
        }
    }

    fn take(&mut self, group: Vec<Job>) {
        let epoch = self.head.lock().unwrap_or_else(PoisonError::into_inner).epoch;
        let (group, stale): (Vec<Job>, Vec<Job>) = group.into_iter().partition(|job| job.epoch == epoch);
        for job in stale {
            job.answer(Err(StoreError::Write("an earlier change that this one built on failed".into())));
        }
        if group.iter().any(|job| job.durability == Durability::Durable) {
            self.commit(group);
        } else {
            for job in group {
                self.published.store(job.directory.clone());
                self.lazy_due.get_or_insert_with(|| Instant::now() + LAZY_DELAY);
                self.lazy.lock().extend(job.ops.iter().cloned());
                job.answer(Ok(()));
            }
        }
    }

    fn commit(&mut self, mut group: Vec<Job>) {
        // What is durable goes with all that waits: one sync for both.
        // Readers wait meanwhile, so they never see a change both here and on the disk.
        let mut ops = self.lazy.lock();
        let waiting = ops.len();
        for job in &mut group {
            ops.append(&mut job.ops);
        }
        match self.engine.commit(&ops) {
            Ok(()) => {
                ops.clear();
                self.lazy_due = None;
                if let Some(last) = group.last() {
                    self.published.store(last.directory.clone());
                }
                for job in group {
                    job.answer(Ok(()));
                }
            }
            Err(error) => {
                log::error!("{error}");
                // What waited before stays for the next try; this group never happened.
                ops.truncate(waiting);
                let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
                head.directory = self.published.load_full();
                head.epoch += 1;
                drop(head);
                for job in group {
                    job.answer(Err(error.clone()));
                }
            }
        }
    }

    fn flush_lazy(&mut self) {
        let mut ops = self.lazy.lock();
        self.lazy_due = None;
        if ops.is_empty() {
            return;
        }
        match self.engine.commit(&ops) {
            Ok(()) => ops.clear(),
            Err(error) => {
                log::error!("history could not be written: {error}");
                // Bounded: when the disk stays full the oldest history goes first.
                let excess = ops.len().saturating_sub(LAZY_LIMIT / 2);
                ops.drain(..excess);
                self.lazy_due = Some(Instant::now() + LAZY_DELAY);
            }
        }
    }
}

impl Job {
    fn answer(mut self, result: Result<(), StoreError>) {
        if let Some(done) = self.done.take() {
            // Whoever asked may have gone away meanwhile.
            let _ = done.send(result);
        }
    }
}
