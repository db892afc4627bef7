//! Real files of this process, taken through images and made anew.
#![allow(clippy::unwrap_used)]

mod epoll;
mod eventfd;
mod fifo;
mod memfd;
mod path;
mod pipe;
mod round_trip;
mod sharing;
mod unlinked;
