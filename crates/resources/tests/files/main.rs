//! Real files of this process, taken through images and made anew.
#![allow(clippy::unwrap_used)]

mod contract;
mod epoll;
mod eventfd;
mod fifo;
mod inherit;
mod memfd;
mod path;
mod pipe;
mod round_trip;
mod sharing;
mod unlinked;
mod zoo;
