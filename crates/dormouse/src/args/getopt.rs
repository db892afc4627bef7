//! Words to options and operands, as `getopt_long(3)` takes them apart.
//!
//! CRIU's command line is read by the C library: options may stand before and
//! after the command, a long name may be cut short while it stays unique,
//! letters may be run together, and an optional value counts only if it stands
//! in the same word. zdtm.py relies on the oddest corner of it: `-verbosity=0`
//! is the letter `v` with the value `erbosity=0`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::table::{self, Value};

/// An option that can be named on the command line: a row of CRIU's table, or
/// one that only this program has.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The long name, without dashes.
    pub(crate) name: String,
    short: Option<char>,
    value: Value,
    negatable: bool,
}

/// All options that can be named on the command line.
#[derive(Debug)]
pub(crate) struct Grammar {
    options: Vec<Known>,
}

/// An option as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// The full long name, without dashes and without `no-`.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: Option<OsString>,
    /// It was given as `--no-NAME`.
    pub(crate) negated: bool,
}

/// The options in the order they were given, and everything else.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// The options.
    pub(crate) given: Vec<Given>,
    /// What is neither an option nor the value of one.
    pub(crate) operands: Vec<OsString>,
}

/// Why words could not be taken apart.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum GetoptError {
    /// No such option.
    #[error("unrecognized option '{0}'")]
    Unrecognized(String),
    /// A name cut too short.
    #[error("option '{word}' is ambiguous; possibilities: {candidates}")]
    Ambiguous {
        /// What was given.
        word: String,
        /// What it may stand for.
        candidates: String,
    },
    /// The option needs a value and the words are at an end.
    #[error("option '{0}' requires an argument")]
    MissingValue(String),
    /// The option takes none.
    #[error("option '{0}' doesn't allow an argument")]
    UnexpectedValue(String),
}

/// How a long name of the command line was resolved.
struct Resolved<'a> {
    known: &'a Known,
    negated: bool,
}

impl Grammar {
    /// CRIU's options, and those that `program` and its subcommands define
    /// besides.
    pub(crate) fn of(program: &clap::Command) -> Self {
        let mut options: Vec<Known> = table::OPTIONS
            .iter()
            .map(|o| Known {
                name: o.name.to_owned(),
                short: o.short,
                value: o.value,
                negatable: o.negatable,
            })
            .collect();
        let arguments =
            program.get_subcommands().flat_map(clap::Command::get_arguments).filter_map(|a| {
                let name = a.get_long()?;
                Some((name, a.get_short(), a.get_action().takes_values()))
            });
        for (name, short, takes_value) in arguments {
            if options.iter().any(|o| o.name == name) {
                continue;
            }
            let value = if takes_value { Value::Required } else { Value::None };
            options.push(Known { name: name.to_owned(), short, value, negatable: false });
        }
        Self { options }
    }

    /// Takes `words` apart.
    pub(crate) fn parse(
        &self,
        words: impl IntoIterator<Item = OsString>,
    ) -> Result<Words, GetoptError> {
        let mut words = words.into_iter();
        let mut parsed = Words::default();
        while let Some(word) = words.next() {
            match word.as_bytes() {
                b"--" => {
                    parsed.operands.extend(words);
                    break;
                }
                [b'-', b'-', rest @ ..] => self.long(rest, &mut words, &mut parsed.given)?,
                [b'-', rest @ ..] if !rest.is_empty() => {
                    self.letters(rest, &mut words, &mut parsed.given)?;
                }
                _ => parsed.operands.push(word),
            }
        }
        Ok(parsed)
    }

    /// One word of the form `--name` or `--name=value`, without the dashes.
    fn long(
        &self,
        word: &[u8],
        rest: &mut impl Iterator<Item = OsString>,
        given: &mut Vec<Given>,
    ) -> Result<(), GetoptError> {
        let (name, inline) = match word.iter().position(|&b| b == b'=') {
            Some(at) => (&word[..at], Some(owned(&word[at + 1..]))),
            None => (word, None),
        };
        let shown = format!("--{}", String::from_utf8_lossy(name));
        let Resolved { known, negated } = self.resolve(name, &shown)?;
        let value = match (if negated { Value::None } else { known.value }, inline) {
            (Value::None, Some(_)) => return Err(GetoptError::UnexpectedValue(shown)),
            (Value::None, None) => None,
            (Value::Required, None) => Some(rest.next().ok_or(GetoptError::MissingValue(shown))?),
            (Value::Required | Value::Optional, inline) => inline,
        };
        given.push(Given { name: known.name.clone(), value, negated });
        Ok(())
    }

    /// One word of the form `-abc`, without the dash.
    fn letters(
        &self,
        word: &[u8],
        rest: &mut impl Iterator<Item = OsString>,
        given: &mut Vec<Given>,
    ) -> Result<(), GetoptError> {
        for (at, &letter) in word.iter().enumerate() {
            let known = self
                .options
                .iter()
                .find(|o| o.short == Some(char::from(letter)))
                .ok_or_else(|| GetoptError::Unrecognized(format!("-{}", char::from(letter))))?;
            let name = known.name.clone();
            let tail = &word[at + 1..];
            let value = match known.value {
                Value::None => {
                    given.push(Given { name, value: None, negated: false });
                    continue;
                }
                Value::Required if tail.is_empty() => {
                    let missing = || GetoptError::MissingValue(format!("-{}", char::from(letter)));
                    Some(rest.next().ok_or_else(missing)?)
                }
                Value::Optional if tail.is_empty() => None,
                Value::Required | Value::Optional => Some(owned(tail)),
            };
            given.push(Given { name, value, negated: false });
            return Ok(());
        }
        Ok(())
    }

    /// The option of this name, or the only one it may be short for.
    fn resolve(&self, name: &[u8], shown: &str) -> Result<Resolved<'_>, GetoptError> {
        let names = || {
            self.options.iter().flat_map(|known| {
                let plain = (known.name.clone(), Resolved { known, negated: false });
                let negated = known
                    .negatable
                    .then(|| (format!("no-{}", known.name), Resolved { known, negated: true }));
                std::iter::once(plain).chain(negated)
            })
        };
        if let Some((_, exact)) = names().find(|(full, _)| full.as_bytes() == name) {
            return Ok(exact);
        }
        let mut candidates: Vec<_> =
            names().filter(|(full, _)| full.as_bytes().starts_with(name)).collect();
        match candidates.len() {
            1 => Ok(candidates.remove(0).1),
            0 => Err(GetoptError::Unrecognized(shown.to_owned())),
            _ => Err(GetoptError::Ambiguous {
                word: shown.to_owned(),
                candidates: candidates
                    .iter()
                    .map(|(full, _)| format!("--{full}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            }),
        }
    }
}

fn owned(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// The log level that `-v`, `-vNUM` and `--verbosity` add up to, in their
/// order, from CRIU's default of 2 (warnings).
pub(crate) fn verbosity(given: &[Given]) -> u8 {
    given.iter().filter(|g| g.name == "verbosity").fold(2, |level: u8, g| {
        match g.value.as_deref().map(OsStr::as_bytes) {
            None => level.saturating_add(1),
            // The letters behind the first of -vvv are its value.
            Some(letters @ [b'v', ..]) => {
                level.saturating_add(u8::try_from(letters.len() + 1).unwrap_or(u8::MAX))
            }
            // As atoi(3): the digits it begins with, none of them being 0.
            Some(digits) => digits
                .iter()
                .take_while(|b| b.is_ascii_digit())
                .fold(0, |n: u8, b| n.saturating_mul(10).saturating_add(b - b'0')),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grammar() -> Grammar {
        Grammar::of(
            &clap::Command::new("x").subcommand(
                clap::Command::new("y")
                    .arg(clap::Arg::new("json").long("json").action(clap::ArgAction::SetTrue)),
            ),
        )
    }

    fn parse(line: &str) -> Result<Words, GetoptError> {
        grammar().parse(line.split_whitespace().map(OsString::from))
    }

    fn show(line: &str) -> String {
        let words = parse(line).unwrap();
        let mut out = Vec::new();
        for g in words.given {
            let no = if g.negated { "!" } else { "" };
            let value = g.value.map_or(String::new(), |v| format!("={}", v.display()));
            out.push(format!("{no}{}{value}", g.name));
        }
        out.push("|".to_owned());
        out.extend(words.operands.iter().map(|o| o.display().to_string()));
        out.join(" ")
    }

    #[test]
    fn options_may_stand_on_both_sides_of_the_command() {
        assert_eq!(show("-D x dump -t 5 -R"), "images-dir=x tree=5 leave-running | dump");
        assert_eq!(show("dump -R -- -t 5"), "leave-running | dump -t 5");
        assert_eq!(show("dump - -j"), "shell-job | dump -");
    }

    #[test]
    fn values_stand_in_the_word_or_in_the_next() {
        assert_eq!(show("--tree=5 --tree 6 -t7 -t 8"), "tree=5 tree=6 tree=7 tree=8 |");
        assert_eq!(show("-o -x"), "log-file=-x |");
        assert_eq!(show("--log-file="), "log-file= |");
        assert_eq!(show("-jRDdir"), "shell-job leave-running images-dir=dir |");
    }

    #[test]
    fn optional_values_stand_in_the_word_only() {
        assert_eq!(show("--manage-cgroups full"), "manage-cgroups | full");
        assert_eq!(show("--manage-cgroups=full"), "manage-cgroups=full |");
        assert_eq!(show("-x 5 -x6"), "ext-unix-sk ext-unix-sk=6 | 5");
        assert_eq!(show("-v 4"), "verbosity | 4");
    }

    #[test]
    fn names_may_be_cut_short_while_unique() {
        assert_eq!(show("--restore-det --js"), "restore-detached json |");
        assert_eq!(show("--no-display"), "!display-stats |");
        assert_eq!(show("--tls"), "tls |");
        assert!(matches!(parse("--cgroup-p"), Err(GetoptError::Ambiguous { .. })));
    }

    #[test]
    fn what_cannot_be_taken_apart_is_named() {
        assert_eq!(parse("--bogus"), Err(GetoptError::Unrecognized("--bogus".into())));
        assert_eq!(parse("-jq"), Err(GetoptError::Unrecognized("-q".into())));
        assert_eq!(parse("--tree"), Err(GetoptError::MissingValue("--tree".into())));
        assert_eq!(parse("-t"), Err(GetoptError::MissingValue("-t".into())));
        assert_eq!(parse("--stream=1"), Err(GetoptError::UnexpectedValue("--stream".into())));
        assert_eq!(parse("--no-stream=1"), Err(GetoptError::UnexpectedValue("--no-stream".into())));
        assert_eq!(parse("--no-tree"), Err(GetoptError::Unrecognized("--no-tree".into())));
    }

    #[test]
    fn verbosity_adds_up() {
        let level = |line: &str| verbosity(&parse(line).unwrap().given);
        assert_eq!(level(""), 2);
        assert_eq!(level("-v"), 3);
        assert_eq!(level("-vv"), 4);
        assert_eq!(level("-vvv"), 5);
        assert_eq!(level("-v -v"), 4);
        assert_eq!(level("-v4"), 4);
        assert_eq!(level("--verbosity"), 3);
        assert_eq!(level("--verbosity=1"), 1);
        assert_eq!(level("-v4 -v0 -v"), 1);
        assert_eq!(level("-verbosity=0"), 0);
    }
}
