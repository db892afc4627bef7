//! Reading kernel memory in bulk, and nothing but reading.
//!
//! Truth from: `bpf_probe_read_kernel` and `bpf_get_current_task`,
//! `bpf-helpers(7)`; `bpf_prog_test_run_syscall`, `net/bpf/test_run.c`. A bad
//! address is reported, never followed.

use std::io;

use thiserror::Error;

use super::bpf::{Program, Value, op};
use super::btf::{Btf, BtfError};
use super::type_information::{self, TypeInformation};

/// Addresses read by one run of the program. Each takes 12 microseconds to
/// verify, and far more where there are hundreds; a run takes one, so 64 are
/// nearly as fast as any number.
const FEW: usize = 4;
const MANY: usize = 64;
/// For up to so many addresses in all, runs for a few take less time than to have
/// the program for many verified.
const SOME: usize = 256;
/// Links of a list followed one by one before a program is loaded for more.
const SHORT: usize = 32;
/// Links followed by one run of that program.
const LINKS: usize = 128;
/// The most that is read at one address, in bytes.
const MAX_LEN: usize = 256;
/// A slot holds its address (afterwards: the helper's result), then the bytes.
const STRIDE: usize = 8 + MAX_LEN;
/// The value starts with the address of the calling task.
const HEADER: usize = 8;

/// An address in the kernel.
pub type Address = u64;

/// Why kernel memory cannot be read on this system.
#[derive(Debug, Error)]
pub enum OpenError {
    /// `/sys/kernel/btf/vmlinux` cannot be read: the kernel was built without
    /// `CONFIG_DEBUG_INFO_BTF`, or sysfs is not mounted.
    #[error("cannot read the kernel's type information in {}", type_information::PATH)]
    TypeInformation(#[source] io::Error),
    /// The type information, or a type, is not of the form known here.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The reading program is not accepted: it needs `CAP_BPF` and
    /// `CAP_PERFMON`, and a kernel that is not locked down to confidentiality.
    #[error("cannot load a program that reads kernel memory")]
    Program(#[source] io::Error),
}

/// Why memory could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Nothing is mapped there.
    #[error("nothing is mapped at an address in the kernel")]
    Fault,
    /// The program could not be run.
    #[error("cannot read kernel memory")]
    Run(#[source] io::Error),
}

/// The kernel's memory, to be read.
pub struct KernelMemory {
    few: Reader,
    /// How many addresses were read that were more than a few at once.
    more: usize,
    /// Loaded when there are enough of them.
    many: Option<Reader>,
    /// Loaded when it is needed.
    links: Option<Links>,
}

impl KernelMemory {
    /// Has `layout` find where things are, and loads the reading program.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what the system lacks.
    pub fn open<L>(
        layout: impl FnOnce(&Btf<'_>) -> Result<L, BtfError>,
    ) -> Result<(Self, L), OpenError> {
        let types = TypeInformation::open().map_err(OpenError::TypeInformation)?;
        let layout = layout(&types.parse()?)?;
        let few = Reader::open(FEW).map_err(OpenError::Program)?;
        Ok((Self { few, more: 0, many: None, links: None }, layout))
    }

    /// The address of the calling thread's `struct task_struct`.
    ///
    /// # Errors
    ///
    /// [`ReadError::Run`].
    pub fn current_task(&mut self) -> Result<Address, ReadError> {
        self.few.run(0, 0)?;
        Ok(self.few.value.word(0))
    }

    /// `len` bytes from each of the addresses, one after the other.
    ///
    /// # Errors
    ///
    /// [`ReadError::Fault`] if anything is not mapped.
    ///
    /// # Panics
    ///
    /// If `len` is more than 256.
    pub fn read(&mut self, addresses: &[Address], len: usize) -> Result<Vec<u8>, ReadError> {
        assert!(len <= MAX_LEN, "no structure read here is longer");
        let mut bytes = Vec::with_capacity(addresses.len() * len);
        let Self { few, more, many, links: _ } = self;
        let reader = if addresses.len() <= FEW {
            few
        } else {
            *more += addresses.len();
            match many {
                Some(many) => many,
                None if *more <= SOME => few,
                None => many.insert(Reader::open(MANY).map_err(ReadError::Run)?),
            }
        };
        for some in addresses.chunks(reader.slots) {
            reader.read(some, len, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The pointer-sized word at `address`.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn word(&mut self, address: Address) -> Result<u64, ReadError> {
        Ok(u64_at(&self.read(&[address], 8)?, 0))
    }

    /// The pointer-sized words at all of the addresses.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn words(&mut self, addresses: &[Address]) -> Result<Vec<u64>, ReadError> {
        let bytes = self.read(addresses, 8)?;
        Ok(bytes.chunks_exact(8).map(|word| u64_at(word, 0)).collect())
    }

    /// The pointer-sized words `offset` bytes behind each of the addresses.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn words_behind(&mut self, of: &[Address], offset: usize) -> Result<Vec<u64>, ReadError> {
        self.words(&of.iter().map(|at| at + offset as u64).collect::<Vec<_>>())
    }

    /// The links of a list that begins and ends at `head`, up to so many: each
    /// holds the address of the next.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn links(&mut self, head: Address, most: usize) -> Result<Vec<Address>, ReadError> {
        let mut found = Vec::new();
        let mut link = self.word(head)?;
        while link != head && found.len() < most {
            found.push(link);
            if found.len() < SHORT {
                link = self.word(link)?;
                continue;
            }
            let links = match &mut self.links {
                Some(links) => links,
                None => self.links.insert(Links::open().map_err(ReadError::Run)?),
            };
            let next = links.follow(link)?;
            // Behind the end the list begins again.
            let end = next.iter().position(|&link| link == head).unwrap_or(next.len());
            let wanted = end.min(most - found.len());
            found.extend(&next[..wanted]);
            link = if end < next.len() { head } else { self.word(next[end - 1])? };
        }
        Ok(found)
    }

    /// So many bytes from `address` on.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn bytes(&mut self, address: Address, len: usize) -> Result<Vec<u8>, ReadError> {
        let (whole, rest) = (len / MAX_LEN, len % MAX_LEN);
        let piece = |number: usize| address + (MAX_LEN * number) as u64;
        let mut bytes = self.read(&(0..whole).map(piece).collect::<Vec<_>>(), MAX_LEN)?;
        if rest > 0 {
            bytes.extend(self.read(&[piece(whole)], rest)?);
        }
        Ok(bytes)
    }
}

/// A program and the value it shares with us.
struct Reader {
    slots: usize,
    value: Value,
    program: Program,
}

impl Reader {
    fn open(slots: usize) -> io::Result<Self> {
        let value = Value::new(HEADER + slots * STRIDE)?;
        // Helpers that read kernel memory ask for a licence the kernel calls
        // compatible; the program is ours, and under either of these.
        let program = Program::load(&program(value.raw_fd(), slots), c"Dual MIT/GPL")?;
        Ok(Self { slots, value, program })
    }

    /// Reads at most as many addresses as there are slots.
    fn read(&mut self, some: &[Address], len: usize, to: &mut Vec<u8>) -> Result<(), ReadError> {
        let slots = || (HEADER..).step_by(STRIDE).take(some.len());
        for (slot, address) in slots().zip(some) {
            self.value.store(slot, &address.to_ne_bytes());
        }
        self.run(some.len(), len)?;
        for slot in slots() {
            if self.value.word(slot) != 0 {
                return Err(ReadError::Fault);
            }
            let end = to.len();
            to.resize(end + len, 0);
            self.value.load(slot + 8, &mut to[end..]);
        }
        Ok(())
    }

    fn run(&mut self, slots: usize, len: usize) -> Result<(), ReadError> {
        self.program.run([slots as u32, len as u32]).map_err(ReadError::Run)
    }
}

/// A program that follows links, and the value it shares with us: a link, then
/// those behind it.
struct Links {
    value: Value,
    program: Program,
}

impl Links {
    fn open() -> io::Result<Self> {
        let value = Value::new((LINKS + 1) * 8)?;
        let program = Program::load(&following(value.raw_fd()), c"Dual MIT/GPL")?;
        Ok(Self { value, program })
    }

    /// The links behind `link`.
    fn follow(&mut self, link: Address) -> Result<Vec<Address>, ReadError> {
        self.value.store(0, &link.to_ne_bytes());
        self.program.run([0, 0]).map_err(ReadError::Run)?;
        let links: Vec<_> = (1..=LINKS).map(|index| self.value.word(index * 8)).collect();
        // What cannot be read is zero (`bpf_probe_read_kernel_common`).
        if links.contains(&0) { Err(ReadError::Fault) } else { Ok(links) }
    }
}

/// The native word at `offset` of `bytes`.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes[offset..].first_chunk().expect("a read gives all the bytes asked for");
    u64::from_ne_bytes(*word)
}

// Instructions and helpers, as far as they are used here.
//
// Truth from: `Documentation/bpf/standardization/instruction-set.rst`.
pub(super) const MOVE: u64 = 0xbf;
pub(super) const MOVE_K: u64 = 0xb7;
const ADD: u64 = 0x0f;
pub(super) const ADD_K: u64 = 0x07;
const MUL_K: u64 = 0x27;
const LOAD_W: u64 = 0x61;
const LOAD: u64 = 0x79;
const STORE: u64 = 0x7b;
pub(super) const LOAD_MAP: u64 = 0x18;
const JUMP: u64 = 0x05;
const JUMP_GE: u64 = 0x3d;
const JUMP_GE_K: u64 = 0x35;
const JUMP_GT_K: u64 = 0x25;
pub(super) const CALL: u64 = 0x85;
pub(super) const EXIT: u64 = 0x95;
pub(super) const MAP_VALUE: u64 = 2;
const GET_CURRENT_TASK: i32 = 35;
const PROBE_READ_KERNEL: i32 = 113;

/// `for index in ..LINKS { value[index + 1] = *value[index] }`
fn following(map: i32) -> Vec<u64> {
    vec![
        op(LOAD_MAP, 7, MAP_VALUE, 0, map),    //  0 r7 = value
        op(0, 0, 0, 0, 0),                     //  1
        op(MOVE_K, 8, 0, 0, 0),                //  2 r8 = 0
        op(JUMP_GE_K, 8, 0, 10, LINKS as i32), //  3 if r8 >= LINKS: end
        op(MOVE, 2, 8, 0, 0),                  //  4
        op(MUL_K, 2, 0, 0, 8),                 //  5
        op(MOVE, 1, 7, 0, 0),                  //  6
        op(ADD, 1, 2, 0, 0),                   //  7 r1 = value + r8 * 8
        op(LOAD, 3, 1, 0, 0),                  //  8 r3 = *r1
        op(ADD_K, 1, 0, 0, 8),                 //  9 r1 = the next
        op(MOVE_K, 2, 0, 0, 8),                // 10 r2 = 8
        op(CALL, 0, 0, 0, PROBE_READ_KERNEL),  // 11
        op(ADD_K, 8, 0, 0, 1),                 // 12 r8 += 1
        op(JUMP, 0, 0, -11, 0),                // 13 again
        op(MOVE_K, 0, 0, 0, 0),                // 14 end: r0 = 0
        op(EXIT, 0, 0, 0, 0),                  // 15
    ]
}

/// `for slot in value[..context[0]] { slot.result = read(slot.bytes,
/// context[1], slot.address) }`
fn program(map: i32, slots: usize) -> Vec<u64> {
    vec![
        op(LOAD_W, 6, 1, 0, 0),                  //  0 r6 = context[0]
        op(LOAD_W, 2, 1, 4, 0),                  //  1 r2 = context[1]
        op(JUMP_GT_K, 2, 0, 20, MAX_LEN as i32), //  2 if r2 > MAX_LEN: end
        op(STORE, 10, 2, -8, 0),                 //  3 len = r2
        op(LOAD_MAP, 7, MAP_VALUE, 0, map),      //  4 r7 = value
        op(0, 0, 0, 0, 0),                       //  5
        op(CALL, 0, 0, 0, GET_CURRENT_TASK),     //  6
        op(STORE, 7, 0, 0, 0),                   //  7 value.task = r0
        op(MOVE_K, 8, 0, 0, 0),                  //  8 r8 = 0
        op(JUMP_GE, 8, 6, 13, 0),                //  9 if r8 >= r6: end
        op(JUMP_GE_K, 8, 0, 12, slots as i32),   // 10 if r8 >= slots: end
        op(MOVE, 9, 7, 0, 0),                    // 11 r9 = value
        op(MOVE, 2, 8, 0, 0),                    // 12
        op(MUL_K, 2, 0, 0, STRIDE as i32),       // 13
        op(ADD, 9, 2, 0, 0),                     // 14 r9 += r8 * STRIDE
        op(LOAD, 3, 9, HEADER as i16, 0),        // 15 r3 = slot.address
        op(MOVE, 1, 9, 0, 0),                    // 16
        op(ADD_K, 1, 0, 0, HEADER as i32 + 8),   // 17 r1 = slot.bytes
        op(LOAD, 2, 10, -8, 0),                  // 18 r2 = len
        op(CALL, 0, 0, 0, PROBE_READ_KERNEL),    // 19
        op(STORE, 9, 0, HEADER as i16, 0),       // 20 slot.result = r0
        op(ADD_K, 8, 0, 0, 1),                   // 21 r8 += 1
        op(JUMP, 0, 0, -14, 0),                  // 22 again
        op(MOVE_K, 0, 0, 0, 0),                  // 23 end: r0 = 0
        op(EXIT, 0, 0, 0, 0),                    // 24
    ]
}

#[cfg(test)]
mod tests {
    use super::{FEW, KernelMemory, MANY, ReadError, SOME};

    #[test]
    fn however_many_are_read_they_are_the_same() {
        let (mut memory, name) =
            KernelMemory::open(|btf| btf.structure("task_struct")?.offset("comm")).unwrap();
        let task = memory.current_task().unwrap();
        let at = task + name as u64;
        let own = std::fs::read("/proc/thread-self/comm").unwrap();
        let own = own.trim_ascii_end();
        for count in [1, FEW, FEW + 1, SOME, MANY + 1] {
            let read = memory.read(&vec![at; count], 16).unwrap();
            assert_eq!(read.len(), 16 * count);
            assert!(read.chunks_exact(16).all(|name| name.starts_with(own)), "{count}");
            let mut some = vec![at; count];
            some[count / 2] = 8;
            assert!(matches!(memory.read(&some, 16), Err(ReadError::Fault)), "{count}");
        }
        assert!(memory.many.is_some());
    }
}
