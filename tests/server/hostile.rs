//! Peers that mean harm: they get nowhere, and nobody else notices.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use outpost_agent::identity::Identity;
use outpost_wire::command::AgentCommand;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_websockets::Message;

use crate::agents::{BareAgent, Claims, group_hash};
use crate::world::{Browser, Control, TestServer, connect, socket};

async fn enrolled(server: &TestServer) -> (Browser, Control, String, BareAgent, Identity) {
    let admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().unwrap();
    let claims = Claims {
        identity: &identity,
        group: group_hash(&group),
        host_name: "<script>alert(1)</script>",
        server_id: server.site().identity.agent.server_id,
    };
    let agent = BareAgent::connect(server.address, claims).await;
    assert!(agent.is_in());
    (admin, control, group, agent, identity)
}

#[tokio::test]
async fn markup_in_every_field_stays_text_and_control_characters_go() {
    let server = TestServer::start().await;
    let (_, mut control, _, mut agent, _) = enrolled(&server).await;
    let nasty = "<script>alert(1)</script>\u{1b}[31m\"'&";
    agent
        .say(json!({ "action": "coreinfo", "value": nasty, "osdesc": nasty, "users": [nasty], "caps": 31 }))
        .await;
    let changed = control.event("changenode").await;
    let text = changed.to_string();
    assert!(text.contains("<script>alert(1)</script>"), "kept as the text it is");
    assert!(!text.contains("\\u001b"), "no escape sequences: {text}");
    assert_eq!(changed["node"]["name"], "<script>alert(1)</script>");
    agent.say(json!({ "action": "log", "msg": nasty, "userid": "user//admin", "username": nasty })).await;
    assert!(!control.event("agentlog").await.to_string().contains("\\u001b"));
}

#[tokio::test]
async fn whoever_looks_does_not_choose_what_the_bar_at_the_device_says() {
    let words = "Looked at by {0}";
    let config = json!({ "domains": { "": { "desktopPrivacyBarText": words } } }).to_string();
    for (config, wanted) in [(config.as_str(), json!(words)), ("{}", json!(null))] {
        let server = TestServer::with(config).await;
        let (_, mut control, _, mut agent, _) = enrolled(&server).await;
        let device = control.devices().await[0]["_id"].clone();
        let value = format!("*/meshrelay.ashx?p=2&nodeid={}&id=bar&rauth=x", device.as_str().unwrap());
        let request = json!({
            "action": "msg", "type": "tunnel", "nodeid": device, "usage": 2, "value": value,
            "privacybartext": "Nobody is here", "consent": 0, "username": "nobody",
        });
        assert_eq!(control.ask(request).await["result"], "OK");
        let told = agent.told("msg").await;
        assert_eq!((&told["privacybartext"], &told["userid"]), (&wanted, &json!("user//admin")));
    }
}

#[tokio::test]
async fn an_agent_cannot_speak_to_people_without_rights_on_its_device() {
    let server = TestServer::start().await;
    let (_, mut control, _, mut agent, _) = enrolled(&server).await;
    let bob = server.member(&mut control, "bob").await;
    let mut bob = bob.control().await;
    let session =
        server.site().sessions.of(&outpost_wire::id::UserId::parse("user//bob").unwrap())[0].id.clone();
    for target in [json!({ "sessionid": session }), json!({ "userid": "user//bob" }), json!({})] {
        let mut message = json!({ "action": "msg", "type": "console", "value": "phish" });
        message.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
        agent.say(message).await;
    }
    // The administrator hears the one that is for everybody; bob hears nothing.
    loop {
        let message = control.next().await;
        if message["type"] == "console" {
            assert_eq!(message["value"], "phish");
            break;
        }
    }
    let answer = bob.ask(json!({ "action": "meshes" })).await;
    assert_eq!(answer["meshes"], json!([]));
    assert!(bob.heard.iter().all(|message| message["type"] != "console"), "{:?}", bob.heard);
}

#[tokio::test]
async fn malformed_and_oversized_messages_harm_nobody() {
    let server = TestServer::start().await;
    let (_, mut control, group, mut agent, identity) = enrolled(&server).await;
    for bad in [
        "{".to_owned(),
        "{}".to_owned(),
        r#"{"action":7}"#.to_owned(),
        r#"{"action":"coreinfo","osdesc":{"a":[1,2,3]}}"#.to_owned(),
        format!(r#"{{"action":"coreinfo","osdesc":"{}"}}"#, "x".repeat(5000)),
        format!(r#"{{"action":"netinfo","netif2":{}}}"#, "[".repeat(2000)),
        format!(r#"{{"action":"sysinfo","data":{{"{}":1}}}}"#, "k".repeat(3000)),
    ] {
        agent.socket.send(Message::text(bad)).await.expect("sent");
    }
    agent.command(AgentCommand::Tag(&[0xFF; 4096])).await;
    agent.socket.send(Message::binary(vec![0u8; 3])).await.expect("sent");
    agent.say(json!({ "action": "ping" })).await;
    let alive = async {
        loop {
            let message = agent.socket.next().await.expect("open").expect("a message");
            if message.as_payload().starts_with(b"{") {
                let json: Value = serde_json::from_slice(message.as_payload()).expect("JSON");
                if json["action"] == "pong" {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), alive).await.expect("it is still served");
    // A message beyond the limit ends that connection.
    let _ = agent.socket.send(Message::text("x".repeat(3 << 20))).await;
    assert_eq!(control.event("nodeconnect").await["conn"], 1);
    assert_eq!(control.event("nodeconnect").await["conn"], 0);
    assert_eq!(control.devices().await.len(), 1);
    let claims = Claims {
        identity: &identity,
        group: group_hash(&group),
        host_name: "back",
        server_id: server.site().identity.agent.server_id,
    };
    assert!(BareAgent::connect(server.address, claims).await.is_in());
}

#[tokio::test]
async fn a_device_that_keeps_reconnecting_has_to_wait() {
    let server = TestServer::start().await;
    let (_, mut control, group, agent, identity) = enrolled(&server).await;
    drop(agent);
    let mut let_in = 0;
    for _ in 0..20 {
        let claims = Claims {
            identity: &identity,
            group: group_hash(&group),
            host_name: "again",
            server_id: server.site().identity.agent.server_id,
        };
        let agent = BareAgent::connect(server.address, claims).await;
        if !agent.is_in() {
            break;
        }
        let_in += 1;
    }
    assert!((5..20).contains(&let_in), "{let_in}");
    let started = Instant::now();
    assert_eq!(control.ask(json!({ "action": "meshes" })).await["meshes"].as_array().unwrap().len(), 1);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn silent_strangers_are_bounded_and_members_get_in_all_the_same() {
    let server = TestServer::with(
        r#"{"settings":{"limits":{"unauthenticatedConnections":8,"unauthenticatedPerNetwork":8}}}"#,
    )
    .await;
    let admin = server.admin().await;
    let mut control = admin.control().await;
    // Sockets that say nothing after TLS; the ninth is turned away.
    let mut silent = Vec::new();
    for _ in 0..8 {
        if let Ok(stream) = connect(server.address).await {
            silent.push(stream);
        }
    }
    assert!(silent.len() >= 7, "{}", silent.len());
    assert!(connect(server.address).await.is_err(), "there is no room for more strangers");
    // Who is in stays in, and is not counted.
    assert_eq!(control.ask(json!({ "action": "meshes" })).await["meshes"], json!([]));
    drop(silent);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(connect(server.address).await.is_ok());
}

#[tokio::test]
async fn floods_of_requests_slow_their_sender_and_nobody_else() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let (mut flooder, mut other) = (admin.control().await, admin.control().await);
    for _ in 0..2000 {
        flooder.socket.feed(Message::text(r#"{"action":"meshes"}"#)).await.expect("fed");
    }
    flooder.socket.flush().await.expect("sent");
    let started = Instant::now();
    for _ in 0..10 {
        other.ask(json!({ "action": "meshes" })).await;
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn http_that_is_too_big_or_broken_is_refused() {
    let server = TestServer::start().await;
    let mut browser = Browser::new(server.address);
    let big = browser.post("/api/login", json!({ "username": "x".repeat(100_000), "password": "y" })).await;
    assert_eq!(big.status, 413);
    let broken = browser.post("/api/login", json!({ "username": 1 })).await;
    assert_eq!(broken.status, 422);
    for raw in [
        "GET / HTTP/1.1\r\nhost: a\r\nx: ".to_owned() + &"y".repeat(100_000) + "\r\n\r\n",
        "NONSENSE\r\n\r\n".to_owned(),
    ] {
        let mut tls = connect(server.address).await.expect("a connection");
        let _ = tls.write_all(raw.as_bytes()).await;
        let mut answer = Vec::new();
        let reading = tls.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(5), reading).await.expect("an end");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut upgrade = socket(server.address, "/control.ashx", &[]).await.expect("upgraded");
    assert!(upgrade.next().await.unwrap().unwrap().as_text().unwrap().contains("noauth"));
    assert_eq!(browser.get("/control.ashx").await.status, 404);
    assert_eq!(browser.get("/../../etc/passwd").await.status, 404);
    assert_eq!(browser.get("/assets/%2e%2e/%2e%2e/Cargo.toml").await.status, 404);
}

#[tokio::test]
async fn handshakes_that_lie_are_refused() {
    let server = TestServer::start().await;
    let (_, _, group, _, _) = enrolled(&server).await;
    let identity = Identity::generate().unwrap();
    // An agent that expects another server sends nothing of itself to this one.
    let claims = Claims {
        identity: &identity,
        group: group_hash(&group),
        host_name: "lost",
        server_id: outpost_wire::id::Hash384([9; 48]),
    };
    let lost = tokio::spawn({
        let address = server.address;
        let claims = (claims.group, claims.server_id);
        async move {
            let identity = Identity::generate().unwrap();
            let claims =
                Claims { identity: &identity, group: claims.0, host_name: "lost", server_id: claims.1 };
            BareAgent::connect(address, claims).await.is_in()
        }
    });
    assert!(!lost.await.unwrap_or(false));
    let mut socket = socket(server.address, "/agent.ashx", &[]).await.expect("a socket");
    socket.send(Message::binary(vec![0, 1, 2, 3])).await.expect("sent");
    socket.send(Message::binary(vec![0, 2, 0xFF, 0xFF, 1])).await.expect("sent");
    socket.send(Message::binary(vec![0, 3])).await.expect("sent");
    assert_eq!(server.site().store.directory().devices().count(), 1);
}
