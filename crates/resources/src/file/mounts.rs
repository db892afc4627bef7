//! Which mounts have a place in the tree of directories.

use std::collections::BTreeSet;

use dormouse_kernel::proc::{Entry, ProcDir};

use crate::Result;

/// The mounts of a mount namespace. A file on any other mount has no path:
/// pipes, sockets and memfds live on mounts of the kernel's own, and a mount
/// may be detached while files on it are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts(BTreeSet<i32>);

impl Mounts {
    /// Those that dormouse sees, and every task of the tree: a task with another root is told only of
    /// those below that.
    ///
    /// # Errors
    /// None that is known of.
    pub fn own() -> Result<Self> {
        Ok(Self::parse(&ProcDir::of_self()?.read(Entry::Named("mountinfo"))?))
    }

    /// Each line of mountinfo begins with the number of a mount (`proc(5)`).
    fn parse(mountinfo: &[u8]) -> Self {
        let number = |line: &[u8]| {
            let word = line.split(|&byte| byte == b' ').next()?;
            str::from_utf8(word).ok()?.parse().ok()
        };
        Self(mountinfo.split(|&byte| byte == b'\n').filter_map(number).collect())
    }

    /// With the mounts of those among `names` that are external files,
    /// `file[MOUNT:INODE]` in hexadecimal: they need no path.
    #[must_use]
    pub fn with_external(mut self, names: &[String]) -> Self {
        let mount = |name: &String| {
            let (mount, _) = name.strip_prefix("file[")?.split_once(':')?;
            i32::from_str_radix(mount, 16).ok()
        };
        self.0.extend(names.iter().filter_map(mount));
        self
    }

    /// Whether the mount is one of them.
    #[must_use]
    pub fn contains(&self, mount_id: i32) -> bool {
        self.0.contains(&mount_id)
    }
}

#[cfg(test)]
mod tests {
    use super::Mounts;

    #[test]
    fn mounts_are_known_by_number() {
        let mounts = Mounts::parse(
            b"22 27 0:21 / /proc rw - proc proc rw\n\
              27 1 254:0 / /a\\040b rw - ext4 /dev/vda rw\n",
        );
        assert!(mounts.contains(22) && mounts.contains(27));
        assert!(!mounts.contains(1) && !mounts.contains(0));
    }
}
