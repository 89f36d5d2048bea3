//! Binary commands of a server.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::command::{MAX_CORE, MAX_UPDATE_BLOCK, ServerCommand};

fuzz_target!(|data: &[u8]| {
    let Ok(command) = ServerCommand::decode(data) else { return };
    match &command {
        ServerCommand::InstallCore { core, .. } => assert!(core.len() <= MAX_CORE),
        ServerCommand::UpdateBlock(block) => assert!((1..=MAX_UPDATE_BLOCK).contains(&block.len())),
        _ => {}
    }
    assert_eq!(ServerCommand::decode(&command.encode()).unwrap(), command);
});
