//! Every option of CRIU's command line, and what becomes of it here.
//!
//! One row per option, as `criu/config.c` of CRIU 4.2 knows them. A row's
//! [`Standing`] is the promise this program makes: an option is either carried
//! out, or refused by name, or accepted because it *cannot* make a difference.
//!
//! The rule for the last case: an option may be accepted without being carried
//! out only if all it does in CRIU is to change how some state is treated
//! ([`Standing::Concerns`]), and the engine refuses that very state by an error
//! when it meets it; or if it chooses between ways to one and the same result
//! ([`Standing::Method`]). An option which asks for something to be done, left
//! out, or put elsewhere is never accepted on these grounds.

/// Whether an option takes a value, in the terms of `getopt_long(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Never.
    None,
    /// Always, in the same word after `=` or in the next.
    Required,
    /// Only in the same word: `--name=VALUE` or `-nVALUE`.
    Optional,
}

/// What becomes of an option here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does what it does in CRIU.
    Implemented,
    /// It matters only to this state, which the engine refuses when it meets
    /// it. So it is accepted: the refusal comes if there is a reason for one.
    Concerns(&'static str),
    /// It chooses between ways to the same result; the text says which way is
    /// always taken.
    Method(&'static str),
    /// These values ask for nothing, every other is refused for the reason.
    Only(&'static [&'static str], &'static str),
    /// It is refused, for this reason.
    Refused(&'static str),
}

/// One option of CRIU's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CriuOption {
    /// The long name, without dashes.
    pub(crate) name: &'static str,
    /// The letter, if it has one.
    pub(crate) short: Option<char>,
    /// Whether it takes a value.
    pub(crate) value: Value,
    /// Whether `--no-NAME` exists and takes it back.
    pub(crate) negatable: bool,
    /// The values CRIU knows; empty if any will do.
    pub(crate) choices: &'static [&'static str],
    /// What becomes of it here.
    pub(crate) standing: Standing,
}

/// A command of CRIU's that does not exist here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedCommand {
    /// Its name.
    pub(crate) name: &'static str,
    /// Why it is refused.
    pub(crate) reason: &'static str,
}

const fn row(name: &'static str, value: Value, standing: Standing) -> CriuOption {
    CriuOption { name, short: None, value, negatable: false, choices: &[], standing }
}

/// An option without a value.
const fn flag(name: &'static str, standing: Standing) -> CriuOption {
    row(name, Value::None, standing)
}

/// An option without a value that `--no-NAME` takes back.
const fn switch(name: &'static str, standing: Standing) -> CriuOption {
    CriuOption { negatable: true, ..row(name, Value::None, standing) }
}

/// An option that takes a value.
const fn value(name: &'static str, standing: Standing) -> CriuOption {
    row(name, Value::Required, standing)
}

/// An option that may take a value.
const fn maybe(name: &'static str, standing: Standing) -> CriuOption {
    row(name, Value::Optional, standing)
}

impl CriuOption {
    const fn letter(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn one_of(self, choices: &'static [&'static str]) -> Self {
        Self { choices, ..self }
    }
}

use Standing::{Concerns, Implemented, Method, Only, Refused};

const MOUNTS: Standing = Concerns("mount namespaces");
const WATCHES: Standing =
    Method("what is watched is found by its path, and then by its file handle");
const INCREMENTAL: Standing = Refused("every dump is a full one");
const PAGE_SERVER: Standing = Refused("there is no page server; images are written to a directory");
const TLS: Standing = Refused("nothing is sent over the network");
const CGROUPS: Standing = Refused("cgroups are not saved; tasks come back in the caller's");

/// All options of CRIU's, by name.
#[rustfmt::skip]
pub(crate) const OPTIONS: &[CriuOption] = &[
    value("action-script", Refused("no scripts are run")),
    value("address", PAGE_SERVER),
    flag("all", Implemented),
    switch("allow-uprobes", Concerns("uprobes mappings")),
    switch("auto-dedup", Refused("images are never changed after they are written")),
    value("cgroup-dump-controller", CGROUPS),
    value("cgroup-props", CGROUPS),
    value("cgroup-props-file", CGROUPS),
    value("cgroup-root", CGROUPS),
    value("cgroup-yard", CGROUPS),
    value("close", Refused("descriptors of the caller are left alone")),
    value("config", Implemented),
    maybe("cpu-cap", Implemented),
    switch("daemon", Implemented),
    switch("deprecated", Method("there are no deprecated features to allow")),
    switch("display-stats", Implemented),
    value("empty-ns", Refused("network namespaces are not restored")),
    flag("enable-external-masters", MOUNTS),
    flag("enable-external-sharing", MOUNTS),
    value("enable-fs", MOUNTS),
    switch("evasive-devices", Method("a device whose path is gone is made again")),
    flag("exec-cmd", Implemented),
    switch("experimental", Implemented),
    value("ext-mount-map", Refused("mounts are not restored")).letter('M'),
    maybe("ext-unix-sk", Implemented).letter('x'),
    value("external", Implemented),
    switch("extra", Implemented),
    value("feature", Implemented),
    switch("file-locks", Implemented).letter('l'),
    value("file-validation", Implemented).one_of(&["buildid", "filesize"]),
    switch("force-irmap", WATCHES),
    value("freeze-cgroup", Refused("tasks are stopped by ptrace, not by a cgroup freezer")),
    switch("ghost-fiemap", Method("holes are found with SEEK_DATA and SEEK_HOLE")),
    value("ghost-limit", Implemented),
    flag("help", Implemented).letter('h'),
    value("images-dir", Implemented).letter('D'),
    value("inherit-fd", Implemented),
    value("irmap-scan-path", WATCHES),
    value("join-ns", Refused("no namespaces are joined")).letter('J'),
    flag("lazy-pages", Refused("all memory is restored before the program runs")),
    flag("leave-running", Implemented).letter('R'),
    flag("leave-stopped", Implemented).letter('s'),
    value("libdir", Refused("there are no plugins")).letter('L'),
    switch("link-remap", Implemented),
    value("log-file", Implemented).letter('o'),
    switch("log-pid", Method("restored tasks write no log of their own")),
    value("lsm-mount-context", Refused("mounts are not restored")),
    value("lsm-profile", Refused("security profiles are not restored")),
    maybe("manage-cgroups", Only(&["ignore"], "cgroups are not saved; tasks come back in the caller's"))
        .one_of(&["none", "props", "soft", "full", "strict", "ignore"]),
    switch("mntns-compat-mode", MOUNTS),
    flag("ms", Refused("CRIU has taken it back; see --extra and --all")),
    value("network-lock", Implemented).one_of(&["iptables", "nftables", "skip", "none"]),
    flag("no-default-config", Implemented),
    switch("page-server", PAGE_SERVER),
    value("pidfile", Implemented),
    value("port", PAGE_SERVER),
    value("pre-dump-mode", Method("there is no pre-dump")).one_of(&["splice", "read"]),
    value("prev-images-dir", INCREMENTAL),
    value("ps-socket", PAGE_SERVER),
    switch("restore-detached", Implemented).letter('d'),
    switch("restore-sibling", Implemented).letter('S'),
    value("root", Refused("the root directory cannot be changed")).letter('r'),
    switch("shell-job", Implemented).letter('j'),
    switch("skip-file-rwx-check", Concerns("files whose permissions have changed")),
    switch("skip-in-flight", Implemented),
    value("skip-mnt", MOUNTS),
    value("status-fd", Refused("there is no server that could tell that it is ready")),
    switch("stream", Refused("images are written to a directory")),
    switch("tcp-close", Implemented),
    switch("tcp-established", Implemented),
    value("timeout", Implemented),
    switch("tls", TLS),
    value("tls-cacert", TLS),
    value("tls-cacrl", TLS),
    value("tls-cert", TLS),
    value("tls-key", TLS),
    flag("tls-no-cn-verify", TLS),
    switch("track-mem", INCREMENTAL),
    value("tree", Implemented).letter('t'),
    switch("unprivileged", Method("what the caller may do is found out by doing it")),
    maybe("verbosity", Implemented).letter('v'),
    flag("version", Implemented).letter('V'),
    value("veth-pair", Refused("network namespaces are not restored")),
    switch("weak-sysctls", Concerns("network, IPC and UTS namespaces")),
    value("work-dir", Implemented).letter('W'),
];

/// The commands of CRIU's that do not exist here.
pub(crate) const COMMANDS: &[RefusedCommand] = &[
    RefusedCommand { name: "dedup", reason: "every dump is a full one" },
    RefusedCommand { name: "exec", reason: "CRIU has taken it back" },
    RefusedCommand { name: "lazy-pages", reason: "all memory is restored before the program runs" },
    RefusedCommand { name: "page-server", reason: "images are written to a directory" },
    RefusedCommand { name: "pre-dump", reason: "every dump is a full one" },
    RefusedCommand { name: "service", reason: "CRIU's RPC is not spoken" },
    RefusedCommand { name: "swrk", reason: "CRIU's RPC is not spoken" },
];

/// The row of an option.
pub(crate) fn option(name: &str) -> Option<&'static CriuOption> {
    OPTIONS.iter().find(|o| o.name == name)
}

/// The row of a command.
pub(crate) fn refused_command(name: &str) -> Option<&'static RefusedCommand> {
    COMMANDS.iter().find(|c| c.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_criu_s_has_a_row_and_every_row_is_one() {
        let ours: Vec<String> = OPTIONS
            .iter()
            .map(|o| {
                let value = match o.value {
                    Value::None => "none",
                    Value::Required => "required",
                    Value::Optional => "optional",
                };
                let no = if o.negatable { "yes" } else { "no" };
                format!("{} {value} {no} {}", o.name, o.short.unwrap_or('-'))
            })
            .collect();
        let criu: Vec<&str> = include_str!("../../tests/fixtures/criu-4.2-options.txt")
            .lines()
            .filter(|l| !l.starts_with('#'))
            .collect();
        assert_eq!(ours, criu);
    }

    #[test]
    fn only_values_are_among_the_choices() {
        for option in OPTIONS {
            if let Only(values, _) = option.standing {
                assert!(values.iter().all(|v| option.choices.contains(v)), "{}", option.name);
            }
        }
    }
}
