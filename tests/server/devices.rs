//! Devices: they appear, report, go, move, and are removed.

use std::sync::Arc;

use outpost_agent::identity::Identity;
use outpost_wire::id::Hash384;
use serde_json::json;

use crate::agents::{self, BareAgent, Claims, group_hash};
use crate::world::{TestServer, until};

#[tokio::test]
async fn a_device_appears_reports_and_goes_grey() {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let identity = Arc::new(Identity::generate().unwrap());
    let agent = agents::run(&mut admin, &group, identity.clone()).await;
    let added = control.event("addnode").await;
    let id = added["node"]["_id"].as_str().unwrap().to_owned();
    assert_eq!(id, format!("node//{}", identity.node().to_base64x()));
    assert_eq!(added["node"]["meshid"], group.as_str());
    let connected = control.event("nodeconnect").await;
    assert_eq!((connected["conn"].clone(), connected["pwr"].clone()), (json!(1), json!(1)));
    let described = control.event("changenode").await;
    assert!(described["node"]["osdesc"].as_str().unwrap().len() > 3);
    assert!(described["node"]["agent"]["core"].as_str().unwrap().contains("utpost"));
    control.event("ifchange").await;
    let network = control.ask(json!({ "action": "getnetworkinfo", "nodeid": id })).await;
    assert!(network["netif2"].as_object().is_some_and(|all| !all.is_empty()), "{network}");

    drop(agent);
    let gone = control.event("nodeconnect").await;
    assert_eq!(gone["conn"], 0);
    let last = control.ask(json!({ "action": "lastconnect", "nodeid": id })).await;
    assert!(
        last["time"].as_i64().unwrap() > 1_700_000_000_000
            && last["addr"].as_str().unwrap().starts_with("127.0.0.1:")
    );
    let timeline = control.ask(json!({ "action": "powertimeline", "nodeid": id })).await;
    assert_eq!(timeline["timeline"][0], 0);
    assert_eq!(timeline["timeline"][2], 1);

    let _again = agents::run(&mut admin, &group, identity).await;
    assert_eq!(control.event("nodeconnect").await["conn"], 1);
    assert_eq!(control.devices().await.len(), 1, "the same device");
}

#[tokio::test]
async fn devices_are_renamed_tagged_moved_and_removed() {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let (one, two) = (control.group("One").await, control.group("Two").await);
    let agent = agents::run(&mut admin, &one, Arc::new(Identity::generate().unwrap())).await;
    let id = control.event("addnode").await["node"]["_id"].clone();
    let changed = control
        .ask(json!({ "action": "changedevice", "nodeid": id, "name": "Kiosk", "tags": "b, a,a", "desc": "Hall" }))
        .await;
    assert_eq!(changed["result"], "ok");
    let device = &control.devices().await[0];
    assert_eq!((device["name"].clone(), device["tags"].clone()), (json!("Kiosk"), json!(["a", "b"])));
    let empty = control.ask(json!({ "action": "changedevice", "nodeid": id, "name": " " })).await;
    assert!(empty["result"].as_str().unwrap().contains("1 to 128 characters"));
    let moved = control.ask(json!({ "action": "changeDeviceMesh", "nodeids": [id], "meshid": two })).await;
    assert_eq!(moved["result"], "ok");
    let event = control.event("nodemeshchange").await;
    assert_eq!((event["oldMeshId"].clone(), event["newMeshId"].clone()), (json!(one), json!(two)));
    let again = control.ask(json!({ "action": "changeDeviceMesh", "nodeids": [id], "meshid": two })).await;
    assert_eq!(again["result"], "Device already in correct group");
    let notes = control.ask(json!({ "action": "setNotes", "id": id, "notes": "behind%20the%20door" })).await;
    assert_eq!(notes["result"], "ok");
    assert_eq!(control.ask(json!({ "action": "getNotes", "id": id })).await["notes"], "behind%20the%20door");
    drop(agent);
    until("it is gone", || server.site().agents.count() == 0).await;
    let removed = control.ask(json!({ "action": "removedevices", "nodeids": [id, "node//x"] })).await;
    assert_eq!(removed["result"], "ok");
    assert_eq!(control.event("removenode").await["nodeid"], id);
    assert!(control.devices().await.is_empty());
    let log = control.ask(json!({ "action": "events" })).await;
    let kinds: Vec<&str> =
        log["events"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert!(
        kinds.contains(&"createmesh") && !kinds.contains(&"addnode"),
        "its history went with it: {kinds:?}"
    );
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let server = TestServer::start().await;
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let identity = Arc::new(Identity::generate().unwrap());
    let agent = agents::run(&mut admin, &group, identity.clone()).await;
    let id = control.event("addnode").await["node"]["_id"].clone();
    control.ask(json!({ "action": "changedevice", "nodeid": id, "name": "Kept" })).await;
    drop(agent);
    let server = server.restart("{}").await;
    let mut admin = crate::world::Browser::new(server.address);
    admin.login("Admin", crate::world::PASSWORD).await;
    let mut control = admin.control().await;
    assert_eq!(control.devices().await[0]["name"], "Kept");
    // The same certificate and identity: the agent knows it again.
    let _agent = agents::run(&mut admin, &group, identity).await;
    assert_eq!(control.event("nodeconnect").await["conn"], 1);
}

#[tokio::test]
async fn an_agent_of_an_unknown_group_is_held_and_nothing_is_stored() {
    let server = TestServer::start().await;
    server.admin().await;
    let identity = Identity::generate().unwrap();
    let claims = Claims {
        identity: &identity,
        group: Hash384([7; 48]),
        host_name: "stranger",
        server_id: server.site().identity.agent.server_id,
    };
    let agent = BareAgent::connect(server.address, claims).await;
    assert!(!agent.is_in());
    assert_eq!(server.site().store.directory().devices().count(), 0);
    assert_eq!(server.site().agents.count(), 0);
}

#[tokio::test]
async fn the_newest_connection_of_a_device_wins() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().unwrap();
    let claims = || Claims {
        identity: &identity,
        group: group_hash(&group),
        host_name: "twin",
        server_id: server.site().identity.agent.server_id,
    };
    let mut first = BareAgent::connect(server.address, claims()).await;
    assert!(first.is_in());
    let second = BareAgent::connect(server.address, claims()).await;
    assert!(second.is_in());
    let ended = async {
        while let Some(Ok(message)) = futures_util::StreamExt::next(&mut first.socket).await {
            if message.is_close() {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.expect("the first connection ends");
    assert_eq!(server.site().agents.count(), 1);
    assert_eq!(server.site().store.directory().devices().count(), 1);
}

#[tokio::test]
async fn a_removed_group_takes_its_devices_along_and_lives_again_with_its_agent() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let identity = Identity::generate().unwrap();
    let claims = || Claims {
        identity: &identity,
        group: group_hash(&group),
        host_name: "box",
        server_id: server.site().identity.agent.server_id,
    };
    let agent = BareAgent::connect(server.address, claims()).await;
    assert!(agent.is_in());
    assert_eq!(control.ask(json!({ "action": "deletemesh", "meshid": group })).await["result"], "ok");
    until("it is cut off", || server.site().agents.count() == 0).await;
    assert!(control.devices().await.is_empty());
    assert_eq!(control.ask(json!({ "action": "meshes" })).await["meshes"], json!([]));
    let agent = BareAgent::connect(server.address, claims()).await;
    assert!(agent.is_in());
    assert_eq!(control.devices().await.len(), 1);
    let log = control.ask(json!({ "action": "events" })).await;
    assert!(log.to_string().contains("is back: one of its agents connected"));
}

#[tokio::test]
async fn downloads_carry_the_settings_and_the_line_its_hash() {
    use ring::digest;
    let server = TestServer::start().await;
    let folder = server.folder.path().join("agents/x86_64-unknown-linux-musl");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("outpost-agent"), b"\x7fELF not really").unwrap();
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let group = control.group("Lab").await;
    let key: String = form_urlencoded::byte_serialize(group.as_bytes()).collect();
    let choices = admin.get(&format!("/api/install?meshid={key}")).await.json();
    let script = admin.get(&format!("/{}", choices["linux"]["scriptUrl"].as_str().unwrap())).await;
    let hash: String = digest::digest(&digest::SHA256, &script.body)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(choices["linux"]["scriptSha256"], hash);
    assert!(choices["linux"]["command"].as_str().unwrap().contains(&hash));
    let agent = choices["agents"].as_array().unwrap().iter().find(|agent| agent["id"] == 6).unwrap().clone();
    assert!(script.text().contains(agent["sha256"].as_str().unwrap()));
    let binary = admin.get(&format!("/{}", agent["url"].as_str().unwrap())).await;
    let msh = outpost_wire::msh::extract(&mut std::io::Cursor::new(binary.body.to_vec()))
        .unwrap()
        .expect("settings");
    let msh = outpost_wire::msh::Msh::parse(&msh).unwrap();
    assert_eq!(msh.group_id().unwrap(), group_hash(&group));
    assert_eq!(msh.server_id().unwrap(), server.site().identity.agent.server_id);
    assert!(msh.get("MeshServer").unwrap().starts_with("local,wss://127.0.0.1:"));

    let mut stranger = crate::world::Browser::new(server.address);
    assert_eq!(stranger.get(&format!("/api/install?meshid={key}")).await.status, 401);
    assert_eq!(stranger.get("/meshsettings?id=unknown").await.status, 401);
    let invited = control.ask(json!({ "action": "createInviteLink", "meshid": group, "expire": 1 })).await;
    let cookie = invited["cookie"].as_str().unwrap().to_owned();
    let page = stranger.get(&format!("/agentinvite?c={cookie}")).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("“Lab”") && page.text().contains("install.sh?c="));
    let changed = cookie.replacen('A', "B", 1);
    let other = if changed == cookie { cookie.replacen('a', "b", 1) } else { changed };
    assert_eq!(stranger.get(&format!("/agentinvite?c={other}")).await.status, 404);
    assert_eq!(
        stranger.get(&format!("/agentinvite?c={key}")).await.status,
        404,
        "a group's id is no invitation"
    );
}
