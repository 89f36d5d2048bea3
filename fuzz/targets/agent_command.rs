//! Binary commands of an agent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outpost_wire::{
    command::{AgentCommand, MAX_TAG},
    text::is_line,
};

fuzz_target!(|data: &[u8]| {
    let Ok(command) = AgentCommand::decode(data) else { return };
    match &command {
        AgentCommand::Tag(tag) => assert!(tag.len() <= MAX_TAG && tag.last() != Some(&0)),
        AgentCommand::CommitDate(text) | AgentCommand::HostInfo(text) => {
            assert!(is_line(text) && text.len() <= 1024);
        }
        _ => {}
    }
    assert_eq!(AgentCommand::decode(&command.encode()).unwrap(), command);
});
