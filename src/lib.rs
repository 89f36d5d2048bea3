//! Outpost: a remote-management server that lives in a small box.
