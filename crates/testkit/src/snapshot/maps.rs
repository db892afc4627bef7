//! Memory maps: `/proc/PID/smaps` without the numbers that paging changes.

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    start: u64,
    end: u64,
    /// `rw-p` and the like.
    protection: String,
    offset: u64,
    name: String,
    /// `VmFlags` that userspace sets or sees.
    flags: String,
}

/// `VmFlags` that tell of paging, not of the program's wishes
/// (`fs/proc/task_mmu.c`): soft-dirty, and "accountable", which `mprotect`
/// history decides.
const PASSING: [&str; 2] = ["sd", "ac"];

/// Reads `smaps`; `None` if it is not what `proc_pid_smaps(5)` says.
pub(super) fn parse(text: &str) -> Option<Vec<Mapping>> {
    let mut maps: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let (head, rest) = line.split_once(' ')?;
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let kept: Vec<&str> =
                flags.split_whitespace().filter(|f| !PASSING.contains(f)).collect();
            maps.last_mut()?.flags = kept.join(" ");
        } else if !head.ends_with(':') {
            let (start, end) = head.split_once('-')?;
            let mut words = rest.splitn(5, ' ');
            let protection = words.next()?.to_owned();
            let offset = u64::from_str_radix(words.next()?, 16).ok()?;
            let name = words.nth(2).unwrap_or("").trim_start().to_owned();
            maps.push(Mapping {
                start: u64::from_str_radix(start, 16).ok()?,
                end: u64::from_str_radix(end, 16).ok()?,
                protection,
                offset,
                name,
                flags: String::new(),
            });
        }
    }
    Some(merged(maps))
}

/// Joins neighbours the kernel could have kept as one: whether it did is its
/// own history (`anon_vma`s), not the program's state.
fn merged(maps: Vec<Mapping>) -> Vec<Mapping> {
    let mut joined: Vec<Mapping> = Vec::new();
    for next in maps {
        match joined.last_mut() {
            Some(last) if last.continues_in(&next) => last.end = next.end,
            _ => joined.push(next),
        }
    }
    joined
}

impl Mapping {
    fn continues_in(&self, next: &Self) -> bool {
        let of_file = self.name.starts_with('/');
        let offset = if of_file { self.offset + (self.end - self.start) } else { self.offset };
        self.end == next.start
            && self.protection == next.protection
            && self.name == next.name
            && self.flags == next.flags
            && offset == next.offset
    }

    /// `START-END`, as in `/proc/PID/maps`.
    pub(super) fn key(&self) -> String {
        format!("{:x}-{:x}", self.start, self.end)
    }

    /// Everything else about it.
    pub(super) fn value(&self, name: &str) -> String {
        format!("{} {:x} {name} [{}]", self.protection, self.offset, self.flags)
    }

    /// What maps calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
559b20cc0000-559b20cc3000 r--p 00001000 fe:00 247749                     /usr/bin/a b
Size:                 12 kB
ProtectionKey:         0
VmFlags: rd mr mw me sd 
7f0000000000-7f0000001000 rw-p 00000000 00:00 0 
VmFlags: rd wr mr mw me ac 
7f0000001000-7f0000002000 rw-p 00000000 00:00 0 
VmFlags: rd wr mr mw me ac 
7f0000002000-7f0000003000 rw-p 00000000 00:00 0 
VmFlags: rd wr mr mw me dd 
";

    #[test]
    fn names_offsets_and_flags_are_read_and_neighbours_joined() {
        let maps = parse(SMAPS).unwrap();
        let seen: Vec<String> =
            maps.iter().map(|m| format!("{} {}", m.key(), m.value(m.name()))).collect();
        assert_eq!(
            seen,
            [
                "559b20cc0000-559b20cc3000 r--p 1000 /usr/bin/a b [rd mr mw me]",
                "7f0000000000-7f0000002000 rw-p 0  [rd wr mr mw me]",
                "7f0000002000-7f0000003000 rw-p 0  [rd wr mr mw me dd]",
            ]
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(parse("VmFlags: rd"), None);
        assert_eq!(parse("hello"), None);
    }
}
