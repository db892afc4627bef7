//! The keys that threads possess.
//!
//! Each thread has up to three keyrings: its session's, its process's, its own. From them it reaches
//! keys and further keyrings. They live as long as somebody has them: those that only the tree had
//! are gone when it has been killed, and are made again; what is still there is linked again.
//!
//! - Kernel object: `cred.{session_keyring, process_keyring, thread_keyring, jit_keyring}`,
//!   `struct key`
//! - Truth from: kernel memory, `include/linux/{cred,key}.h`, read by the engine for all tasks at
//!   once
//! - Image: `core-TID.img`, `thread_core.keyrings`, and `inventory.img`, `keys`; only dormouse has
//!   them
//! - Create: `KEYCTL_JOIN_SESSION_KEYRING`, `KEYCTL_GET_KEYRING_ID`, `add_key(2)`
//! - Not preserved: serial numbers of keys that are made again, which the kernel draws; negative
//!   and expired keys, which it would take away soon
//! - Scenarios: `keys::*`, `refusals::keys`

use std::collections::{BTreeMap, BTreeSet};

use dormouse_image::ImageName;
use dormouse_image::proto::core::CoreEntry;
use dormouse_image::proto::keys::{KeyEntry, KeyringsEntry, KeysEntry};
use dormouse_kernel::key::Serial;

use crate::Result;
use crate::corrupt::{corrupt, corrupt_core};

/// The keyrings of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keyrings {
    /// Its session's, which children inherit; without one, that of its user's sessions counts.
    pub session: Option<Serial>,
    /// Its process's.
    pub process: Option<Serial>,
    /// Its own.
    pub thread: Option<Serial>,
    /// Where keys go that are requested for it, `KEY_REQKEY_DEFL_*`.
    pub requested: u8,
}

/// A key, or a keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What it is called, without a null character.
    pub description: Vec<u8>,
    /// Its user.
    pub uid: u32,
    /// Its group, or all ones.
    pub gid: u32,
    /// As `keyctl_setperm(3)` takes them.
    pub permissions: u32,
    /// Seconds since 1970.
    pub expiry: Option<u64>,
    /// Whether nobody can use it any more.
    pub revoked: bool,
    /// What it holds.
    pub contents: Contents,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Bytes that whoever possesses it may read. None if it has been revoked.
    User(Vec<u8>),
    /// Bytes for the kernel only. Likewise.
    Logon(Vec<u8>),
    /// Keys.
    Keyring(BTreeSet<Serial>),
    /// Keys that a user has, whether anybody of the tree has them or not.
    Standing,
}

/// All keys that threads of a tree can reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(pub BTreeMap<Serial, Key>);

/// Of a key of either kind, in bytes.
const MOST_BYTES: usize = 32767;
/// `PAGE_SIZE`, with the null character.
const LONGEST: usize = 4095;
/// `KEY_REQKEY_DEFL_GROUP_KEYRING`, the last there is but for one that cannot be chosen.
const LAST_DESTINATION: u8 = 6;

const KEYRING: &[u8] = b"keyring";
const USER: &[u8] = b"user";
const LOGON: &[u8] = b"logon";

impl Contents {
    /// The name of the type.
    #[must_use]
    pub fn kind(&self) -> &'static [u8] {
        match self {
            Self::User(_) => USER,
            Self::Logon(_) => LOGON,
            Self::Keyring(_) | Self::Standing => KEYRING,
        }
    }

    fn is_keyring(&self) -> bool {
        self.kind() == KEYRING
    }
}

impl Keyrings {
    /// All that there are.
    pub fn each(self) -> impl Iterator<Item = Serial> {
        [self.session, self.process, self.thread].into_iter().flatten()
    }

    /// Writes it to the image of the thread.
    pub fn encode(self, core: &mut CoreEntry) {
        let Self { session, process, thread, requested } = self;
        let raw = |serial: Option<Serial>| serial.map(Serial::as_raw);
        core.thread_core.get_or_insert_default().keyrings =
            (self != Self::default()).then(|| KeyringsEntry {
                session: raw(session),
                process: raw(process),
                thread: raw(thread),
                requested: requested.into(),
            });
    }

    /// Reads it back and judges it; `keys` are those that there are.
    ///
    /// # Errors
    ///
    /// It has a keyring that is none.
    pub fn decode(core: &CoreEntry, keys: Option<&Keys>) -> Result<Self> {
        let entry = core.thread_core.as_ref().and_then(|thread| thread.keyrings.as_ref());
        let Some(entry) = entry else { return Ok(Self::default()) };
        let bad = || corrupt_core("keyrings", "no such keyring, or place for requested keys");
        let is_keyring = |serial: &Serial| {
            keys.and_then(|Keys(keys)| keys.get(serial))
                .is_some_and(|key| key.contents.is_keyring())
        };
        let keyring = |raw: Option<u32>| match raw {
            None => Ok(None),
            Some(raw) => Serial::from_raw(raw).filter(is_keyring).map(Some).ok_or_else(bad),
        };
        let requested = u8::try_from(entry.requested).ok();
        Ok(Self {
            session: keyring(entry.session)?,
            process: keyring(entry.process)?,
            thread: keyring(entry.thread)?,
            requested: requested.filter(|to| *to <= LAST_DESTINATION).ok_or_else(bad)?,
        })
    }
}

impl Keys {
    /// What says so in the inventory.
    #[must_use]
    pub fn encode(&self) -> KeysEntry {
        let entry = |(serial, key): (&Serial, &Key)| {
            let Key { description, uid, gid, permissions, expiry, revoked, contents } = key;
            let (mut payload, mut links) = (Vec::new(), Vec::new());
            match contents {
                Contents::User(bytes) | Contents::Logon(bytes) => payload.clone_from(bytes),
                Contents::Keyring(keys) => links = keys.iter().map(|key| key.as_raw()).collect(),
                Contents::Standing => {}
            }
            KeyEntry {
                serial: serial.as_raw(),
                kind: contents.kind().to_vec(),
                description: description.clone(),
                uid: *uid,
                gid: *gid,
                permissions: *permissions,
                expiry: *expiry,
                revoked: *revoked,
                standing: *contents == Contents::Standing,
                payload,
                links,
            }
        };
        KeysEntry { keys: self.0.iter().map(entry).collect() }
    }

    /// Reads them back and judges them.
    ///
    /// # Errors
    ///
    /// One could not be made, or is in a keyring and not there.
    pub fn decode(entry: KeysEntry) -> Result<Self> {
        let mut keys = BTreeMap::new();
        for entry in entry.keys {
            let raw = entry.serial;
            let bad = |reason| corrupt(ImageName::Inventory, "key", raw, reason);
            let serial = Serial::from_raw(raw).ok_or_else(|| bad("no such number"))?;
            let key = Key::decode(entry).map_err(bad)?;
            if keys.insert(serial, key).is_some() {
                return Err(bad("described twice"));
            }
        }
        for (serial, key) in &keys {
            let Contents::Keyring(links) = &key.contents else { continue };
            if links.iter().any(|link| !keys.contains_key(link)) {
                let reason = "a link to a key that is not described";
                return Err(corrupt(ImageName::Inventory, "key", serial.as_raw(), reason));
            }
        }
        Ok(Self(keys))
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// If it is none that decoding has found.
    #[must_use]
    pub fn get(&self, serial: Serial) -> &Key {
        self.0.get(&serial).expect("every link and every keyring of a thread is described")
    }
}

impl Key {
    fn decode(entry: KeyEntry) -> Result<Self, &'static str> {
        let KeyEntry {
            serial: _,
            kind,
            description,
            uid,
            gid,
            permissions,
            expiry,
            revoked,
            standing,
            payload,
            links,
        } = entry;
        if description.is_empty() || description.len() > LONGEST || description.contains(&0) {
            return Err("a description that no key has");
        }
        if payload.len() > MOST_BYTES || (payload.is_empty() && !revoked && kind != KEYRING) {
            return Err("a payload that no key has");
        }
        let contents = match kind.as_slice() {
            USER => Contents::User(payload),
            LOGON => Contents::Logon(payload),
            KEYRING if standing => Contents::Standing,
            KEYRING => {
                let links = links.into_iter().map(Serial::from_raw);
                Contents::Keyring(links.collect::<Option<_>>().ok_or("a link to no key")?)
            }
            _ => return Err("of a type that is not known"),
        };
        Ok(Self { description, uid, gid, permissions, expiry, revoked, contents })
    }

    /// Whether it is of no use any more, in so many seconds since 1970.
    #[must_use]
    pub fn has_expired(&self, now: u64) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(raw: u32) -> Serial {
        Serial::from_raw(raw).unwrap()
    }

    fn key(contents: Contents) -> Key {
        Key {
            description: b"a name".to_vec(),
            uid: 1,
            gid: u32::MAX,
            permissions: 0x3f03_0000,
            expiry: Some(5),
            revoked: false,
            contents,
        }
    }

    #[test]
    fn what_was_possessed_comes_back() {
        let keys = Keys(BTreeMap::from([
            (serial(9), key(Contents::Keyring([serial(4), serial(7)].into()))),
            (serial(4), key(Contents::Logon(vec![1, 0, 2]))),
            (serial(7), key(Contents::Standing)),
        ]));
        assert_eq!(Keys::decode(keys.encode()).unwrap(), keys);
        let keyrings = Keyrings { session: Some(serial(9)), requested: 3, ..Keyrings::default() };
        let mut core = CoreEntry::default();
        keyrings.encode(&mut core);
        assert_eq!(Keyrings::decode(&core, Some(&keys)).unwrap(), keyrings);
        assert!(Keyrings::decode(&core, None).is_err(), "nothing is known of the keyring");
    }

    #[test]
    fn links_lead_to_keys() {
        let keys = Keys([(serial(9), key(Contents::Keyring([serial(4)].into())))].into());
        assert!(Keys::decode(keys.encode()).is_err());
    }
}
