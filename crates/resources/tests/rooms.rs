//! What holds between rooms, and in each, by their own text: rooms do not know each other, what one
//! saves is named field by field, nothing has a default, and what is refused is listed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dormouse_resources::memory::Obstacle;
use dormouse_resources::task::Refusal;

/// The sources of each room below `src`, by its name, as a registry there has it.
fn rooms(subject: &str, registry: &str) -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let subject = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(subject);
    let text = fs::read_to_string(subject.join(registry)).expect("a registry");
    let names = text.split("super::").skip(1).filter_map(|rest| {
        let (name, kind) = rest.split_once("::")?;
        let is_room = kind.starts_with(char::is_uppercase);
        (is_room && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')).then_some(name)
    });
    let sources = |name: &str| {
        let mut sources = Vec::new();
        read(&subject.join(format!("{name}.rs")), &mut sources);
        read(&subject.join(name), &mut sources);
        (name.to_owned(), sources)
    };
    names.filter(|&name| name != "refusal").map(sources).collect()
}

/// The sources at a path or below it, if there is any.
fn read(path: &Path, sources: &mut Vec<(PathBuf, String)>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            read(&entry.expect("an entry").path(), sources);
        }
    } else if let Ok(text) = fs::read_to_string(path) {
        sources.push((path.to_owned(), text));
    }
}

/// The paths by which a source names others of its subject: what follows `crate::SUBJECT::`, and what
/// follows `super::` in a room of one file.
fn named<'a>(text: &'a str, subject: &str, is_whole_room: bool) -> Vec<&'a str> {
    let full = format!("crate::{subject}::");
    let above = if is_whole_room { "super::" } else { "super::super::" };
    let mut found = Vec::new();
    for prefix in [full.as_str(), above] {
        for rest in text.split(prefix).skip(1) {
            // Either one, or a list in braces.
            match rest.strip_prefix('{') {
                Some(list) => {
                    let (list, _) = list.split_once('}').expect("what is opened is closed");
                    found.extend(list.split(',').map(str::trim));
                }
                None => found.push(rest),
            }
        }
    }
    found
}

#[test]
fn rooms_do_not_know_each_other() {
    for (subject, registry) in [("file", "registry.rs"), ("task", "property.rs")] {
        let rooms = rooms(subject, registry);
        assert!(rooms.len() > 15, "{rooms:?}");
        for (room, sources) in &rooms {
            assert!(!sources.is_empty(), "{room} is nowhere");
            for (path, text) in sources {
                let is_whole = path.file_stem().unwrap() == room.as_str();
                for other in named(text, subject, is_whole) {
                    let other = other.split("::").next().unwrap();
                    assert!(other == room || !rooms.contains_key(other), "{path:?} knows {other}");
                }
            }
        }
    }
}

/// The body of each method `encode` of a trait that is implemented in a source.
fn encoders(text: &str) -> Vec<&str> {
    let implementations = text.split("\nimpl ").skip(1).filter_map(|rest| {
        let (head, _) = rest.split_once('{')?;
        let (name, _) = head.split_once(" for ")?;
        let whole = rest.split("\n}").next()?;
        (name == "FileKind" || name.ends_with("Property")).then_some(whole)
    });
    let methods = implementations.filter_map(|whole| {
        let (_, rest) = whole.split_once("    fn encode(&self")?;
        rest.split("\n    }").next()
    });
    methods.collect()
}

#[test]
fn what_is_saved_is_named_field_by_field() {
    let mut seen = 0;
    for (subject, registry) in [("file", "registry.rs"), ("task", "property.rs")] {
        for (path, text) in rooms(subject, registry).into_values().flatten() {
            for body in encoders(&text) {
                seen += 1;
                for pattern in body.split("let Self {").skip(1) {
                    let pattern = pattern.split("} =").next().unwrap();
                    assert!(!pattern.contains(".."), "{path:?} leaves out fields: {pattern}");
                }
                for rest in body.split("self.").skip(1) {
                    let field =
                        rest.split(|c: char| c != '_' && !c.is_alphanumeric()).next().unwrap();
                    let is_call = rest[field.len()..].starts_with('(');
                    assert!(field == "0" || is_call, "{path:?} takes {field} by itself");
                }
            }
        }
    }
    assert!(seen > 40, "only {seen}");
}

/// A source below `src`, without its comments.
fn source(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path);
    let text = fs::read_to_string(path).expect("a source");
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn no_verb_has_a_default() {
    for (path, name, verbs) in
        [("file/kind.rs", "FileKind", 8), ("task/property.rs", "Property", 5)]
    {
        let text = source(path);
        let (_, rest) = text.split_once(&format!("pub trait {name}:")).expect("the trait");
        let (_, items) = rest.split_once('{').expect("what it asks for");
        let (items, _) = items.split_once("\n}").expect("its end");
        assert!(items.matches("fn ").count() >= verbs, "{items}");
        assert!(!items.contains('{') && !items.contains(" = "), "{name} has a default: {items}");
    }
}

/// A tag that the images have, and no room or refusal is for, does not compile.
#[test]
fn the_registry_has_no_wildcard() {
    let text = source("file/registry.rs");
    let (_, rest) = text.split_once("macro_rules! registry").expect("the macro");
    let (all_kinds, rest) = rest.split_once("\nregistry! {").expect("its use");
    let (lists, _) = rest.split_once("\n}").expect("its end");
    assert!(all_kinds.contains("match tag {") && lists.contains("refused {"));
    for arms in [all_kinds, lists] {
        assert!(!arms.contains("_ =>") && !arms.contains("_ if"), "{arms}");
    }
}

/// Whoever refuses state of a task or of a tree takes the words from the list, so the list is whole;
/// and nothing is in it that nobody refuses.
#[test]
fn what_is_refused_is_listed() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = |dirs: &[PathBuf]| {
        let mut sources = Vec::new();
        dirs.iter().for_each(|dir| read(dir, &mut sources));
        let lists_and_tests = ["refusal.rs", "obstacle.rs", "tests.rs"];
        sources.retain(|(path, _)| !lists_and_tests.iter().any(|name| path.ends_with(name)));
        for (_, text) in &mut sources {
            text.truncate(text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len()));
        }
        sources
    };
    let engine = src.join("../../engine/src");
    let tasks = sources(&[src.join("task"), engine.clone()]);
    for (path, text) in &tasks {
        for rest in text.split("Unsupported {").skip(1) {
            let fields = rest.split('}').next().unwrap();
            assert!(!fields.contains("reason"), "{path:?} refuses what is not listed: {fields}");
        }
    }
    let memory = sources(&[src.join("memory"), engine]);
    let is_used = |sources: &[(PathBuf, String)], name: &str| {
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
        sources.iter().any(|(_, text)| text.split(name).skip(1).any(ends))
    };
    for refusal in Refusal::ALL {
        assert!(is_used(&tasks, &format!("Refusal::{refusal:?}")), "nobody refuses {refusal:?}");
    }
    for obstacle in Obstacle::ALL {
        assert!(is_used(&memory, &format!("Obstacle::{obstacle:?}")), "nothing is {obstacle:?}");
    }
}
