//! `show`: what is in a dump.

mod tree;

use dormouse_image::describe::{Dump, describe};

use super::Done;
use crate::args::Show;
use crate::failure::Failure;
use crate::terminal::{self, Paint};

pub(super) fn run(show: &Show) -> Result<Done, Failure> {
    let dump = describe(&show.images())?;
    let text = if show.json { json(&dump)? } else { tree::render(&dump, Paint::stdout()) };
    terminal::print(&text).map_err(Failure::Output)?;
    Ok(Done::SUCCESS)
}

fn json(dump: &Dump) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(dump).map_err(|e| Failure::Output(e.into()))?;
    text.push('\n');
    Ok(text)
}
