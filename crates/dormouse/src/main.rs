//! Checkpoint running processes to image files and restore them.
//!
//! This crate turns a command line into options for the engine
//! ([`args`]), runs it ([`command`]), and is the only place that prints.

#![forbid(unsafe_code)]

mod args;
mod command;
mod demo;
mod exit;
mod failure;
mod log;
mod persona;
mod progress;
mod terminal;

use std::env;
use std::process::ExitCode;

use args::{GetoptError, Invocation, Places, Topic, UsageError};
use exit::Exit;
use failure::Failure;
use persona::Persona;

fn main() -> ExitCode {
    let mut words = env::args_os();
    let persona = Persona::of(words.next().as_deref());
    match Invocation::parse(persona, words.collect(), &Places::from_env()) {
        Ok(invocation) => invoke(persona, invocation),
        Err(error) => refuse(persona, &error),
    }
}

fn invoke(persona: Persona, invocation: Invocation) -> ExitCode {
    let text = match invocation {
        Invocation::Work(work) => return command::run(persona, *work),
        Invocation::Help(text) if terminal::stdout_has_colour() => text.ansi().to_string(),
        Invocation::Help(text) => text.to_string(),
        Invocation::Topic(Topic::ExitCodes) => exit::text(),
        Invocation::Topic(Topic::Options) => command::help::options(),
        Invocation::Version => format!("{}\n", persona.version()),
    };
    match terminal::print(&text) {
        Ok(()) => Exit::Success.code(persona),
        Err(source) => command::fail(persona, &Failure::Output(source)),
    }
}

/// Tells why the command line is none.
fn refuse(persona: Persona, error: &UsageError) -> ExitCode {
    let name = persona.name();
    terminal::report(&match error {
        UsageError::Clap(error) if terminal::stderr_has_colour() => {
            error.render().ansi().to_string()
        }
        UsageError::Clap(error) => error.render().to_string(),
        UsageError::Words(GetoptError::Unrecognized(_)) | UsageError::NoCommand => {
            format!("{name}: {error}\nTry `{name} --help` for more.\n")
        }
        error => {
            let mut report = format!("{name}: {error}\n");
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                report += &format!("  cause: {error}\n");
                cause = error.source();
            }
            report
        }
    });
    Exit::Usage.code(persona)
}
