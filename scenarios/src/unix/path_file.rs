//! The files of sockets bound to paths: owner, mode, and whether they are still there.
//!
//! Verified: owner and mode; a removed file stays away, a renamed and a replaced one are what they were.
//! CRIU: binds them by their first names.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::talk::{STREAM, accept, connected, listening, names, path, talk};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let listen = |name| (path(&cx.path(name)), listening(STREAM, &path(&cx.path(name)), 3));
    let plain = listen("plain");
    fs::set_permissions(cx.path("plain"), fs::Permissions::from_mode(0o640)).expect("chmod");
    let removed = listen("removed");
    fs::remove_file(cx.path("removed")).expect("it is there");
    let renamed = listen("first name");
    fs::rename(cx.path("first name"), cx.path("second name")).expect("it is there");
    let replaced = listen("replaced");
    fs::remove_file(cx.path("replaced")).expect("it is there");
    let replacement = listen("replaced");
    let before = fs::metadata(cx.path("plain")).expect("it is there");

    cx.ready_and_wait();

    let after = fs::metadata(cx.path("plain")).expect("it is there");
    check!(after.file_type().is_socket(), "it is a socket");
    let told = |file: &fs::Metadata| (file.mode(), file.uid(), file.gid());
    check_eq!(told(&after), told(&before), "mode and owner");
    check!(!cx.path("removed").exists(), "what was removed stays so");
    check!(!cx.path("first name").exists(), "what was renamed stays so");
    for (address, socket) in [&plain, &removed, &renamed, &replaced, &replacement] {
        check_eq!(names(socket)[0].as_ref(), Some(address), "name");
    }
    for (name, socket) in
        [("plain", &plain.1), ("second name", &renamed.1), ("replaced", &replacement.1)]
    {
        let client = connected(STREAM, &path(&cx.path(name)));
        match accept(socket) {
            Err(error) => check!(false, "accept at {name}: {error}"),
            Ok(server) => talk(&client, &server),
        }
    }
    let left: Vec<_> = fs::read_dir(cx.path(""))
        .expect("it is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(".dormouse"))
        .collect();
    check_eq!(left, Vec::<String>::new(), "what is left of the restore");
}
