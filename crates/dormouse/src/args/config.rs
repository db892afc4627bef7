//! CRIU's configuration files.
//!
//! One option a line, the long name without its dashes, then its value if it
//! has one; the value may stand in double quotes, in which `\"` is a quote.
//! `#` begins a comment. The files are, each overriding those before it and
//! all overridden by the command line: `/etc/criu/default.conf`,
//! `~/.criu/default.conf`, the one named by `CRIU_CONFIG_FILE` and the one
//! named by `--config`. `--config` and `--no-default-config` both leave the
//! first two out (criu(8), CONFIGURATION FILES).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Why a configuration file could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("cannot read configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not as it should be.
    #[error("{}:{line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A quote that does not end.
    #[error("the closing quote is missing")]
    OpenQuote,
    /// More than one value.
    #[error("there is more than one value; quote it if it contains spaces")]
    Excess,
    /// An option that makes no sense in a file.
    #[error("this option works on the command line only")]
    CommandLineOnly,
}

/// Where configuration files are looked for.
#[derive(Debug)]
pub(crate) struct Places {
    /// The system's, used if it can be read.
    pub(crate) global: PathBuf,
    /// The user's, used if it can be read.
    pub(crate) user: Option<PathBuf>,
    /// Named by the environment; must be there.
    pub(crate) environment: Option<PathBuf>,
}

impl Places {
    /// As the environment has them.
    pub(crate) fn from_env() -> Self {
        let path = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            global: PathBuf::from("/etc/criu/default.conf"),
            user: path("HOME").map(|home| home.join(".criu/default.conf")),
            environment: path("CRIU_CONFIG_FILE"),
        }
    }

    /// The words of each file there is, in the order in which they are to be
    /// taken.
    pub(crate) fn words(
        &self,
        named: Option<&Path>,
        defaults: bool,
    ) -> Result<Vec<OsString>, ConfigError> {
        let mut words = Vec::new();
        if defaults {
            for path in std::iter::once(&self.global).chain(&self.user) {
                // As CRIU does: one that cannot be read, in a home that is another's, is none.
                if let Ok(text) = fs::read(path) {
                    words.extend(parse(path, &text)?);
                }
            }
        }
        for path in self.environment.as_deref().into_iter().chain(named) {
            let text = fs::read(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            words.extend(parse(path, &text)?);
        }
        Ok(words)
    }
}

/// The words of a file: `--name` or `--name=value` for each line.
fn parse(path: &Path, text: &[u8]) -> Result<Vec<OsString>, ConfigError> {
    let mut words = Vec::new();
    for (index, line) in text.split(|&b| b == b'\n').enumerate() {
        let word = statement(line).map_err(|problem| ConfigError::Syntax {
            path: path.to_owned(),
            line: index + 1,
            problem,
        })?;
        words.extend(word);
    }
    Ok(words)
}

/// The word of a line, if there is an option in it.
fn statement(line: &[u8]) -> Result<Option<OsString>, Problem> {
    let line = line.trim_ascii_start();
    if line.is_empty() || line[0] == b'#' {
        return Ok(None);
    }
    let name_len = line.iter().position(|&b| b == b' ' || b == b'\t').unwrap_or(line.len());
    let (name, rest) = line.split_at(name_len);
    let name = name.trim_ascii_end();
    // `config` may itself be written `config=FILE`.
    let bare = name.split(|&b| b == b'=').next().unwrap_or(name);
    if bare == b"config" || bare == b"no-default-config" {
        return Err(Problem::CommandLineOnly);
    }
    let mut word = b"--".to_vec();
    word.extend(name);
    if let Some(value) = value(rest.trim_ascii())? {
        word.push(b'=');
        word.extend(value);
    }
    Ok(Some(OsString::from_vec(word)))
}

/// The value in what follows a name, without the space around it.
fn value(text: &[u8]) -> Result<Option<Vec<u8>>, Problem> {
    let (value, rest) = match text {
        [] | [b'#', ..] => return Ok(None),
        [b'"', quoted @ ..] => {
            let end = closing_quote(quoted).ok_or(Problem::OpenQuote)?;
            (&quoted[..end], &quoted[end + 1..])
        }
        bare => {
            let end = bare
                .iter()
                .position(|&b| b.is_ascii_whitespace() || b == b'#')
                .unwrap_or(bare.len());
            bare.split_at(end)
        }
    };
    match rest.trim_ascii_start() {
        [] | [b'#', ..] => Ok(Some(unescape(value))),
        _ => Err(Problem::Excess),
    }
}

/// Where the first quote is that no backslash stands before.
fn closing_quote(text: &[u8]) -> Option<usize> {
    (0..text.len()).find(|&at| text[at] == b'"' && (at == 0 || text[at - 1] != b'\\'))
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let escape = |at: usize| text[at] == b'\\' && text.get(at + 1) == Some(&b'"');
    (0..text.len()).filter(|&at| !escape(at)).map(|at| text[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<Option<String>, Problem> {
        statement(line.as_bytes()).map(|w| w.map(|w| w.into_string().unwrap()))
    }

    #[test]
    fn lines_become_words() {
        let word = |line| one(line).unwrap().unwrap();
        assert_eq!(word("tcp-close"), "--tcp-close");
        assert_eq!(word("  tcp-close  # comment"), "--tcp-close");
        assert_eq!(word("tree 66"), "--tree=66");
        assert_eq!(word("tree\t66 # the root"), "--tree=66");
        assert_eq!(word("verbosity=4"), "--verbosity=4");
        assert_eq!(word("verbosity 4"), "--verbosity=4");
        assert_eq!(word("log-file \"a b\" # x"), "--log-file=a b");
        assert_eq!(word(r#"log-file "a \"b\"""#), r#"--log-file=a "b""#);
        assert_eq!(word("log-file \"\""), "--log-file=");
        assert_eq!(word(r#"external mnt[\"a]"#), r#"--external=mnt["a]"#);
        assert_eq!(word("tree 66\r"), "--tree=66");
    }

    #[test]
    fn empty_lines_and_comments_are_nothing() {
        for line in ["", "   ", "# tree 5", "\t#"] {
            assert_eq!(one(line), Ok(None), "{line:?}");
        }
    }

    #[test]
    fn bad_lines_are_refused() {
        assert_eq!(one("log-file \"a"), Err(Problem::OpenQuote));
        assert_eq!(one("log-file \""), Err(Problem::OpenQuote));
        assert_eq!(one("log-file a b"), Err(Problem::Excess));
        assert_eq!(one("log-file \"a\" b"), Err(Problem::Excess));
        assert_eq!(one("config x"), Err(Problem::CommandLineOnly));
        assert_eq!(one("no-default-config"), Err(Problem::CommandLineOnly));
    }

    #[test]
    fn files_come_in_order_and_defaults_can_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let named = write("named", "tree 4\n");
        let places = Places {
            global: write("global", "tree 1\nshell-job\n"),
            user: Some(write("user", "tree 2\n")),
            environment: Some(write("env", "tree 3\n")),
        };
        assert_eq!(
            places.words(Some(&named), true).unwrap(),
            ["--tree=1", "--shell-job", "--tree=2", "--tree=3", "--tree=4"]
        );
        assert_eq!(places.words(None, false).unwrap(), ["--tree=3"]);

        // Root may read any file, but no directory.
        let user = Some(dir.path().to_owned());
        let missing = Places { global: dir.path().join("no"), user, environment: None };
        assert!(missing.words(None, true).unwrap().is_empty());
        let error = missing.words(Some(&dir.path().join("no")), true).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }));
        write("bad", "\nlog-file a b\n");
        let error = missing.words(Some(&dir.path().join("bad")), true).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("bad:2: there is more than one value; quote it if it contains spaces")
        );
    }
}
