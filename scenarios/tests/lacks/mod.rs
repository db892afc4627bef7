//! What the engine does not know yet.

/// Kinds of state, as scenarios and programs name them in `needs`, with the reason to show for a
/// test that is skipped for it; `*` stands for all. What has `::` in it is a part of the names of
/// tests.
pub(crate) const LACKS: &[(&str, &str)] = &[(
    "unix::rights_nested::root::interop::criu_to_dormouse",
    "CRIU saves no targets of such epolls",
)];
