//! `/proc/PID/mountinfo`.

use super::scan::{ParseError, Scan, unescape};
use crate::DeviceId;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A mount, see `proc_pid_mountinfo(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Its number, which may be used again once it is gone.
    pub id: i32,
    /// That of the mount it is on. Its own for the root of the namespace; one
    /// that is not listed if that is outside of the task's root.
    pub parent: i32,
    /// The file system's device.
    pub device: DeviceId,
    /// Which part of the file system is mounted. For `nsfs` it is no path but
    /// `net:[4026531840]`; a directory that was deleted has `//deleted`
    /// appended.
    pub root: PathBuf,
    /// Where, below the task's root.
    pub mount_point: PathBuf,
    /// Options of the mount: `rw,nosuid,relatime`.
    pub options: OsString,
    /// How mounts below it spread.
    pub propagation: Propagation,
    /// The file system's type, with its subtype if it has one:
    /// `fuse.sshfs`.
    pub fs_type: OsString,
    /// What was given as source when it was mounted; may be empty.
    pub source: OsString,
    /// Options of the file system.
    pub super_options: OsString,
}

/// See `mount_namespaces(7)`. Private is: nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Propagation {
    /// Shared, in this peer group.
    pub shared: Option<u32>,
    /// Slave of this peer group.
    pub master: Option<u32>,
    /// The nearest peer group of the masters' which the task can see.
    pub from: Option<u32>,
    /// Cannot be bind-mounted.
    pub unbindable: bool,
}

/// Parses the whole file.
///
/// # Errors
///
/// A line is malformed.
pub fn parse_mountinfo(bytes: &[u8]) -> Result<Vec<MountInfo>, ParseError> {
    let mut scan = Scan::new(bytes);
    let mut mounts = Vec::new();
    while !scan.is_empty() {
        mounts.push(mount(&mut scan)?);
    }
    Ok(mounts)
}

fn mount(scan: &mut Scan<'_>) -> Result<MountInfo, ParseError> {
    let id = scan.signed("a mount")?;
    scan.expect(" ")?;
    let parent = scan.signed("a mount")?;
    scan.expect(" ")?;
    let major = scan.dec("a major device number")?;
    scan.expect(":")?;
    let minor = scan.dec("a minor device number")?;
    scan.expect(" ")?;
    let root = PathBuf::from(field(scan)?);
    let mount_point = PathBuf::from(field(scan)?);
    let options = field(scan)?;
    let propagation = propagation(scan)?;
    let fs_type = field(scan)?;
    let source = field(scan)?;
    // A file system may print anything here.
    let super_options = text(scan.line());
    Ok(MountInfo {
        id,
        parent,
        device: DeviceId { major, minor },
        root,
        mount_point,
        options,
        propagation,
        fs_type,
        source,
        super_options,
    })
}

/// Fields end at exactly one blank: two are an empty field.
fn field(scan: &mut Scan<'_>) -> Result<OsString, ParseError> {
    let raw = scan.word();
    scan.expect(" ")?;
    Ok(text(raw))
}

fn text(raw: &[u8]) -> OsString {
    // seq_dentry and mangle, in fs/proc_namespace.c.
    OsString::from_vec(unescape(raw, b" \t\n\\#"))
}

fn propagation(scan: &mut Scan<'_>) -> Result<Propagation, ParseError> {
    let mut propagation = Propagation::default();
    loop {
        if scan.eat(b"- ") {
            return Ok(propagation);
        } else if scan.eat(b"shared:") {
            propagation.shared = Some(scan.dec("a peer group")?);
        } else if scan.eat(b"master:") {
            propagation.master = Some(scan.dec("a peer group")?);
        } else if scan.eat(b"propagate_from:") {
            propagation.from = Some(scan.dec("a peer group")?);
        } else if scan.eat(b"unbindable") {
            propagation.unbindable = true;
        } else if cfg!(test) || scan.word().is_empty() {
            return scan.error("a separator");
        }
        scan.expect(" ")?;
    }
}

#[cfg(test)]
mod tests {
    use super::{Propagation, parse_mountinfo};
    use crate::DeviceId;
    use std::path::Path;

    #[test]
    fn mounts_of_all_kinds() {
        let mounts = parse_mountinfo(
            b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resuid=65534\n\
              42 27 254:0 /run/netns /a\\040b\\134\\011c rw shared:1 master:2 propagate_from:3 - \
              ext4 /dev/my\\043disk rw\n\
              43 42 0:4 net:[4026532000] /run/netns/x rw unbindable - nsfs nsfs rw\n\
              44 42 0:5 / /e rw - tmpfs  rw,size=4k\n",
        )
        .unwrap();
        assert_eq!(mounts.len(), 4);
        assert_eq!((mounts[0].id, mounts[0].parent), (27, 1));
        assert_eq!(mounts[0].device, DeviceId { major: 254, minor: 0 });
        assert_eq!(mounts[0].propagation, Propagation::default());
        assert_eq!(mounts[0].super_options, "rw,discard,resuid=65534");
        assert_eq!(mounts[1].mount_point, Path::new("/a b\\\tc"));
        assert_eq!(mounts[1].source, "/dev/my#disk");
        assert_eq!(
            mounts[1].propagation,
            Propagation { shared: Some(1), master: Some(2), from: Some(3), unbindable: false }
        );
        assert_eq!(mounts[2].root, Path::new("net:[4026532000]"));
        assert!(mounts[2].propagation.unbindable);
        assert_eq!((mounts[3].source.len(), mounts[3].fs_type.to_str()), (0, Some("tmpfs")));
        assert!(parse_mountinfo(b"27 1 254:0 / / rw\n").is_err());
    }
}
