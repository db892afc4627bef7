//! `demo`: a server of our own is frozen, is gone, and comes back, while clients are connected to it,
//! who cannot tell. Every step is checked as well as shown.

mod clients;
mod program;
mod stage;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use clients::{CLIENTS, Clients};

use crate::args::Demo;
use crate::command::Done;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::terminal::{self, Paint};

pub(crate) use program::{PROGRAM, Role};
pub(crate) use stage::DemoError;
use stage::Stage;

/// How many answers the clients get before the program is frozen.
const BEFORE: usize = 60;
/// How long it is gone.
const PAUSE: Duration = Duration::from_millis(300);

/// Runs one process of the program that is frozen.
pub(crate) fn run_program(role: Role) -> Result<Done, Failure> {
    program::run(role).map(|()| Done::SUCCESS).map_err(Failure::DemoProgram)
}

/// Runs the demo.
pub(crate) fn run(options: &Demo) -> Result<Done, Failure> {
    match play(options) {
        // It has said why; its exit code says of what kind.
        Err(Failure::Demo(DemoError::Command { status, .. })) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            Ok(Done::Program(code.unwrap_or(Exit::Bug as u8)))
        }
        result => result,
    }
}

fn play(options: &Demo) -> Result<Done, Failure> {
    let paint = Paint::stdout();
    let mut stage = Stage::set(options.keep)?;

    heading(paint, 1, "A server starts, and clients connect")?;
    stage.start()?;
    let address = stage.address()?;
    let pids = stage.pids()?;
    let [root, workers @ ..] = pids.as_slice() else { return Err(DemoError::Early.into()) };
    let workers = workers.iter().map(u32::to_string).collect::<Vec<_>>().join(" and ");
    say(&format!(
        "It counts primes in {} processes with {} threads: pid {root}, an epoll server at {address},\n\
         has {workers} compute, connected by pipes. What it has counted for whom is in its memory \
         only.\n{CLIENTS} clients ask for one block of numbers after the other, each on one \
         connection, and check every answer.\n",
        pids.len(),
        stage.threads(&pids)?,
    ))?;
    let clients = Clients::start(address);
    let (clients, before) = clients.wait_for(BEFORE)?;
    show_lines(paint, before.iter().take(3), true)?;
    show_lines(paint, before[before.len() - 2..].iter(), false)?;

    heading(paint, 2, "It is frozen to disk")?;
    let took = stage.dump(&mut |command| say(&paint.dim(format!("$ {command}\n"))))?;
    let left: Vec<_> =
        pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
    if !left.is_empty() {
        return Err(DemoError::StillThere.into());
    }
    let (files, size) = stage.images()?;
    say(&format!(
        "{} in {files} files after {:.0} ms. The processes are {}; the clients wait.\n\n",
        terminal::bytes(size),
        took.as_secs_f64() * 1000.0,
        paint.bold("gone"),
    ))?;
    stage.show(&mut |command| say(&paint.dim(format!("$ {command}\n"))))?;
    let frozen = clients.heard();
    thread::sleep(PAUSE);
    if clients.heard() != frozen {
        return Err(DemoError::StillThere.into());
    }

    heading(paint, 3, "It comes back")?;
    let took = stage.restore(&mut |command| say(&paint.dim(format!("$ {command}\n"))))?;
    say(&format!(
        "After {:.0} ms it goes on in the middle of what it was doing, with the same pids.\n",
        took.as_secs_f64() * 1000.0
    ))?;
    let (clients, after) = clients.wait_for(frozen.len() + 3)?;
    show_lines(paint, frozen[frozen.len().saturating_sub(1)..].iter(), false)?;
    say(&paint.dim("         (frozen, gone, restored)\n"))?;
    show_lines(paint, after[frozen.len()..].iter().take(3), true)?;

    let (heard, longest) = clients.finish()?;
    show_lines(paint, heard.last().into_iter(), false)?;
    stage.wait_for_end()?;

    heading(paint, 4, "Nobody can tell")?;
    say(&format!(
        "{} All {} answers came, in order, each as if nobody had disturbed the server. No connection\n\
         broke; the longest wait for an answer was {:.0} ms.\n",
        paint.good("✓"),
        heard.len(),
        longest.as_secs_f64() * 1000.0,
    ))?;
    if let Some(images) = stage.keep_images() {
        say(&format!("The images are in {}.\n", images.display()))?;
    }
    Ok(Done::SUCCESS)
}

fn heading(paint: Paint, number: u32, text: &str) -> Result<(), Failure> {
    let blank = if number == 1 { "" } else { "\n" };
    say(&format!("{blank}{}\n", paint.bold(format!("{number}. {text}"))))
}

fn show_lines<'a>(
    paint: Paint,
    lines: impl Iterator<Item = &'a String>,
    more: bool,
) -> Result<(), Failure> {
    for line in lines {
        say(&format!("  {}\n", paint.name(line)))?;
    }
    if more { say(&paint.dim("  ...\n")) } else { Ok(()) }
}

fn say(text: &str) -> Result<(), Failure> {
    terminal::print(text).map_err(Failure::Output)
}

/// The size of everything in a directory of plain files.
fn size_of(directory: &Path) -> std::io::Result<(usize, u64)> {
    let mut files = 0;
    let mut size = 0;
    for entry in fs::read_dir(directory)? {
        files += 1;
        size += entry?.metadata()?.len();
    }
    Ok((files, size))
}
