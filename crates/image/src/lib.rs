//! CRIU image model: framing, magics, messages and the directory store.
//!
//! * [`proto`]: the messages.
//! * [`name`]: which file holds which messages, and how it begins ([`magic`]).
//! * [`framing`]: a file as a sequence of messages.
//! * [`store`]: a directory of files; [`NewDump`] writes one, [`ImageDir`] reads it.
//! * [`pagemap`]: where the contents of a page are, through a chain of directories.
//! * [`mod@describe`]: what a dump holds, for people.
//!
//! Nothing here needs a kernel beyond file I/O, and nothing here judges values: that the messages
//! make sense together is for those who restore from them.
#![forbid(unsafe_code)]

pub mod describe;
pub mod error;
pub mod framing;
pub mod magic;
pub mod name;
pub mod pagemap;
pub mod proto;
pub mod store;

pub use error::{ImageError, Problem};
pub use name::ImageName;
pub use store::{DumpPlace, ImageDir, NewDump, Writer};
