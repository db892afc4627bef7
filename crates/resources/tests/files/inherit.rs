//! Files that are handed over in the place of others.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, SeekFrom, fstat, open, seek};

use crate::round_trip::{Dump, assert_same};

fn opened(path: &std::path::Path, flags: OFlags) -> OwnedFd {
    open(path, flags, Mode::empty()).unwrap()
}

#[test]
fn a_pipe_is_handed_over_by_its_inode() {
    let (from, to) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&to, b"old").unwrap();
    let mut dump = Dump::new();
    dump.descriptor(&from);
    let (images, shared) = dump.write().unwrap();
    let (given, other) = rustix::pipe::pipe().unwrap();
    let key = format!("pipe:[{}]", fstat(&from).unwrap().st_ino);
    let restored = images.restore_with(&shared, &[], vec![(key, given)]).unwrap();
    rustix::io::write(&other, b"new").unwrap();
    let mut bytes = [0; 9];
    let len = rustix::io::read(restored.of(&from), &mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"new", "what was in the old pipe is not in the other");
}

#[test]
fn a_file_is_handed_over_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    fs::write(&old, b"0123456789").unwrap();
    fs::write(&new, b"abcdefghij").unwrap();
    let file = opened(&old, OFlags::RDWR | OFlags::APPEND);
    seek(&file, SeekFrom::Start(4)).unwrap();
    let mut dump = Dump::new();
    dump.descriptor(&file);
    let (images, shared) = dump.write().unwrap();
    let key = old.to_str().unwrap().trim_start_matches('/').to_owned();
    let given = vec![(key, opened(&new, OFlags::RDONLY))];
    let restored = images.restore_with(&shared, &[], given).unwrap();
    assert_same(&file, restored.of(&file));
    let mut bytes = [0; 3];
    rustix::io::read(restored.of(&file), &mut bytes).unwrap();
    assert_eq!(&bytes, b"efg");
}

#[test]
fn an_external_file_takes_being_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gone");
    fs::write(&path, b"0123456789").unwrap();
    let file = opened(&path, OFlags::RDONLY);
    let mut dump = Dump::new();
    let id = dump.descriptor(&file);
    let inode = fstat(&file).unwrap().st_ino;
    let key = format!("file[{:x}:{inode:x}]", dump.probe(id).info.mount_id);
    dump.external = vec![key.clone()];
    let (images, shared) = dump.write().unwrap();
    fs::remove_file(&path).unwrap();
    let error = images.restore(&shared, &[]).map(drop).unwrap_err().to_string();
    assert!(error.contains("was not handed over") && error.contains(&key), "{error}");
    let given = vec![(key, file.as_fd().try_clone_to_owned().unwrap())];
    let restored = images.restore_with(&shared, &[], given).unwrap();
    assert_eq!(fstat(restored.of(&file)).unwrap().st_ino, inode);
}

#[test]
fn a_memfd_is_handed_over_by_its_name() {
    use rustix::fs::{MemfdFlags, memfd_create};
    let old = memfd_create("handed", MemfdFlags::empty()).unwrap();
    let mut dump = Dump::new();
    dump.descriptor(&old);
    let (images, shared) = dump.write().unwrap();
    let given = memfd_create("other", MemfdFlags::empty()).unwrap();
    let inode = fstat(&given).unwrap().st_ino;
    let given = vec![("/memfd:handed".to_owned(), given)];
    let restored = images.restore_with(&shared, &[], given).unwrap();
    assert_eq!(fstat(restored.of(&old)).unwrap().st_ino, inode);
}
