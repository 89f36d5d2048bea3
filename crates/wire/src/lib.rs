//! Every byte that crosses a wire, without any I/O.
//!
//! The server, the agent, the tests and the fuzzer share these parsers and state machines. Nothing in
//! here opens a socket, reads a clock or starts a thread: bytes and the time come in, bytes and typed
//! values go out. Everything that parses bytes of a peer takes them as hostile: lengths are limited, and
//! a refusal says which field was wrong.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod arch;
pub mod command;
pub mod cookie;
mod der;
pub mod desktop;
pub mod discovery;
pub mod files;
pub mod handshake;
pub mod id;
mod json;
pub mod message;
pub mod msh;
pub mod random;
pub mod recording;
pub mod text;
pub mod tunnel;
pub mod websocket;
pub mod zip;
