use std::time::Duration;

use super::*;
use crate::args::{Dump, Restore};

fn parse(line: &str) -> Result<Invocation, UsageError> {
    let places = Places { global: "/no/such".into(), user: None, environment: None };
    Invocation::parse(Persona::Criu, line.split_whitespace().map(OsString::from).collect(), &places)
}

fn work(line: &str) -> Work {
    match parse(line) {
        Ok(Invocation::Work(work)) => *work,
        other => panic!("{line}: {other:?}"),
    }
}

fn dump(line: &str) -> Dump {
    match work(line).command {
        Command::Dump(dump) => dump,
        other => panic!("{line}: {other:?}"),
    }
}

fn restore(line: &str) -> Restore {
    match work(line).command {
        Command::Restore(restore) => restore,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    work(line).refusal.map(|r| r.to_string()).unwrap_or_default()
}

/// What zdtm.py calls, see its `criu_cli`.
#[test]
fn zdtm_s_calls_are_understood() {
    let d = dump(
        "dump --no-default-config --log-file dump.log --images-dir dump/zdtm/static/X/66/1 \
         --verbosity=4 --tree 66 --pidfile /tp/X.pid --timeout 10 --leave-stopped \
         --pre-dump-mode splice --leave-running",
    );
    assert_eq!(d.root().as_raw(), 66);
    assert_eq!(d.images(), Path::new("dump/zdtm/static/X/66/1"));
    assert_eq!(d.output.verbosity, 4);
    assert_eq!(d.timeout, Duration::from_secs(10));
    assert!(d.leave_running && !d.leave_stopped, "the last one counts");
    let r = restore(
        "restore --no-default-config --log-file restore.log --images-dir i --verbosity=4 \
         --mntns-compat-mode --restore-sibling --ghost-limit 1G --file-locks --link-remap \
         --pidfile /tp/X.pid --leave-stopped --restore-detached",
    );
    assert!(r.restore_sibling && r.restore_detached && r.leave_stopped);
    let check = work("check --no-default-config -verbosity=0 --feature userns");
    assert!(matches!(check.command, Command::Check(c)
        if c.output.verbosity == 0 && c.feature.as_deref() == Some("userns")));
}

#[test]
fn operands_name_what_options_name() {
    let d = dump("dump 66 images");
    assert_eq!((d.root().as_raw(), d.images().to_str()), (66, Some("images")));
    let d = dump("-D images dump 66 -R");
    assert_eq!((d.root().as_raw(), d.images().to_str()), (66, Some("images")));
    assert!(d.leave_running);
    assert_eq!(dump("dump -t 66").images(), Path::new("."));
    assert_eq!(restore("restore images -d").images(), Path::new("images"));
    for line in ["dump", "dump -t 66 67", "dump 66 images -D other", "restore a b", "dump x y"] {
        assert!(matches!(parse(line), Err(UsageError::Clap(_))), "{line}");
    }
}

#[test]
fn repeated_options_count_once_the_last_one() {
    let d = dump("dump -t 5 -t 6 -R -R -j -j --ghost-limit 1K --ghost-limit=2K");
    assert_eq!((d.root().as_raw(), d.ghost_limit), (6, 2048));
    let d = dump("dump -t 5 -R -s");
    assert!(d.leave_stopped && !d.leave_running);
}

#[test]
fn negation_takes_back() {
    assert!(!restore("restore -d --no-restore-detached").restore_detached);
    assert!(restore("restore --no-daemon -d").restore_detached);
    assert!(!restore("restore --daemon --no-daemon").restore_detached);
    assert_eq!(refused("dump -t 5 --stream --no-stream"), "");
    assert_ne!(refused("dump -t 5 --no-stream --stream"), "");
    assert_eq!(refused("dump -t 5 --no-track-mem --no-mntns-compat-mode"), "");
}

#[test]
fn siblings_are_detached() {
    assert!(matches!(parse("restore -S"), Err(UsageError::Clap(_))));
    assert!(matches!(parse("restore -S --daemon"), Ok(Invocation::Work(_))));
}

#[test]
fn exec_cmd_takes_what_follows() {
    let r = restore("restore -D i --exec-cmd -- sleep -5");
    assert_eq!(r.exec, ["sleep", "-5"]);
    for line in ["restore --exec-cmd", "restore -d --exec-cmd -- x", "restore -D i -- x y"] {
        assert!(matches!(parse(line), Err(UsageError::Clap(_))), "{line}");
    }
}

/// The promise of the whole table, option by option.
#[test]
fn every_option_is_carried_out_accepted_or_refused_by_name() {
    for option in table::OPTIONS {
        let value = match (option.choices.first(), option.value) {
            (_, table::Value::None) => "",
            (Some(choice), _) => &format!("={choice}"),
            _ if option.name == "external" => "=file[1:2f]",
            _ if option.name == "inherit-fd" => "=fd[1]:pipe:[2]",
            (None, table::Value::Required) => "=1",
            (None, table::Value::Optional) => "",
        };
        if ["help", "version", "config"].contains(&option.name) {
            continue;
        }
        let command = match option.name {
            "feature" | "all" | "extra" | "experimental" => "check",
            "restore-detached" | "daemon" | "display-stats" | "pidfile" | "inherit-fd" => "restore",
            "restore-sibling" => "restore -d",
            "exec-cmd" => "restore x",
            _ => "dump -t 5",
        };
        let line = format!("{command} --{}{value}", option.name);
        let work = work(&line);
        let refusal = work.refusal.map(|r| r.to_string());
        match option.standing {
            Standing::Implemented => {
                assert_eq!((refusal, work.without_effect), (None, vec![]), "{line}");
            }
            Standing::Concerns(state) => {
                let effect = vec![WithoutEffect::Concerns(option.name, state)];
                assert_eq!((refusal, work.without_effect), (None, effect), "{line}");
            }
            Standing::Method(way) => {
                let effect = vec![WithoutEffect::Method(option.name, way)];
                assert_eq!((refusal, work.without_effect), (None, effect), "{line}");
            }
            Standing::Only(..) | Standing::Refused(_) => {
                let refusal = refusal.unwrap_or_default();
                let start = format!("option --{}", option.name);
                assert!(refusal.starts_with(&start), "{line}: {refusal}");
                assert!(refusal.contains("is not supported yet: "), "{line}: {refusal}");
            }
        }
    }
}

/// A row that says so is a lie if no command has the option.
#[test]
fn what_is_implemented_is_there() {
    let program = program(Persona::Dormouse);
    for option in table::OPTIONS.iter().filter(|o| o.standing == Standing::Implemented) {
        // clap's own, and another name for --restore-detached.
        if ["help", "version", "daemon"].contains(&option.name) {
            continue;
        }
        let mut of_commands = program.get_subcommands().flat_map(clap::Command::get_arguments);
        let argument = of_commands.find(|a| a.get_long() == Some(option.name));
        let argument = argument.unwrap_or_else(|| panic!("no command has --{}", option.name));
        assert_eq!(argument.get_short(), option.short, "--{}", option.name);
        let takes_value = option.value != table::Value::None;
        assert_eq!(argument.get_action().takes_values(), takes_value, "--{}", option.name);
    }
}

#[test]
fn values_ask_for_something_or_not() {
    assert_eq!(refused("restore --manage-cgroups=ignore"), "");
    assert!(refused("restore --manage-cgroups").starts_with("option --manage-cgroups is"));
    assert!(refused("dump -t 5 --manage-cgroups=full").starts_with("option --manage-cgroups=full"));
    for line in
        ["restore --manage-cgroups=x", "dump -t 5 --network-lock x", "dump -t 5 --pre-dump-mode x"]
    {
        assert!(matches!(parse(line), Err(UsageError::Choice { .. })), "{line}");
    }
}

#[test]
fn options_of_other_commands_are_without_effect() {
    let work = work("restore -R --timeout 5 -t 5 --ghost-limit 1M --feature x");
    let expected = ["leave-running", "timeout", "tree", "ghost-limit", "feature"]
        .map(WithoutEffect::NotForThisCommand);
    assert_eq!(work.without_effect, expected);
    // Not so what CRIU does not have.
    assert!(matches!(parse("dump -t 5 --json"), Err(UsageError::Clap(_))));
}

#[test]
fn refused_commands_have_a_log() {
    for command in table::COMMANDS {
        let work = work(&format!("{} -D i -o log -v4 dump --tls", command.name));
        assert_eq!(
            work.refusal,
            Some(Refusal::Command { name: command.name, reason: command.reason })
        );
        let Command::Refused(refused) = work.command else { panic!("{}", command.name) };
        assert_eq!(refused.output.log_file.as_deref(), Some(Path::new("log")));
    }
}

#[test]
fn help_and_version_come_first() {
    assert!(matches!(parse("dump --bogus-free -h"), Err(UsageError::Words(_))));
    assert!(matches!(parse("dump -h"), Ok(Invocation::Help(_))));
    assert!(matches!(parse("help dump"), Ok(Invocation::Help(_))));
    assert!(matches!(parse("--help"), Ok(Invocation::Help(_))));
    assert!(matches!(parse("help exit-codes"), Ok(Invocation::Topic(Topic::ExitCodes))));
    assert!(matches!(parse("help options"), Ok(Invocation::Topic(Topic::Options))));
    assert!(matches!(parse("-V check"), Ok(Invocation::Version)));
    assert!(matches!(parse("help bogus"), Err(UsageError::UnknownCommand(_))));
    assert!(matches!(parse(""), Err(UsageError::NoCommand)));
    assert!(matches!(parse("bogus"), Err(UsageError::UnknownCommand(_))));
}

#[test]
fn the_command_line_overrides_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let places = Places {
        global: file("global", "verbosity 4\ntree 1\nshell-job\ntrack-mem\n"),
        user: None,
        environment: None,
    };
    let parse = |line: &str| {
        let words = line.split_whitespace().map(OsString::from).collect();
        match Invocation::parse(Persona::Dormouse, words, &places) {
            Ok(Invocation::Work(work)) => work,
            other => panic!("{line}: {other:?}"),
        }
    };
    let Work { command: Command::Dump(d), refusal, .. } = *parse("dump -t 2 --no-track-mem") else {
        panic!("no dump")
    };
    assert_eq!((d.root().as_raw(), d.output.verbosity, d.shell_job), (2, 4, true));
    assert_eq!(refusal, None);
    let Work { command: Command::Dump(d), .. } = *parse("dump -t 2 --no-default-config") else {
        panic!("no dump")
    };
    assert_eq!((d.output.verbosity, d.shell_job), (2, false));
    let named = file("named", "ghost-limit 7\n");
    let line = format!("dump -t 2 --config {}", named.display());
    let Work { command: Command::Dump(d), .. } = *parse(&line) else { panic!("no dump") };
    assert_eq!((d.ghost_limit, d.shell_job), (7, false));
}
