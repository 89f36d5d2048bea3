//! People's files on the server: "my files" of a user and the folder of a device group
//! (control-protocol §7, data-formats §9), and the room that files take.

mod name;
mod room;
mod shelf;

pub use name::{FileName, NameError};
pub use room::{Room, Share};
pub use shelf::{Edit, FileError, Owner, PUBLIC, Place, Shelf, Upload};
