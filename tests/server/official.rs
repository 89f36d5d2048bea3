//! Official agents: their bundle, cores, updates and downloads.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use outpost::agents::bundle::import_archive;
use outpost_agent::identity::Identity;
use outpost_wire::command::{AgentCommand, ServerCommand};
use outpost_wire::handshake::Capabilities;
use outpost_wire::id::Hash384;
use serde_json::json;

use crate::agents::{BareAgent, Claims, group_hash};
use crate::package::{Package, executable, windows};
use crate::world::{Browser, TestServer};

/// An installed official agent: console, JavaScript, packed cores.
const INSTALLED: Capabilities = Capabilities(0x118);

fn package() -> Package {
    let mut packager = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, text) in [
        ("__MACOSX/MeshAgent.mpkg/x", "not taken"),
        ("MeshAgent.mpkg/Contents/distribution.dist", "<![CDATA[###WELCOMEMSG###]]> ###DISPLAYNAME###"),
        (
            "MeshAgent.mpkg/Contents/Packages/internal.pkg/Contents/Resources/postflight",
            "cp ###EXECUTABLENAME###",
        ),
    ] {
        packager.start_file(name, options).expect("a file");
        std::io::Write::write_all(&mut packager, text.as_bytes()).expect("in memory");
    }
    let packager = packager.finish().expect("in memory").into_inner();
    Package::new().with("agents/MeshAgentOSXPackager.zip", &packager).listed()
}

fn import(server: &TestServer, package: &Package) {
    import_archive(&package.tgz()[..], server.folder.path()).expect("imported");
    assert!(server.site().official.bundle.get().is_some());
}

async fn agent(server: &TestServer, identity: &Identity, group: &str, id: u32) -> BareAgent {
    let claims = Claims {
        identity,
        group: group_hash(group),
        host_name: "official",
        server_id: server.site().identity.agent.server_id,
    };
    let agent = BareAgent::connect_as(server.address, claims, id, INSTALLED).await;
    assert!(agent.is_in());
    agent
}

fn key(group: &str) -> String {
    form_urlencoded::byte_serialize(group.rsplit('/').next().expect("a key").as_bytes()).collect()
}

#[tokio::test]
async fn an_agent_gets_its_core_and_is_left_alone_when_it_has_it() {
    let server = TestServer::start().await;
    let mut control = server.admin().await.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().expect("an identity");
    let package = package();
    import(&server, &package);
    let own = Hash384::of(&package.files["agents/meshagent_x86-64"]);

    let mut agent = agent(&server, &identity, &group, 6).await;
    assert_eq!(agent.next().await, ServerCommand::AskAgentHash);
    agent.command(AgentCommand::AgentHash(own)).await;
    assert_eq!(agent.next().await, ServerCommand::AskCoreHash);
    agent.command(AgentCommand::CoreHash(None)).await;
    let ServerCommand::CompressedCore { hash, deflated } = agent.next().await else { panic!("no core") };
    let mut core = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(&deflated[..]), &mut core)
        .expect("raw deflate");
    assert_eq!(Hash384::of(&core), hash);
    assert!(core.starts_with(b"\0\0\0\0var addedModules"));
    agent.command(AgentCommand::CoreHash(Some(hash))).await;
    assert_eq!(agent.next().await, ServerCommand::CoreOk);
    assert_eq!(agent.told("serverInfo").await["action"], "serverInfo");

    // Another core when somebody asks for it, the everyday one again.
    let device = control.devices().await[0]["_id"].clone();
    let order = |kind: &str| json!({ "action": "uploadagentcore", "nodeids": [device], "type": kind });
    assert_eq!(control.ask(order("recovery")).await["result"], "ok");
    assert_eq!(agent.next().await, ServerCommand::AskCoreHash);
    agent.command(AgentCommand::CoreHash(Some(hash))).await;
    let ServerCommand::CompressedCore { hash: recovery, .. } = agent.next().await else { panic!("no core") };
    assert_ne!(recovery, hash);
    agent.command(AgentCommand::CoreHash(Some(recovery))).await;
    assert_eq!(agent.next().await, ServerCommand::CoreOk);
    assert_eq!(control.ask(order("clear")).await["result"], "ok");
    assert_eq!(agent.next().await, ServerCommand::ClearCore);
    agent.command(AgentCommand::CoreHash(None)).await;
    assert_eq!(agent.next().await, ServerCommand::CoreOk, "it stays without");
    assert_eq!(control.ask(order("default")).await["result"], "ok");
    assert_eq!(agent.next().await, ServerCommand::AskCoreHash);
    // An agent that never takes it is not given it for ever.
    for _ in 0..5 {
        agent.command(AgentCommand::CoreHash(None)).await;
        assert!(matches!(agent.next().await, ServerCommand::CompressedCore { .. }));
    }
    agent.command(AgentCommand::CoreHash(None)).await;
    agent.told("serverInfo").await;
    assert!(control.ask(order("other")).await["result"].as_str().expect("told").contains("found `other`"));
    assert_eq!(
        control.ask(json!({ "action": "uploadagentcore", "nodeids": [], "type": "clear" })).await["result"],
        "Invalid nodeids"
    );
}

#[tokio::test]
async fn an_agent_that_waits_gets_its_core_when_a_bundle_comes() {
    let server = TestServer::start().await;
    let mut control = server.admin().await.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().expect("an identity");
    let mut agent = agent(&server, &identity, &group, 7).await;
    assert_eq!(agent.next().await, ServerCommand::AskCoreHash);
    agent.command(AgentCommand::CoreHash(None)).await;
    agent.told("serverInfo").await;
    import(&server, &package());
    // The bundle has no executable for it, but a core.
    assert_eq!(agent.next().await, ServerCommand::AskCoreHash);
    agent.command(AgentCommand::CoreHash(None)).await;
    assert!(matches!(agent.next().await, ServerCommand::CompressedCore { .. }));
}

#[tokio::test]
async fn an_agent_of_another_build_is_updated_in_blocks() {
    let server = TestServer::start().await;
    let mut control = server.admin().await.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().expect("an identity");
    let package = package();
    import(&server, &package);
    let wanted = package.files["agents/meshagent_x86-64"].clone();
    for attempt in 1..=4 {
        let mut agent = agent(&server, &identity, &group, 6).await;
        assert_eq!(agent.next().await, ServerCommand::AskAgentHash);
        agent.command(AgentCommand::AgentHash(Hash384::of(b"another"))).await;
        if attempt == 4 {
            assert_eq!(agent.next().await, ServerCommand::AskCoreHash, "it does not work out, so it stays");
            break;
        }
        assert_eq!(agent.next().await, ServerCommand::ClearCore);
        assert_eq!(agent.next().await, ServerCommand::UpdateStart);
        agent.command(AgentCommand::CoreHash(None)).await;
        let mut file = Vec::new();
        let end = loop {
            match agent.next().await {
                ServerCommand::UpdateBlock(block) => {
                    assert!(block.len() <= 65_531);
                    file.extend(block);
                    agent.command(AgentCommand::UpdateAck).await;
                }
                ServerCommand::UpdateEnd(hash) => break hash,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(file, wanted);
        assert_eq!(end, Hash384::of(&wanted));
        // It restarts: as the same, which is what `attempt` 4 is about.
    }
}

#[tokio::test]
async fn blocks_wait_for_the_agent_and_temporary_agents_stay() {
    let server = TestServer::with(r#"{"settings":{"agentUpdateBlockSize":1024}}"#).await;
    let mut control = server.admin().await.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().expect("an identity");
    import(&server, &package());
    let claims = || Claims {
        identity: &identity,
        group: group_hash(&group),
        host_name: "official",
        server_id: server.site().identity.agent.server_id,
    };
    let temporary = Capabilities(INSTALLED.0 | Capabilities::TEMPORARY.0);
    let mut agent = BareAgent::connect_as(server.address, claims(), 6, temporary).await;
    assert_eq!(agent.next().await, ServerCommand::AskAgentHash);
    agent.command(AgentCommand::AgentHash(Hash384::of(b"another"))).await;
    assert_eq!(agent.next().await, ServerCommand::AskCoreHash);
    let mut agent = BareAgent::connect_as(server.address, claims(), 6, INSTALLED).await;
    assert_eq!(agent.next().await, ServerCommand::AskAgentHash);
    agent.command(AgentCommand::AgentHash(Hash384::of(b"another"))).await;
    assert_eq!(agent.next().await, ServerCommand::ClearCore);
    assert_eq!(agent.next().await, ServerCommand::UpdateStart);
    assert!(matches!(agent.next().await, ServerCommand::UpdateBlock(block) if block.len() == 1024));
    let quiet = tokio::time::timeout(Duration::from_millis(300), agent.next()).await;
    assert!(quiet.is_err(), "the next block comes when this one is stored");
    agent.command(AgentCommand::UpdateAck).await;
    assert!(matches!(agent.next().await, ServerCommand::UpdateBlock(_)));
}

#[tokio::test]
async fn an_old_windows_agent_fetches_its_update_with_the_recovery_core() {
    let server = TestServer::start().await;
    let mut control = server.admin().await.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().expect("an identity");
    let package = package();
    import(&server, &package);
    // The date of its sources cannot be read, so it may be old.
    let mut agent = agent(&server, &identity, &group, 4).await;
    assert_eq!(agent.next().await, ServerCommand::AskAgentHash);
    agent.command(AgentCommand::AgentHash(Hash384([0xff; 48]))).await;
    assert_eq!(agent.next().await, ServerCommand::ClearCore);
    assert_eq!(agent.next().await, ServerCommand::AskCoreHash);
    // What the everyday core said last does not count.
    agent.say(json!({ "action": "coreinfo", "caps": 14 })).await;
    agent.command(AgentCommand::CoreHash(None)).await;
    let ServerCommand::CompressedCore { hash, .. } = agent.next().await else { panic!("no core") };
    agent.say(json!({ "action": "coreinfo", "caps": 14 })).await;
    let update = agent.told("agentupdate").await;
    assert_eq!(update["url"], "*/meshagents?id=4");
    let file = &package.files["agents/MeshService64.exe"];
    assert_eq!(update["hash"], Hash384::of(file).to_hex().to_lowercase());
    agent.command(AgentCommand::CoreHash(Some(hash))).await;
    assert_eq!(agent.next().await, ServerCommand::CoreOk);
    let mut browser = Browser::new(server.address);
    assert_eq!(browser.get("/meshagents?id=4").await.body, file[..]);
}

#[tokio::test]
async fn only_whoever_may_changes_what_agents_run() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().expect("an identity");
    let update = |device: &serde_json::Value| json!({ "action": "updateAgents", "nodeids": [device] });
    let mut agent = agent(&server, &identity, &group, 6).await;
    let device = control.devices().await[0]["_id"].clone();
    assert_eq!(control.ask(update(&device)).await["result"], "No official agents are imported");
    import(&server, &package());
    assert_eq!(agent.next().await, ServerCommand::AskCoreHash);
    assert_eq!(agent.next().await, ServerCommand::AskAgentHash, "there is a bundle");
    assert_eq!(control.ask(update(&device)).await["result"], "ok");
    assert_eq!(agent.next().await, ServerCommand::AskAgentHash);
    let mut other = server.member(&mut control, "eve").await.control().await;
    let core = json!({ "action": "uploadagentcore", "nodeids": [device], "type": "clear" });
    for request in [core.clone(), update(&device)] {
        assert_eq!(other.ask(request).await["result"], "Invalid nodeid", "she does not know of it");
    }
    // Remote control alone is not enough.
    let given = control
        .ask(json!({ "action": "addmeshuser", "meshid": group, "usernames": ["eve"], "meshadmin": 8 }))
        .await;
    assert_eq!(given["success"], 1, "{given}");
    for request in [core, update(&device)] {
        assert_eq!(other.ask(request).await["result"], "Access denied");
    }
}

#[tokio::test]
async fn downloads_are_what_the_bundle_has() {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = key(&control.group("Lab: \"one\"").await);
    let package = package();
    let mut browser = Browser::new(server.address);
    assert_eq!(browser.get("/meshagents?id=6").await.status, StatusCode::NOT_FOUND);
    assert!(browser.get("/meshagents?script=1").await.text().contains("outpost-agent"));
    assert_eq!(browser.get("/meshagents?script=6").await.status, StatusCode::NOT_FOUND);
    import(&server, &package);

    let linux = &package.files["agents/meshagent_x86-64"];
    let answer = browser.get("/meshagents?id=6").await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &linux[..]));
    assert_eq!(answer.headers["content-disposition"], "attachment; filename=\"meshagent\"");
    assert_eq!(answer.headers["last-modified"], "Tue, 06 Aug 2024 15:30:40 GMT");
    assert_eq!(answer.headers["content-length"], linux.len().to_string());
    let tag = answer.headers["etag"].to_str().expect("ASCII").to_owned();
    let part = browser.get_with("/meshagents?id=6", "range", "bytes=100000-100009").await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &linux[100_000..100_010]));
    assert_eq!(part.headers["content-range"], format!("bytes 100000-100009/{}", linux.len()));
    let beyond = browser.get_with("/meshagents?id=6", "range", "bytes=150000-").await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let same = browser.get_with("/meshagents?id=6", "if-none-match", &tag).await;
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    let head = browser.exchange(Method::HEAD, "/meshagents?id=6", &[], Full::new(Bytes::new())).await;
    assert_eq!(head.headers["content-length"], linux.len().to_string());
    // With a group, only agents for Windows carry settings.
    assert_eq!(browser.get(&format!("/meshagents?id=6&meshid={group}")).await.body, linux[..]);
    // Our own agent is another thing.
    assert_eq!(browser.get("/meshagents?id=6&agent=outpost").await.status, StatusCode::NOT_FOUND);

    let answer = browser.get(&format!("/meshagents?id=4&meshid={group}&installflags=2&tag=abc")).await;
    assert_eq!(answer.headers["content-disposition"], "attachment; filename=\"meshagent64-Labone.exe\"");
    let msh = outpost_wire::msh::extract(&mut std::io::Cursor::new(&answer.body)).expect("readable");
    let msh = msh.expect("settings inside");
    assert!(
        msh.contains("InstallFlags=2") && msh.contains("Tag=abc") && msh.contains("MeshServer="),
        "{msh}"
    );
    assert!(msh.contains("translation={\"en\":{},\"zh-hans\""), "{msh}");
    assert_eq!(answer.body[..4096], windows()[..]);
    assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
    let unknown = "/meshagents?id=4&meshid=".to_owned() + &"A".repeat(64);
    assert_eq!(browser.get(&unknown).await.status, StatusCode::UNAUTHORIZED);

    for path in
        ["/meshagents?id=5", "/meshagents?id=31", "/meshagents?id=x", "/meshagents?script=3", "/meshagents"]
    {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }

    let zipped = browser.get("/meshagents?id=6&zip=1").await;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&zipped.body)).expect("a zip file");
    assert_eq!(archive.len(), 1);
    let mut inside = Vec::new();
    std::io::Read::read_to_end(&mut archive.by_name("meshagent").expect("there"), &mut inside)
        .expect("whole");
    assert_eq!(inside, *linux);
    assert_eq!(browser.get("/meshagents?id=6&zip=1").await.body, zipped.body);

    let installer = browser.get(&format!("/meshagents?meshinstall=6&id={group}")).await;
    assert_eq!(installer.body[..linux.len()], linux[..]);
    let script = String::from_utf8_lossy(&installer.body[linux.len()..]).into_owned();
    assert!(script.contains("var msh = {\"") && script.contains("\"MeshID\":\"0x"), "{script}");
    assert!(script.contains(r#""translation":"{\"en\":{},\"zh-hans\":{\"ok\":\"好 = yes\"}}""#), "{script}");
    assert_eq!(installer.body[installer.body.len() - 1], 0x18, "the mark of a script");
    for (path, status) in [
        (format!("/meshagents?meshinstall=4&id={group}"), StatusCode::NOT_FOUND),
        (format!("/meshagents?meshinstall=5&id={group}"), StatusCode::NOT_FOUND),
        ("/meshagents?meshinstall=6&id=nothing".to_owned(), StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(browser.get(&path).await.status, status, "{path}");
    }

    let script = browser.get("/meshagents?script=1").await;
    assert_eq!(script.text(), "#!/bin/sh\nwget --no-check-certificate x\n");
    assert_eq!(script.headers["content-disposition"], "attachment; filename=\"meshinstall.sh\"");
    assert_eq!(browser.get("/meshagents?script=6").await.status, StatusCode::OK);

    let mac = browser.get(&format!("/meshosxagent?id=10005&meshid={group}")).await;
    assert_eq!(mac.status, StatusCode::OK, "{}", mac.text());
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&mac.body)).expect("a zip file");
    let mut file = |name: &str| {
        let mut bytes = Vec::new();
        let mut entry = archive.by_name(&format!("MeshAgent.mpkg/Contents/{name}")).expect("there");
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("whole");
        (String::from_utf8_lossy(&bytes).into_owned(), entry.unix_mode().map(|mode| mode & 0o777), bytes)
    };
    let (welcome, ..) = file("distribution.dist");
    assert!(welcome.contains("Lab: \"one\"") && !welcome.contains("###"), "{welcome}");
    let inner = "Packages/internal.pkg/Contents";
    let (postflight, mode, _) = file(&format!("{inner}/Resources/postflight"));
    assert_eq!((postflight.as_str(), mode), ("cp meshagent", Some(0o755)));
    assert_eq!(file(&format!("{inner}/meshagent_osx64.bin")).2, executable(b"mac", 9000));
    assert!(file(&format!("{inner}/meshagent_osx64.msh")).0.contains("MeshID=0x"));
    assert_eq!(
        browser.get(&format!("/meshosxagent?id=6&meshid={group}")).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(browser.get("/meshosxagent?id=10005&meshid=x").await.status, StatusCode::UNAUTHORIZED);

    assert_eq!(browser.get("/meshagents?meshaction=generic").await.status, StatusCode::NOT_FOUND);
    let start = admin.get("/meshagents?meshaction=generic").await.json();
    assert_eq!(start["username"], "Admin");
    assert_eq!(admin.get("/meshagents?meshaction=winrouter").await.status, StatusCode::NOT_FOUND);
    assert_eq!(admin.get("/meshagents?meshaction=what").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn locked_downloads_give_settings_to_members_only() {
    let server = TestServer::with(r#"{"settings":{"lockAgentDownload":true}}"#).await;
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = key(&control.group("Lab").await);
    import(&server, &package());
    let mut stranger = Browser::new(server.address);
    for path in [
        format!("/meshagents?id=4&meshid={group}"),
        format!("/meshagents?meshinstall=6&id={group}"),
        format!("/meshosxagent?id=10005&meshid={group}"),
        format!("/meshsettings?id={group}"),
    ] {
        assert_eq!(stranger.get(&path).await.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(admin.get(&path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn administrators_bring_a_package_in_and_nobody_else() {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let raw = group.rsplit('/').next().expect("a key").to_owned();
    let group = key(&group);
    let upload = |bytes: Vec<u8>| Full::new(Bytes::from(bytes));
    let path = "/api/agents/import";
    assert_eq!(admin.get("/api/agents").await.json(), json!({ "bundle": null }));
    assert_eq!(admin.get(&format!("/api/install?meshid={group}")).await.json()["official"], json!(null));
    let mut eve = server.member(&mut control, "eve").await;
    let sound = package().tgz();
    for (browser, status) in
        [(&mut eve, StatusCode::FORBIDDEN), (&mut Browser::new(server.address), StatusCode::UNAUTHORIZED)]
    {
        assert_eq!(browser.exchange(Method::POST, path, &[], upload(sound.clone())).await.status, status);
        assert_eq!(browser.get("/api/agents").await.status, status);
        assert_eq!(browser.exchange(Method::DELETE, "/api/agents", &[], upload(vec![])).await.status, status);
    }
    let mut foreign = Browser { origin: Some("https://evil.example".into()), ..admin.clone() };
    let refused = foreign.exchange(Method::POST, path, &[], upload(sound.clone())).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    let cut = admin.exchange(Method::POST, path, &[], upload(sound[..sound.len() / 2].to_vec())).await;
    assert_eq!(cut.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(cut.json()["error"]["code"], "bad-package");
    assert!(cut.text().contains("damaged or cut off"), "{}", cut.text());
    let other = Package::new().with("package.json", b"{\"name\":\"x\",\"version\":\"1\"}").listed().tgz();
    let other = admin.exchange(Method::POST, path, &[], upload(other)).await;
    assert_eq!(other.json()["error"]["message"], "This is the package `x`, not `meshcentral`");
    assert_eq!(admin.get("/api/agents").await.json(), json!({ "bundle": null }), "nothing is stored");

    let answer = admin.exchange(Method::POST, path, &[], upload(sound)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let bundle = answer.json()["bundle"].clone();
    assert_eq!(bundle["version"], crate::package::VERSION);
    assert_eq!(bundle["agents"][0]["family"], "windows");
    assert_eq!(admin.get("/api/agents").await.json()["bundle"], bundle);
    let offered = admin.get(&format!("/api/install?meshid={group}")).await.json()["official"].clone();
    let agents = offered["agents"].as_array().expect("agents");
    let ids: Vec<_> = agents.iter().map(|agent| agent["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids, [4, 6, 10005]);
    for agent in agents {
        let url = format!("/{}", agent["url"].as_str().expect("an address"));
        assert_eq!(admin.get(&url).await.status, StatusCode::OK, "{url}");
    }
    // An invitation offers them to people without an account, locked or not.
    let invited = control
        .ask(json!({ "action": "createInviteLink", "meshid": format!("mesh//{raw}"), "expire": 1, "flags": 0 }))
        .await;
    let link = invited["url"].as_str().expect("a link");
    let mut guest = Browser::new(server.address);
    let page = guest.get(&link[link.find("/agentinvite").expect("its page")..]).await.text();
    let start = page.find("meshagents?id=4&amp;").expect("Windows");
    let end = start + page[start..].find('"').expect("an attribute");
    let answer = guest.get(&format!("/{}", page[start..end].replace("&amp;", "&"))).await;
    let msh = outpost_wire::msh::extract(&mut std::io::Cursor::new(&answer.body)).expect("readable");
    assert!(msh.expect("settings inside").contains("MeshName=Lab"));
    assert!(page.contains("meshosxagent?id=10005"));

    let removed = admin.exchange(Method::DELETE, "/api/agents", &[], upload(vec![])).await;
    assert_eq!(removed.json(), json!({ "bundle": null }));
    assert_eq!(admin.get("/meshagents?id=6").await.status, StatusCode::NOT_FOUND);
}

/// Connects everybody at once, and sees each through to its core.
async fn all_at_once(
    server: &TestServer,
    crowd: &[Identity],
    group: &str,
    executable: Hash384,
) -> Vec<BareAgent> {
    let server_id = server.site().identity.agent.server_id;
    let connecting = crowd.iter().enumerate().map(|(at, identity)| async move {
        let host_name = format!("crowd-{at}");
        let claims = Claims { identity, group: group_hash(group), host_name: &host_name, server_id };
        let mut agent = BareAgent::connect_as(server.address, claims, 6, INSTALLED).await;
        assert!(agent.is_in(), "{host_name}");
        assert_eq!(agent.next().await, ServerCommand::AskAgentHash);
        agent.command(AgentCommand::AgentHash(executable)).await;
        assert_eq!(agent.next().await, ServerCommand::AskCoreHash);
        agent.command(AgentCommand::CoreHash(None)).await;
        let ServerCommand::CompressedCore { hash, .. } = agent.next().await else { panic!("no core") };
        agent.command(AgentCommand::CoreHash(Some(hash))).await;
        assert_eq!(agent.next().await, ServerCommand::CoreOk);
        agent
    });
    futures_util::future::join_all(connecting).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_agents_come_back_at_once_and_none_twice() {
    const CROWD: usize = 100;
    // They all come from one address here, as they would from behind one router.
    let config = r#"{"settings":{"limits":{"unauthenticatedPerNetwork":200}}}"#;
    let server = TestServer::with(config).await;
    let mut control = server.admin().await.control().await;
    let group = control.group("Lab").await;
    let package = package();
    import(&server, &package);
    let executable = Hash384::of(&package.files["agents/meshagent_x86-64"]);
    let crowd = tokio::task::spawn_blocking(|| crate::agents::crowd(CROWD)).await.expect("keys");
    let agents = all_at_once(&server, &crowd, &group, executable).await;
    assert_eq!(server.site().agents.count(), CROWD);
    drop(agents);
    let server = server.restart(config).await;
    let agents = all_at_once(&server, &crowd, &group, executable).await;
    assert_eq!(server.site().agents.count(), CROWD);
    assert_eq!(server.site().store.directory().devices().count(), CROWD, "no device twice");
    drop(agents);
}

#[tokio::test]
async fn agents_keep_their_build_where_updates_are_switched_off() {
    let server = TestServer::with(r#"{"settings":{"noAgentUpdate":true}}"#).await;
    let mut control = server.admin().await.control().await;
    let group = control.group("Lab").await;
    import(&server, &package());
    let identity = Identity::generate().expect("an identity");
    let mut agent = agent(&server, &identity, &group, 6).await;
    assert_eq!(agent.next().await, ServerCommand::AskCoreHash, "its executable is not asked for");
    let device = control.devices().await[0]["_id"].clone();
    let refused = control.ask(json!({ "action": "updateAgents", "nodeids": [device] })).await;
    assert_eq!(refused["result"], "Agents are not updated here: noAgentUpdate is set");
    agent.say(json!({ "action": "agentupdate" })).await;
    agent.command(AgentCommand::CoreHash(None)).await;
    assert!(matches!(agent.next().await, ServerCommand::CompressedCore { .. }));
}
