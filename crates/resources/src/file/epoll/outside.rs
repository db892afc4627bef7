//! Who else has a file open. Only for errors: it looks at every descriptor of
//! the system.

use std::fs;
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;

use dormouse_kernel::HostPid;
use dormouse_kernel::pidfd::PidFd;
use dormouse_kernel::proc::ProcDir;
use epoll_interest::{FileKey, Inspector, Listed};

use super::problem::Outsider;

/// A process that has the file open which an item, `listed` so,
/// watches. What cannot be looked at is passed over.
pub(super) fn holder(inspector: &mut Inspector, key: FileKey, listed: &Listed) -> Option<Outsider> {
    let names = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| HostPid::from_raw(name.to_str()?.parse().ok()?));
    let own = std::process::id().cast_signed();
    pids.filter(|pid| pid.as_raw() != own).find_map(|pid| in_process(inspector, pid, key, listed))
}

fn in_process(
    inspector: &mut Inspector,
    pid: HostPid,
    key: FileKey,
    listed: &Listed,
) -> Option<Outsider> {
    let proc = ProcDir::open(pid).ok()?;
    let pidfd = PidFd::open(pid).ok()?;
    for fd in proc.fd_numbers().ok()? {
        let inode = fs::metadata(format!("/proc/{pid}/fd/{fd}")).map(|stat| stat.st_ino());
        if !inode.is_ok_and(|inode| inode == listed.ino) {
            continue;
        }
        let Ok(file) = pidfd.get_fd(fd) else { continue };
        if inspector.file_keys(&[file.as_fd()]).is_ok_and(|keys| keys == [key]) {
            let name = proc.status().map(|status| status.name).unwrap_or_default();
            return Some(Outsider { pid, name, fd });
        }
    }
    None
}
