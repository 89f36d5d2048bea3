//! Second factors, login tokens, login cookies, and the ways tools open a control socket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use hyper::StatusCode;
use outpost::clock;
use ring::signature;
use serde_json::{Value, json};
use tokio_websockets::{Message, WebSocketStream};
use totp_rs::{Algorithm, Secret, TOTP};

use crate::world::{Browser, Control, PASSWORD, TestServer, Tls, socket};

type Socket = WebSocketStream<Tls>;

async fn heard(socket: &mut Socket) -> Value {
    let message = socket.next().await.unwrap().unwrap();
    serde_json::from_str(message.as_text().expect("text")).unwrap()
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// The first message of a control socket that is opened so.
async fn opened(server: &TestServer, query: &str, headers: &[(&str, String)]) -> Value {
    let mut socket = socket(server.address, &format!("/control.ashx{query}"), headers).await.unwrap();
    heard(&mut socket).await
}

fn mesh_auth(parts: &[&str]) -> [(&'static str, String); 1] {
    let parts: Vec<String> = parts.iter().map(|part| STANDARD.encode(part)).collect();
    [("x-meshauth", parts.join(","))]
}

/// Sends a request that is answered without an id, and waits for the answer.
async fn asked(control: &mut Control, request: Value) -> Value {
    let action = request["action"].clone();
    control.send(request).await;
    loop {
        let message = control.next().await;
        if message["action"] == action {
            return message;
        }
    }
}

fn code(secret: &str, step: i64) -> String {
    let bytes = Secret::Encoded(secret.to_owned()).to_bytes().unwrap();
    let app = TOTP::new_unchecked(Algorithm::SHA1, 6, 0, 30, bytes);
    app.generate(u64::try_from(clock::now_seconds() + step * 30).unwrap())
}

/// An administrator with an authenticator app; returns its secret.
async fn with_app(server: &TestServer) -> (Browser, Control, String) {
    let browser = server.admin().await;
    let mut control = browser.control().await;
    let offered = asked(&mut control, json!({ "action": "otpauth-request" })).await;
    let secret = offered["secret"].as_str().unwrap().to_owned();
    assert!(offered["url"].as_str().unwrap().contains(&secret));
    let set_up = |token: String| json!({ "action": "otpauth-setup", "secret": secret, "token": token });
    let wrong = if code(&secret, 0) == "123456" { "654321" } else { "123456" };
    assert_eq!(asked(&mut control, set_up(wrong.into())).await["success"], false);
    assert_eq!(asked(&mut control, set_up(code(&secret, 0))).await["success"], true);
    (browser, control, secret)
}

#[tokio::test]
async fn a_second_factor_is_asked_for_everywhere() {
    let server = TestServer::start().await;
    let (mut browser, mut control, secret) = with_app(&server).await;
    let plain = json!({ "username": "Admin", "password": PASSWORD });
    let refused = browser.post("/api/login", plain.clone()).await;
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].clone()),
        (StatusCode::UNAUTHORIZED, json!("token-required"))
    );
    let mut with = plain.clone();
    with["token"] = "000000".into();
    assert_eq!(browser.post("/api/login", with.clone()).await.json()["error"]["code"], "bad-token");
    with["token"] = code(&secret, 0).into();
    with["remember"] = true.into();
    let good = browser.post("/api/login", with).await;
    assert_eq!(good.status, StatusCode::OK);
    let remembered = good.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
    let remembered = remembered.filter_map(|cookie| cookie.strip_prefix("twofactor=")).next().unwrap();
    let remembered = remembered.split(';').next().unwrap().to_owned();

    // Tools: a header with two parts is not enough, nor is a wrong third one; `?user=&pass=&token=` is the same.
    let refused = opened(&server, "", &mesh_auth(&["Admin", PASSWORD])).await;
    assert_eq!((refused["msg"].clone(), refused["email2fa"].clone()), (json!("tokenrequired"), json!(false)));
    assert_eq!(opened(&server, "", &mesh_auth(&["Admin", PASSWORD, "000000"])).await["msg"], "tokenrequired");
    assert_eq!(
        opened(&server, "", &mesh_auth(&["Admin", PASSWORD, "**email**"])).await["msg"],
        "tokenrequired"
    );
    assert_eq!(
        opened(&server, "", &mesh_auth(&["Admin", "wrong", &code(&secret, 0)])).await["msg"],
        "noauth-2d"
    );
    let query = |token: &str| {
        let pass: String = form_urlencoded::byte_serialize(PASSWORD.as_bytes()).collect();
        format!("?user=Admin&pass={pass}&token={token}")
    };
    assert_eq!(opened(&server, &query(&code(&secret, 1)), &[]).await["action"], "serverinfo");
    assert_eq!(
        opened(&server, "", &mesh_auth(&["Admin", PASSWORD, &code(&secret, 1)])).await["action"],
        "serverinfo"
    );
    let cookie = format!("cookie={remembered}");
    assert_eq!(opened(&server, "", &mesh_auth(&["Admin", PASSWORD, &cookie])).await["action"], "serverinfo");
    // What remembers a browser logs nobody in by itself.
    assert_eq!(opened(&server, &format!("?auth={remembered}"), &[]).await["msg"], "noauth");

    // Backup codes work once.
    let codes = asked(&mut control, json!({ "action": "otpauth-getpasswords", "subaction": 1 })).await;
    let backup = format!("{:0>8}", codes["passwords"][0]["p"].as_u64().unwrap());
    assert_eq!(codes["passwords"].as_array().unwrap().len(), 10);
    let backup = mesh_auth(&["Admin", PASSWORD, &backup]);
    assert_eq!(opened(&server, "", &backup).await["action"], "serverinfo");
    assert_eq!(opened(&server, "", &backup).await["msg"], "tokenrequired");
    let listed = asked(&mut control, json!({ "action": "otpauth-getpasswords" })).await;
    assert_eq!(listed["passwords"][0]["u"], false);

    // Without the app nothing more is asked, and the remembered browser is a stranger to the next app.
    assert_eq!(asked(&mut control, json!({ "action": "otpauth-clear" })).await["success"], true);
    assert_eq!(opened(&server, "", &mesh_auth(&["Admin", PASSWORD])).await["action"], "serverinfo");
}

#[tokio::test]
async fn guessing_codes_is_slowed_down() {
    let server = TestServer::start().await;
    let (mut browser, _control, secret) = with_app(&server).await;
    let login = |token: &str| json!({ "username": "Admin", "password": PASSWORD, "token": token });
    let mut codes = Vec::new();
    for guess in 0..8 {
        let answer = browser.post("/api/login", login(&format!("{guess:0>6}"))).await;
        codes.push(answer.json()["error"]["code"].as_str().unwrap().to_owned());
    }
    assert_eq!(codes.last().unwrap(), "too-many-attempts", "{codes:?}");
    let right = browser.post("/api/login", login(&code(&secret, 0))).await;
    assert_eq!(right.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_login_token_is_less_than_its_owner_and_ends_with_its_removal() {
    let server = TestServer::start().await;
    let (_, mut control, _) = with_app(&server).await;
    for (request, reason) in [
        (json!({ "name": "", "expire": 0 }), "Invalid name"),
        (json!({ "name": "x".repeat(101), "expire": 0 }), "Invalid name"),
        (json!({ "name": "x", "expire": -1 }), "Invalid expire value"),
        (json!({ "name": "x", "expire": "soon" }), "Invalid expire value"),
    ] {
        let mut request = request;
        request["action"] = "createLoginToken".into();
        assert_eq!(control.ask(request).await["result"], reason);
    }
    let make = |expire: u32| json!({ "action": "createLoginToken", "name": "backup job", "expire": expire });
    let token = asked(&mut control, make(0)).await;
    let (name, pass) = (token["tokenUser"].as_str().unwrap(), token["tokenPass"].as_str().unwrap());
    assert!(name.starts_with("~t:") && pass.len() == 20 && token["expire"] == 0);

    // It needs no second factor, is case-sensitive, and is the account, less what a tool must not change.
    assert_eq!(opened(&server, "", &mesh_auth(&[&name.to_uppercase(), pass])).await["msg"], "noauth-2d");
    assert_eq!(opened(&server, "", &mesh_auth(&[name, "guess"])).await["msg"], "noauth-2d");
    let mut tool = socket(server.address, "/control.ashx", &mesh_auth(&[name, pass])).await.unwrap();
    let info = heard(&mut tool).await;
    assert_ne!(info["serverinfo"]["features2"].as_u64().unwrap() & 0x100, 0);
    assert_eq!(heard(&mut tool).await["userinfo"]["_id"], "user//admin");
    for request in [
        make(0),
        json!({ "action": "loginTokens" }),
        json!({ "action": "otpauth-request" }),
        json!({ "action": "otpauth-clear" }),
        json!({ "action": "twoFactorCookie" }),
        json!({ "action": "changepassword", "oldpass": PASSWORD, "newpass": "another long password" }),
    ] {
        let mut request = request;
        let action = request["action"].clone();
        request["responseid"] = "r".into();
        say(&mut tool, request).await;
        let answer = loop {
            let message = heard(&mut tool).await;
            if message["action"] == action {
                break message;
            }
        };
        assert_eq!(answer["result"], "Access denied", "{action}");
    }
    // Neither does the cookie it obtains grow rights back.
    say(&mut tool, json!({ "action": "authcookie" })).await;
    let cookie = heard(&mut tool).await["cookie"].as_str().unwrap().to_owned();
    let again = opened(&server, &format!("?auth={cookie}"), &[]).await;
    assert_ne!(again["serverinfo"]["features2"].as_u64().unwrap() & 0x100, 0);

    let listed = asked(&mut control, json!({ "action": "loginTokens" })).await;
    assert_eq!(listed["loginTokens"][0]["tokenUser"], name);
    assert_eq!(listed["loginTokens"][0].get("hash"), None);
    let left = asked(&mut control, json!({ "action": "loginTokens", "remove": [name] })).await;
    assert_eq!(left["loginTokens"], json!([]));
    while let Some(Ok(message)) = tool.next().await {
        if message.is_close() {
            break;
        }
    }
    assert_eq!(opened(&server, "", &mesh_auth(&[name, pass])).await["msg"], "noauth-2d");
    assert_eq!(opened(&server, &format!("?auth={cookie}"), &[]).await["msg"], "noauth");
}

#[tokio::test]
async fn login_tokens_survive_a_restart_and_expire() {
    let server = TestServer::start().await;
    let browser = server.admin().await;
    let mut control = browser.control().await;
    let kept = asked(&mut control, json!({ "action": "createLoginToken", "name": "a", "expire": 0 })).await;
    let brief =
        asked(&mut control, json!({ "action": "createLoginToken", "name": "b", "expire": 0.05 })).await;
    let login = |token: &Value| {
        mesh_auth(&[token["tokenUser"].as_str().unwrap(), token["tokenPass"].as_str().unwrap()])
    };
    // A session of a token ends with it.
    let mut session = socket(server.address, "/control.ashx", &login(&brief)).await.unwrap();
    let last = loop {
        let message = heard(&mut session).await;
        if message["action"] == "close" {
            break message;
        }
    };
    assert_eq!(last["cause"], "expired");
    assert_eq!(opened(&server, "", &login(&brief)).await["msg"], "noauth-2d");
    drop(control);
    let server = server.restart("{}").await;
    assert_eq!(opened(&server, "", &login(&kept)).await["action"], "serverinfo");
}

#[tokio::test]
async fn cookies_for_one_thing_open_nothing_else() {
    let server = TestServer::start().await;
    server.admin().await;
    let keys = &server.site().keys;
    let now = clock::now_seconds();
    let user = "user//admin";
    let seal = |claims: Value, at: i64| outpost_wire::cookie::seal(&keys.login, &claims, at);
    let open = |cookie: String| {
        let server = &server;
        async move { opened(server, &format!("?auth={cookie}"), &[]).await["action"].clone() }
    };
    let login = json!({ "userid": user, "domainid": "" });
    assert_eq!(open(seal(login.clone(), now)).await, "serverinfo");
    assert_eq!(open(seal(json!({ "u": user, "a": 3 }), now)).await, "serverinfo");
    let truncated = {
        let text = seal(login.clone(), now);
        text[..text.len() - 5].to_owned()
    };
    let foreign = outpost_wire::cookie::seal(&outpost_wire::cookie::CookieKey::generate(), &login, now);
    let invitation = outpost_wire::cookie::seal(&keys.invitation, &login, now);
    for refused in [
        truncated,
        foreign,
        invitation,
        seal(login.clone(), now - 3601),
        seal(login.clone(), now + 60),
        seal(json!({ "userid": user }), now),
        seal(json!({ "userid": user, "domainid": "other" }), now),
        seal(json!({ "userid": "user//nobody", "domainid": "" }), now),
        seal(json!({ "userid": user, "domainid": "", "ip": "203.0.113.9" }), now),
        seal(json!({ "userid": user, "domainid": "", "nodeid": "node//x" }), now),
        seal(json!({ "userid": user, "domainid": "", "nid": "node//x", "pid": "x", "r": 8 }), now),
        seal(json!({ "ruserid": user, "x": "y" }), now),
        seal(json!({ "u": user, "a": 4 }), now),
        seal(json!({ "nouser": 1 }), now),
    ] {
        assert_eq!(open(refused.clone()).await, "close", "{refused}");
    }
    let once = seal(json!({ "userid": user, "domainid": "", "once": "abc" }), now);
    assert_eq!(open(once.clone()).await, "serverinfo");
    assert_eq!(open(once).await, "close", "replayed");

    // A link logs a browser in and does not stay in its address.
    let mut browser = Browser::new(server.address);
    let answer =
        browser.get(&format!("/?login={}&viewmode=10", seal(json!({ "u": user, "a": 3 }), now))).await;
    assert_eq!(
        (answer.status, answer.headers["location"].to_str().unwrap()),
        (StatusCode::FOUND, "/?viewmode=10")
    );
    assert_eq!(browser.get("/api/bootstrap").await.json()["user"]["_id"], user);
    let mut stranger = Browser::new(server.address);
    let answer = stranger.get("/?login=nonsense").await;
    assert_eq!((answer.status, stranger.cookie.clone()), (StatusCode::FOUND, None));
}

#[tokio::test]
async fn credentials_may_come_inside_the_socket() {
    let server = TestServer::start().await;
    server.admin().await;
    // As the first message, so that they do not stand in an address.
    let mut more = socket(server.address, "/control.ashx?moreargs=1", &[]).await.unwrap();
    say(&mut more, json!({ "action": "urlargs", "args": { "user": "Admin", "pass": PASSWORD } })).await;
    assert_eq!(heard(&mut more).await["action"], "serverinfo");
    let mut more = socket(server.address, "/control.ashx?moreargs=1", &[]).await.unwrap();
    say(&mut more, json!({ "action": "meshes" })).await;
    assert_eq!(heard(&mut more).await["msg"], "badargs");

    // After the server has proved which one it is.
    let identity = &server.site().identity;
    let star = [("x-meshauth", "*".to_owned())];
    let (cnonce, hash) = ([7u8; 48], identity.web.full_hash);
    let mut inner = socket(server.address, "/control.ashx", &star).await.unwrap();
    let ask = json!({ "action": "serverAuth", "cnonce": STANDARD.encode(cnonce), "tlshash": hash.to_hex().to_lowercase() });
    say(&mut inner, ask.clone()).await;
    let proof = heard(&mut inner).await;
    let bytes = |name: &str| STANDARD.decode(proof[name].as_str().unwrap()).unwrap();
    assert_eq!(bytes("cert"), identity.agent.certificate.to_vec());
    let signed = [&cnonce[..], &hash.0[..], &bytes("nonce")[..]].concat();
    let certificate = bytes("cert");
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    signature::UnparsedPublicKey::new(
        &signature::RSA_PKCS1_2048_8192_SHA384,
        &certificate.public_key().subject_public_key.data,
    )
    .verify(&signed, &bytes("signature"))
    .expect("the server's own signature");
    let who = |password: &str| json!({ "action": "userAuth", "username": STANDARD.encode("Admin"), "password": STANDARD.encode(password) });
    say(&mut inner, who(PASSWORD)).await;
    assert_eq!(heard(&mut inner).await["action"], "serverinfo");

    let mut wrong = socket(server.address, "/control.ashx", &star).await.unwrap();
    say(&mut wrong, ask).await;
    heard(&mut wrong).await;
    say(&mut wrong, who("wrong")).await;
    assert_eq!(heard(&mut wrong).await["msg"], "noauth-2c");
    let mut liar = socket(server.address, "/control.ashx", &star).await.unwrap();
    say(&mut liar, json!({ "action": "serverAuth", "cnonce": "AAAA", "tlshash": "00" })).await;
    assert_eq!(heard(&mut liar).await["msg"], "badtlscert");
}
