//! One case, run by everybody in turn.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dormouse_image::proto::stats::StatsEntry;
use dormouse_image::{ImageDir, ImageName};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::case::Case;
use crate::command::{self, Counts};
use crate::figures::{Bare, Figures, Row, Sample, median, ms};
use crate::{BenchError, io};

/// What is measured with what.
pub(crate) struct Bench {
    pub(crate) dormouse: PathBuf,
    pub(crate) scenario: PathBuf,
    pub(crate) criu: Option<PathBuf>,
    pub(crate) dir: PathBuf,
    pub(crate) runs: u32,
}

/// Why a run gave no sample.
#[derive(thiserror::Error, Debug)]
enum RunError {
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
    #[error("{command} failed: {said}")]
    Command { command: &'static str, said: String },
    #[error("the workload {0}")]
    Workload(String),
    #[error("its figures cannot be read: {0}")]
    Stats(#[from] dormouse_image::ImageError),
}

fn doing(doing: &'static str) -> impl Fn(std::io::Error) -> RunError {
    move |source| RunError::Io { doing, source }
}

/// How long a workload may take to set up or to check itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// A command slower than this is not run again.
const SLOW: Duration = Duration::from_secs(20);

/// What one checkpointer has come to.
struct Contender<'a> {
    program: &'a Path,
    samples: Vec<Sample>,
    failed: Option<String>,
}

impl<'a> Contender<'a> {
    fn new(program: &'a Path) -> Self {
        Self { program, samples: Vec::new(), failed: None }
    }

    fn is_done(&self) -> bool {
        let slow = self.samples.iter().any(|sample| sample.dump + sample.restore > SLOW);
        slow || self.failed.is_some()
    }

    fn figures(self) -> Result<Figures, String> {
        match (self.failed, Figures::of(&self.samples)) {
            (Some(reason), _) => Err(reason),
            (None, Some(figures)) => Ok(figures),
            (None, None) => Err("never run".to_owned()),
        }
    }
}

impl Bench {
    /// Runs one case, everybody in turn.
    pub(crate) fn measure(&self, case: &'static Case) -> Result<Row, BenchError> {
        let mut dormouse = Contender::new(&self.dormouse);
        let mut criu = self.criu.as_deref().map(Contender::new);
        let mut limits = Vec::new();
        for run in 0..self.runs {
            // Everybody is first as often: what one frees is at hand for the next.
            for turn in run..run + 3 {
                let contender = match turn % 3 {
                    0 => Some(&mut dormouse),
                    1 => criu.as_mut(),
                    _ => {
                        limits.extend(self.in_directory(|dir| self.limit(case, dir))?);
                        continue;
                    }
                };
                let Some(contender) = contender.filter(|contender| !contender.is_done()) else {
                    continue;
                };
                match self.in_directory(|dir| self.sample(contender.program, case, dir))? {
                    Ok(sample) => contender.samples.push(sample),
                    Err(error) => contender.failed = Some(error.to_string()),
                }
            }
        }
        let mut figures = dormouse.figures();
        if let Ok(figures) = &mut figures
            && let Ok(counts) = self.in_directory(|dir| self.counts(case, dir))?
        {
            (figures.dump_counts, figures.restore_counts) = counts;
        }
        let limit = median(limits.iter().map(|limit| limit.restore_ms)).map(|restore_ms| Bare {
            dump_ms: median(limits.iter().filter_map(|limit| limit.dump_ms)),
            restore_ms,
        });
        let criu = criu.map(Contender::figures);
        Ok(Row { case, name: case.name(), dormouse: figures, criu, limit })
    }

    /// Gives `run` an empty directory, and ends afterwards whatever it left.
    fn in_directory<T>(&self, run: impl FnOnce(&Path) -> T) -> Result<T, BenchError> {
        let dir = tempfile::Builder::new().prefix("dormouse-bench-").tempdir_in(&self.dir);
        let dir = dir.map_err(io("make a directory for a run"))?;
        let result = run(dir.path());
        end_all().map_err(io("end what a run left"))?;
        Ok(result)
    }

    fn sample(&self, program: &Path, case: &Case, dir: &Path) -> Result<Sample, RunError> {
        let target = Target::start(&self.scenario, case, dir)?;
        let images = target.images.to_string_lossy();
        let pid = target.pid.to_string();
        self.warm(case.copied()).map_err(doing("touch memory"))?;
        let dumped = target.command("dump", program, &["dump", "-t", &pid, "-D", &images])?;
        let stats: StatsEntry = ImageDir::open(&target.images)?.0.get_one(ImageName::StatsDump)?;
        let still = stats.dump.map_or(0, |dump| dump.frozen_time);
        let image = target.image_bytes().map_err(doing("measure the images"))?;
        target.await_end();
        let restored = target.command("restore", program, &["restore", "-d", "-D", &images])?;
        target.judge()?;
        Ok(Sample {
            dump: dumped.time,
            restore: restored.time,
            still: Duration::from_micros(still.into()),
            peak: (dumped.peak, restored.peak),
            image,
        })
    }

    /// Writes so many bytes and removes them again: memory that a virtual machine
    /// has not used of late comes from its host, page by page, and whoever is the
    /// first to need it would pay for it.
    fn warm(&self, bytes: u64) -> std::io::Result<()> {
        let mut file = tempfile::tempfile_in(&self.dir)?;
        std::io::copy(&mut std::io::repeat(0).take(bytes), &mut file).map(drop)
    }

    /// A run of dormouse that is counted and not timed.
    #[allow(clippy::type_complexity, reason = "two of the same, dump and restore")]
    fn counts(
        &self,
        case: &Case,
        dir: &Path,
    ) -> Result<(Option<Counts>, Option<Counts>), RunError> {
        let target = Target::start(&self.scenario, case, dir)?;
        let images = target.images.to_string_lossy();
        let (pid, output) = (target.pid.to_string(), dir.join("counted"));
        let dump = ["dump", "-t", &pid, "-D", &images];
        let dump = command::counted(&self.dormouse, &dump, &output);
        if dump.is_none() {
            return Ok((None, None));
        }
        target.await_end();
        let restore = ["restore", "-d", "-D", &images];
        Ok((dump, command::counted(&self.dormouse, &restore, &output)))
    }

    fn limit(&self, case: &Case, dir: &Path) -> Option<Bare> {
        // It has what it copies, and the copy.
        self.warm(2 * case.copied()).ok()?;
        let size = case.size.to_string();
        let mut command = Command::new(&self.scenario);
        command.args(["--limit", case.workload, &size]).arg(dir);
        let said = command.output().ok().filter(|output| output.status.success())?.stdout;
        let said = String::from_utf8(said).ok()?;
        let (dump, restore) = said.trim().split_once(' ')?;
        let time =
            |micros: &str| micros.parse().ok().map(|micros| ms(Duration::from_micros(micros)));
        Some(Bare { dump_ms: time(dump), restore_ms: time(restore)? })
    }
}

/// A workload that runs.
struct Target {
    pid: u32,
    state: PathBuf,
    images: PathBuf,
}

impl Target {
    fn start(scenario: &Path, case: &Case, dir: &Path) -> Result<Self, RunError> {
        let (state, images) = (dir.join("state"), dir.join("images"));
        for dir in [&state, &images] {
            fs::create_dir(dir).map_err(doing("create a directory"))?;
        }
        let file = |name| File::create(state.join(name)).map_err(doing("create a file"));
        let child = Command::new(scenario)
            .args(["--workload", case.workload, &case.size.to_string()])
            .arg(&state)
            .current_dir(&state)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(file("out")?)
            .stderr(file("err")?)
            .spawn()
            .map_err(doing("start the workload"))?;
        let target = Self { pid: child.id(), state, images };
        target.until("did not get ready", || target.state.join("ready").exists())?;
        Ok(target)
    }

    fn command(
        &self,
        name: &'static str,
        program: &Path,
        args: &[&str],
    ) -> Result<command::Taken, RunError> {
        let output = self.images.with_file_name(name);
        let taken = command::run(Command::new(program).args(args), &output).map_err(doing(name))?;
        if taken.status.success() {
            return Ok(taken);
        }
        let said = fs::read(output).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let telling = said.lines().find(|line| line.to_lowercase().contains("error"));
        let said = telling.map_or_else(|| taken.status.to_string(), |line| line.trim().to_owned());
        Err(RunError::Command { command: name, said })
    }

    /// Bytes on disk, holes left out.
    fn image_bytes(&self) -> std::io::Result<u64> {
        bytes_below(&self.images)
    }

    /// Waits until the dumped tree is gone.
    fn await_end(&self) {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::empty()) {}
    }

    /// Has the restored workload check itself.
    fn judge(&self) -> Result<(), RunError> {
        fs::write(self.state.join("go"), "0").map_err(doing("say go"))?;
        let verdict = self.state.join("verdict");
        self.until("gave no verdict", || verdict.exists())?;
        match fs::read_to_string(&verdict).map_err(doing("read the verdict"))?.trim() {
            "ok" => Ok(()),
            wrong => Err(RunError::Workload(format!("found {wrong}"))),
        }
    }

    fn until(&self, wrong: &str, mut holds: impl FnMut() -> bool) -> Result<(), RunError> {
        let began = Instant::now();
        while !holds() {
            let gone = !Path::new(&format!("/proc/{}", self.pid)).exists();
            if began.elapsed() > PATIENCE || gone && !holds() {
                return Err(RunError::Workload(wrong.to_owned()));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Shared pages are in a directory of their own.
fn bytes_below(dir: &Path) -> std::io::Result<u64> {
    fs::read_dir(dir)?.try_fold(0, |sum, entry| {
        let entry = entry?;
        let found = entry.metadata()?;
        let within = if found.is_dir() { bytes_below(&entry.path())? } else { 0 };
        Ok(sum + found.blocks() * 512 + within)
    })
}

/// Kills every other process of this pid namespace, and waits for them.
fn end_all() -> std::io::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|pid| *pid != rustix::process::getpid()) {
            // It may have ended by itself just now.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::empty()) {}
    Ok(())
}
