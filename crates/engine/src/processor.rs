//! The processor of a dump (`cpuinfo.img`), and whether another will do for its program (`--cpu-cap`).
//!
//! Features are told as `cpuid` does, by words of bits. Which stands where in the image is CRIU's choice
//! (`capability_ver` 2), as are two words that no processor tells of. Names are those of `/proc/cpuinfo`
//! (`arch/x86/include/asm/cpufeatures.h` in the kernel).

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::Path;

use dormouse_image::proto::cpuinfo::{CpuVendor, CpuinfoEntry, CpuinfoX86Entry};
use dormouse_image::{ImageError, ImageName, framing};
use raw_cpuid::CpuIdResult;
use raw_cpuid::native_cpuid::cpuid_count;
use rustix::fs::Mode;

use crate::cause::{At, Cause};
use crate::late_file::LateFile;
use crate::{Error, Phase};

/// What of a processor is compared with that of the dump (`--cpu-cap`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuChecks {
    /// That it has the registers, and stores them in as many bytes.
    pub fpu: bool,
    /// That it has all instructions for programs.
    pub instructions: bool,
    /// That it tells of the very same features.
    pub identical: bool,
}

impl CpuChecks {
    /// Nothing.
    pub const NONE: Self = Self { fpu: false, instructions: false, identical: false };
    /// Everything.
    pub const ALL: Self = Self { fpu: true, instructions: true, identical: true };
}

impl Default for CpuChecks {
    /// That a program can run.
    fn default() -> Self {
        Self { identical: false, ..Self::ALL }
    }
}

/// Why a processor will not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    /// Programs may use what it does not have.
    #[error("this processor lacks {0}, which that of the dump has")]
    Lacks(Features),
    /// Its registers take another number of bytes, which libraries remember.
    #[error("this processor stores its registers in {here} bytes, that of the dump in {there}")]
    Size {
        /// On this one.
        here: u32,
        /// On that of the dump.
        there: u32,
    },
    /// They have not the very same features.
    #[error("this processor differs from that of the dump in {0}")]
    Differs(Features),
}

/// Features, by their places in the image: word times 32 and bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Features(BTreeSet<u32>);

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, &feature) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let place = (feature / 32, feature % 32);
            let named =
                REGISTERS.iter().chain(INSTRUCTIONS).find(|known| (known.0, known.1) == place);
            match (named, feature.checked_sub(STATES)) {
                (Some((.., name)), _) => write!(f, "{separator}{name}")?,
                (None, Some(state)) => write!(f, "{separator}register set {state}")?,
                (None, None) => write!(f, "{separator}feature {}:{}", place.0, place.1)?,
            }
        }
        Ok(())
    }
}

/// The words of an image.
const WORDS: usize = 19;
/// Those that the first version had.
const WORDS_OF_OLD: usize = 12;
/// Behind all features: register sets, by their bit in XCR0.
const STATES: u32 = 32 * WORDS as u32;

/// What `cpuid` tells a word by: leaf, sub-leaf, and which register.
type Source = (u32, u32, fn(CpuIdResult) -> u32);

const EAX: fn(CpuIdResult) -> u32 = |result| result.eax;
const EBX: fn(CpuIdResult) -> u32 = |result| result.ebx;
const ECX: fn(CpuIdResult) -> u32 = |result| result.ecx;
const EDX: fn(CpuIdResult) -> u32 = |result| result.edx;

const SOURCES: [Option<Source>; WORDS] = [
    Some((1, 0, EDX)),
    Some((0x8000_0001, 0, EDX)),
    None,
    None,
    Some((1, 0, ECX)),
    None,
    Some((0x8000_0001, 0, ECX)),
    None,
    None,
    Some((7, 0, EBX)),
    Some((0xd, 1, EAX)),
    Some((7, 0, ECX)),
    Some((0xf, 1, EDX)),
    Some((0x8000_0008, 0, EBX)),
    Some((6, 0, EAX)),
    Some((0x8000_000a, 0, EDX)),
    Some((0xf, 0, EDX)),
    Some((0x8000_0007, 0, EBX)),
    Some((7, 0, EDX)),
];

/// The word of what Linux finds out: that there are `nopl` and `cpuid` itself, and that `rep` is good.
const OF_LINUX: usize = 3;
const NOPL_AND_CPUID: u32 = 1 << 20 | 1 << 25;
const REP_GOOD: u32 = 1 << 16;

/// What registers are stored and loaded with.
#[rustfmt::skip]
const REGISTERS: &[(u32, u32, &str)] = &[
    (0, 0, "fpu"), (0, 24, "fxsr"), (4, 27, "osxsave"), (10, 3, "xsaves"),
];

/// Instructions that programs may use.
#[rustfmt::skip]
const INSTRUCTIONS: &[(u32, u32, &str)] = &[
    (0, 0, "fpu"), (0, 4, "tsc"), (0, 8, "cx8"), (0, 11, "sep"), (0, 15, "cmov"), (0, 19, "clflush"),
    (0, 23, "mmx"), (0, 24, "fxsr"), (0, 25, "sse"), (0, 26, "sse2"),
    (1, 11, "syscall"), (1, 22, "mmxext"), (1, 27, "rdtscp"), (1, 30, "3dnowext"), (1, 31, "3dnow"),
    (3, 20, "nopl"),
    (4, 0, "pni"), (4, 1, "pclmulqdq"), (4, 9, "ssse3"), (4, 12, "fma"), (4, 13, "cx16"), (4, 19, "sse4_1"),
    (4, 20, "sse4_2"), (4, 22, "movbe"), (4, 23, "popcnt"), (4, 25, "aes"), (4, 26, "xsave"),
    (4, 27, "osxsave"), (4, 28, "avx"), (4, 29, "f16c"), (4, 30, "rdrand"),
    (6, 0, "lahf_lm"), (6, 5, "abm"), (6, 6, "sse4a"), (6, 7, "misalignsse"), (6, 8, "3dnowprefetch"),
    (6, 11, "xop"), (6, 16, "fma4"), (6, 21, "tbm"), (6, 29, "mwaitx"),
    (9, 0, "fsgsbase"), (9, 3, "bmi1"), (9, 4, "hle"), (9, 5, "avx2"), (9, 8, "bmi2"), (9, 9, "erms"),
    (9, 11, "rtm"), (9, 14, "mpx"), (9, 16, "avx512f"), (9, 17, "avx512dq"), (9, 18, "rdseed"), (9, 19, "adx"),
    (9, 21, "avx512ifma"), (9, 23, "clflushopt"), (9, 24, "clwb"), (9, 26, "avx512pf"), (9, 27, "avx512er"),
    (9, 28, "avx512cd"), (9, 29, "sha_ni"), (9, 30, "avx512bw"), (9, 31, "avx512vl"),
    (10, 0, "xsaveopt"), (10, 1, "xsavec"), (10, 2, "xgetbv1"),
    (11, 1, "avx512vbmi"), (11, 3, "pku"), (11, 5, "waitpkg"), (11, 6, "avx512_vbmi2"), (11, 8, "gfni"),
    (11, 9, "vaes"), (11, 10, "vpclmulqdq"), (11, 11, "avx512_vnni"), (11, 12, "avx512_bitalg"),
    (11, 14, "avx512_vpopcntdq"), (11, 22, "rdpid"), (11, 25, "cldemote"), (11, 27, "movdiri"),
    (11, 28, "movdir64b"), (11, 29, "enqcmd"),
    (13, 0, "clzero"), (13, 4, "rdpru"),
    (18, 2, "avx512_4vnniw"), (18, 3, "avx512_4fmaps"), (18, 8, "avx512_vp2intersect"), (18, 14, "serialize"),
    (18, 16, "tsxldtrk"), (18, 22, "amx_bf16"), (18, 23, "avx512_fp16"), (18, 24, "amx_tile"),
    (18, 25, "amx_int8"),
];

/// Register sets that programs have by themselves, and the feature, by word and bit, that each comes with.
/// CRIU's images tell of no others: neither of SSE, which all of these processors have, nor of AMX.
const REGISTER_SETS: [(u32, (usize, u32)); 7] = [
    (0, (0, 0)),
    (2, (4, 28)),
    (4, (9, 14)),
    (5, (9, 16)),
    (6, (9, 16)),
    (7, (9, 16)),
    (9, (11, 3)),
];

/// `cpuid`, of leaves that there are.
fn ask(leaf: u32, part: u32) -> CpuIdResult {
    let last = cpuid_count(leaf & 0x8000_0000, 0).eax;
    if last & 0x8000_0000 == leaf & 0x8000_0000 && leaf <= last {
        return cpuid_count(leaf, part);
    }
    CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 }
}

/// So many registers as the bytes of a text.
fn text(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The processor that this thread runs on.
fn this_one() -> CpuinfoX86Entry {
    const MONITORING: usize = 12;
    const OF_CACHES: (usize, u32) = (16, 1);
    let CpuIdResult { ebx, ecx, edx, .. } = cpuid_count(0, 0);
    let vendor = match &text(&[ebx, edx, ecx])[..] {
        b"GenuineIntel" => CpuVendor::Intel,
        b"AuthenticAMD" | b"HygonGenuine" => CpuVendor::Amd,
        _ => CpuVendor::Unknown,
    };
    let version = ask(1, 0).eax;
    let nibble = |at: u32| version >> at & 0xf;
    let family = match nibble(8) {
        0xf => 0xf + (version >> 20 & 0xff),
        family => family,
    };
    let model = nibble(4) + if family >= 6 { nibble(16) << 4 } else { 0 };

    let word = |source: Option<Source>| source.map_or(0, |(leaf, part, of)| of(ask(leaf, part)));
    let mut capability = SOURCES.map(word);
    if capability[OF_CACHES.0] >> OF_CACHES.1 & 1 == 0 {
        capability[MONITORING] = 0;
    }
    let rep_is_good = match vendor {
        CpuVendor::Intel => family == 6,
        CpuVendor::Amd => family >= 0x10,
        CpuVendor::Unknown => false,
    };
    capability[OF_LINUX] = NOPL_AND_CPUID | if rep_is_good { REP_GOOD } else { 0 };

    let states = ask(0xd, 0);
    let has = |&&(state, (word, bit)): &&(u32, (usize, u32))| {
        states.eax >> state & 1 != 0 && capability[word] >> bit & 1 != 0
    };
    let mask = REGISTER_SETS.iter().filter(has).map(|(state, _)| 1_u64 << state).sum();
    let name: Vec<u32> = (0x8000_0002..=0x8000_0004)
        .map(|leaf| ask(leaf, 0))
        .flat_map(|CpuIdResult { eax, ebx, ecx, edx }| [eax, ebx, ecx, edx])
        .collect();
    let name: Vec<u8> = text(&name).into_iter().skip_while(|&byte| byte == b' ').collect();
    let name = name.split(|&byte| byte == 0).next().expect("a split has a first part").to_vec();
    CpuinfoX86Entry {
        vendor_id: vendor.into(),
        cpu_family: family,
        model,
        stepping: nibble(0),
        capability_ver: 2,
        capability: capability.into(),
        model_id: (!name.is_empty()).then_some(name),
        xfeatures_mask: Some(mask),
        xsave_size: Some(states.ebx),
        xsave_size_max: Some(states.ecx),
    }
}

/// What an image is to say of the processor.
pub(crate) fn entry() -> CpuinfoEntry {
    CpuinfoEntry { x86_entry: vec![this_one()] }
}

/// Whether `here` will do for a program that ran on `there`.
fn compare(
    here: &CpuinfoX86Entry,
    there: &CpuinfoX86Entry,
    checks: CpuChecks,
) -> Result<(), Mismatch> {
    let bit_of = |words: &[u32], word: u32, bit: u32| {
        words.get(word as usize).is_some_and(|word| word >> bit & 1 != 0)
    };
    let is_lacking = |&&(word, bit, _): &&(u32, u32, &str)| {
        bit_of(&there.capability, word, bit) && !bit_of(&here.capability, word, bit)
    };
    let wanted = [(checks.instructions, INSTRUCTIONS), (checks.fpu, REGISTERS)];
    let wanted = wanted.iter().filter(|(is_checked, _)| *is_checked).flat_map(|(_, some)| *some);
    let mut lacks: BTreeSet<u32> =
        wanted.filter(is_lacking).map(|(word, bit, _)| 32 * word + bit).collect();
    if checks.fpu {
        let sets = there.xfeatures_mask.unwrap_or(0) & !here.xfeatures_mask.unwrap_or(0);
        lacks.extend((0..64).filter(|set| sets >> set & 1 != 0).map(|set| STATES + set));
    }
    if !lacks.is_empty() {
        return Err(Mismatch::Lacks(Features(lacks)));
    }
    if checks.fpu {
        for (here, there) in
            [(here.xsave_size, there.xsave_size), (here.xsave_size_max, there.xsave_size_max)]
        {
            if let (Some(here), Some(there)) = (here, there)
                && here != there
            {
                return Err(Mismatch::Size { here, there });
            }
        }
    }
    if checks.identical {
        let words = there.capability.iter().zip(&here.capability).zip(0..);
        let differing: BTreeSet<u32> = words
            .flat_map(|((there, here), word)| {
                let differing = there ^ here;
                (0..32).filter(move |bit| differing >> bit & 1 != 0).map(move |bit| 32 * word + bit)
            })
            .collect();
        if !differing.is_empty() {
            return Err(Mismatch::Differs(Features(differing)));
        }
    }
    Ok(())
}

/// What an image says.
fn parse(entry: CpuinfoEntry) -> Result<CpuinfoX86Entry, &'static str> {
    let [entry]: [CpuinfoX86Entry; 1] =
        entry.x86_entry.try_into().map_err(|_| "it is not about one processor of this kind")?;
    match (entry.capability_ver, entry.capability.len()) {
        (1, WORDS_OF_OLD) | (2, WORDS) => Ok(entry),
        _ => Err("its features are not as any version of CRIU writes them"),
    }
}

/// Reads the image. `None`: there is none.
fn read(images: &Path) -> Result<Option<CpuinfoX86Entry>, Cause> {
    let image = ImageName::CpuInfo;
    let path = images.join(image.to_string());
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ImageError::Io { op: "open", path, source }.into()),
    };
    let mut reader = framing::Reader::from_file(file, image.kind().magic, &path)?;
    let entry = parse(reader.need_message()?);
    entry.map(Some).map_err(|reason| Cause::Contradiction { image, reason })
}

/// Writes what this processor is to `images` (`cpuinfo dump`).
///
/// # Errors
///
/// The file cannot be written.
pub fn dump_cpu(images: &Path) -> Result<(), Error> {
    let name = ImageName::CpuInfo;
    let mut bytes = Vec::new();
    framing::write_header(&mut bytes, name.kind().magic)
        .and_then(|()| framing::write_message(&mut bytes, &entry(), &mut Vec::new()))
        .expect("there is room in memory");
    let path = images.join(name.to_string());
    let hint = "give another directory for it with --images-dir";
    let file = LateFile::begin(path, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH, hint);
    file.and_then(|file| file.write(&bytes)).at(Phase::Encode)
}

/// Whether a program that ran on the processor told of in `images` can run on this one
/// (`cpuinfo check`).
///
/// # Errors
///
/// It cannot, by these checks; or the image is damaged or not there.
pub fn check_cpu(images: &Path, checks: CpuChecks) -> Result<(), Error> {
    let there = read(images).at(Phase::Decode)?;
    let image = ImageName::CpuInfo;
    let reason = "it is missing: it is written by `cpuinfo dump`, and by `dump --cpu-cap`";
    let there = there.ok_or(Cause::Contradiction { image, reason }).at(Phase::Decode)?;
    compare(&this_one(), &there, checks).at(Phase::Decode)
}

/// What a restore has to check: what it was asked to, and if it was not, what images tell of.
pub(crate) fn check(images: &Path, checks: Option<CpuChecks>) -> Result<(), Error> {
    match checks {
        Some(CpuChecks::NONE) => Ok(()),
        Some(checks) => check_cpu(images, checks),
        None => match read(images).at(Phase::Decode)? {
            Some(there) => compare(&this_one(), &there, CpuChecks::default()).at(Phase::Decode),
            None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(entry: &CpuinfoX86Entry, word: usize, bit: u32) -> CpuinfoX86Entry {
        let mut entry = entry.clone();
        entry.capability[word] &= !(1 << bit);
        entry
    }

    /// As x86_64 has them all.
    fn modern() -> CpuinfoX86Entry {
        let mut entry = this_one();
        for (word, bit) in [(4, 28), (9, 16), (0, 24)] {
            entry.capability[word] |= 1 << bit;
        }
        entry
    }

    #[test]
    fn this_processor_will_do_for_itself() {
        let here = this_one();
        assert_eq!(here, parse(entry()).unwrap());
        assert_eq!(compare(&here, &here, CpuChecks::ALL), Ok(()));
        assert!(here.capability[0] & 1 << 26 != 0, "x86_64 has SSE2");
        assert_eq!(here.xfeatures_mask.unwrap() & 0b11, 1);
        let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags = listed.lines().find_map(|line| line.strip_prefix("flags")).unwrap();
        for flag in flags.split_whitespace() {
            if let Some(&(word, bit, name)) = INSTRUCTIONS.iter().find(|known| known.2 == flag) {
                assert!(here.capability[word as usize] >> bit & 1 != 0, "{name}");
            }
        }
    }

    #[test]
    fn what_is_lacking_is_named() {
        let (there, checks) = (modern(), CpuChecks::default());
        let here = without(&without(&there, 9, 16), 4, 28);
        let lacking = compare(&here, &there, checks).unwrap_err();
        assert_eq!(
            lacking.to_string(),
            "this processor lacks avx, avx512f, which that of the dump has"
        );
        assert_eq!(compare(&there, &here, checks), Ok(()), "more does no harm");
        assert_eq!(compare(&here, &there, CpuChecks { instructions: false, ..checks }), Ok(()));
        assert_eq!(compare(&here, &there, CpuChecks::NONE), Ok(()));
        let here = without(&there, 0, 24);
        let lacking = compare(&here, &there, checks).unwrap_err();
        assert_eq!(lacking.to_string(), "this processor lacks fxsr, which that of the dump has");
    }

    #[test]
    fn registers_are_compared_by_their_sets_and_size() {
        let here = this_one();
        let there = CpuinfoX86Entry { xfeatures_mask: Some(1 << 62 | 1), ..here.clone() };
        let lacking = compare(&here, &there, CpuChecks::default()).unwrap_err();
        assert_eq!(
            lacking.to_string(),
            "this processor lacks register set 62, which that of the dump has"
        );
        let there = CpuinfoX86Entry { xsave_size: Some(64), ..here.clone() };
        let other = compare(&here, &there, CpuChecks::default()).unwrap_err();
        assert!(matches!(other, Mismatch::Size { there: 64, .. }), "{other}");
        assert_eq!(compare(&here, &there, CpuChecks { fpu: false, ..CpuChecks::ALL }), Ok(()));
        let there = CpuinfoX86Entry { xsave_size: None, xfeatures_mask: None, ..here.clone() };
        assert_eq!(compare(&here, &there, CpuChecks::ALL), Ok(()), "an old image");
    }

    #[test]
    fn another_feature_makes_a_difference() {
        let here = this_one();
        let mut there = here.clone();
        there.capability[0] ^= 1 << 28;
        assert_eq!(compare(&here, &there, CpuChecks::default()), Ok(()));
        let other = compare(&here, &there, CpuChecks::ALL).unwrap_err();
        assert_eq!(
            other.to_string(),
            "this processor differs from that of the dump in feature 0:28"
        );
    }

    #[test]
    fn images_are_judged() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path(), None).is_ok());
        assert!(check(dir.path(), Some(CpuChecks::NONE)).is_ok());
        let missing = check(dir.path(), Some(CpuChecks::ALL)).unwrap_err();
        assert_eq!(missing.kind, crate::ErrorKind::CorruptImage);
        dump_cpu(dir.path()).unwrap();
        check_cpu(dir.path(), CpuChecks::ALL).unwrap();
        check(dir.path(), None).unwrap();
        let good = this_one();
        for bad in [
            CpuinfoEntry::default(),
            CpuinfoEntry { x86_entry: vec![good.clone(), good.clone()] },
            CpuinfoEntry { x86_entry: vec![CpuinfoX86Entry { capability_ver: 3, ..good.clone() }] },
            CpuinfoEntry { x86_entry: vec![CpuinfoX86Entry { capability: vec![0; 18], ..good }] },
        ] {
            assert!(parse(bad.clone()).is_err(), "{bad:?}");
        }
        std::fs::write(dir.path().join("cpuinfo.img"), "none").unwrap();
        assert_eq!(check(dir.path(), None).unwrap_err().kind, crate::ErrorKind::CorruptImage);
    }
}
