//! What dumps leave behind on the network.

use dormouse_image::ImageName;
use dormouse_image::proto::inventory::InventoryEntry;
use dormouse_kernel::NsPid;
use dormouse_resources::file::{Connections, unlock_network};
use dormouse_resources::task::Refusal;

use crate::cause::Cause;
use crate::{RestoreOptions, TcpConnections};

/// What is to become of TCP connections.
pub(super) fn connections(options: &RestoreOptions, inventory: &InventoryEntry) -> TcpConnections {
    if inventory.tcp_close == Some(true) { TcpConnections::Close } else { options.tcp }
}

/// How the dump has locked the network.
#[derive(Debug)]
pub(super) enum Lock {
    /// Not at all.
    None,
    /// By rules of `iptables(8)` for each connection.
    Iptables,
    /// By a table of nftables, which this names.
    Nftables(String),
}

/// Finds out how the dump has locked the network.
pub(super) fn lock(inventory: &InventoryEntry, root: NsPid) -> Result<Lock, Cause> {
    let wrong = |reason| Cause::Contradiction { image: ImageName::Inventory, reason };
    Ok(match inventory.network_lock_method {
        None | Some(0) => Lock::Iptables,
        Some(1) => Lock::Nftables(match &inventory.dump_criu_run_id {
            Some(run) => String::from_utf8(run.clone())
                .map_err(|_| wrong("the name of the dump is no text"))?,
            None => root.to_string(),
        }),
        Some(2) => Lock::None,
        Some(_) => return Err(wrong("the network was locked in no known way")),
    })
}

/// Lets packets pass again, and connections go on. Those that are to come back closed (`what`) have
/// been locked like others.
pub(super) fn set_free(
    connections: Connections,
    lock: Lock,
    what: TcpConnections,
) -> Result<(), Cause> {
    match lock {
        Lock::Nftables(run) if !connections.is_empty() || what == TcpConnections::Close => {
            unlock_network(&run)?;
        }
        Lock::Iptables if !connections.is_empty() => {
            return Err(Cause::Unsupported(Refusal::IptablesLock));
        }
        _ => {}
    }
    Ok(connections.go_live()?)
}
