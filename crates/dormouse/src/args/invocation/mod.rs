//! One call of the program, understood.
//!
//! The words are taken apart as CRIU does it ([`super::getopt`]), those of the
//! configuration files before those of the command line. Then options are
//! judged by CRIU's table, put in a canonical order and handed to clap, which
//! checks values and combinations and gives them their types.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use super::command::REFUSED;
use super::getopt::{Given, Grammar, verbosity};
use super::table::{self, CriuOption, RefusedCommand, Standing};
use super::{Cli, Command, ConfigError, GetoptError, Places};
use crate::persona::Persona;

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Help, already rendered.
    Help(clap::builder::StyledStr),
    /// A topic of help that is not a command.
    Topic(Topic),
    /// The version.
    Version,
    /// Something to do.
    Work(Box<Work>),
}

/// Help beyond that of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The exit codes.
    ExitCodes,
    /// All of CRIU's options.
    Options,
}

/// A command with everything around it.
#[derive(Debug)]
pub(crate) struct Work {
    /// The command.
    pub(crate) command: Command,
    /// The first thing asked for that is refused. It is not an error of the
    /// command line: the log must be there before it is reported.
    pub(crate) refusal: Option<Refusal>,
    /// What was accepted without being carried out, for the log.
    pub(crate) without_effect: Vec<WithoutEffect>,
}

/// An option that is accepted and changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WithoutEffect {
    /// The command has no use for it, and in CRIU neither.
    NotForThisCommand(&'static str),
    /// It matters only to this state.
    Concerns(&'static str, &'static str),
    /// The same result is reached in this way.
    Method(&'static str, &'static str),
}

/// What CRIU does and this program does not yet.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// An option.
    #[error("option --{name} is not supported yet: {reason}")]
    Option {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A value of an option.
    #[error("option --{name}={} is not supported yet: {reason}", value.display())]
    Value {
        /// The option's name.
        name: &'static str,
        /// The value.
        value: OsString,
        /// Why.
        reason: &'static str,
    },
    /// A command.
    #[error("command {name} is not supported yet: {reason}")]
    Command {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: &'static str,
    },
}

/// Why the words make no command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// They cannot be taken apart.
    #[error(transparent)]
    Words(#[from] GetoptError),
    /// A configuration file is to blame.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no command among them.
    #[error("command is required")]
    NoCommand,
    /// There is no such command.
    #[error("unknown command: {}", .0.display())]
    UnknownCommand(OsString),
    /// An option has a value which CRIU does not know either.
    #[error("invalid argument for --{name}: {} (one of: {})", value.display(), choices.join(", "))]
    Choice {
        /// The option.
        name: &'static str,
        /// Its value.
        value: OsString,
        /// What it could be.
        choices: &'static [&'static str],
    },
    /// Values or combinations that are not possible.
    #[error(transparent)]
    Clap(#[from] clap::Error),
    /// Help was asked for with a command that is not there.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The definitions, under the name the program was called by.
pub(crate) fn program(persona: Persona) -> clap::Command {
    Cli::command().name(persona.name()).bin_name(persona.name())
}

/// The same without what no user calls: for completions and the man page.
pub(crate) fn visible_program(persona: Persona) -> clap::Command {
    let full = program(persona);
    let about = full.get_about().cloned().unwrap_or_default();
    let visible: Vec<_> = full.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    clap::Command::new(persona.name())
        .about(about)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(full.get_arguments().cloned())
        .subcommands(visible)
}

impl Invocation {
    /// Understands `words`, the program's arguments without its own name.
    pub(crate) fn parse(
        persona: Persona,
        words: Vec<OsString>,
        places: &Places,
    ) -> Result<Self, UsageError> {
        let mut program = program(persona);
        let grammar = Grammar::of(&program);
        let line = grammar.parse(words)?;
        let named = |name: &str| line.given.iter().any(|g| g.name == name);

        let mut operands = line.operands.iter();
        let command = operands.next();
        let operands: Vec<&OsString> = operands.collect();
        if named("help") || command.is_some_and(|c| c == "help") {
            return help(&mut program, command, &operands);
        }
        if named("version") {
            return Ok(Self::Version);
        }

        let config = line.given.iter().rfind(|g| g.name == "config");
        let config = config.and_then(|g| g.value.as_deref()).map(Path::new);
        let defaults = config.is_none() && !named("no-default-config");
        let mut given = grammar.parse(places.words(config, defaults)?)?.given;
        given.extend(line.given);

        let command = command.ok_or(UsageError::NoCommand)?;
        let refused = command.to_str().and_then(table::refused_command);
        let (name, operands) = match refused {
            Some(_) => (OsStr::new(REFUSED), Vec::new()),
            None => (command.as_os_str(), operands),
        };
        let sub = program
            .find_subcommand(name)
            .ok_or_else(|| UsageError::UnknownCommand(command.clone()))?
            .clone();

        let mut canonical = Canonical::new(&sub);
        if let Some(&RefusedCommand { name, reason }) = refused {
            canonical.refuse(Refusal::Command { name, reason });
        }
        for option in &given {
            canonical.take(option)?;
        }
        let words = canonical.words(persona, name, &given, &operands);
        let matches = program.try_get_matches_from_mut(words)?;
        let cli = Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut program))?;
        Ok(Self::Work(Box::new(Work {
            command: cli.command,
            refusal: canonical.refusal,
            without_effect: canonical.without_effect,
        })))
    }
}

fn help(
    program: &mut clap::Command,
    command: Option<&OsString>,
    operands: &[&OsString],
) -> Result<Invocation, UsageError> {
    let about = match command {
        Some(c) if c == "help" => operands.first().copied(),
        other => other,
    };
    let Some(about) = about else { return Ok(Invocation::Help(program.render_long_help())) };
    match about.to_str() {
        Some("exit-codes") => return Ok(Invocation::Topic(Topic::ExitCodes)),
        Some("options") => return Ok(Invocation::Topic(Topic::Options)),
        _ => {}
    }
    if let Some(&RefusedCommand { name, reason }) = about.to_str().and_then(table::refused_command)
    {
        return Err(Refusal::Command { name, reason }.into());
    }
    program.build();
    let sub = program
        .find_subcommand_mut(about)
        .ok_or_else(|| UsageError::UnknownCommand(about.clone()))?;
    Ok(Invocation::Help(sub.render_long_help()))
}

/// Options on their way to clap.
struct Canonical<'a> {
    command: &'a clap::Command,
    /// What clap is to see, each with its name first.
    options: Vec<(String, OsString)>,
    refusal: Option<Refusal>,
    without_effect: Vec<WithoutEffect>,
}

impl<'a> Canonical<'a> {
    fn new(command: &'a clap::Command) -> Self {
        Self { command, options: Vec::new(), refusal: None, without_effect: Vec::new() }
    }

    /// Judges one option.
    fn take(&mut self, given: &Given) -> Result<(), UsageError> {
        match table::option(&given.name) {
            None => self.pass(&given.name, given.value.as_deref()),
            Some(option) => self.take_criu(option, given)?,
        }
        Ok(())
    }

    fn take_criu(&mut self, option: &CriuOption, given: &Given) -> Result<(), UsageError> {
        let name = option.name;
        if let Some(value) = &given.value
            && !option.choices.is_empty()
            && !option.choices.iter().any(|c| value == c)
        {
            let choices = option.choices;
            return Err(UsageError::Choice { name, value: value.clone(), choices });
        }
        if given.negated {
            self.take_back(name);
            return Ok(());
        }
        match option.standing {
            Standing::Implemented => self.implemented(name, given.value.as_deref()),
            Standing::Concerns(state) => {
                self.without_effect.push(WithoutEffect::Concerns(name, state));
            }
            Standing::Method(way) => self.without_effect.push(WithoutEffect::Method(name, way)),
            Standing::Only(values, reason) => match &given.value {
                Some(value) if values.iter().any(|v| value == v) => {
                    self.without_effect.push(WithoutEffect::Method(name, reason));
                }
                Some(value) => {
                    self.refuse(Refusal::Value { name, value: value.clone(), reason });
                }
                None => self.refuse(Refusal::Option { name, reason }),
            },
            Standing::Refused(reason) => self.refuse(Refusal::Option { name, reason }),
        }
        Ok(())
    }

    fn implemented(&mut self, name: &'static str, value: Option<&OsStr>) {
        match name {
            // Dealt with before and after the options are judged.
            "config" | "no-default-config" | "verbosity" => {}
            // In CRIU both set the same thing.
            "daemon" => self.implemented("restore-detached", None),
            _ if self.command.get_arguments().any(|a| a.get_long() == Some(name)) => {
                self.pass(name, value);
            }
            _ => self.without_effect.push(WithoutEffect::NotForThisCommand(name)),
        }
    }

    fn pass(&mut self, name: &str, value: Option<&OsStr>) {
        let mut word = OsString::from(format!("--{name}"));
        if let Some(value) = value {
            word.push("=");
            word.push(value);
        }
        self.options.push((name.to_owned(), word));
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
    }

    /// `--no-NAME`: whatever the option had done is undone.
    fn take_back(&mut self, name: &str) {
        let target = if name == "daemon" { "restore-detached" } else { name };
        self.options.retain(|(n, _)| n != target);
        self.refusal.take_if(|r| matches!(r, Refusal::Option { name: n, .. } if *n == name));
    }

    /// The words for clap.
    fn words(
        &self,
        persona: Persona,
        command: &OsStr,
        given: &[Given],
        operands: &[&OsString],
    ) -> Vec<OsString> {
        let mut words = vec![OsString::from(persona.name()), command.to_owned()];
        words.extend(self.options.iter().map(|(_, word)| word.clone()));
        let logs = self.command.get_arguments().any(|a| a.get_long() == Some("verbosity"));
        if logs && given.iter().any(|g| g.name == "verbosity") {
            words.push(format!("--verbosity={}", verbosity(given)).into());
        }
        // `restore` tells the operands behind its own "--" from others; all
        // else only has to be kept from looking like options.
        let exec = self.options.iter().any(|(name, _)| name == "exec-cmd");
        if exec || command != "restore" {
            words.push("--".into());
        }
        words.extend(operands.iter().map(|&o| o.clone()));
        words
    }
}

#[cfg(test)]
mod tests;
