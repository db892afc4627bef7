//! The log, in CRIU's form.
//!
//! `(SS.UUUUUU) ` from level 3 up, since the log was opened; `Error (MODULE:LINE): `
//! and `Warn  (MODULE:LINE): ` before what is one, so that tools which look for
//! these words find them; then the spans the event is in, and its fields.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{DefaultFields, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file, made anew.
    File(PathBuf),
    /// Standard output, `-o -`.
    Stdout,
    /// Standard error, if nothing else is said.
    Stderr,
}

impl Target {
    /// What `--log-file` asks for, relative to the work directory.
    pub(crate) fn of(log_file: Option<&Path>, work: &Path) -> Self {
        match log_file {
            None => Self::Stderr,
            Some(dash) if dash == "-" => Self::Stdout,
            Some(path) => Self::File(work.join(path)),
        }
    }
}

/// Opens the log at CRIU's verbosity `level`. Everything `tracing` is told
/// from now on goes there.
pub(crate) fn start(target: &Target, level: u8) -> io::Result<()> {
    let filter = match level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        5.. => LevelFilter::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_ansi(false)
        // Nobody is told of lines that cannot be written: standard error, where that would be told,
        // may be what has no reader any more.
        .log_internal_errors(false)
        .event_format(Format { start: (level >= 3).then(Instant::now) })
        .fmt_fields(DefaultFields::new());
    let set = match target {
        Target::Stderr => {
            tracing::subscriber::set_global_default(subscriber.with_writer(io::stderr).finish())
        }
        Target::Stdout => {
            tracing::subscriber::set_global_default(subscriber.with_writer(io::stdout).finish())
        }
        Target::File(path) => {
            let file = Mutex::new(create(path)?);
            tracing::subscriber::set_global_default(subscriber.with_writer(file).finish())
        }
    };
    set.expect("the log is opened once");
    Ok(())
}

/// For the owner alone, as the images are: a log tells much of a program.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).and_then(|file| {
        // Others, as terminals are, have nothing of before.
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    })
}

/// The form of a line.
struct Format {
    /// When time began, if lines tell it.
    start: Option<Instant>,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        cx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if let Some(start) = self.start {
            let t = start.elapsed();
            write!(out, "({:02}.{:06}) ", t.as_secs(), t.subsec_micros())?;
        }
        let meta = event.metadata();
        let word = match *meta.level() {
            Level::ERROR => Some("Error"),
            Level::WARN => Some("Warn "),
            _ => None,
        };
        if let Some(word) = word {
            write!(out, "{word} ({}:{}): ", meta.target(), meta.line().unwrap_or(0))?;
        }
        for span in cx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(out, "{}", span.name())?;
            let extensions = span.extensions();
            match extensions.get::<FormattedFields<N>>() {
                Some(fields) if !fields.is_empty() => write!(out, "{{{fields}}}: ")?,
                _ => write!(out, ": ")?,
            }
        }
        cx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(start: Option<Instant>) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::DEBUG)
            .with_ansi(false)
            .event_format(Format { start })
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let _phase = tracing::info_span!("collect").entered();
            let _task = tracing::info_span!("task", pid = 5).entered();
            tracing::info!(fd = 3, "a pipe");
            tracing::warn!(target: "x", "odd");
            tracing::error!(target: "x", "bad");
        });
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_look_like_criu_s() {
        let text = lines(None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "collect: task{pid=5}: a pipe fd=3");
        assert!(lines[1].starts_with("Warn  (x:"), "{}", lines[1]);
        assert!(lines[1].ends_with("): collect: task{pid=5}: odd"), "{}", lines[1]);
        assert!(lines[2].starts_with("Error (x:"), "{}", lines[2]);
    }

    #[test]
    fn times_are_seconds_and_microseconds() {
        let text = lines(Some(Instant::now()));
        let line = text.lines().next().unwrap();
        assert!(line.starts_with("(00.00"), "{line}");
        assert_eq!(line.as_bytes()[10..12], *b") ", "{line}");
    }

    #[test]
    fn the_file_is_new_each_time_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "old").unwrap();
        std::fs::remove_file(&path).unwrap();
        let file = create(&path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "old").unwrap();
        assert_eq!(create(&path).unwrap().metadata().unwrap().len(), 0);
        create(Path::new("/dev/null")).unwrap();
    }

    #[test]
    fn targets() {
        let work = Path::new("/w");
        assert_eq!(Target::of(None, work), Target::Stderr);
        assert_eq!(Target::of(Some(Path::new("-")), work), Target::Stdout);
        assert_eq!(Target::of(Some(Path::new("l")), work), Target::File("/w/l".into()));
        assert_eq!(Target::of(Some(Path::new("/l")), work), Target::File("/l".into()));
    }
}
