//! Keyrings of tasks, and the keys in them.
//!
//! A session keyring is inherited by all whom a task makes, and cannot be given up for none. A task
//! that is to have another's joins it by its name, as its user may while its permissions are wide;
//! the serial number tells whether it was the right one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dormouse_kernel::NsPid;
use dormouse_kernel::key::{Serial, exists};
use dormouse_puppet::{Arg, Batch, Slot};
use dormouse_resources as resources;
use dormouse_resources::task::{Contents, Key, Keyrings, Keys, Refusal};
use rustix::time::{ClockId, clock_gettime};

use super::decode::{Checkpoint, host};
use super::world::World;
use crate::cause::{At, Cause};
use crate::dump::own_session;
use crate::{Error, Phase};

/// `KEY_POS_ALL | KEY_USR_ALL`.
const ALL: u32 = 0x3f3f_0000;
/// Whoever has the right to search a keyring may join it (`KEY_USR_SEARCH`).
const USER_SEARCH: u32 = 0x0008_0000;
/// `KEY_SPEC_THREAD_KEYRING`, `KEY_SPEC_PROCESS_KEYRING`.
const THREAD: i32 = -1;
const PROCESS: i32 = -2;
/// How the keyrings of sessions are called that have no other.
const USER_SESSION: &[u8] = b"_uid_ses.";
/// What an anonymous session keyring is called.
const ANONYMOUS: &[u8] = b"_ses";

/// How tasks come to their keyrings.
#[derive(Debug)]
pub(super) struct Plan {
    /// The session keyring that dormouse has itself, and that `session` of the tree stands for.
    own: Option<Serial>,
    /// Whether the whole tree has one session keyring.
    uniform: bool,
}

/// Decides how, and whether it can be done.
pub(super) fn plan(checkpoint: &Checkpoint, shell_job: bool) -> Result<Plan, Error> {
    const PHASE: Phase = Phase::Plan;
    // CRIU does not tell.
    let Some(keys) = &checkpoint.keys else { return Ok(Plan { own: None, uniform: true }) };
    let threads = || checkpoint.living().flat_map(|(_, body)| &body.threads);
    let mut own = own_session().at(PHASE)?;
    let root = checkpoint.processes[0].body.as_ref();
    let root = root.and_then(|body| body.threads[0].keyrings.session);
    if let Some(session) = root
        && shell_job
        && own != root
        && !is_free(keys, session)
    {
        // As it comes into the session of dormouse, and to its terminal.
        own = root;
    }
    for thread in threads() {
        match thread.keyrings.session {
            None if own.is_some() => Err(Cause::Unsupported(Refusal::NoSessionKeyring)),
            Some(session) if own != Some(session) && !is_free(keys, session) => {
                Err(Cause::Unsupported(Refusal::ForeignSessionKeyring))
            }
            _ => Ok(()),
        }
        .of(PHASE, host(thread.tid))?;
    }
    let sessions: BTreeSet<_> = threads().map(|thread| thread.keyrings.session).collect();
    Ok(Plan { own, uniform: sessions.len() == 1 })
}

/// Whether nobody has a keyring any more, or it is one that whoever is its user may join. Those of a
/// tree that was just killed go in a moment.
fn is_free(keys: &Keys, keyring: Serial) -> bool {
    keys.get(keyring).contents == Contents::Standing || becomes_free(keyring)
}

fn becomes_free(key: Serial) -> bool {
    const PATIENCE: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    while exists(key) {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

impl Plan {
    /// Gives the root the session keyring that all who come from it are to have.
    pub(super) fn begin(&self, world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
        let (_, body) = checkpoint.living().next().expect("the root is no zombie");
        let session = body.threads[0].keyrings.session;
        let Some(session) = session.filter(|_| self.uniform && self.own != session) else {
            return Ok(());
        };
        let Some(keys) = &checkpoint.keys else { return Ok(()) };
        let mut maker = Maker::new(world, keys);
        let root = maker.task;
        maker.join_all(session, &[root]).of(Phase::Spawn, host(root))?;
        maker.finish()
    }

    /// Gives tasks all other keyrings, as long as they may.
    pub(super) fn give(&self, world: &mut World, checkpoint: &Checkpoint) -> Result<(), Error> {
        const PHASE: Phase = Phase::Threads;
        let threads: Vec<_> = checkpoint.living().flat_map(|(_, body)| &body.threads).collect();
        let mut sessions: BTreeMap<Serial, Vec<NsPid>> = BTreeMap::new();
        for thread in threads.iter().filter(|_| !self.uniform) {
            if let Some(session) = thread.keyrings.session {
                sessions.entry(session).or_default().push(thread.tid);
            }
        }
        let Some(keys) = &checkpoint.keys else { return Ok(()) };
        let mut maker = Maker::new(world, keys);
        for (session, members) in sessions {
            if self.own != Some(session) {
                maker.join_all(session, &members).of(PHASE, host(members[0]))?;
            }
        }
        for thread in threads {
            let Keyrings { session: _, process, thread: own, requested } = thread.keyrings;
            maker.task = thread.tid;
            maker.fill_own(PROCESS, process).of(PHASE, host(thread.tid))?;
            maker.fill_own(THREAD, own).of(PHASE, host(thread.tid))?;
            if requested != 0 {
                let set = [libc::KEYCTL_SET_REQKEY_KEYRING.into(), u64::from(requested).into()];
                maker.ask(set).of(PHASE, host(thread.tid))?;
            }
        }
        maker.finish()
    }
}

/// Has tasks make keys.
struct Maker<'a> {
    world: &'a mut World,
    keys: &'a Keys,
    /// The task that does it.
    task: NsPid,
    /// The new numbers of those that were made.
    made: BTreeMap<Serial, u32>,
    /// Who has made them, and has permissions that they are not to have.
    unfinished: Vec<(NsPid, Serial)>,
}

impl<'a> Maker<'a> {
    fn new(world: &'a mut World, keys: &'a Keys) -> Self {
        let task = world.root();
        Self { world, keys, task, made: BTreeMap::new(), unfinished: Vec::new() }
    }

    /// Makes a call, and returns the number it gives.
    fn ask<const N: usize>(&mut self, args: [Arg; N]) -> Result<u32, Cause> {
        let mut batch = Batch::new();
        let slot = batch.call(libc::SYS_keyctl, args);
        let replies = self.world.run(self.task, batch)?;
        Ok(replies.value(&slot) as u32)
    }

    /// Puts tasks into a session keyring. The first has it made, if need be.
    fn join_all(&mut self, session: Serial, members: &[NsPid]) -> Result<(), Cause> {
        let key = self.keys.get(session);
        let name = [&key.description[..], &[0]].concat();
        let is_standing = key.contents == Contents::Standing;
        let mut joined = if is_standing { Some(self.standing(key)?) } else { None };
        for &member in members {
            self.task = member;
            let mut batch = Batch::new();
            let join = libc::KEYCTL_JOIN_SESSION_KEYRING.into();
            // None by this name can be joined yet, unless it is another one.
            let anonymous = joined.is_none() && key.description == ANONYMOUS;
            let name = if anonymous { 0.into() } else { batch.data(&name).into() };
            let uid = if is_standing { Some(key.uid) } else { None };
            let slot = as_user(&mut batch, uid, [join, name]);
            let number = self.world.run(member, batch)?.value(&slot) as u32;
            match joined {
                Some(made) if made != number => return Err(another()),
                Some(_) => {}
                None => {
                    if self.ask([libc::KEYCTL_READ.into(), number.into(), 0.into(), 0.into()])? != 0
                    {
                        return Err(another());
                    }
                    self.note(session, number, ALL)?;
                    self.fill(session, number)?;
                    joined = Some(number);
                }
            }
        }
        if let Some(&made) = self.made.get(&session) {
            // The next is found by its name as well.
            self.permit(made, ALL & !USER_SEARCH)?;
        }
        Ok(())
    }

    /// Gives the task its process's or its own keyring.
    fn fill_own(&mut self, which: i32, keyring: Option<Serial>) -> Result<(), Cause> {
        let Some(keyring) = keyring else { return Ok(()) };
        const CREATE: i32 = 1;
        let get = libc::KEYCTL_GET_KEYRING_ID;
        let number = self.ask([get.into(), which.into(), CREATE.into()])?;
        self.note(keyring, number, ALL)?;
        self.fill(keyring, number)
    }

    /// Remembers what was made, and lets all tasks of its user do anything with it.
    fn note(&mut self, key: Serial, number: u32, permissions: u32) -> Result<(), Cause> {
        self.made.insert(key, number);
        self.unfinished.push((self.task, key));
        self.permit(number, permissions)
    }

    fn permit(&mut self, number: u32, permissions: u32) -> Result<(), Cause> {
        self.ask([libc::KEYCTL_SETPERM.into(), number.into(), permissions.into()]).map(drop)
    }

    /// Puts into a keyring what is in it.
    fn fill(&mut self, keyring: Serial, number: u32) -> Result<(), Cause> {
        let keys = self.keys;
        let Contents::Keyring(links) = &keys.get(keyring).contents else { return Ok(()) };
        for &link in links {
            let key = keys.get(link);
            let there = match self.made.get(&link).copied() {
                Some(made) => Some((made, None)),
                None if key.contents == Contents::Standing => {
                    Some((self.standing(key)?, Some(key.uid)))
                }
                None if exists(link) && !self.is_about_to_go(link, key, number)? => continue,
                None => None,
            };
            match there {
                Some((there, user)) => {
                    let mut batch = Batch::new();
                    let link = libc::KEYCTL_LINK.into();
                    as_user(&mut batch, user, [link, there.into(), number.into()]);
                    self.world.run(self.task, batch)?;
                }
                None if key.has_expired(now()) => {}
                None => self.make(link, key, number)?,
            }
        }
        Ok(())
    }

    /// Links a key that is still there, as its user may; or finds it gone after all.
    fn is_about_to_go(&mut self, key: Serial, of: &Key, keyring: u32) -> Result<bool, Cause> {
        let mut batch = Batch::new();
        let args = [libc::KEYCTL_LINK.into(), key.as_raw().into(), keyring.into()];
        let slot = as_user(&mut batch, Some(of.uid), args);
        let replies = self.world.run(self.task, batch)?;
        match replies.result(&slot) {
            Ok(_) => Ok(false),
            Err(_) if becomes_free(key) => Ok(true),
            Err(source) => Err(resources::Error::Kernel {
                call: "keyctl(KEYCTL_LINK)",
                subject: format!("key {key}, which somebody else has as well").into(),
                source,
            }
            .into()),
        }
    }

    fn make(&mut self, serial: Serial, key: &Key, keyring: u32) -> Result<(), Cause> {
        let text = |bytes: &[u8]| [bytes, &[0]].concat();
        let mut batch = Batch::new();
        let kind = batch.data(&text(key.contents.kind()));
        let description = batch.data(&text(&key.description));
        let payload: &[u8] = match &key.contents {
            // What has been revoked held something.
            Contents::User(bytes) | Contents::Logon(bytes) if bytes.is_empty() => &[0],
            Contents::User(bytes) | Contents::Logon(bytes) => bytes,
            Contents::Keyring(_) | Contents::Standing => &[],
        };
        let data: Arg = if payload.is_empty() { 0.into() } else { batch.data(payload).into() };
        let len = (payload.len() as u64).into();
        let args = [kind.into(), description.into(), data, len, keyring.into()];
        let slot = batch.call(libc::SYS_add_key, args);
        let number = self.world.run(self.task, batch)?.value(&slot) as u32;
        self.note(serial, number, ALL)?;
        self.fill(serial, number)
    }

    /// The number of a keyring that its user has on this machine.
    fn standing(&mut self, key: &Key) -> Result<u32, Cause> {
        let which = if key.description.starts_with(USER_SESSION) { -5 } else { -4 };
        let mut batch = Batch::new();
        let keep = u32::MAX;
        batch.call(libc::SYS_setresuid, [key.uid.into(), keep.into(), keep.into()]);
        let get = [libc::KEYCTL_GET_KEYRING_ID.into(), which.into(), 1.into()];
        let slot = batch.may_fail(libc::SYS_keyctl, get);
        // Puppets are what dormouse is until they get their own credentials.
        let own = rustix::process::getuid().as_raw();
        batch.call(libc::SYS_setresuid, [own.into(), keep.into(), keep.into()]);
        let replies = self.world.run(self.task, batch)?;
        replies.result(&slot).map(|number| number as u32).map_err(|source| {
            let subject = String::from_utf8_lossy(&key.description).into_owned().into();
            resources::Error::Kernel { call: "keyctl(KEYCTL_GET_KEYRING_ID)", subject, source }
                .into()
        })
    }

    /// Gives keys the users, permissions and ends that they had.
    fn finish(mut self) -> Result<(), Error> {
        for (task, key) in std::mem::take(&mut self.unfinished) {
            self.task = task;
            self.finish_one(key).of(Phase::Threads, host(task))?;
        }
        Ok(())
    }

    fn finish_one(&mut self, serial: Serial) -> Result<(), Cause> {
        let number = self.made[&serial];
        let key = self.keys.get(serial);
        if let Some(expiry) = key.expiry {
            let left = expiry.saturating_sub(now()).max(1);
            self.ask([libc::KEYCTL_SET_TIMEOUT.into(), number.into(), left.into()])?;
        }
        let chown = libc::KEYCTL_CHOWN.into();
        self.ask([chown, number.into(), key.uid.into(), key.gid.into()])?;
        self.permit(number, key.permissions)?;
        if key.revoked {
            self.ask([libc::KEYCTL_REVOKE.into(), number.into()])?;
        }
        Ok(())
    }
}

/// Adds a call about keys that is made with the rights of a user.
fn as_user<const N: usize>(batch: &mut Batch, user: Option<u32>, args: [Arg; N]) -> Slot {
    let Some(user) = user else { return batch.call(libc::SYS_keyctl, args) };
    let before = batch.call(libc::SYS_setfsuid, [user.into()]);
    let slot = batch.may_fail(libc::SYS_keyctl, args);
    batch.call(libc::SYS_setfsuid, [(&before).into()]);
    slot
}

fn another() -> Cause {
    Cause::Unsupported(Refusal::NamedSessionKeyring)
}

/// Seconds since 1970.
fn now() -> u64 {
    clock_gettime(ClockId::Realtime).tv_sec.unsigned_abs()
}
