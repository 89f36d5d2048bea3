//! Settings files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::msh::{MAX_MSH, Msh, ServerAddress};

fuzz_target!(|text: &str| {
    let Ok(msh) = Msh::parse(text) else { return };
    let written = msh.to_string();
    if written.len() <= MAX_MSH {
        assert_eq!(Msh::parse(&written).unwrap(), msh);
    }
    let _ = (msh.group_id(), msh.server_id(), msh.discovery_key(), msh.tls_hash());
    for server in msh.servers().unwrap_or_default() {
        if let ServerAddress::Url(url) = server.address {
            assert!(url.starts_with("ws") && url.bytes().all(|b| b.is_ascii_graphic()));
        }
    }
    // Whatever a key and a value are, they stay one line.
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let mut one = Msh::default();
    one.push(key, value);
    assert!(one.to_string().len() > MAX_MSH || Msh::parse(&one.to_string()).unwrap().entries.len() <= 1);
});
