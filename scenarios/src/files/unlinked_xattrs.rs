//! A file and a directory without a name that have extended attributes.
//!
//! Verified: the attributes, names and values.
//! CRIU: loses them.

use std::fs::{self, File};
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(|| {
    let place = std::env::temp_dir().join(format!("xattr.{}", std::process::id()));
    let file = File::create(&place).ok()?;
    // The state is in the same file system.
    let set = fsetxattr(&file, "user.try", b"x", XattrFlags::empty());
    fs::remove_file(&place).ok();
    set.err().map(|error| format!("no extended attributes: {error}"))
});

fn attributes(file: impl AsFd) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let len = flistxattr(&file, &mut names[..]).expect("flistxattr");
    let names = String::from_utf8_lossy(&names[..len]).into_owned();
    let value = |name: &str| {
        let mut value = vec![0; 4096];
        let len = fgetxattr(&file, name, &mut value[..]).expect("fgetxattr");
        (name.to_owned(), value[..len].to_vec())
    };
    let mut all: Vec<_> = names.split_terminator('\0').map(value).collect();
    all.sort();
    all
}

fn run(cx: &mut Context) {
    let file = File::create(cx.path("file")).expect("create");
    fs::create_dir(cx.path("dir")).expect("mkdir");
    let dir = File::open(cx.path("dir")).expect("open");
    let set = |file: &File, name: &str, value: &[u8]| {
        fsetxattr(file, name, value, XattrFlags::empty()).expect("fsetxattr");
    };
    set(&file, "user.one", b"1");
    set(&file, "user.bytes", &[0, 255, 7].repeat(300));
    set(&file, "user.empty", b"");
    set(&dir, "user.dir", b"d");
    fs::remove_file(cx.path("file")).expect("unlink");
    fs::remove_dir(cx.path("dir")).expect("rmdir");
    let before = (attributes(&file), attributes(&dir));
    cx.ready_and_wait();
    check_eq!((attributes(&file), attributes(&dir)), before, "attributes");
    check_eq!(
        before.0.iter().filter(|(name, _)| name.starts_with("user.")).count(),
        3,
        "of the file"
    );
}
