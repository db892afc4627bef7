//! A progress bar, for what takes over a second at a terminal.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use dormouse_engine::{Phase, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long something may take unseen.
const PATIENCE: Duration = Duration::from_secs(1);

/// The bar. It is not drawn where there is no terminal, nor before
/// [`PATIENCE`] is at an end; it is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    /// Dropped with the bar: then its thread ends.
    _unfinished: Option<Sender<()>>,
}

impl Bar {
    /// A bar for `doing`, one word.
    pub(crate) fn new(doing: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style("{prefix} {spinner} {msg}"));
        bar.set_prefix(doing);
        let unfinished = io::stderr().is_terminal().then(|| show_later(bar.clone())).flatten();
        Self { bar, _unfinished: unfinished }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {}
}

/// Draws the bar when patience is at an end. Without a thread for it there is
/// no bar, which nothing depends on.
fn show_later(bar: ProgressBar) -> Option<Sender<()>> {
    let (unfinished, finished) = mpsc::channel::<()>();
    let wait = move || {
        if let Err(RecvTimeoutError::Timeout) = finished.recv_timeout(PATIENCE) {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            while let Err(RecvTimeoutError::Timeout) =
                finished.recv_timeout(Duration::from_millis(100))
            {
                bar.tick();
            }
            bar.finish_and_clear();
        }
    };
    thread::Builder::new().name("progress".to_owned()).spawn(wait).ok().map(|_| unfinished)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant")
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn phase(&mut self, phase: Phase, bytes: Option<u64>) {
        self.bar.set_position(0);
        match bytes {
            Some(bytes) => {
                self.bar.set_length(bytes);
                self.bar.set_style(style(
                    "{prefix} {msg:8} {wide_bar} {bytes:>10}/{total_bytes} {bytes_per_sec}",
                ));
            }
            None => {
                self.bar.unset_length();
                self.bar.set_style(style("{prefix} {msg:8} {spinner} {elapsed}"));
            }
        }
        self.bar.set_message(phase.to_string());
    }

    fn advance(&mut self, bytes: u64) {
        self.bar.inc(bytes);
    }
}
