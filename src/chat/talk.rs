//! One side of a conversation at its WebSocket: what it says is read, judged and written anew for the other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Sink, SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_websockets::{Message, WebSocketStream};

use super::seats::{Seated, Together};
use super::{Conversation, PROTOCOL, Side, may_talk};
use crate::clock;
use crate::model::Event;
use crate::relay::Stream;
use crate::site::Site;

/// Longest frame that is read, in bytes; a text of [`LONGEST_TEXT`] fits whatever its characters.
pub const LONGEST_FRAME: usize = 32 << 10;
/// Longest text, in UTF-16 units, as pages count.
const LONGEST_TEXT: usize = 4096;
/// Messages that may come at once, and one more each half second after that: faster than anybody writes.
const AT_ONCE: u32 = 20;
const EACH: Duration = Duration::from_millis(500);
/// How often it is asked whether the person may still talk here.
const CHECK: Duration = Duration::from_secs(5);
/// How long a page may take to take a message.
const STUCK: Duration = Duration::from_secs(30);

/// How long a page may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a page says.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Said {
    /// A text.
    Chat { msg: String },
    /// Somebody is writing one.
    Typing,
    /// That was all; only the person ends a conversation.
    Close,
    #[serde(other)]
    Unknown,
}

/// How fast a side may go on.
struct Pace {
    free_at: Instant,
}

impl Pace {
    /// The moment from which the next message is read, after one more came.
    fn next(&mut self, now: Instant) -> Instant {
        self.free_at = self.free_at.max(now) + EACH;
        self.free_at.checked_sub(EACH * AT_ONCE).unwrap_or(now).max(now)
    }
}

/// Serves one side until its page leaves, or the conversation ends.
pub async fn serve(
    site: Arc<Site>,
    conversation: Arc<Conversation>,
    side: Side,
    remote: IpAddr,
    socket: WebSocketStream<Stream>,
) {
    let Seated { number, mut mail, waiting, mut end, together, apart } = conversation.seats.sit(side, remote);
    let log = Log { site: &site, conversation: &conversation };
    if let Some(apart) = apart {
        log.ended(&apart).await;
    }
    if let Some(together) = together {
        log.started(&together).await;
    }
    tell_of(&conversation, side, true).await;
    let (mut sink, mut stream) = socket.split();
    let there = json!({ "action": "there", "there": conversation.seats.is_taken(side.other()) });
    let mut greeting = vec![there.to_string()];
    greeting.extend(waiting);
    let mut open = true;
    for words in greeting {
        open = open && send(&mut sink, words).await;
    }
    let mut check = interval(CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = Pace { free_at: Instant::now() };
    let mut read_from = Instant::now();
    while open {
        let heard = async {
            sleep_until(read_from.into()).await;
            stream.next().await
        };
        let over =
            async { end.wait_for(Option::is_some).await.ok().and_then(|why| *why).unwrap_or("closed") };
        tokio::select! {
            // The end is said before what follows from it.
            biased;
            why = over => {
                farewell(&mut sink, why).await;
                break;
            }
            message = heard => {
                let Some(Ok(message)) = message else { break };
                if message.is_close() {
                    break;
                }
                let Some(text) = message.as_text() else { continue };
                read_from = pace.next(Instant::now());
                open = match serde_json::from_str(text) {
                    Ok(Said::Chat { msg }) => match clean(&msg) {
                        Some(words) => {
                            say(&conversation, side, &words).await;
                            true
                        }
                        None => send(&mut sink, json!({ "action": "refused", "most": LONGEST_TEXT }).to_string()).await,
                    },
                    Ok(Said::Typing) => {
                        if let Some(mailbox) = conversation.seats.mailbox(side.other()) {
                            // A hint: when the other side is slow it is left out.
                            let _ = mailbox.try_send(json!({ "action": "typing" }).to_string());
                        }
                        true
                    }
                    Ok(Said::Close) if side == Side::Person => {
                        conversation.seats.end("closed");
                        true
                    }
                    Ok(Said::Close | Said::Unknown) | Err(_) => true,
                };
            }
            words = mail.recv() => match words {
                Some(words) => open = send(&mut sink, words).await,
                // Another page has taken this seat.
                None => {
                    farewell(&mut sink, "elsewhere").await;
                    break;
                }
            },
            _ = check.tick() => {
                if may_talk(&site, &conversation.user, &conversation.device).is_err() {
                    conversation.seats.end("rights");
                } else if conversation.seats.is_over(Instant::now()) {
                    conversation.seats.end("closed");
                }
            }
        }
    }
    let (left, together) = conversation.seats.leave(side, number);
    if let Some(together) = together {
        log.ended(&together).await;
    }
    if left {
        tell_of(&conversation, side, false).await;
    }
    let _ = timeout(FAREWELL, sink.close()).await;
}

/// A text as it is handed on: no control characters but tabs and new lines, not empty, not too long.
fn clean(text: &str) -> Option<String> {
    let words: String = text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect();
    (!words.trim().is_empty() && words.encode_utf16().count() <= LONGEST_TEXT).then_some(words)
}

async fn say(conversation: &Conversation, by: Side, words: &str) {
    conversation.seats.count(by, words.len());
    let message = json!({ "action": "chat", "msg": words, "time": clock::now_ms() }).to_string();
    let to = by.other();
    match conversation.seats.mailbox(to) {
        // A slow reader slows the writer; what it does not take waits for the next page.
        Some(mailbox) => match timeout(STUCK, mailbox.reserve()).await {
            Ok(Ok(place)) => place.send(message),
            _ => conversation.seats.keep(to, message),
        },
        None => conversation.seats.keep(to, message),
    }
}

/// Tells the other side who is there.
async fn tell_of(conversation: &Conversation, side: Side, is_there: bool) {
    if let Some(mailbox) = conversation.seats.mailbox(side.other()) {
        let _ =
            timeout(STUCK, mailbox.send(json!({ "action": "there", "there": is_there }).to_string())).await;
    }
}

async fn send(sink: &mut (impl Sink<Message> + Unpin), words: String) -> bool {
    matches!(timeout(STUCK, sink.send(Message::text(words))).await, Ok(Ok(())))
}

async fn farewell(sink: &mut (impl Sink<Message> + Unpin), why: &str) {
    send(sink, json!({ "action": "end", "why": why }).to_string()).await;
}

/// What the event log says of a conversation (tunnel-protocols §1.13).
struct Log<'a> {
    site: &'a Site,
    conversation: &'a Conversation,
}

impl Log<'_> {
    fn event(&self) -> Event {
        let Conversation { user, device, .. } = self.conversation;
        let directory = self.site.store.directory();
        let name = directory.user(user).map_or_else(|| user.key().to_owned(), |user| user.name.clone());
        let event = Event::new("relay", "relaylog", user.domain())
            .with("userid", user.as_str())
            .with("username", name)
            .with("protocol", PROTOCOL)
            .to(["*", user.as_str()]);
        match directory.device(device) {
            Some(device) => event.on_device(&device.id).to_device(device, &directory),
            None => event,
        }
    }

    async fn started(&self, together: &Together) {
        let (person, device) = (together.person.to_string(), together.device.to_string());
        let text = format!("Started a chat from {person} to {device}");
        let event = self.event().says(162, &[&self.conversation.id, &person, &device], text);
        self.site.events.announce(event).await;
    }

    async fn ended(&self, together: &Together) {
        let (person, device) = (together.person.to_string(), together.device.to_string());
        let seconds = together.since.elapsed().as_secs().to_string();
        let text = format!("Ended a chat from {person} to {device} after {seconds} s");
        let event = self
            .event()
            .says(112, &[&self.conversation.id, &person, &device, &seconds], text)
            .with("bytesin", together.said[0])
            .with("bytesout", together.said[1]);
        self.site.events.announce(event).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_texts() {
        assert_eq!(clean("a\u{1b}[31mb\r\n").as_deref(), Some("a[31mb\n"));
        assert_eq!(clean(" \n"), None);
        assert!(clean(&"é".repeat(LONGEST_TEXT)).is_some());
        assert_eq!(clean(&"x".repeat(LONGEST_TEXT + 1)), None);
    }

    #[test]
    fn whoever_floods_is_read_more_slowly() {
        let now = Instant::now();
        let mut pace = Pace { free_at: now };
        assert!((0..AT_ONCE).all(|_| pace.next(now) == now));
        assert_eq!(pace.next(now), now + EACH);
        assert_eq!(pace.next(now), now + EACH * 2);
    }
}
