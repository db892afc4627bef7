//! Device numbers.

use std::fmt;

/// The number of a device, or of a file system that has none (an anonymous
/// one: major 0).
///
/// The kernel writes it in three ways: `major:minor` (in maps and
/// mountinfo), packed its own way (the `sdev` of fdinfo lines), and packed
/// for `stat(2)`. Here they are one type, so that they compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId {
    /// 12 bits.
    pub major: u32,
    /// 20 bits.
    pub minor: u32,
}

impl DeviceId {
    /// From the kernel's own packing, `major << 20 | minor`
    /// (`include/linux/kdev_t.h`): what fdinfo prints as `sdev`.
    #[must_use]
    pub const fn from_kernel(raw: u32) -> Self {
        Self { major: raw >> 20, minor: raw & 0xf_ffff }
    }

    /// The kernel's own packing, the inverse of [`Self::from_kernel`].
    #[must_use]
    pub const fn as_kernel(self) -> u32 {
        self.major << 20 | self.minor & 0xf_ffff
    }

    /// From `st_dev` or `st_rdev` of `stat(2)`, see `makedev(3)`.
    #[must_use]
    pub const fn from_stat(raw: u64) -> Self {
        Self { major: libc::major(raw), minor: libc::minor(raw) }
    }

    /// As `stat(2)` packs it.
    #[must_use]
    pub const fn as_stat(self) -> u64 {
        libc::makedev(self.major, self.minor)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceId;

    #[test]
    fn the_packings_agree() {
        let disk = DeviceId { major: 0xfe, minor: 0x12345 };
        assert_eq!(DeviceId::from_kernel(0xfe1_2345), disk);
        assert_eq!(disk.as_kernel(), 0xfe1_2345);
        assert_eq!(DeviceId::from_stat(disk.as_stat()), disk);
        let root = rustix::fs::stat("/dev/null").unwrap();
        assert_eq!(DeviceId::from_stat(root.st_rdev), DeviceId { major: 1, minor: 3 });
    }
}
