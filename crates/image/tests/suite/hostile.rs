//! Broken and malicious images are errors, never panics or huge allocations.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use dormouse_image::error::{ImageError, Problem};
use dormouse_image::framing::MAX_MESSAGE;
use dormouse_image::name::ImageName;
use dormouse_image::pagemap::{Pagemap, PagemapBuilder, PagemapProblem, Stored};
use dormouse_image::proto::inventory::InventoryEntry;
use dormouse_image::{ImageDir, NewDump};
use proptest::prelude::*;

use crate::support;

/// Bytes of the header of an image.
fn header(name: ImageName) -> usize {
    4 * name.kind().magic.words().len()
}

fn problem(error: ImageError) -> (u64, Problem) {
    match error {
        ImageError::Corrupt { offset, problem, .. } => (offset, problem),
        other => panic!("{other}"),
    }
}

#[test]
fn an_image_cut_short_is_an_error_or_ends_between_messages() {
    for (name, bytes) in support::images() {
        for cut in 0..bytes.len() {
            match support::recode(name, &bytes[..cut]) {
                Ok(again) => assert!(again == bytes[..cut], "{name} cut at {cut}"),
                Err(error) => match problem(error) {
                    (at, Problem::Truncated { .. } | Problem::NoMessage { .. }) => {
                        assert!(at <= cut as u64, "{name} cut at {cut}");
                    }
                    (_, other) => panic!("{name} cut at {cut}: {other}"),
                },
            }
        }
    }
}

#[test]
fn an_image_of_one_message_does_not_go_on() {
    for (name, mut bytes) in support::images() {
        if matches!(name, ImageName::Core(_) | ImageName::Mm(_) | ImageName::Inventory) {
            let end = bytes.len() as u64;
            bytes.push(0);
            let (at, problem) = problem(support::recode(name, &bytes).unwrap_err());
            assert!(matches!(problem, Problem::Trailing { left: 1 }), "{name}: {problem}");
            assert_eq!(at, end);
        }
    }
}

#[test]
fn a_length_is_not_believed() {
    for (name, mut bytes) in support::images() {
        let at = header(name);
        for len in [u32::MAX, MAX_MESSAGE as u32, bytes.len() as u32] {
            bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
            match problem(support::recode(name, &bytes).unwrap_err()).1 {
                Problem::TooBig { len: l } => assert_eq!((l, len), (u32::MAX.into(), u32::MAX)),
                Problem::Truncated { needed, .. } => assert_eq!(needed, u64::from(len)),
                other => panic!("{name}: {other}"),
            }
        }
    }
}

#[test]
fn zeros_are_no_messages() {
    for (name, mut bytes) in support::images() {
        let at = header(name);
        if bytes.len() == at + 4 {
            // It is empty, and the last.
            continue;
        }
        bytes[at..at + 4].fill(0);
        let problem = problem(support::recode(name, &bytes).unwrap_err()).1;
        assert!(matches!(problem, Problem::Empty), "{name}: {problem}");
    }
}

#[test]
fn a_payload_is_not_believed() {
    let (_, bytes) =
        support::images().into_iter().find(|(name, _)| *name == ImageName::PipesData).unwrap();
    // The payload's length is in the message: take a byte off its end instead.
    let error = support::recode(ImageName::PipesData, &bytes[..bytes.len() - 1]).unwrap_err();
    assert!(matches!(problem(error).1, Problem::Truncated { needed: 11, left: 10 }));
}

#[test]
fn every_magic_counts() {
    for (name, bytes) in support::images() {
        for at in 0..header(name) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let (offset, problem) = problem(support::recode(name, &bytes).unwrap_err());
            assert!(matches!(problem, Problem::Magic { .. }), "{name}: {problem}");
            assert_eq!(offset, at as u64 / 4 * 4);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// `recode` asserts that what was decoded survives being encoded.
    #[test]
    fn damage_is_survived(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut images = support::images();
        let (name, bytes) = &mut images[which.index(support::images().len())];
        let len = bytes.len();
        for (at, value) in damage {
            bytes[at.index(len)] = value;
        }
        let _ = support::recode(*name, bytes);
    }
}

/// A dump with a pagemap of process 1 in which everything is in the parent.
fn leaning(dir: &Path) {
    let dump = NewDump::begin(dir).unwrap();
    let mut map = PagemapBuilder::default();
    map.push(0x1000, 2, Stored::Parent).unwrap();
    map.write(&dump, ImageName::Pagemap(1), 1).unwrap();
    dump.commit(&inventory()).unwrap();
}

fn inventory() -> InventoryEntry {
    InventoryEntry { img_version: dormouse_image::magic::IMAGES_VERSION, ..Default::default() }
}

fn read(dir: &Path) -> Result<Option<Pagemap>, ImageError> {
    Pagemap::read(&ImageDir::open(dir).unwrap().0, ImageName::Pagemap(1))
}

#[test]
fn a_chain_of_parents_has_to_end_well() {
    let tmp = tempfile::tempdir().unwrap();
    let (base, top) = (tmp.path().join("base"), tmp.path().join("top"));
    fs::create_dir(&base).unwrap();
    fs::create_dir(&top).unwrap();

    leaning(&top);
    assert!(matches!(read(&top), Err(ImageError::Missing { .. })), "no parent");

    symlink("../base", top.join("parent")).unwrap();
    assert!(matches!(read(&top), Err(ImageError::Missing { .. })), "no pagemap in the parent");

    leaning(&base);
    symlink("../top", base.join("parent")).unwrap();
    let (_, endless) = problem(read(&top).unwrap_err());
    assert!(matches!(endless, Problem::Pagemap(PagemapProblem::EndlessChain)));

    // `begin` takes the old link away with the old dump.
    let dump = NewDump::begin(&base).unwrap();
    let mut map = PagemapBuilder::default();
    map.push(0, 3, Stored::Here).unwrap();
    map.write(&dump, ImageName::Pagemap(1), 5).unwrap();
    let pages = dump.raw(ImageName::Pages(5)).unwrap();
    pages.set_len(2 * 4096).unwrap();
    dump.commit(&inventory()).unwrap();
    let (_, short) = problem(read(&top).unwrap_err());
    assert!(matches!(short, Problem::Pagemap(PagemapProblem::OutOfFile { .. })));

    pages.set_len(3 * 4096).unwrap();
    let map = read(&top).unwrap().unwrap();
    assert_eq!(map.runs.len(), 1);
    assert!(map.files[0].is_none());
    assert_eq!(map.files[1].as_ref().unwrap().id, 5);

    fs::remove_file(base.join("pages-5.img")).unwrap();
    assert!(matches!(read(&top), Err(ImageError::Missing { .. })), "no pages");

    fs::remove_dir_all(&base).unwrap();
    assert!(matches!(read(&top), Err(ImageError::Io { op: "open", .. })), "a dangling link");
}
