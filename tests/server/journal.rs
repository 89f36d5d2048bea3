//! What others learn of sessions: the log has each of them, and who is connected is what the relay carries.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use outpost_agent::identity::Identity;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_websockets::Message;

use crate::agents;
use crate::relays::{Socket, device as bare_device, dial, encoded, is_closed, next, request};
use crate::world::{Browser, Control, TestServer, socket, until};

/// The tunnel of somebody with an account, joined.
async fn session(browser: &Browser, control: &mut Control, device: &str, p: &str, id: &str) -> Socket {
    let path = format!("/meshrelay.ashx?browser=1{p}&nodeid={}&id={id}", encoded(device));
    let mut viewer = browser.socket(&path).await.expect("a half");
    let value = format!("*/meshrelay.ashx?nodeid={device}&id={id}");
    let asked = json!({ "action": "msg", "type": "tunnel", "nodeid": device, "value": value });
    assert_eq!(control.ask(asked).await["result"], "OK");
    assert_eq!(next(&mut viewer).await.as_text(), Some("c"));
    viewer
}

/// Waits for a message that is so, and ends the session.
async fn until_said(mut viewer: Socket, so: impl Fn(&Message) -> bool) {
    let said = async {
        while let Some(Ok(message)) = viewer.next().await {
            if so(&message) {
                return;
            }
        }
        panic!("it ended before");
    };
    tokio::time::timeout(Duration::from_secs(20), said).await.expect("in time");
    // The agent may have ended it meanwhile.
    let _ = viewer.close().await;
    let _ = is_closed(&mut viewer).await;
}

fn has(message: &Message, words: &str) -> bool {
    String::from_utf8_lossy(message.as_payload()).contains(words)
}

/// The last beginning and the last end in the log, once both are there.
async fn logged(control: &mut Control, device: &str, count: usize) -> (Value, Value) {
    for _ in 0..500 {
        let asked = json!({ "action": "events", "nodeid": device, "filter": "relaylog" });
        let events = control.ask(asked).await["events"].as_array().unwrap().clone();
        if events.len() == 2 * count {
            return (events[1].clone(), events[0].clone());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("session {count} is not in the log with its beginning and its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_session_is_in_the_log_from_its_beginning_to_its_end() {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let _agent = agents::run(&mut admin, &group, Arc::new(Identity::generate().unwrap())).await;
    let device = control.event("addnode").await["node"]["_id"].as_str().unwrap().to_owned();
    until("the agent", || server.site().agents.all().iter().any(|agent| agent.is_ready())).await;
    let mut count = 0;
    let mut check = async |control: &mut Control, began: u64, ended: u64, protocol: Value, words: &str| {
        count += 1;
        let (start, end) = logged(control, &device, count).await;
        for event in [&start, &end] {
            assert_eq!((&event["etype"], &event["action"]), (&json!("relay"), &json!("relaylog")), "{event}");
            assert_eq!(
                (&event["userid"], &event["username"]),
                (&json!("user//admin"), &json!("Admin")),
                "{event}"
            );
            assert_eq!(
                (&event["remoteaddr"], &event["protocol"]),
                (&json!("127.0.0.1"), &protocol),
                "{event}"
            );
            assert_eq!(event["nodeid"], json!(device), "{event}");
            assert!(event["msg"].as_str().unwrap().contains(words), "{event}");
            assert_eq!(event["msgArgs"][1], "127.0.0.1", "{event}");
        }
        assert_eq!((&start["msgid"], &end["msgid"]), (&json!(began), &json!(ended)));
        assert!(start.get("bytesin").is_none() && start["msgArgs"].as_array().unwrap().len() == 3, "{start}");
        assert_eq!(start["msgArgs"][0], end["msgArgs"][0], "the id of the tunnel");
        assert!(end["msgArgs"][3].as_str().unwrap().parse::<u64>().unwrap() < 60, "seconds: {end}");
        assert!(end["bytesin"].as_u64().unwrap() > 0 && end["bytesout"].as_u64().unwrap() > 0, "{end}");
        (start, end)
    };

    let mut viewer = session(&admin, &mut control, &device, "&p=1", "s1").await;
    viewer.send(Message::text("1")).await.unwrap();
    viewer.send(Message::binary("echo sum-$((40+2))\n".to_owned())).await.unwrap();
    until_said(viewer, |message| has(message, "sum-42")).await;
    check(&mut control, 14, 10, json!(1), "terminal").await;

    // Where no screen can be shown, the agent says so, which is a session all the same.
    let mut viewer = session(&admin, &mut control, &device, "&p=2", "s2").await;
    viewer.send(Message::text("2")).await.unwrap();
    until_said(viewer, |message| message.is_text() || message.is_binary()).await;
    check(&mut control, 15, 11, json!(2), "desktop").await;

    // Files, by the address and, where that does not say it, by what is chosen in the tunnel.
    for (p, id) in [("&p=5", "s3"), ("", "s4")] {
        let mut viewer = session(&admin, &mut control, &device, p, id).await;
        viewer.send(Message::text("5")).await.unwrap();
        viewer.send(Message::text(r#"{"action":"ls","reqid":1,"path":"/"}"#)).await.unwrap();
        until_said(viewer, |message| has(message, "\"dir\"")).await;
        check(&mut control, 16, 12, json!(5), "files").await;
    }

    let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = echo.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut connection, _) = echo.accept().await.unwrap();
        let mut bytes = [0; 5];
        connection.read_exact(&mut bytes).await.unwrap();
        connection.write_all(&bytes).await.unwrap();
    });
    let datagrams = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let datagrams_port = datagrams.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut bytes = [0; 64];
        let (length, peer) = datagrams.recv_from(&mut bytes).await.unwrap();
        datagrams.send_to(&bytes[..length], peer).await.unwrap();
    });
    for (query, words) in [
        (format!("&tcpport={port}"), format!("TCP port {port}")),
        (
            format!("&udpport={datagrams_port}&udpaddr=127.0.0.1"),
            format!("UDP port {datagrams_port} of 127.0.0.1"),
        ),
    ] {
        let path = format!("/meshrelay.ashx?nodeid={}{query}", encoded(&device));
        let mut viewer = admin.socket(&path).await.expect("a half");
        assert_eq!(next(&mut viewer).await.as_text(), Some("c"));
        viewer.send(Message::binary("hello".to_owned())).await.unwrap();
        until_said(viewer, |message| has(message, "hello")).await;
        let (_, end) = check(&mut control, 13, 9, Value::Null, &words).await;
        assert_eq!((&end["bytesin"], &end["bytesout"]), (&json!(5), &json!(5)), "{end}");
    }

    // A guest, by the name of the guest.
    let asked = json!({
        "action": "createDeviceShareLink", "nodeid": device, "guestname": "Eve", "p": 1, "consent": 0, "expire": 60,
    });
    let made = control.ask(asked).await;
    let link = made["url"].as_str().unwrap().split("?c=").nth(1).unwrap().to_owned();
    let share = Browser::new(server.address).get(&format!("/api/share?c={link}")).await.json();
    let auth = share["auth"].as_str().unwrap();
    let path = format!("/meshrelay.ashx?browser=1&p=1&id=guest&auth={auth}");
    let mut viewer = socket(server.address, &path, &[]).await.expect("a half");
    assert_eq!(next(&mut viewer).await.as_text(), Some("c"));
    viewer.send(Message::text("1")).await.unwrap();
    viewer.send(Message::binary("echo sum-$((40+2))\n".to_owned())).await.unwrap();
    until_said(viewer, |message| has(message, "sum-42")).await;
    let (start, end) = check(&mut control, 14, 10, json!(1), "terminal").await;
    assert_eq!((&start["guestname"], &end["guestname"]), (&json!("Eve"), &json!("Eve")));

    // A file as a download of the browser's.
    let file = server.folder.path().join("a file.bin");
    std::fs::write(&file, vec![7; 100_000]).unwrap();
    control.send(json!({ "action": "authcookie" })).await;
    let cookie = loop {
        let message = control.next().await;
        if message["action"] == "authcookie" {
            break message["cookie"].as_str().unwrap().to_owned();
        }
    };
    let (key, name) = (device.rsplit('/').next().unwrap(), file.to_str().unwrap());
    let path = format!("/devicefile.ashx?c={cookie}&n={}&f={}", encoded(key), encoded(name));
    assert_eq!(Browser::new(server.address).get(&path).await.body.len(), 100_000);
    let (_, end) = check(&mut control, 16, 12, json!(10), "files").await;
    assert!(end["bytesout"].as_u64().unwrap() > 100_000, "{end}");

    // One that the server itself ends is in the log when it is back.
    let mut viewer = session(&admin, &mut control, &device, "&p=1", "s9").await;
    viewer.send(Message::text("1")).await.unwrap();
    viewer.send(Message::binary("echo sum-$((40+2))\n".to_owned())).await.unwrap();
    loop {
        if has(&next(&mut viewer).await, "sum-42") {
            break;
        }
    }
    let server = server.restart("{}").await;
    let mut admin = Browser::new(server.address);
    admin.login("admin", crate::world::PASSWORD).await;
    check(&mut admin.control().await, 14, 10, json!(1), "terminal").await;
}

/// The next word on who is connected.
async fn sessions(control: &mut Control) -> Value {
    control.event("devicesessions").await["sessions"].clone()
}

#[tokio::test]
async fn an_agent_neither_hides_nor_invents_who_is_connected() {
    let server = TestServer::start().await;
    let mut device = bare_device(&server).await;
    let claim = |kind: &str, value: Value| {
        Message::text(json!({ "action": "sessions", "type": kind, "value": value }).to_string())
    };
    // An invented viewer is shown to nobody; what agents alone know is.
    device.agent.socket.send(claim("kvm", json!({ "user//ghost": 2 }))).await.unwrap();
    device.agent.socket.send(claim("msg", json!({ "user//admin": 1 }))).await.unwrap();
    assert_eq!(sessions(&mut device.control).await, json!({ "msg": { "user//admin": 1 } }));

    let path = format!("/meshrelay.ashx?browser=1&p=2&nodeid={}&id=d1", encoded(&device.id));
    let mut viewer = device.browser.socket(&path).await.expect("a half");
    let value = format!("*/meshrelay.ashx?p=2&nodeid={}&id=d1", device.id);
    device
        .control
        .ask(json!({ "action": "msg", "type": "tunnel", "nodeid": device.id, "value": value }))
        .await;
    let mut agent = dial(&server, &request(&mut device.agent).await).await;
    assert_eq!(next(&mut viewer).await.as_text(), Some("c"));
    let one = json!({ "kvm": { "user//admin": 1 }, "msg": { "user//admin": 1 } });
    assert_eq!(sessions(&mut device.control).await, one, "the agent has said nothing of it");
    // It denies the one, and says that another is there.
    for lie in [json!({}), json!({ "user//ghost": 1 })] {
        device.agent.socket.send(claim("kvm", lie)).await.unwrap();
    }
    device.agent.socket.send(claim("msg", json!({}))).await.unwrap();
    let one = json!({ "kvm": { "user//admin": 1 } });
    assert_eq!(sessions(&mut device.control).await, one);
    assert_eq!(device.control.devices().await[0]["sessions"], one);

    // A tunnel whose address does not say what it is for is what is chosen in it.
    let path = format!("/meshrelay.ashx?browser=1&nodeid={}&id=d2", encoded(&device.id));
    let mut second = device.browser.socket(&path).await.expect("a half");
    let value = format!("*/meshrelay.ashx?nodeid={}&id=d2", device.id);
    device
        .control
        .ask(json!({ "action": "msg", "type": "tunnel", "nodeid": device.id, "value": value }))
        .await;
    let mut other = dial(&server, &request(&mut device.agent).await).await;
    assert_eq!(next(&mut second).await.as_text(), Some("c"));
    second.send(Message::text("8")).await.unwrap();
    let both = json!({ "kvm": { "user//admin": 1 }, "terminal": { "user//admin": 1 } });
    assert_eq!(sessions(&mut device.control).await, both);

    second.close().await.unwrap();
    assert_eq!(sessions(&mut device.control).await, one);
    // Nor does it hide anybody by hanging up.
    drop(device.agent);
    device.control.event("nodeconnect").await;
    assert_eq!(device.control.devices().await[0]["sessions"], one);
    viewer.close().await.unwrap();
    assert_eq!(sessions(&mut device.control).await, Value::Null);
    assert!(is_closed(&mut agent).await && is_closed(&mut other).await);
}

#[tokio::test]
async fn what_is_chosen_in_a_tunnel_is_what_its_address_says_and_needs_its_right() {
    let server = TestServer::start().await;
    let mut device = bare_device(&server).await;
    let bob = server.member(&mut device.control, "bob").await;
    let mut bobs = bob.control().await;
    let no_terminal = json!({
        "action": "addmeshuser", "meshid": device.group, "usernames": ["bob"], "meshadmin": 8 | 0x200,
    });
    device.control.ask(no_terminal).await;
    for (p, chosen, passes) in [("&p=5", "5", true), ("&p=5", "1", false), ("", "5", true), ("", "1", false)]
    {
        let id = format!("c{p}{chosen}").replace(['&', '='], "");
        let path = format!("/meshrelay.ashx?browser=1{p}&nodeid={}&id={id}", encoded(&device.id));
        let mut viewer = bob.socket(&path).await.expect("a half");
        let value = format!("*/meshrelay.ashx?nodeid={}&id={id}", device.id);
        bobs.ask(json!({ "action": "msg", "type": "tunnel", "nodeid": device.id, "value": value })).await;
        let mut agent = dial(&server, &request(&mut device.agent).await).await;
        assert_eq!(next(&mut agent).await.as_text(), Some("c"));
        viewer.send(Message::text(chosen)).await.unwrap();
        if passes {
            assert_eq!(next(&mut agent).await.as_text(), Some(chosen));
        } else {
            assert!(next(&mut agent).await.is_close(), "{p} {chosen}");
        }
    }
}
