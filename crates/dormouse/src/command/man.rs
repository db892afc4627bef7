//! `man`: one page for all commands, like criu(8).

use std::io::{self, Write};

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Done, help};
use crate::args;
use crate::args::table::{OPTIONS, Standing};
use crate::exit;
use crate::failure::Failure;
use crate::persona::Persona;
use crate::terminal;

pub(super) fn run(persona: Persona) -> Result<Done, Failure> {
    let mut page = Vec::new();
    write(persona, &mut page).map_err(Failure::Output)?;
    terminal::print(&String::from_utf8_lossy(&page)).map_err(Failure::Output)?;
    Ok(Done::SUCCESS)
}

fn write(persona: Persona, out: &mut dyn Write) -> io::Result<()> {
    let mut program = args::visible_program(persona);
    program.build();
    let man = Man::new(program.clone()).section("8").source(persona.version()).manual("");
    man.render_title(out)?;
    man.render_name_section(out)?;
    text("SYNOPSIS", &synopsis(&program), out)?;
    man.render_description_section(out)?;
    for command in program.get_subcommands() {
        let mut page = Vec::new();
        let man = Man::new(command.clone());
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        as_part(&command.get_name().to_uppercase(), &page, out)?;
    }
    options(out)?;
    exit_status(out)?;
    text("FILES", FILES, out)?;
    text("ENVIRONMENT", ENVIRONMENT, out)
}

const FILES: &[(&str, &str)] = &[
    (
        "/etc/criu/default.conf, ~/.criu/default.conf",
        "Options that are taken before those of the \
      command line: one a line, its long name without dashes, then its value. # begins a comment.",
    ),
    (
        "inventory.img",
        "The last file of a dump to be written. A directory without it holds no \
      dump.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("CRIU_CONFIG_FILE", "One more configuration file, after the default ones."),
    ("NO_COLOR", "If set, nothing is printed in colour."),
];

fn synopsis(program: &clap::Command) -> Vec<(String, String)> {
    program
        .get_subcommands()
        .map(|c| {
            let usage = c.clone().render_usage().to_string();
            (usage.trim_start_matches("Usage: ").to_owned(), String::new())
        })
        .collect()
}

/// A list of terms and what is to be said of each.
fn text<T: AsRef<str>>(title: &str, items: &[(T, T)], out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (term, meaning) in items {
        roff.control("TP", []);
        roff.text([bold(term.as_ref())]);
        roff.text([roman(meaning.as_ref())]);
    }
    roff.to_writer(out)
}

/// The sections of a page as one section of another.
fn as_part(title: &str, page: &[u8], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, ".SH {title}")?;
    for line in String::from_utf8_lossy(page).lines() {
        match line.strip_prefix(".SH ") {
            Some("DESCRIPTION" | "OPTIONS") => {}
            Some(heading) => writeln!(out, ".SS {heading}")?,
            // Those would end the definitions Roff begins each page with.
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

fn options(out: &mut dyn Write) -> io::Result<()> {
    let items: Vec<_> = OPTIONS
        .iter()
        .map(|option| {
            let remark = match option.standing {
                Standing::Implemented => "Carried out.".to_owned(),
                Standing::Concerns(state) => format!("Accepted; matters only to {state}."),
                Standing::Method(way) => format!("Accepted; changes nothing: {way}."),
                Standing::Only(values, reason) => {
                    format!("Refused: {reason}. Only {} is accepted.", values.join(", "))
                }
                Standing::Refused(reason) => format!("Refused: {reason}."),
            };
            (help::synopsis(option).trim_start().to_owned(), remark)
        })
        .collect();
    text("OPTIONS OF CRIU'S COMMAND LINE", &items, out)
}

fn exit_status(out: &mut dyn Write) -> io::Result<()> {
    let items: Vec<_> = exit::TABLE
        .iter()
        .map(|(exit, meaning)| ((*exit as u8).to_string(), (*meaning).to_owned()))
        .collect();
    text("EXIT STATUS", &items, out)?;
    let mut roff = Roff::new();
    roff.control("PP", []);
    roff.text([roman(exit::NOTES)]);
    roff.to_writer(out)
}
