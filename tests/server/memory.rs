//! What a tunnel costs the server in memory when nobody reads any more: counted, not estimated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::json;
use tokio_websockets::{Config, Message};

use crate::relays::{Socket, device, dial, encoded, next, request};
use crate::world::{TestServer, sized_socket};

/// Counts what threads of a measured server hold; all others only pass through.
struct Counting;

thread_local! {
    static MEASURED: Cell<bool> = const { Cell::new(false) };
}

static HELD: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: isize) {
    if MEASURED.try_with(Cell::get).unwrap_or(false) {
        HELD.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system's allocator's work; this only counts.
#[allow(unsafe_code, reason = "allocations can be counted in an allocator only")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The issue's bound.
const MOST: isize = 256 << 10;
const TUNNELS: isize = 4;

/// Sends until nobody takes any more; how many messages went.
async fn flood(socket: &mut Socket, message: Message) -> usize {
    let mut sent = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), socket.send(message.clone())).await {
        sent += 1;
    }
    sent
}

#[test]
fn a_recorded_tunnel_that_is_stuck_both_ways_holds_no_more_than_its_share() {
    let build = |measured: bool| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || MEASURED.set(measured))
            .build()
            .unwrap()
    };
    let (servers, clients) = (build(true), build(false));
    let started =
        servers.spawn(async { TestServer::with(r#"{"domains":{"":{"sessionRecording":true}}}"#).await });
    clients.block_on(async {
        let server = started.await.unwrap();
        let mut device = device(&server).await;
        device.control.send(json!({ "action": "authcookie" })).await;
        let cookie = loop {
            let message = device.control.next().await;
            if message["action"] == "authcookie" {
                break message["cookie"].as_str().unwrap().to_owned();
            }
        };
        let (mut open, mut before) = (Vec::new(), 0);
        // What the server makes once for all tunnels is made with the first one, which is not counted.
        for n in 0..=TUNNELS {
            if n == 1 {
                before = HELD.load(Ordering::Relaxed);
            }
            let path = format!(
                "/meshrelay.ashx?browser=1&p=5&nodeid={}&id=m{n}&auth={}",
                encoded(&device.id),
                encoded(&cookie)
            );
            // Messages in two parts, which the server puts together on their way to the agent.
            let parts = Config::default().frame_size(33 << 10);
            let mut viewer = sized_socket(server.address, &path, &[], parts).await.expect("a half");
            let value = format!("*/meshrelay.ashx?p=5&nodeid={}&id=m{n}", device.id);
            let asked = json!({ "action": "msg", "type": "tunnel", "nodeid": device.id, "value": value });
            device.control.ask(asked).await;
            let mut agent = dial(&server, &request(&mut device.agent).await).await;
            assert_eq!(next(&mut viewer).await.as_text(), Some("cr"));
            assert_eq!(next(&mut agent).await.as_text(), Some("cr"));
            viewer.send(Message::text("5")).await.unwrap();
            let up = flood(&mut viewer, Message::binary(vec![7; 66 << 10]));
            let (up, down) = tokio::join!(up, flood(&mut agent, Message::binary(vec![9; 1 << 20])));
            assert!(up > 0 && down > 0, "{up} up, {down} down");
            open.push((viewer, agent));
        }
        let each = (HELD.load(Ordering::Relaxed) - before) / TUNNELS;
        assert!(each > 96 << 10, "it was not stuck: {each} bytes");
        assert!(each <= MOST, "{each} bytes a tunnel");
        drop(open);
    });
    servers.shutdown_background();
}
