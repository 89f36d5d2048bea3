//! The agent against a miniature server: enrolment, terminal, commands, reconnecting, refusals.
#![allow(clippy::expect_used)]

mod desktop;
mod files;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use outpost_agent::agent::{Agent, Order, Status};
use outpost_agent::identity::Identity;
use outpost_agent::settings::Settings;
use outpost_agent::state::StateFolder;
use outpost_wire::id::Hash384;
use outpost_wire::message::{
    FromAgent, RunCommands, ServerMsgBody, SessionKind, ShellKind, SysInfoRequest, ToAgent,
};
use outpost_wire::tunnel::Control;
use server::{AgentConnection, PATIENCE, Server, ServerIdentity, Tunnel, user_message};
use tokio::sync::watch;
use tokio::task::JoinHandle;

struct RunningAgent {
    task: JoinHandle<Order>,
    status: watch::Receiver<Status>,
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RunningAgent {
    fn start(settings: Settings, identity: Identity, state: Option<StateFolder>) -> Self {
        Self::of(Agent::new(settings, identity, state).expect("agent"))
    }

    fn of(agent: Agent) -> Self {
        Self { status: agent.status(), task: tokio::spawn(agent.run()) }
    }

    async fn waiting(&mut self) -> String {
        let wait = async {
            loop {
                if let Status::Waiting { reason } = &*self.status.borrow_and_update() {
                    return reason.clone();
                }
                self.status.changed().await.expect("running");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("a failure in time")
    }
}

/// A server with one connected agent.
async fn connected(extra: &[(&str, &str)]) -> (Server, AgentConnection, RunningAgent) {
    // Tests do not look at the screen of whoever runs them.
    let extra = &[&[("Display", "off")], extra].concat();
    let identity = Arc::new(ServerIdentity::new());
    let mut server = Server::start(&identity, 0).await;
    let agent =
        RunningAgent::start(identity.settings(server.port, extra), Identity::generate().expect("key"), None);
    let connection = server.agent().await;
    (server, connection, agent)
}

async fn terminal(server: &mut Server, agent: &mut AgentConnection, options: &str) -> Tunnel {
    agent.ask_tunnel(8, 0).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(options, "1").await;
    tunnel
}

const PLAIN: &str = r#"{"type":"options","protocol":1,"cols":80,"rows":25}"#;

#[tokio::test]
async fn an_agent_enrols_and_tells_what_it_is() {
    let (_server, mut agent, running) = connected(&[("agentName", "till 3")]).await;
    assert_eq!(agent.verified.agent_name.as_deref(), Some("till 3"));
    assert_eq!(agent.verified.info.group, Hash384::of(b"group"));
    assert!(!agent.verified.fast_path);
    let info = agent
        .wait_for(|message| if let FromAgent::CoreInfo(info) = message { Some(info) } else { None })
        .await;
    assert!(info.value.is_some_and(|value| value.starts_with("Outpost agent ")));
    assert_eq!(info.caps, Some(2 | 4), "only what works is offered");
    agent.wait_for(|message| matches!(message, FromAgent::NetInfo(_)).then_some(())).await;
    assert!(matches!(&*running.status.borrow(), Status::Connected { local: false, .. }));

    agent.send(&ToAgent::Ping).await;
    agent.wait_for(|message| matches!(message, FromAgent::Pong).then_some(())).await;
    for question in [[0u8, 11, 0, 0], [0, 12, 0, 0]] {
        agent.send_bytes(&question).await;
        let answer = agent.command().await;
        assert_eq!((&answer[..4], &answer[4..]), (&question[..], &[0u8; 48][..]));
    }
    agent.send(&ToAgent::SysInfo(SysInfoRequest::default())).await;
    let inventory =
        agent.wait_for(|m| if let FromAgent::SysInfo(info) = m { Some(info) } else { None }).await;
    let hash = inventory.hash().expect("a hash").to_owned();
    // Known already: no second copy; the answer to the ping behind it comes instead.
    agent.send(&ToAgent::SysInfo(SysInfoRequest { hash: Some(hash) })).await;
    agent.send(&ToAgent::Ping).await;
    agent
        .wait_for(|message| match message {
            FromAgent::SysInfo(_) => panic!("the inventory had not changed"),
            other => matches!(other, FromAgent::Pong).then_some(()),
        })
        .await;
}

#[tokio::test]
async fn a_returning_agent_takes_the_fast_path_and_keeps_its_identity() {
    let folder = tempfile::tempdir().expect("folder");
    let identity = Arc::new(ServerIdentity::new());
    let mut server = Server::start(&identity, 0).await;
    let mut nodes = Vec::new();
    for fast in [false, true] {
        let state = StateFolder::open(folder.path()).expect("state");
        let device = state.identity().expect("identity");
        let _agent = RunningAgent::start(identity.settings(server.port, &[]), device, Some(state));
        let connection = server.agent().await;
        assert_eq!(connection.verified.fast_path, fast);
        nodes.push(connection.verified.node_hash);
    }
    assert_eq!(nodes[0], nodes[1]);
}

#[tokio::test]
async fn an_agent_comes_back_soon_after_the_server_does() {
    let identity = Arc::new(ServerIdentity::new());
    let mut server = Server::start(&identity, 0).await;
    let port = server.port;
    let mut running =
        RunningAgent::start(identity.settings(port, &[]), Identity::generate().expect("key"), None);
    let connection = server.agent().await;
    drop((connection, server));
    running.waiting().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let back = Instant::now();
    let mut server = Server::start(&identity, port).await;
    let connection = server.agent().await;
    assert!(back.elapsed() < Duration::from_secs(8), "{:?}", back.elapsed());
    assert!(connection.verified.fast_path);
}

#[tokio::test]
async fn a_server_with_another_identity_is_refused() {
    let (mine, stranger) = (Arc::new(ServerIdentity::new()), Arc::new(ServerIdentity::new()));
    let mut server = Server::start(&stranger, 0).await;
    let mut running =
        RunningAgent::start(mine.settings(server.port, &[]), Identity::generate().expect("key"), None);
    let reason = running.waiting().await;
    assert!(reason.contains("the server is another one"), "{reason}");
    assert!(server.agents.try_recv().is_err(), "nothing of the device was told");
}

#[tokio::test]
async fn a_terminal_carries_keys_utf8_and_sizes() {
    let (mut server, mut agent, _running) = connected(&[]).await;
    let mut tunnel = terminal(&mut server, &mut agent, r#"{"type":"options","cols":91,"rows":33}"#).await;
    assert_eq!(tunnel.path, "/meshrelay.ashx?p=1&id=abc&rauth=x%40y%24z");
    let counts = agent
        .wait_for(|message| match message {
            FromAgent::Sessions(s) if s.kind == SessionKind::Terminal && s.value.len() == 1 => Some(s.value),
            _ => None,
        })
        .await;
    assert_eq!(counts["user//ada"], 1);
    tunnel.type_in("stty size; echo $TERM; printf 'gr\\303\\274\\303\\237e %s\\n' 世界\r").await;
    let output = tunnel.read_until("grüße 世界").await;
    assert!(output.contains("33 91") && output.contains("xterm-256color"), "{output}");
    tunnel.control(Control::TermSize { cols: 132, rows: 50 }.to_json()).await;
    tunnel.type_in("stty size\r").await;
    tunnel.read_until("50 132").await;
    tunnel.control(r#"{"ctrlChannel":102938,"type":"rtt","time":1234.5}"#.into()).await;
    loop {
        let message = tunnel.next().await.expect("open");
        if let Some(text) = message.as_text() {
            assert!(text.contains("\"rtt\"") && text.contains("1234.5"), "{text}");
            break;
        }
    }
    tunnel.type_in("exit\r").await;
    while tunnel.next().await.is_some() {}
    agent
        .wait_for(|m| {
            matches!(m, FromAgent::Sessions(s) if s.kind == SessionKind::Terminal && s.value.is_empty())
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn closing_the_tunnel_ends_what_ran_in_it() {
    let (mut server, mut agent, _running) = connected(&[]).await;
    let mut tunnel = terminal(&mut server, &mut agent, PLAIN).await;
    tunnel.type_in("trap '' HUP; sleep 313.25; echo never\r").await;
    let running =
        || outpost_agent::processes::list().into_iter().any(|process| process.command == "sleep 313.25");
    wait_until("the command runs", running).await;
    drop(tunnel);
    wait_until("the command is gone", || !running()).await;
}

#[tokio::test]
async fn a_background_job_does_not_keep_the_terminal_open() {
    for job in ["for i in $(seq 300); do echo bg; sleep 0.1; done", "yes"] {
        let (mut server, mut agent, _running) = connected(&[]).await;
        let mut tunnel = terminal(&mut server, &mut agent, PLAIN).await;
        tunnel.type_in(&format!("({job}) & echo last''words; exit\r")).await;
        let output = async {
            let mut output = String::new();
            while let Some(message) = tunnel.next().await {
                output.push_str(&String::from_utf8_lossy(message.as_payload()));
            }
            output
        };
        let output = tokio::time::timeout(PATIENCE, output).await.expect("closed in time");
        assert!(output.contains("lastwords"), "{output}");
    }
}

async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A page that acknowledges slowly gets all of 20 MB, and never has more than its window under way.
#[tokio::test]
async fn a_window_holds_back_a_flood() {
    const WINDOW: u64 = 64 * 1024;
    const FLOOD: u64 = 20_000_000;
    let (mut server, mut agent, _running) = connected(&[]).await;
    let options = format!(r#"{{"type":"options","cols":80,"rows":25,"window":{WINDOW}}}"#);
    let mut tunnel = terminal(&mut server, &mut agent, &options).await;
    // Raw mode, so that the terminal adds no carriage returns and every byte can be counted.
    tunnel.type_in("stty raw -echo; printf 'BE''GIN'; head -c 20000000 /dev/zero | tr '\\0' x; printf 'THE''END'; stty sane; exit\r").await;
    let (mut consumed, mut acknowledged, mut flood) = (0u64, 0u64, 0u64);
    let mut tail = String::new();
    while let Some(message) = tunnel.next().await {
        if !message.is_binary() {
            continue;
        }
        consumed += message.as_payload().len() as u64;
        flood += message.as_payload().iter().filter(|&&byte| byte == b'x').count() as u64;
        tail = String::from_utf8_lossy(message.as_payload()).into_owned();
        assert!(consumed - acknowledged <= WINDOW, "{} bytes under way", consumed - acknowledged);
        if consumed - acknowledged == WINDOW {
            // Long enough for anything beyond the window to arrive and be caught above.
            tokio::time::sleep(Duration::from_millis(1)).await;
            acknowledged = consumed;
            tunnel.control(Control::Ack { bytes: acknowledged }.to_json()).await;
        }
        if tail.contains("THEEND") {
            acknowledged = consumed;
            tunnel.control(Control::Ack { bytes: acknowledged }.to_json()).await;
        }
    }
    // The echo of the typed line has a few more.
    assert!(
        (FLOOD..FLOOD + 100).contains(&flood),
        "{flood} bytes of the flood arrived; it ended with {tail:?}"
    );
}

#[tokio::test]
async fn a_paste_the_program_does_not_read_does_not_stop_the_tunnel() {
    let (mut server, mut agent, _running) = connected(&[]).await;
    let mut tunnel =
        terminal(&mut server, &mut agent, r#"{"type":"options","cols":80,"rows":25,"window":8192}"#).await;
    tunnel.type_in("stty raw -echo; echo re''ady; sleep 2; head -c 400000 | wc -c; stty sane; exit\r").await;
    tunnel.read_until("ready").await;
    tunnel.type_in(&"p".repeat(400_000)).await;
    tunnel.control(Control::Ack { bytes: 4000 }.to_json()).await;
    tunnel.read_until("400000").await;
}

#[tokio::test]
async fn rights_and_consent_are_enforced_by_the_agent() {
    for (extra, rights, consent, options, protocol) in [
        (&[][..], 0u32, 0u32, PLAIN, "1"),
        (&[], 256, 0, PLAIN, "1"),
        (&[], 8 | 0x200, 0, PLAIN, "1"),
        (&[], 0xFFFF_FFFF, 16, PLAIN, "1"),
        (&[], 8, 0, r#"{"type":"options","consent":16}"#, "1"),
        (&[("LocalConsent", "16")], 8, 0, PLAIN, "1"),
        (&[], 8, 0, r#"{"type":"options","user":"no-such-user"}"#, "1"),
        (&[], 8, 0, PLAIN, "2"),
        (&[], 256, 0, PLAIN, "5"),
        (&[], 8 | 0x400, 0, PLAIN, "5"),
        (&[], 0xFFFF_FFFF, 32, PLAIN, "5"),
        (&[("LocalConsent", "32")], 8, 0, PLAIN, "5"),
        (&[], 8, 0, PLAIN, "nonsense"),
    ] {
        let (mut server, mut agent, _running) = connected(extra).await;
        agent.ask_tunnel(rights, consent).await;
        let mut tunnel = server.tunnel().await;
        tunnel.begin(options, protocol).await;
        // Where somebody has to be asked it is told that they are; here nobody can be.
        let mut reason = None;
        while let Some(message) = tunnel.next().await {
            let text = message.as_text().expect("control messages, no data").to_owned();
            let Some(Control::Console(console)) = Control::parse(&text) else { panic!("{text}") };
            reason = console.msg;
        }
        assert!(reason.is_some_and(|reason| !reason.contains("Waiting")), "{rights:x} {consent} {protocol}");
    }
}

#[tokio::test]
async fn tunnels_go_to_the_own_relay_only_and_are_limited() {
    let (mut server, mut agent, _running) = connected(&[]).await;
    for value in ["https://elsewhere/meshrelay.ashx?id=1", "*/control.ashx?id=1", "*/../meshrelay.ashx?id=1"]
    {
        let request = outpost_wire::message::TunnelRequest { value: value.into(), ..Default::default() };
        agent.send(&user_message(8, 0, ServerMsgBody::Tunnel(Box::new(request)))).await;
    }
    for _ in 0..outpost_agent::tunnels::MAX_TUNNELS + 10 {
        agent.ask_tunnel(8, 0).await;
    }
    let mut open = Vec::new();
    while let Ok(Some(tunnel)) = tokio::time::timeout(Duration::from_secs(3), server.tunnels.recv()).await {
        assert!(tunnel.path.starts_with("/meshrelay.ashx?p=1&"), "{}", tunnel.path);
        open.push(tunnel);
    }
    assert_eq!(open.len(), outpost_agent::tunnels::MAX_TUNNELS);
}

#[tokio::test]
async fn a_script_runs_and_its_output_comes_back() {
    let (_server, mut agent, _running) = connected(&[]).await;
    let mut request = RunCommands {
        shell: ShellKind::Sh,
        cmds: "echo out $((6*7)); echo err >&2".into(),
        reply: true,
        responseid: Some("meshctrl".into()),
        ..RunCommands::default()
    };
    agent.send(&ToAgent::RunCommands(Box::new(request.clone()))).await;
    let answer = agent.wait_for(|m| if let FromAgent::Msg(msg) = m { Some(msg) } else { None }).await;
    assert_eq!((answer.kind.as_str(), answer.responseid.as_deref()), ("runcommands", Some("meshctrl")));
    let result = answer.text("result").expect("a result");
    assert!(result.contains("out 42") && result.contains("err"), "{result}");

    request.shell = ShellKind::PowerShell;
    agent.send(&ToAgent::RunCommands(Box::new(request.clone()))).await;
    let answer = agent.wait_for(|m| if let FromAgent::Msg(msg) = m { Some(msg) } else { None }).await;
    assert!(answer.text("result").is_some_and(|text| text.contains("/bin/sh")));

    // Without a reply the output streams to the console of the asking session.
    let live = RunCommands {
        shell: ShellKind::Sh,
        reply: false,
        sessionid: Some("user//ada/0123".into()),
        ..request
    };
    agent.send(&ToAgent::RunCommands(Box::new(live))).await;
    let answer = agent.wait_for(|m| if let FromAgent::Msg(msg) = m { Some(msg) } else { None }).await;
    assert_eq!((answer.kind.as_str(), answer.sessionid.as_deref()), ("console", Some("user//ada/0123")));
    assert!(answer.text("value").is_some_and(|text| text.contains("out 42")));
}

#[tokio::test]
async fn the_console_answers_who_may_use_it() {
    let (_server, mut agent, _running) = connected(&[]).await;
    let console = |rights| user_message(rights, 0, ServerMsgBody::Console { value: "osinfo".into() });
    agent.send(&console(8)).await;
    agent.send(&console(8 | 16)).await;
    let answer = agent.wait_for(|m| if let FromAgent::Msg(msg) = m { Some(msg) } else { None }).await;
    assert!(answer.text("value").is_some_and(|text| text.contains("Linux")));
    agent.send(&ToAgent::Ping).await;
    agent
        .wait_for(|message| match message {
            FromAgent::Msg(msg) => panic!("answered without right 16: {msg:?}"),
            other => matches!(other, FromAgent::Pong).then_some(()),
        })
        .await;

    agent.send(&user_message(8, 0, ServerMsgBody::Ps)).await;
    let answer = agent.wait_for(|m| if let FromAgent::Msg(msg) = m { Some(msg) } else { None }).await;
    let list: serde_json::Value =
        serde_json::from_str(answer.text("value").expect("a text")).expect("JSON in it");
    assert!(list[std::process::id().to_string()]["cmd"].is_string());
}

#[tokio::test]
async fn an_order_to_uninstall_ends_the_agent() {
    let (_server, mut agent, mut running) = connected(&[]).await;
    agent.send(&ToAgent::UninstallAgent).await;
    let order = tokio::time::timeout(PATIENCE, &mut running.task).await.expect("in time").expect("no panic");
    assert_eq!(order, Order::Uninstall);
}

/// A local server is found by discovery and preferred; when it is gone the fixed address serves.
#[tokio::test]
async fn the_local_network_comes_first_and_the_fixed_address_catches() {
    let identity = Arc::new(ServerIdentity::new());
    let (mut local, mut wan) = (Server::start(&identity, 0).await, Server::start(&identity, 0).await);
    let settings = identity.settings_for(&format!("local,wss://127.0.0.1:{}/agent.ashx", wan.port), &[]);
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let udp = socket.local_addr().expect("address").port();
    let (id, port) = (settings.server_id, local.port);
    let answering = tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (_, from) = socket.recv_from(&mut buffer).await.expect("receive");
            let reply = outpost_wire::discovery::Reply::of_server(id, port, false).encode();
            socket.send_to(&reply, from).await.expect("send");
        }
    });
    let agent =
        Agent::new(settings, Identity::generate().expect("key"), None).expect("agent").discover_on(udp, 0);
    let running = RunningAgent::of(agent);
    let connection = local.agent().await;
    wait_until("connected locally", || {
        matches!(&*running.status.borrow(), Status::Connected { local: true, .. })
    })
    .await;
    answering.abort();
    drop((connection, local));
    wan.agent().await;
}
