//! Reading epolls of this process.

use std::os::fd::AsFd as _;

use epoll_interest::{Events, Inspector};
use rustix::event::{EventfdFlags, epoll, eventfd};

#[test]
fn pending_and_consumed_edges_differ() {
    let mut inspector = Inspector::new().unwrap();
    let ep = epoll::create(epoll::CreateFlags::empty()).unwrap();
    let a = eventfd(1, EventfdFlags::empty()).unwrap();
    let b = eventfd(1, EventfdFlags::empty()).unwrap();
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&ep, &a, epoll::EventData::new_u64(7), flags).unwrap();
    let mut out = Vec::with_capacity(4);
    epoll::wait(&ep, rustix::buffer::spare_capacity(&mut out), None).unwrap();
    epoll::add(&ep, &b, epoll::EventData::new_u64(7), flags).unwrap();
    let list = inspector.get_events(ep.as_fd()).unwrap().interest;
    let keys = inspector.file_keys(&[a.as_fd(), b.as_fd()]).unwrap();
    let pending: Vec<_> = list.pending.iter().map(|&i| list.items[i].file).collect();
    assert_eq!(pending, [keys[1]]);
    assert!(
        list.items.iter().all(|i| i.events == Events::IN | Events::ET | Events::ERR | Events::HUP)
    );
    println!("{list:?}");
}
