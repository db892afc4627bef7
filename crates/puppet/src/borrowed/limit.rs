//! Memory for batches beyond a limit of the program, which has lowered that below what it has.

use dormouse_kernel::Errno;
use dormouse_kernel::proc::ProcDir;
use dormouse_kernel::rlimit::{self, Resource, Rlimit};

use super::Borrowed;
use crate::Error;

/// Who raises a limit, and puts it back.
#[derive(Clone, Copy)]
enum By {
    /// This process, which may.
    Tracer,
    /// The task itself, as far as everybody may.
    Task,
}

impl Borrowed<'_> {
    /// Maps the memory, which was `refused`. Should the tracer die in between, the limit stays
    /// raised.
    pub(super) fn map_above_limit(&mut self, refused: Error) -> Result<u64, Error> {
        let resource = match refused {
            Error::Call { source: Errno::NOMEM, .. } => Resource::AddressSpace,
            // With `mlockall(MCL_FUTURE)`.
            Error::Call { source: Errno::AGAIN, .. } => Resource::Locked,
            refused => return Err(refused),
        };
        let process = self.host.process;
        let was = ProcDir::open(process)?.limits()?.get(resource);
        if was.soft == Rlimit::INFINITY {
            return Err(refused);
        }
        let none = Rlimit { soft: Rlimit::INFINITY, hard: Rlimit::INFINITY };
        let no_room = Error::Limit { task: process, resource };
        let by = if rlimit::set(process, resource, none).is_ok() {
            By::Tracer
        } else if was.soft < was.hard {
            self.set_limit(resource, Rlimit { soft: was.hard, ..was })?;
            By::Task
        } else {
            return Err(no_room);
        };
        let mapped = self.map_scratch();
        match by {
            By::Tracer => drop(rlimit::set(process, resource, was)?),
            By::Task => self.set_limit(resource, was)?,
        }
        match mapped {
            Err(Error::Call { source: Errno::NOMEM | Errno::AGAIN, .. }) => Err(no_room),
            mapped => mapped,
        }
    }

    fn set_limit(&mut self, resource: Resource, limit: Rlimit) -> Result<(), Error> {
        let at = self.host.put_limit(limit)?.as_raw();
        let args = [0, resource as u64, at, 0, 0, 0];
        self.boot(&self.calling(libc::SYS_prlimit64, args)).map(drop)
    }
}
