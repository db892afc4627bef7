//! Messages on the wire, and between them.

use std::path::Path;

use dormouse_image::framing::{Reader, write_header, write_message};
use dormouse_image::magic::{IMG_COMMON, Magic};
use dormouse_image::proto::core::{CoreEntry, ThreadCoreEntry};
use dormouse_image::proto::files::eventpoll::{EventpollFileEntry, EventpollTfdEntry};
use dormouse_image::proto::files::pipe::PipeDataEntry;
use dormouse_image::proto::files::reg::RegFileEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::proto::mm::{MmEntry, VmaEntry};
use dormouse_image::proto::pstree::PstreeEntry;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

#[test]
fn repeated_numbers_are_written_one_by_one_and_read_in_both_forms() {
    let process = PstreeEntry { pid: 1, ppid: 0, pgid: 1, sid: 1, threads: vec![1, 300] };
    let bytes = process.encode_to_vec();
    assert_eq!(bytes, [8, 1, 16, 0, 24, 1, 32, 1, 40, 1, 40, 0xac, 2]);
    let packed = [8, 1, 16, 0, 24, 1, 32, 1, 42, 3, 1, 0xac, 2];
    assert_eq!(PstreeEntry::decode(&packed[..]).unwrap(), process);
}

#[test]
fn what_nobody_knows_is_skipped() {
    /// `thread_core_entry` as a reader has it that never heard of Dormouse.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Old {
        #[prost(uint64, required, tag = "1")]
        futex_rla: u64,
        #[prost(uint32, required, tag = "2")]
        futex_rla_len: u32,
    }
    let thread = ThreadCoreEntry {
        futex_rla: 7,
        futex_rla_len: 24,
        files_id: Some(3),
        fs_id: Some(4),
        ..Default::default()
    };
    let old = Old::decode(&*thread.encode_to_vec()).unwrap();
    assert_eq!((old.futex_rla, old.futex_rla_len), (7, 24));
}

#[test]
fn a_name_need_not_be_text() {
    let file = RegFileEntry { name: b"/tmp/\xff\xfe".to_vec(), ..Default::default() };
    assert_eq!(RegFileEntry::decode(&*file.encode_to_vec()).unwrap(), file);
}

#[test]
fn defaults_are_proto2s() {
    assert_eq!(RegFileEntry::default().mnt_id(), -1);
    let with = RegFileEntry { mnt_id: Some(-1), ..Default::default() };
    // A field that is set is written, default or not.
    assert!(with.encoded_len() > RegFileEntry::default().encoded_len());
}

fn vma() -> impl Strategy<Value = VmaEntry> {
    (any::<[u64; 4]>(), any::<[u32; 3]>(), any::<(i64, Option<u64>, Option<u32>)>()).prop_map(
        |([start, end, pgoff, shmid], [prot, flags, status], (fd, madv, fdflags))| VmaEntry {
            start,
            end,
            pgoff,
            shmid,
            prot,
            flags,
            status,
            fd,
            madv,
            fdflags,
            ..Default::default()
        },
    )
}

fn item() -> impl Strategy<Value = EventpollTfdEntry> {
    (any::<[u32; 3]>(), any::<u64>(), any::<(Option<u32>, Option<u64>, Option<u64>)>()).prop_map(
        |([id, tfd, events], data, (dev, inode, pos))| EventpollTfdEntry {
            id,
            tfd,
            events,
            data,
            dev,
            inode,
            pos,
            ..Default::default()
        },
    )
}

fn epoll() -> impl Strategy<Value = FileEntry> {
    (any::<u32>(), any::<u32>(), vec(item(), 0..20)).prop_map(|(id, flags, tfd)| FileEntry {
        kind: FdType::EventPoll as i32,
        id,
        epfd: Some(Box::new(EventpollFileEntry {
            id,
            flags,
            tfd: tfd.into_iter().collect(),
            ..Default::default()
        })),
        ..Default::default()
    })
}

fn survives<M: Message + Default + PartialEq>(message: &M) -> bool {
    M::decode(&*message.encode_to_vec()).is_ok_and(|again| again == *message)
}

proptest! {
    #[test]
    fn messages_survive(
        vmas in vec(vma(), 0..20),
        auxv in vec(any::<u64>(), 0..50),
        file in epoll(),
        comm in option::of(vec(any::<u8>(), 0..16)),
        nice in option::of(any::<i32>()),
    ) {
        let mm = MmEntry { vmas, mm_saved_auxv: auxv, ..Default::default() };
        prop_assert!(survives(&mm));
        prop_assert!(survives(&file));
        let thread = ThreadCoreEntry { comm, sched_nice: nice, ..Default::default() };
        let core = CoreEntry { thread_core: Some(thread), ..Default::default() };
        prop_assert!(survives(&core));
    }

    #[test]
    fn an_image_is_its_messages_and_payloads(
        word: u32,
        parts in vec((any::<(u32, Option<u32>)>(), vec(any::<u8>(), 0..200)), 0..10),
    ) {
        let mut image = Vec::new();
        write_header(&mut image, Magic::Common(word)).unwrap();
        let mut scratch = Vec::new();
        for ((pipe_id, size), payload) in &parts {
            let bytes = payload.len() as u32;
            let message = PipeDataEntry {
 pipe_id: *pipe_id, bytes, size: *size, ..Default::default() };
            write_message(&mut image, &message, &mut scratch).unwrap();
            image.extend(payload);
        }
        prop_assert_eq!(&image[..4], IMG_COMMON.to_le_bytes());

        let mut reader =
            Reader::from_bytes(&image, Magic::Common(word), Path::new("pipes")).unwrap();
        for ((pipe_id, size), payload) in &parts {
            let message: PipeDataEntry = reader.need_message().unwrap();
            prop_assert_eq!((message.pipe_id, message.size), (*pipe_id, *size));
            prop_assert_eq!(&reader.payload(message.bytes.into()).unwrap(), payload);
        }
        prop_assert!(reader.next_message::<PipeDataEntry>().unwrap().is_none());
        reader.end().unwrap();
    }
}

/// Enumerations are closed to CRIU's `crit`: it reads no entry of a kind that it does not know.
#[test]
fn kinds_that_only_dormouse_has_are_external_to_others() {
    let queue = FileEntry {
        kind: FdType::Mqueue as i32,
        id: 7,
        mqueue: Some(Box::default()),
        ..Default::default()
    };
    let userfaultfd = FileEntry {
        kind: FdType::Userfaultfd as i32,
        id: 9,
        userfaultfd: Some(Box::default()),
        ..Default::default()
    };
    let ring = FileEntry {
        kind: FdType::IoUring as i32,
        id: 8,
        uring: Some(Box::default()),
        ..Default::default()
    };
    let all =
        [(queue, FdType::Mqueue), (ring, FdType::IoUring), (userfaultfd, FdType::Userfaultfd)];
    for (entry, kind) in all {
        assert_eq!(entry.fd_type(), Some(kind));
        let written = entry.clone().for_images();
        assert_eq!(written.kind, FdType::Ext as i32);
        assert_eq!(written.ext.as_ref().map(|ext| ext.id), Some(entry.id));
        assert_eq!(written.fd_type(), Some(kind));
    }
    let lost = FileEntry { kind: FdType::Ext as i32, ..Default::default() };
    assert_eq!(lost.fd_type(), None);
    let external = FileEntry { ext: Some(Box::default()), ..lost };
    assert_eq!(external.fd_type(), Some(FdType::Ext));
    let plain = FileEntry { kind: FdType::Pipe as i32, ..Default::default() };
    assert_eq!(plain.clone().for_images(), plain);
}
