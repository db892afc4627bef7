//! What `show` has to say about the dump of a real process.

use dormouse_image::describe::{Dump, State, describe};

use crate::support;

fn dump() -> Dump {
    describe(&support::golden()).unwrap()
}

#[test]
fn the_tree() {
    let dump = dump();
    let [parent, child] = &*dump.processes else { panic!() };
    assert_eq!((parent.ppid, child.ppid, child.pgid), (0, parent.pid, parent.pid));
    assert_eq!((&*parent.comm, parent.state), ("python3", State::Running));
    assert_eq!(parent.exe.as_deref(), Some("/usr/bin/python3.11"));
    assert_eq!(parent.threads.len(), 2);
    assert_eq!(parent.threads[0].tid, parent.pid);
    assert!(dump.unknown_images.is_empty());
    assert_eq!(dump.parent, None);
}

#[test]
fn the_descriptors() {
    let dump = dump();
    let table = &dump.fd_tables[&dump.processes[0].fd_table.unwrap()];
    let of = |kind| table.iter().filter(|fd| fd.kind == kind).collect::<Vec<_>>();
    assert_eq!(table[0].detail, "/dev/null");
    assert_eq!(of("eventfd")[0].detail, "count 7");
    assert_eq!(of("epoll")[0].detail, "1 item");
    assert!(of("pipe").iter().any(|pipe| pipe.detail.ends_with("read end")));
    assert!(of("pipe").iter().any(|pipe| pipe.detail.ends_with("write end")));
    assert!(of("unix socket")[0].detail.starts_with("stream inode "));
    let listener = &of("inet socket")[0].detail;
    assert!(listener.starts_with("tcp 127.0.0.1:"), "{listener}");
    assert!(listener.ends_with(", listening"), "{listener}");
}

#[test]
fn the_memory() {
    let dump = dump();
    let memory = dump.processes[0].memory.as_ref().unwrap();
    // pages-1.img of that dump had 4210688 bytes.
    assert_eq!(memory.pages.here, 4_210_688 / memory.pages.page_bytes);
    assert_eq!((memory.pages.in_parent, memory.pages.remote), (0, 0));
    let libc = memory
        .mappings
        .iter()
        .find(|m| m.file.as_ref().is_some_and(|f| f.ends_with("libc.so.6")) && m.access == "r-xp")
        .unwrap();
    assert_eq!(libc.kind, "private file");
    assert!(memory.mappings.iter().any(|m| m.kind == "vdso"));
    assert!(memory.mapped_bytes > memory.pages.here * memory.pages.page_bytes);
}

#[test]
fn it_can_be_serialised() {
    let json = serde_json::to_value(dump()).unwrap();
    assert_eq!(json["processes"][0]["state"], "running");
    let images = json["images"].as_array().unwrap();
    assert_eq!(images.len(), support::images().len());
    assert!(images.iter().any(|image| image["name"] == "pstree.img"));
}
