//! The name of a thread.
//!
//! - Kernel object: `task_struct.comm`
//! - Truth from: `Name:` of `/proc/PID/task/TID/status`
//! - Image: `core-TID.img`, `thread_core.comm`; the leader's also in
//!   `tc.comm`

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// Up to 15 bytes without NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(OsString);

/// `TASK_COMM_LEN`, which counts the final NUL.
const COMM: usize = 16;

impl Property for Name {
    const NAME: &'static str = "name";
    type Asked = ();

    fn ask(_: &mut Batch) -> Self::Asked {}

    fn collect(task: &TaskProbe<'_>, _: &Replies, (): Self::Asked) -> Result<Self> {
        Ok(Self(task.status.name.clone()))
    }

    fn encode(&self, core: &mut CoreEntry) {
        let bytes = self.0.as_bytes().to_vec();
        if let Some(tc) = &mut core.tc {
            tc.comm.clone_from(&bytes);
        }
        core.thread_core.get_or_insert_default().comm = Some(bytes);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let of_thread = core.thread_core.as_ref().and_then(|thread| thread.comm.as_ref());
        let bytes = of_thread
            .or(core.tc.as_ref().map(|tc| &tc.comm))
            .ok_or_else(|| corrupt_core(Self::NAME, "missing"))?;
        if bytes.len() >= COMM || bytes.contains(&0) {
            return Err(corrupt_core(Self::NAME, "not a string of at most 15 bytes"));
        }
        Ok(Self(OsString::from_vec(bytes.clone())))
    }

    fn apply(&self, batch: &mut Batch) {
        let mut name = [0; COMM];
        name[..self.0.len()].copy_from_slice(self.0.as_bytes());
        let name = batch.data(&name);
        batch.call(libc::SYS_prctl, [libc::PR_SET_NAME.into(), name.into()]);
    }
}
