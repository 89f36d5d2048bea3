//! `outpost login`, `connect` and `ssh`, with the real program and the real agent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use outpost_agent::identity::Identity;
use serde_json::json;

use crate::agents::{self, RealAgent};
use crate::world::{Control, PASSWORD, TestServer, until};

fn program(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outpost"));
    command.args(words).env("XDG_CONFIG_HOME", home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end beside the server of the test.
async fn outpost(home: &Path, words: &[&str], input: &str) -> Output {
    let (mut command, input) = (program(home, words), input.to_owned());
    let work = move || {
        let mut child = command.spawn().expect("the program");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("written");
        child.wait_with_output().expect("its output")
    };
    tokio::task::spawn_blocking(work).await.expect("it ends")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

struct World {
    server: TestServer,
    control: Control,
    _agent: RealAgent,
    home: tempfile::TempDir,
    url: String,
    pin: String,
}

/// A server with a device, and a home for the client.
async fn world() -> World {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let agent = agents::run(&mut admin, &group, Arc::new(Identity::generate().unwrap())).await;
    until("the device", || server.site().agents.all().iter().any(|agent| agent.is_ready())).await;
    let device = control.devices().await[0]["_id"].clone();
    control.ask(json!({ "action": "changedevice", "nodeid": device, "name": "Pi" })).await;
    let (url, pin) = (format!("https://{}", server.address), server.site().identity.web.full_hash.to_hex());
    World { server, control, _agent: agent, home: tempfile::tempdir().unwrap(), url, pin }
}

async fn logged_in() -> World {
    let world = world().await;
    let login = ["login", &world.url, "--user", "admin", "--pass", "-", "--certificate", &world.pin];
    let output = outpost(world.home.path(), &login, &format!("{PASSWORD}\n")).await;
    assert!(output.status.success(), "{}", words(&output));
    world
}

/// A running `outpost connect`, and where it listens.
struct Forward {
    child: Child,
    place: String,
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn connect(home: &Path, arguments: &[&str]) -> Forward {
    let mut command = program(home, &[&["connect"], arguments].concat());
    let work = move || {
        let mut child = command.spawn().expect("the program");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let place = line.split(' ').next().unwrap_or_default().to_owned();
        Forward { child, place }
    };
    tokio::task::spawn_blocking(work).await.expect("it listens")
}

/// Sends back what it gets, connection by connection.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &connection, &mut &connection));
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_in_compares_the_certificate_and_keeps_a_token() {
    let mut world = world().await;
    let home = world.home.path();
    let output = outpost(home, &["connect", "Pi", "22"], "").await;
    assert!(words(&output).contains("run `outpost login https://<server>` first"), "{}", words(&output));
    let login = |pin: &str| ["login", world.url.as_str(), "--certificate", pin].map(str::to_owned).to_vec();
    let run = |words: Vec<String>, input: String| async move {
        outpost(home, &words.iter().map(String::as_str).collect::<Vec<_>>(), &input).await
    };
    let output = run(login(&"0".repeat(96)), format!("admin\n{PASSWORD}\n")).await;
    assert!(words(&output).contains("is not the one"), "{}", words(&output));
    let output = run(login(&world.pin), "admin\nwrong password\n".into()).await;
    assert!(words(&output).contains("refuses this login"), "{}", words(&output));
    let output = run(vec!["login".into(), world.url.clone()], format!("no\nadmin\n{PASSWORD}\n")).await;
    let print = outpost::client::fingerprint(&world.server.site().identity.web.full_hash);
    assert!(
        words(&output).contains(&print) && words(&output).contains("Not logged in"),
        "{}",
        words(&output)
    );
    assert!(!home.join("outpost/login.json").exists(), "nothing is kept of a login that failed");

    let output = run(vec!["login".into(), world.url.clone()], format!("yes\nadmin\n{PASSWORD}\n")).await;
    assert!(output.status.success(), "{}", words(&output));
    let kept = home.join("outpost/login.json");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&kept).unwrap().contains(PASSWORD));
    let tokens = world.control.ask(json!({ "action": "loginTokens" })).await;
    let token = tokens["loginTokens"][0]["tokenUser"].clone();
    assert!(tokens["loginTokens"][0]["name"].as_str().unwrap().starts_with("outpost on "), "{tokens}");

    let output = outpost(home, &["connect", "Nobody", "22"], "").await;
    assert!(words(&output).contains("there is no device `Nobody`"), "{}", words(&output));
    world.control.ask(json!({ "action": "loginTokens", "remove": [token] })).await;
    let output = outpost(home, &["connect", "Pi", "22"], "").await;
    assert!(words(&output).contains("removed or has expired"), "{}", words(&output));
    assert!(outpost(home, &["logout"], "").await.status.success());
    assert!(!kept.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_a_device_is_brought_here() {
    let world = logged_in().await;
    let port = echo().to_string();
    let forward = connect(world.home.path(), &["Pi", &port]).await;
    let place = forward.place.clone();
    let exchange = move || {
        let mut several: Vec<_> = (0..4).map(|_| TcpStream::connect(&place).unwrap()).collect();
        for (n, connection) in several.iter_mut().enumerate() {
            connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let sent: Vec<u8> = (0..300_000_usize).map(|at| (at * 31 + n) as u8).collect();
            let mut writer = connection.try_clone().unwrap();
            let copy = sent.clone();
            let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
            let mut back = vec![0; sent.len()];
            connection.read_exact(&mut back).unwrap();
            writing.join().unwrap();
            assert!(back == sent, "connection {n} brought something else back");
        }
    };
    tokio::task::spawn_blocking(exchange).await.unwrap();

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..length], peer);
        }
    });
    let forward = connect(world.home.path(), &["Pi", &format!("127.0.0.1:{port}"), "--udp"]).await;
    let place = forward.place.clone();
    let exchange = move || {
        for n in 0..3_u8 {
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut buffer = [0; 2048];
            for length in [1_usize, 700, 1400] {
                peer.send_to(&vec![n; length], &place).unwrap();
                assert_eq!(peer.recv(&mut buffer).unwrap(), length, "datagrams keep their ends");
                assert!(buffer[..length].iter().all(|byte| *byte == n));
            }
        }
    };
    tokio::task::spawn_blocking(exchange).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_goes_through_the_server() {
    let world = logged_in().await;
    let port = echo();
    let output = outpost(world.home.path(), &["connect", "--stdio", "Pi", &port.to_string()], "").await;
    assert!(output.status.success(), "{}", words(&output));
    // An ssh that tells what it is asked, and says a line through the way it is given to port 22.
    let folder = world.home.path().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let ssh = folder.join("ssh");
    std::fs::write(&ssh, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = program(world.home.path(), &["ssh", "root@pi", "-v", "uptime"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[1].starts_with("ProxyCommand='") && lines[1].ends_with(" 22"), "{said}{}", words(&output));
    assert!(lines[3].starts_with("HostKeyAlias=outpost-"), "{said}");
    assert_eq!(lines[4..], ["-l", "root", "Pi.outpost", "-v", "uptime"], "{said}");
    // The way itself, as ssh would start it, to a port that answers.
    let way =
        lines[1].trim_start_matches("ProxyCommand=").trim_end_matches("22").to_owned() + &port.to_string();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &way]).env("XDG_CONFIG_HOME", world.home.path());
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let talk = move || {
        let mut child = shell.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"SSH-2.0-test\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        line
    };
    assert_eq!(tokio::task::spawn_blocking(talk).await.unwrap(), "SSH-2.0-test\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reaches_the_port_that_is_shared_and_no_other() {
    let mut world = world().await;
    let (port, other) = (echo(), echo());
    let device = world.control.devices().await[0]["_id"].clone();
    let share = |tcp: serde_json::Value| {
        json!({
            "action": "createDeviceShareLink", "nodeid": device, "guestname": "Eve", "p": 0, "consent": 0, "expire": 60, "tcp": tcp,
        })
    };
    for (tcp, refusal) in [
        (json!(null), "Invalid protocol"),
        (json!({ "port": 0 }), "tcp: expected a port from 1 to 65535 and perhaps a host"),
        (json!({ "port": 22, "host": "a b" }), "tcp: expected a name or address as host"),
    ] {
        assert_eq!(world.control.ask(share(tcp)).await["result"], refusal);
    }
    let made = world.control.ask(share(json!({ "port": port }))).await;
    assert_eq!(made["result"], "OK", "{made}");
    let link = made["url"].as_str().unwrap().to_owned();
    let page = crate::world::Browser::new(world.server.address)
        .get(&format!("/api/share?c={}", link.split("?c=").nth(1).unwrap()))
        .await
        .json();
    assert_eq!((&page["tcp"], &page["protocols"]), (&json!({ "port": port }), &json!([])));
    assert_eq!(page["certificate"], world.pin.as_str());

    let home = world.home.path();
    let output =
        outpost(home, &["connect", "--stdio", "--link", &link, "--certificate", &world.pin], "").await;
    assert!(output.status.success(), "{}", words(&output));
    let forward = connect(home, &["--link", &link, "--certificate", &world.pin]).await;
    let place = forward.place.clone();
    let talk = move || {
        let mut connection = TcpStream::connect(place).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection.write_all(b"SSH-2.0-guest").unwrap();
        let mut back = [0; 13];
        connection.read_exact(&mut back).unwrap();
        back
    };
    assert_eq!(&tokio::task::spawn_blocking(talk).await.unwrap(), b"SSH-2.0-guest");
    let started = world.control.event("relaylog").await;
    assert_eq!(started["guestname"], "Eve");

    // Neither another port nor anything else, whatever the address says.
    let cookie = page["auth"].as_str().unwrap();
    let link_cookie = link.split("?c=").nth(1).unwrap();
    for query in [
        format!("auth={cookie}&tcpport={other}"),
        format!("auth={cookie}&tcpport={port}&tcpaddr=10.0.0.1"),
        format!("auth={cookie}&udpport={port}"),
        format!("auth={cookie}&p=1"),
        format!("c={link_cookie}x"),
    ] {
        let path = format!("/meshrelay.ashx?{query}");
        assert!(crate::world::socket(world.server.address, &path, &[]).await.is_err(), "{query}");
    }
    let remove = json!({ "action": "removeDeviceShare", "nodeid": device, "publicid": made["publicid"] });
    assert_eq!(world.control.ask(remove).await["result"], "OK");
    let output = outpost(home, &["connect", "--link", &link, "--certificate", &world.pin], "").await;
    assert!(words(&output).contains("the link opens no port now"), "{}", words(&output));
    let output = outpost(home, &["connect", "--link", "https://x/?c=1"], "").await;
    assert!(words(&output).contains("not the link of a share"), "{}", words(&output));
}
