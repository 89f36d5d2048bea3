//! Who sees what: groups, devices, users, user groups.

use std::sync::Arc;

use outpost_agent::identity::Identity;
use serde_json::json;

use crate::agents;
use crate::world::{Control, TestServer, until};

async fn two_groups(server: &TestServer) -> (Control, String, String, Vec<agents::RealAgent>) {
    let mut admin = server.admin().await;
    let mut control = admin.control().await;
    let (mine, theirs) = (control.group("Mine").await, control.group("Theirs").await);
    let mut running = Vec::new();
    for group in [&mine, &theirs] {
        running.push(agents::run(&mut admin, group, Arc::new(Identity::generate().unwrap())).await);
    }
    until("both devices", || server.site().agents.count() == 2).await;
    (control, mine, theirs, running)
}

#[tokio::test]
async fn a_member_sees_just_the_shared_group() {
    let server = TestServer::start().await;
    let (mut admin, mine, theirs, _agents) = two_groups(&server).await;
    let bob = server.member(&mut admin, "bob").await;
    let mut bob = bob.control().await;
    assert!(bob.devices().await.is_empty());
    assert_eq!(bob.ask(json!({ "action": "meshes" })).await["meshes"], json!([]));
    assert_eq!(bob.ask(json!({ "action": "users" })).await["result"], "Access denied");

    let added = admin
        .ask(json!({ "action": "addmeshuser", "meshid": mine, "usernames": ["bob", "nobody"], "meshadmin": 8 }))
        .await;
    assert_eq!(added["result"], "Added user bob, Unknown user nobody");
    assert_eq!((added["success"].clone(), added["failed"].clone()), (json!(1), json!(1)));
    // The member hears of it at once, in the open page.
    assert_eq!(bob.event("meshchange").await["meshid"], mine.as_str());
    let seen = bob.devices().await;
    assert_eq!(seen.len(), 1);
    let id = seen[0]["_id"].clone();

    for (request, refusal) in [
        (json!({ "action": "changedevice", "nodeid": id, "name": "x" }), "Access Denied"),
        (json!({ "action": "removedevices", "nodeids": [id] }), "Denied"),
        (json!({ "action": "poweraction", "nodeids": [id], "actiontype": 2 }), "Access denied"),
        (json!({ "action": "runcommands", "nodeids": [id], "cmds": "id", "type": 3 }), "Access denied"),
        (json!({ "action": "editmesh", "meshid": mine, "meshname": "x" }), "Access denied"),
        (json!({ "action": "deletemesh", "meshid": mine }), "Access denied"),
        (
            json!({ "action": "addmeshuser", "meshid": mine, "usernames": ["bob"], "meshadmin": u32::MAX }),
            "Permission denied",
        ),
        (json!({ "action": "createInviteLink", "meshid": mine, "expire": 1 }), "Access denied"),
        (json!({ "action": "setNotes", "id": id, "notes": "x" }), "Access denied"),
        (json!({ "action": "editmesh", "meshid": theirs, "meshname": "x" }), "Invalid group identifier "),
        (json!({ "action": "deletemesh", "meshid": theirs }), "Unknown device group"),
        (json!({ "action": "adduser", "username": "eve", "pass": "long enough 1" }), "Permission denied"),
        (json!({ "action": "edituser", "userid": "bob", "siteadmin": u32::MAX }), "Permission denied"),
        (
            json!({ "action": "changeuserpass", "userid": "admin", "pass": "long enough 1" }),
            "Permission denied",
        ),
        (json!({ "action": "createusergroup", "name": "x" }), "Permission denied"),
        (json!({ "action": "serverstats" }), "Access denied"),
    ] {
        let answer = bob.ask(request.clone()).await;
        assert_eq!(answer["result"], refusal, "{request}");
    }
    let other = admin.devices().await.into_iter().find(|device| device["_id"] != id).unwrap();
    let hidden = bob.ask(json!({ "action": "getnetworkinfo", "nodeid": other["_id"] })).await;
    assert_eq!(hidden["result"], "Invalid device id");
    let hidden = bob.ask(json!({ "action": "events", "nodeid": other["_id"] })).await;
    assert_eq!(hidden["events"], json!([]));

    let removed = admin.ask(json!({ "action": "removemeshuser", "meshid": mine, "userid": "bob" })).await;
    assert_eq!(removed["result"], "ok");
    assert!(bob.devices().await.is_empty());
}

#[tokio::test]
async fn nobody_gives_rights_that_they_do_not_have() {
    let server = TestServer::start().await;
    let (mut admin, mine, _, _agents) = two_groups(&server).await;
    let bob = server.member(&mut admin, "bob").await;
    server.member(&mut admin, "carol").await;
    admin
        .ask(json!({ "action": "addmeshuser", "meshid": mine, "usernames": ["bob"], "meshadmin": 2 | 8 }))
        .await;
    let mut bob = bob.control().await;
    let ask = |rights: u32| json!({ "action": "addmeshuser", "meshid": mine, "usernames": ["carol"], "meshadmin": rights });
    let beyond = "Can't set device group administrator, if not administrator, Nothing done";
    assert_eq!(bob.ask(ask(u32::MAX)).await["result"], beyond);
    assert_eq!(bob.ask(ask(8 | 0x8000)).await["result"], beyond);
    assert_eq!(
        bob.ask(ask(8 | 0x200)).await["result"],
        "Added user carol",
        "a restriction may always be added"
    );
    let admins = json!({ "action": "addmeshuser", "meshid": mine, "usernames": ["admin"], "meshadmin": 0 });
    assert_eq!(
        bob.ask(admins).await["result"],
        "Can't change rights of device group administrator, Nothing done"
    );
    let own = json!({ "action": "addmeshuser", "meshid": mine, "usernames": ["bob"], "meshadmin": 0xFF });
    assert_eq!(bob.ask(own).await["result"], "Can't change self, Nothing done");
}

#[tokio::test]
async fn rights_come_through_user_groups_and_go_with_them() {
    let server = TestServer::start().await;
    let (mut admin, mine, _, _agents) = two_groups(&server).await;
    let bob = server.member(&mut admin, "bob").await;
    let mut bob = bob.control().await;
    let made = admin.ask(json!({ "action": "createusergroup", "name": "People" })).await;
    let people = made["ugrpid"].clone();
    let added = admin
        .ask(json!({ "action": "addmeshuser", "meshid": mine, "userids": [people], "meshadmin": 8 }))
        .await;
    let key = made["ugrpid"].as_str().and_then(|id| id.rsplit('/').next()).expect("an id");
    assert_eq!(added["result"], format!("Added user {key}"));
    assert!(bob.devices().await.is_empty());
    let joined = admin
        .ask(json!({ "action": "addusertousergroup", "ugrpid": people, "usernames": ["bob", "zed"] }))
        .await;
    assert_eq!((joined["added"].clone(), joined["failed"].clone()), (json!(1), json!(1)));
    assert_eq!(bob.devices().await.len(), 1);
    let left =
        admin.ask(json!({ "action": "removeuserfromusergroup", "ugrpid": people, "userid": "bob" })).await;
    assert_eq!(left["result"], "ok");
    assert!(bob.devices().await.is_empty());
    let gone = admin.ask(json!({ "action": "deleteusergroup", "ugrpid": people })).await;
    assert_eq!(gone["result"], "ok");
    let group = admin.ask(json!({ "action": "meshes" })).await;
    assert!(!group.to_string().contains(people.as_str().unwrap()), "no link to it is left");
}

#[tokio::test]
async fn one_device_can_be_shared_alone() {
    let server = TestServer::start().await;
    let (mut admin, mine, _, _agents) = two_groups(&server).await;
    let bob = server.member(&mut admin, "bob").await;
    let mut bob = bob.control().await;
    let nodes = admin.ask(json!({ "action": "nodes", "meshid": mine })).await;
    let id = nodes["nodes"][&mine][0]["_id"].clone();
    let bad = admin
        .ask(json!({ "action": "adddeviceuser", "nodeid": id, "rights": 7, "usernames": ["bob"] }))
        .await;
    assert_eq!(bad["result"], "Invalid rights");
    let good = admin
        .ask(json!({ "action": "adddeviceuser", "nodeid": id, "rights": 8, "usernames": ["bob"] }))
        .await;
    assert_eq!(good["result"], "ok");
    assert_eq!(bob.devices().await.len(), 1);
    assert_eq!(bob.ask(json!({ "action": "meshes" })).await["meshes"], json!([]));
    admin.ask(json!({ "action": "removedevices", "nodeids": [id] })).await;
    let links = server.site().store.directory().users().map(|user| user.links.len()).sum::<usize>();
    assert_eq!(links, 2, "only the administrator's own groups are left");
}

#[tokio::test]
async fn a_removed_user_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let (mut admin, mine, _, _agents) = two_groups(&server).await;
    let bob = server.member(&mut admin, "bob").await;
    admin.ask(json!({ "action": "addmeshuser", "meshid": mine, "usernames": ["bob"], "meshadmin": 8 })).await;
    let mut open = bob.control().await;
    assert_eq!(admin.ask(json!({ "action": "deleteuser", "userid": "bob" })).await["result"], "ok");
    while open.try_next().await.is_some() {}
    let meshes = admin.ask(json!({ "action": "meshes" })).await;
    assert!(!meshes.to_string().contains("user//bob"));
    assert_eq!(
        admin.ask(json!({ "action": "deleteuser", "userid": "bob" })).await["result"],
        "User does not exists"
    );
    assert_ne!(admin.ask(json!({ "action": "deleteuser", "userid": "admin" })).await["result"], "ok");
}
