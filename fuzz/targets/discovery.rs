//! Datagrams on the local network.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::{
    discovery::{DiscoveryKey, Reply, Request, ScanReply, open, parse_request, query, scan, seal},
    text::is_line,
};

fuzz_target!(|data: &[u8]| {
    match parse_request(data) {
        Some(Request::Agent(id)) => assert!(query(&id).eq_ignore_ascii_case(data)),
        Some(Request::Scan) => assert_eq!(scan(), data),
        None => {}
    }
    if let Some(reply) = Reply::parse(data) {
        assert_eq!(reply.encode(), data);
        let url = reply.url(([10, 0, 0, 1], 16989).into());
        assert!(url.starts_with("ws") && url.bytes().all(|b| b.is_ascii_graphic()));
        assert!(!reply.url_template.contains("%s") || url.contains("10.0.0.1"));
    }
    if let Some(reply) = ScanReply::parse(data) {
        assert!(is_line(&reply.name) && is_line(&reply.info));
        let again = ScanReply::parse(&reply.encode()).unwrap();
        assert_eq!(again.reply, reply.reply);
        assert_eq!(again.encode(), reply.encode());
    }
    let key = DiscoveryKey::from_passphrase("key");
    let _ = open(&key, data);
    if data.len() < 1024 {
        assert_eq!(open(&key, &seal(&key, data)).unwrap(), data);
    }
});
