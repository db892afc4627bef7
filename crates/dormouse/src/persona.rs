//! The name the program was called by, and what follows from it.

use std::ffi::OsStr;
use std::path::Path;

/// The version of CRIU whose command line, images and messages are spoken.
pub(crate) const CRIU_VERSION: &str = "4.2";

/// Who the program is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persona {
    /// Itself.
    Dormouse,
    /// CRIU: where tools depend on it, its exit codes and its wording.
    Criu,
}

impl Persona {
    /// From the first word of the command line.
    pub(crate) fn of(argv0: Option<&OsStr>) -> Self {
        match argv0.map(Path::new).and_then(Path::file_name) {
            Some(name) if name == "criu" => Self::Criu,
            _ => Self::Dormouse,
        }
    }

    /// The name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dormouse => "dormouse",
            Self::Criu => "criu",
        }
    }

    /// What `--version` prints. As CRIU, the form that LXC and others parse.
    pub(crate) fn version(self) -> String {
        match self {
            Self::Dormouse => {
                format!("dormouse {} (as CRIU {CRIU_VERSION})", env!("CARGO_PKG_VERSION"))
            }
            Self::Criu => format!("Version: {CRIU_VERSION}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_name_counts() {
        let of = |name: &str| Persona::of(Some(OsStr::new(name)));
        assert_eq!(of("criu"), Persona::Criu);
        assert_eq!(of("/usr/sbin/criu"), Persona::Criu);
        assert_eq!(of("/opt/criu/dormouse"), Persona::Dormouse);
        assert_eq!(of("criu-limits"), Persona::Dormouse);
        assert_eq!(Persona::of(None), Persona::Dormouse);
    }
}
