//! The feature probe, in a process of its own.
#![allow(clippy::unwrap_used)]

use dormouse_kernel::HostPid;
use dormouse_kernel::features::{Feature, Probe, State, probe_all};
use dormouse_kernel::proc::ProcDir;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use std::collections::HashSet;

/// One test, as they would see each other's descriptors.
#[test]
fn trials() {
    nothing_is_left_behind();
    what_is_needed_is_here();
    without_capabilities();
}

fn nothing_is_left_behind() {
    let me = ProcDir::of_self().unwrap();
    let tid = HostPid::from_raw(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
    let open = || me.fd_numbers().unwrap();
    let status = || {
        let status = me.task(tid).unwrap().status().unwrap();
        (status.blocked, status.caught, status.no_new_privs, status.seccomp)
    };
    let namespaces =
        || dormouse_kernel::proc::NamespaceKind::ALL.map(|kind| me.namespace(kind).unwrap());
    let before = (open(), status(), namespaces());
    for &probe in Probe::ALL {
        let _ = probe.state();
        assert!(me.children(tid).unwrap().is_empty(), "{probe:?}");
        assert_eq!((open(), status(), namespaces()), before, "{probe:?}");
    }
}

/// The whole suite rests on it.
fn what_is_needed_is_here() {
    let features = probe_all();
    let names: HashSet<_> = features.iter().map(Feature::name).collect();
    assert_eq!(names.len(), features.len(), "no name twice");
    let missing: Vec<_> =
        features.iter().filter(|feature| feature.needed() && !feature.state.is_yes()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A thread has capabilities of its own.
fn without_capabilities() {
    let unprivileged = || {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).unwrap();
        [
            Probe::CapSysAdmin,
            Probe::SetTid,
            Probe::TcpRepair,
            Probe::FrameNumbers,
            Probe::FileHandles,
            Probe::MapFiles,
            Probe::SuspendSeccomp,
            Probe::TimeNamespace,
        ]
        .into_iter()
        .filter(|probe| !matches!(probe.state(), State::Denied(_)))
        .collect::<Vec<_>>()
    };
    let not_denied = std::thread::spawn(unprivileged).join().unwrap();
    assert!(not_denied.is_empty(), "{not_denied:?}");
}
