//! No scenario file is forgotten: each module is in the registry, and the registry is in order.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dormouse_scenarios::registry;

/// Every `src/SUBJECT/NAME.rs` that states a scenario, as `SUBJECT::NAME`.
fn files() -> BTreeSet<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let list =
        |dir: &Path| fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let mut names = BTreeSet::new();
    for dir in list(&source).into_iter().filter(|p| p.is_dir()) {
        for file in list(&dir) {
            if fs::read_to_string(&file).unwrap().contains("Scenario::new(") {
                let subject = dir.file_name().unwrap().to_str().unwrap();
                let name = file.file_stem().unwrap().to_str().unwrap();
                names.insert(format!("{subject}::{name}"));
            }
        }
    }
    names
}

#[test]
fn every_scenario_file_is_registered() {
    let registered: BTreeSet<String> = registry::ALL.iter().map(|s| s.name().to_owned()).collect();
    assert_eq!(files(), registered);
}

#[test]
fn the_registry_is_sorted_and_without_doubles() {
    let names: Vec<&str> = registry::ALL.iter().map(|s| s.name()).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:#?}");
}

#[test]
fn every_scenario_says_what_it_is_about() {
    for name in files() {
        let path = format!("{}/src/{}.rs", env!("CARGO_MANIFEST_DIR"), name.replace("::", "/"));
        let text = fs::read_to_string(&path).unwrap();
        let header: Vec<&str> = text.lines().take_while(|l| l.starts_with("//!")).collect();
        for section in ["//! Verified", "//! CRIU: "] {
            assert!(
                header.iter().any(|l| l.starts_with(section)),
                "{path} has no {section:?} in its header"
            );
        }
    }
}

#[test]
fn every_scenario_that_can_be_dumped_is_in_the_table_of_the_square() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/interop.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows: BTreeSet<&str> = rows.map(|row| row.0).filter(|name| *name != "scenario").collect();
    let dumped = registry::ALL.iter().filter(|s| s.can_be_dumped()).map(|s| s.name());
    assert_eq!(rows, dumped.collect(), "run `cargo run -p xtask -- interop --criu PATH NAME`");
}
