//! Tunnels: terminals through the relay, rights, backpressure.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use outpost_agent::identity::Identity;
use serde_json::{Value, json};
use tokio_websockets::{Message, WebSocketStream};

use crate::agents::{self, RealAgent};
use crate::world::{Browser, Control, TestServer, Tls};

async fn device(server: &TestServer) -> (Browser, Control, String, String, RealAgent) {
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let agent = agents::run(&mut admin, &group, Arc::new(Identity::generate().unwrap())).await;
    let id = control.event("addnode").await["node"]["_id"].as_str().unwrap().to_owned();
    control.event("nodeconnect").await;
    (admin, control, group, id, agent)
}

async fn tunnel(
    browser: &Browser,
    control: &mut Control,
    device: &str,
    id: &str,
) -> Result<WebSocketStream<Tls>, Value> {
    let key: String = form_urlencoded::byte_serialize(device.as_bytes()).collect();
    let socket = browser.socket(&format!("/meshrelay.ashx?browser=1&p=1&nodeid={key}&id={id}")).await;
    let routed = control
        .ask(json!({
            "action": "msg", "type": "tunnel", "nodeid": device, "usage": 1,
            "value": format!("*/meshrelay.ashx?p=1&nodeid={device}&id={id}&rauth=x"),
        }))
        .await;
    if routed["result"] != "OK" {
        return Err(routed);
    }
    let mut socket = socket.expect("a tunnel");
    let first =
        tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("joined").unwrap().unwrap();
    assert_eq!(first.as_text(), Some("c"));
    Ok(socket)
}

async fn say(socket: &mut WebSocketStream<Tls>, text: &str) {
    socket.send(Message::binary(text.to_owned())).await.expect("sent");
}

/// Reads output until it contains `needle`; returns all of it.
async fn read_until(socket: &mut WebSocketStream<Tls>, needle: &str) -> String {
    let mut seen = String::new();
    let reading = async {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_binary() {
                seen.push_str(&String::from_utf8_lossy(message.as_payload()));
                if seen.contains(needle) {
                    return;
                }
            }
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), reading).await.is_err() || !seen.contains(needle) {
        panic!("{needle:?} never came, but: {seen:?}");
    }
    seen
}

#[tokio::test]
async fn a_terminal_answers_resizes_and_ends() {
    let server = TestServer::start().await;
    let (browser, mut control, _, device, _agent) = device(&server).await;
    let mut socket = tunnel(&browser, &mut control, &device, "t1").await.expect("a tunnel");
    socket
        .send(Message::text(json!({ "type": "options", "cols": 100, "rows": 30 }).to_string()))
        .await
        .unwrap();
    socket.send(Message::text("1")).await.unwrap();
    say(&mut socket, "echo sum-$((40+2)) äöü€漢字\n").await;
    read_until(&mut socket, "sum-42 äöü€漢字").await;
    let size = json!({ "ctrlChannel": "102938", "type": "termsize", "cols": 132, "rows": 43 });
    socket.send(Message::text(size.to_string())).await.unwrap();
    say(&mut socket, "stty size\n").await;
    read_until(&mut socket, "43 132").await;
    assert_eq!(server.site().relay.count(), 1);
    say(&mut socket, "exit\n").await;
    let ended = async {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the tunnel ends with the shell");
    crate::world::until("the relay is empty", || server.site().relay.count() == 0).await;
    let log = control.ask(json!({ "action": "events", "nodeid": device, "filter": "relaylog" })).await;
    let log = log["events"].as_array().unwrap();
    assert_eq!(log.iter().map(|event| event["msgid"].as_u64().unwrap()).collect::<Vec<_>>(), [10, 14]);
    assert!(log[0]["bytesout"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_reader_that_stops_slows_its_own_tunnel_only() {
    let server = TestServer::start().await;
    let (browser, mut control, _, device, _agent) = device(&server).await;
    let mut stuck = tunnel(&browser, &mut control, &device, "t1").await.expect("a tunnel");
    stuck.send(Message::text("1")).await.unwrap();
    say(&mut stuck, "head -c 30000000 /dev/zero | tr '\\0' x; echo; echo done-$((1+1))\n").await;
    // Nobody reads it for a while; another tunnel and the control session go on.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut other = tunnel(&browser, &mut control, &device, "t2").await.expect("a tunnel");
    other.send(Message::text("1")).await.unwrap();
    say(&mut other, "echo alive-$((2+3))\n").await;
    read_until(&mut other, "alive-5").await;
    let mut bytes = 0;
    let mut tail = String::new();
    let reading = async {
        while let Some(Ok(message)) = stuck.next().await {
            bytes += message.as_payload().len();
            if message.is_binary() {
                tail.push_str(&String::from_utf8_lossy(message.as_payload()));
                tail = tail.chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                if tail.contains("done-2") {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("all of it comes when it is read");
    assert!(bytes >= 30_000_000, "{bytes}");
}

#[tokio::test]
async fn tunnels_need_rights_and_end_with_them() {
    let server = TestServer::start().await;
    let (_, mut control, group, device, _agent) = device(&server).await;
    let bob = server.member(&mut control, "bob").await;
    let mut bobs = bob.control().await;
    let refused = tunnel(&bob, &mut bobs, &device, "t1").await.expect_err("no rights");
    assert_eq!(refused["result"], "Unable to route");
    let share = |rights: u32| json!({ "action": "addmeshuser", "meshid": group, "usernames": ["bob"], "meshadmin": rights });
    control.ask(share(8 | 0x200)).await;
    let refused = tunnel(&bob, &mut bobs, &device, "t2").await.expect_err("no terminal");
    assert_eq!(refused["result"], "Access denied: no terminal");
    assert!(bob.socket(&format!("/meshrelay.ashx?p=1&nodeid={device}&id=t2")).await.is_err());
    control.ask(share(8)).await;
    let mut open = tunnel(&bob, &mut bobs, &device, "t3").await.expect("a tunnel");
    open.send(Message::text("1")).await.unwrap();
    say(&mut open, "echo in-$((1+1))\n").await;
    read_until(&mut open, "in-2").await;
    control.ask(json!({ "action": "removemeshuser", "meshid": group, "userid": "bob" })).await;
    let ended = async {
        while let Some(Ok(message)) = open.next().await {
            if message.is_close() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the tunnel ends with the rights");
}

#[tokio::test]
async fn a_tunnel_belongs_to_its_user() {
    let server = TestServer::start().await;
    let (browser, mut control, group, device, _agent) = device(&server).await;
    let bob = server.member(&mut control, "bob").await;
    control
        .ask(json!({ "action": "addmeshuser", "meshid": group, "usernames": ["bob"], "meshadmin": 8 }))
        .await;
    let key: String = form_urlencoded::byte_serialize(device.as_bytes()).collect();
    let path = format!("/meshrelay.ashx?browser=1&p=1&nodeid={key}&id=shared");
    let mut mine = browser.socket(&path).await.expect("waiting");
    // Somebody else with the same id gets nothing, and does not end mine.
    let mut theirs = bob.socket(&path).await.expect("upgraded");
    let ended = async {
        while let Some(Ok(message)) = theirs.next().await {
            assert!(message.is_close());
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("refused");
    let routed = control
        .ask(json!({ "action": "msg", "type": "tunnel", "nodeid": device, "value": format!("*/meshrelay.ashx?p=1&nodeid={device}&id=shared&rauth=x") }))
        .await;
    assert_eq!(routed["result"], "OK");
    let first =
        tokio::time::timeout(Duration::from_secs(10), mine.next()).await.expect("joined").unwrap().unwrap();
    assert_eq!(first.as_text(), Some("c"));
    let elsewhere = control
        .ask(json!({ "action": "msg", "type": "tunnel", "nodeid": device, "value": "wss://evil.example/meshrelay.ashx?id=x" }))
        .await;
    assert!(elsewhere["result"].as_str().unwrap().starts_with("value: "), "{elsewhere}");
}

#[tokio::test]
async fn a_file_for_many_devices_arrives() {
    let server = TestServer::start().await;
    let (mut admin, mut control, _, id, _agent) = device(&server).await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("made/here");
    let content = "x".repeat(200_000);
    let form = |overwrite: &str| {
        let field = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let path = target.to_str().unwrap();
        let fields = [
            ("nodeIds", id.as_str()),
            ("linuxpath", path),
            ("createFolder", "on"),
            ("overwriteFiles", overwrite),
        ];
        let fields: String = fields.iter().map(|(name, value)| field(name, value)).collect();
        format!(
            "{fields}--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a b.txt\"\r\n\r\n{content}\r\n--b--\r\n"
        )
    };
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    for overwrite in ["off", "on", "off"] {
        let body = http_body_util::Full::new(form(overwrite).into());
        let sent = admin.exchange(hyper::Method::POST, "/uploadfilebatch.ashx", &kind, body).await;
        assert_eq!(sent.status, hyper::StatusCode::OK);
        if overwrite == "on" || !target.join("a b.txt").exists() {
            let logged = control.event("agentlog").await;
            assert!(logged["msg"].as_str().unwrap().ends_with("Size: 200000"), "{logged}");
            assert_eq!(std::fs::read_to_string(target.join("a b.txt")).unwrap(), content);
            std::fs::write(target.join("a b.txt"), "changed").unwrap();
        }
    }
    // What is there stays unless it may be replaced, and no half file is left.
    assert_eq!(std::fs::read_to_string(target.join("a b.txt")).unwrap(), "changed");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
}

#[tokio::test]
async fn commands_run_and_answer() {
    let server = TestServer::start().await;
    let (_, mut control, _, device, _agent) = device(&server).await;
    let answer = control
        .ask(json!({ "action": "runcommands", "nodeids": [device], "type": 3, "cmds": "echo out-$((6*7)); echo err >&2", "reply": true }))
        .await;
    assert_eq!(answer["type"], "runcommands");
    assert!(answer["result"].as_str().unwrap().contains("out-42"), "{answer}");
    assert_eq!(answer["nodeid"], device.as_str());
    let windows =
        control.ask(json!({ "action": "runcommands", "nodeids": [device], "type": 2, "cmds": "x" })).await;
    assert_eq!(windows["result"], "Invalid command type");
    control.send(json!({ "action": "msg", "type": "console", "nodeid": device, "value": "help" })).await;
    loop {
        let message = control.next().await;
        if message["type"] == "console" {
            assert!(!message["value"].as_str().unwrap().is_empty());
            break;
        }
    }
}
