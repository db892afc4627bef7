//! The program as it is called.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

fn call(name: &str, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dormouse"))
        .arg0(name)
        .args(words)
        .env_remove("CRIU_CONFIG_FILE")
        .env("HOME", "/nonexistent")
        .output()
        .expect("the program can be started")
}

fn dormouse(words: &[&str]) -> Output {
    call("dormouse", words)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("only text is printed")
}

fn line(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn help() {
    let mut all = String::new();
    for words in ["--help", "help dump", "restore --help", "help check", "help show", "help demo"] {
        let output = dormouse(&line(words));
        assert!(output.status.success(), "{words}");
        assert!(output.stderr.is_empty(), "{words}");
        all.push_str(&format!("$ dormouse {words}\n{}\n", text(&output.stdout)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn topics() {
    let output = dormouse(&["help", "exit-codes"]);
    insta::assert_snapshot!("exit-codes", text(&output.stdout));
    let output = dormouse(&["help", "options"]);
    insta::assert_snapshot!("options", text(&output.stdout));
}

#[test]
fn versions() {
    assert_eq!(text(&call("/usr/sbin/criu", &["--version"]).stdout), "Version: 4.2\n");
    let ours = format!("dormouse {} (as CRIU 4.2)\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&dormouse(&["-V"]).stdout), ours);
}

#[test]
fn usage_errors() {
    let mut all = String::new();
    for words in [
        "",
        "bogus",
        "dump",
        "dump -t x",
        "dump --tree",
        "dump -t 5 --bogus",
        "dump -t 5 --cgroup-p x",
        "dump -t 5 --stream=yes",
        "dump -t 5 --ghost-limit 1T",
        "dump -t 5 --network-lock x",
        "dump -t 5 --config /nonexistent",
        "restore -S",
        "restore a b",
    ] {
        let output = dormouse(&line(words));
        assert_eq!(output.status.code(), Some(64), "{words}");
        assert!(output.stdout.is_empty(), "{words}");
        assert_eq!(call("criu", &line(words)).status.code(), Some(1), "criu {words}");
        all.push_str(&format!("$ dormouse {words}\n{}\n", text(&output.stderr)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn refusals_are_told_in_the_log_too() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().to_str().unwrap();
    let words =
        ["dump", "-t", "5", "-D", images, "-o", "log", "-v3", "--track-mem", "--tcp-established"];
    let output = dormouse(&words);
    assert_eq!(output.status.code(), Some(69));
    let expected = "error: option --track-mem is not supported yet: every dump is a full one\n";
    assert!(text(&output.stderr).starts_with(expected), "{}", text(&output.stderr));
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("(00.0") && last.contains(") Error (dormouse"), "{log}");
    assert!(last.ends_with("option --track-mem is not supported yet: every dump is a full one"));

    assert_eq!(call("criu", &words).status.code(), Some(1));
    let output = call("criu", &["pre-dump", "-D", images, "-o", "log2"]);
    assert_eq!(output.status.code(), Some(1));
    let log = fs::read_to_string(dir.path().join("log2")).unwrap();
    assert!(log.starts_with("Error (dormouse"), "{log}");
    assert!(log.contains("command pre-dump is not supported yet: "), "{log}");
}

#[test]
fn the_log_file_is_in_the_work_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (images, work) = (dir.path().join("images"), dir.path().join("work"));
    fs::create_dir(&images).unwrap();
    fs::create_dir(&work).unwrap();
    let words = ["dump", "--tls", "-t", "5", "-D", "images", "-W", "work", "-o", "log"];
    let output = Command::new(env!("CARGO_BIN_EXE_dormouse"))
        .args(words)
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(work.join("log").exists());
    assert!(!images.join("log").exists());
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let missing = "/nonexistent/images";
    for (command, directory, hint) in [
        ("dump -t 5", missing, "make the directory first (mkdir)"),
        ("restore", missing, "give the directory that a dump was made to"),
        ("show", missing, "give the directory that a dump was made to"),
        ("dump -t 5", file, "give the images a directory of their own (mkdir)"),
        ("restore", file, "give the directory that the images are in"),
    ] {
        let mut words = line(command);
        words.extend(["-D", directory]);
        let output = dormouse(&words);
        assert_eq!(output.status.code(), Some(75), "{command}");
        let told = text(&output.stderr);
        let reason =
            if directory == missing { "No such file or directory" } else { "not a directory" };
        for words in [directory, reason, hint] {
            assert!(told.contains(words), "{told}");
        }
    }
}

#[test]
fn what_is_no_file_is_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().to_str().unwrap();
    let inventory = dir.path().join("inventory.img");
    rustix::fs::mkfifoat(rustix::fs::CWD, &inventory, rustix::fs::Mode::RUSR).unwrap();
    for command in ["restore", "restore --dry-run", "show"] {
        let mut words = line(command);
        words.extend(["-D", images]);
        let output = dormouse(&words);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(65), "{command}: {told}");
        assert!(told.contains("inventory.img is a fifo, no image"), "{told}");
    }
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = dormouse(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = text(&output.stdout);
        assert!(script.contains("leave-running"), "{shell}");
        assert!(!script.contains("(refused)"), "{shell}: a hidden command shows");
    }
}

/// Bash itself finds nothing to complain of.
#[test]
fn the_completion_script_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("completions");
    fs::write(&script, dormouse(&["completions", "bash"]).stdout).unwrap();
    let output = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_manual_page_tells_all() {
    let output = dormouse(&["man"]);
    assert!(output.status.success());
    let page = text(&output.stdout);
    for heading in ["NAME", "SYNOPSIS", "DUMP", "RESTORE", "FILES", "ENVIRONMENT"] {
        assert!(page.lines().any(|l| l == format!(".SH {heading}")), "{heading}");
    }
    for told in ["leave\\-running", "tcp\\-established", "75"] {
        assert!(page.contains(told), "{told}");
    }
    assert!(!page.contains("refused)"), "a hidden command shows");
}

/// A reader that goes away is no failure.
#[test]
fn a_closed_pipe_ends_quietly() {
    let program = Path::new(env!("CARGO_BIN_EXE_dormouse"));
    let script = format!("{} man | head -n 1; echo ${{PIPESTATUS[0]}}", program.display());
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("\n0\n"), "{}", text(&output.stdout));
}

#[test]
fn a_report_that_cannot_be_written_changes_no_exit_code() {
    for (words, code) in [("dump -t 1 -D /nonexistent", 75), ("dump --nonsense", 64)] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let status = Command::new(env!("CARGO_BIN_EXE_dormouse"))
            .args(line(words))
            .stderr(full)
            .status()
            .expect("the program can be started");
        assert_eq!(status.code(), Some(code), "{words}");
    }
}

#[test]
fn check_tells_what_there_is() {
    let output = dormouse(&["check"]);
    let table = text(&output.stdout);
    assert!(table.contains("clone3 set_tid"), "{table}");
    assert_eq!(output.status.success(), table.ends_with("\nLooks good.\n"), "{table}");

    let output = dormouse(&["check", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["good"].as_bool(), Some(output.status.success()));
    let features = all["features"].as_array().unwrap();
    assert!(features.iter().all(|f| f["state"] == "yes" || f["reason"].is_string()));
}

#[test]
fn check_answers_as_criu_does() {
    let criu = |words: &str| call("criu", &line(words));
    let output = criu("check --no-default-config -verbosity=0 --feature clone3_set_tid");
    assert_eq!(text(&output.stdout), "clone3_set_tid is supported\n");
    assert!(output.status.success() && output.stderr.is_empty());
    let output = criu("check --no-default-config -verbosity=0 --feature mem_dirty_track");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    let output = criu("check --feature bogus");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "Error (dormouse): unknown feature bogus\n");
    let output = criu("check");
    assert_eq!(text(&output.stdout), "Looks good.\n");
}

#[test]
fn show_draws_a_dump_of_criu_s() {
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/../image/tests/golden/sleeper");
    let output = dormouse(&["show", images]);
    assert!(output.status.success());
    let drawn = text(&output.stdout);
    assert!(drawn.starts_with("2 processes with 3 threads, "), "{drawn}");
    assert!(drawn.contains("\n└─ "), "{drawn}");
    let output = dormouse(&["show", "--json", "-D", images]);
    let dump: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(dump["processes"].as_array().map(Vec::len), Some(2));

    let empty = tempfile::tempdir().unwrap();
    let output = dormouse(&["show", empty.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65));
}
