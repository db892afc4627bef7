//! Many descriptors of a table at once.
//!
//! A message brings up to 253 of them, and whoever receives it gets them under the lowest numbers that are
//! free, in their order (`scm_detach_fds`, `net/core/scm.c`). So what comes fills the table from below,
//! with something in each gap that is closed afterwards. The socket is under the highest number
//! meanwhile. When that is free again, and then the lowest that is, all have come.

use std::mem::{MaybeUninit, offset_of};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};

use dormouse_kernel::NsPid;
use dormouse_puppet::Batch;
use dormouse_resources::file::{CreatedFiles, Descriptor};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};

use super::world::World;
use crate::cause::Cause;

/// `SCM_MAX_FD`, `include/net/scm.h`.
const MOST: usize = 253;
/// Messages that wait at a time: half of what a socket takes by default.
const AT_ONCE: usize = 128;
/// Fewer are fetched one by one.
const FEWEST: usize = 8;

/// Fills a table with its lowest descriptors, as many as come so, and says how many that are: none if
/// some file cannot be sent. What does not exist yet has something else in its place.
pub(super) fn send(
    world: &mut World,
    task: NsPid,
    entries: &[Descriptor],
    created: &CreatedFiles<'_>,
) -> Result<usize, Cause> {
    let count = dense(entries);
    let entries = &entries[..count];
    let file = |descriptor: &Descriptor| {
        created.exists(descriptor.file).then(|| created.get(descriptor.file))
    };
    let (Some(last), Some(filler)) = (entries.last(), entries.iter().find_map(file)) else {
        return Ok(0);
    };
    let link = world.link();
    let number = last.fd.as_raw();
    let Layout { sent, gaps, marked } = Layout::new(entries, link);
    let sent = sent.into_iter().map(|index| index.and_then(|index| file(&entries[index])));
    let sent: Vec<_> = sent.map(|file| file.unwrap_or(filler)).collect();

    let kind = SocketType::SEQPACKET;
    let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let Ok((sender, receiver)) = pair else { return Ok(0) };
    let mut batch = Batch::new();
    let slot = world.fetch(&mut batch, receiver.as_fd());
    batch.call(libc::SYS_dup3, [(&slot).into(), number.into(), libc::O_CLOEXEC.into()]);
    batch.call(libc::SYS_close, [(&slot).into()]);
    world.run(task, batch)?;
    drop(receiver);
    let messages: Vec<_> = sent.chunks(MOST).collect();
    for some in messages.chunks(AT_ONCE) {
        if !some.iter().all(|files| put(sender.as_fd(), files)) {
            return give_up(world, task);
        }
        world.run(task, receive(number, some.len()))?;
    }

    let mut batch = Batch::new();
    batch.call(libc::SYS_close, [number.into()]);
    let slot = world.fetch(&mut batch, file(last).unwrap_or(filler));
    if !last.close_on_exec {
        batch.call(libc::SYS_fcntl, [(&slot).into(), libc::F_SETFD.into(), 0.into()]);
    }
    for gap in gaps {
        batch.call(libc::SYS_close_range, [(*gap.start()).into(), (*gap.end()).into(), 0.into()]);
    }
    for run in marked {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        let range = [(*run.start()).into(), (*run.end()).into(), flags.into()];
        batch.call(libc::SYS_close_range, range);
    }
    for late in entries.iter().filter(|descriptor| !created.exists(descriptor.file)) {
        let place = late.fd.as_raw();
        batch.call(libc::SYS_dup3, [link.into(), place.into(), libc::O_CLOEXEC.into()]);
    }
    let replies = world.run(task, batch)?;
    if replies.value(&slot) == u64::from(number) { Ok(count) } else { give_up(world, task) }
}

/// Closes what has come.
fn give_up(world: &mut World, task: NsPid) -> Result<usize, Cause> {
    let link = world.link();
    let mut batch = Batch::new();
    if let Some(below) = link.checked_sub(1) {
        batch.call(libc::SYS_close_range, [0.into(), below.into(), 0.into()]);
    }
    batch.call(libc::SYS_close_range, [(link + 1).into(), u32::MAX.into(), 0.into()]);
    world.run(task, batch)?;
    Ok(0)
}

/// Sends descriptors, and nothing else.
fn put(socket: BorrowedFd<'_>, files: &[BorrowedFd<'_>]) -> bool {
    let rights = SendAncillaryMessage::ScmRights(files);
    let mut space = vec![MaybeUninit::uninit(); rights.size()];
    let mut buffer = SendAncillaryBuffer::new(&mut space);
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    buffer.push(rights) && sendmsg(socket, &[], &mut buffer, flags).is_ok()
}

/// Receives messages. Only the last may be less than full: the kernel notes in the one header what each
/// has brought.
fn receive(socket: u32, messages: usize) -> Batch {
    /// A header, and a number for each.
    const CONTROL: usize = (size_of::<libc::cmsghdr>() + 4 * MOST).next_multiple_of(8);
    let mut batch = Batch::new();
    let control = batch.data(&[0; CONTROL]);
    let mut header = [0; size_of::<libc::msghdr>()];
    let len = offset_of!(libc::msghdr, msg_controllen);
    header[len..len + size_of::<usize>()].copy_from_slice(&CONTROL.to_ne_bytes());
    let header = batch.data(&header);
    batch.point(header, offset_of!(libc::msghdr, msg_control), control);
    for _ in 0..messages {
        let flags = libc::MSG_DONTWAIT;
        batch.call(libc::SYS_recvmsg, [socket.into(), header.into(), flags.into()]);
    }
    batch
}

/// Whether any come so.
pub(super) fn is_worth_it(entries: &[Descriptor]) -> bool {
    dense(entries) > 0
}

/// How many of the lowest there are without too much between them.
fn dense<F>(entries: &[Descriptor<F>]) -> usize {
    let counts = FEWEST..=entries.len();
    let is_dense = |count: &usize| entries[count - 1].fd.as_raw() as usize <= 4 * count;
    counts.rev().find(is_dense).unwrap_or(0)
}

/// What comes under which number.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    /// By number, but for the link and the last: the index of a descriptor, or a gap.
    sent: Vec<Option<usize>>,
    gaps: Vec<RangeInclusive<u32>>,
    /// What is close-on-exec.
    marked: Vec<RangeInclusive<u32>>,
}

impl Layout {
    fn new<F>(entries: &[Descriptor<F>], link: u64) -> Self {
        let (mut sent, mut gaps, mut marked) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = 0;
        for (index, descriptor) in entries.iter().enumerate() {
            let number = descriptor.fd.as_raw();
            for gap in (next..number).filter(|&gap| u64::from(gap) != link) {
                sent.push(None);
                extend(&mut gaps, gap);
            }
            if index + 1 < entries.len() {
                sent.push(Some(index));
            }
            if descriptor.close_on_exec {
                extend(&mut marked, number);
            }
            next = number + 1;
        }
        Self { sent, gaps, marked }
    }
}

fn extend(ranges: &mut Vec<RangeInclusive<u32>>, number: u32) {
    match ranges.last_mut() {
        Some(last) if *last.end() + 1 == number => *last = *last.start()..=number,
        _ => ranges.push(number..=number),
    }
}

#[cfg(test)]
mod tests {
    use dormouse_kernel::FdNum;
    use dormouse_resources::file::{Descriptor, FileId};

    use super::{Layout, dense};

    fn table(numbers: &[(u32, bool)]) -> Vec<Descriptor<FileId>> {
        let descriptor = |&(number, close_on_exec): &(u32, bool)| Descriptor {
            fd: FdNum::from_raw(number),
            file: FileId::from_raw(number),
            close_on_exec,
        };
        numbers.iter().map(descriptor).collect()
    }

    #[test]
    fn every_number_below_the_last_gets_something_but_the_link() {
        let all = [(1, true), (2, true), (6, false), (7, true), (9, true), (10, false)];
        let Layout { sent, gaps, marked } = Layout::new(&table(&all), 4);
        let expected = [None, Some(0), Some(1), None, None, Some(2), Some(3), None, Some(4)];
        assert_eq!(sent, expected);
        assert_eq!(gaps, [0..=0, 3..=3, 5..=5, 8..=8]);
        assert_eq!(marked, [1..=2, 7..=7, 9..=9]);
    }

    #[test]
    fn what_is_far_off_comes_by_itself() {
        let mut numbers: Vec<_> = (0..10).map(|number| (number, false)).collect();
        numbers.extend([(20, false), (1 << 20, false)]);
        assert_eq!(dense(&table(&numbers)), 11);
        assert_eq!(dense(&table(&numbers[..7])), 0);
        assert_eq!(dense(&[] as &[Descriptor<FileId>]), 0);
    }
}
