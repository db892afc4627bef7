//! Capabilities of the caller.

use super::{Reason, State};
use crate::Errno;
use rustix::thread::{CapabilitySet, capabilities};

macro_rules! capability_trials {
    ($($name:ident = $capability:ident,)*) => {$(
        pub(super) fn $name() -> State {
            effective(CapabilitySet::$capability)
        }
    )*};
}
capability_trials! {
    checkpoint_restore = CHECKPOINT_RESTORE,
    sys_ptrace = SYS_PTRACE,
    sys_admin = SYS_ADMIN,
    setuid = SETUID,
    setgid = SETGID,
    setpcap = SETPCAP,
    net_admin = NET_ADMIN,
    sys_resource = SYS_RESOURCE,
    sys_nice = SYS_NICE,
    dac_read_search = DAC_READ_SEARCH,
    ipc_lock = IPC_LOCK,
    bpf = BPF,
    perfmon = PERFMON,
}

fn effective(capability: CapabilitySet) -> State {
    match capabilities(None) {
        Ok(sets) if sets.effective.contains(capability) => State::Yes,
        Ok(_) => State::Denied(Reason::Errno(Errno::PERM)),
        Err(errno) => State::refused(errno),
    }
}
