//! Accounts and sessions.

use hyper::StatusCode;
use serde_json::json;

use crate::world::{Browser, Control, PASSWORD, TestServer, socket};

#[tokio::test]
async fn the_first_account_administers_and_is_the_only_one_a_stranger_makes() {
    let server = TestServer::start().await;
    let mut browser = Browser::new(server.address);
    assert_eq!(browser.get("/api/bootstrap").await.json()["firstRun"], true);
    let weak = browser.post("/api/account", json!({ "username": "Admin", "password": "abc" })).await;
    assert_eq!(weak.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(weak.json()["error"]["field"], "password");
    assert_eq!(weak.json()["error"]["message"], "At least 8 characters; you have 3");
    let bad = browser.post("/api/account", json!({ "username": "a b", "password": PASSWORD })).await;
    assert_eq!(bad.json()["error"]["field"], "username");

    let mut admin = server.admin().await;
    let boot = admin.get("/api/bootstrap").await.json();
    assert_eq!((boot["firstRun"].clone(), boot["user"]["name"].clone()), (json!(false), json!("Admin")));
    let mut control = admin.control().await;
    let users = control.ask(json!({ "action": "users" })).await;
    assert_eq!(users["users"][0]["siteadmin"], u32::MAX);
    assert!(users["users"][0].get("hash").is_none() && users["users"][0].get("salt").is_none());

    let second = browser.post("/api/account", json!({ "username": "Eve", "password": PASSWORD })).await;
    assert_eq!(second.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn two_first_accounts_at_once_make_one_administrator() {
    let server = TestServer::start().await;
    let tries: Vec<_> = (0..4)
        .map(|n| {
            let mut browser = Browser::new(server.address);
            tokio::spawn(async move {
                let body = json!({ "username": format!("user{n}"), "password": PASSWORD });
                browser.post("/api/account", body).await.status
            })
        })
        .collect();
    let mut made = 0;
    for one in tries {
        made += usize::from(one.await.unwrap() == StatusCode::CREATED);
    }
    assert_eq!(made, 1);
    assert_eq!(server.site().store.directory().users().count(), 1);
}

#[tokio::test]
async fn bad_logins_slow_down_and_do_not_tell_who_exists() {
    let server = TestServer::start().await;
    server.admin().await;
    let mut stranger = Browser::new(server.address);
    let unknown = stranger.login("nobody", "wrong password").await;
    let known = stranger.login("admin", "wrong password").await;
    assert_eq!(known.status, StatusCode::UNAUTHORIZED);
    assert_eq!(unknown.body, known.body);
    let mut last = known;
    for _ in 0..6 {
        last = stranger.login("admin", "wrong password").await;
    }
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(last.json()["error"]["retryAfter"].as_u64().unwrap() >= 1);
    assert!(last.headers.contains_key("retry-after"));
    // The right password has to wait as well, or the back-off would tell it.
    assert_eq!(stranger.login("admin", PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn sessions_survive_a_restart_with_a_key_and_only_then() {
    let with_key = r#"{"settings":{"sessionKey":"0123456789abcdef0123456789abcdef"}}"#;
    let server = TestServer::with(with_key).await;
    let mut admin = server.admin().await;
    let server = server.restart(with_key).await;
    admin.address = server.address;
    admin.origin = Some(format!("https://{}", server.address));
    assert_eq!(admin.get("/api/bootstrap").await.json()["user"]["name"], "Admin");
    let server = server.restart("{}").await;
    admin.address = server.address;
    assert!(admin.get("/api/bootstrap").await.json()["user"].is_null());
}

#[tokio::test]
async fn a_revoked_session_ends_at_once_and_stays_ended() {
    let with_key = r#"{"settings":{"sessionKey":"0123456789abcdef0123456789abcdef"}}"#;
    let server = TestServer::with(with_key).await;
    let here = server.admin().await;
    let mut there = Browser::new(server.address);
    there.login("Admin", PASSWORD).await;
    let mut open_there = there.control().await;
    let mut control = here.control().await;
    let sessions = control.ask(json!({ "action": "websessions" })).await;
    let sessions = sessions["sessions"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    let other = sessions.iter().find(|session| session["current"] == false).unwrap();
    let unknown = control.ask(json!({ "action": "revokewebsession", "id": "x" })).await;
    assert_eq!(unknown["result"], "Unknown session");
    let revoked = control.ask(json!({ "action": "revokewebsession", "id": other["id"] })).await;
    assert_eq!(revoked["result"], "ok");
    while let Some(message) = open_there.try_next().await {
        if message["action"] == "close" {
            break;
        }
    }
    assert!(there.get("/api/bootstrap").await.json()["user"].is_null());
    let server = server.restart(with_key).await;
    there.address = server.address;
    assert!(there.get("/api/bootstrap").await.json()["user"].is_null(), "also after a restart");
}

#[tokio::test]
async fn changing_the_password_ends_the_other_sessions() {
    let server = TestServer::start().await;
    let mut here = server.admin().await;
    let mut there = Browser::new(server.address);
    there.login("Admin", PASSWORD).await;
    let mut control = here.control().await;
    let wrong = control
        .ask(json!({ "action": "changepassword", "oldpass": "x", "newpass": "another password" }))
        .await;
    assert_eq!(wrong["field"], "oldpass");
    let short = control.ask(json!({ "action": "changepassword", "oldpass": PASSWORD, "newpass": "x" })).await;
    assert_eq!(short["field"], "newpass");
    let done = control
        .ask(json!({ "action": "changepassword", "oldpass": PASSWORD, "newpass": "another password" }))
        .await;
    assert_eq!(done["result"], "ok");
    assert!(there.get("/api/bootstrap").await.json()["user"].is_null());
    assert_eq!(here.get("/api/bootstrap").await.json()["user"]["name"], "Admin");
    assert_eq!(there.login("Admin", PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(there.login("Admin", "another password").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_password_change_also_ends_sessions_from_before_a_restart() {
    let with_key = r#"{"settings":{"sessionKey":"0123456789abcdef0123456789abcdef"}}"#;
    let server = TestServer::with(with_key).await;
    let mut here = server.admin().await;
    let mut stolen = Browser::new(server.address);
    stolen.login("Admin", PASSWORD).await;
    let server = server.restart(with_key).await;
    for browser in [&mut here, &mut stolen] {
        browser.address = server.address;
        browser.origin = Some(format!("https://{}", server.address));
    }
    // The other session has not been heard of since the restart, so no list has it.
    let changed = here
        .control()
        .await
        .ask(json!({ "action": "changepassword", "oldpass": PASSWORD, "newpass": "another password" }))
        .await;
    assert_eq!(changed["result"], "ok");
    assert!(stolen.get("/api/bootstrap").await.json()["user"].is_null());
    assert_eq!(here.get("/api/bootstrap").await.json()["user"]["name"], "Admin");
}

#[tokio::test]
async fn an_account_that_must_change_its_password_gets_in_only_with_a_new_one() {
    let server = TestServer::start().await;
    let mut control = server.admin().await.control().await;
    server.member(&mut control, "bob").await;
    let asked = control.ask(json!({ "action": "edituser", "userid": "bob", "resetNextLogin": true })).await;
    assert_eq!(asked["result"], "ok");
    let mut bob = Browser::new(server.address);
    let refused = bob.login("bob", PASSWORD).await;
    assert_eq!(refused.json()["error"]["code"], "password-change");
    let with = |new: &str| json!({ "username": "bob", "password": PASSWORD, "newPassword": new });
    let same = bob.post("/api/login", with(PASSWORD)).await;
    assert_eq!(same.json()["error"]["field"], "newPassword");
    assert_eq!(bob.post("/api/login", with("abc")).await.json()["error"]["field"], "newPassword");
    assert_eq!(bob.post("/api/login", with("a better password")).await.status, StatusCode::OK);
    assert_eq!(bob.login("bob", "a better password").await.status, StatusCode::OK);
}

#[tokio::test]
async fn logging_out_and_locking_close_open_pages() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let mut control = admin.control().await;
    let mut bob = server.member(&mut control, "bob").await;
    let mut bobs = bob.control().await;
    assert_eq!(bob.post("/api/logout", json!({})).await.status, StatusCode::NO_CONTENT);
    while bobs.try_next().await.is_some() {}
    bob.login("bob", PASSWORD).await;
    let mut bobs = bob.control().await;
    let locked = control.ask(json!({ "action": "edituser", "userid": "bob", "siteadmin": 32 })).await;
    assert_eq!(locked["result"], "ok");
    while bobs.try_next().await.is_some() {}
    let refused = Browser::new(server.address).login("bob", PASSWORD).await;
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].clone()),
        (StatusCode::FORBIDDEN, json!("locked"))
    );
}

#[tokio::test]
async fn pages_of_other_servers_can_do_nothing_with_the_cookie() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let mut evil = admin.clone();
    evil.origin = Some("https://evil.example".into());
    let login = evil.post("/api/login", json!({ "username": "Admin", "password": PASSWORD })).await;
    assert_eq!(login.status, StatusCode::FORBIDDEN);
    let mut socket = evil.socket("/control.ashx").await.unwrap();
    let first = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(first.as_text().unwrap()).unwrap()["msg"],
        "invalidorigin"
    );
    // Without an origin at all the cookie does not count either: a page always has one.
    let mut none = admin.clone();
    none.origin = None;
    let mut socket = none.socket("/control.ashx").await.unwrap();
    let first = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
    assert!(first.as_text().unwrap().contains("noauth"));
    assert!(evil.socket("/meshrelay.ashx?id=x&p=1&nodeid=y").await.is_err());
}

#[tokio::test]
async fn tools_log_in_with_a_header_a_query_or_a_cookie() {
    use base64::Engine as _;
    let server = TestServer::start().await;
    server.admin().await;
    let b64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let header = |password: &str| [("x-meshauth", format!("{},{}", b64("Admin"), b64(password)))];
    let first = |socket: tokio_websockets::WebSocketStream<crate::world::Tls>| async move {
        let mut socket = socket;
        let message = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(message.as_text().unwrap()).unwrap()
    };
    let good = socket(server.address, "/control.ashx", &header(PASSWORD)).await.unwrap();
    assert_eq!(first(good).await["action"], "serverinfo");
    let bad = socket(server.address, "/control.ashx", &header("wrong")).await.unwrap();
    assert_eq!(first(bad).await["msg"], "noauth-2d");
    let none = socket(server.address, "/control.ashx", &[]).await.unwrap();
    assert_eq!(first(none).await, json!({ "action": "close", "cause": "noauth", "msg": "noauth" }));
    let user = server.site().store.directory().users().next().unwrap().id.clone();
    let claims = json!({ "userid": user, "domainid": "" });
    let cookie =
        outpost_wire::cookie::seal(&server.site().keys.login, &claims, outpost::clock::now_seconds());
    // As `meshctrl` writes it: a second query inside the value.
    let by_cookie =
        socket(server.address, &format!("/control.ashx?auth={cookie}?auth=x"), &[]).await.unwrap();
    assert_eq!(first(by_cookie).await["action"], "serverinfo");
    let stale =
        outpost_wire::cookie::seal(&server.site().keys.login, &claims, outpost::clock::now_seconds() - 7200);
    let stale = socket(server.address, &format!("/control.ashx?auth={stale}"), &[]).await.unwrap();
    assert_eq!(first(stale).await["msg"], "noauth");
}

#[tokio::test]
async fn every_page_carries_the_headers_that_keep_scripts_out() {
    let server = TestServer::start().await;
    let mut browser = Browser::new(server.address);
    for path in ["/", "/app/devices", "/nothing", "/api/bootstrap", "/agentinvite?c=x"] {
        let answer = browser.get(path).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["x-frame-options"], "sameorigin", "{path}");
    }
}

#[tokio::test]
async fn unknown_actions_and_bad_fields_are_named() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let mut control: Control = admin.control().await;
    let answer = control.ask(json!({ "action": "makecoffee" })).await;
    assert_eq!(answer["result"], "Unknown action `makecoffee`");
    let answer = control.ask(json!({ "action": "createmesh", "meshname": 7 })).await;
    assert!(
        answer["result"].as_str().unwrap().starts_with("createmesh: field `meshname`: invalid type"),
        "{answer}"
    );
    let answer = control.ask(json!({ "action": "deleteuser" })).await;
    assert_eq!(answer["result"], "deleteuser: missing field `userid`");
    control.send(json!([1])).await;
    assert_eq!(control.next().await["result"], "expected a JSON object");
    control.send(json!({ "action": "ping" })).await;
    assert_eq!(control.next().await, json!({ "action": "pong" }));
}
