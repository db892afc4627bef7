//! Which pages are stored: `pagemap-PID.img`, `pagemap-shmem-ID.img`. See [`crate::pagemap`].

/// First message of a pagemap (`pagemap_head`).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PagemapHead {
    /// The pages are in `pages-ID.img`.
    #[prost(uint32, required, tag = "1")]
    pub pages_id: u32,
}

/// A run of pages (`pagemap_entry`).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PagemapEntry {
    /// First address; for shared memory the offset in the object.
    #[prost(uint64, required, tag = "1")]
    pub vaddr: u64,
    /// Pages, where `nr_pages` is absent (CRIU before 4.0).
    #[prost(uint32, required, tag = "2")]
    pub compat_nr_pages: u32,
    /// Where `flags` is absent: the data is in the parent directory.
    #[prost(bool, optional, tag = "3")]
    pub in_parent: Option<bool>,
    /// `PE_*`, see [`PageFlags`](crate::pagemap::PageFlags).
    #[prost(uint32, optional, tag = "4")]
    pub flags: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    pub nr_pages: Option<u64>,
}
