//! The user who logged in to run a thread, for the audit trail.
//!
//! - Kernel object: `task_struct.loginuid`
//! - Truth from: `/proc/PID/task/TID/loginuid`
//! - Image: `core-PID.img`, `tc.loginuid`; of other threads than the first
//!   `thread_core.login_uid`, an extension
//! - Create: the thread itself writes it to `/proc/PID/task/TID/loginuid`,
//!   which nobody else may, unless it has inherited the right one
//! - Privileges needed: `CAP_AUDIT_CONTROL` to change one that is set
//! - Not preserved: the number of the audit session, which is new
//! - Kernel needed: `CONFIG_AUDIT`
//! - Scenarios: `creds::login_uid`

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::Errno;
use dormouse_kernel::proc::{self, ProcDir};
use dormouse_puppet::{Arg, Batch, Replies};

use super::{Property, TaskProbe};
use crate::Result;

/// All ones if it was never set; `None` if nothing is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginUid(Option<u32>);

impl LoginUid {
    /// Reads that of a task.
    pub fn read(task: &ProcDir) -> Result<Self> {
        Self::known(task.login_uid())
    }

    fn known(read: Result<Option<u32>, proc::Error>) -> Result<Self> {
        match read {
            Ok(uid) => Ok(Self(Some(uid.unwrap_or(u32::MAX)))),
            Err(proc::Error::Io { source: Errno::NOENT, .. }) => Ok(Self(None)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a task that has `inherited` one is to get this.
    #[must_use]
    pub fn differs(self, inherited: Self) -> bool {
        self.0.is_some() && self != inherited
    }

    /// What a thread has that has none of its own in its image.
    #[must_use]
    pub fn or(self, leader: Self) -> Self {
        Self(self.0.or(leader.0))
    }

    /// Adds the calls by which a task writes it, to `file` of its own.
    pub fn write(self, batch: &mut Batch, file: Arg) {
        let text = self.0.unwrap_or(u32::MAX).to_string();
        let data = batch.data(text.as_bytes());
        batch.call(libc::SYS_write, [file, data.into(), (text.len() as u64).into()]);
    }
}

impl Property for LoginUid {
    const NAME: &'static str = "login uid";
    type Asked = ();

    fn ask(_: &mut Batch) -> Self::Asked {}

    fn collect(task: &TaskProbe<'_>, _: &Replies, (): Self::Asked) -> Result<Self> {
        Self::known(task.proc.login_uid_of(task.tid))
    }

    fn encode(&self, core: &mut CoreEntry) {
        match &mut core.tc {
            Some(tc) => tc.loginuid = self.0,
            None => core.thread_core.get_or_insert_default().login_uid = self.0,
        }
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        Ok(Self(match &core.tc {
            Some(tc) => tc.loginuid,
            None => core.thread_core.as_ref().and_then(|thread| thread.login_uid),
        }))
    }

    /// It is written before, while the task still reaches dormouse.
    fn apply(&self, _: &mut Batch) {}
}
