//! Recorded sessions: what is written, who is recorded whatever they ask for, who may see it, what is kept.

use std::path::PathBuf;

use futures_util::SinkExt;
use hyper::StatusCode;
use outpost_wire::recording::{BlockHead, BlockKind, ENDING, Ending, HEAD};
use serde_json::{Value, json};
use tokio_websockets::Message;

use crate::relays::{Device, Socket, device, dial, encoded, is_closed, next, request, shared};
use crate::world::{Browser, TestServer, socket, until};

fn config(recording: &str) -> String {
    format!(r#"{{"domains":{{"":{{"sessionRecording":{recording}}}}}}}"#)
}

/// The viewer's and the agent's half of a tunnel whose address says this.
async fn pair(server: &TestServer, device: &mut Device, protocol: u16, id: &str) -> (Socket, Socket) {
    let path = format!("/meshrelay.ashx?browser=1&p={protocol}&nodeid={}&id={id}", encoded(&device.id));
    let viewer = device.browser.socket(&path).await.expect("a half");
    let value = format!("*/meshrelay.ashx?p={protocol}&nodeid={}&id={id}", device.id);
    device
        .control
        .ask(json!({ "action": "msg", "type": "tunnel", "nodeid": device.id, "value": value }))
        .await;
    let agent = dial(server, &request(&mut device.agent).await).await;
    (viewer, agent)
}

async fn joined_as(word: &str, halves: &mut (Socket, Socket)) {
    assert_eq!(next(&mut halves.0).await.as_text(), Some(word));
    assert_eq!(next(&mut halves.1).await.as_text(), Some(word));
}

fn folder(server: &TestServer) -> PathBuf {
    server.folder.path().join("recordings")
}

fn files(server: &TestServer, suffix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder(server)) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(suffix)).collect();
    names.sort();
    names
}

/// What a recording says of itself, and its messages: binary, from the viewer, content.
fn read(server: &TestServer, name: &str) -> (Value, Vec<(bool, bool, Vec<u8>)>) {
    let bytes = std::fs::read(folder(server).join(name)).unwrap();
    let (mut about, mut messages, mut at) = (Value::Null, Vec::new(), 0);
    while at < bytes.len() {
        let head = BlockHead::parse(bytes[at..at + HEAD].try_into().unwrap()).expect("a head");
        let data = &bytes[at + HEAD..at + HEAD + head.size as usize];
        match head.kind {
            BlockKind::About => about = serde_json::from_slice(data).unwrap(),
            BlockKind::Message { binary, from_viewer } => messages.push((binary, from_viewer, data.to_vec())),
            BlockKind::End | BlockKind::Index => {}
        }
        at += HEAD + head.size as usize;
    }
    assert!(Ending::parse(bytes.last_chunk::<ENDING>().unwrap()).is_some(), "it is whole");
    (about, messages)
}

#[tokio::test]
async fn a_session_is_recorded_listed_fetched_and_removed() {
    let server = TestServer::with(&config("true")).await;
    let mut device = device(&server).await;
    let mut halves = pair(&server, &mut device, 1, "rec1").await;
    joined_as("cr", &mut halves).await;
    let (mut viewer, mut agent) = halves;
    let options = r#"{"type":"options","cols":80,"rows":24}"#;
    viewer.send(Message::text(options)).await.unwrap();
    viewer.send(Message::text("1")).await.unwrap();
    assert_eq!(next(&mut agent).await.as_text(), Some(options));
    assert_eq!(next(&mut agent).await.as_text(), Some("1"));
    // Leaving the server's way would leave the recording.
    viewer.send(Message::text(r#"{"ctrlChannel":"102938","type":"offer","sdp":"x"}"#)).await.unwrap();
    viewer.send(Message::binary(&b"ls\n"[..])).await.unwrap();
    assert_eq!(&next(&mut agent).await.as_payload()[..], b"ls\n");
    let long: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    agent.send(Message::binary(long.clone())).await.unwrap();
    assert_eq!(next(&mut viewer).await.as_payload()[..], long[..]);
    assert_eq!((files(&server, ".part").len(), files(&server, ".mcrec").len()), (1, 0));
    viewer.close().await.unwrap();
    assert!(is_closed(&mut agent).await);
    let event = device.control.event("recording").await;
    let name = event["filename"].as_str().unwrap().to_owned();
    assert!(name.starts_with("relaysession-2") && name.ends_with("-admin-box-rec1.mcrec"), "{name}");
    assert_eq!((&event["protocol"], &event["userids"]), (&json!(1), &json!(["user//admin"])));
    let (about, messages) = read(&server, &name);
    assert_eq!((&about["magic"], &about["ver"]), (&json!("MeshCentralRelaySession"), &json!(1)));
    assert_eq!((&about["nodeid"], &about["devicename"]), (&json!(device.id), &json!("box")));
    assert_eq!(
        messages,
        [
            (false, true, options.into()),
            (false, true, b"1".to_vec()),
            (true, true, b"ls\n".to_vec()),
            (true, false, long),
        ]
    );

    let list = device.control.ask(json!({ "action": "recordings", "tag": "x" })).await;
    let listed = &list["events"][0];
    assert_eq!(
        (&listed["filename"], &listed["present"], &list["tag"]),
        (&json!(name), &json!(1), &json!("x"))
    );
    assert!(listed.get("damaged").is_none() && listed["size"].as_u64().unwrap() > 200_000, "{listed}");
    let path = format!("/recordings.ashx?file={}", encoded(&name));
    let whole = device.browser.get(&path).await;
    assert_eq!(whole.body.len() as u64, listed["size"].as_u64().unwrap());
    let part = device.browser.get_with(&path, "range", "bytes=2-5").await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &whole.body[2..6]));
    // The way of MeshCentral's player.
    let mut player = device.browser.socket(&path).await.expect("a player");
    let info: Value = serde_json::from_str(next(&mut player).await.as_text().unwrap()).unwrap();
    assert_eq!((&info["action"], &info["size"]), (&json!("info"), &listed["size"]));
    player.send(Message::text(r#"{"action":"get","ptr":2,"size":4}"#)).await.unwrap();
    let piece = next(&mut player).await;
    assert_eq!(&piece.as_payload()[..8], [0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(&piece.as_payload()[8..], &whole.body[2..6]);

    // Others see nothing of it, and nobody anything beside it.
    let mut bob = server.member(&mut device.control, "bob").await;
    let mut bobs = bob.control().await;
    assert_eq!(bobs.ask(json!({ "action": "recordings" })).await["error"], 1);
    let remove = json!({ "action": "removerecording", "filename": name });
    assert_eq!(bobs.ask(remove.clone()).await["result"], "Access denied");
    assert_eq!(bob.get(&path).await.status, StatusCode::UNAUTHORIZED);
    std::fs::write(folder(&server).join("notes.txt"), "x").unwrap();
    std::fs::write(server.folder.path().join("x.mcrec"), "x").unwrap();
    for outside in ["notes.txt", "../x.mcrec", "..%2Fx.mcrec", "", ".mcrec", "none.mcrec", "a/b.mcrec"] {
        let answer = device.browser.get(&format!("/recordings.ashx?file={outside}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{outside}");
    }
    assert_eq!(device.control.ask(remove.clone()).await["result"], "ok");
    assert_eq!(device.control.event("recordingremoved").await["filename"], name.as_str());
    assert!(files(&server, ".mcrec").is_empty());
    assert_eq!(device.control.ask(remove).await["result"], "There is no such recording");
    let list = device.control.ask(json!({ "action": "recordings" })).await;
    assert_eq!((list["events"].as_array().unwrap().len(), list["events"][0].get("present")), (1, None));
}

#[tokio::test]
async fn no_address_takes_a_recording_away() {
    let server = TestServer::with(&config(r#"{"protocols":[2]}"#)).await;
    let mut device = device(&server).await;
    // A terminal is free here.
    let mut free = pair(&server, &mut device, 1, "a").await;
    joined_as("c", &mut free).await;
    free.0.send(Message::text("1")).await.unwrap();
    assert_eq!(next(&mut free.1).await.as_text(), Some("1"));
    // One that turns out to be a desktop is not, by whatever way the number is said.
    for (n, dodge) in
        [Message::text("2"), Message::binary(&b"2"[..]), Message::text("2 ")].into_iter().enumerate()
    {
        let mut halves = pair(&server, &mut device, 5, &format!("b{n}")).await;
        joined_as("c", &mut halves).await;
        halves.0.send(dodge).await.unwrap();
        let heard = next(&mut halves.1).await;
        assert!(heard.is_close(), "{heard:?}");
        assert!(is_closed(&mut halves.0).await);
    }
    assert!(files(&server, "").is_empty());
    // One that does not say what it is, is recorded.
    let path = format!("/meshrelay.ashx?browser=1&nodeid={}&id=c", encoded(&device.id));
    let mut viewer = device.browser.socket(&path).await.expect("a half");
    let value = format!("*/meshrelay.ashx?nodeid={}&id=c", device.id);
    device
        .control
        .ask(json!({ "action": "msg", "type": "tunnel", "nodeid": device.id, "value": value }))
        .await;
    let _agent = dial(&server, &request(&mut device.agent).await).await;
    assert_eq!(next(&mut viewer).await.as_text(), Some("cr"));
    // A guest is recorded as well, and named.
    let made = shared(&mut device, json!({ "p": 2, "consent": 0, "expire": 60 })).await;
    let link = made["url"].as_str().unwrap().split("/sharing?c=").nth(1).unwrap().to_owned();
    let share = Browser::new(server.address).get(&format!("/api/share?c={link}")).await.json();
    let path = format!("/meshrelay.ashx?browser=1&p=2&id=d&auth={}", share["auth"].as_str().unwrap());
    let mut guest = socket(server.address, &path, &[]).await.expect("a half");
    let agent = dial(&server, &request(&mut device.agent).await).await;
    assert_eq!(next(&mut guest).await.as_text(), Some("cr"));
    guest.send(Message::text("2")).await.unwrap();
    drop((guest, agent));
    let event = device.control.event("recording").await;
    assert_eq!((&event["guestname"], &event["protocol"]), (&json!("Eve"), &json!(2)));
}

#[tokio::test]
async fn only_those_are_recorded_who_are_marked() {
    let server =
        TestServer::with(&config(r#"{"onlySelectedUsers":true,"onlySelectedDeviceGroups":true}"#)).await;
    let mut device = device(&server).await;
    let mut halves = pair(&server, &mut device, 5, "a").await;
    joined_as("c", &mut halves).await;
    device.control.ask(json!({ "action": "editmesh", "meshid": device.group, "flags": 4 })).await;
    let mut halves = pair(&server, &mut device, 5, "b").await;
    joined_as("cr", &mut halves).await;
    device.control.ask(json!({ "action": "editmesh", "meshid": device.group, "flags": 0 })).await;
    let bob = server.member(&mut device.control, "bob").await;
    device
        .control
        .ask(json!({ "action": "addmeshuser", "meshid": device.group, "usernames": ["bob"], "meshadmin": 8 }))
        .await;
    device.control.ask(json!({ "action": "edituser", "userid": "user//bob", "flags": 2 })).await;
    let mut halves = pair(&server, &mut device, 5, "c").await;
    joined_as("c", &mut halves).await;
    device.control = bob.control().await;
    device.browser = bob;
    let mut halves = pair(&server, &mut device, 5, "d").await;
    joined_as("cr", &mut halves).await;
}

#[tokio::test]
async fn a_flood_ends_its_session_and_fills_no_disk() {
    let server = TestServer::with(&config(r#"{"maxRecordingSizeMegabytes":1}"#)).await;
    let mut device = device(&server).await;
    let mut halves = pair(&server, &mut device, 5, "a").await;
    joined_as("cr", &mut halves).await;
    let (mut viewer, mut agent) = halves;
    let flood = async { while agent.send(Message::binary(vec![1; 60_000])).await.is_ok() {} };
    let reason = async {
        let mut last = String::new();
        loop {
            let message = next(&mut viewer).await;
            if message.is_close() {
                return last;
            }
            last = message.as_text().unwrap_or_default().to_owned();
        }
    };
    let (reason, ()) = tokio::join!(reason, flood);
    let said: Value = serde_json::from_str(&reason).expect("a reason");
    assert!(said["msg"].as_str().unwrap().contains("all the room"), "{said}");
    let event = device.control.event("recording").await;
    let size = event["size"].as_u64().unwrap();
    assert!((500_000..=1 << 20).contains(&size), "{size}");
    let (_, messages) = read(&server, event["filename"].as_str().unwrap());
    assert!(messages.iter().all(|(.., data)| data.len() == 60_000));
}

#[tokio::test]
async fn old_ones_go_and_a_server_that_stops_loses_none() {
    let recording = config(r#"{"maxRecordings":2}"#);
    let mut server = TestServer::with(&recording).await;
    let mut device = device(&server).await;
    for id in ["a", "b", "c"] {
        let (mut viewer, agent) = pair(&server, &mut device, 1, id).await;
        assert_eq!(next(&mut viewer).await.as_text(), Some("cr"));
        viewer.send(Message::text("1")).await.unwrap();
        viewer.close().await.unwrap();
        drop(agent);
        device.control.event("recording").await;
    }
    until("one is dropped", || files(&server, ".mcrec").len() == 2).await;
    let removed = device.control.event("recordingremoved").await;
    assert!(removed["filename"].as_str().unwrap().ends_with("-a.mcrec"), "{removed}");
    // One that runs while the server stops, and one that a server left behind that could not.
    let mut halves = pair(&server, &mut device, 1, "d").await;
    joined_as("cr", &mut halves).await;
    halves.0.send(Message::text("1")).await.unwrap();
    assert_eq!(next(&mut halves.1).await.as_text(), Some("1"));
    server.stop().await;
    let whole = std::fs::read(folder(&server).join(&files(&server, ".mcrec")[0])).unwrap();
    std::fs::write(
        folder(&server).join("relaysession-2020-01-01-00-00-00-x.mcrec.part"),
        &whole[..whole.len() - 20],
    )
    .unwrap();
    std::fs::write(folder(&server).join("relaysession-2019-damaged.mcrec"), &whole[..whole.len() - 1])
        .unwrap();
    let server = TestServer::on(server.folder.clone(), &config("{}")).await;
    until("all is mended", || files(&server, ".part").is_empty()).await;
    let mut browser = Browser::new(server.address);
    browser.login("Admin", crate::world::PASSWORD).await;
    let list = browser.control().await.ask(json!({ "action": "recordings" })).await;
    let find = |part: &str| {
        let mut all = list["events"].as_array().unwrap().iter().filter(|one| one.get("present").is_some());
        all.find(|one| one["filename"].as_str().unwrap().contains(part))
            .unwrap_or_else(|| panic!("{part}: {list}"))
    };
    for whole in ["-d.mcrec", "2020-01-01"] {
        assert!(find(whole).get("damaged").is_none(), "{whole}");
    }
    assert_eq!(find("2019-damaged")["damaged"], 1);
}

#[tokio::test]
async fn a_download_is_recorded_as_files_are() {
    let server = TestServer::with(&config(r#"{"protocols":[5]}"#)).await;
    let mut device = device(&server).await;
    device.control.send(json!({ "action": "authcookie" })).await;
    let cookie = loop {
        let message = device.control.next().await;
        if message["action"] == "authcookie" {
            break message["cookie"].as_str().unwrap().to_owned();
        }
    };
    let path = format!("/devicefile.ashx?c={cookie}&n={}&f=%2Fsrv%2Fa", encoded(&device.id));
    let address = server.address;
    let download = tokio::spawn(async move { Browser::new(address).get(&path).await });
    let mut agent = dial(&server, &request(&mut device.agent).await).await;
    assert_eq!(next(&mut agent).await.as_text(), Some("cr"));
    next(&mut agent).await;
    assert_eq!(next(&mut agent).await.as_text(), Some("10"));
    agent.send(Message::text(r#"{"op":"ok","size":5}"#)).await.unwrap();
    agent.send(Message::binary(&b"hello"[..])).await.unwrap();
    assert_eq!(&download.await.unwrap().body[..], b"hello");
    let event = device.control.event("recording").await;
    let (_, messages) = read(&server, event["filename"].as_str().unwrap());
    assert_eq!(messages.last().unwrap(), &(true, false, b"hello".to_vec()));
    assert!(String::from_utf8_lossy(&messages[0].2).contains("/srv/a"));
}
