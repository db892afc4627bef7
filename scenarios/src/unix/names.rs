//! Addresses: a path, a relative path, an abstract name, one that the kernel chose, none.
//!
//! Verified: all read as before; whoever connects by them is heard.
//! CRIU: works.

use rustix::net::{SocketAddrUnix, listen};

use super::talk::{STREAM, accept, bound, connected, hidden, names, path, socket, talk};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let here = std::env::current_dir().expect("it is there");
    std::env::set_current_dir(cx.path("")).expect("it is there");
    std::fs::create_dir("below").expect("a new directory");
    let addresses = [
        path(&cx.path("absolute")),
        path("relative".as_ref()),
        path("below/../below/odd".as_ref()),
        hidden(cx, "abstract"),
        hidden(cx, "with\0zeros\0"),
    ];
    let mut sockets: Vec<_> = addresses.iter().map(|address| bound(STREAM, address)).collect();
    let chosen = socket(STREAM);
    // No more than the family: the kernel chooses a name.
    rustix::net::bind(&chosen, &SocketAddrUnix::new_unnamed()).expect("bind");
    sockets.push(chosen);
    sockets.iter().for_each(|socket| listen(socket, 3).expect("listen"));
    let none = socket(STREAM);
    let nameless = names(&none);
    std::env::set_current_dir(here).expect("it is there");
    let before: Vec<_> = sockets.iter().map(|socket| names(socket)[0].clone()).collect();

    cx.ready_and_wait();

    check_eq!(names(&none), nameless, "no name");
    std::env::set_current_dir(cx.path("")).expect("it is there");
    for (socket, address) in sockets.iter().zip(before) {
        check_eq!(names(socket)[0], address, "name");
        let client = connected(STREAM, &address.expect("every one has a name"));
        match accept(socket) {
            Err(error) => check!(false, "accept: {error}"),
            Ok(server) => talk(&client, &server),
        }
    }
}
