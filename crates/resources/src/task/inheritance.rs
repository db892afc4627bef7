//! What the first task of a tree has from whoever started dormouse.
//!
//! A fork keeps what a shell, a service manager or a program has set for the command: signals that
//! are ignored (`nohup`, and Rust's own SIGPIPE), an I/O priority, a choice of processors. All tasks
//! of a tree come from the first one, and properties that are as usual are not set again: so it
//! begins with what a program has that nobody has told anything.
//!
//! - Kernel objects: those of the properties named below
//! - Not preserved: what cannot be taken back, [`Inheritance::check`] refuses. An LSM's domain
//! - Scenarios: the second restore of the `twice` action over all scenarios

use dormouse_kernel::proc::{SeccompMode, Status};
use dormouse_kernel::sched::{self, IoPriority, SchedAttr};
use dormouse_kernel::signal::KernelSigaction;
use dormouse_kernel::{Errno, HostPid, restriction};
use dormouse_puppet::Batch;

use super::ThreadState;
use super::actions::{SIGSET_SIZE, with_action};
use super::refusal::Refusal;
use super::speculation::{self, PR_SET_SPECULATION_CTRL, Speculation};
use crate::{Error, Result};

/// Bytes of a set of all processors there can be (`NR_CPUS` is 8192 at most).
const PROCESSORS: usize = 1024;
const PR_SET_IO_FLUSHER: i32 = 57;
/// `SCHED_FLAG_KEEP_ALL`, and `SCHED_FLAG_UTIL_CLAMP`: it is reset by all ones.
const RESET_CLAMPS: u64 = 0x78;
const PR_SET_MEMORY_MERGE: i32 = 67;

/// What dormouse itself runs with.
#[derive(Debug)]
pub struct Inheritance {
    no_new_privs: bool,
    filtered: bool,
    in_domain: bool,
    cannot_gain_execution: bool,
    has_core_cookie: bool,
    speculation: Speculation,
}

impl Inheritance {
    /// As this process has it, with this status, which may be in a Landlock domain.
    #[must_use]
    pub fn of_self(own: &Status, in_domain: bool) -> Self {
        Self {
            no_new_privs: own.no_new_privs,
            filtered: own.seccomp != SeccompMode::Disabled,
            in_domain,
            cannot_gain_execution: restriction::children_cannot_gain_execution(),
            has_core_cookie: restriction::has_core_cookie(),
            speculation: Speculation::of_self(),
        }
    }

    /// Whether a thread that lacks what nobody can get rid of can come from dormouse.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it cannot.
    pub fn check(&self, state: &ThreadState) -> Result<()> {
        let Self {
            no_new_privs,
            filtered,
            in_domain,
            cannot_gain_execution,
            has_core_cookie,
            speculation,
        } = self;
        let found = [
            (*no_new_privs && !state.credentials.no_new_privs(), "no_new_privs"),
            (*in_domain, "a Landlock domain"),
            // It would come on top of those that the program has.
            (*filtered, "a seccomp filter"),
            (*cannot_gain_execution, "write-execute protection (PR_SET_MDWE)"),
            (*has_core_cookie, "a core scheduling cookie"),
            (speculation.forbids_more_than(&state.speculation), "speculation that is off for good"),
        ];
        if let Some((_, detail)) = found.iter().find(|(found, _)| *found) {
            return Err(Refusal::Restriction.error(detail));
        }
        Ok(())
    }

    /// Has dormouse give up its I/O priority before it forks: a fork has an object of its own with
    /// it, which it does not lose any more.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn shed_io_priority() -> Result<()> {
        let own = HostPid::of_self();
        let none = IoPriority::from_raw(0);
        let shed = || match sched::io_priority(own)? {
            priority if priority == none => Ok(()),
            _ => sched::set_io_priority(own, none),
        };
        match shed() {
            // The kernel does no I/O to devices, and knows no priority.
            Err(sched::Error { source: Errno::NOSYS, .. }) => Ok(()),
            shed => shed.map_err(|error: sched::Error| Error::Kernel {
                call: "ioprio_set",
                subject: "dormouse itself".into(),
                source: error.source,
            }),
        }
    }

    /// Adds the calls by which a fork of dormouse gets rid of the rest.
    pub fn shed(batch: &mut Batch) {
        let zero = || 0.into();
        let action = batch.data(&KernelSigaction::default().to_bytes());
        for signal in with_action() {
            batch.call(
                libc::SYS_rt_sigaction,
                [signal.as_raw().into(), action.into(), zero(), SIGSET_SIZE.into()],
            );
        }
        let all = batch.data(&[0xff; PROCESSORS]);
        batch.call(libc::SYS_sched_setaffinity, [zero(), (PROCESSORS as u64).into(), all.into()]);
        batch.call(libc::SYS_prctl, [libc::PR_SET_TSC.into(), libc::PR_TSC_ENABLE.into()]);
        // PR_MCE_KILL_CLEAR would leave PF_MCE_EARLY to be seen in `/proc/PID/stat`.
        let (set, usual) = (libc::PR_MCE_KILL_SET, libc::PR_MCE_KILL_DEFAULT);
        let usual = [libc::PR_MCE_KILL.into(), set.into(), usual.into(), zero(), zero()];
        batch.call(libc::SYS_prctl, usual);
        let huge = [libc::PR_SET_THP_DISABLE.into(), zero(), zero(), zero(), zero()];
        batch.call(libc::SYS_prctl, huge);
        // Kernels may be built without these.
        batch.may_fail(libc::SYS_set_mempolicy, [libc::MPOL_DEFAULT.into(), zero(), zero()]);
        let merged = [PR_SET_MEMORY_MERGE.into(), zero(), zero(), zero(), zero()];
        batch.may_fail(libc::SYS_prctl, merged);
        batch.may_fail(libc::SYS_prctl, [PR_SET_IO_FLUSHER.into(), zero(), zero(), zero(), zero()]);
        let clamps = SchedAttr {
            flags: RESET_CLAMPS,
            util_min: u32::MAX,
            util_max: u32::MAX,
            ..SchedAttr::default()
        };
        let clamps = batch.data(&clamps.to_bytes());
        batch.may_fail(libc::SYS_sched_setattr, [zero(), clamps.into(), zero()]);
        for (kind, usual) in (0_u64..).zip(speculation::USUAL) {
            let usual = [PR_SET_SPECULATION_CTRL.into(), kind.into(), usual.into(), zero(), zero()];
            batch.may_fail(libc::SYS_prctl, usual);
        }
    }
}
