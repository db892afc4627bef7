//! Images written by CRIU are read, and written again the same to the byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use dormouse_image::ImageDir;
use dormouse_image::describe::describe;
use dormouse_image::name::ImageName;
use dormouse_image::pagemap::Pagemap;
use dormouse_image::proto::core::CoreEntry;
use dormouse_image::proto::files::{FdType, FdinfoEntry, FileEntry};
use dormouse_image::proto::pstree::PstreeEntry;

use crate::support;

#[test]
fn images_are_written_again_the_same() {
    for (name, bytes) in support::images() {
        let again = support::recode(name, &bytes).unwrap();
        assert!(again == bytes, "{name}");
    }
}

#[test]
fn what_the_process_had_is_in_them() {
    let (dir, inventory) = ImageDir::open(&support::golden()).unwrap();
    assert_eq!(inventory.fdinfo_per_id, Some(true));

    let tree: Vec<PstreeEntry> = dir.get_all(ImageName::PsTree).unwrap();
    let [parent, child] = &*tree else { panic!("{tree:?}") };
    assert_eq!((parent.ppid, child.ppid), (0, parent.pid));
    assert_eq!((parent.threads.len(), child.threads.len()), (2, 1));

    let core: CoreEntry = dir.get_one(ImageName::Core(parent.pid)).unwrap();
    let task = core.tc.unwrap();
    assert_eq!(task.comm, b"python3");
    assert_eq!(task.timers.unwrap().real.isec, 1);
    let fpregs = core.thread_info.unwrap().fpregs;
    assert_eq!((fpregs.st_space.len(), fpregs.xmm_space.len()), (32, 64));

    let files: Vec<FileEntry> = dir.get_all(ImageName::Files).unwrap();
    let of = |kind: FdType| files.iter().filter(move |file| file.kind == kind as i32);
    let epoll = of(FdType::EventPoll).next().unwrap().epfd.as_ref().unwrap();
    assert_eq!(epoll.tfd.len(), 1);
    let fds: Vec<FdinfoEntry> = dir.get_all(ImageName::Fdinfo(2)).unwrap();
    let watched =
        fds.iter().find(|fd| Some(fd.fd) == epoll.tfd.iter().next().map(|item| item.tfd)).unwrap();
    assert_eq!(watched.kind, FdType::Pipe as i32);
    assert!(fds.iter().all(|fd| files.iter().any(|file| file.id == fd.id)));
    assert_eq!(of(FdType::EventFd).next().unwrap().efd.as_ref().unwrap().counter, 7);
    assert_eq!(of(FdType::UnixSk).count(), 2);
}

/// Every dump here, and below the directory `DORMOUSE_DUMPS` if there is one, such as those
/// that CRIU's own tests leave behind.
#[test]
fn images_of_all_dumps_are_described_and_written_again_the_same() {
    let more = std::env::var_os("DORMOUSE_DUMPS").map(PathBuf::from);
    let mut dirs: Vec<_> = [support::golden()].into_iter().chain(more).collect();
    let (mut same, mut broken) = (BTreeMap::<&str, u32>::new(), Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                dirs.push(path);
                continue;
            }
            let Some(name) = ImageName::parse(name.as_encoded_bytes()) else {
                if path.extension() == Some("img".as_ref()) {
                    broken.push(format!("{}: unknown", path.display()));
                }
                continue;
            };
            if matches!(name, ImageName::Pages(_)) {
                continue;
            }
            if name == ImageName::Inventory {
                describe(path.parent().unwrap()).unwrap();
                let (dir, _) = ImageDir::open(path.parent().unwrap()).unwrap();
                let has_pages = path.parent() != Some(&*support::golden());
                for name in dir.list().unwrap().into_keys() {
                    let is_map = matches!(name, ImageName::Pagemap(_) | ImageName::PagemapShmem(_));
                    if has_pages && is_map {
                        Pagemap::read(&dir, name).unwrap().unwrap();
                    }
                }
            }
            let bytes = fs::read(&path).unwrap();
            match support::recode(name, &bytes) {
                Ok(again) if again == bytes => *same.entry(name.kind().prefix()).or_default() += 1,
                Ok(_) => broken.push(format!("{}: differs", path.display())),
                Err(error) => broken.push(format!("{}: {error}", path.display())),
            }
        }
    }
    println!("{same:#?}");
    assert!(!same.is_empty() && broken.is_empty(), "{broken:#?}");
}
