//! Habits of the project as commands.

#![forbid(unsafe_code)]

use std::process::ExitCode;

mod epoll;
mod guest;
mod interop;
mod supported;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["supported"] => told(supported::run()),
        ["interop", ref options @ ..] => told(interop::run(options)),
        ["interop-table"] => told(interop::table("")),
        ["interop-table", filter] => told(interop::table(filter)),
        ["guest", kernel, ref filter @ ..] => {
            told(guest::run(kernel, filter.first().copied().unwrap_or_default()))
        }
        ["epoll", ref options @ ..] => told(epoll::run(options)),
        ["epoll-table"] => told(epoll::table()),
        // The first process of a pen is this program without arguments.
        [] if dormouse_testkit::pen::inside().is_some() => told(interop::table("")),
        _ => usage(),
    }
}

fn told<E: std::fmt::Display>(result: Result<ExitCode, E>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::FAILURE
    })
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: xtask interop [--criu PATH] [FILTER] | epoll [--criu PATH] | supported | guest KERNEL [FILTER]"
    );
    ExitCode::FAILURE
}
