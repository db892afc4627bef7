//! The keyrings of all tasks, and what is in them.
//!
//! - Kernel object: `cred.{session_keyring, process_keyring, thread_keyring, request_key_auth,
//!   jit_keyring}`, `struct key`, `struct assoc_array`
//! - Truth from: `include/linux/{cred,key,assoc_array_priv}.h`, `security/keys/internal.h`,
//!   `include/keys/user-type.h`
//! - Without `CAP_BPF` and `CAP_PERFMON`, or without type information: each thread looks for all
//!   keyrings that there are, and is refused if it finds one

use std::collections::{BTreeMap, BTreeSet};

use dormouse_kernel::key::{self, Serial};
use dormouse_kernel::{Errno, HostPid, PAGE_SIZE};
use dormouse_puppet::{Batch, Replies, Slot};
use dormouse_resources::task::{Contents, Key, Keyrings, Keys, Refusal};
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, ReadError};
use rustix::time::{ClockId, clock_gettime};

use super::frozen::Frozen;
use super::traced::{Traced, Unreadable, word};
use crate::cause::{At, Cause};
use crate::{Error, Phase};

/// Who possesses what. Nothing, if nobody on the machine has keyrings.
#[derive(Debug, Default)]
pub(crate) struct Possessions {
    of: BTreeMap<HostPid, Keyrings>,
    keys: Keys,
    /// The names of keyrings that threads may possess, as that is not known.
    suspected: BTreeSet<Vec<u8>>,
}

/// Offsets in bytes.
struct Layout {
    traced: Traced,
    credentials: usize,
    session: usize,
    process: usize,
    thread: usize,
    authority: usize,
    requested: usize,
    key: KeyLayout,
}

/// Likewise.
struct KeyLayout {
    size: usize,
    serial: usize,
    expiry: usize,
    uid: usize,
    gid: usize,
    permissions: usize,
    state: usize,
    flags: usize,
    kind: usize,
    description: usize,
    payload: usize,
    restriction: usize,
    keys: usize,
    root: usize,
    kind_name: usize,
    slots: usize,
    next_node: usize,
    payload_len: usize,
    payload_data: usize,
}

/// `KEY_FLAG_DEAD`, `KEY_FLAG_REVOKED`, `KEY_FLAG_INVALIDATED`, `KEY_FLAG_UID_KEYRING`.
const DEAD: u64 = 1 << 0;
const REVOKED: u64 = 1 << 1;
const INVALIDATED: u64 = 1 << 5;
const STANDING: u64 = 1 << 9;
/// `KEY_IS_UNINSTANTIATED` and `KEY_IS_POSITIVE`; negative ones are less.
const UNFINISHED: i16 = 0;
const POSITIVE: i16 = 1;
/// Bits of pointers in an `assoc_array`: to a structure of its own, and to which kind.
const META: Address = 1;
const SHORTCUT: Address = 2;
/// `ASSOC_ARRAY_FAN_OUT`.
const SLOTS: usize = 16;
/// `KEY_REQKEY_DEFL_THREAD_KEYRING`, `KEY_REQKEY_DEFL_PROCESS_KEYRING`.
const TO_THREAD: u8 = 1;
const TO_PROCESS: u8 = 2;
/// Names are read in pieces of so many bytes.
const PIECE: u64 = 64;
/// The longest description.
const LONGEST: usize = 4096;
/// More levels than an array can have.
const DEEPEST: usize = 64;

impl KeyLayout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let key = btf.structure("key")?;
        let payload = btf.structure("user_key_payload")?;
        Ok(Self {
            size: key.size(),
            serial: key.offset("serial")?,
            expiry: key.offset("expiry")?,
            uid: key.offset("uid")?,
            gid: key.offset("gid")?,
            permissions: key.offset("perm")?,
            state: key.offset("state")?,
            flags: key.offset("flags")?,
            kind: key.offset("type")?,
            description: key.offset("description")?,
            payload: key.offset("payload")?,
            restriction: key.offset("restrict_link")?,
            keys: key.offset("keys")?,
            root: btf.structure("assoc_array")?.offset("root")?,
            kind_name: btf.structure("key_type")?.offset("name")?,
            slots: btf.structure("assoc_array_node")?.offset("slots")?,
            next_node: btf.structure("assoc_array_shortcut")?.offset("next_node")?,
            payload_len: payload.offset("datalen")?,
            payload_data: payload.offset("data")?,
        })
    }
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let credentials = btf.structure("cred")?;
        Ok(Self {
            traced: Traced::new(btf)?,
            credentials: btf.structure("task_struct")?.offset("real_cred")?,
            session: credentials.offset("session_keyring")?,
            process: credentials.offset("process_keyring")?,
            thread: credentials.offset("thread_keyring")?,
            authority: credentials.offset("request_key_auth")?,
            requested: credentials.offset("jit_keyring")?,
            key: KeyLayout::new(btf)?,
        })
    }
}

fn hidden() -> Cause {
    Cause::Unsupported(Refusal::HiddenKeys)
}

fn unreadable(error: impl Into<Unreadable>) -> Cause {
    error.into().tell("nobody can tell who has which keyrings");
    hidden()
}

/// Whose session keyring dormouse has itself, and hands on to every process it makes.
pub(crate) fn own_session() -> Result<Option<Serial>, Cause> {
    if key::keyrings().is_ok_and(|keyrings| keyrings.is_empty()) {
        return Ok(None);
    }
    let (mut memory, layout) = KernelMemory::open(Layout::new).map_err(unreadable)?;
    let mut read = || {
        let own = memory.current_task()?;
        let credentials = memory.word(own + layout.credentials as u64)?;
        match memory.word(credentials + layout.session as u64)? {
            0 => Ok(None),
            session => layout.key.serial(&mut memory, session),
        }
    };
    read().map_err(|error: ReadError| unreadable(error))
}

impl Possessions {
    /// Reads them.
    pub(super) fn read(frozen: &Frozen) -> Result<Self, Error> {
        const PHASE: Phase = Phase::Enumerate;
        let keyrings = key::keyrings();
        if keyrings.as_ref().is_ok_and(BTreeSet::is_empty) {
            return Ok(Self::default());
        }
        let (mut memory, layout) = match (KernelMemory::open(Layout::new), keyrings) {
            (Ok(opened), _) => opened,
            (Err(_), Ok(suspected)) => return Ok(Self { suspected, ..Self::default() }),
            (Err(error), Err(_)) => return Err(unreadable(error)).at(PHASE),
        };
        let traced = layout.traced.newest(&mut memory, usize::MAX).map_err(unreadable).at(PHASE)?;
        let (tids, tasks): (Vec<_>, Vec<_>) = traced.into_iter().unzip();
        let credentials = memory.words_behind(&tasks, layout.credentials);
        let credentials = credentials.map_err(unreadable).at(PHASE)?;
        let credentials: BTreeMap<HostPid, Address> = tids.into_iter().zip(credentials).collect();
        let mut found = Self::default();
        // Most threads have theirs in common.
        let mut known: BTreeMap<Address, Keyrings> = BTreeMap::new();
        let mut processes: BTreeSet<Serial> = BTreeSet::new();
        for task in frozen.processes.iter().flat_map(|process| &process.threads) {
            let tid = task.tid();
            let &at = credentials.get(&tid).ok_or_else(hidden).of(PHASE, tid)?;
            let keyrings = match known.get(&at) {
                Some(&keyrings) => keyrings,
                None => found.collect(&mut memory, &layout, at).of(PHASE, tid)?,
            };
            known.insert(at, keyrings);
            if keyrings.process.is_some_and(|keyring| !processes.insert(keyring)) {
                return Err(Cause::Unsupported(Refusal::SharedProcessKeyring)).of(PHASE, tid);
            }
            found.of.insert(tid, keyrings);
        }
        Ok(found)
    }

    /// Has a thread look for those that it may possess, which changes nothing.
    pub(super) fn ask(&self, batch: &mut Batch) -> Vec<Slot> {
        let kind = (!self.suspected.is_empty()).then(|| batch.data(b"keyring\0"));
        let slots = self.suspected.iter().zip(kind.into_iter().cycle()).map(|(name, kind)| {
            let name = batch.data(&[name, &b"\0"[..]].concat());
            batch.may_fail(libc::SYS_request_key, [kind.into(), name.into(), 0.into(), 0.into()])
        });
        slots.collect()
    }

    /// Whether it has found none.
    pub(super) fn check(replies: &Replies, asked: &[Slot]) -> Result<(), Cause> {
        let is_none = |slot| replies.result(slot) == Err(Errno::NOKEY);
        if asked.iter().all(is_none) { Ok(()) } else { Err(hidden()) }
    }

    /// The keyrings of a task.
    pub(super) fn of(&self, tid: HostPid) -> Keyrings {
        self.of.get(&tid).copied().unwrap_or_default()
    }

    /// All keys that are reached from them.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Reads what is at a `struct cred`.
    fn collect(
        &mut self,
        memory: &mut KernelMemory,
        layout: &Layout,
        at: Address,
    ) -> Result<Keyrings, Cause> {
        let Layout { session, process, thread, authority, .. } = layout;
        let places = [*session, *process, *thread, *authority].map(|offset| at + offset as u64);
        let pointers = memory.words(&places).map_err(unreadable)?;
        if pointers[3] != 0 {
            return Err(Cause::Unsupported(Refusal::KeyMaker));
        }
        let mut keyring = |at: Address| match at {
            0 => Ok(None),
            at => self.follow(memory, &layout.key, at),
        };
        let [session, process, thread, _] = pointers[..] else {
            unreachable!("four were asked for")
        };
        let (session, process, thread) = (keyring(session)?, keyring(process)?, keyring(thread)?);
        let requested = memory.read(&[at + layout.requested as u64], 1).map_err(unreadable)?[0];
        if (requested == TO_THREAD && thread.is_none())
            || (requested == TO_PROCESS && process.is_none())
        {
            return Err(Cause::Unsupported(Refusal::RequestedKeys));
        }
        Ok(Keyrings { session, process, thread, requested })
    }

    /// Reads the keyring at an address, and all that is reached from there.
    fn follow(
        &mut self,
        memory: &mut KernelMemory,
        layout: &KeyLayout,
        at: Address,
    ) -> Result<Option<Serial>, Cause> {
        let mut todo = vec![at];
        while let Some(at) = todo.pop() {
            let Some(serial) = layout.serial(memory, at).map_err(unreadable)? else { continue };
            if self.keys.0.contains_key(&serial) {
                continue;
            }
            let (mut key, inside) = layout.key(memory, at)?;
            if let Contents::Keyring(links) = &mut key.contents {
                for inner in inside {
                    if layout.is_of_use(memory, inner)? {
                        links.extend(layout.serial(memory, inner).map_err(unreadable)?);
                        todo.push(inner);
                    }
                }
            }
            self.keys.0.insert(serial, key);
        }
        layout.serial(memory, at).map_err(unreadable)
    }
}

impl KeyLayout {
    fn serial(&self, memory: &mut KernelMemory, at: Address) -> Result<Option<Serial>, ReadError> {
        Ok(Serial::from_raw(memory.word(at + self.serial as u64)? as u32))
    }

    /// Whether somebody can still find it: else the kernel is about to take it away.
    fn is_of_use(&self, memory: &mut KernelMemory, at: Address) -> Result<bool, Cause> {
        let bytes = memory.bytes(at, self.size).map_err(unreadable)?;
        let flags = word(&bytes, self.flags);
        let expired = self.expiry(&bytes).is_some_and(|expiry| expiry <= now());
        match word(&bytes, self.state) as i16 {
            _ if flags & (DEAD | INVALIDATED) != 0 => Ok(false),
            UNFINISHED => Err(self.unsupported(memory, at, Refusal::UnfinishedKey)),
            POSITIVE => Ok(!expired),
            _ => Ok(false),
        }
    }

    /// When it expires, unless it never does or has been revoked.
    fn expiry(&self, bytes: &[u8]) -> Option<u64> {
        // Zero stood for never up to Linux 6.6.
        let never = [0, i64::MAX.cast_unsigned()];
        let expiry = word(bytes, self.expiry);
        let counts = word(bytes, self.flags) & REVOKED == 0 && !never.contains(&expiry);
        counts.then_some(expiry)
    }

    /// Reads one key, and the addresses of those in it.
    fn key(&self, memory: &mut KernelMemory, at: Address) -> Result<(Key, Vec<Address>), Cause> {
        let bytes = memory.bytes(at, self.size).map_err(unreadable)?;
        let half = |offset| word(&bytes, offset) as u32;
        let flags = word(&bytes, self.flags);
        let (revoked, standing) = (flags & REVOKED != 0, flags & STANDING != 0);
        let kind = word(&bytes, self.kind) + self.kind_name as u64;
        let kind = memory.word(kind).and_then(|name| text(memory, name)).map_err(unreadable)?;
        let description = text(memory, word(&bytes, self.description)).map_err(unreadable)?;
        let refuse =
            |memory: &mut KernelMemory, refusal| Err(self.unsupported(memory, at, refusal));
        if word(&bytes, self.restriction) != 0 && kind == b"keyring" {
            return refuse(memory, Refusal::RestrictedKeyring);
        }
        let mut inside = Vec::new();
        let contents = match kind.as_slice() {
            b"keyring" if standing => Contents::Standing,
            b"keyring" if description.starts_with(b".") => {
                return refuse(memory, Refusal::KernelKeyring);
            }
            b"keyring" => {
                if !revoked {
                    let root = word(&bytes, self.keys + self.root);
                    self.leaves(memory, (root, DEEPEST), &mut inside).map_err(unreadable)?;
                }
                Contents::Keyring(BTreeSet::new())
            }
            b"user" | b"logon" => {
                let payload = match word(&bytes, self.payload) {
                    0 => Vec::new(),
                    at => self.payload(memory, at).map_err(unreadable)?,
                };
                if kind == b"user" { Contents::User(payload) } else { Contents::Logon(payload) }
            }
            _ => return refuse(memory, Refusal::KeyType),
        };
        let key = Key {
            description,
            uid: half(self.uid),
            gid: half(self.gid),
            permissions: half(self.permissions),
            expiry: self.expiry(&bytes),
            revoked,
            contents,
        };
        Ok((key, inside))
    }

    fn unsupported(&self, memory: &mut KernelMemory, at: Address, refusal: Refusal) -> Cause {
        let mut name = || -> Result<_, ReadError> {
            let kind = memory.word(at + self.kind as u64)? + self.kind_name as u64;
            let kind = memory.word(kind).and_then(|name| text(memory, name))?;
            let description = memory.word(at + self.description as u64)?;
            Ok([kind, text(memory, description)?].join(&b": "[..]))
        };
        match name() {
            Ok(name) => refusal.error(String::from_utf8_lossy(&name).into_owned()).into(),
            Err(error) => unreadable(error),
        }
    }

    /// Finds what an array holds, from one of its pointers down.
    fn leaves(
        &self,
        memory: &mut KernelMemory,
        (pointer, depth): (Address, usize),
        found: &mut Vec<Address>,
    ) -> Result<(), ReadError> {
        let at = pointer & !(META | SHORTCUT);
        if at == 0 || depth == 0 {
            return Ok(());
        }
        if pointer & META == 0 {
            found.push(at);
        } else if pointer & SHORTCUT != 0 {
            let next = memory.word(at + self.next_node as u64)?;
            self.leaves(memory, (next, depth - 1), found)?;
        } else {
            let slots = memory.read(&[at + self.slots as u64], SLOTS * size_of::<Address>())?;
            for slot in 0..SLOTS {
                let pointer = word(&slots, slot * size_of::<Address>());
                self.leaves(memory, (pointer, depth - 1), found)?;
            }
        }
        Ok(())
    }

    /// What is in a `struct user_key_payload`.
    fn payload(&self, memory: &mut KernelMemory, at: Address) -> Result<Vec<u8>, ReadError> {
        let len = memory.word(at + self.payload_len as u64)? as u16;
        memory.bytes(at + self.payload_data as u64, len.into())
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    clock_gettime(ClockId::Realtime).tv_sec.unsigned_abs()
}

/// What is at an address up to a null character.
fn text(memory: &mut KernelMemory, at: Address) -> Result<Vec<u8>, ReadError> {
    let mut text = Vec::new();
    while text.len() < LONGEST {
        // Nothing may be mapped behind the end of a page.
        let next = at + text.len() as u64;
        let len = (PAGE_SIZE - next % PAGE_SIZE).min(PIECE);
        let bytes = memory.bytes(next, len as usize)?;
        let end = bytes.iter().position(|byte| *byte == 0);
        text.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
        if end.is_some() {
            break;
        }
    }
    Ok(text)
}
