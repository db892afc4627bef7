//! What the README says is what is done.

use std::fs;
use std::path::Path;
use std::process::Command;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The code block below a heading of the README.
fn block_below(heading: &str) -> String {
    let readme = read("README.md");
    let (_, below) = readme.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}"));
    let (_, block) = below.split_once("```sh\n").unwrap_or_else(|| panic!("no code"));
    block.split_once("```").unwrap_or_else(|| panic!("the code does not end")).0.to_owned()
}

#[test]
fn continuous_integration_runs_the_tests_as_the_readme_does() {
    let command = block_below("## Tests");
    assert!(command.starts_with("cargo nextest run"), "{command}");
    assert!(read(".ci/run").ends_with(&format!("\n\n{command}")), "{command}");
}

#[test]
fn pages_that_are_linked_exist() {
    let readme = read("README.md");
    for link in readme.split("](").skip(1).filter_map(|l| l.split_once(')')) {
        if !link.0.starts_with("http") {
            read(link.0);
        }
    }
}

/// The README says that dumps are missing for exactly as long as they are.
#[test]
fn the_status_is_told() {
    let images = tempfile::tempdir().expect("a directory can be made");
    let output = Command::new(env!("CARGO_BIN_EXE_dormouse"))
        // No process has so high a pid: PID_MAX_LIMIT of linux/threads.h is 2^22.
        .args(["dump", "--no-default-config", "-t", "2147483647", "-D"])
        .arg(images.path())
        .output()
        .expect("the program can be started");
    let missing = String::from_utf8_lossy(&output.stderr).contains("not supported by this build");
    assert_eq!(read("README.md").contains("## Status"), missing);
}
