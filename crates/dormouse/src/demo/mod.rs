//! `demo`: a program of our own is frozen, is gone, comes back, and ends as if
//! nothing had happened. Every step is checked as well as shown.

mod program;
mod stage;

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::args::Demo;
use crate::command::Done;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::terminal::{self, Paint};

pub(crate) use program::{PROGRAM, Role};
pub(crate) use stage::DemoError;
use stage::Stage;

/// How many blocks are counted before the program is frozen.
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

    heading(paint, 1, "A program starts")?;
    stage.start()?;
    let pids = stage.pids()?;
    let [root, workers @ ..] = pids.as_slice() else { return Err(DemoError::Early.into()) };
    let workers = workers.iter().map(u32::to_string).collect::<Vec<_>>().join(" and ");
    say(&format!(
        "It counts primes in {} processes with {} threads, connected by pipes: pid {root}, which \
         hands\nout the work, and {workers}, which compute. What it has counted is in its memory \
         only.\n",
        pids.len(),
        stage.threads(&pids)?,
    ))?;
    let before = stage.wait_for_lines(BEFORE)?;
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
        "{} in {files} files after {:.0} ms. The processes are {}.\n\n",
        terminal::bytes(size),
        took.as_secs_f64() * 1000.0,
        paint.bold("gone"),
    ))?;
    let frozen = stage.lines()?;
    stage.show(&mut |command| say(&paint.dim(format!("$ {command}\n"))))?;
    std::thread::sleep(PAUSE);
    if stage.lines()? != frozen {
        return Err(DemoError::StillThere.into());
    }

    heading(paint, 3, "It comes back")?;
    let took = stage.restore(&mut |command| say(&paint.dim(format!("$ {command}\n"))))?;
    say(&format!(
        "After {:.0} ms it goes on in the middle of what it was doing, with the same pids.\n",
        took.as_secs_f64() * 1000.0
    ))?;
    let after = stage.wait_for_lines(frozen.len() + 3)?;
    if after[..frozen.len()] != frozen[..] {
        return Err(DemoError::Changed.into());
    }
    show_lines(paint, frozen[frozen.len().saturating_sub(1)..].iter(), false)?;
    say(&paint.dim("         (frozen, gone, restored)\n"))?;
    show_lines(paint, after[frozen.len()..].iter().take(3), true)?;

    stage.wait_for_end()?;
    let all = stage.output()?;
    let last = all.lines().last().unwrap_or_default().to_owned();
    show_lines(paint, [last].iter(), false)?;

    heading(paint, 4, "It has ended")?;
    if all != program::expected() {
        return Err(DemoError::Changed.into());
    }
    say(&format!(
        "{} Its {} lines are byte for byte those of a run that nobody disturbed.\n",
        paint.good("✓"),
        all.lines().count(),
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
