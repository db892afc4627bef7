//! The features that `criu check --feature` knows, and what they are here.
//!
//! CRIU's answer means that its kernel has the feature, and that it makes use
//! of it. So the answer is no as long as dormouse does not save the state the
//! feature is for.

use dormouse_kernel::features::Probe;

/// What a feature of CRIU's is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The kernel has to be asked.
    Probe(Probe),
    /// Dormouse saves it, and every kernel it runs on has what it takes.
    Yes,
    /// Whatever the kernel says: dormouse does not use it, for this reason.
    NotYet(&'static str),
}

use Answer::{NotYet, Yes};

const CGROUPS: Answer = NotYet("cgroups are not saved");
const INCREMENTAL: Answer = NotYet("every dump is a full one");
const LAZY: Answer = NotYet("all memory is restored before the program runs");
const MOUNTS: Answer = NotYet("mount namespaces are not saved");
const NAMESPACES: Answer = NotYet("namespaces are not saved");
const NETWORK: Answer = NotYet("network namespaces are not saved");
const RPC: Answer = NotYet("CRIU's RPC is not spoken");
const SECURITY: Answer = NotYet("security profiles are not saved");

/// Every feature of CRIU 4.2 (`feature_list` in `criu/cr-check.c`).
const FEATURES: &[(&str, Answer)] = &[
    ("aio_remap", Yes),
    ("apparmor_stacking", SECURITY),
    ("autofs", MOUNTS),
    ("breakpoints", NotYet("no use is made of them")),
    ("can_map_vdso", Answer::Probe(Probe::MapVdso)),
    ("cgroupns", CGROUPS),
    ("clone3_set_tid", Answer::Probe(Probe::SetTid)),
    ("compat_cr", NotYet("32-bit programs are not saved")),
    ("external_net_ns", NETWORK),
    ("fdinfo_lock", Answer::Probe(Probe::FdinfoLocks)),
    ("get_rseq_conf", Answer::Probe(Probe::RseqConfiguration)),
    ("has_ipt_legacy", NETWORK),
    ("ipv6_freebind", Yes),
    ("kcmp_epoll", Answer::Probe(Probe::Kcmp)),
    ("link_nsid", NETWORK),
    ("loginuid", Yes),
    ("mem_dirty_track", INCREMENTAL),
    ("memfd_hugetlb", Yes),
    ("mnt_id", Answer::Probe(Probe::MapFiles)),
    ("move_mount_set_group", MOUNTS),
    ("net_diag_raw", Answer::Probe(Probe::DiagRaw)),
    ("network_lock_nftables", Answer::Probe(Probe::Nftables)),
    ("newifindex", NETWORK),
    ("nftables", NETWORK),
    ("ns_pid", Yes),
    ("nsid", NETWORK),
    ("openat2", MOUNTS),
    ("overlayfs_maps", NotYet("no use is made of it")),
    ("pagemap_scan", Answer::Probe(Probe::PagemapScan)),
    ("pagemap_scan_guard_pages", Answer::Probe(Probe::GuardPages)),
    ("pidfd_store", RPC),
    ("seccomp_filters", Answer::Probe(Probe::SeccompGetFilter)),
    ("seccomp_suspend", Answer::Probe(Probe::SuspendSeccomp)),
    ("sk_ns", NETWORK),
    ("sk_unix_file", Yes),
    ("sockopt_buf_lock", Yes),
    ("tcp_half_closed", Answer::Probe(Probe::TcpRepair)),
    ("timens", NAMESPACES),
    ("timer_cr_ids", Answer::Probe(Probe::TimerRestoreIds)),
    ("timerfd", Answer::Probe(Probe::TimerfdTicks)),
    ("tun", NotYet("tun devices are not saved")),
    ("tun_ns", NotYet("tun devices are not saved")),
    ("uffd", LAZY),
    ("uffd-noncoop", LAZY),
    ("userns", NAMESPACES),
];

/// What the feature of this name is here; `None` if CRIU has none.
pub(super) fn answer(name: &str) -> Option<Answer> {
    FEATURES.iter().find(|(known, _)| *known == name).map(|(_, answer)| *answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `criu --help` lists them.
    const CRIU: &str = "mnt_id, mem_dirty_track, aio_remap, timerfd, tun, tun_ns, userns, \
        fdinfo_lock, seccomp_suspend, seccomp_filters, loginuid, cgroupns, autofs, \
        tcp_half_closed, compat_cr, uffd, uffd-noncoop, can_map_vdso, sk_ns, sk_unix_file, \
        net_diag_raw, nsid, link_nsid, kcmp_epoll, timens, external_net_ns, clone3_set_tid, \
        newifindex, nftables, has_ipt_legacy, pidfd_store, ns_pid, apparmor_stacking, \
        network_lock_nftables, sockopt_buf_lock, memfd_hugetlb, move_mount_set_group, openat2, \
        get_rseq_conf, ipv6_freebind, pagemap_scan, timer_cr_ids, overlayfs_maps, breakpoints, \
        pagemap_scan_guard_pages";

    #[test]
    fn every_feature_of_criu_s_has_an_answer() {
        let mut names: Vec<&str> = CRIU.split(", ").collect();
        names.sort_unstable();
        let ours: Vec<&str> = FEATURES.iter().map(|(name, _)| *name).collect();
        assert_eq!(ours, names);
    }
}
