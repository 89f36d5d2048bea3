//! Desktop sessions on a real X server (Xvfb).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outpost_wire::message::FromAgent;
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, InputFocus, Rectangle, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;

use crate::connected;
use crate::server::{PATIENCE, Tunnel};

/// Size of the screen: no multiple of a tile.
const SIZE: (u16, u16) = (500, 330);

/// An X server of the test's own.
struct XServer {
    process: Child,
    name: String,
}

impl XServer {
    fn start() -> XServer {
        let screen = format!("{}x{}x24", SIZE.0, SIZE.1);
        let mut process = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", &screen, "-nolisten", "tcp", "-noreset"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed (Debian: xvfb)");
        let mut number = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut number).expect("a number");
        XServer { process, name: format!(":{}", number.trim()) }
    }
}

impl Drop for XServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program on it: one window over the whole screen that notes what it is told.
struct Program {
    connection: RustConnection,
    window: Window,
    gc: u32,
}

impl Program {
    fn start(server: &XServer) -> Program {
        let (connection, number) = RustConnection::connect(Some(&server.name)).expect("connected");
        let screen = &connection.setup().roots[number];
        let (window, gc) =
            (connection.generate_id().expect("an id"), connection.generate_id().expect("an id"));
        let events = EventMask::KEY_PRESS
            | EventMask::KEY_RELEASE
            | EventMask::BUTTON_PRESS
            | EventMask::BUTTON_RELEASE
            | EventMask::EXPOSURE;
        let look = CreateWindowAux::new().background_pixel(0).event_mask(events).override_redirect(1);
        connection
            .create_window(
                0,
                window,
                screen.root,
                0,
                0,
                SIZE.0,
                SIZE.1,
                0,
                WindowClass::INPUT_OUTPUT,
                0,
                &look,
            )
            .expect("sent");
        connection.create_gc(gc, window, &CreateGCAux::new()).expect("sent");
        connection.map_window(window).expect("sent");
        connection.flush().expect("sent");
        loop {
            if matches!(connection.wait_for_event().expect("an event"), Event::Expose(_)) {
                break;
            }
        }
        connection.set_input_focus(InputFocus::PARENT, window, x11rb::CURRENT_TIME).expect("sent");
        connection.flush().expect("sent");
        Program { connection, window, gc }
    }

    fn paint(&self, colour: u32, x: i16, y: i16, width: u16, height: u16) {
        self.connection
            .change_gc(self.gc, &x11rb::protocol::xproto::ChangeGCAux::new().foreground(colour))
            .expect("sent");
        let part = Rectangle { x, y, width, height };
        self.connection.poly_fill_rectangle(self.window, self.gc, &[part]).expect("sent");
        self.connection.flush().expect("sent");
    }

    /// The next events but exposures, as many as asked for.
    async fn heard(&self, count: usize) -> Vec<Event> {
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while heard.len() < count {
            match self.connection.poll_for_event().expect("connected") {
                Some(Event::Expose(_) | Event::MappingNotify(_)) => {}
                Some(event) => heard.push(event),
                None => {
                    assert!(std::time::Instant::now() < deadline, "only {heard:?}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        heard
    }

    /// The symbol that a key number has now without Shift.
    fn symbol(&self, key: u8) -> u32 {
        self.connection.get_keyboard_mapping(key, 1).expect("sent").reply().expect("a mapping").keysyms[0]
    }
}

/// What a viewer has on its canvas.
struct Canvas {
    size: (usize, usize),
    pixels: Vec<[u8; 3]>,
    pictures: usize,
}

impl Canvas {
    fn new() -> Canvas {
        Canvas { size: (0, 0), pixels: Vec::new(), pictures: 0 }
    }

    fn take(&mut self, frame: &[u8]) {
        let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        match word(0) {
            7 => {
                self.size = (word(4), word(6));
                self.pixels = vec![[1, 2, 3]; self.size.0 * self.size.1];
            }
            3 => self.draw(word(4), word(6), &frame[8..]),
            27 => self.draw(word(12), word(14), &frame[16..]),
            _ => {}
        }
    }

    fn draw(&mut self, x: usize, y: usize, image: &[u8]) {
        let mut decoder = jpeg_decoder::Decoder::new(image);
        let pixels = decoder.decode().expect("a JPEG picture");
        let info = decoder.info().expect("its head");
        let (width, height) = (usize::from(info.width), usize::from(info.height));
        assert!(x + width <= self.size.0 && y + height <= self.size.1, "{width}x{height} at {x},{y}");
        for (number, pixel) in pixels.as_chunks::<3>().0.iter().enumerate() {
            self.pixels[(y + number / width) * self.size.0 + x + number % width] = *pixel;
        }
        self.pictures += 1;
    }

    fn shows(&self, colour: u32, x: usize, y: usize) -> bool {
        let [_, r, g, b] = colour.to_be_bytes();
        let near = |a: u8, b: u8| a.abs_diff(b) < 24;
        let [pr, pg, pb] = self.pixels[y * self.size.0 + x];
        near(pr, r) && near(pg, g) && near(pb, b)
    }
}

/// Takes frames until the canvas is as wanted.
async fn until(tunnel: &mut Tunnel, canvas: &mut Canvas, wanted: impl Fn(&Canvas) -> bool) {
    while !wanted(canvas) {
        let message = tunnel.next().await.expect("the session goes on");
        if message.is_binary() {
            canvas.take(message.as_payload());
        }
    }
}

const OPTIONS: &str = r#"{"type":"options"}"#;
const FAST: &[u8] = &[0, 5, 0, 10, 1, 90, 4, 0, 0, 20];

#[tokio::test]
async fn a_screen_is_shown_as_it_changes_and_costs_nothing_while_it_does_not() {
    let x = XServer::start();
    let program = Program::start(&x);
    program.paint(0x00_C8_20_20, 0, 0, SIZE.0, SIZE.1);
    let (mut server, mut agent, _running) = connected(&[("Display", &x.name)]).await;
    let info = agent
        .wait_for(|message| if let FromAgent::CoreInfo(info) = message { Some(info) } else { None })
        .await;
    assert_eq!(info.caps, Some(7), "a desktop is offered");
    agent.ask_tunnel(8, 0).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(OPTIONS, "2").await;
    tunnel.bytes(FAST).await;
    let mut canvas = Canvas::new();
    until(&mut tunnel, &mut canvas, |canvas| {
        canvas.size == (500, 330) && canvas.shows(0xC82020, 0, 0) && canvas.shows(0xC82020, 499, 329)
    })
    .await;

    // Only what changed is sent.
    let before = canvas.pictures;
    program.paint(0x00_10_A0_40, 40, 40, 20, 20);
    until(&mut tunnel, &mut canvas, |canvas| canvas.shows(0x10A040, 50, 50)).await;
    assert!(canvas.shows(0xC82020, 5, 5) && canvas.shows(0xC82020, 400, 300));
    assert!(canvas.pictures - before <= 2, "{} pictures for one tile", canvas.pictures - before);

    // Nothing happens: nothing is sent.
    tokio::time::sleep(Duration::from_millis(300)).await;
    while tokio::time::timeout(Duration::from_millis(50), tunnel.next()).await.is_ok() {}
    let quiet = tokio::time::timeout(Duration::from_secs(1), tunnel.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");

    // Half the size, all of it again.
    tunnel.bytes(&[0, 5, 0, 10, 1, 90, 2, 0, 0, 20]).await;
    until(&mut tunnel, &mut canvas, |canvas| canvas.size == (250, 165) && canvas.shows(0x10A040, 25, 25))
        .await;
    assert!(canvas.shows(0xC82020, 249, 164));

    // A second viewer shares the screen, and both are told of each other.
    agent.ask_tunnel(8, 0).await;
    let mut second = server.tunnel().await;
    second.begin(OPTIONS, "2").await;
    let mut other = Canvas::new();
    until(&mut second, &mut other, |canvas| canvas.size == (500, 330) && canvas.shows(0x10A040, 50, 50))
        .await;
    let told = async {
        loop {
            let message = tunnel.next().await.expect("the session goes on");
            if message.as_text().is_some_and(|text| text.contains("metadata") && text.contains(":2")) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("both are counted");
    // Somebody ends the X server: the session waits for the next one and says so.
    drop(program);
    drop(x);
    let told = async {
        loop {
            let message = second.next().await.expect("the session goes on");
            if message.as_text().is_some_and(|text| text.contains("Waiting")) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told");
}

#[tokio::test]
async fn keys_and_pointer_arrive_as_they_were_meant() {
    let x = XServer::start();
    let program = Program::start(&x);
    let (mut server, mut agent, _running) = connected(&[("Display", &x.name)]).await;
    agent.ask_tunnel(8, 0).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(OPTIONS, "2").await;
    let mut canvas = Canvas::new();
    until(&mut tunnel, &mut canvas, |canvas| canvas.pictures > 0).await;

    // Pointer, button, wheel.
    tunnel.bytes(&[0, 2, 0, 10, 0, 2, 0, 100, 0, 60]).await;
    tunnel.bytes(&[0, 2, 0, 10, 0, 4, 0, 100, 0, 60]).await;
    tunnel.bytes(&[0, 2, 0, 12, 0, 0, 0, 100, 0, 60, 0, 120]).await;
    let clicks: Vec<_> = program
        .heard(4)
        .await
        .into_iter()
        .map(|event| match event {
            Event::ButtonPress(click) => (true, click.detail, click.event_x, click.event_y),
            Event::ButtonRelease(click) => (false, click.detail, click.event_x, click.event_y),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(clicks, [(true, 1, 100, 60), (false, 1, 100, 60), (true, 4, 100, 60), (false, 4, 100, 60)]);

    // A key by its number, down and up.
    for action in [0, 1] {
        tunnel.bytes(&[0, 1, 0, 6, action, 0x41]).await;
    }
    let keys = program.heard(2).await;
    let [Event::KeyPress(down), Event::KeyRelease(up)] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!((program.symbol(down.detail), up.detail), (u32::from('a'), down.detail));

    // Characters: shifted, and one that no keyboard has.
    for (unit, symbol, shifted) in [(0x42u16, u32::from('b'), true), (0x2603, 0x0100_2603, false)] {
        let [high, low] = unit.to_be_bytes();
        tunnel.bytes(&[0, 85, 0, 7, 0, high, low]).await;
        tunnel.bytes(&[0, 85, 0, 7, 1, high, low]).await;
        let keys = program.heard(if shifted { 4 } else { 2 }).await;
        let Event::KeyPress(key) = &keys[usize::from(shifted)] else { panic!("{keys:?}") };
        assert_eq!(program.symbol(key.detail), symbol);
        assert_eq!(u16::from(key.state) & 1 == 1, shifted);
    }

    // What is held when the viewer leaves is let go.
    tunnel.bytes(&[0, 1, 0, 6, 0, 0x10]).await;
    let held = program.heard(1).await;
    let [Event::KeyPress(shift)] = &held[..] else { panic!("{held:?}") };
    drop(tunnel);
    let let_go = program.heard(1).await;
    assert!(matches!(&let_go[..], [Event::KeyRelease(key)] if key.detail == shift.detail), "{let_go:?}");
}

#[tokio::test]
async fn whoever_may_only_look_touches_nothing() {
    let x = XServer::start();
    let program = Program::start(&x);
    let (mut server, mut agent, _running) = connected(&[("Display", &x.name)]).await;
    for rights in [0x100, 0x108] {
        agent.ask_tunnel(rights, 0).await;
        let mut tunnel = server.tunnel().await;
        tunnel.begin(OPTIONS, "2").await;
        let mut canvas = Canvas::new();
        until(&mut tunnel, &mut canvas, |canvas| canvas.pictures > 0).await;
        tunnel.bytes(&[0, 1, 0, 6, 0, 0x41, 0, 1, 0, 6, 1, 0x41]).await;
        tunnel.bytes(&[0, 2, 0, 10, 0, 2, 0, 10, 0, 10]).await;
        // Looking still works: all of it again.
        let before = canvas.pictures;
        tunnel.bytes(&[0, 6, 0, 4]).await;
        until(&mut tunnel, &mut canvas, |canvas| canvas.pictures > before).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let heard = program.connection.poll_for_event().expect("connected");
    assert!(!matches!(heard, Some(Event::KeyPress(_) | Event::ButtonPress(_))), "{heard:?}");
    // Without any right, or where desktops are switched off, there is a reason instead.
    for (rights, display) in [(8 | 0x1_0000, x.name.as_str()), (0, x.name.as_str()), (8, "off"), (8, ":987")]
    {
        let (mut server, mut agent, _running) = connected(&[("Display", display)]).await;
        agent.ask_tunnel(rights, 0).await;
        let mut tunnel = server.tunnel().await;
        tunnel.begin(OPTIONS, "2").await;
        let reason = tunnel.next().await.expect("a reason");
        assert!(reason.as_text().is_some_and(|text| text.contains("console")), "{reason:?}");
        assert!(tunnel.next().await.is_none());
    }
}

/// Where the button that agrees is: the largest thing of its colour in the lower half of the screen.
fn agreeing_button(program: &Program) -> Option<(i16, i16)> {
    const COLOUR: [u8; 3] = [0x79, 0x4E, 0x1F];
    let root = program.connection.setup().roots[0].root;
    let format = x11rb::protocol::xproto::ImageFormat::Z_PIXMAP;
    let image = program.connection.get_image(format, root, 0, 0, SIZE.0, SIZE.1, !0).ok()?.reply().ok()?;
    let is = |x: usize, y: usize| image.data[(y * usize::from(SIZE.0) + x) * 4..][..3] == COLOUR;
    let (wide, high) = (usize::from(SIZE.0), usize::from(SIZE.1));
    let solid = |x: usize, y: usize| (0..6).all(|step| is(x + step, y) && is(x, y + step));
    for y in (high / 2..high - 8).rev() {
        if let Some(x) = (0..wide - 8).find(|x| solid(*x, y)) {
            return Some((x as i16 + 3, y as i16 + 3));
        }
    }
    None
}

#[tokio::test]
async fn whoever_sits_there_is_asked_first_and_their_word_counts() {
    use x11rb::protocol::xtest::ConnectionExt as _;
    let x = XServer::start();
    let program = Program::start(&x);
    program.paint(0x00_FF_FF_FF, 0, 0, SIZE.0, SIZE.1);
    let (mut server, mut agent, _running) = connected(&[("Display", &x.name)]).await;
    let click = |at: (i16, i16)| {
        let root = program.connection.setup().roots[0].root;
        for (kind, detail) in [(6u8, 0u8), (4, 1), (5, 1)] {
            program.connection.xtest_fake_input(kind, detail, 0, root, at.0, at.1, 0).expect("sent");
        }
        program.connection.flush().expect("sent");
    };
    let escape = || {
        for kind in [2u8, 3] {
            let root = program.connection.setup().roots[0].root;
            program.connection.xtest_fake_input(kind, 9, 0, root, 0, 0, 0).expect("sent");
        }
        program.connection.flush().expect("sent");
    };
    for agrees in [true, false] {
        agent.ask_tunnel(8, 16).await;
        let mut tunnel = server.tunnel().await;
        tunnel.begin(OPTIONS, "1").await;
        let waiting = tunnel.next().await.expect("it is told");
        assert!(waiting.as_text().is_some_and(|text| text.contains("\"msgid\":1")), "{waiting:?}");
        // Not a byte of the shell before the answer.
        let quiet = tokio::time::timeout(Duration::from_millis(800), tunnel.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        let button = agreeing_button(&program).expect("a dialog with a button that agrees");
        // A click right after the dialog came is passed over, so there are several.
        let act = || {
            if agrees {
                click(button);
            } else {
                // The pointer decides where keys go.
                click((button.0, button.1 - 40));
                escape();
            }
        };
        let answer = loop {
            act();
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(400), tunnel.next()).await {
                break answer;
            }
        };
        if agrees {
            let cleared = answer.expect("it is told");
            assert!(cleared.as_text().is_some_and(|text| text.contains("\"msg\":null")), "{cleared:?}");
            tunnel.type_in("echo re''ady\r").await;
            tunnel.read_until("ready").await;
        } else {
            let refused = answer.expect("a reason");
            assert!(refused.as_text().is_some_and(|text| text.contains("refused")), "{refused:?}");
            assert!(tunnel.next().await.is_none());
        }
        let number = if agrees { 27 } else { 28 };
        agent
            .wait_for(|message| match message {
                FromAgent::Log(log) if log.msgid == Some(number) => Some(()),
                _ => None,
            })
            .await;
    }
    // Who asked goes away: the question does too.
    agent.ask_tunnel(8, 16).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(OPTIONS, "1").await;
    tunnel.next().await.expect("it is told");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(agreeing_button(&program).is_some());
    drop(tunnel);
    let deadline = std::time::Instant::now() + PATIENCE;
    while agreeing_button(&program).is_some() {
        assert!(std::time::Instant::now() < deadline, "the question stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A message is shown to them, too.
    let message = outpost_wire::message::ServerMsgBody::MessageBox {
        title: "Lunch".into(),
        msg: "is ready".into(),
        timeout: Some(60_000),
    };
    agent.send(&crate::server::user_message(8, 0, message)).await;
    agent
        .wait_for(|message| match message {
            FromAgent::Log(log) if log.msgid == Some(18) => Some(()),
            _ => None,
        })
        .await;
}

/// Where the button of the bar is: its colour at the upper edge, from the right.
fn bar_button(program: &Program) -> Option<(i16, i16)> {
    const COLOUR: [u8; 3] = [0x30, 0x30, 0xB0];
    let root = program.connection.setup().roots[0].root;
    let format = x11rb::protocol::xproto::ImageFormat::Z_PIXMAP;
    let image = program.connection.get_image(format, root, 0, 0, SIZE.0, 8, !0).ok()?.reply().ok()?;
    let is = |x: usize| image.data[(2 * usize::from(SIZE.0) + x) * 4..][..3] == COLOUR;
    (0..usize::from(SIZE.0)).rev().find(|x| is(*x)).map(|x| (x as i16 - 2, 3))
}

#[tokio::test]
async fn a_bar_names_who_is_connected_and_closing_it_ends_their_sessions() {
    use x11rb::protocol::xtest::ConnectionExt as _;
    let x = XServer::start();
    let program = Program::start(&x);
    program.paint(0x00_FF_FF_FF, 0, 0, SIZE.0, SIZE.1);
    let (mut server, mut agent, _running) = connected(&[("Display", &x.name)]).await;
    let bar_is = |wanted: bool| {
        let program = &program;
        async move {
            let deadline = std::time::Instant::now() + PATIENCE;
            while bar_button(program).is_some() != wanted {
                assert!(std::time::Instant::now() < deadline, "a bar: {}", !wanted);
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
    };
    agent.ask_tunnel(8, 64).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(OPTIONS, "2").await;
    let mut canvas = Canvas::new();
    // It is part of the screen, so viewers see it too.
    until(&mut tunnel, &mut canvas, |canvas| canvas.pictures > 0 && canvas.shows(0x1F4E79, 250, 2)).await;
    bar_is(true).await;
    // Whoever has not the bit is not on it, and leaves it as it is.
    agent.ask_tunnel(8, 0).await;
    let mut other = server.tunnel().await;
    other.begin(OPTIONS, "2").await;
    let mut canvas = Canvas::new();
    until(&mut other, &mut canvas, |canvas| canvas.pictures > 0).await;
    // A session that ends takes its bar along.
    drop(tunnel);
    bar_is(false).await;
    agent.ask_tunnel(8, 64).await;
    let mut tunnel = server.tunnel().await;
    tunnel.begin(OPTIONS, "2").await;
    bar_is(true).await;
    let (x, y) = bar_button(&program).expect("its button");
    let root = program.connection.setup().roots[0].root;
    for (kind, detail) in [(6u8, 0u8), (4, 1), (5, 1)] {
        program.connection.xtest_fake_input(kind, detail, 0, root, x, y, 0).expect("sent");
    }
    program.connection.flush().expect("sent");
    let mut last = String::new();
    while let Some(message) = tunnel.next().await {
        if let Some(text) = message.as_text() {
            last = text.to_owned();
        }
    }
    assert!(last.contains("has ended the session"), "{last}");
    for number in [31, 29] {
        agent
            .wait_for(|message| match message {
                FromAgent::Log(log) if log.msgid == Some(number) => Some(()),
                _ => None,
            })
            .await;
    }
    bar_is(false).await;
    // The one that was not on it goes on.
    program.paint(0x00_10_A0_40, 40, 40, 20, 20);
    until(&mut other, &mut canvas, |canvas| canvas.shows(0x10A040, 50, 50)).await;
}

#[tokio::test]
async fn the_clipboard_goes_both_ways() {
    use outpost_wire::message::ServerMsgBody;
    let x = XServer::start();
    let (_server, mut agent, _running) = connected(&[("Display", &x.name)]).await;
    let text = "copied ☃\nsecond line";
    let set = ServerMsgBody::SetClip { data: text.into() };
    agent.send(&crate::server::user_message(8, 0, set)).await;
    let answer = |wanted: &'static str| {
        move |message| match message {
            FromAgent::Msg(message) if message.kind == wanted => Some(message),
            _ => None,
        }
    };
    agent.wait_for(answer("setclip")).await;
    // A program pastes it (Debian: xsel), and copies something of its own.
    let run = |arguments: &[&str], input: &str| {
        let mut process = Command::new("xsel")
            .args(arguments)
            .env("DISPLAY", &x.name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("xsel is installed");
        std::io::Write::write_all(&mut process.stdin.take().expect("piped"), input.as_bytes())
            .expect("written");
        String::from_utf8(process.wait_with_output().expect("it ends").stdout).expect("text")
    };
    assert_eq!(run(&["--clipboard", "--output"], ""), text);
    run(&["--clipboard", "--input"], "from the device");
    agent.send(&crate::server::user_message(8, 0, ServerMsgBody::GetClip { tag: None })).await;
    let got = agent.wait_for(answer("getclip")).await;
    assert_eq!(got.body.get("data"), Some(&serde_json::json!("from the device")));
}
