//! `/proc/PID/limits`.

use super::scan::{ParseError, Scan};
use crate::rlimit::{Resource, Rlimit};

/// All resource limits of a process. Reading them here needs the right to
/// trace the process, `prlimit(2)` on another user's needs
/// `CAP_SYS_RESOURCE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits([Rlimit; Resource::COUNT]);

impl Limits {
    /// The limits for one resource.
    #[must_use]
    pub const fn get(&self, resource: Resource) -> Rlimit {
        self.0[resource as usize]
    }

    /// All of them, in the order of the kernel's numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Resource, Rlimit)> {
        Resource::ALL.into_iter().zip(self.0)
    }

    /// Reads the whole file (`proc_pid_limits` in `fs/proc/base.c`, which
    /// prints each number in full).
    ///
    /// # Errors
    ///
    /// A line is missing or malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut scan = Scan::new(bytes);
        scan.line();
        let mut limits = [Rlimit { soft: 0, hard: 0 }; Resource::COUNT];
        for (resource, limit) in Resource::ALL.into_iter().zip(&mut limits) {
            let (name, unit) = label(resource);
            scan.expect(name)?;
            *limit = Rlimit { soft: value(&mut scan)?, hard: value(&mut scan)? };
            scan.blanks();
            scan.expect(unit)?;
            scan.end_line();
        }
        scan.end();
        Ok(Self(limits))
    }
}

fn value(scan: &mut Scan<'_>) -> Result<u64, ParseError> {
    scan.blanks();
    if scan.eat(b"unlimited") { Ok(Rlimit::INFINITY) } else { scan.dec("a limit") }
}

/// The kernel's name for it, and for its unit.
const fn label(resource: Resource) -> (&'static str, &'static str) {
    match resource {
        Resource::Cpu => ("Max cpu time", "seconds"),
        Resource::FileSize => ("Max file size", "bytes"),
        Resource::Data => ("Max data size", "bytes"),
        Resource::Stack => ("Max stack size", "bytes"),
        Resource::Core => ("Max core file size", "bytes"),
        Resource::Resident => ("Max resident set", "bytes"),
        Resource::Processes => ("Max processes", "processes"),
        Resource::Files => ("Max open files", "files"),
        Resource::Locked => ("Max locked memory", "bytes"),
        Resource::AddressSpace => ("Max address space", "bytes"),
        Resource::FileLocks => ("Max file locks", "locks"),
        Resource::PendingSignals => ("Max pending signals", "signals"),
        Resource::MessageQueue => ("Max msgqueue size", "bytes"),
        Resource::Nice => ("Max nice priority", ""),
        Resource::RealTimePriority => ("Max realtime priority", ""),
        Resource::RealTimeTimeout => ("Max realtime timeout", "us"),
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;
    use crate::rlimit::{Resource, Rlimit};

    const CAPTURED: &[u8] = b"\
Limit                     Soft Limit           Hard Limit           Units     \n\
Max cpu time              unlimited            unlimited            seconds   \n\
Max file size             unlimited            unlimited            bytes     \n\
Max data size             unlimited            unlimited            bytes     \n\
Max stack size            8388608              unlimited            bytes     \n\
Max core file size        0                    unlimited            bytes     \n\
Max resident set          unlimited            unlimited            bytes     \n\
Max processes             96365                96365                processes \n\
Max open files            20000                20000                files     \n\
Max locked memory         8388608              8388608              bytes     \n\
Max address space         unlimited            unlimited            bytes     \n\
Max file locks            unlimited            unlimited            locks     \n\
Max pending signals       96365                96365                signals   \n\
Max msgqueue size         819200               819200               bytes     \n\
Max nice priority         0                    0                    \n\
Max realtime priority     0                    0                    \n\
Max realtime timeout      18446744073709551614 unlimited            us        \n";

    #[test]
    fn all_sixteen_are_read_exactly() {
        let limits = Limits::parse(CAPTURED).unwrap();
        assert_eq!(limits.iter().count(), 16);
        assert_eq!(limits.get(Resource::Cpu), Rlimit { soft: u64::MAX, hard: u64::MAX });
        assert_eq!(limits.get(Resource::Stack), Rlimit { soft: 8 << 20, hard: u64::MAX });
        assert_eq!(limits.get(Resource::Files), Rlimit { soft: 20_000, hard: 20_000 });
        assert_eq!(
            limits.get(Resource::RealTimeTimeout),
            Rlimit { soft: u64::MAX - 1, hard: u64::MAX }
        );
    }

    #[test]
    fn a_missing_line_is_an_error() {
        let cut = CAPTURED.len() - 40;
        assert!(Limits::parse(&CAPTURED[..cut]).is_err());
    }
}
