//! What every kind of file has to do, over the whole registry.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;

use dormouse_image::proto::files::eventpoll::EventpollTfdEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::{ImageDir, ImageName};
use dormouse_resources::Error;
use dormouse_resources::file::{File, Refusal, SUPPORTED};
use proptest::prelude::*;

use crate::round_trip::{Contents, Dump, Images};
use crate::zoo::{ABSENT, Fate, zoo};

type Animal = (&'static str, OwnedFd, Fate);

fn claimed(files: &[Animal]) -> impl Iterator<Item = &OwnedFd> {
    files.iter().filter(|(.., fate)| matches!(fate, Fate::Claimed(_))).map(|(_, file, _)| file)
}

fn dump<'a>(files: impl IntoIterator<Item = &'a OwnedFd>) -> (Images, Contents) {
    let mut dump = Dump::new();
    for file in files {
        dump.descriptor(file);
    }
    dump.write().unwrap()
}

#[test]
fn every_file_is_claimed_by_one_room_or_refused_by_name() {
    let zoo = zoo();
    let (mut tags, mut refusals) = (BTreeSet::new(), BTreeSet::new());
    for (name, file, fate) in &zoo.files {
        let mut dump = Dump::new();
        let id = dump.descriptor(file);
        let claims: Vec<_> = File::claims(dump.probe(id)).collect();
        match *fate {
            Fate::Claimed(tag) => {
                assert_eq!(claims, [tag], "{name}");
                tags.insert(tag);
            }
            Fate::Refused(refusal) => {
                assert_eq!(claims, [], "{name}");
                assert_eq!(Refusal::of(dump.probe(id)), refusal, "{name}");
                refusals.insert(refusal);
                match dump.write().map(drop) {
                    Err(Error::Unsupported { object, .. }) => assert_eq!(object, refusal.object()),
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
    }
    let supported: BTreeSet<_> = SUPPORTED.iter().map(|kind| kind.tag).collect();
    assert_eq!(tags, supported, "every room has claimed a file");
    assert_eq!(supported.len(), SUPPORTED.len(), "every room has a tag of its own");
    refusals.extend(ABSENT);
    assert_eq!(refusals, Refusal::ALL.iter().copied().collect(), "every refusal is known here");
}

/// What was restored is dumped to the same images once more.
#[test]
fn images_of_restored_files_are_the_same() {
    if epoll_interest::Inspector::new().is_err() {
        eprintln!("skipped: epolls cannot be read here");
        return;
    }
    let mut zoo = zoo();
    // Terminals come back under their numbers, which these still have.
    zoo.files.retain(|(.., fate)| *fate != Fate::Claimed(FdType::Tty));
    let (first, shared) = dump(claimed(&zoo.files));
    let restored = first.restore(&shared, &[]).unwrap();
    let again = claimed(&zoo.files).map(|file| restored.of(file));
    let (second, _) = dump(again);
    let entries = |images: &Images| {
        let (dir, _) = ImageDir::open(images.dir.path()).unwrap();
        let mut entries: Vec<FileEntry> = dir.get_all(ImageName::Files).unwrap();
        entries.iter_mut().for_each(forget_numbers);
        entries
    };
    let (first, second) = (entries(&first), entries(&second));
    assert_eq!(first.len(), second.len());
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first, second);
    }
}

/// Takes out what is another number each time.
fn forget_numbers(entry: &mut FileEntry) {
    if let Some(isk) = &mut entry.isk {
        isk.ino = 0;
    }
    if let Some(nlsk) = &mut entry.nlsk {
        nlsk.ino = 0;
    }
    if let Some(usk) = &mut entry.usk {
        usk.ino = 0;
        // Whoever made the socket: here, no task of the tree comes back.
        for peer in usk.dormouse.iter_mut().filter_map(|state| state.peer_cred.as_mut()) {
            peer.pid = 0;
        }
    }
    if let Some(map) = &mut entry.bpf {
        map.map_id = 0;
    }
    if let Some(pipe) = &mut entry.pipe {
        pipe.pipe_id = 0;
    }
    if let Some(epoll) = &mut entry.epfd {
        let (number, dev, inode) = (None, None, None);
        let plain = |item| EventpollTfdEntry { tfd: 0, number, dev, inode, ..item };
        epoll.tfd = epoll.tfd.iter().map(plain).collect();
    }
    if let Some(reg) = &mut entry.reg {
        // A temporary file is named after its inode.
        if let Some(place) = reg.name.iter().position(|&byte| byte == b'#') {
            reg.name.truncate(place);
        }
    }
}

/// The same files give the same bytes.
#[test]
fn images_are_deterministic() {
    let zoo = zoo();
    let files = || claimed(&zoo.files);
    let ((first, _), (second, _)) = (dump(files()), dump(files()));
    for entry in fs::read_dir(first.dir.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |images: &Images| fs::read(images.dir.path().join(&name)).unwrap();
        assert_eq!(read(&first), read(&second), "{name:?}");
    }
}

#[test]
fn an_entry_without_its_message_is_refused() {
    let zoo = zoo();
    let (images, _) = dump(claimed(&zoo.files));
    let (dir, _) = ImageDir::open(images.dir.path()).unwrap();
    let entries: Vec<FileEntry> = dir.get_all(ImageName::Files).unwrap();
    let path = images.dir.path().join(ImageName::Files.to_string());
    let pristine = fs::read(&path).unwrap();
    for (index, damaged) in entries.iter().enumerate() {
        fs::write(&path, &pristine).unwrap();
        let mut number = 0..;
        crate::epoll::rewrite(&images, |entry| {
            if number.next() == Some(index) {
                let (kind, id) = (entry.kind, entry.id);
                *entry = FileEntry { kind, id, ..FileEntry::default() };
            }
        });
        let error = images.decode().unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{damaged:?}: {error}");
    }
}

/// One change to the bytes of an image.
#[derive(Clone, Debug)]
enum Damage {
    Replace(u8),
    Insert(u8),
    Remove(usize),
    Repeat(usize),
}

fn damage() -> impl Strategy<Value = (prop::sample::Index, prop::sample::Index, Damage)> {
    let kinds = prop_oneof![
        4 => any::<u8>().prop_map(Damage::Replace),
        1 => any::<u8>().prop_map(Damage::Insert),
        1 => (1_usize..9).prop_map(Damage::Remove),
        1 => (1_usize..40).prop_map(Damage::Repeat),
    ];
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), kinds)
}

/// The damaged images are judged, without panicking. Those that are found good
/// are good, so nothing is to be seen of that.
#[test]
fn damaged_images_are_judged() {
    let zoo = zoo();
    let (images, _) = dump(claimed(&zoo.files));
    let pristine: Vec<_> = fs::read_dir(images.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("inventory.img"))
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    assert!(pristine.len() >= 7, "{pristine:?}");
    images.decode().unwrap();
    let judged = std::cell::Cell::new((0_u32, 0_u32));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(3000));
    runner
        .run(&damage(), |(image, place, damage)| {
            let (bytes, path) = image.get(&pristine);
            let mut bytes = bytes.clone();
            // The magics are the image crate's affair.
            let at = 8 + place.index(bytes.len() - 8);
            match damage {
                Damage::Replace(byte) => bytes[at] = byte,
                Damage::Insert(byte) => bytes.insert(at, byte),
                Damage::Remove(len) => drop(bytes.drain(at..(at + len).min(bytes.len()))),
                Damage::Repeat(len) => {
                    let part = bytes[at..(at + len).min(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
            fs::write(path, &bytes).unwrap();
            let (good, bad) = judged.get();
            judged.set(match images.decode() {
                Ok(()) => (good + 1, bad),
                Err(_) => (good, bad + 1),
            });
            fs::write(path, &image.get(&pristine).0).unwrap();
            Ok(())
        })
        .unwrap();
    let (good, bad) = judged.get();
    assert!(good > 0 && bad > good / 4, "{good} of {} are good", good + bad);
}
