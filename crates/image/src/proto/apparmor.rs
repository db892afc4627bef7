//! AppArmor namespaces and policies: `apparmor.img`.

/// The one message of `apparmor.img` (`apparmor_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ApparmorEntry {
    #[prost(message, repeated, tag = "1")]
    pub namespaces: Vec<AaNamespace>,
}

/// `aa_namespace`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AaNamespace {
    #[prost(bytes = "vec", required, tag = "1")]
    pub name: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub policies: Vec<AaPolicy>,
    #[prost(message, repeated, tag = "3")]
    pub namespaces: Vec<AaNamespace>,
}

/// `aa_policy`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AaPolicy {
    #[prost(bytes = "vec", required, tag = "1")]
    pub name: Vec<u8>,
    /// Compiled policy.
    #[prost(bytes = "vec", required, tag = "2")]
    pub blob: Vec<u8>,
}
