//! What every property of a task answers, and the lists of them.

use std::fmt::Debug;

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::HostPid;
use dormouse_kernel::proc::{ProcDir, Status};
use dormouse_kernel::ptrace::{Rseq, Stopped};
use dormouse_kernel::signal::SigSet;
use dormouse_puppet::{Batch, Replies};

use crate::Result;

/// A stopped task, and what is known of it before its properties are read.
#[derive(Debug)]
pub struct TaskProbe<'a> {
    /// Its tid.
    pub tid: HostPid,
    /// The process it belongs to.
    pub process: HostPid,
    /// `/proc/PID`.
    pub proc: &'a ProcDir,
    /// `/proc/PID/task/TID/status`, read while it is stopped.
    pub status: &'a Status,
    /// Its signal mask, as it was before the task became a puppet.
    pub mask: SigSet,
    /// Its registration for restartable sequences.
    pub rseq: Option<&'a Rseq>,
    /// The task itself.
    pub stopped: &'a Stopped,
}

/// One property of a thread, or of a process: how it is asked for, written
/// to the core image, judged, and given back.
///
/// No verb has a default body. Everything a property needs of the task
/// itself it asks for in one batch together with all the others.
pub trait Property: Sized + Debug {
    /// What users and logs call it.
    const NAME: &'static str;
    /// The places of its answers among the replies.
    type Asked;

    /// Adds its questions to the batch that the stopped task will run.
    fn ask(batch: &mut Batch) -> Self::Asked;
    /// Puts it together from `/proc`, ptrace and the answers; changes
    /// nothing.
    fn collect(task: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self>;
    /// Writes it to the image of the task.
    fn encode(&self, core: &mut CoreEntry);
    /// Reads it back and judges it.
    fn decode(core: &CoreEntry) -> Result<Self>;
    /// Adds the calls that give it to the task which runs the batch.
    fn apply(&self, batch: &mut Batch);
}

macro_rules! properties {
    ($(#[$doc:meta])* $name:ident, $asked:ident { $($field:ident: $room:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name { $(
            #[doc = stringify!($field)]
            pub $field: $room,
        )* }

        /// Where the answers will be.
        #[derive(Debug)]
        pub struct $asked { $($field: <$room as Property>::Asked,)* }

        impl $name {
            /// Asks for everything at once.
            pub fn ask(batch: &mut Batch) -> $asked {
                $asked { $($field: <$room>::ask(batch),)* }
            }

            /// Reads everything.
            pub fn collect(
                task: &TaskProbe<'_>,
                replies: &Replies,
                asked: $asked,
            ) -> Result<Self> {
                Ok(Self { $($field: <$room>::collect(task, replies, asked.$field)?,)* })
            }

            /// Writes everything.
            pub fn encode(&self, core: &mut CoreEntry) {
                $(self.$field.encode(core);)*
            }

            /// Reads everything back and judges it.
            pub fn decode(core: &CoreEntry) -> Result<Self> {
                Ok(Self { $($field: <$room>::decode(core)?,)* })
            }

            /// Gives everything, in the order of the list.
            pub fn apply(&self, batch: &mut Batch) {
                $(self.$field.apply(batch);)*
            }
        }
    };
}

properties! {
    /// What belongs to a process as a whole. The order is that of
    /// application.
    ProcessState, ProcessAsked {
        personality: super::personality::Personality,
        extended_features: super::extended_features::ExtendedFeatures,
        local_descriptors: super::local_descriptors::LocalDescriptors,
        subreaper: super::subreaper::Subreaper,
        actions: super::actions::Actions,
        interval_timers: super::interval_timers::IntervalTimers,
        futex_hash: super::futex_hash::FutexHash,
        membarrier: super::membarrier::Membarrier,
        timer_numbering: super::timer_numbering::TimerNumbering,
        write_execute: super::write_execute::WriteExecute,
        pending: super::pending::ProcessPending,
        limits: super::limits::Limits,
    }
}

properties! {
    /// What belongs to a single thread. The order is that of application:
    /// credentials come late, for most of what precedes them needs
    /// privileges that they may take away; the parent-death signal comes
    /// after them, for a change of credentials clears it.
    ThreadState, ThreadAsked {
        landlock: super::landlock::Landlock,
        tid_address: super::tid_address::TidAddress,
        robust_list: super::robust_list::RobustList,
        rseq: super::rseq::Rseq,
        alt_stack: super::alt_stack::AltStack,
        name: super::name::Name,
        timer_slack: super::timer_slack::TimerSlack,
        scheduling: super::scheduling::Scheduling,
        core_scheduling: super::core_scheduling::CoreScheduling,
        memory_policy: super::memory_policy::MemoryPolicy,
        login_uid: super::login_uid::LoginUid,
        io_priority: super::io_priority::IoPriority,
        time_stamp: super::time_stamp::TimeStamp,
        cpuid: super::cpuid::Cpuid,
        machine_check: super::machine_check::MachineCheck,
        speculation: super::speculation::Speculation,
        pending: super::pending::ThreadPending,
        mask: super::mask::Mask,
        credentials: super::credentials::Credentials,
        parent_death: super::parent_death::ParentDeath,
    }
}
