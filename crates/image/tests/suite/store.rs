//! A directory is a dump when it is complete, and only then.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use dormouse_image::error::ImageError;
use dormouse_image::name::ImageName;
use dormouse_image::proto::core::TaskKobjIdsEntry;
use dormouse_image::proto::files::pipe::PipeDataEntry;
use dormouse_image::proto::fs::FsEntry;
use dormouse_image::proto::inventory::InventoryEntry;
use dormouse_image::proto::pstree::PstreeEntry;
use dormouse_image::{ImageDir, NewDump};

fn inventory() -> InventoryEntry {
    InventoryEntry {
        img_version: dormouse_image::magic::IMAGES_VERSION,
        fdinfo_per_id: Some(true),
        ..Default::default()
    }
}

fn process(pid: u32) -> PstreeEntry {
    PstreeEntry { pid, ppid: 0, pgid: pid, sid: pid, threads: vec![pid, pid + 1] }
}

fn names(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn what_is_put_is_read_back() {
    let tmp = tempfile::tempdir().unwrap();
    let dump = NewDump::begin(tmp.path()).unwrap();
    dump.put_all(ImageName::PsTree, &[process(7), process(9)]).unwrap();
    dump.put_one(ImageName::Fs(7), &FsEntry { cwd_id: 1, root_id: 2, umask: Some(0o22) }).unwrap();
    let mut pipes = dump.writer(ImageName::PipesData).unwrap();
    pipes
        .put(&PipeDataEntry { pipe_id: 1, bytes: 5, size: Some(65536), ..Default::default() })
        .unwrap();
    pipes.put_payload(b"hello").unwrap();
    pipes.put(&PipeDataEntry { pipe_id: 2, bytes: 3, size: None, ..Default::default() }).unwrap();
    pipes.copy_payload(&mut &b"you"[..]).unwrap();
    pipes.finish().unwrap();
    dump.raw(ImageName::Pages(1)).unwrap().set_len(8192).unwrap();
    dump.commit(&inventory()).unwrap();

    let mode = fs::metadata(tmp.path().join("pstree.img")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    let (dir, read) = ImageDir::open(tmp.path()).unwrap();
    assert_eq!(read, inventory());
    assert_eq!(dir.list().unwrap()[&ImageName::Pages(1)].len, 8192);
    assert_eq!(dir.unread().unwrap(), ["fs-7.img", "pages-1.img", "pipes-data.img", "pstree.img"]);
    let tree: Vec<PstreeEntry> = dir.get_all(ImageName::PsTree).unwrap();
    assert_eq!(tree, [process(7), process(9)]);
    let fs: FsEntry = dir.get_one(ImageName::Fs(7)).unwrap();
    assert_eq!(fs.umask, Some(0o22));
    let mut reader = dir.reader(ImageName::PipesData).unwrap().unwrap();
    let first: PipeDataEntry = reader.need_message().unwrap();
    let hello = reader.skip_payload(first.bytes.into()).unwrap();
    let second: PipeDataEntry = reader.need_message().unwrap();
    let mut you = Vec::new();
    reader.copy_payload(second.bytes.into(), &mut you).unwrap();
    reader.end().unwrap();
    assert_eq!(you, b"you");
    let image = fs::read(tmp.path().join("pipes-data.img")).unwrap();
    assert_eq!(&image[hello.start as usize..hello.end as usize], b"hello");
    assert_eq!(dir.unread().unwrap(), ["pages-1.img"]);
    assert!(dir.find_one::<TaskKobjIdsEntry>(ImageName::Ids(7)).unwrap().is_none());
    let missing = dir.get_one::<TaskKobjIdsEntry>(ImageName::Ids(7));
    assert!(matches!(missing, Err(ImageError::Missing { .. })));
}

#[test]
fn the_same_dump_is_the_same_bytes() {
    let write = || {
        let tmp = tempfile::tempdir().unwrap();
        let dump = NewDump::begin(tmp.path()).unwrap();
        dump.put_all(ImageName::PsTree, &[process(7), process(9)]).unwrap();
        dump.commit(&inventory()).unwrap();
        names(tmp.path()).iter().map(|n| fs::read(tmp.path().join(n)).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(write(), write());
}

#[test]
fn without_commit_there_is_no_dump_and_nothing_is_left() {
    for abandon in [true, false] {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("dump.log"), "").unwrap();
        let dump = NewDump::begin(tmp.path()).unwrap();
        dump.put_one(ImageName::PsTree, &process(7)).unwrap();
        dump.link_parent(Path::new("cow")).unwrap();
        let cow = dump.subdir("cow").unwrap();
        cow.raw(ImageName::Pages(1)).unwrap();
        assert!(matches!(ImageDir::open(tmp.path()), Err(ImageError::Incomplete { .. })));
        if abandon {
            dump.abandon().unwrap()
        } else {
            drop(dump)
        }
        assert_eq!(names(tmp.path()), ["dump.log"]);
    }
}

#[test]
fn an_image_left_halfway_spoils_the_dump() {
    let tmp = tempfile::tempdir().unwrap();
    let dump = NewDump::begin(tmp.path()).unwrap();
    let mut writer = dump.writer(ImageName::PsTree).unwrap();
    writer.put(&process(7)).unwrap();
    drop(writer);
    let error = dump.commit(&inventory()).unwrap_err();
    assert!(matches!(error, ImageError::Unfinished { image: ImageName::PsTree }));
    assert_eq!(names(tmp.path()), [""; 0]);
}

#[test]
fn an_image_is_written_once() {
    let tmp = tempfile::tempdir().unwrap();
    let dump = NewDump::begin(tmp.path()).unwrap();
    dump.put_one(ImageName::PsTree, &process(7)).unwrap();
    let error = dump.put_one(ImageName::PsTree, &process(7)).unwrap_err();
    assert!(matches!(error, ImageError::Twice { image: ImageName::PsTree }));
}

#[test]
fn an_older_dump_goes_and_the_rest_stays() {
    let tmp = tempfile::tempdir().unwrap();
    let dump = NewDump::begin(tmp.path()).unwrap();
    dump.put_one(ImageName::Fs(7), &FsEntry::default()).unwrap();
    dump.commit(&inventory()).unwrap();
    for name in ["cpuinfo.img", "stats-dump", "notes.txt", "plugin.img"] {
        fs::write(tmp.path().join(name), "").unwrap();
    }
    let dump = NewDump::begin(tmp.path()).unwrap();
    assert_eq!(names(tmp.path()), ["cpuinfo.img", "notes.txt", "plugin.img", "stats-dump"]);
    dump.commit(&inventory()).unwrap();
    // Nobody knows what the plugin's image is good for; the others are no part of a dump.
    let (dir, _) = ImageDir::open(tmp.path()).unwrap();
    assert_eq!(dir.unread().unwrap(), ["plugin.img"]);
}

#[test]
fn a_planted_link_is_not_followed() {
    let tmp = tempfile::tempdir().unwrap();
    let victim = tmp.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let dump = NewDump::begin(tmp.path()).unwrap();
    symlink(&victim, tmp.path().join("pstree.img")).unwrap();
    dump.put_one(ImageName::PsTree, &process(7)).unwrap();
    dump.commit(&inventory()).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(fs::symlink_metadata(tmp.path().join("pstree.img")).unwrap().nlink() == 1);
}

#[test]
fn only_regular_files_are_images() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let tmp = tempfile::tempdir().unwrap();
    NewDump::begin(tmp.path()).unwrap().commit(&inventory()).unwrap();
    let (dir, _) = ImageDir::open(tmp.path()).unwrap();
    let path = tmp.path().join("pstree.img");
    for (kind, what) in [
        (FileType::Fifo, "a fifo"),
        (FileType::Socket, "a socket"),
        (FileType::CharacterDevice, "a device"),
        (FileType::Directory, "a directory"),
    ] {
        match kind {
            FileType::Directory => fs::create_dir(&path).unwrap(),
            FileType::CharacterDevice if !rustix::process::geteuid().is_root() => continue,
            kind => mknodat(CWD, &path, kind, Mode::RUSR, rustix::fs::makedev(1, 3)).unwrap(),
        }
        let error = dir.get_all::<PstreeEntry>(ImageName::PsTree).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is {what}, no image", path.display()));
        if kind != FileType::Directory {
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn another_format_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let old = InventoryEntry { img_version: 1, ..inventory() };
    NewDump::begin(tmp.path()).unwrap().commit(&old).unwrap();
    assert!(matches!(ImageDir::open(tmp.path()), Err(ImageError::Version { version: 1, .. })));
}
