//! What agents say and ask at devices: the domain's words and rules, whoever starts the session.

use serde_json::json;

use crate::relays::{device, encoded, request};
use crate::world::{Browser, TestServer, socket};

#[tokio::test]
async fn agents_are_given_the_words_of_the_domain_and_no_viewers() {
    let config = json!({ "domains": { "": {
        "consentMessages": {
            "title": "Help desk", "desktop": "{0} wants to see this screen", "terminal": "A shell for {1}?",
            "files": "Files for {0}?", "consentTimeout": 45, "autoAcceptOnTimeout": true,
            "autoAcceptIfFileNoUser": true, "oldStyle": false,
        },
        "notificationMessages": { "title": "Notice", "desktop": "{0} watches", "files": "{0} has the files" },
    } } });
    let server = TestServer::with(&config.to_string()).await;
    let mut device = device(&server).await;
    let wanted = json!({
        "consentTitle": "Help desk", "consentMsgDesktop": "{0} wants to see this screen",
        "consentMsgTerminal": "A shell for {1}?", "consentMsgFiles": "Files for {0}?", "consentTimeout": 45,
        "consentAutoAccept": true, "consentAutoAcceptIfFileNoUser": true,
        "notifyTitle": "Notice", "notifyMsgDesktop": "{0} watches", "notifyMsgFiles": "{0} has the files",
    });
    // The viewer's own words are left out.
    let own = json!({ "consentAutoAcceptIfNoUser": true, "consentTitle": "Nothing to see" });
    let ask = json!({
        "action": "msg", "type": "tunnel", "nodeid": device.id, "soptions": own,
        "value": format!("*/meshrelay.ashx?p=2&nodeid={}&id=words", device.id),
    });
    assert_eq!(device.control.ask(ask).await["result"], "OK");
    assert_eq!(request(&mut device.agent).await["soptions"], wanted);

    // A session that the server starts, and a guest's, which has its limits beside them.
    let path = format!("/meshrelay.ashx?nodeid={}&tcpport=22", encoded(&device.id));
    let _viewer = device.browser.socket(&path).await.expect("a half");
    assert_eq!(request(&mut device.agent).await["soptions"], wanted);
    let share = json!({
        "action": "createDeviceShareLink", "nodeid": device.id, "guestname": "Eve", "p": 2, "consent": 8, "expire": 0,
    });
    let made = device.control.ask(share).await;
    let link = made["url"].as_str().unwrap().split("?c=").nth(1).unwrap().to_owned();
    let shared = Browser::new(server.address).get(&format!("/api/share?c={link}")).await.json();
    let path = format!("/meshrelay.ashx?browser=1&p=2&auth={}", shared["auth"].as_str().unwrap());
    let _guest = socket(server.address, &path, &[]).await.expect("a half");
    let mut limited = wanted.clone();
    limited["usages"] = json!([2]);
    assert_eq!(request(&mut device.agent).await["soptions"], limited);

    let toast = json!({ "action": "toast", "nodeids": [device.id], "msg": "Coffee" });
    device.control.ask(toast).await;
    assert_eq!(device.agent.told("toast").await["title"], "Notice");
}
