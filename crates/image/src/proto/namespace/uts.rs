//! Host name: `utsns-ID.img`.

/// `utsns_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UtsnsEntry {
    #[prost(bytes = "vec", required, tag = "1")]
    pub nodename: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub domainname: Vec<u8>,
}
