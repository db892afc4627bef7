//! A scenario and the user it runs as, with the facts the scenario states.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::failure::{Failure, io_failure};

/// What a scenario says of itself, one line of `dormouse-scenario --list`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `subject::name`.
    pub name: String,
    /// Who may run it.
    pub users: Vec<User>,
    /// Kinds of state beyond the foundation's.
    pub needs: Vec<String>,
    /// Why this machine cannot run it.
    pub missing: Option<String>,
    /// Patterns of snapshot keys that may differ, with the reason.
    pub differs: Vec<(String, String)>,
    /// The kind of object a refused dump must name.
    pub refused: Option<String>,
    /// The descriptor it must name as well.
    pub descriptor: Option<String>,
    /// Runs with killed and failing dumps too.
    pub dump_faults: bool,
    /// Runs with killed and failing restores too.
    pub restore_faults: bool,
    /// Options for the checkpointer.
    pub options: Vec<String>,
}

/// One user a scenario is run as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum User {
    /// uid 0.
    Root,
    /// No privileges at all.
    Ordinary,
    /// uid 0, in all other ways unlike other roots of trees.
    Odd,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Ordinary => "user",
            Self::Odd => "odd",
        })
    }
}

/// A scenario as one user.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The scenario.
    pub facts: Facts,
    /// The user.
    pub user: User,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.facts.name, self.user)
    }
}

/// A line of `--list` that is not understood.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
#[error("`dormouse-scenario --list` says {field:?} in {line:?}")]
pub struct BadLine {
    field: String,
    line: String,
}

impl Facts {
    /// Reads one line: a name, then tab-separated `key=value` fields.
    ///
    /// # Errors
    /// A field is unknown.
    pub fn parse(line: &str) -> Result<Self, BadLine> {
        let mut fields = line.split('\t');
        let mut facts =
            Self { name: fields.next().unwrap_or_default().to_owned(), ..Self::default() };
        for field in fields {
            let bad = || BadLine { field: field.to_owned(), line: line.to_owned() };
            let (key, value) = field.split_once('=').ok_or_else(bad)?;
            match (key, value) {
                ("user", "root") => facts.users.push(User::Root),
                ("user", "ordinary") => facts.users.push(User::Ordinary),
                ("needs", _) => facts.needs.push(value.to_owned()),
                ("missing", _) => facts.missing = Some(value.to_owned()),
                ("differs", _) => {
                    let (keys, reason) = value.split_once('|').ok_or_else(bad)?;
                    facts.differs.push((keys.to_owned(), reason.to_owned()));
                }
                ("refused", _) => facts.refused = Some(value.to_owned()),
                ("descriptor", _) => facts.descriptor = Some(value.to_owned()),
                ("faults", "dump") => facts.dump_faults = true,
                ("faults", "restore") => facts.restore_faults = true,
                ("option", _) => facts.options.push(value.to_owned()),
                _ => return Err(bad()),
            }
        }
        Ok(facts)
    }

    /// Asks the scenario binary for all it has, or for what the test of this name is about: to find
    /// out what this machine lacks takes long.
    ///
    /// # Errors
    /// It cannot be run, or says something that is not understood.
    pub fn list(scenario: &Path, test: Option<&str>) -> Result<Vec<Self>, Failure> {
        let output = Command::new(scenario)
            .arg("--list")
            .args(test)
            .output()
            .map_err(io_failure("run", scenario))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let parsed: Result<Vec<Self>, BadLine> = text.lines().map(Self::parse).collect();
        parsed.map_err(std::io::Error::other).map_err(io_failure("list", scenario))
    }

    /// The options as the checkpointer's functions take them.
    #[must_use]
    pub fn options(&self) -> Vec<&str> {
        self.options.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_line_is_read() {
        let line = "a::b\tuser=root\tneeds=locks\tmissing=no fpu\tdiffers=*/fd/*|because\trefused=socket\tdescriptor=42\tfaults=dump\tfaults=restore\toption=-j";
        let facts = Facts::parse(line).unwrap();
        assert_eq!(facts.name, "a::b");
        assert_eq!(facts.users, [User::Root]);
        assert_eq!(facts.needs, ["locks"]);
        assert_eq!(facts.missing.as_deref(), Some("no fpu"));
        assert_eq!(facts.differs, [("*/fd/*".to_owned(), "because".to_owned())]);
        assert_eq!(facts.refused.as_deref(), Some("socket"));
        assert_eq!(facts.descriptor.as_deref(), Some("42"));
        assert!(facts.dump_faults && facts.restore_faults);
        assert_eq!(facts.options(), ["-j"]);
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        assert!(Facts::parse("a::b\tcolour=red").is_err());
        assert!(Facts::parse("a::b\tdiffers=no reason").is_err());
    }
}
