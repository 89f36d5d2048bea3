//! Conversations between a person at the app and whoever sits at a device.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::StatusCode;
use outpost::clock;
use serde_json::{Value, json};
use tokio_websockets::Message;

use crate::relays::{Device, Socket, device, encoded, is_closed};
use crate::world::{Browser, TestServer, socket};

/// What a side is told next.
async fn heard(socket: &mut Socket) -> Value {
    let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
    let message = message.expect("in time").expect("open").expect("a message");
    serde_json::from_str(message.as_text().expect("a text")).expect("JSON")
}

async fn says(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.expect("sent");
}

/// A person who asked for a chat: the answer, and the path of the page that the agent was told to open.
async fn asked(device: &mut Device) -> (Value, String) {
    let answer = device.control.ask(json!({ "action": "meshmessenger", "nodeid": device.id })).await;
    assert_eq!(answer["result"], "OK", "{answer}");
    let told = device.agent.told("openUrl").await;
    assert_eq!(told["url"], answer["url"]);
    let url = told["url"].as_str().unwrap();
    (answer.clone(), url[url.find("/messenger").unwrap()..].to_owned())
}

fn of_link(path: &str) -> String {
    path.replace("/messenger?", "/meshrelay.ashx?")
}

fn of_person(answer: &Value) -> String {
    format!("/meshrelay.ashx?id={}", encoded(answer["chatid"].as_str().unwrap()))
}

#[tokio::test]
async fn two_people_write_to_each_other_and_the_log_knows_both_ends() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    let (answer, page) = asked(&mut device).await;
    let mut stranger = Browser::new(server.address);
    assert_eq!(stranger.get(&page).await.status, StatusCode::OK);
    let about = stranger.get(&page.replace("/messenger?", "/api/chat?")).await.json();
    assert_eq!((&about["person"], &about["device"]), (&json!("Admin"), &json!("box")));

    let mut person = device.browser.socket(&of_person(&answer)).await.expect("a seat");
    assert_eq!(heard(&mut person).await, json!({ "action": "there", "there": false }));
    says(&mut person, json!({ "action": "chat", "msg": "Hello?" })).await;
    says(&mut person, json!({ "action": "chat", "msg": " " })).await;
    assert_eq!(heard(&mut person).await["action"], "refused", "and the first one is on its way");
    let mut guest = socket(server.address, &of_link(&page), &[]).await.expect("a seat");
    assert_eq!(heard(&mut guest).await["there"], true);
    let first = heard(&mut guest).await;
    assert_eq!((&first["action"], &first["msg"]), (&json!("chat"), &json!("Hello?")), "it had waited");
    assert_eq!(heard(&mut person).await["there"], true);
    let started = device.control.event("relaylog").await;
    assert_eq!((&started["msgid"], &started["protocol"]), (&json!(162), &json!(200)));
    assert_eq!(started["msgArgs"], json!([answer["chatid"], "127.0.0.1", "127.0.0.1"]));

    // Only what is a text goes on, and only as one.
    says(&mut guest, json!({ "action": "typing" })).await;
    says(&mut guest, json!({ "action": "close" })).await;
    says(&mut guest, json!({ "action": "end", "why": "x" })).await;
    says(&mut guest, json!({ "action": "chat", "msg": "<b>Yes\u{7}</b>", "time": 1, "from": "Admin" })).await;
    assert_eq!(heard(&mut person).await, json!({ "action": "typing" }));
    let reply = heard(&mut person).await;
    assert_eq!(reply["msg"], "<b>Yes</b>");
    assert!(reply["from"].is_null() && reply["time"].as_i64().unwrap() > 1);
    says(&mut person, json!({ "action": "chat", "msg": "x".repeat(4097) })).await;
    assert_eq!(heard(&mut person).await, json!({ "action": "refused", "most": 4096 }));

    // A page that is loaded again takes its seat; the old one is sent away.
    let mut again = socket(server.address, &of_link(&page), &[]).await.expect("a seat");
    assert_eq!(heard(&mut guest).await, json!({ "action": "end", "why": "elsewhere" }));
    assert_eq!(heard(&mut again).await["there"], true);
    // Whoever is there already is not shown another page.
    let more = device.control.ask(json!({ "action": "meshmessenger", "nodeid": device.id })).await;
    assert_eq!((&more["answered"], &more["chatid"]), (&json!(true), &answer["chatid"]));

    says(&mut person, json!({ "action": "close" })).await;
    assert_eq!(heard(&mut again).await, json!({ "action": "end", "why": "closed" }));
    assert!(is_closed(&mut again).await && is_closed(&mut person).await);
    let ended = loop {
        let event = device.control.event("relaylog").await;
        if event["msgid"] == 112 && event["bytesin"] == 0 && event["bytesout"] == 0 {
            break event;
        }
    };
    assert_eq!(ended["nodeid"], device.id.as_str());
    assert_eq!(stranger.get(&page).await.status, StatusCode::NOT_FOUND, "the link is void");
    assert!(socket(server.address, &of_link(&page), &[]).await.is_err());
    let (next, other) = asked(&mut device).await;
    assert_eq!(next["chatid"], answer["chatid"]);
    assert!(socket(server.address, &of_link(&page), &[]).await.is_err(), "also when there is a new one");
    assert!(socket(server.address, &of_link(&other), &[]).await.is_ok());
}

#[tokio::test]
async fn nobody_else_gets_in() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    let (answer, page) = asked(&mut device).await;
    let bob = server.member(&mut device.control, "bob").await;
    assert!(bob.socket(&of_person(&answer)).await.is_err(), "it is somebody else's");
    assert!(socket(server.address, &of_person(&answer), &[]).await.is_err(), "an id is no cookie");
    let cookie = page.split("meshmessenger/").nth(1).unwrap();
    // What opens the conversation opens nothing else.
    let node = encoded(&device.id);
    let key = format!("id=x&p=2&nodeid={node}&auth={cookie}");
    assert!(socket(server.address, &format!("/meshrelay.ashx?{key}"), &[]).await.is_err());
    let mut stranger = Browser::new(server.address);
    for other in ["/api/share", "/sharing"] {
        assert_eq!(stranger.get(&format!("{other}?c={cookie}")).await.status, StatusCode::NOT_FOUND);
    }
    let mut forged = cookie.to_owned();
    forged.replace_range(10..11, if &cookie[10..11] == "A" { "B" } else { "A" });
    let claims = json!({ "a": "chat", "id": answer["chatid"], "s": "x", "expire": 60 });
    let keys = &server.site().keys;
    let seal = |key, now| outpost_wire::cookie::seal(key, &claims, now);
    let login = device.control.ask(json!({ "action": "authcookie" })).await["cookie"].clone();
    for bad in [
        forged,
        seal(&keys.invitation, clock::now_seconds()),
        seal(&keys.login, clock::now_seconds()),
        login.as_str().unwrap().to_owned(),
        String::new(),
    ] {
        let path = format!("/meshrelay.ashx?id=meshmessenger/{bad}");
        assert!(socket(server.address, &path, &[]).await.is_err(), "{bad}");
        let page = format!("/messenger?id=meshmessenger/{bad}");
        assert_eq!(stranger.get(&page).await.status, StatusCode::NOT_FOUND, "{bad}");
    }
    assert_eq!(stranger.get("/messenger").await.status, StatusCode::NOT_FOUND);

    // Without the right there is no conversation, and one that runs ends when the right goes.
    let mut control = bob.control().await;
    let ask = json!({ "action": "meshmessenger", "nodeid": device.id });
    assert_eq!(control.ask(ask.clone()).await["result"], "Invalid nodeid");
    let give = |rights: u32| json!({ "action": "addmeshuser", "meshid": device.group, "usernames": ["bob"], "meshadmin": rights });
    device.control.ask(give(8)).await;
    assert_eq!(control.ask(ask.clone()).await["result"], "Access denied");
    device.control.ask(give(0x4000)).await;
    let begun = control.ask(ask).await;
    let mut talking = bob.socket(&of_person(&begun)).await.expect("a seat");
    heard(&mut talking).await;
    device.control.ask(give(8)).await;
    assert_eq!(heard(&mut talking).await, json!({ "action": "end", "why": "rights" }));
    let unknown = device.control.ask(json!({ "action": "meshmessenger", "userid": "user//bob" })).await;
    assert_eq!(unknown["result"], "userid: this server has chats with devices only");
}

#[tokio::test]
async fn where_chats_have_to_be_recorded_there_are_none() {
    let server = TestServer::with(r#"{"domains":{"":{"sessionRecording":true}}}"#).await;
    let mut device = device(&server).await;
    let answer = device.control.ask(json!({ "action": "meshmessenger", "nodeid": device.id })).await;
    assert!(answer["result"].as_str().unwrap().contains("have to be recorded"), "{answer}");
}
