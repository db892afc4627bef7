//! `cpuinfo`

use std::path::Path;

use dormouse_engine::{check_cpu, dump_cpu};

use super::Done;
use crate::args::{Cpuinfo, CpuinfoAction};
use crate::failure::{Failure, Operation};

pub(super) fn run(cpuinfo: &Cpuinfo, images: &Path) -> Result<Done, Failure> {
    let (operation, done) = match cpuinfo.action {
        CpuinfoAction::Dump => (Operation::CpuDump, dump_cpu(images)),
        CpuinfoAction::Check => (Operation::CpuCheck, check_cpu(images, cpuinfo.checks())),
    };
    done.map(|()| Done::SUCCESS).map_err(|source| Failure::Engine { operation, source })
}
