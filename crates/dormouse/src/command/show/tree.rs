//! The process tree of a dump, drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dormouse_image::describe::{Descriptor, Dump, Memory, Process, State};

use crate::terminal::{Paint, bytes};

/// How many names a list may have before the rest is only counted.
const LIST: usize = 4;

/// The whole dump.
pub(super) fn render(dump: &Dump, paint: Paint) -> String {
    let mut page = Page::new(dump, paint);
    page.summary();
    for root in page.roots() {
        page.lines.push(String::new());
        page.process(root, "", "");
    }
    let mut text = page.lines.join("\n");
    text.push('\n');
    text
}

struct Page<'a> {
    dump: &'a Dump,
    paint: Paint,
    children: BTreeMap<u32, Vec<&'a Process>>,
    /// The processes that have an open file description.
    holders: BTreeMap<u32, BTreeSet<u32>>,
    drawn: BTreeSet<u32>,
    lines: Vec<String>,
}

impl<'a> Page<'a> {
    fn new(dump: &'a Dump, paint: Paint) -> Self {
        let mut children: BTreeMap<u32, Vec<&Process>> = BTreeMap::new();
        let mut holders: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for process in &dump.processes {
            children.entry(process.ppid).or_default().push(process);
            for table in tables(process) {
                for descriptor in dump.fd_tables.get(&table).into_iter().flatten() {
                    holders.entry(descriptor.file_id).or_default().insert(process.pid);
                }
            }
        }
        Self { dump, paint, children, holders, drawn: BTreeSet::new(), lines: Vec::new() }
    }

    /// Processes whose parent is not in the dump. Of a damaged dump in which
    /// each has a parent, the first.
    fn roots(&self) -> Vec<&'a Process> {
        let pids: BTreeSet<u32> = self.dump.processes.iter().map(|p| p.pid).collect();
        let roots: Vec<_> =
            self.dump.processes.iter().filter(|p| !pids.contains(&p.ppid)).collect();
        if roots.is_empty() { self.dump.processes.first().into_iter().collect() } else { roots }
    }

    fn summary(&mut self) {
        let threads = self.dump.processes.iter().map(|p| p.threads.len()).sum();
        let size = self.dump.images.iter().map(|image| image.bytes_on_disk).sum();
        self.lines.push(format!(
            "{} with {}, {} in {} on disk",
            count(self.dump.processes.len(), "process", "processes"),
            count(threads, "thread", "threads"),
            self.paint.bold(bytes(size)),
            count(self.dump.images.len(), "image", "images"),
        ));
        if let Some(uptime) = self.dump.uptime_us {
            self.lines.push(format!("dumped {} after boot", hours(Duration::from_micros(uptime))));
        }
        if let Some(parent) = &self.dump.parent {
            self.lines.push(format!("builds upon the dump in {parent}"));
        }
        if !self.dump.unknown_images.is_empty() {
            self.lines
                .push(format!("images of an unknown kind: {}", list(&self.dump.unknown_images)));
        }
    }

    fn process(&mut self, process: &'a Process, head: &str, body: &str) {
        // In a damaged dump a process may be its own ancestor.
        if !self.drawn.insert(process.pid) {
            return;
        }
        let children = self.children.get(&process.pid).cloned().unwrap_or_default();
        let own = format!("{body}{}  ", if children.is_empty() { " " } else { "│" });
        let own = self.paint.dim(&own);
        self.lines.push(format!("{}{}", self.paint.dim(head), self.title(process)));
        for fact in self.facts(process) {
            self.lines.push(format!("{own} {fact}"));
        }
        let last = children.len().saturating_sub(1);
        for (index, child) in children.into_iter().enumerate() {
            self.lines.push(self.paint.dim(format!("{body}│")));
            let (branch, below) =
                if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.process(child, &format!("{body}{branch}"), &format!("{body}{below}"));
        }
    }

    fn title(&self, process: &Process) -> String {
        let mut title =
            format!("{} {}", self.paint.bold(process.pid), self.paint.name(&process.comm));
        match process.state {
            State::Running => {}
            State::Stopped => title.push_str("  stopped"),
            State::Zombie => title.push_str("  zombie"),
            State::Unknown => title.push_str("  in an unknown state"),
        }
        if let Some(exe) = &process.exe {
            title.push_str(&format!("  {exe}"));
        }
        title
    }

    fn facts(&self, process: &Process) -> Vec<String> {
        let mut facts = Vec::new();
        let mut fact = |name: &str, text: String| {
            facts.push(format!("{} {text}", self.paint.dim(format!("{name:<8}"))));
        };
        if process.sid == process.pid {
            fact("session", "its leader".to_owned());
        } else if process.pgid == process.pid {
            fact("group", format!("its leader, in session {}", process.sid));
        }
        if process.threads.len() > 1 {
            let names: Vec<_> =
                process.threads.iter().map(|t| format!("{} {}", t.tid, t.comm)).collect();
            fact("threads", list(&names));
        }
        if let Some(memory) = &process.memory {
            fact("memory", self.memory(memory));
        }
        match self.same_table(process) {
            Some(pid) => fact("files", format!("the table of {pid}")),
            None => self.descriptors(process.pid, process.fd_table, &mut fact),
        }
        for thread in &process.threads {
            if thread.fd_table.is_some() && thread.fd_table != process.fd_table {
                fact("thread", format!("{} {} has files of its own:", thread.tid, thread.comm));
                self.descriptors(process.pid, thread.fd_table, &mut fact);
            }
        }
        facts
    }

    /// A process that was listed before and has the same table.
    fn same_table(&self, process: &Process) -> Option<u32> {
        let table = process.fd_table?;
        let first = self.dump.processes.iter().find(|p| p.fd_table == Some(table))?;
        (first.pid != process.pid).then_some(first.pid)
    }

    fn memory(&self, memory: &Memory) -> String {
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for mapping in &memory.mappings {
            let size = mapping.end.saturating_sub(mapping.start);
            let kind = kinds.entry(mapping.kind).or_default();
            *kind = kind.saturating_add(size);
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|&(_, size)| std::cmp::Reverse(size));
        let kinds: Vec<_> =
            kinds.into_iter().map(|(kind, size)| format!("{kind} {}", bytes(size))).collect();
        let pages = memory.pages;
        let mut stored = format!("{} stored", bytes(pages.here.saturating_mul(pages.page_bytes)));
        for (count, place) in [(pages.in_parent, "in the parent dump"), (pages.remote, "elsewhere")]
        {
            if count > 0 {
                stored.push_str(&format!(
                    ", {} {place}",
                    bytes(count.saturating_mul(pages.page_bytes))
                ));
            }
        }
        format!(
            "{} mapped, {}; {}",
            bytes(memory.mapped_bytes),
            self.paint.bold(stored),
            list(&kinds)
        )
    }

    /// One line for each open file description, with all of its numbers.
    fn descriptors(&self, pid: u32, table: Option<u32>, fact: &mut dyn FnMut(&str, String)) {
        let table = table.and_then(|id| self.dump.fd_tables.get(&id));
        let mut files: Vec<(Vec<String>, &Descriptor)> = Vec::new();
        for descriptor in table.into_iter().flatten() {
            let number = descriptor.fd.to_string();
            match files.iter_mut().find(|(_, d)| d.file_id == descriptor.file_id) {
                Some((numbers, _)) => numbers.push(number),
                None => files.push((vec![number], descriptor)),
            }
        }
        let kinds = files.iter().map(|(_, d)| d.kind.len()).max().unwrap_or(0);
        for (numbers, descriptor) in files {
            let kind = self.paint.dim(format!("{:kinds$}", descriptor.kind));
            let detail = descriptor.detail.strip_prefix(descriptor.kind);
            let detail = detail.map_or(&*descriptor.detail, str::trim_start);
            let others: Vec<_> = self
                .holders
                .get(&descriptor.file_id)
                .into_iter()
                .flatten()
                .filter(|&&holder| holder != pid)
                .map(u32::to_string)
                .collect();
            let shared = match others.as_slice() {
                [] => String::new(),
                others => self.paint.dim(format!("  shared with {}", list(others))),
            };
            fact(&format!("fd {}", list(&numbers)), format!("{kind} {detail}{shared}"));
        }
    }
}

fn tables(process: &Process) -> BTreeSet<u32> {
    process.threads.iter().filter_map(|t| t.fd_table).chain(process.fd_table).collect()
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The first of them, and how many more.
fn list(names: &[String]) -> String {
    match names.len().checked_sub(LIST) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..LIST].join(", ")),
    }
}

fn hours(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    match (minutes / (24 * 60), minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_image::describe::{Image, Mapping, StoredPages, Thread};

    fn process(pid: u32, ppid: u32, comm: &str) -> Process {
        Process {
            pid,
            ppid,
            pgid: 10,
            sid: 10,
            comm: comm.to_owned(),
            state: State::Running,
            exe: Some(format!("/bin/{comm}")),
            threads: vec![Thread { tid: pid, comm: comm.to_owned(), fd_table: None }],
            fd_table: Some(1),
            memory: None,
        }
    }

    fn descriptor(fd: u32, file_id: u32, kind: &'static str, detail: &str) -> Descriptor {
        Descriptor { fd, file_id, kind, cloexec: false, detail: detail.to_owned() }
    }

    fn dump() -> Dump {
        let mapping = |kind, start, end| Mapping {
            start,
            end,
            access: "rw-p".to_owned(),
            kind,
            file: None,
            offset: 0,
        };
        let mut root = process(10, 0, "shell");
        root.memory = Some(Memory {
            mapped_bytes: 0x30_0000,
            pages: StoredPages { page_bytes: 4096, here: 256, in_parent: 2, remote: 0 },
            mappings: vec![mapping("heap", 0, 0x10_0000), mapping("stack", 0x20_0000, 0x40_0000)],
        });
        let mut threaded = process(11, 10, "threaded");
        threaded.pgid = 11;
        threaded.state = State::Stopped;
        threaded.fd_table = Some(2);
        threaded.threads = (11..17)
            .map(|tid| Thread { tid, comm: format!("t{tid}"), fd_table: (tid == 13).then_some(3) })
            .collect();
        let mut zombie = process(12, 11, "zombie");
        zombie.state = State::Zombie;
        zombie.exe = None;
        zombie.fd_table = None;
        Dump {
            uptime_us: Some(3_720_000_000),
            parent: Some("../1".to_owned()),
            processes: vec![root, threaded, zombie, process(20, 10, "last")],
            fd_tables: BTreeMap::from([
                (
                    1,
                    vec![
                        descriptor(0, 1, "file", "/dev/null"),
                        descriptor(1, 2, "pipe", "pipe 7, write end"),
                        descriptor(2, 2, "pipe", "pipe 7, write end"),
                    ],
                ),
                (2, vec![descriptor(3, 1, "file", "/dev/null")]),
                (3, vec![descriptor(4, 3, "eventfd", "count 7")]),
            ]),
            images: vec![Image {
                name: "pages-1.img".to_owned(),
                bytes: 1 << 21,
                bytes_on_disk: 1 << 20,
            }],
            unknown_images: vec!["odd.img".to_owned()],
        }
    }

    #[test]
    fn a_dump_is_drawn() {
        insta::assert_snapshot!(render(&dump(), Paint::plain()));
    }

    /// Images are drawn as they are: nobody has judged them.
    #[test]
    fn a_circle_of_parents_comes_to_an_end() {
        let mut dump = dump();
        dump.processes[0].ppid = 20;
        let text = render(&dump, Paint::plain());
        assert_eq!(text.matches("/bin/shell").count(), 1, "{text}");
        assert_eq!(text.matches("/bin/last").count(), 1, "{text}");
        dump.processes.clear();
        assert!(render(&dump, Paint::plain()).starts_with("0 processes"));
    }
}
