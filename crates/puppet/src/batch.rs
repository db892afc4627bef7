//! Batches of system calls, and what comes of them.

use dormouse_kernel::Addr;

use crate::arch::{ENTRY, INDIRECT, MAY_FAIL, RESULT};
use crate::error::{Args, Syscall};

/// Calls to be made one after the other. Unless it may fail, the first call
/// that fails is the last.
#[derive(Debug, Default)]
pub struct Batch {
    calls: Vec<Call>,
    /// What is copied into the task before, and for [`OutSlot`]s back after.
    data: Vec<u8>,
    /// Places in `data` that hold the address of another place there.
    pointers: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Call {
    number: i64,
    args: [Arg; 6],
    may_fail: bool,
}

/// Where the result of a call will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

/// Bytes in the task's memory for a call to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutSlot {
    at: usize,
    len: usize,
}

/// Bytes in the task's memory for a call to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    at: usize,
}

/// An argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// This number.
    Value(u64),
    /// The address of these bytes, and so many further.
    Data(Data, u64),
    /// The address of these bytes.
    Out(OutSlot),
    /// The result of an earlier call of the batch.
    Result(Slot),
}

macro_rules! values {
    ($($int:ty),*) => {$(
        impl From<$int> for Arg {
            /// Sign-extended, as the C library passes it.
            fn from(value: $int) -> Self {
                Self::Value(value as i64 as u64)
            }
        }
    )*};
}
values!(i32, i64);

impl From<u32> for Arg {
    fn from(value: u32) -> Self {
        Self::Value(value.into())
    }
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Self::Value(value)
    }
}

impl From<Addr> for Arg {
    fn from(value: Addr) -> Self {
        Self::Value(value.as_raw())
    }
}

impl From<Data> for Arg {
    fn from(data: Data) -> Self {
        Self::Data(data, 0)
    }
}

impl From<&OutSlot> for Arg {
    fn from(out: &OutSlot) -> Self {
        Self::Out(*out)
    }
}

impl From<&Slot> for Arg {
    fn from(slot: &Slot) -> Self {
        Self::Result(*slot)
    }
}

impl Batch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// How many calls there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Adds a call that must not fail.
    pub fn call<const N: usize>(&mut self, number: i64, args: [Arg; N]) -> Slot {
        self.push(number, &args, false)
    }

    /// Adds a call after whose failure the batch goes on.
    pub fn may_fail<const N: usize>(&mut self, number: i64, args: [Arg; N]) -> Slot {
        self.push(number, &args, true)
    }

    fn push(&mut self, number: i64, given: &[Arg], may_fail: bool) -> Slot {
        let mut args = [Arg::Value(0); 6];
        args[..given.len()].copy_from_slice(given);
        self.calls.push(Call { number, args, may_fail });
        Slot(self.calls.len() - 1)
    }

    /// Puts bytes where calls can read them, aligned to eight.
    pub fn data(&mut self, bytes: &[u8]) -> Data {
        let at = self.reserve(bytes.len());
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
        Data { at }
    }

    /// Makes room, zeroed, for a call to write `len` bytes to, aligned to
    /// eight.
    pub fn out(&mut self, len: usize) -> OutSlot {
        OutSlot { at: self.reserve(len), len }
    }

    /// Puts bytes where a call can read and write them, aligned to eight.
    pub fn in_out(&mut self, bytes: &[u8]) -> OutSlot {
        let Data { at } = self.data(bytes);
        OutSlot { at, len: bytes.len() }
    }

    /// Stores the address of `to` in the eight bytes of `of` from `at` on.
    pub fn point(&mut self, of: Data, at: usize, to: Data) {
        self.pointers.push((of.at + at, to.at));
    }

    fn reserve(&mut self, len: usize) -> usize {
        let at = self.data.len();
        self.data.resize(at + len.next_multiple_of(8), 0);
        at
    }

    /// What it takes in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.calls.len() * ENTRY + self.data.len()
    }

    /// As it lies in memory at `base`.
    pub(crate) fn lay_out(&self, base: Addr) -> Vec<u8> {
        let base = base.as_raw();
        let data = base + (self.calls.len() * ENTRY) as u64;
        let mut bytes = Vec::with_capacity(self.size());
        for call in &self.calls {
            bytes.extend(call.number.to_ne_bytes());
            let mut flags = if call.may_fail { MAY_FAIL } else { 0 };
            for (index, arg) in call.args.iter().enumerate() {
                let word = match *arg {
                    Arg::Value(value) => value,
                    Arg::Data(Data { at }, further) => data + at as u64 + further,
                    Arg::Out(OutSlot { at, .. }) => data + at as u64,
                    Arg::Result(Slot(earlier)) => {
                        flags |= INDIRECT << index;
                        base + (earlier * ENTRY + RESULT) as u64
                    }
                };
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(0_u64.to_ne_bytes());
            bytes.extend(flags.to_ne_bytes());
        }
        let start = bytes.len();
        bytes.extend(&self.data);
        for &(at, to) in &self.pointers {
            bytes[start + at..][..8].copy_from_slice(&(data + to as u64).to_ne_bytes());
        }
        bytes
    }

    /// What became of it, from the memory afterwards.
    pub(crate) fn replies(&self, memory: Vec<u8>) -> Replies {
        Replies { memory, data: self.calls.len() * ENTRY }
    }

    /// The call with this place in the batch.
    pub(crate) fn describe(&self, index: usize, memory: &[u8]) -> (Syscall, Args) {
        let word = |at: usize| word(memory, index * ENTRY + at);
        let args = std::array::from_fn(|n| word(8 + 8 * n));
        (Syscall(self.calls[index].number), Args(args))
    }
}

fn word(memory: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|i| memory[at + i]))
}

/// The result in memory of the call with this place in the batch.
pub(crate) fn result(memory: &[u8], index: usize) -> i64 {
    word(memory, index * ENTRY + RESULT).cast_signed()
}

/// What became of a batch, to be redeemed with slots of that batch.
#[derive(Debug)]
pub struct Replies {
    memory: Vec<u8>,
    data: usize,
}

impl Replies {
    /// What a call that had to succeed returned.
    #[must_use]
    pub fn value(&self, slot: &Slot) -> u64 {
        result(&self.memory, slot.0).cast_unsigned()
    }

    /// What a call that might fail returned.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn result(&self, slot: &Slot) -> Result<u64, dormouse_kernel::Errno> {
        let value = result(&self.memory, slot.0);
        match failure(value) {
            Some(errno) => Err(errno),
            None => Ok(value.cast_unsigned()),
        }
    }

    /// The bytes a call has written.
    #[must_use]
    pub fn bytes(&self, out: &OutSlot) -> &[u8] {
        &self.memory[self.data + out.at..][..out.len]
    }

    /// The bytes a call has written, all `N` of the slot.
    ///
    /// # Panics
    ///
    /// If the slot was made for another number of bytes.
    #[must_use]
    pub fn array<const N: usize>(&self, out: &OutSlot) -> &[u8; N] {
        self.bytes(out).try_into().expect("the slot was made for this many bytes")
    }
}

/// The error that a result of a system call stands for.
pub(crate) fn failure(result: i64) -> Option<dormouse_kernel::Errno> {
    let raw = i32::try_from(-result).ok()?;
    (1..4096).contains(&raw).then(|| dormouse_kernel::Errno::from_raw_os_error(raw))
}
