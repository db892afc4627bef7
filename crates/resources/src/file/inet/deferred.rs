//! Connections that a listener keeps back until something is sent on them
//! (`TCP_DEFER_ACCEPT`), and of which the kernel has but a request.
//!
//! It makes one of a SYN, and chooses the number that its answer begins with;
//! but where the SYN comes to what is left of an earlier connection between the
//! same ends (`TIME_WAIT`), that number follows from the last of that. So such a
//! rest is made first, then the peer is had to ask, and to say that it has heard
//! the answer, which nobody hears as long as the network is locked.
//!
//! Since Linux 6.15 such a request takes nothing whose time stamp answers to one that
//! is older than itself. So the peer is told the time once more, by a bare
//! acknowledgement, and then the kernel is had to answer it again, which makes that
//! time one that it takes (`snt_tsval_first` and `snt_tsval_last`).
//!
//! Truth from: `tcp_timewait_state_process` and `tcp_check_req` in
//! `net/ipv4/tcp_minisocks.c`, `tcp_conn_request` in `net/ipv4/tcp_input.c`.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use dormouse_kernel::sock_diag::SockDiag;
use dormouse_kernel::tcp::{self, Queue, Repair};
use rustix::net::{Shutdown, bind, connect, shutdown};

use super::inside::Inside;
use super::listing::make;
use super::options::{Kind, TCP};
use super::segment::{self, Segment, Sort};
use super::unaccepted::{Child, WAITING};
use crate::{Error, Result};

/// How far the number of an answer is behind the last of what is left
/// (`tcp_timewait_state_process`).
const AHEAD: u32 = 65537;
/// How long the kernel may take for a segment, before it is known not to take it.
const PATIENCE: Duration = Duration::from_secs(1);

// include/net/tcp_states.h.
const SYN_RECV: u8 = 3;
const TIME_WAIT: u8 = 6;

/// Has a listener keep connections back again; gives those that cannot be: its
/// answer would begin with other numbers, for this host has another clock, or
/// others share its port. Nothing is left of them.
pub(super) fn keep_back<'a>(
    children: &[&'a Child],
    listener: BorrowedFd<'_>,
) -> Result<Vec<&'a Child>> {
    let Some(first) = children.first() else { return Ok(Vec::new()) };
    let diag = SockDiag::open()?;
    for child in children {
        child.ask(&diag)?;
    }
    let mut inside = Inside::open().map_err(Error::InetReader)?;
    let made = inside.requests(&[(listener, first.local.is_ipv6())]);
    let made = made.map_err(Error::InetReader)?.unwrap_or_default();
    let made: Vec<_> = made.into_values().flatten().collect();
    let mut others = Vec::new();
    for &child in children {
        let ends = (child.remote, child.local);
        let found = made.binary_search_by_key(&ends, |made| (made.remote, made.local));
        if let Ok(place) = found
            && child.is_kept_by(&made[place])
        {
            made[place].tell_time()?;
            continue;
        }
        if diag.connection(child.local, child.remote)?.is_some() {
            segment::inject(child.segment(child.received_to, Sort::Resets))?;
        }
        others.push(child);
    }
    Ok(others)
}

impl Child {
    /// Has the peer ask.
    fn ask(&self, diag: &SockDiag) -> Result<()> {
        // A request outlives its listener, until a segment comes.
        segment::inject(self.segment(self.received_to, Sort::Resets))?;
        self.leave_rest()?;
        if !self.comes_to(diag, TIME_WAIT)? {
            return Ok(());
        }
        self.send_question()?;
        if self.comes_to(diag, SYN_RECV)? {
            segment::inject(self.segment(self.received_to, Sort::Plain))?;
        }
        Ok(())
    }

    fn send_question(&self) -> Result<()> {
        let asked_at = self.received_to.wrapping_sub(1);
        let sort = Sort::Asks { notices: self.terms.ecn };
        segment::inject(Segment { options: &self.options(), ..self.segment(asked_at, sort) })
    }

    /// Tells the peer what this side's clock shows, and has the kernel know that
    /// it did.
    fn tell_time(&self) -> Result<()> {
        /// What a listener offers, in bytes (`MAX_TCP_WINDOW` is little more).
        const WINDOW: u16 = 64240;
        const NOTHING: u8 = 1;
        let Some((theirs, ours)) = self.terms.timestamps else { return Ok(()) };
        let mut options = vec![NOTHING, NOTHING, 8, 10];
        options.extend([ours, theirs].map(u32::to_be_bytes).as_flattened());
        let scale = self.terms.scales.map_or(0, |(_, ours)| ours);
        segment::inject(Segment {
            from: self.local,
            to: self.remote,
            sequence: self.sent_to,
            acknowledged: self.received_to,
            window: (WINDOW >> scale).max(1),
            options: &options,
            ..self.segment(0, Sort::Plain)
        })?;
        self.send_question()
    }

    /// Leaves what an earlier connection would have left, with the number before
    /// those of this one.
    fn leave_rest(&self) -> Result<()> {
        let failed = |call| Error::kernel(call, WAITING);
        let last = self.sent_to.wrapping_sub(1).wrapping_sub(AHEAD);
        // Before all that the peer will send.
        let received = self.received_to.wrapping_sub(AHEAD);
        let family = if self.local.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
        let socket = make(Kind { family, kind: libc::SOCK_STREAM, protocol: TCP })
            .map_err(failed("socket"))?;
        let socket = socket.as_fd();
        let select =
            |queue| tcp::select(socket, queue).map_err(Error::kernel("TCP_REPAIR_QUEUE", WAITING));
        tcp::repair(socket, Repair::On).map_err(failed("TCP_REPAIR"))?;
        bind(socket, &self.local).map_err(Error::kernel("bind", self.local.to_string()))?;
        // The end has a number too.
        for (queue, number) in [(Queue::Receive, received), (Queue::Send, last.wrapping_sub(1))] {
            select(queue)?;
            tcp::set_sequence(socket, number).map_err(failed("TCP_QUEUE_SEQ"))?;
        }
        connect(socket, &self.remote).map_err(Error::kernel("connect", self.remote.to_string()))?;
        select(Queue::Send)?;
        shutdown(socket, Shutdown::Write).map_err(failed("shutdown"))?;
        select(Queue::None)?;
        let finish = self.segment(received, Sort::Finishes);
        // The socket has closed when it is dropped, and nobody hears of it.
        segment::inject(Segment { acknowledged: last, ..finish })
    }

    /// The options of a SYN that says what this side has heard from the peer.
    fn options(&self) -> Vec<u8> {
        const NOTHING: u8 = 1;
        let terms = &self.terms;
        let [high, low] = terms.segment_size.to_be_bytes();
        let mut options = vec![2, 4, high, low];
        if terms.sack {
            options.extend([4, 2]);
        }
        if let Some((theirs, _)) = terms.timestamps {
            options.extend([8, 10]);
            options.extend(theirs.to_be_bytes());
            options.extend([0; 4]);
        }
        if let Some((theirs, _)) = terms.scales {
            options.extend([3, 3, theirs]);
        }
        options.resize(options.len().next_multiple_of(4), NOTHING);
        options
    }

    /// Whether a request is of this connection, for all that its peer can tell.
    fn is_kept_by(&self, made: &Self) -> bool {
        let clock = |child: &Self| child.terms.timestamps.unzip();
        let ((theirs, ours), (made_theirs, made_ours)) = (clock(self), clock(made));
        // A clock must not go back.
        let has_gone_on = match (ours, made_ours) {
            (Some(ours), Some(made)) => made.wrapping_sub(ours).cast_signed() >= 0,
            (ours, made) => ours == made,
        };
        let without = |child: &Self| {
            let mut child = child.clone();
            child.terms.timestamps = None;
            (child.terms, child.received_to, child.sent_to)
        };
        has_gone_on && theirs == made_theirs && without(self) == without(made)
    }

    /// Whether the kernel comes to have it in a state.
    fn comes_to(&self, diag: &SockDiag, state: u8) -> Result<bool> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if diag.connection(self.local, self.remote)?.is_some_and(|it| it.state == state) {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(false)
    }
}
