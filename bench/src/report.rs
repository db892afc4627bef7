//! Figures for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::case::{Bar, Case};
use crate::figures::{Bare, Figures, Row};
use crate::{BenchError, io, plot};

const HEADER: &str = "\
| workload | dump | CRIU | ratio | restore | CRIU | ratio | bare work | stands still | CRIU | peak memory | images | calls, waits (dump) | calls, waits (restore) | bar |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

const INTRODUCTION: &str = "\
# What dumps and restores cost

Made by `cargo run --release -p dormouse-bench -- --criu PATH --write`. Every workload (`scenarios/src/workloads`) is
started in a pid namespace, dumped, restored, and then checks its whole state; dormouse, CRIU and the bare work take
turns within one run, each first as often, with images on tmpfs. Times are those of whole commands, in milliseconds, and
medians. Absolute times differ from machine to machine and from hour to hour: the ratios are what counts.

* *bare work*: what no dump (first figure) and no restore (second) can do without: one copy of the memory into a file on
  tmpfs and one back by one thread; `fork`, `pthread_create`, `EPOLL_CTL_ADD` as often as the workload has them.
* *stands still*: from the first task stopped until all go on, as `stats-dump` tells.
* *peak memory*: resident memory of dormouse's dump and restore. Pages of image files it maps count, too.
* *calls, waits*: system calls that the command, its threads and its puppets made, and how often it waited for a
  stopped task, by `perf stat`.
* *bar*: what was to be reached for dump and restore, as a part of CRIU's time or a multiple of the bare work, and
  whether it was.

";

/// A row in one line, as it is measured.
pub(crate) fn line(row: &Row) -> String {
    let one = |figures: &Result<Figures, String>| match figures {
        Ok(it) => format!("{:.1} / {:.1} ms", it.dump_ms, it.restore_ms),
        Err(reason) => format!("failed ({reason})"),
    };
    let criu = row.criu.as_ref().map_or_else(String::new, |criu| format!(", CRIU {}", one(criu)));
    format!("{}: {}{criu}", row.name, one(&row.dormouse))
}

/// All rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = HEADER.to_owned();
    for row in rows {
        let own = row.dormouse.as_ref().ok();
        let criu = row.criu.as_ref().and_then(|criu| criu.as_ref().ok());
        let time = |of: Option<&Figures>, get: fn(&Figures) -> f64| match of {
            Some(figures) => format!("{:.1}", get(figures)),
            None => "fails".to_owned(),
        };
        let others = |get| if row.criu.is_some() { time(criu, get) } else { "-".to_owned() };
        let ratio = |get: fn(&Figures) -> f64| match (own, criu) {
            (Some(own), Some(criu)) => format!("{:.2}", get(own) / get(criu)),
            _ => "-".to_owned(),
        };
        let (dump, restore) = (|of: &Figures| of.dump_ms, |of: &Figures| of.restore_ms);
        let still = |of: &Figures| of.still_ms;
        let bare = row.limit.map_or_else(
            || "-".to_owned(),
            |Bare { dump_ms, restore_ms }| {
                let dump = dump_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
                format!("{dump}, {restore_ms:.1}")
            },
        );
        let counts = |get: fn(&Figures) -> Option<crate::command::Counts>| {
            let counts = own.and_then(get);
            counts.map_or_else(|| "-".to_owned(), |it| format!("{}, {}", it.syscalls, it.waits))
        };
        let peak = own.map_or_else(
            || "-".to_owned(),
            |it| format!("{}, {}", mib(it.peak_dump_bytes), mib(it.peak_restore_bytes)),
        );
        let cells = [
            row.name.clone(),
            time(own, dump),
            others(dump),
            ratio(dump),
            time(own, restore),
            others(restore),
            ratio(restore),
            bare,
            time(own, still),
            others(still),
            peak,
            own.map_or_else(|| "-".to_owned(), |it| mib(it.image_bytes)),
            counts(|of| of.dump_counts),
            counts(|of| of.restore_counts),
            bar(row),
        ];
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {} |", cells.join(" | "));
    }
    table
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What was to be reached, and whether it was; `?` where that cannot be told.
fn bar(row: &Row) -> String {
    let own = row.dormouse.as_ref().ok();
    let criu = row.criu.as_ref().and_then(|criu| criu.as_ref().ok());
    let judge = |bar: f64, of: &str, own: Option<f64>, other: Option<f64>| {
        let verdict = match (own, other) {
            (Some(own), Some(other)) if own <= bar * other => "met",
            (Some(_), Some(_)) => "missed",
            (Some(_), None) if row.criu.is_some() && of == "CRIU" => "met: CRIU fails",
            _ => "?",
        };
        format!("{bar} x {of}: {verdict}")
    };
    let (dump, restore) = (own.map(|own| own.dump_ms), own.map(|own| own.restore_ms));
    let by_criu = |dump_bar, restore_bar| {
        (
            judge(dump_bar, "CRIU", dump, criu.map(|criu| criu.dump_ms)),
            judge(restore_bar, "CRIU", restore, criu.map(|criu| criu.restore_ms)),
        )
    };
    let (dump, restore) = match row.case.bar {
        Bar::Ahead => by_criu(1.0, 1.0),
        Bar::OfCriu(dump_bar, restore_bar) => by_criu(dump_bar, restore_bar),
        Bar::OfLimit(dump_bar, restore_bar) => (
            judge(dump_bar, "bare", dump, row.limit.and_then(|bare| bare.dump_ms)),
            judge(restore_bar, "bare", restore, row.limit.map(|bare| bare.restore_ms)),
        ),
    };
    format!("{dump}, {restore}")
}

/// How times grow between the sizes of every workload that has several: the
/// exponents of dump and restore.
fn growth(rows: &[Row]) -> String {
    let mut table = "| workload | from | to | dump | restore |\n|---|---|---|---|---|\n".to_owned();
    for (small, large) in rows.iter().zip(rows.iter().skip(1)) {
        let Case { workload, size: from, .. } = small.case;
        let Case { workload: other, size: to, .. } = large.case;
        let (true, Ok(small), Ok(large)) = (workload == other, &small.dormouse, &large.dormouse)
        else {
            continue;
        };
        let exponent =
            |from_ms: f64, to_ms: f64| (to_ms / from_ms).ln() / (*to as f64 / *from as f64).ln();
        let dump = exponent(small.dump_ms, large.dump_ms);
        let restore = exponent(small.restore_ms, large.restore_ms);
        let _ = writeln!(table, "| {workload} | {from} | {to} | {dump:.2} | {restore:.2} |");
    }
    table
}

/// Writes `docs/performance.md`, `docs/performance.json` and the plots.
pub(crate) fn write(rows: &[Row], runs: u32) -> Result<(), BenchError> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let plots = docs.join("performance");
    fs::create_dir_all(&plots).map_err(io("make the directory of the plots"))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_err(io("read the kernel's release"))?;
    let release = kernel.split('-').next().unwrap_or_default().trim().to_owned();
    let processors = std::thread::available_parallelism().map_err(io("count processors"))?;
    let mut text = format!(
        "{INTRODUCTION}This table: Linux {release}, {processors} processors, {runs} runs.\n\n{}\n\
         ## Growth\n\nThe exponent of time over size; 1 is linear.\n\n{}\n",
        table(rows),
        growth(rows)
    );
    for name in plot::draw_all(rows, &plots)? {
        let _ = writeln!(text, "![{name}](performance/{name}.svg)");
    }
    fs::write(docs.join("performance.md"), text).map_err(io("write the report"))?;
    let json =
        serde_json::to_vec_pretty(rows).map_err(|error| io("write the figures")(error.into()))?;
    fs::write(docs.join("performance.json"), json).map_err(io("write the figures"))
}
