//! Which terminal a device number stands for.

use dormouse_image::proto::files::tty::TtyType;
use dormouse_kernel::DeviceId;

/// What kind of terminal it is (`Documentation/admin-guide/devices.txt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Driver {
    /// The master of a pseudo terminal.
    Master,
    /// The slave of one.
    Slave,
    /// `/dev/console`.
    Console,
    /// A virtual terminal.
    Virtual,
    /// A serial line, or a console of a hypervisor.
    Serial,
    /// `/dev/tty`.
    Controlling,
}

/// `UNIX98_PTY_SLAVE_MAJOR`.
const SLAVES: u32 = 136;
/// How many major numbers slaves have.
const SLAVE_MAJORS: u32 = 8;
/// Virtual terminals; other minors of their major are serial lines.
const VIRTUAL: u32 = 63;

impl Driver {
    /// `None`: it is no terminal.
    pub(super) const fn of(device: DeviceId) -> Option<Self> {
        Some(match (device.major, device.minor) {
            (5, 0) => Self::Controlling,
            (5, 1) => Self::Console,
            (5, 2) => Self::Master,
            (4, 0..=VIRTUAL) => Self::Virtual,
            // ttyS, ttyUSB, ttyAMA and their like, hvc.
            (4 | 188 | 204 | 229, _) => Self::Serial,
            (major, _) if major >= SLAVES && major < SLAVES + SLAVE_MAJORS => Self::Slave,
            _ => return None,
        })
    }

    /// As images have it.
    pub(super) const fn kind(self) -> TtyType {
        match self {
            Self::Master | Self::Slave => TtyType::Pty,
            Self::Console => TtyType::Console,
            Self::Virtual => TtyType::Vt,
            Self::Serial => TtyType::Serial,
            Self::Controlling => TtyType::Ctty,
        }
    }

    /// Whether it is an end of a pseudo terminal.
    pub(super) const fn is_pty(self) -> bool {
        matches!(self, Self::Master | Self::Slave)
    }

    /// What CRIU numbers all terminals of the kind by, which are not pseudo
    /// terminals.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Master | Self::Slave => 0,
            Self::Console => 1002,
            Self::Virtual => 1004,
            Self::Controlling => 1006,
            Self::Serial => 1010,
        }
    }
}

/// The slave of a pseudo terminal.
pub(super) fn slave(index: u32) -> DeviceId {
    // The kernel gives every major 256 minors up to the limit of one.
    DeviceId { major: SLAVES, minor: index }
}

/// The number of the pseudo terminal that a slave belongs to.
pub(super) fn index(slave: DeviceId) -> u32 {
    (slave.major - SLAVES) << 20 | slave.minor
}

/// A device number as images have it: as `stat(2)` does, in 32 bits.
pub(super) fn packed(device: DeviceId) -> u32 {
    device.as_stat() as u32
}

/// The inverse of [`packed`].
pub(super) fn unpacked(raw: u32) -> DeviceId {
    DeviceId::from_stat(raw.into())
}
