//! Requests that wait for something to happen, in the kernel's own memory.
//!
//! Truth from: `io_uring/{poll,timeout,net,rw}.c`. Those that wait for a file are in a table by what
//! the program calls them, timeouts in a list. What the program has asked for is
//! kept in each, for when it is tried again.

use dormouse_kernel::io_uring::{SQE_CQE_SKIP_SUCCESS, SQE_FIXED_FILE};
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, ReadError};

use super::Problem;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Where it is.
    pub(super) at: Address,
    /// What the program calls it.
    pub(super) data: u64,
    /// `IORING_OP_*`.
    pub(super) operation: u8,
    /// `IOSQE_*`.
    pub(super) flags: u8,
    /// The `struct file`, or zero.
    pub(super) file: Address,
    /// The `struct task_struct` of whoever made it.
    pub(super) task: Address,
    /// It is part of a chain, or has credentials of its own.
    pub(super) is_special: bool,
    /// What it waits for has happened: it is tried again as soon as the task runs.
    pub(super) is_woken: bool,
    pub(super) asked: Asked,
}

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Poll { events: u32 },
    Accept { address: u64, len: u64, flags: u32, priority: u32, slot: u32 },
    Receive { buffer: u64, len: u32, done: u32, flags: u32, priority: u16 },
    Read { buffer: u64, len: u32, flags: u32 },
    Timeout { expires: u64, time: [u64; 2], flags: u32, count: u32 },
    Other,
}

pub(super) const OP_POLL_ADD: u8 = 6;
pub(super) const OP_TIMEOUT: u8 = 11;
pub(super) const OP_ACCEPT: u8 = 13;
pub(super) const OP_READ: u8 = 22;
pub(super) const OP_RECV: u8 = 27;

impl Waiting {
    /// Why it is not kept, however it is asked.
    pub(super) fn problem(&self) -> Option<Problem> {
        let reason = "requests are in flight that are linked, drained, forced or with provided \
                      buffers";
        (self.flags & !(SQE_CQE_SKIP_SUCCESS | SQE_FIXED_FILE) != 0 || self.is_special)
            .then_some((reason, "dump again when the program has none of these requests in flight"))
    }
}

/// Offsets in bytes.
pub(super) struct Layout {
    table: usize,
    table_bits: usize,
    bucket: usize,
    timeouts: usize,
    size: usize,
    hash: usize,
    operation: usize,
    flags: usize,
    data: usize,
    context: usize,
    async_data: usize,
    link: usize,
    creds: usize,
    poll_refs: usize,
    context_task: usize,
    poll_events: usize,
    accept: [usize; 5],
    receive: [usize; 5],
    access: [usize; 3],
    timeout_list: usize,
    timeout_count: usize,
    timer_expires: usize,
    timer_time: usize,
    timer_flags: usize,
    timer_size: usize,
}

/// `IO_POLL_CANCEL_FLAG`.
const CANCELLED: u32 = 1 << 31;
/// More of them than any ring has.
const MOST: usize = 1 << 20;

/// A number of up to eight bytes.
pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut word = [0; 8];
    word[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_ne_bytes(word)
}

impl Layout {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let ring = btf.structure("io_ring_ctx")?;
        let table = btf.structure("io_hash_table")?;
        let request = btf.structure("io_kiocb")?;
        let timeout = btf.structure("io_timeout")?;
        let timer = btf.structure("io_timeout_data")?;
        let (hrtimer_at, hrtimer) = timer.member("timer")?;
        let (node_at, node) = hrtimer.member("node")?;
        let (cqe_at, cqe) = request.member("cqe")?;
        let [accept, receive] = ["io_accept", "io_sr_msg"].map(|name| btf.structure(name));
        let (accept, receive) = (accept?, receive?);
        let access = btf.structure("io_rw")?;
        Ok(Self {
            table: ring.offset("cancel_table")? + table.offset("hbs")?,
            table_bits: ring.offset("cancel_table")? + table.offset("hash_bits")?,
            bucket: btf.structure("io_hash_bucket")?.size(),
            timeouts: ring.offset("timeout_list")?,
            size: request.size(),
            hash: request.offset("hash_node")?,
            operation: request.offset("opcode")?,
            flags: request.offset("flags")?,
            data: cqe_at + cqe.offset("user_data")?,
            context: request.offset("tctx")?,
            async_data: request.offset("async_data")?,
            link: request.offset("link")?,
            creds: request.offset("creds")?,
            poll_refs: request.offset("poll_refs")?,
            context_task: btf.structure("io_uring_task")?.offset("task")?,
            poll_events: btf.structure("io_poll")?.offset("events")?,
            accept: [
                accept.offset("addr")?,
                accept.offset("addr_len")?,
                accept.offset("flags")?,
                accept.offset("iou_flags")?,
                accept.offset("file_slot")?,
            ],
            receive: [
                receive.offset("buf")?,
                receive.offset("len")?,
                receive.offset("done_io")?,
                receive.offset("msg_flags")?,
                receive.offset("flags")?,
            ],
            access: [access.offset("addr")?, access.offset("len")?, access.offset("flags")?],
            timeout_list: timeout.offset("list")?,
            timeout_count: timeout.offset("off")?,
            timer_expires: hrtimer_at + node_at + node.offset("expires")?,
            timer_time: timer.offset("ts")?,
            timer_flags: timer.offset("flags")?,
            timer_size: timer.size(),
        })
    }

    /// All requests of a ring that wait.
    pub(super) fn read(
        &self,
        memory: &mut KernelMemory,
        ring: Address,
    ) -> Result<Vec<Waiting>, ReadError> {
        let mut requests = Vec::new();
        let table = memory.word(ring + self.table as u64)?;
        let bits = memory.word(ring + self.table_bits as u64)? as u32;
        if bits > 16 {
            return Err(ReadError::Fault);
        }
        let buckets: Vec<_> = (0..1 << bits).map(|at| table + at * self.bucket as u64).collect();
        for mut node in memory.words(&buckets)? {
            while node != 0 {
                if requests.len() >= MOST {
                    return Err(ReadError::Fault);
                }
                requests.push(node - self.hash as u64);
                node = memory.word(node)?;
            }
        }
        let timeouts = memory.links(ring + self.timeouts as u64, MOST + 1 - requests.len())?;
        requests.extend(timeouts.into_iter().map(|link| link - self.timeout_list as u64));
        if requests.len() > MOST {
            return Err(ReadError::Fault);
        }
        let mut waiting = requests
            .into_iter()
            .filter_map(|at| self.request(memory, at).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        waiting.sort_unstable_by_key(|request| (request.data, request.at));
        Ok(waiting)
    }

    /// A request, unless it was told to wait no more.
    fn request(
        &self,
        memory: &mut KernelMemory,
        at: Address,
    ) -> Result<Option<Waiting>, ReadError> {
        let bytes = memory.bytes(at, self.size)?;
        let word = |at: usize| number(&bytes, at, 8);
        let half = |at: usize| number(&bytes, at, 4) as u32;
        let operation = bytes[self.operation];
        let context = word(self.context);
        let asked = match operation {
            OP_POLL_ADD => Asked::Poll { events: half(self.poll_events) },
            OP_ACCEPT => {
                let [address, len, flags, priority, slot] = self.accept;
                Asked::Accept {
                    address: word(address),
                    len: word(len),
                    flags: half(flags),
                    priority: half(priority),
                    slot: half(slot),
                }
            }
            OP_RECV => {
                let [buffer, len, done, flags, priority] = self.receive;
                Asked::Receive {
                    buffer: word(buffer),
                    len: half(len),
                    done: half(done),
                    flags: half(flags),
                    priority: number(&bytes, priority, 2) as u16,
                }
            }
            OP_READ => {
                let [buffer, len, flags] = self.access;
                Asked::Read { buffer: word(buffer), len: half(len), flags: half(flags) }
            }
            OP_TIMEOUT => {
                let timer = memory.bytes(word(self.async_data), self.timer_size)?;
                Asked::Timeout {
                    expires: number(&timer, self.timer_expires, 8),
                    time: [0, 8].map(|at| number(&timer, self.timer_time + at, 8)),
                    flags: number(&timer, self.timer_flags, 4) as u32,
                    count: half(self.timeout_count),
                }
            }
            _ => Asked::Other,
        };
        // A timeout has no file, and nobody wakes it but its timer.
        let is_timeout = operation == OP_TIMEOUT;
        let woken = if is_timeout { 0 } else { half(self.poll_refs) };
        if woken & CANCELLED != 0 {
            return Ok(None);
        }
        Ok(Some(Waiting {
            at,
            data: word(self.data),
            operation,
            flags: bytes[self.flags],
            file: if is_timeout { 0 } else { word(0) },
            task: memory.word(context + self.context_task as u64)?,
            is_special: word(self.link) != 0 || word(self.creds) != 0,
            is_woken: woken != 0,
            asked,
        }))
    }
}
