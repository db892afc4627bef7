//! `dump`

use std::path::Path;

use dormouse_engine::{AfterDump, DumpOptions, NetworkLock, UnixPeers};
use tracing::info;

use super::{Done, engine, stats, worker};
use crate::args::{Dump, FileValidation, NetworkLockMethod, UnixPeer};
use crate::failure::Failure;
use crate::progress::Bar;

pub(super) fn run(dump: &Dump, work: &Path) -> Result<Done, Failure> {
    let after = match (dump.leave_running, dump.leave_stopped) {
        (_, true) => AfterDump::LeaveStopped,
        (true, false) => AfterDump::LeaveRunning,
        (false, false) => AfterDump::Kill,
    };
    let options = DumpOptions {
        work: Some(work.to_owned()),
        needs_stats: dump.display_stats,
        after,
        shell_job: dump.shell_job,
        timeout: dump.timeout,
        ghost_limit: dump.ghost_limit,
        link_remap: dump.link_remap,
        build_ids: dump.file_validation == FileValidation::Buildid,
        cpu_info: dump.tells_of_cpu(),
        file_locks: dump.file_locks,
        external: dump.external.clone(),
        tcp: dump.tcp.policy(),
        network_lock: match dump.network_lock {
            NetworkLockMethod::Nftables | NetworkLockMethod::Iptables => NetworkLock::Nftables,
            NetworkLockMethod::Skip | NetworkLockMethod::None => NetworkLock::Skip,
        },
        skip_in_flight: dump.skip_in_flight,
        unix_peers: match (dump.unix_peer, &dump.ext_unix_sk) {
            (Some(UnixPeer::Close), _) => UnixPeers::Close,
            (Some(UnixPeer::Reconnect), _) => UnixPeers::Reconnect,
            (None, Some(_)) => UnixPeers::Datagrams,
            (None, None) => UnixPeers::Refuse,
        },
        ..DumpOptions::new(dump.root(), dump.images())
    };
    worker::dump(|sentry| {
        let mut bar = Bar::new("dump");
        engine::dump(&options, &mut sentry.guard(&mut bar))?;
        bar.finish();
        info!("Dumping finished successfully");
        if dump.display_stats { stats::print_dump(work) } else { Ok(()) }
    })
}
