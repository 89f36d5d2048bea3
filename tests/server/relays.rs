//! Tunnels that the server starts: port relays, downloads, guests; and what passes through any tunnel.

use futures_util::{SinkExt, StreamExt};
use hyper::StatusCode;
use outpost::clock;
use outpost_agent::identity::Identity;
use serde_json::{Value, json};
use tokio_websockets::{Message, WebSocketStream};

use crate::agents::{BareAgent, Claims, group_hash};
use crate::world::{Browser, Control, TestServer, Tls, socket};

pub type Socket = WebSocketStream<Tls>;

/// A device whose agent is played by the test.
pub struct Device {
    pub browser: Browser,
    pub control: Control,
    pub group: String,
    pub id: String,
    pub agent: BareAgent,
}

pub async fn device(server: &TestServer) -> Device {
    let browser = server.admin().await;
    let mut control = browser.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().unwrap();
    let server_id = server.site().identity.agent.server_id;
    let claims = Claims { identity: &identity, group: group_hash(&group), host_name: "box", server_id };
    let agent = BareAgent::connect(server.address, claims).await;
    let id = control.event("addnode").await["node"]["_id"].as_str().unwrap().to_owned();
    Device { browser, control, group, id, agent }
}

pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The tunnel request that the agent is sent next.
pub async fn request(agent: &mut BareAgent) -> Value {
    let wanted = async {
        loop {
            let message = agent.socket.next().await.expect("open").expect("a message");
            let read = serde_json::from_slice::<Value>(message.as_payload());
            if let Some(request) = read.ok().filter(|read| read["type"] == "tunnel") {
                return request;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), wanted).await.expect("a request")
}

/// Dials what a request says.
pub async fn dial(server: &TestServer, request: &Value) -> Socket {
    let path = request["value"].as_str().unwrap().strip_prefix('*').unwrap();
    socket(server.address, &path.replace('@', "%40").replace('$', "%24"), &[]).await.expect("a half")
}

pub async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(std::time::Duration::from_secs(10), socket.next()).await;
    message.expect("in time").expect("open").expect("a message")
}

async fn joined(socket: &mut Socket) {
    assert_eq!(next(socket).await.as_text(), Some("c"));
}

pub async fn is_closed(socket: &mut Socket) -> bool {
    let end = async {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), end).await.is_ok()
}

#[tokio::test]
async fn a_port_of_a_device_is_reached_by_session_and_by_cookie() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    let path = format!("/meshrelay.ashx?nodeid={}&tcpport=22&tcpaddr=10.1.2.3", encoded(&device.id));
    let mut viewer = device.browser.socket(&path).await.expect("a half");
    let asked = request(&mut device.agent).await;
    assert_eq!((&asked["tcpport"], &asked["tcpaddr"]), (&json!("22"), &json!("10.1.2.3")));
    assert_eq!((&asked["userid"], &asked["rights"]), (&json!("user//admin"), &json!(u32::MAX)));
    let mut agent = dial(&server, &asked).await;
    joined(&mut viewer).await;
    joined(&mut agent).await;
    viewer.send(Message::binary(&b"SSH-2.0"[..])).await.unwrap();
    assert_eq!(&next(&mut agent).await.as_payload()[..], b"SSH-2.0");
    agent.send(Message::binary(&b"hello"[..])).await.unwrap();
    assert_eq!(&next(&mut viewer).await.as_payload()[..], b"hello");
    viewer.close().await.unwrap();
    assert!(is_closed(&mut agent).await, "one end closes the other");

    // The cookie of `getcookie` fixes device and port, and is good for nothing else.
    device.control.send(json!({ "action": "getcookie", "nodeid": device.id, "tcpport": 5900, "tag": "novnc", "name": "x" })).await;
    let answer = loop {
        let message = device.control.next().await;
        if message["action"] == "getcookie" {
            break message;
        }
    };
    assert_eq!(
        (&answer["name"], &answer["tag"], &answer["trustedCert"]),
        (&json!("x"), &json!("novnc"), &json!(false))
    );
    let cookie = answer["cookie"].as_str().unwrap();
    let mut viewer =
        socket(server.address, &format!("/meshrelay.ashx?auth={cookie}"), &[]).await.expect("a half");
    let asked = request(&mut device.agent).await;
    assert_eq!((&asked["tcpport"], &asked["tcpaddr"]), (&json!("5900"), &json!("127.0.0.1")));
    let mut agent = dial(&server, &asked).await;
    joined(&mut viewer).await;
    joined(&mut agent).await;
    let other = format!("/meshrelay.ashx?auth={cookie}&nodeid=node//{}", "b".repeat(64));
    assert!(socket(server.address, &other, &[]).await.is_err());
    assert!(socket(server.address, "/meshrelay.ashx?tcpport=22&nodeid=x", &[]).await.is_err(), "a stranger");
    let nonsense = format!("/meshrelay.ashx?nodeid={}&tcpport=99999", encoded(&device.id));
    assert!(device.browser.socket(&nonsense).await.is_err());
}

#[tokio::test]
async fn ports_need_a_right_and_end_with_it() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    let bob = server.member(&mut device.control, "bob").await;
    let path = format!("/meshrelay.ashx?nodeid={}&tcpport=22", encoded(&device.id));
    assert!(bob.socket(&path).await.is_err(), "not his device");
    let give = |rights: u32| json!({ "action": "addmeshuser", "meshid": device.group, "usernames": ["bob"], "meshadmin": rights });
    device.control.ask(give(0x100)).await;
    assert!(bob.socket(&path).await.is_err(), "looking is not reaching");
    device.control.ask(give(0x20_0000)).await;
    let mut viewer = bob.socket(&path).await.expect("the relay right");
    let mut agent = dial(&server, &request(&mut device.agent).await).await;
    joined(&mut viewer).await;
    joined(&mut agent).await;
    device.control.ask(give(0x100)).await;
    assert!(is_closed(&mut viewer).await && is_closed(&mut agent).await);
}

#[tokio::test]
async fn a_file_is_downloaded_whole_or_not_at_all() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    device.control.send(json!({ "action": "authcookie" })).await;
    let cookie = loop {
        let message = device.control.next().await;
        if message["action"] == "authcookie" {
            break message["cookie"].as_str().unwrap().to_owned();
        }
    };
    let key = device.id.rsplit('/').next().unwrap().to_owned();
    let path =
        |file: &str| format!("/devicefile.ashx?c={cookie}&m=ignored&n={}&f={}", encoded(&key), encoded(file));
    let address = server.address;
    let get = |path: String| tokio::spawn(async move { Browser::new(address).get(&path).await });

    // A file of several pieces, with an odd name.
    let download = get(path("/srv/a \"b\".bin"));
    let asked = request(&mut device.agent).await;
    assert!(asked["value"].as_str().unwrap().starts_with("*/devicefile.ashx?"), "{asked}");
    let mut agent = dial(&server, &asked).await;
    joined(&mut agent).await;
    let options: Value = serde_json::from_str(next(&mut agent).await.as_text().unwrap()).unwrap();
    assert_eq!((&options["type"], &options["file"]), (&json!("options"), &json!("/srv/a \"b\".bin")));
    assert_eq!(options["offset"], 0, "agents of ours answer with a tag; others pass it over");
    assert_eq!(next(&mut agent).await.as_text(), Some("10"));
    let content: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    agent.send(Message::text(json!({ "op": "ok", "size": content.len() }).to_string())).await.unwrap();
    for piece in content.chunks(16_384) {
        agent.send(Message::binary(piece.to_vec())).await.unwrap();
    }
    let answer = download.await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, content.len()));
    assert!(answer.body[..] == content[..]);
    assert_eq!(answer.headers["content-disposition"], "attachment; filename=\"a%20b.bin\"");

    assert!(answer.headers.get("accept-ranges").is_none(), "such an agent cannot begin further on");

    // An agent of ours goes on where a download broke off, if it is still the same file; others begin anew.
    let tagged = json!({ "op": "ok", "size": 10, "offset": 4, "tag": "v1" });
    let whole = json!({ "op": "ok", "size": 10, "offset": 0, "tag": "v1" });
    let plain = json!({ "op": "ok", "size": 10 });
    for (tag, answers, status, body) in [
        ("\"v1\"", vec![&tagged], StatusCode::PARTIAL_CONTENT, "456789"),
        ("\"v0\"", vec![&tagged, &whole], StatusCode::OK, "0123456789"),
        ("\"v1\"", vec![&plain], StatusCode::OK, "0123456789"),
    ] {
        let path = path("/srv/f");
        let download = tokio::spawn(async move {
            let headers = [("range", "bytes=4-"), ("if-range", tag)];
            Browser::new(address)
                .exchange(hyper::Method::GET, &path, &headers, http_body_util::Full::default())
                .await
        });
        for answer in answers {
            let mut agent = dial(&server, &request(&mut device.agent).await).await;
            joined(&mut agent).await;
            let options: Value = serde_json::from_str(next(&mut agent).await.as_text().unwrap()).unwrap();
            let from = answer["offset"].as_u64().unwrap_or(0);
            assert!(options["offset"] == from || answer["offset"].is_null(), "{options}");
            agent.send(Message::text(answer.to_string())).await.unwrap();
            let rest = "0123456789"[usize::try_from(from).unwrap()..].to_owned();
            let _ = agent.send(Message::binary(rest)).await;
        }
        let answer = download.await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (status, body.as_bytes()), "{tag}");
        if status == StatusCode::PARTIAL_CONTENT {
            assert_eq!(
                (&answer.headers["content-range"], &answer.headers["etag"]),
                (&"bytes 4-9/10".parse().unwrap(), &"\"v1\"".parse().unwrap())
            );
        }
    }

    // An archive is as long as it gets, and whole only with the agent's word.
    for (last, whole) in [(json!({ "op": "done" }), true), (json!({ "op": "oops" }), false)] {
        let path = format!("{}&z={}", path("/srv"), encoded("[\"a\",\"b c\"]"));
        let download = tokio::spawn(async move { Browser::new(address).get(&path).await });
        let mut agent = dial(&server, &request(&mut device.agent).await).await;
        joined(&mut agent).await;
        let options: Value = serde_json::from_str(next(&mut agent).await.as_text().unwrap()).unwrap();
        assert_eq!(options["zip"], json!(["a", "b c"]));
        agent.send(Message::text(json!({ "op": "ok", "zip": true }).to_string())).await.unwrap();
        agent.send(Message::binary(vec![7; 100_000])).await.unwrap();
        agent.send(Message::text(last.to_string())).await.unwrap();
        agent.close().await.unwrap();
        // The browser of these tests panics on half an answer.
        let answer = download.await.ok();
        assert_eq!(answer.as_ref().map(|answer| answer.body.len()), whole.then_some(100_000));
        if let Some(answer) = answer {
            assert_eq!(answer.headers["content-disposition"], "attachment; filename=\"srv.zip\"");
        }
    }
    // MeshAgents send what they can open, which is no archive.
    let download = get(format!("{}&z=1", path("/srv")));
    let mut agent = dial(&server, &request(&mut device.agent).await).await;
    joined(&mut agent).await;
    agent.send(Message::text(plain.to_string())).await.unwrap();
    assert_eq!(download.await.unwrap().status, StatusCode::NOT_IMPLEMENTED);

    // One the device cannot open.
    let download = get(path("/missing"));
    let mut agent = dial(&server, &request(&mut device.agent).await).await;
    joined(&mut agent).await;
    agent.send(Message::text(json!({ "op": "cancel" }).to_string())).await.unwrap();
    assert_eq!(download.await.unwrap().status, StatusCode::UNAUTHORIZED);

    // Strangers, other devices, no path: nothing is asked of the agent.
    for bad in [
        path("/x").replace(&cookie, "nonsense"),
        format!("/devicefile.ashx?c={cookie}&n={}&f=/x", "b".repeat(64)),
        format!("/devicefile.ashx?c={cookie}&n={}", encoded(&key)),
        "/devicefile.ashx".to_owned(),
    ] {
        assert_eq!(Browser::new(address).get(&bad).await.status, StatusCode::NOT_FOUND, "{bad}");
    }
    // Somebody at the device wants to be asked, which a download cannot do.
    device.control.ask(json!({ "action": "editmesh", "meshid": device.group, "consent": 0x20 })).await;
    assert_eq!(Browser::new(address).get(&path("/x")).await.status, StatusCode::FORBIDDEN);
}

/// A form as browsers send it: fields, then files.
fn form(fields: &[(&str, &str)], files: &[(&str, &str)]) -> (String, String) {
    let boundary = "----form-7d1";
    let mut body = String::new();
    for (name, value) in fields {
        body +=
            &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    for (name, content) in files {
        body += &format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\r\n{content}\r\n"
        );
    }
    body += &format!("--{boundary}--\r\n");
    (format!("multipart/form-data; boundary={boundary}"), body)
}

async fn send_form(browser: &mut Browser, kind: &str, body: String) -> StatusCode {
    let (body, headers) = (http_body_util::Full::new(body.into()), [("content-type", kind)]);
    browser.exchange(hyper::Method::POST, "/uploadfilebatch.ashx", &headers, body).await.status
}

#[tokio::test]
async fn files_for_many_devices_wait_for_their_agents() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    let missing = format!("node//{}", "b".repeat(64));
    let ids = format!("{},{missing}", device.id);
    let fields = [
        ("nodeIds", ids.as_str()),
        ("winpath", "C:\\Temp"),
        ("linuxpath", "/srv/new/"),
        ("overwriteFiles", "on"),
    ];
    let files = [("a b.txt", "first"), ("two.txt", "second file")];
    let (kind, body) = form(&fields, &files);
    assert_eq!(send_form(&mut device.browser, &kind, body.clone()).await, StatusCode::OK);
    assert_eq!(device.control.event("batchupload").await["msgid"], 103);
    for (name, content) in files {
        let wget = loop {
            let message = device.agent.socket.next().await.expect("open").expect("a message");
            let read = serde_json::from_slice::<Value>(message.as_payload());
            if let Some(wget) = read.ok().filter(|read| read["action"] == "wget") {
                break wget;
            }
        };
        assert_eq!((&wget["path"], &wget["overwrite"]), (&json!(format!("/srv/new/{name}")), &json!(true)));
        assert_eq!(wget["createFolder"], false);
        let url = wget["urlpath"].as_str().unwrap().replace('@', "%40").replace('$', "%24");
        let got = Browser::new(server.address).get(&url).await;
        assert_eq!((got.status, got.text()), (StatusCode::OK, content.to_owned()));
        let broken = Browser::new(server.address).get(&url.replace("c=", "c=A")).await;
        assert_eq!(broken.status, StatusCode::NOT_FOUND);
    }
    // Strangers, nobody's devices, no files, names that lead elsewhere: nothing is kept.
    let waiting = || std::fs::read_dir(server.folder.path().join("transfers")).unwrap().count();
    assert_eq!(waiting(), 2);
    let mut stranger = Browser::new(server.address);
    assert_eq!(send_form(&mut stranger, &kind, body).await, StatusCode::UNAUTHORIZED);
    for (fields, files, status) in [
        (vec![("nodeIds", missing.as_str()), ("linuxpath", "/x")], vec![("a", "x")], StatusCode::NOT_FOUND),
        (vec![("nodeIds", device.id.as_str())], vec![], StatusCode::NOT_FOUND),
        (vec![("nodeIds", device.id.as_str())], vec![("../../etc/passwd", "x")], StatusCode::BAD_REQUEST),
    ] {
        let (kind, body) = form(&fields, &files);
        assert_eq!(send_form(&mut device.browser, &kind, body).await, status);
    }
    assert_eq!(waiting(), 2);
}

pub async fn shared(device: &mut Device, share: Value) -> Value {
    let mut share = share;
    share["action"] = "createDeviceShareLink".into();
    share["nodeid"] = device.id.as_str().into();
    share["guestname"] = "Eve".into();
    device.control.ask(share).await
}

#[tokio::test]
async fn a_guest_gets_what_is_shared_and_may_only_look_where_told() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    let made = shared(&mut device, json!({ "p": 2, "consent": 0, "expire": 60, "viewOnly": true })).await;
    assert_eq!(made["result"], "OK", "{made}");
    assert_eq!(made["expire"].as_i64().unwrap() - made["start"].as_i64().unwrap(), 3_600_000);
    let link = made["url"].as_str().unwrap().split("/sharing?c=").nth(1).unwrap().to_owned();
    let mut guest = Browser::new(server.address);
    assert_eq!(guest.get(&format!("/sharing?c={link}")).await.status, StatusCode::OK);
    let share = guest.get(&format!("/api/share?c={link}")).await.json();
    assert_eq!(
        (&share["guestName"], &share["deviceName"], &share["viewOnly"]),
        (&json!("Eve"), &json!("box"), &json!(true))
    );
    assert_eq!(share["protocols"], json!([2]));
    let cookie = share["auth"].as_str().unwrap();

    // The guest's cookie opens what is shared, and nothing else.
    let path = |p: u16| format!("/meshrelay.ashx?browser=1&p={p}&id=guest{p}&auth={cookie}");
    for closed in [1, 5, 7, 10] {
        assert!(socket(server.address, &path(closed), &[]).await.is_err(), "p={closed}");
    }
    assert!(socket(server.address, &format!("{}&tcpport=22", path(2)), &[]).await.is_err());
    let mut control = socket(server.address, &format!("/control.ashx?auth={cookie}"), &[]).await.unwrap();
    assert!(next(&mut control).await.as_text().unwrap().contains("noauth"));

    let mut viewer = socket(server.address, &path(2), &[]).await.expect("a half");
    let asked = request(&mut device.agent).await;
    assert_eq!(
        (&asked["guestname"], &asked["soptions"]["usages"], &asked["username"]),
        (&json!("Eve"), &json!([2]), &json!("Admin - Eve"))
    );
    let rights = asked["rights"].as_u64().unwrap();
    assert_eq!(rights & 0x108, 0x108, "remote control, looking only");
    assert_eq!(rights & 0x600, 0x600, "no terminal, no files");
    let mut agent = dial(&server, &asked).await;
    joined(&mut viewer).await;
    joined(&mut agent).await;
    let key_down = [0, 1, 0, 6, 0, 65];
    let quality = [0, 5, 0, 10, 1, 50, 4, 0, 0, 100];
    viewer.send(Message::text("2")).await.unwrap();
    viewer.send(Message::binary(key_down.to_vec())).await.unwrap();
    viewer.send(Message::text(r#"{"ctrlChannel":"102938","type":"lock"}"#)).await.unwrap();
    viewer.send(Message::binary(quality.to_vec())).await.unwrap();
    assert_eq!(next(&mut agent).await.as_text(), Some("2"));
    assert_eq!(&next(&mut agent).await.as_payload()[..], quality, "neither key nor lock came through");
    let picture = vec![7u8; 300_000];
    agent.send(Message::binary(picture.clone())).await.unwrap();
    assert!(next(&mut viewer).await.as_payload()[..] == picture[..]);

    // Taking the share back cuts the guest off at once, and the link is dead.
    let listed = device.control.ask(json!({ "action": "deviceShares", "nodeid": device.id })).await;
    assert_eq!(listed["deviceShares"][0]["publicid"], made["publicid"]);
    let remove = json!({ "action": "removeDeviceShare", "nodeid": device.id, "publicid": made["publicid"] });
    assert_eq!(device.control.ask(remove.clone()).await["result"], "OK");
    assert!(is_closed(&mut viewer).await && is_closed(&mut agent).await);
    assert_eq!(guest.get(&format!("/sharing?c={link}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(guest.get(&format!("/api/share?c={link}")).await.json()["error"]["code"], "over");
    assert!(socket(server.address, &path(2), &[]).await.is_err());
    assert_eq!(device.control.ask(remove).await["result"], "Invalid device share identifier.");
}

#[tokio::test]
async fn a_guest_cannot_choose_another_protocol_in_the_tunnel() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    let made = shared(&mut device, json!({ "p": 4, "consent": 0, "expire": 0 })).await;
    let link = made["url"].as_str().unwrap().split("?c=").nth(1).unwrap().to_owned();
    let share = Browser::new(server.address).get(&format!("/api/share?c={link}")).await.json();
    let cookie = share["auth"].as_str().unwrap();
    let path = format!("/meshrelay.ashx?browser=1&p=5&auth={cookie}");
    let mut viewer = socket(server.address, &path, &[]).await.expect("a half");
    let mut agent = dial(&server, &request(&mut device.agent).await).await;
    joined(&mut viewer).await;
    joined(&mut agent).await;
    viewer.send(Message::text("1")).await.unwrap();
    assert!(is_closed(&mut agent).await, "the terminal was not shared");
}

#[tokio::test]
async fn sharing_needs_rights_and_good_values() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    for (share, refusal) in [
        (json!({ "p": 0, "consent": 0, "expire": 1 }), "Invalid protocol"),
        (json!({ "p": 2, "expire": 1 }), "Invalid flags"),
        (json!({ "p": 2, "consent": 0 }), "No time specified"),
        (json!({ "p": 2, "consent": 0, "start": 5, "end": 1 }), "Invalid end time"),
    ] {
        assert_eq!(shared(&mut device, share).await["result"], refusal);
    }
    let mut bob = server.member(&mut device.control, "bob").await.control().await;
    let ask = json!({ "action": "createDeviceShareLink", "nodeid": device.id, "guestname": "x", "p": 1, "consent": 0, "expire": 1 });
    assert_eq!(bob.ask(ask.clone()).await["result"], "Invalid node id");
    let give = |rights: u32| json!({ "action": "addmeshuser", "meshid": device.group, "usernames": ["bob"], "meshadmin": rights });
    device.control.ask(give(8)).await;
    let refused = bob.ask(ask.clone()).await;
    assert_eq!((&refused["result"], &refused["action"]), (&json!("Access denied"), &json!("deviceShares")));
    device.control.ask(give(8 | 0x8_0000 | 0x200)).await;
    assert_eq!(bob.ask(ask).await["result"], "Access denied", "he has no terminal himself");
    // Shares are still there after a restart, with their times.
    let made = shared(
        &mut device,
        json!({ "p": 1, "consent": 0, "recurring": 1, "start": clock::now_seconds() - 60, "expire": 30 }),
    )
    .await;
    let link = made["url"].as_str().unwrap().split("?c=").nth(1).unwrap().to_owned();
    drop(device);
    let server = server.restart("{}").await;
    let answer = Browser::new(server.address).get(&format!("/api/share?c={link}")).await.json();
    assert_eq!(answer["protocols"], json!([1]), "{answer}");
}

#[tokio::test]
async fn messages_keep_their_kind_whatever_their_frames() {
    let server = TestServer::start().await;
    let mut device = device(&server).await;
    let path = format!("/meshrelay.ashx?nodeid={}&tcpport=1", encoded(&device.id));
    let mut viewer = device.browser.socket(&path).await.expect("a half");
    let mut agent = dial(&server, &request(&mut device.agent).await).await;
    joined(&mut viewer).await;
    joined(&mut agent).await;
    for size in [0usize, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        agent.send(Message::binary(content.clone())).await.unwrap();
        let got = next(&mut viewer).await;
        assert!(got.is_binary() && got.as_payload()[..] == content[..], "{size} bytes down");
        let (_, got) = tokio::join!(viewer.send(Message::binary(content.clone())), next(&mut agent));
        assert!(got.is_binary() && got.as_payload()[..] == content[..], "{size} bytes up");
    }
    viewer.send(Message::text("{\"ctrlChannel\":\"102938\",\"type\":\"rtt\",\"time\":1}")).await.unwrap();
    assert!(next(&mut agent).await.is_text());
    // A ping is answered here, and does not disturb the other side.
    viewer.send(Message::ping(&b"beat"[..])).await.unwrap();
    let pong = next(&mut viewer).await;
    assert!(pong.is_pong() && &pong.as_payload()[..] == b"beat");
}
