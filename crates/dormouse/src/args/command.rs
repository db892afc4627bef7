//! The commands and what each of them takes. Help, completions and the man
//! page all come from these definitions.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use dormouse_engine::{CpuChecks, TcpConnections};
use dormouse_kernel::{FdNum, HostPid};

use super::values;

/// Checkpoint running programs to image files and restore them
#[derive(Debug, Parser)]
#[command(
    name = "dormouse",
    disable_version_flag = true,
    args_override_self = true,
    max_term_width = 100,
    after_help = "Options may stand before and after the command. Options of CRIU's that are not \
                  listed are known too: see `dormouse help options`. For the exit status, see \
                  `dormouse help exit-codes`."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print the version
    #[arg(short = 'V', long)]
    version: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Save a process and all its descendants to image files
    Dump(Dump),
    /// Bring saved processes back
    Restore(Restore),
    /// Tell what this kernel and these privileges can do
    Check(Check),
    /// Describe the images of a dump
    Show(Show),
    /// Write down what processor this is, or tell whether a program from that one can run here
    Cpuinfo(Cpuinfo),
    /// Freeze a program and bring it back, to see it work
    ///
    /// Starts a program of its own with several processes and threads, dumps it, shows that it is
    /// gone, restores it, shows that its work went on, and removes everything again.
    Demo(Demo),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff
    Man,
    /// The program that `demo` freezes.
    #[command(name = crate::demo::PROGRAM, hide = true)]
    DemoProgram {
        /// Which process of it
        role: crate::demo::Role,
    },
    /// A command of CRIU's that is refused, with the options all commands have.
    #[command(name = REFUSED, hide = true)]
    Refused(Refused),
}

/// Stands for the commands of CRIU's that are refused; no user calls it so.
pub(super) const REFUSED: &str = "(refused)";

/// Where the images are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct Directories {
    /// The directory of the image files [default: the current one]
    #[arg(short = 'D', long, value_name = "DIR")]
    images_dir: Option<PathBuf>,
    /// The directory for the log, the pidfile and statistics, and what their names are relative
    /// to [default: the image directory]
    #[arg(short = 'W', long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
}

impl Directories {
    /// The image directory, `operand` being the one named without an option.
    pub(crate) fn images(&self, operand: Option<&PathBuf>) -> PathBuf {
        operand.or(self.images_dir.as_ref()).cloned().unwrap_or_else(|| PathBuf::from("."))
    }
}

/// What is told, and where.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Write the log to this file; "-" is the standard output [default: standard error]
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// How much is logged: 0 nothing, 1 errors, 2 warnings, 3 phases, with timestamps, 4 tasks
    /// and files, 5 system calls of tasks; -v raises it by one, -v4 and --verbosity=4 set it
    #[arg(short, long, value_name = "LEVEL", default_value_t = 2)]
    pub(crate) verbosity: u8,
}

/// Options from files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct Configuration {
    /// Take options from this file too, and not from the default ones
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do not take options from /etc/criu/default.conf and ~/.criu/default.conf
    #[arg(long)]
    no_default_config: bool,
}

/// `--unix-peer`
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum UnixPeer {
    /// Closed.
    Close,
    /// Connected again.
    Reconnect,
}

/// `dump`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("root").required(true).args(["tree", "pid"]))]
pub(crate) struct Dump {
    /// The root of the process tree, if not given by --tree
    #[arg(value_name = "PID", value_parser = values::pid)]
    pid: Option<HostPid>,
    /// The directory of the image files, if not given by --images-dir
    #[arg(value_name = "DIR", conflicts_with = "images_dir")]
    dir: Option<PathBuf>,
    /// The root of the process tree
    #[arg(short, long, value_name = "PID", value_parser = values::pid)]
    tree: Option<HostPid>,
    /// Let the program run on afterwards, instead of killing it
    #[arg(short = 'R', long)]
    pub(crate) leave_running: bool,
    /// Leave the program stopped afterwards, instead of killing it
    #[arg(short = 's', long, overrides_with = "leave_running")]
    pub(crate) leave_stopped: bool,
    /// Accept a program whose session or terminal belongs to a shell that is not dumped
    #[arg(short = 'j', long)]
    pub(crate) shell_job: bool,
    /// How long stopping all tasks may take; 0 is without limit
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = values::timeout)]
    pub(crate) timeout: Duration,
    /// The largest unlinked file whose contents are saved; K, M and G are units
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = values::size)]
    pub(crate) ghost_limit: u64,
    /// Save an unlinked file that has another name, which is not known, by giving it a hard link
    /// until the restore
    #[arg(long)]
    pub(crate) link_remap: bool,
    /// How a restore is to tell that files are what they were; sizes and modes are compared anyway
    #[arg(long, value_name = "MODE", default_value = "filesize")]
    pub(crate) file_validation: FileValidation,
    /// Do not save this file, which --inherit-fd will hand over: file[MOUNT:INODE] or
    /// tty[RDEV:DEV], in hexadecimal
    #[arg(long, value_name = "FILE", value_parser = values::external)]
    pub(crate) external: Vec<String>,
    /// Connect a unix datagram socket again if its peer is not dumped, instead of refusing it; the
    /// number of an inode is ignored
    #[arg(short = 'x', long, value_name = "INODE", num_args = 0..=1, require_equals = true)]
    pub(crate) ext_unix_sk: Option<Option<String>>,
    /// What becomes of a unix socket whose peer is not dumped: it is connected to the same address
    /// again, or comes back as if the peer had closed
    #[arg(long, value_name = "POLICY")]
    pub(crate) unix_peer: Option<UnixPeer>,
    #[command(flatten)]
    pub(crate) tcp: Tcp,
    /// How packets of TCP connections are held up until the restore; what stands for iptables
    /// here is nftables as well
    #[arg(long, value_name = "METHOD", default_value = "nftables")]
    pub(crate) network_lock: NetworkLockMethod,
    /// Drop TCP connections that wait to be accepted, instead of refusing them
    #[arg(long)]
    pub(crate) skip_in_flight: bool,
    /// Tell in the images what processor this is; what is to be checked of it is the restore's affair
    #[arg(long, value_name = "CHECKS", num_args = 0..=1, require_equals = true,
        value_parser = values::cpu_cap)]
    cpu_cap: Option<Option<CpuChecks>>,
    /// Save locks of files and leases
    #[arg(short = 'l', long)]
    pub(crate) file_locks: bool,
    #[command(flatten)]
    pub(crate) directories: Directories,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Print figures about the dump when it is done
    #[arg(long)]
    pub(crate) display_stats: bool,
    #[command(flatten)]
    configuration: Configuration,
}

/// What becomes of TCP connections.
#[derive(Debug, Args)]
pub(crate) struct Tcp {
    /// Save and restore open TCP connections, instead of refusing them
    #[arg(long)]
    tcp_established: bool,
    /// Have open TCP connections come back closed, instead of refusing them
    #[arg(long)]
    tcp_close: bool,
}

impl Tcp {
    /// As the engine has it.
    pub(crate) fn policy(&self) -> TcpConnections {
        match (self.tcp_close, self.tcp_established) {
            (true, _) => TcpConnections::Close,
            (false, true) => TcpConnections::Keep,
            (false, false) => TcpConnections::Refuse,
        }
    }
}

/// A value of `--file-validation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileValidation {
    /// By their sizes and modes
    Filesize,
    /// Programs and libraries by their build IDs as well
    Buildid,
}

/// A value of `--network-lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum NetworkLockMethod {
    /// A table of nftables
    Nftables,
    /// The same
    Iptables,
    /// Not at all
    Skip,
    /// Not at all
    None,
}

impl Dump {
    /// Whether images are to tell of the processor.
    pub(crate) fn tells_of_cpu(&self) -> bool {
        self.cpu_cap.is_some_and(|checks| checks != Some(CpuChecks::NONE))
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> HostPid {
        self.tree.or(self.pid).expect("one of the two is required")
    }

    /// The image directory.
    pub(crate) fn images(&self) -> PathBuf {
        self.directories.images(self.dir.as_ref())
    }
}

/// `restore`
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The directory of the image files, if not given by --images-dir
    #[arg(value_name = "DIR", conflicts_with = "images_dir")]
    dir: Option<PathBuf>,
    /// Return as soon as the program runs, instead of waiting for its end
    #[arg(short = 'd', long)]
    pub(crate) restore_detached: bool,
    /// Make the root a child of this command's parent; only with --restore-detached
    #[arg(short = 'S', long, requires = "restore_detached")]
    pub(crate) restore_sibling: bool,
    /// Leave the program stopped when it is restored
    #[arg(short = 's', long)]
    pub(crate) leave_stopped: bool,
    /// Restore a program that was dumped with --shell-job
    #[arg(short = 'j', long)]
    pub(crate) shell_job: bool,
    /// How files are compared with what they were at the dump
    #[arg(long, value_name = "MODE", default_value = "buildid")]
    pub(crate) file_validation: FileValidation,
    /// Use a descriptor of this command's in the place of a file: KEY is its path without the
    /// first slash, pipe:[INODE], or what it was called by --external
    #[arg(long, value_name = "fd[N]:KEY", value_parser = values::inherit)]
    pub(crate) inherit_fd: Vec<(FdNum, String)>,
    #[command(flatten)]
    pub(crate) tcp: Tcp,
    /// Accepted for CRIU's sake: locks and leases that were saved always come back
    #[arg(short = 'l', long)]
    #[allow(dead_code)]
    file_locks: bool,
    /// Write the pid of the root to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// When the program is restored, become the command that follows "--"; it is the parent of
    /// the root
    #[arg(long, conflicts_with_all = ["restore_detached", "dry_run"], requires = "exec")]
    exec_cmd: bool,
    /// What of the processor has to be as the images tell: fpu, ins (instructions), cpu (all
    /// features), all, none, with ^ to leave one out [default: fpu,ins, if they tell]
    #[arg(long, value_name = "CHECKS", num_args = 0..=1, require_equals = true,
        value_parser = values::cpu_cap)]
    cpu_cap: Option<Option<CpuChecks>>,
    /// Check the images, print what would be created, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The command of --exec-cmd, where it is told of
    #[arg(value_name = "COMMAND", last = true, requires = "exec_cmd", hide = true)]
    pub(crate) exec: Vec<OsString>,
    #[command(flatten)]
    pub(crate) directories: Directories,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Print figures about the restore when it is done
    #[arg(long)]
    pub(crate) display_stats: bool,
    #[command(flatten)]
    configuration: Configuration,
}

impl Restore {
    /// What is to be checked of the processor.
    pub(crate) fn cpu_checks(&self) -> Option<CpuChecks> {
        self.cpu_cap.map(|checks| checks.unwrap_or(CpuChecks::ALL))
    }

    /// The image directory.
    pub(crate) fn images(&self) -> PathBuf {
        self.directories.images(self.dir.as_ref())
    }
}

/// `check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Ask for one feature only; the exit status is the answer
    #[arg(long, value_name = "NAME")]
    pub(crate) feature: Option<String>,
    /// Ask also for what only some programs need
    #[arg(long)]
    pub(crate) extra: bool,
    /// Ask also for what is experimental
    #[arg(long)]
    pub(crate) experimental: bool,
    /// The same as --extra --experimental
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) directories: Directories,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    configuration: Configuration,
}

/// `show`
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The directory of the image files, if not given by --images-dir
    #[arg(value_name = "DIR", conflicts_with = "images_dir")]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) directories: Directories,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    configuration: Configuration,
}

impl Show {
    /// The image directory.
    pub(crate) fn images(&self) -> PathBuf {
        self.directories.images(self.dir.as_ref())
    }
}

/// `cpuinfo`
#[derive(Debug, Args)]
pub(crate) struct Cpuinfo {
    /// What to do
    #[arg(value_name = "ACTION")]
    pub(crate) action: CpuinfoAction,
    /// What is checked: fpu, ins (instructions), cpu (all features), all, none, with ^ to leave one
    /// out [default: fpu,ins]
    #[arg(long, value_name = "CHECKS", num_args = 0..=1, require_equals = true,
        value_parser = values::cpu_cap)]
    cpu_cap: Option<Option<CpuChecks>>,
    #[command(flatten)]
    pub(crate) directories: Directories,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    configuration: Configuration,
}

/// What `cpuinfo` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CpuinfoAction {
    /// Write cpuinfo.img
    Dump,
    /// Compare it with this processor
    Check,
}

impl Cpuinfo {
    /// What is to be checked. As in CRIU, nothing is not a thing to check.
    pub(crate) fn checks(&self) -> CpuChecks {
        match self.cpu_cap {
            None => CpuChecks::default(),
            Some(None | Some(CpuChecks::NONE)) => CpuChecks::ALL,
            Some(Some(checks)) => checks,
        }
    }
}

/// Where a command that is refused has its log.
#[derive(Debug, Args)]
pub(crate) struct Refused {
    #[command(flatten)]
    pub(crate) directories: Directories,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep the images, and say where they are
    #[arg(long)]
    pub(crate) keep: bool,
}
