//! Everything `/proc` and `kcmp` tell of a process tree, as one flat table.
//!
//! Keys are paths such as `71/fd/5/flags` or `71/map/7f00a000-7f00b000`; values
//! are text. Numbers the kernel hands out anew (inode numbers of pipes, ids of eventfds) are
//! replaced by the order of their appearance or left out, so that two snapshots of
//! equal trees are equal. A comparison is then exact, and says precisely what differs.

mod maps;
mod sharing;
mod task;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::failure::Failure;

/// A process tree at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    facts: BTreeMap<Key, String>,
    pids: Vec<i32>,
}

/// A process, and the name of one of its facts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(i32, String);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

/// One fact that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    key: String,
    before: Option<String>,
    after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |v: &Option<String>| v.as_ref().map_or("nothing".into(), |v| shortened(v));
        write!(f, "{}: was {}, is {}", self.key, show(&self.before), show(&self.after))
    }
}

/// A value as it is shown. An environment can be long, and is not for everyone's eyes.
fn shortened(value: &str) -> String {
    const SHOWN: usize = 160;
    match value.char_indices().nth(SHOWN) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}... ({} bytes)", &value[..end], value.len()),
    }
}

impl Snapshot {
    /// Looks at the tree under `root`. `scenario` is the binary with `--probe`.
    ///
    /// # Errors
    /// A process of the tree went away meanwhile, or `/proc` cannot be read.
    pub fn take(root: i32, scenario: &Path) -> Result<Self, Failure> {
        let mut snapshot = Self { facts: BTreeMap::new(), pids: task::tree(root)? };
        let tree = snapshot.pids.clone();
        let mut inodes = Inodes::default();
        for &pid in &tree {
            task::process(&mut snapshot, pid, &tree, &mut inodes)?;
        }
        sharing::read(&mut snapshot, &tree, scenario, &mut inodes)?;
        Ok(snapshot)
    }

    /// The pids of the tree, parents before children.
    #[must_use]
    pub fn pids(&self) -> &[i32] {
        &self.pids
    }

    /// What is different in `after`, except where a pattern matches the key, or all of the
    /// difference as it is shown (`KEY: was "X", is "Y"`).
    #[must_use]
    pub fn differences(&self, after: &Self, except: &[(String, String)]) -> Vec<Difference> {
        let keys: std::collections::BTreeSet<&Key> =
            self.facts.keys().chain(after.facts.keys()).collect();
        keys.into_iter()
            .filter(|k| self.facts.get(k) != after.facts.get(k))
            .map(|k| Difference {
                key: k.to_string(),
                before: self.facts.get(k).cloned(),
                after: after.facts.get(k).cloned(),
            })
            .filter(|d| {
                !except.iter().any(|(pattern, _)| {
                    matches(pattern, &d.key) || matches(pattern, &d.to_string())
                })
            })
            .collect()
    }

    fn put(&mut self, pid: i32, name: impl Into<String>, value: impl Into<String>) {
        self.facts.insert(Key(pid, name.into()), value.into());
    }
}

/// Names for inode numbers the kernel chooses: `#1`, `#2`, ... as they turn up.
#[derive(Default)]
struct Inodes(BTreeMap<String, usize>);

impl Inodes {
    /// `pipe:[4711]` becomes `pipe:#1`; what has no such number stays.
    fn name(&mut self, link: &str) -> String {
        let Some((kind, _)) = link.strip_suffix(']').and_then(|l| l.split_once(":[")) else {
            return link.to_owned();
        };
        let next = self.0.len() + 1;
        let number = *self.0.entry(link.to_owned()).or_insert(next);
        format!("{kind}:#{number}")
    }
}

/// Does the text match the pattern, in which `*` stands for any text?
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).any(|i| tail.is_char_boundary(i) && matches(rest, &tail[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_keys() {
        assert!(matches("*/fd/5/*", "71/fd/5/flags"));
        assert!(!matches("*/fd/5/*", "71/fd/55/flags"));
        assert!(matches("*", ""));
        assert!(!matches("71/comm", "71/comm2"));
    }

    #[test]
    fn a_difference_names_both_sides_and_an_exception_hides_it() {
        let (mut a, mut b) = (Snapshot::default(), Snapshot::default());
        a.put(7, "comm", "x");
        b.put(7, "comm", "y");
        b.put(7, "fd/1", "z");
        let all = a.differences(&b, &[]);
        assert_eq!(all[0].to_string(), r#"7/comm: was "x", is "y""#);
        assert_eq!(all[1].to_string(), r#"7/fd/1: was nothing, is "z""#);
        for pattern in ["*/comm", "*/comm: was *x*, is *y*"] {
            assert_eq!(a.differences(&b, &[(pattern.into(), "why".into())]), all[1..]);
        }
    }

    #[test]
    fn inodes_are_named_by_order() {
        let mut inodes = Inodes::default();
        assert_eq!(inodes.name("pipe:[99]"), "pipe:#1");
        assert_eq!(inodes.name("pipe:[12]"), "pipe:#2");
        assert_eq!(inodes.name("pipe:[99]"), "pipe:#1");
        assert_eq!(inodes.name("/tmp/x"), "/tmp/x");
        assert_eq!(inodes.name("anon_inode:[eventfd]"), "anon_inode:#3");
    }
}
