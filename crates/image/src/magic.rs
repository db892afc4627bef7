//! The numbers an image begins with.

/// Format of the directory this crate reads and writes
/// ([`InventoryEntry::img_version`](crate::proto::inventory::InventoryEntry::img_version)): every
/// image but the inventory begins with a common magic. Version 1 (CRIU before 2.0) had none.
pub const IMAGES_VERSION: u32 = 2;

/// First number of an image of the dump.
pub const IMG_COMMON: u32 = 0x5456_4319;

/// First number of a file that is about the dump, not of it.
pub const IMG_SERVICE: u32 = 0x5510_5940;

/// How an image begins. All numbers are 32 bits, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// With its contents: no header.
    Raw,
    /// With this number alone (only `inventory.img`).
    Bare(u32),
    /// With [`IMG_COMMON`] and this number.
    Common(u32),
    /// With [`IMG_SERVICE`] and this number.
    Service(u32),
}

impl Magic {
    /// The numbers in the order they stand in the file.
    #[must_use]
    pub fn words(self) -> impl ExactSizeIterator<Item = u32> + Clone {
        let (words, n) = match self {
            Self::Raw => ([0; 2], 0),
            Self::Bare(m) => ([m, 0], 1),
            Self::Common(m) => ([IMG_COMMON, m], 2),
            Self::Service(m) => ([IMG_SERVICE, m], 2),
        };
        words.into_iter().take(n)
    }
}
