//! Memfds.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use dormouse_kernel::HostPid;
use dormouse_kernel::proc::{Entry, ProcDir, Vma, VmaName};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, SeekFrom, fchmod, fcntl_add_seals, fcntl_get_seals, fstat,
    ftruncate, memfd_create, open, seek,
};
use rustix::io::Errno;

use crate::round_trip::{Dump, assert_same, is_same_description, round_trip};

fn again(file: &OwnedFd, flags: OFlags) -> OwnedFd {
    open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty()).unwrap()
}

fn link(file: &OwnedFd) -> String {
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    link.to_str().unwrap().to_owned()
}

fn memfd(name: &str, flags: MemfdFlags, bytes: &[u8]) -> OwnedFd {
    let file = memfd_create(name, flags).unwrap();
    rustix::io::pwrite(&file, bytes, 0).unwrap();
    file
}

fn read(file: impl AsFd) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    let got = rustix::io::pread(file, &mut bytes[..], 0).unwrap();
    bytes.truncate(got);
    bytes
}

#[test]
fn memfds_come_back_with_all_that_share_them() {
    let first = memfd("a (deleted)", MemfdFlags::CLOEXEC, b"hello");
    fchmod(&first, Mode::from_raw_mode(0o4642)).unwrap();
    rustix::fs::fcntl_setfl(&first, OFlags::APPEND).unwrap();
    seek(&first, SeekFrom::Start(3)).unwrap();
    let files = [
        again(&first, OFlags::RDWR),
        again(&first, OFlags::RDONLY),
        again(&first, OFlags::PATH),
        first,
    ];
    let other = memfd("a (deleted)", MemfdFlags::empty(), b"other");
    let all: Vec<_> = files.iter().chain([&other]).map(AsFd::as_fd).collect();
    let restored = round_trip(&all).unwrap();
    for old in files.iter().chain([&other]) {
        assert_same(old, restored.of(old));
        assert_eq!(link(old), link(restored.of(old)));
    }
    let inode = |file| fstat(restored.of(file)).unwrap().st_ino;
    assert!(files.iter().all(|file| inode(file) == inode(&files[0])));
    assert_ne!(inode(&other), inode(&files[0]));
    rustix::io::pwrite(restored.of(&files[0]), b"j", 0).unwrap();
    assert_eq!(read(restored.of(&files[1])), b"jello");
    assert_eq!(read(restored.of(&other)), b"other");
    assert_eq!(read(&files[1]), b"hello");
}

#[test]
fn seals_come_back() {
    let sealable = MemfdFlags::ALLOW_SEALING;
    for (flags, seals) in [
        (sealable, SealFlags::empty()),
        (sealable, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL),
        (sealable, SealFlags::FUTURE_WRITE),
        (sealable, SealFlags::SEAL | SealFlags::EXEC),
        (MemfdFlags::empty(), SealFlags::empty()),
        (sealable | MemfdFlags::NOEXEC_SEAL, SealFlags::empty()),
    ] {
        let old = memfd("", flags, b"text");
        if !seals.is_empty() {
            fcntl_add_seals(&old, seals).unwrap();
        }
        let reader = again(&old, OFlags::RDONLY);
        drop(old);
        let restored = round_trip(&[reader.as_fd()]).unwrap();
        let new = restored.of(&reader);
        assert_same(&reader, new);
        assert_eq!(fcntl_get_seals(new).unwrap(), fcntl_get_seals(&reader).unwrap());
        assert_eq!(read(new), b"text");
        let writer = again(new, OFlags::RDWR);
        let written = rustix::io::pwrite(&writer, b"x", 0);
        // Sealing the mode of an executable seals all the rest of it.
        let seals = fcntl_get_seals(&reader).unwrap();
        let sealed = seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE);
        assert_eq!(written, if sealed { Err(Errno::PERM) } else { Ok(1) });
    }
}

#[test]
fn a_memfd_can_be_executed_as_before() {
    let script = fs::read("/bin/true").unwrap();
    let old = memfd("program", MemfdFlags::CLOEXEC, &script);
    let reader = again(&old, OFlags::RDONLY);
    let restored = round_trip(&[reader.as_fd(), old.as_fd()]).unwrap();
    let path = |file: &OwnedFd| format!("/proc/self/fd/{}", file.as_raw_fd());
    assert!(Command::new(path(restored.of(&old))).arg0("true").status().unwrap().success());
    // Any other description for writing makes that impossible.
    let _writer = again(restored.of(&old), OFlags::RDWR);
    let error = Command::new(path(restored.of(&old))).status().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETXTBSY));
}

#[test]
fn a_mapped_memfd_is_opened_for_its_mapping() {
    let program = fs::read("/bin/sleep").unwrap();
    let old = memfd("mapped", MemfdFlags::ALLOW_SEALING, &program);
    fcntl_add_seals(&old, SealFlags::SHRINK).unwrap();
    let path = format!("/proc/self/fd/{}", old.as_raw_fd());
    let child = Killed(Command::new(path).arg("100").spawn().unwrap());
    let pid = HostPid::from_raw(child.0.id().cast_signed()).unwrap();
    let mapped = |vma: &Vma| match &vma.name {
        VmaName::Path(path) => path.starts_with("/memfd:mapped (deleted)"),
        _ => false,
    };
    // The program is mapped after the parent is told that it runs.
    let vma = loop {
        let maps = ProcDir::open(pid).unwrap().maps().unwrap();
        match maps.into_iter().find(mapped) {
            Some(vma) => break vma,
            None => std::thread::yield_now(),
        }
    };

    let mut dump = Dump::new();
    // The same inode by a descriptor, a mapping and as an executable.
    dump.descriptor(&old);
    let mapping = dump.link_of(pid, Entry::MapFile(vma.range), OFlags::RDONLY);
    let executable = dump.link_of(pid, Entry::Named("exe"), OFlags::PATH);
    let (images, shared) = dump.write().unwrap();
    drop(child);
    let wanted = [(mapping, OFlags::RDWR), (mapping, OFlags::RDONLY), (executable, OFlags::PATH)];
    let restored = images.restore(&shared, &wanted).unwrap();
    for file in &restored.inodes {
        assert_eq!(fstat(file).unwrap().st_ino, fstat(restored.of(&old)).unwrap().st_ino);
        assert_eq!(link(file), link(&old));
    }
    assert_eq!(fcntl_get_seals(restored.of(&old)).unwrap(), SealFlags::SHRINK);
    assert!(is_same_description(&restored.inodes[0], restored.of(&old)));
}

/// A process that ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn huge_pages_stay_huge() {
    let Ok(old) = memfd_create("huge", MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB) else {
        eprintln!("skipped: no huge pages of 2 MiB");
        return;
    };
    let restored = round_trip(&[old.as_fd()]).unwrap();
    assert_eq!(fstat(restored.of(&old)).unwrap().st_blksize, 2 << 20);
    ftruncate(restored.of(&old), 2 << 20).unwrap();
}
