//! `completions`

use clap_complete::Shell;

use super::Done;
use crate::args;
use crate::failure::Failure;
use crate::persona::Persona;
use crate::terminal;

pub(super) fn run(persona: Persona, shell: Shell) -> Result<Done, Failure> {
    let mut script = Vec::new();
    let mut program = args::visible_program(persona);
    clap_complete::generate(shell, &mut program, persona.name(), &mut script);
    terminal::print(&String::from_utf8_lossy(&script)).map_err(Failure::Output)?;
    Ok(Done::SUCCESS)
}
