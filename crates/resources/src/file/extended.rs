//! Extended attributes, `xattr(7)`, of an inode that is made anew.

use std::ffi::{CString, OsString};
use std::os::fd::BorrowedFd;
use std::path::Path;

use dormouse_image::proto::files::reg::XattrEntry;
use rustix::fs::{IFlags, XattrFlags, getxattr, ioctl_getflags, listxattr, setxattr};
use rustix::io::Errno;

use super::watched::own_path;
use crate::{Error, Result};

/// Names with their values, as the kernel lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extended(Vec<(CString, Vec<u8>)>);

/// The kernel's limits, in bytes (`include/uapi/linux/limits.h`).
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 64 << 10;
const MAX_LIST: usize = 64 << 10;
/// The system's policy gives a new file its own.
const LABEL: &[u8] = b"security.selinux";

fn whole(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut bytes = vec![0; MAX_LIST.max(MAX_VALUE)];
    let len = read(&mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

impl Extended {
    /// Those of the inode behind `file`. It is one of `object`s, and an error calls it `link`.
    pub(super) fn collect(
        file: BorrowedFd<'_>,
        (object, link): (&'static str, &Path),
    ) -> Result<Self> {
        let bars = IFlags::IMMUTABLE | IFlags::APPEND;
        // Not every file system has such flags.
        if ioctl_getflags(file).is_ok_and(|flags| flags.intersects(bars)) {
            return Err(Error::Unsupported {
                object,
                detail: link.into(),
                reason: "it is append-only or immutable, which would keep it from being made again",
                hint: "take the attribute off (chattr)",
            });
        }
        let path = own_path(file);
        let names = match whole(|room| listxattr(&path, room)) {
            Err(Errno::OPNOTSUPP) => return Ok(Self::default()),
            names => names.map_err(Error::kernel("listxattr", link))?,
        };
        let names = names.split_inclusive(|&byte| byte == 0);
        let names = names.filter_map(|name| CString::from_vec_with_nul(name.to_vec()).ok());
        let value = |name: CString| {
            let value = whole(|room| getxattr(&path, &*name, room));
            Ok((name, value.map_err(Error::kernel("getxattr", link))?))
        };
        names.filter(|name| name.as_bytes() != LABEL).map(value).collect::<Result<_>>().map(Self)
    }

    pub(super) fn encode(&self) -> Vec<XattrEntry> {
        let entry = |(name, value): &(CString, Vec<u8>)| XattrEntry {
            name: name.as_bytes().to_vec(),
            value: value.clone(),
        };
        self.0.iter().map(entry).collect()
    }

    pub(super) fn decode(entries: Vec<XattrEntry>) -> Result<Self, &'static str> {
        let listed: usize = entries.iter().map(|entry| entry.name.len() + 1).sum();
        if listed > MAX_LIST {
            return Err("it has more extended attributes than any file has");
        }
        let sound = |XattrEntry { name, value }| {
            let name: Vec<u8> = name;
            let fits = (1..=MAX_NAME).contains(&name.len()) && value.len() <= MAX_VALUE;
            let name = CString::new(name).ok().filter(|_| fits);
            Ok((name.ok_or("it has an extended attribute that cannot be")?, value))
        };
        entries.into_iter().map(sound).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn apply(&self, path: BorrowedFd<'_>) -> Result<()> {
        for (name, value) in &self.0 {
            let subject = OsString::from(name.to_string_lossy().into_owned());
            setxattr(own_path(path), &**name, value, XattrFlags::empty())
                .map_err(Error::kernel("setxattr", subject))?;
        }
        Ok(())
    }
}
