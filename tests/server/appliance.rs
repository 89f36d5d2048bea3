//! The box: who may see and drive it, updates on every way, what is refused, a copy of everything.
//!
//! The helper is the real one, with a stand-in for RAUC, in a thread of the test.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use outpost::appliance::helper::{self, Kernel, Machine};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{Browser, PASSWORD, TestServer, connect};

/// Bundles say what becomes of them; one that waits is installed once the file `go` is there.
const RAUC: &str = r#"#!/bin/sh
case $1 in
status) echo '{"compatible":"outpost-qemu-arm64","slots":[{"rootfs.0":{"bootname":"A"}},{"rootfs.1":{"bootname":"B"}}]}' ;;
info)
    case $(head -c 8 "$3") in
    unsigned) echo "signature verification failed: Verify error: self-signed certificate" >&2; exit 1 ;;
    otherbox) echo '{"compatible":"outpost-rpi-arm64","version":"0.2.0"}' ;;
    *) echo '{"compatible":"outpost-qemu-arm64","version":"0.2.0"}' ;;
    esac ;;
install)
    echo " 40% Checking bundle done."
    case $(head -c 4 "$2") in wait) until [ -e "@HOME@/go" ]; do sleep 0.05; done ;; esac
    echo "100% Installing done." ;;
esac
"#;

/// What runs on every way that changes something, with a body that would do.
fn ways() -> Vec<(Method, &'static str, Option<Value>)> {
    let post = |path, body: Value| (Method::POST, path, Some(body));
    vec![
        (Method::GET, "/api/box", None),
        (Method::GET, "/api/box/sticks", None),
        (Method::GET, "/api/export?ticket=x", None),
        (Method::DELETE, "/api/box/update", None),
        post("/api/box/update", json!("a bundle")),
        post("/api/box/update/url", json!({ "url": "http://127.0.0.1:9/x.raucb" })),
        post("/api/box/update/stick", json!({ "stick": "sda1", "file": "x.raucb" })),
        post("/api/box/restart", json!({})),
        post("/api/box/off", json!({})),
        post("/api/box/reset", json!({ "name": host_name() })),
        post("/api/box/time", json!({ "ms": 1_795_454_143_007_i64 })),
        post("/api/export", json!({ "password": PASSWORD })),
    ]
}

fn host_name() -> String {
    outpost::appliance::facts::host_name()
}

/// A kernel that only notes what it is told.
struct Notes(PathBuf);

impl Kernel for Notes {
    fn mount(&self, _: &Path, _: &Path) -> std::io::Result<()> {
        Err(std::io::Error::other("there are no sticks here"))
    }
    fn unmount(&self, _: &Path) {}
    fn set_clock(&self, ms: i64) -> std::io::Result<()> {
        std::fs::write(self.0.join("clock"), ms.to_string())
    }
}

/// A box in the folder of a server.
struct TheBox {
    server: TestServer,
    home: PathBuf,
}

impl TheBox {
    async fn start() -> TheBox {
        TheBox::with("{}").await
    }

    /// Starts with a `config.json`.
    async fn with(config: &str) -> TheBox {
        let server = TestServer::with(config).await;
        let home = server.folder.path().join("box");
        for folder in ["state", "run", "updates", "blocks"] {
            std::fs::create_dir_all(home.join(folder)).expect("made");
        }
        let script = |name: &str, text: &str| {
            let path = home.join(name);
            std::fs::write(&path, text.replace("@HOME@", home.to_str().expect("text"))).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        };
        script("rauc", RAUC);
        script("systemctl", "#!/bin/sh\necho \"$*\" >>\"@HOME@/systemctl.log\"\n");
        std::fs::write(home.join("run/slot"), "A\n").expect("written");
        let listener =
            std::os::unix::net::UnixListener::bind(&server.site().config.places.socket).expect("bound");
        let folder = home.clone();
        // As systemd does it: one helper a connection. The thread ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let folder = folder.clone();
                std::thread::spawn(move || {
                    let mut out = stream.try_clone().expect("another handle");
                    helper::serve(stream, &mut out, &machine(&folder));
                });
            }
        });
        TheBox { server, home }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.join(name)).unwrap_or_default()
    }

    /// How far an update is, once it is in one of these states.
    async fn work(&self, admin: &mut Browser, states: &[&str]) -> Value {
        for _ in 0..200 {
            let work = admin.get("/api/box").await.json()["work"].clone();
            if states.contains(&work["state"].as_str().expect("a state")) {
                return work;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never one of {states:?}: {}", admin.get("/api/box").await.text());
    }
}

fn machine(home: &Path) -> Machine {
    Machine {
        state: home.join("state"),
        run: home.join("run"),
        staging: home.join("updates"),
        blocks: home.join("blocks"),
        devices: home.join("dev"),
        synchronised: home.join("synchronised"),
        saved_clock: home.join("saved"),
        rauc: home.join("rauc"),
        systemctl: home.join("systemctl"),
        kernel: Box::new(Notes(home.to_owned())),
    }
}

async fn upload(browser: &mut Browser, bundle: &[u8]) -> crate::world::Answer {
    let body = Full::new(Bytes::copy_from_slice(bundle));
    browser.exchange(Method::POST, "/api/box/update", &[], body).await
}

async fn go(browser: &mut Browser, (method, path, body): &(Method, &str, Option<Value>)) -> StatusCode {
    let headers: &[(&str, &str)] = if body.is_some() { &[("content-type", "application/json")] } else { &[] };
    let body = Full::new(Bytes::from(body.as_ref().map_or(String::new(), Value::to_string)));
    browser.exchange(method.clone(), path, headers, body).await.status
}

#[tokio::test]
async fn nobody_but_site_administrators_comes_near_the_box() {
    let this = TheBox::start().await;
    let admin = this.server.admin().await;
    let mut control = admin.control().await;
    let mut member = this.server.member(&mut control, "bob").await;
    // Every right on the server but the last one is not all of them.
    let mut nearly = this.server.member(&mut control, "eve").await;
    let rights = json!({ "action": "edituser", "id": "user//eve", "siteadmin": 0x7fff_ffdf_u32 });
    assert_eq!(control.ask(rights).await["result"], "ok");
    let mut anonymous = Browser::new(this.server.address);
    for way in ways() {
        assert_eq!(go(&mut anonymous, &way).await, StatusCode::UNAUTHORIZED, "{way:?}");
        assert_eq!(go(&mut member, &way).await, StatusCode::FORBIDDEN, "{way:?}");
        assert_eq!(go(&mut nearly, &way).await, StatusCode::FORBIDDEN, "{way:?}");
    }
    // An administrator whose browser is on somebody else's page changes nothing either.
    let mut elsewhere = admin.clone();
    elsewhere.origin = Some("https://evil.example".into());
    for way in ways().into_iter().filter(|(method, ..)| *method != Method::GET) {
        assert_eq!(go(&mut elsewhere, &way).await, StatusCode::FORBIDDEN, "{way:?}");
    }
    assert_eq!(this.read("systemctl.log") + &this.read("clock"), "");
    assert_eq!(this.read("state/update.json"), "");
}

#[tokio::test]
async fn an_upload_is_installed_with_progress_and_the_box_restarted() {
    let this = TheBox::start().await;
    let mut admin = this.server.admin().await;
    let mut control = admin.control().await;
    let before = admin.get("/api/box").await.json();
    assert_eq!((&before["box"]["booted"], &before["box"]["outcome"]), (&json!("A"), &Value::Null));
    assert_eq!((&before["work"]["state"], &before["illness"]), (&json!("idle"), &Value::Null));
    assert!(before["facts"]["memory"]["total"].as_u64().expect("a number") > 0);
    let mut other = admin.clone();
    let sending = tokio::spawn(async move { upload(&mut other, b"wait for it").await });
    let work = this.work(&mut admin, &["installing"]).await;
    assert!(work["percent"].as_u64().expect("a number") <= 40, "{work}");
    let busy = upload(&mut admin, b"another").await;
    assert_eq!((busy.status, busy.json()["error"]["code"].clone()), (StatusCode::CONFLICT, json!("busy")));
    std::fs::write(this.home.join("go"), "").expect("written");
    let done = sending.await.expect("sent");
    assert_eq!((done.status, done.json()["version"].clone()), (StatusCode::OK, json!("0.2.0")));
    let after = admin.get("/api/box").await.json();
    assert_eq!(after["work"], json!({ "state": "installed", "version": "0.2.0" }));
    assert_eq!(after["box"]["outcome"], json!({ "kind": "waiting", "version": "0.2.0" }));
    assert_eq!(std::fs::read_dir(this.home.join("updates")).expect("there").count(), 0, "nothing stays");
    let event = control.event("box").await;
    assert!(event["msg"].as_str().expect("a text").contains("Update to 0.2.0 installed"), "{event}");
    assert_eq!(event["username"], "Admin");

    assert_eq!(admin.post("/api/box/restart", json!({})).await.status, StatusCode::ACCEPTED);
    assert_eq!(this.read("systemctl.log"), "--no-block reboot\n");
    assert_eq!(control.event("box").await["msg"], "Box restarted");
    let log = control.ask(json!({ "action": "events", "limit": 20 })).await;
    assert!(log["events"].to_string().contains("Box restarted"), "it is kept: {log}");
}

#[tokio::test]
async fn bad_bundles_and_bad_names_are_refused_with_their_reason() {
    let this = TheBox::start().await;
    let mut admin = this.server.admin().await;
    for (bundle, code) in [(&b"unsigned"[..], "not-signed"), (b"otherbox", "other-board")] {
        let answer = upload(&mut admin, bundle).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(code)));
        assert_eq!(this.work(&mut admin, &["failed"]).await["message"], error["message"]);
    }
    // More than the disk has room for is refused before it is sent.
    let mut tls = connect(this.server.address).await.expect("a connection");
    let (address, cookie) = (this.server.address, admin.cookie.as_deref().expect("logged in"));
    let head = format!(
        "POST /api/box/update HTTP/1.1\r\nhost: {address}\r\ncookie: xid={cookie}\r\n\
         content-length: 9000000000000000000\r\n\r\nbundle"
    );
    tls.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 64];
    let read = tls.read(&mut answer).await.expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&answer));
    for (path, body) in [
        ("/api/box/update/url", json!({ "url": "file:///etc/shadow" })),
        ("/api/box/update/url", json!({ "url": "ftp://x/y.raucb" })),
        ("/api/box/update/stick", json!({ "stick": "../sda1", "file": "x.raucb" })),
        ("/api/box/update/stick", json!({ "stick": "sda1", "file": "../../etc/x.raucb" })),
        ("/api/box/reset", json!({ "name": "another box" })),
        ("/api/box/time", json!({ "ms": "now" })),
    ] {
        assert_eq!(admin.post(path, body).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
    // A stick that is not there is found out by the helper.
    let stick = json!({ "stick": "sda1", "file": "x.raucb" });
    assert_eq!(admin.post("/api/box/update/stick", stick).await.status, StatusCode::ACCEPTED);
    assert_eq!(this.work(&mut admin, &["failed"]).await["code"], "no-file");
    assert_eq!(admin.get("/api/box/sticks").await.json()["bundles"], json!([]));
    assert_eq!(this.read("systemctl.log") + &this.read("state/update.json"), "");
}

#[tokio::test]
async fn an_update_is_fetched_from_an_address_and_can_be_stopped() {
    let this = TheBox::start().await;
    let mut admin = this.server.admin().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for (answer, hangs) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nbundle", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\nbundle", true),
        ] {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(answer.as_bytes());
            if hangs {
                // Until the other side leaves.
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
    });
    let from = json!({ "url": format!("http://127.0.0.1:{port}/outpost.raucb") });
    assert_eq!(admin.post("/api/box/update/url", from.clone()).await.status, StatusCode::ACCEPTED);
    assert_eq!(this.work(&mut admin, &["installed", "failed"]).await["state"], "installed");
    assert_eq!(admin.post("/api/box/update/url", from).await.status, StatusCode::ACCEPTED);
    let work = this.work(&mut admin, &["receiving"]).await;
    assert_eq!(work["state"], "receiving");
    let stop = admin.exchange(Method::DELETE, "/api/box/update", &[], Full::new(Bytes::new())).await;
    assert_eq!(stop.status, StatusCode::ACCEPTED);
    this.work(&mut admin, &["idle"]).await;
    assert_eq!(std::fs::read_dir(this.home.join("updates")).expect("there").count(), 0);
}

#[tokio::test]
async fn an_upload_that_came_whole_is_installed_though_nobody_waits() {
    let this = TheBox::start().await;
    let mut admin = this.server.admin().await;
    let mut other = admin.clone();
    let sending = tokio::spawn(async move { upload(&mut other, b"wait for it").await });
    this.work(&mut admin, &["installing"]).await;
    sending.abort();
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::write(this.home.join("go"), "").expect("written");
    assert_eq!(this.work(&mut admin, &["installed", "failed"]).await["state"], "installed");
    assert_ne!(this.read("state/update.json"), "");
}

/// Answers requests with the first of these that has their path.
fn publish(files: Vec<(&'static str, String)>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 2048];
            let read = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let file = files.iter().find(|(path, _)| head.starts_with(&format!("GET {path} ")));
            let answer = match file {
                Some((_, text)) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()),
                None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[tokio::test]
async fn the_box_updates_itself_from_an_index_and_only_to_what_that_names() {
    let index = |version: &str| json!({ "releases": [{ "version": version, "bundles": { "outpost-qemu-arm64": "b.raucb" } }] });
    let port = publish(vec![
        ("/good/index.json", index("0.2.0").to_string()),
        ("/good/b.raucb", "bundle".into()),
        // An old release under the name of a new one.
        ("/forged/index.json", index("0.3.0").to_string()),
        ("/forged/b.raucb", "bundle".into()),
        ("/none/index.json", index(env!("CARGO_PKG_VERSION")).to_string()),
        ("/bad/index.json", "{}".into()),
    ]);
    let this =
        TheBox::with(r#"{ "settings": { "selfUpdate": true, "selfUpdateUrl": "http://127.0.0.1/" } }"#).await;
    let look = async |folder: &str| {
        let url = outpost::config::Url::parse(&format!("http://127.0.0.1:{port}/{folder}/index.json"));
        outpost::appliance::look(this.server.site(), &url.expect("an address")).await
    };
    assert!(matches!(look("none").await, Ok(None)));
    let forged = look("forged").await.expect_err("refused").to_string();
    assert!(forged.contains("release 0.2.0, not 0.3.0"), "{forged}");
    assert!(look("bad").await.is_err() && look("missing").await.is_err());
    assert_eq!(this.read("state/update.json"), "");
    assert_eq!(look("good").await.expect("installed").as_deref(), Some("0.2.0"));
    assert!(matches!(look("good").await, Ok(None)), "it waits for a restart already");
}

#[tokio::test]
async fn a_reset_wants_the_name_and_the_clock_a_reason() {
    let this = TheBox::start().await;
    let mut admin = this.server.admin().await;
    assert_eq!(admin.post("/api/box/time", json!({ "ms": 5 })).await.json()["error"]["code"], "clock");
    let set = admin.post("/api/box/time", json!({ "ms": 1_795_454_143_007_i64 })).await;
    assert_eq!((set.status, this.read("clock").as_str()), (StatusCode::OK, "1795454143007"));
    std::fs::write(this.home.join("synchronised"), "").expect("written");
    assert_eq!(
        admin.post("/api/box/time", json!({ "ms": 1_795_454_143_007_i64 })).await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(
        admin.post("/api/box/reset", json!({ "name": "" })).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(this.read("state/factory-reset"), "");
    assert_eq!(
        admin.post("/api/box/reset", json!({ "name": host_name() })).await.status,
        StatusCode::ACCEPTED
    );
    assert_ne!(this.read("state/factory-reset"), "");
}

#[tokio::test]
async fn without_a_helper_this_is_no_box_and_says_so() {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let about = admin.get("/api/box").await.json();
    assert_eq!((&about["box"], &about["problem"]), (&Value::Null, &Value::Null));
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    for way in
        ways().into_iter().filter(|(_, path, _)| path.starts_with("/api/box/") && *path != "/api/box/update")
    {
        assert_eq!(go(&mut admin, &way).await, StatusCode::CONFLICT, "{way:?}");
    }
    assert_eq!(upload(&mut admin, b"bundle").await.json()["error"]["code"], "no-box");
}

#[tokio::test]
async fn a_copy_of_everything_needs_the_password_and_can_be_put_back() {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    admin.control().await.group("Lab").await;
    let wrong = admin.post("/api/export", json!({ "password": "wrong" })).await;
    assert_eq!(
        (wrong.status, wrong.json()["error"]["field"].clone()),
        (StatusCode::UNPROCESSABLE_ENTITY, json!("password"))
    );
    assert_eq!(admin.get("/api/export?ticket=none").await.status, StatusCode::NOT_FOUND);
    let ticket = admin.post("/api/export", json!({ "password": PASSWORD })).await.json()["ticket"].clone();
    let path = format!("/api/export?ticket={}", ticket.as_str().expect("a ticket"));
    let copy = admin.get(&path).await;
    assert_eq!(copy.status, StatusCode::OK);
    assert!(copy.headers["content-disposition"].to_str().expect("text").contains(".tar.gz"));
    assert_eq!(admin.get(&path).await.status, StatusCode::NOT_FOUND, "it is good once");

    // Another server, which takes it over, is this one: same accounts, same groups, same identity.
    let id = server.site().identity.agent.server_id;
    let folder = std::sync::Arc::new(tempfile::tempdir().expect("a folder"));
    let mut config = server.site().config.clone();
    config.data_folder = folder.path().to_owned();
    config.files_folder = folder.path().join("files");
    config.recordings_folder = folder.path().join("recordings");
    outpost::backup::restore(&config, &copy.body[..]).expect("restored");
    let other = TestServer::on(folder, "{}").await;
    assert_eq!(other.site().identity.agent.server_id, id);
    let mut browser = Browser::new(other.address);
    assert_eq!(browser.login("Admin", PASSWORD).await.status, StatusCode::OK);
    let groups = browser.control().await.ask(json!({ "action": "meshes", "tag": "x" })).await;
    assert!(groups.to_string().contains("Lab"), "{groups}");
}

#[tokio::test]
async fn guessing_the_password_of_a_page_left_open_is_slowed_down() {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(admin.post("/api/export", json!({ "password": "wrong" })).await.status);
    }
    assert_eq!(statuses.last(), Some(&StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
}
