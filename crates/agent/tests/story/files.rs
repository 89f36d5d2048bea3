//! Files sessions, pushed files and port relays, as a server and a browser see them.

use std::time::Duration;

use outpost_wire::message::{FromAgent, ServerMsgBody};
use serde_json::json;
use tokio_websockets::Message;

use crate::server::user_message;
use crate::{PLAIN, connected};

#[tokio::test]
async fn files_are_listed_written_read_changed_and_logged() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().to_str().expect("a path").to_owned();
    let (mut server, mut agent, _running) = connected(&[]).await;
    agent.ask_tunnel(8, 0).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(PLAIN, "5").await;
    let request = |fields: serde_json::Value| fields.to_string();

    // As captured from real clients: the block that begins with a brace has a zero before it.
    tunnel
        .control(request(json!({ "action": "upload", "reqid": 9, "path": at, "name": "u", "size": 6 })))
        .await;
    let said = |message: Message| -> serde_json::Value {
        assert!(message.is_binary(), "answers are bytes: {message:?}");
        serde_json::from_slice(message.as_payload()).expect("JSON")
    };
    assert_eq!(said(tunnel.next().await.expect("an answer")), json!({ "action": "uploadstart", "reqid": 9 }));
    for block in [&[0u8, 0x7B, 1, 2][..], &[5, 6, 7]] {
        tunnel.bytes(block).await;
        assert_eq!(
            said(tunnel.next().await.expect("an answer")),
            json!({ "action": "uploadack", "reqid": 9 })
        );
    }
    tunnel.bytes(request(json!({ "action": "uploaddone", "reqid": 9 })).as_bytes()).await;
    assert_eq!(said(tunnel.next().await.expect("an answer")), json!({ "action": "uploaddone", "reqid": 9 }));
    assert_eq!(std::fs::read(folder.path().join("u")).expect("read"), [0x7B, 1, 2, 5, 6, 7]);
    let log = |wanted: &'static str| {
        move |message| match message {
            FromAgent::Log(log) if log.msg.starts_with(wanted) => Some(log),
            _ => None,
        }
    };
    let uploaded = agent.wait_for(log("Upload: ")).await;
    assert_eq!((uploaded.msgid, uploaded.userid.as_deref()), (Some(105), Some("user//ada")));

    tunnel.control(request(json!({ "action": "ls", "reqid": 1, "path": at }))).await;
    let listing = said(tunnel.next().await.expect("a listing"));
    assert_eq!((&listing["dir"][0]["n"], &listing["dir"][0]["s"]), (&json!("u"), &json!(6)));
    assert_eq!(listing.get("action"), None);

    // Changes are answered by a text, which MeshCentral's clients pass over, and by the log, where they look.
    tunnel.control(request(json!({ "action": "mkdir", "reqid": 2, "path": format!("{at}/new") }))).await;
    let done = tunnel.next().await.expect("an answer");
    assert_eq!(
        done.as_text().map(|text| serde_json::from_str(text).expect("JSON")),
        Some(json!({ "action": "mkdir", "reqid": 2, "result": "ok" }))
    );
    assert_eq!(agent.wait_for(log("Create folder: ")).await.msgid, Some(44));
    tunnel.control(request(json!({ "action": "mkdir", "reqid": 3, "path": format!("{at}/new") }))).await;
    assert!(tunnel.next().await.expect("an answer").as_text().expect("text").contains("error"));
    let told = agent
        .wait_for(|message| match message {
            FromAgent::Msg(message) if message.kind == "console" => Some(message),
            _ => None,
        })
        .await;
    assert_eq!(told.sessionid.as_deref(), Some("user//ada/0123"), "told to whoever asked");

    let content: Vec<u8> = (0..40_000u32).map(|n| n as u8).collect();
    std::fs::write(folder.path().join("big"), &content).expect("written");
    let download = |sub: &str| {
        json!({ "action": "download", "sub": sub, "id": "d", "path": format!("{at}/big") }).to_string()
    };
    tunnel.control(download("start")).await;
    assert!(tunnel.next().await.expect("an answer").as_text().expect("text").contains("\"start\""));
    tunnel.control(download("startack")).await;
    let mut got = Vec::new();
    loop {
        let block = tunnel.next().await.expect("a block");
        let block = block.as_payload();
        got.extend_from_slice(&block[4..]);
        if block[3] == 1 {
            break;
        }
        tunnel.control(download("ack")).await;
    }
    assert!(got == content);
    tunnel
        .control(json!({ "action": "download", "sub": "start", "id": 78, "path": "/no/such" }).to_string())
        .await;
    let cancel = tunnel.next().await.expect("an answer");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(cancel.as_text().expect("text")).expect("JSON"),
        json!({ "action": "download", "sub": "cancel", "id": 78 })
    );

    // Nonsense is told and does not end the session.
    for nonsense in
        [&b"{"[..], b"{}", br#"{"action":"rm","path":"/","delfiles":["../etc"],"rec":true}"#, b"loose data"]
    {
        tunnel.bytes(nonsense).await;
    }
    tunnel
        .control(request(
            json!({ "action": "rm", "reqid": 4, "path": at, "delfiles": ["u", "new", "big"], "rec": true }),
        ))
        .await;
    assert!(tunnel.next().await.expect("an answer").as_text().expect("text").contains("ok"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0);
}

#[tokio::test]
async fn a_file_is_pushed_or_declined() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new\nline");
    std::fs::write(&path, vec![7; 100_000]).expect("written");
    let (mut server, mut agent, _running) = connected(&[]).await;
    agent.ask_tunnel(8, 0).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(&json!({ "type": "options", "file": path }).to_string(), "10").await;
    assert_eq!(tunnel.next().await.expect("a size").as_text(), Some(r#"{"op":"ok","size":100000}"#));
    let mut got = 0;
    while let Some(piece) = tunnel.next().await {
        assert!(piece.as_payload().iter().all(|byte| *byte == 7));
        got += piece.as_payload().len();
    }
    assert_eq!(got, 100_000);
    for (rights, path) in
        [(8, "/no/such"), (8, "/dev/zero"), (8 | 0x400, "/etc/hostname"), (256, "/etc/hostname")]
    {
        agent.ask_tunnel(rights, 0).await;
        let mut tunnel = server.tunnel().await;
        tunnel.begin(&json!({ "type": "options", "file": path }).to_string(), "10").await;
        assert_eq!(tunnel.next().await.expect("an answer").as_text(), Some(r#"{"op":"cancel"}"#), "{path}");
    }
}

#[tokio::test]
async fn ports_are_relayed_with_the_right_to_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let echo = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let (tcp, udp) = (listener.local_addr().expect("bound").port(), echo.local_addr().expect("bound").port());
    let (mut server, mut agent, _running) = connected(&[]).await;
    let ask = |tcpport: Option<u16>, udpport: Option<u16>| {
        ServerMsgBody::Tunnel(Box::new(outpost_wire::message::TunnelRequest {
            value: "*/meshrelay.ashx?id=abc&rauth=x".into(),
            tcpport,
            udpport,
            ..Default::default()
        }))
    };
    agent.send(&user_message(0x20_0000, 0, ask(Some(tcp), None))).await;
    let (mut target, _) = listener.accept().await.expect("a connection");
    let mut tunnel = server.tunnel().await;
    tunnel.control("c".into()).await;
    tunnel.bytes(b"hello").await;
    tunnel.control(r#"{"ctrlChannel":"102938","type":"ping"}"#.into()).await;
    tunnel.bytes(b" there").await;
    let mut heard = [0; 11];
    target.read_exact(&mut heard).await.expect("read");
    assert_eq!(&heard, b"hello there", "words between relays are no data");
    target.write_all(b"bye").await.expect("written");
    assert_eq!(tunnel.read_until("bye").await, "bye");
    drop(target);
    assert!(tunnel.next().await.is_none(), "the end of one is the end of the other");

    agent.send(&user_message(8, 0, ask(None, Some(udp)))).await;
    let mut tunnel = server.tunnel().await;
    tunnel.control("c".into()).await;
    tunnel.bytes(b"datagram").await;
    let mut buffer = [0; 100];
    let (length, from) = echo.recv_from(&mut buffer).await.expect("a datagram");
    assert_eq!(&buffer[..length], b"datagram");
    echo.send_to(b"answer", from).await.expect("sent");
    assert_eq!(&tunnel.next().await.expect("a datagram").as_payload()[..], b"answer");

    // Without the right nothing is even dialled.
    agent.send(&user_message(256, 0, ask(Some(tcp), None))).await;
    let dialled = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
    assert!(dialled.is_err());
}

#[tokio::test]
async fn our_own_clients_hear_what_the_agent_can_do_and_watch_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().to_str().expect("a path").to_owned();
    std::fs::create_dir(folder.path().join("d")).expect("made");
    std::fs::write(folder.path().join("d/f"), "hello world").expect("written");
    let (mut server, mut agent, _running) = connected(&[]).await;
    agent.ask_tunnel(8, 0).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(r#"{"type":"options","abilities":true}"#, "5").await;
    let read = |message: Message| -> serde_json::Value {
        serde_json::from_slice(message.as_payload()).expect("JSON")
    };
    let word = read(tunnel.next().await.expect("abilities"));
    assert!(word["action"] == "abilities" && word["can"].as_array().expect("a list").contains(&json!("zip")));

    // Work that is watched ends with a text; archives also with the words that MeshCentral's clients wait for.
    tunnel
        .control(
            json!({ "action": "zip", "reqid": "z", "path": at, "files": ["d"], "output": "a.zip" })
                .to_string(),
        )
        .await;
    let mut said = Vec::new();
    while said.last().is_none_or(|last: &serde_json::Value| last["action"] != "refresh") {
        said.push(read(tunnel.next().await.expect("an answer")));
    }
    assert_eq!(said[0], json!({ "action": "dialogmessage", "msg": "zipping" }));
    assert!(said.iter().any(|one| one["action"] == "zip" && one["result"] == "ok"), "{said:?}");
    assert!(said.contains(&json!({ "action": "dialogmessage", "msg": null })));
    tunnel
        .control(json!({ "action": "unzip", "reqid": "u", "input": format!("{at}/a.zip"), "dest": at, "exists": "both" }).to_string())
        .await;
    loop {
        let one = read(tunnel.next().await.expect("an answer"));
        if one["action"] == "unzip" {
            assert_eq!((&one["result"], &one["leftout"]), (&json!("ok"), &json!(0)));
            break;
        }
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("d/f (2)")).expect("read"), "hello world");

    let hash = json!({ "action": "uploadhash", "reqid": "h", "path": format!("{at}/d/f"), "kind": "sha256", "watch": true });
    tunnel.control(hash.to_string()).await;
    loop {
        let one = read(tunnel.next().await.expect("an answer"));
        if one["action"] == "uploadhash" {
            assert_eq!(one["hash"], "B94D27B9934D3E08A52E52D7DA7DABFAC484EFE37A5380EE9088F7ACE2EFCDE9");
            break;
        }
    }
}

#[tokio::test]
async fn a_push_begins_further_on_or_is_an_archive() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("f");
    std::fs::write(&path, "0123456789").expect("written");
    let (mut server, mut agent, _running) = connected(&[]).await;
    agent.ask_tunnel(8, 0).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(&json!({ "type": "options", "file": path, "offset": 4 }).to_string(), "10").await;
    let word: serde_json::Value =
        serde_json::from_str(tunnel.next().await.expect("a word").as_text().expect("text")).expect("JSON");
    assert_eq!((&word["size"], &word["offset"]), (&json!(10), &json!(4)));
    assert!(!word["tag"].as_str().expect("a tag").is_empty());
    assert_eq!(&tunnel.next().await.expect("the rest").as_payload()[..], b"456789");
    assert!(tunnel.next().await.is_none());
    for (zip, offset) in [(None, Some(11)), (Some(json!(["gone"])), None)] {
        agent.ask_tunnel(8, 0).await;
        let mut tunnel = server.tunnel().await;
        let file = if zip.is_some() { folder.path() } else { &path };
        let options = json!({ "type": "options", "file": file, "offset": offset, "zip": zip });
        tunnel.begin(&options.to_string(), "10").await;
        assert_eq!(tunnel.next().await.expect("an answer").as_text(), Some(r#"{"op":"cancel"}"#));
    }
    agent.ask_tunnel(8, 0).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(&json!({ "type": "options", "file": folder.path(), "zip": [] }).to_string(), "10").await;
    assert_eq!(tunnel.next().await.expect("a word").as_text(), Some(r#"{"op":"ok","zip":true}"#));
    let (mut archive, mut last) = (Vec::new(), String::new());
    while let Some(message) = tunnel.next().await {
        match message.as_text() {
            Some(text) => last = text.to_owned(),
            None => archive.extend_from_slice(message.as_payload()),
        }
    }
    assert_eq!(last, r#"{"op":"done","unread":0}"#);
    let end = outpost_wire::zip::find_end(&archive).expect("an end");
    let outpost_wire::zip::Found::Directory(directory) = end else { panic!("a small one: {end:?}") };
    assert_eq!(directory.entries, 2);
}
