//! A files session over a tunnel: folders listed and changed, files sent and taken (tunnel-protocols §5).
//!
//! Disks may hang: everything that touches one runs beside the agent's thread. One block of a file is in memory
//! at a time each way, and the next is taken when the last has gone, so a slow peer slows only itself.
//!
//! Clients of MeshCentral list a folder right after they change it, so changes are finished before the next request
//! is taken, unless a client asks to watch one (docs/protocol-notes.md).

mod archive;
mod changes;
mod download;
mod extract;
mod find;
mod listing;
mod push;
mod upload;
mod work;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use outpost_wire::files::{DownloadStep, FileRequest, HashKind, is_request};
use outpost_wire::tunnel::{Control, Options};
use serde_json::{Map, Value, json};
use tokio_websockets::Message;

use crate::agent::Context;
use crate::terminal;
use crate::tunnel::Requester;

use download::Download;
use find::Search;
pub use push::{decline, push};
use upload::Upload;
use work::{Jobs, News, Outcome, Progress, Told, Work};

/// What this agent can do beyond MeshCentral's protocol; a client that asks is told.
const ABILITIES: [&str; 9] =
    ["progress", "conflicts", "resume", "replace", "sha256", "zip", "folders", "offset", "owners"];

/// Numbers of known texts of the event log (data-formats §11).
const LOG_MADE: u32 = 44;
const LOG_REMOVED: u32 = 45;
const LOG_REMOVED_ALL: u32 = 46;
const LOG_RENAMED: u32 = 48;
const LOG_DOWNLOAD: u32 = 49;
const LOG_COPIED: u32 = 51;
const LOG_MOVED: u32 = 52;
const LOG_UPLOADED: u32 = 105;

/// Why a session ended other than by its peer.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The tunnel.
    #[error("the tunnel failed")]
    Tunnel,
}

/// Runs work on the disk beside the agent's thread.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// A session and what is under way in it: at most one upload, one download and one search, and some pieces of work.
struct Session<'a, O> {
    sink: O,
    context: &'a Context,
    requester: &'a Requester,
    upload: Option<Upload>,
    download: Option<Download>,
    search: Option<Search>,
    jobs: Jobs,
}

/// Serves a files session until either side ends it.
///
/// # Errors
/// [`FilesError`].
pub async fn run<O, I, E>(
    sink: O,
    mut stream: I,
    context: &Context,
    requester: &Requester,
    options: &Options,
) -> Result<(), FilesError>
where
    O: Sink<Message, Error = E> + Unpin,
    I: Stream<Item = Result<Message, E>> + Unpin,
{
    let mut session =
        Session { sink, context, requester, upload: None, download: None, search: None, jobs: Jobs::new() };
    if options.abilities {
        let word = json!({ "action": "abilities", "can": ABILITIES, "root": crate::host::is_root() });
        session.send(Message::text(word.to_string())).await?;
    }
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(Ok(message)) = message else { return Ok(()) };
                if message.is_close() || !session.take(&message).await? {
                    return Ok(());
                }
            }
            block = download::next(&mut session.download) => {
                session.send(Message::binary(block)).await?;
            }
            found = find::next(&mut session.search) => session.reply(found).await?,
            news = session.jobs.next() => session.tell(news).await?,
        }
    }
}

impl<O: Sink<Message> + Unpin> Session<'_, O> {
    async fn send(&mut self, message: Message) -> Result<(), FilesError> {
        self.sink.send(message).await.map_err(|_| FilesError::Tunnel)
    }

    /// Answers travel as bytes: clients read texts as control messages.
    async fn reply(&mut self, answer: Value) -> Result<(), FilesError> {
        self.send(Message::binary(answer.to_string())).await
    }

    /// Takes a message; `false` when it was the last.
    async fn take(&mut self, message: &Message) -> Result<bool, FilesError> {
        if !message.is_text() && !message.is_binary() {
            return Ok(true);
        }
        let payload = message.as_payload();
        if message.is_binary() && !is_request(payload) {
            self.write(payload).await?;
            return Ok(true);
        }
        if let Some(control) = message.as_text().and_then(Control::parse) {
            if control == Control::Close {
                return Ok(false);
            }
            if let Some(answer) = terminal::answer(control) {
                self.send(Message::text(answer)).await?;
            }
            return Ok(true);
        }
        match FileRequest::parse(payload) {
            Ok(request) => Box::pin(self.carry_out(request)).await?,
            Err(error) => {
                log::debug!("a request of {} was not understood: {error}", self.requester.user);
                self.context.uplink.post(&self.requester.say(&error.to_string()));
            }
        }
        Ok(true)
    }

    async fn carry_out(&mut self, request: FileRequest) -> Result<(), FilesError> {
        match request {
            FileRequest::List { path, reqid } => {
                if let Some(listing) = beside(move || listing::list(&path, &reqid)).await {
                    self.send(Message::binary(listing)).await?;
                }
            }
            FileRequest::MakeFolder { path, reqid } => {
                let done = beside(move || changes::make_folder(&path).map(Outcome::from)).await;
                self.changed("mkdir", reqid, done, Some(LOG_MADE)).await?;
            }
            FileRequest::Remove { path, names, recursive, watch, reqid } => {
                let number = if recursive { LOG_REMOVED_ALL } else { LOG_REMOVED };
                let work = move |work: &mut Work| changes::remove(&path, &names, recursive, work);
                self.work("rm", reqid, Some(number), watch, work).await?;
            }
            FileRequest::Rename { path, from, to, reqid } => {
                let done = beside(move || changes::rename(&path, &from, &to).map(Outcome::from)).await;
                self.changed("rename", reqid, done, Some(LOG_RENAMED)).await?;
            }
            FileRequest::Transfer { from, to, names, remove, exists, watch, reqid } => {
                let (action, number) = if remove { ("move", LOG_MOVED) } else { ("copy", LOG_COPIED) };
                let work = move |work: &mut Work| changes::transfer(&from, &to, &names, remove, exists, work);
                self.work(action, reqid, Some(number), watch, work).await?;
            }
            FileRequest::Zip { path, names, output, reqid } => {
                self.dialog(json!("zipping"), Value::Null).await?;
                let work = move |work: &mut Work| archive::zip(&path, &names, &output, work);
                self.work("zip", reqid, None, true, work).await?;
            }
            FileRequest::Unzip { archive, folder, exists, reqid } => {
                self.dialog(json!("unzipping"), Value::Null).await?;
                let work = move |work: &mut Work| extract::unzip(&archive, &folder, exists, work);
                self.work("unzip", reqid, None, true, work).await?;
            }
            FileRequest::Cancel { reqid } => self.jobs.cancel(&reqid),
            FileRequest::Upload { path, mode, hash, reqid } => {
                // What was under way is over; what there is of it stays, for going on later.
                self.upload = None;
                let answer = match beside(move || Upload::begin(&path, mode, hash, reqid)).await {
                    Some(Ok(upload)) => {
                        let answer = json!({ "action": "uploadstart", "reqid": upload.reqid });
                        self.upload = Some(upload);
                        answer
                    }
                    Some(Err((reqid, error))) => {
                        self.context.uplink.post(&self.requester.say(&error));
                        json!({ "action": "uploaderror", "reqid": reqid, "error": error })
                    }
                    None => json!({ "action": "uploaderror" }),
                };
                self.reply(answer).await?;
            }
            FileRequest::UploadDone { reqid } => {
                let Some(upload) = self.upload.take() else { return Ok(()) };
                match beside(move || upload.finish()).await {
                    Some(Ok((text, hash))) => {
                        self.context.uplink.post(&self.requester.log(&text, Some(LOG_UPLOADED)));
                        let mut answer = json!({ "action": "uploaddone", "reqid": reqid });
                        if let Some((kind, hash)) = hash {
                            answer["kind"] = kind.name().into();
                            answer["hash"] = hash.into();
                        }
                        self.reply(answer).await?;
                    }
                    Some(Err(error)) => {
                        self.context.uplink.post(&self.requester.say(&error.words));
                        let answer = json!({ "action": "uploaderror", "reqid": reqid, "error": error.words, "conflict": error.conflict });
                        self.reply(answer).await?;
                    }
                    None => self.reply(json!({ "action": "uploaderror", "reqid": reqid })).await?,
                }
            }
            FileRequest::UploadCancel { reqid } => {
                if let Some(upload) = self.upload.take() {
                    beside(move || upload.discard()).await;
                    self.reply(json!({ "action": "uploadcancel", "reqid": reqid })).await?;
                }
            }
            FileRequest::Hash { path, kind, watch: true, echo } => {
                let reqid = echo.get("reqid").cloned().unwrap_or_default();
                let work = move |work: &mut Work| {
                    let hash = upload::hash(&path, kind, work)?;
                    Ok(Outcome { text: String::new(), fields: hash_answer(echo, kind, Some(hash)) })
                };
                self.work("uploadhash", reqid, None, true, work).await?;
            }
            FileRequest::Hash { path, kind, echo, .. } => {
                let hash = beside(move || upload::hash(&path, kind, &mut Work::unwatched()).ok()).await;
                self.reply(hash_answer(echo, kind, hash.flatten()).into()).await?;
            }
            FileRequest::Download { id, step } => self.download_step(id, step).await?,
            FileRequest::Find { path, pattern, reqid } => {
                self.search = Some(Search::begin(path, pattern, reqid))
            }
            FileRequest::CancelFind => self.search = None,
        }
        Ok(())
    }

    /// Does what may take long: at once, or (`watch`) beside the session.
    async fn work(
        &mut self,
        action: &'static str,
        reqid: Value,
        log: Option<u32>,
        watch: bool,
        work: impl FnOnce(&mut Work) -> Result<Outcome, String> + Send + 'static,
    ) -> Result<(), FilesError> {
        if !watch {
            let done = beside(move || work(&mut Work::unwatched())).await;
            let done = done.unwrap_or_else(|| Err("the device could not do that".into()));
            return self.ended(action, reqid, log, done).await;
        }
        match self.jobs.begin(action, reqid.clone(), log, work) {
            Ok(()) => Ok(()),
            Err(error) => self.ended(action, reqid, log, Err(error)).await,
        }
    }

    /// Passes on what a piece of work says.
    async fn tell(&mut self, News { action, reqid, log, told }: News) -> Result<(), FilesError> {
        match told {
            Told::Progress(progress) => {
                let Progress { done, total, items, name } = progress;
                if action == "zip" {
                    // Clients of MeshCentral show this; they get no total either, only that it goes on.
                    self.dialog(json!("zippingFile"), json!(name)).await?;
                }
                let answer = json!({
                    "action": "progress", "reqid": reqid, "done": done, "total": total, "items": items, "name": name,
                });
                self.send(Message::text(answer.to_string())).await
            }
            Told::Ended(done) => self.ended(action, reqid, log, done).await,
        }
    }

    async fn ended(
        &mut self,
        action: &str,
        reqid: Value,
        log: Option<u32>,
        done: Result<Outcome, String>,
    ) -> Result<(), FilesError> {
        let error = done.as_ref().err().cloned();
        self.changed(action, reqid, Some(done), log).await?;
        if matches!(action, "zip" | "unzip") {
            match error.filter(|_| action == "unzip") {
                Some(error) => {
                    self.reply(json!({ "action": "dialogmessage", "msg": "unziperror", "error": error }))
                        .await?
                }
                None => self.dialog(Value::Null, Value::Null).await?,
            }
            self.reply(json!({ "action": "refresh" })).await?;
        }
        Ok(())
    }

    /// Words that clients of MeshCentral show while an archive is made or taken apart; `null` takes them away.
    async fn dialog(&mut self, words: Value, file: Value) -> Result<(), FilesError> {
        let mut message = json!({ "action": "dialogmessage", "msg": words });
        if !file.is_null() {
            message["file"] = file;
            message["progress"] = 0.into();
        }
        self.reply(message).await
    }

    /// Tells of a change: in the event log, where clients of MeshCentral look for it, and to whoever asked. The
    /// answer is a text, which those clients pass over.
    async fn changed(
        &mut self,
        action: &str,
        reqid: Value,
        done: Option<Result<Outcome, String>>,
        number: Option<u32>,
    ) -> Result<(), FilesError> {
        let mut answer = json!({ "action": action, "reqid": reqid });
        match done {
            Some(Ok(outcome)) => {
                if !outcome.text.is_empty() {
                    self.context.uplink.post(&self.requester.log(&outcome.text, number));
                }
                for (field, value) in outcome.fields {
                    answer[field] = value;
                }
                answer["result"] = "ok".into();
            }
            Some(Err(error)) => {
                self.context.uplink.post(&self.requester.say(&error));
                answer["error"] = error.into();
            }
            None => answer["error"] = "the device could not do that".into(),
        }
        self.send(Message::text(answer.to_string())).await
    }

    async fn write(&mut self, block: &[u8]) -> Result<(), FilesError> {
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        let block = outpost_wire::files::upload_block(block).to_vec();
        let written = beside(move || {
            let outcome = upload.write(&block);
            (upload, outcome)
        });
        match written.await {
            Some((upload, Ok(()))) => {
                let answer = json!({ "action": "uploadack", "reqid": upload.reqid });
                self.upload = Some(upload);
                self.reply(answer).await
            }
            Some((upload, Err(error))) => {
                let error = format!("{}: {error}", upload.path());
                self.context.uplink.post(&self.requester.say(&error));
                self.reply(json!({ "action": "uploaderror", "reqid": upload.reqid, "error": error })).await
            }
            None => self.reply(json!({ "action": "uploaderror" })).await,
        }
    }

    async fn download_step(&mut self, id: Value, step: DownloadStep) -> Result<(), FilesError> {
        let say = |id: &Value, sub: &str| {
            Message::text(json!({ "action": "download", "sub": sub, "id": id }).to_string())
        };
        let DownloadStep::Start { path, from } = step else {
            if let Some(download) = self.download.as_mut().filter(|download| download.id == id) {
                match step {
                    DownloadStep::Go { window } => download.go(window),
                    DownloadStep::Ack => download.acknowledge(),
                    DownloadStep::Stop | DownloadStep::Start { .. } => self.download = None,
                }
            }
            return Ok(());
        };
        if let Some(earlier) = self.download.take() {
            self.send(say(&earlier.id, "cancel")).await?;
        }
        let shown = outpost_wire::files::to_text(&path);
        let opened = {
            let id = id.clone();
            beside(move || Download::open(&path, from, id)).await
        };
        match opened {
            Some(Ok(download)) => {
                self.download = Some(download);
                self.context
                    .uplink
                    .post(&self.requester.log(&format!("Download: \"{shown}\""), Some(LOG_DOWNLOAD)));
                self.send(say(&id, "start")).await
            }
            Some(Err(error)) => {
                self.context.uplink.post(&self.requester.say(&format!("{shown}: {error}")));
                self.send(say(&id, "cancel")).await
            }
            None => self.send(say(&id, "cancel")).await,
        }
    }
}

fn hash_answer(asked: Map<String, Value>, kind: HashKind, hash: Option<String>) -> Map<String, Value> {
    let mut answer: Map<String, Value> = asked
        .into_iter()
        .filter(|(field, _)| matches!(field.as_str(), "action" | "reqid" | "path" | "name" | "tag"))
        .collect();
    answer.insert("hash".into(), hash.into());
    if kind != HashKind::Sha384 {
        answer.insert("kind".into(), kind.name().into());
    }
    answer
}
