//! Images of a real CRIU, damaged images, directories of images.

#![allow(clippy::unwrap_used)]

mod describe;
mod golden;
mod hostile;
mod store;
mod support;
mod wire;
