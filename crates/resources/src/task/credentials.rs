//! Credentials of a thread.
//!
//! - Kernel object: `struct cred`
//! - Truth from: `/proc/PID/task/TID/status`; `PR_GET_SECUREBITS` asked of the
//!   thread itself
//! - Image: `core-TID.img`, `thread_core.creds`
//! - Not preserved: LSM labels. Keyrings have a room of their own
//! - Privileges needed: those of the credentials restored, and `CAP_SETUID`,
//!   `CAP_SETGID`, `CAP_SETPCAP` to change them

use dormouse_image::proto::core::CoreEntry;
use dormouse_image::proto::creds::CredsEntry;
use dormouse_kernel::proc::{Capabilities, IdSet, Status};
use dormouse_puppet::{Batch, Replies, Slot};
use rustix::thread::CapabilitySet;

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// User and group ids, supplementary groups, capabilities, securebits and
/// `no_new_privs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    uid: IdSet,
    gid: IdSet,
    groups: Vec<u32>,
    caps: Capabilities,
    securebits: u32,
    no_new_privs: bool,
}

/// The highest capability number of Linux 6.18, `CAP_CHECKPOINT_RESTORE`.
const LAST_CAP: u32 = 40;
/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// Securebits that keep changes of uid from touching capabilities:
/// `SECBIT_NO_SETUID_FIXUP` and `SECBIT_KEEP_CAPS`.
const KEEP_CAPABILITIES: u64 = 0b1_0100;

impl Credentials {
    /// As `/proc` shows them, with what it does not show.
    pub(super) fn new(status: &Status, securebits: u32) -> Self {
        Self {
            uid: status.uid,
            gid: status.gid,
            groups: status.groups.clone(),
            caps: status.caps,
            securebits,
            no_new_privs: status.no_new_privs,
        }
    }

    /// Whether running a program can no longer give it privileges.
    pub(super) fn no_new_privs(&self) -> bool {
        self.no_new_privs
    }
}

impl Property for Credentials {
    const NAME: &'static str = "credentials";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        batch.call(libc::SYS_prctl, [libc::PR_GET_SECUREBITS.into()])
    }

    fn collect(task: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self::new(task.status, replies.value(&asked) as u32))
    }

    fn encode(&self, core: &mut CoreEntry) {
        let Self { uid, gid, groups, caps, securebits, no_new_privs } = self;
        core.thread_core.get_or_insert_default().creds = Some(CredsEntry {
            uid: uid.real,
            gid: gid.real,
            euid: uid.effective,
            egid: gid.effective,
            suid: uid.saved,
            sgid: gid.saved,
            fsuid: uid.fs,
            fsgid: gid.fs,
            cap_inh: halves(caps.inheritable),
            cap_prm: halves(caps.permitted),
            cap_eff: halves(caps.effective),
            cap_bnd: halves(caps.bounding),
            secbits: *securebits,
            groups: groups.clone(),
            lsm_profile: None,
            lsm_sockcreate: None,
            apparmor_data: None,
            no_new_privs: Some(u32::from(*no_new_privs)),
            cap_amb: halves(caps.ambient),
        });
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let entry = core
            .thread_core
            .as_ref()
            .and_then(|thread| thread.creds.as_ref())
            .ok_or_else(|| corrupt_core(Self::NAME, "missing"))?;
        Ok(Self {
            uid: IdSet {
                real: entry.uid,
                effective: entry.euid,
                saved: entry.suid,
                fs: entry.fsuid,
            },
            gid: IdSet {
                real: entry.gid,
                effective: entry.egid,
                saved: entry.sgid,
                fs: entry.fsgid,
            },
            groups: entry.groups.clone(),
            caps: Capabilities {
                inheritable: whole(&entry.cap_inh)?,
                permitted: whole(&entry.cap_prm)?,
                effective: whole(&entry.cap_eff)?,
                bounding: whole(&entry.cap_bnd)?,
                ambient: whole(&entry.cap_amb)?,
            },
            securebits: entry.secbits,
            no_new_privs: entry.no_new_privs == Some(1),
        })
    }

    /// Groups and ids first, under securebits that keep the capabilities
    /// alive; then the sets, which can only shrink.
    fn apply(&self, batch: &mut Batch) {
        let Self { uid, gid, groups, caps, securebits, no_new_privs } = self;
        let list: Vec<u8> = groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
        let list = batch.data(&list);
        batch.call(libc::SYS_setgroups, [(groups.len() as u64).into(), list.into()]);
        prctl(batch, libc::PR_SET_SECUREBITS, KEEP_CAPABILITIES);
        for (set, set_fs, ids) in [
            (libc::SYS_setresgid, libc::SYS_setfsgid, gid),
            (libc::SYS_setresuid, libc::SYS_setfsuid, uid),
        ] {
            batch.call(set, [ids.real.into(), ids.effective.into(), ids.saved.into()]);
            if ids.fs != ids.effective {
                batch.call(set_fs, [ids.fs.into()]);
            }
        }
        for cap in (0..=LAST_CAP).filter(|cap| caps.bounding.bits() & (1 << cap) == 0) {
            prctl(batch, libc::PR_CAPBSET_DROP, cap.into());
        }
        prctl(batch, libc::PR_SET_SECUREBITS, (*securebits).into());
        let mut header = [0; 8];
        header[..4].copy_from_slice(&CAPABILITY_VERSION.to_ne_bytes());
        let header = batch.data(&header);
        let sets = [0, 32].map(|shift| {
            [caps.effective, caps.permitted, caps.inheritable]
                .map(|set| ((set.bits() >> shift) as u32).to_ne_bytes())
        });
        let sets = batch.data(sets.as_flattened().as_flattened());
        batch.call(libc::SYS_capset, [header.into(), sets.into()]);
        for cap in (0..=LAST_CAP).filter(|cap| caps.ambient.bits() & (1 << cap) != 0) {
            batch.call(
                libc::SYS_prctl,
                [
                    libc::PR_CAP_AMBIENT.into(),
                    libc::PR_CAP_AMBIENT_RAISE.into(),
                    cap.into(),
                    0.into(),
                    0.into(),
                ],
            );
        }
        if *no_new_privs {
            prctl(batch, libc::PR_SET_NO_NEW_PRIVS, 1);
        }
    }
}

fn prctl(batch: &mut Batch, option: i32, value: u64) {
    batch.call(libc::SYS_prctl, [option.into(), value.into(), 0.into(), 0.into(), 0.into()]);
}

/// A set as images keep it: 32 bits an element, low half first.
fn halves(set: CapabilitySet) -> Vec<u32> {
    vec![set.bits() as u32, (set.bits() >> 32) as u32]
}

fn whole(halves: &[u32]) -> Result<CapabilitySet> {
    match *halves {
        [] => Ok(CapabilitySet::empty()),
        [low, high] => Ok(CapabilitySet::from_bits_retain(u64::from(high) << 32 | u64::from(low))),
        _ => Err(corrupt_core(Credentials::NAME, "a capability set that is not two words")),
    }
}
