//! A progress bar, for what takes over a second at a terminal.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
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
    ticker: Option<Ticker>,
}

/// The thread that draws the bar when nothing else happens. It ends when the
/// sender is dropped.
#[derive(Debug)]
struct Ticker {
    unfinished: Sender<()>,
    thread: JoinHandle<()>,
}

impl Bar {
    /// A bar for `doing`, one word.
    pub(crate) fn new(doing: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style("{prefix} {spinner} {msg}"));
        bar.set_prefix(doing);
        let ticker = io::stderr().is_terminal().then(|| Ticker::start(bar.clone())).flatten();
        Self { bar, ticker }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {}
}

impl Ticker {
    /// Without a thread there is no bar, which nothing depends on.
    fn start(bar: ProgressBar) -> Option<Self> {
        let (unfinished, finished) = mpsc::channel::<()>();
        let draw = move || {
            let goes_on =
                |time| matches!(finished.recv_timeout(time), Err(RecvTimeoutError::Timeout));
            if goes_on(PATIENCE) {
                bar.set_draw_target(ProgressDrawTarget::stderr());
                while goes_on(Duration::from_millis(100)) {
                    bar.tick();
                }
            }
        };
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(draw).ok()?;
        Some(Self { unfinished, thread })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(Ticker { unfinished, thread }) = self.ticker.take() {
            drop(unfinished);
            // If it has panicked, there is a bar less.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant")
}

impl Progress for Bar {
    fn phase(&mut self, phase: Phase, bytes: Option<u64>) {
        self.bar.set_position(0);
        self.bar.reset_eta();
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

    fn is_abandoned(&self) -> bool {
        false
    }
}
