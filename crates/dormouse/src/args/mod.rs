//! The command line: from words to a command that can be carried out.

mod command;
mod config;
mod getopt;
mod invocation;
pub(crate) mod table;
mod values;

use command::Cli;
pub(crate) use command::{
    Check, Command, Cpuinfo, CpuinfoAction, Demo, Directories, Dump, FileValidation,
    NetworkLockMethod, Output, Restore, Show, UnixPeer,
};
use config::ConfigError;
pub(crate) use config::Places;
pub(crate) use getopt::GetoptError;
pub(crate) use invocation::{
    Invocation, Refusal, Topic, UsageError, WithoutEffect, Work, visible_program,
};
