//! Files that have lost their name.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use dormouse_image::proto::files::reg::RemapFilePathEntry;
use dormouse_image::{ImageName, NewDump};
use dormouse_resources::file::{CollectOptions, LinkRemap};
use rustix::fs::{Mode, OFlags, SeekFrom, fstat, open, seek};

use crate::round_trip::{Dump, assert_same, round_trip};

fn opened(path: impl AsRef<Path>, flags: OFlags) -> OwnedFd {
    open(path.as_ref(), flags, Mode::RUSR | Mode::WUSR).unwrap()
}

fn link(file: &OwnedFd) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

fn names(dir: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn an_unlinked_file_comes_back_whole() {
    for size in [0, 1, 5000, 3 * 4096, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's\na \"name\"");
        let bytes: Vec<u8> = (0..size).map(|index| (index * 7 % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4421)).unwrap();
        let old = opened(&path, OFlags::RDWR | OFlags::NOFOLLOW);
        let second = opened(&path, OFlags::RDONLY);
        rustix::fs::fchown(&old, Some(rustix::fs::Uid::from_raw(12)), None).unwrap();
        let before = fs::File::from(old.try_clone().unwrap()).metadata().unwrap();
        fs::remove_file(&path).unwrap();
        seek(&old, SeekFrom::Start(size / 2)).unwrap();
        let restored = round_trip(&[old.as_fd(), second.as_fd()]).unwrap();
        for old in [&old, &second] {
            assert_same(old, restored.of(old));
            assert_eq!(link(old), link(restored.of(old)));
        }
        let new = fs::File::from(restored.of(&old).try_clone().unwrap());
        let after = new.metadata().unwrap();
        assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), 12, before.gid()));
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        assert_eq!(after.accessed().unwrap(), before.accessed().unwrap());
        assert_eq!(after.nlink(), 0);
        let mut got = vec![0; bytes.len()];
        new.read_exact_at(&mut got, 0).unwrap();
        assert_eq!(got, bytes);
        assert_eq!(fstat(restored.of(&second)).unwrap().st_ino, after.ino());
        assert_eq!(names(dir.path()).len(), 0);
    }
}

#[test]
fn holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    let file = fs::File::create_new(&path).unwrap();
    for (offset, byte) in [(0, 1_u8), (1 << 20, 2), (1 << 30, 3)] {
        file.write_all_at(&[byte; 4096], offset).unwrap();
    }
    file.set_len(1 << 33).unwrap();
    fs::remove_file(&path).unwrap();
    let old = OwnedFd::from(file);
    let restored = round_trip(&[old.as_fd()]).unwrap();
    assert_same(&old, restored.of(&old));
    let new = fs::File::from(restored.of(&old).try_clone().unwrap());
    assert!(new.metadata().unwrap().blocks() <= 3 * 16);
    for (offset, byte) in [(0, 1), (1 << 20, 2), ((1 << 30) + 4095, 3), (1 << 31, 0)] {
        let mut got = [9];
        new.read_exact_at(&mut got, offset).unwrap();
        assert_eq!(got, [byte]);
    }
}

#[test]
fn two_names_of_one_lost_file() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("sub/two"));
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(&one, b"x").unwrap();
    fs::hard_link(&one, &two).unwrap();
    let files = [opened(&one, OFlags::RDWR), opened(&two, OFlags::RDONLY)];
    fs::remove_dir_all(dir.path().join("sub")).unwrap();
    fs::remove_file(&one).unwrap();
    let restored = round_trip(&[files[0].as_fd(), files[1].as_fd()]).unwrap();
    let inode = |file: &OwnedFd| fstat(restored.of(file)).unwrap().st_ino;
    assert_eq!(inode(&files[0]), inode(&files[1]));
    for old in &files {
        assert_eq!(link(old), link(restored.of(old)));
    }
    assert_eq!(names(dir.path()).len(), 0, "the directory for the lost name is gone again");
}

#[test]
fn a_name_that_another_file_has_now_stays_with_that() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("name");
    fs::write(&path, b"old").unwrap();
    let old = opened(&path, OFlags::RDONLY);
    fs::write(dir.path().join("other"), b"newer").unwrap();
    fs::rename(dir.path().join("other"), &path).unwrap();
    let restored = round_trip(&[old.as_fd()]).unwrap();
    let mut got = [0; 10];
    assert_eq!(rustix::io::read(restored.of(&old), &mut got[..]).unwrap(), 3);
    assert_eq!(&got[..3], b"old");
    assert_eq!(fs::read(&path).unwrap(), b"newer");
    assert_eq!(names(dir.path()), ["name"]);
}

#[test]
fn everything_that_can_be_unlinked_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("dir/inner")).unwrap();
    symlink("some/where", path("link")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(rustix::fs::CWD, path(name), kind, Mode::RUSR, device).unwrap();
    };
    make("fifo", rustix::fs::FileType::Fifo, 0);
    make("null", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    let place = OFlags::PATH | OFlags::NOFOLLOW;
    let files = [
        opened(path("dir/inner"), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW),
        opened(path("dir/inner"), OFlags::RDONLY),
        opened(path("dir"), place),
        opened(path("link"), place),
        opened(path("socket"), OFlags::PATH),
        opened(path("fifo"), OFlags::PATH),
        opened(path("null"), OFlags::RDWR),
        opened(path("null"), place),
    ];
    drop(listener);
    for name in ["link", "socket", "fifo", "null"] {
        fs::remove_file(path(name)).unwrap();
    }
    fs::remove_dir_all(path("dir")).unwrap();
    let all: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let restored = round_trip(&all).unwrap();
    for old in &files {
        let new = restored.of(old);
        let (one, other) = (fstat(old).unwrap(), fstat(new).unwrap());
        assert_eq!((one.st_mode, one.st_rdev), (other.st_mode, other.st_rdev));
        assert_eq!((one.st_mtime, one.st_mtime_nsec), (other.st_mtime, other.st_mtime_nsec));
        assert_eq!((one.st_nlink == 0, link(old)), (other.st_nlink == 0, link(new)));
        let flags = |file: &OwnedFd| rustix::fs::fcntl_getfl(file).unwrap();
        assert_eq!(flags(old), flags(new), "{:?}", link(old));
    }
    let target = rustix::fs::readlinkat(restored.of(&files[3]), "", Vec::new()).unwrap();
    assert_eq!(target.as_bytes(), b"some/where");
    assert_eq!(names(dir.path()).len(), 0);
}

#[test]
fn a_temporary_file_can_still_be_given_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let old = opened(dir.path(), OFlags::RDWR | OFlags::TMPFILE);
    rustix::io::write(&old, b"text").unwrap();
    let restored = round_trip(&[old.as_fd()]).unwrap();
    let new = restored.of(&old);
    assert_same(&old, new);
    let path = format!("/proc/self/fd/{}", new.as_raw_fd());
    let (cwd, follow) = (rustix::fs::CWD, rustix::fs::AtFlags::SYMLINK_FOLLOW);
    rustix::fs::linkat(cwd, path, cwd, dir.path().join("name"), follow).unwrap();
    assert_eq!(fs::read(dir.path().join("name")).unwrap(), b"text");
}

#[test]
fn a_lost_name_is_made_up_for_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("one"), b"x").unwrap();
    fs::hard_link(path("one"), path("two")).unwrap();
    let old = opened(path("one"), OFlags::RDONLY);
    fs::remove_file(path("one")).unwrap();
    let restored = round_trip(&[old.as_fd()]).unwrap();
    assert_eq!(fstat(restored.of(&old)).unwrap().st_ino, fstat(&old).unwrap().st_ino);
    let name = link(restored.of(&old));
    assert_eq!(name.file_name().unwrap(), "one (deleted)");

    for (link_remap, links) in [(LinkRemap::Needed, 1), (LinkRemap::Always, 2)] {
        let mut dump = Dump::new();
        dump.options = CollectOptions { link_remap, ..CollectOptions::default() };
        dump.descriptor(&old);
        let (images, shared) = dump.write().unwrap();
        assert_eq!(fstat(&old).unwrap().st_nlink, links);
        let restored = images.restore(&shared, &[]).unwrap();
        assert_eq!(fstat(restored.of(&old)).unwrap().st_ino, fstat(&old).unwrap().st_ino);
    }
}

#[test]
fn a_name_out_of_sight_takes_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("away")).unwrap();
    fs::write(path("one"), b"x").unwrap();
    let old = opened(path("one"), OFlags::RDWR);
    fs::rename(path("one"), path("away/two")).unwrap();
    fs::hard_link(path("away/two"), path("three")).unwrap();
    fs::remove_file(path("three")).unwrap();
    // Renaming moves the name of an open file along; only a link does not.
    fs::hard_link(path("away/two"), path("away/keep")).unwrap();
    let lost = opened(path("away/two"), OFlags::RDWR);
    fs::rename(path("away/keep"), path("keep")).unwrap();
    fs::remove_file(path("away/two")).unwrap();
    drop(old);

    let error = round_trip(&[lost.as_fd()]).map(drop).unwrap_err().to_string();
    assert!(error.contains("the name it still has is not known"), "{error}");

    let mut dump = Dump::new();
    dump.options = CollectOptions { link_remap: LinkRemap::Needed, ..CollectOptions::default() };
    dump.descriptor(&lost);
    let (images, shared) = dump.write().unwrap();
    assert_eq!(names(&path("away")).len(), 1);
    assert_eq!(fstat(&lost).unwrap().st_nlink, 2);
    let restored = images.restore(&shared, &[]).unwrap();
    let new = restored.of(&lost);
    assert_eq!(fstat(new).unwrap().st_ino, fstat(&lost).unwrap().st_ino);
    assert_eq!(link(new), link(&lost));
    assert_eq!(names(&path("away")).len(), 0);
    assert_eq!(fstat(new).unwrap().st_nlink, 1);
}

#[test]
fn a_link_that_no_dump_made_is_not_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("precious"), b"x").unwrap();
    fs::write(path("lost"), b"x").unwrap();
    let files = [opened(path("precious"), OFlags::RDONLY), opened(path("lost"), OFlags::RDONLY)];
    let mut dump = Dump::new();
    for file in &files {
        dump.descriptor(file);
    }
    let (images, shared) = dump.write().unwrap();
    let remap = RemapFilePathEntry { orig_id: 2, remap_id: 1, remap_type: Some(0) };
    let other = tempfile::tempdir().unwrap();
    let part = NewDump::begin(other.path()).unwrap();
    part.put_one(ImageName::RemapFpath, &remap).unwrap();
    let image = ImageName::RemapFpath.to_string();
    fs::copy(other.path().join(&image), images.dir.path().join(&image)).unwrap();
    let error = images.restore(&shared, &[]).map(drop).unwrap_err().to_string();
    assert!(error.contains("none that a dump makes"), "{error}");
    assert!(path("precious").exists());
}

#[test]
fn a_large_ghost_takes_a_higher_limit() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&vec![1; 2 << 20], 0).unwrap();
    let error = round_trip(&[file.as_fd()]).map(drop).unwrap_err().to_string();
    assert!(error.contains("larger than the limit"), "{error}");
    let mut dump = Dump::new();
    dump.options = CollectOptions { ghost_limit: 4 << 20, ..CollectOptions::default() };
    dump.descriptor(&file);
    let (images, shared) = dump.write().unwrap();
    let restored = images.restore(&shared, &[]).unwrap();
    assert_same(&file, restored.of(&file));
}

/// On overlayfs a file that was unlinked may still count its name.
#[test]
fn a_file_of_a_lower_layer_is_a_ghost_only_if_it_has_no_name() {
    let Some(mount) = Overlay::mount() else {
        eprintln!("skipped: no overlayfs can be mounted");
        return;
    };
    let path = |name: &str| mount.0.path().join("merged").join(name);
    fs::create_dir(path("away")).unwrap();
    fs::hard_link(path("linked"), path("away/kept")).unwrap();
    let files = ["lower", "linked"].map(|name| opened(path(name), OFlags::RDONLY));
    fs::remove_file(path("lower")).unwrap();
    fs::remove_file(path("linked")).unwrap();
    assert_eq!(files.each_ref().map(|file| fstat(file).unwrap().st_nlink), [1, 1]);
    for file in &files {
        let error = round_trip(&[file.as_fd()]).map(drop).unwrap_err().to_string();
        assert!(error.contains("the name it still has is not known"), "{error}");
    }
    let mut dump = Dump::new();
    dump.options = CollectOptions { link_remap: LinkRemap::Always, ..CollectOptions::default() };
    for file in &files {
        dump.descriptor(file);
    }
    let (images, shared) = dump.write().unwrap();
    let restored = images.restore(&shared, &[]).unwrap();
    for (old, same) in files.iter().zip([false, true]) {
        let new = restored.of(old);
        assert_same(old, new);
        let inode = |file: &OwnedFd| fstat(file).unwrap().st_ino;
        assert_eq!(inode(old) == inode(new), same, "{:?}", link(old));
    }
}

struct Overlay(tempfile::TempDir);

impl Overlay {
    /// With two files in its lower layer.
    fn mount() -> Option<Self> {
        use rustix::mount::{MountFlags, mount};
        let dir = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["lower", "linked"] {
            fs::write(dir.path().join("lower").join(name), name).unwrap();
        }
        let at = |name| dir.path().join(name).to_str().unwrap().to_owned();
        let layers = [at("lower"), at("upper"), at("work")];
        let [lower, upper, work] = layers;
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let options = std::ffi::CString::new(options).unwrap();
        mount("overlay", at("merged"), "overlay", MountFlags::empty(), options.as_c_str()).ok()?;
        Some(Self(dir))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        use rustix::mount::{UnmountFlags, unmount};
        let _ = unmount(self.0.path().join("merged"), UnmountFlags::DETACH);
    }
}
