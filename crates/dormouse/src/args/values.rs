//! Values of options, as they are written.

use std::num::IntErrorKind;
use std::time::Duration;

use dormouse_engine::CpuChecks;
use dormouse_kernel::{FdNum, HostPid};

/// Why a value is not one.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ValueError {
    /// Not a number above zero.
    #[error("a process id is a number from 1 up")]
    Pid,
    /// Not digits with an optional K, M or G.
    #[error("a size is a number, with K, M or G behind it for units of 2^10, 2^20, 2^30 bytes")]
    Size,
    /// Not a kind of resource that can be left out of a dump.
    #[error(
        "only file[MOUNT:INODE] and tty[RDEV:DEV], in hexadecimal, and unix[INODE] can be external"
    )]
    External,
    /// Not a descriptor with a key.
    #[error("a file is handed over as fd[NUMBER]:KEY")]
    Inherit,
    /// Not names of checks.
    #[error(
        "what is checked of a processor is a list of fpu, ins, cpu, all and none, each with ^ to leave it out"
    )]
    CpuCap,
    /// More than 64 bits.
    #[error("the number is too large")]
    TooLarge,
}

/// A process id.
pub(crate) fn pid(text: &str) -> Result<HostPid, ValueError> {
    text.parse().ok().and_then(HostPid::from_raw).ok_or(ValueError::Pid)
}

/// A file that is left out of a dump. Numbers are written as the kernel prints
/// them: without zeros before them, and in lower case. What sockets are called is
/// judged where they are looked for.
pub(crate) fn external(text: &str) -> Result<String, ValueError> {
    if text.starts_with("unix[") {
        return Ok(text.to_owned());
    }
    let numbers = ["file[", "tty["].iter().find_map(|kind| text.strip_prefix(kind));
    let numbers = numbers.and_then(|rest| rest.strip_suffix(']')?.split_once(':'));
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let (one, two) = numbers.ok_or(ValueError::External)?;
    match (text.split_once('['), number(one), number(two)) {
        (Some((kind, _)), Some(one), Some(two)) => Ok(format!("{kind}[{one:x}:{two:x}]")),
        _ => Err(ValueError::External),
    }
}

/// A descriptor, and the file that it stands for.
pub(crate) fn inherit(text: &str) -> Result<(FdNum, String), ValueError> {
    let parts = text.strip_prefix("fd[").and_then(|rest| rest.split_once("]:"));
    let (number, key) = parts.filter(|(_, key)| !key.is_empty()).ok_or(ValueError::Inherit)?;
    let number = number.parse().map_err(|_| ValueError::Inherit)?;
    Ok((FdNum::from_raw(number), key.to_owned()))
}

/// What of a processor is checked. The list begins with what is without one, as in CRIU.
pub(crate) fn cpu_cap(list: &str) -> Result<CpuChecks, ValueError> {
    let mut checks = CpuChecks::default();
    for word in list.split(',') {
        let (name, is_on) = match word.strip_prefix('^') {
            Some(name) => (name, false),
            None => (word, true),
        };
        match name {
            "fpu" => checks.fpu = is_on,
            "ins" => checks.instructions = is_on,
            "cpu" => checks.identical = is_on,
            "all" | "none" => {
                checks = if (name == "all") == is_on { CpuChecks::ALL } else { CpuChecks::NONE };
            }
            _ => return Err(ValueError::CpuCap),
        }
    }
    Ok(checks)
}

/// A size in bytes; `K`, `M` and `G` are binary units, as in CRIU.
pub(crate) fn size(text: &str) -> Result<u64, ValueError> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|e: std::num::ParseIntError| match e.kind() {
        IntErrorKind::PosOverflow => ValueError::TooLarge,
        _ => ValueError::Size,
    })?;
    number.checked_mul(unit).ok_or(ValueError::TooLarge)
}

/// 136 years: as good as no limit, and a moment that the clock can tell.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A number of seconds; 0 means that there is no limit, as in CRIU.
pub(crate) fn timeout(text: &str) -> Result<Duration, std::num::ParseIntError> {
    Ok(match text.parse()? {
        0 => FOR_EVER,
        seconds => Duration::from_secs(seconds).min(FOR_EVER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_positive() {
        assert_eq!(pid("66").unwrap().as_raw(), 66);
        for bad in ["0", "-1", "", "x", "6x", "4294967296"] {
            assert_eq!(pid(bad), Err(ValueError::Pid), "{bad:?}");
        }
    }

    #[test]
    fn files_are_handed_over_by_number() {
        assert_eq!(inherit("fd[3]:a/b:c"), Ok((FdNum::from_raw(3), "a/b:c".to_owned())));
        for bad in ["fd[3]:", "fd[]:x", "fd[-1]:x", "3:x", "fd[3]x"] {
            assert_eq!(inherit(bad), Err(ValueError::Inherit), "{bad:?}");
        }
    }

    #[test]
    fn external_files_are_numbers() {
        assert_eq!(external("file[1A:03f]"), Ok("file[1a:3f]".to_owned()));
        assert_eq!(external("tty[8803:1c]"), Ok("tty[8803:1c]".to_owned()));
        for bad in ["file[1]", "mnt[x]:y", "tty[8803:1c", "file[x:y]", ""] {
            assert_eq!(external(bad), Err(ValueError::External), "{bad:?}");
        }
    }

    #[test]
    fn checks_of_processors_are_added_and_taken_away() {
        let CpuChecks { fpu, instructions, identical } = CpuChecks::default();
        assert_eq!((fpu, instructions, identical), (true, true, false));
        assert_eq!(cpu_cap("cpu"), Ok(CpuChecks::ALL));
        assert_eq!(cpu_cap("all"), Ok(CpuChecks::ALL));
        assert_eq!(cpu_cap("^none"), Ok(CpuChecks::ALL));
        assert_eq!(cpu_cap("none"), Ok(CpuChecks::NONE));
        assert_eq!(cpu_cap("fpu,^all"), Ok(CpuChecks::NONE));
        assert_eq!(cpu_cap("none,ins"), Ok(CpuChecks { instructions: true, ..CpuChecks::NONE }));
        assert_eq!(cpu_cap("^fpu"), Ok(CpuChecks { fpu: false, ..CpuChecks::default() }));
        for bad in ["", "fpuins", "fpu,", "x"] {
            assert_eq!(cpu_cap(bad), Err(ValueError::CpuCap), "{bad:?}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("8"), Ok(8));
        assert_eq!(size("8K"), Ok(8 << 10));
        assert_eq!(size("8M"), Ok(8 << 20));
        assert_eq!(size("1G"), Ok(1 << 30));
        for bad in ["", "K", "-1", "1T", "1KB", "é"] {
            assert_eq!(size(bad), Err(ValueError::Size), "{bad:?}");
        }
        assert_eq!(size("17179869184G"), Err(ValueError::TooLarge));
        assert_eq!(size("99999999999999999999"), Err(ValueError::TooLarge));
    }

    #[test]
    fn no_seconds_are_no_limit() {
        assert_eq!(timeout("10"), Ok(Duration::from_secs(10)));
        for endless in ["0", "18446744073709551615"] {
            let limit = timeout(endless).expect("it is a number");
            assert_eq!(limit, FOR_EVER);
            assert!(std::time::Instant::now().checked_add(limit).is_some(), "{endless}");
        }
        assert!(timeout("-1").is_err());
    }
}
