use dormouse_kernel::proc::parse_smaps;

use super::*;

const SHMEM: DeviceId = DeviceId { major: 0, minor: 1 };

/// What comes of a mapping whose maps line ends in `line` and that has `flags`.
fn kind(line: &str, flags: &str) -> Result<String, Obstacle> {
    kind_if(line, flags, false)
}

/// The same, of an inode that may be open.
fn kind_if(line: &str, flags: &str, is_open: bool) -> Result<String, Obstacle> {
    let text = format!(
        "7f0000000000-7f0000002000 {line}\nSize: 8 kB\nKernelPageSize: 4 kB\nVmFlags: {flags}\n"
    );
    let smaps = parse_smaps(text.as_bytes()).unwrap();
    let kind = Kind::of(&smaps[0], SHMEM, is_open)?;
    check(kind, &smaps[0])?;
    Ok(format!("{kind:?}"))
}

#[test]
fn kinds_are_told_apart() {
    let file = |path: &str, memfd: bool| Ok(format!("File {{ path: {path:?}, memfd: {memfd} }}"));
    let segment = |id: u32| {
        Ok(format!("Segment {{ id: SegmentId({id}), path: \"/SYSV00000001 (deleted)\" }}"))
    };
    for (line, flags, expected) in [
        ("rw-p 00000000 00:00 0", "rd wr mr mw me ac", Ok("Anonymous { heap: false }".into())),
        ("rw-p 00000000 00:00 0 [stack]", "rd wr gd ac", Ok("Anonymous { heap: false }".into())),
        ("rw-p 00000000 00:00 0 [heap]", "rd wr ac", Ok("Anonymous { heap: true }".into())),
        ("rw-p 00000000 00:00 0 [anon:x]", "rd wr ac", Ok("Anonymous { heap: false }".into())),
        ("rw-p 00000000 00:00 0", "rd wr mr mw me dp wf", Ok("Droppable".into())),
        ("r--p 00000000 00:00 0 [vvar]", "rd mr pf io de dd", Ok("Vvar".into())),
        ("r--p 00000000 00:00 0 [vvar_vclock]", "rd mr pf io de dd", Ok("Vvar".into())),
        ("r-xp 00000000 00:00 0 [vdso]", "rd ex mr mw me de", Ok("Vdso".into())),
        ("--xp 00000000 00:00 0 [vsyscall]", "ex", Ok("Vsyscall".into())),
        ("--xp 00000000 00:00 0 [uprobes]", "ex me de io dc", Ok("Uprobes".into())),
        ("rw-s 00000000 00:01 7 /dev/zero (deleted)", "rd wr sh", Ok("SharedMemory".into())),
        ("rw-s 00000000 00:01 8 /SYSV00000001 (deleted)", "rd wr sh", segment(8)),
        ("rw-s 00000000 00:01 7 [anon_shmem:x]", "rd wr sh", Ok("SharedMemory".into())),
        ("rw-s 00000000 00:01 7 /memfd:a b (deleted)", "rd sh", file("/memfd:a b (deleted)", true)),
        ("rw-p 00000000 00:01 7 /memfd:a b (deleted)", "rd", file("/memfd:a b (deleted)", true)),
        ("r-xp 00026000 fe:00 9 /usr/lib/libc.so.6", "rd ex", file("/usr/lib/libc.so.6", false)),
        (
            "rw-p 00000000 00:0f 8 /anon_hugepage (deleted)",
            "rd wr ht",
            Ok("Anonymous { heap: false }".into()),
        ),
        (
            "rw-s 00000000 00:0f 8 /anon_hugepage (deleted)",
            "rd wr sh ht",
            Ok("SharedMemory".into()),
        ),
        ("rw-s 00000000 00:0f 7 /memfd:x (deleted)", "rd ht", file("/memfd:x (deleted)", true)),
        ("rw-s 00000000 00:20 7 /mnt/huge/x", "rd ht", file("/mnt/huge/x", false)),
        (
            "rw-s 00000000 00:08 8 socket:[8]",
            "rd wr mm",
            Ok("Socket { name: \"socket:[8]\" }".into()),
        ),
        // Real files may have the names of others.
        ("rw-s 00000000 fe:00 7 /memfd:x (deleted)", "rd", file("/memfd:x (deleted)", false)),
        ("rw-s 00000000 fe:00 7 /dev/zero (deleted)", "rd", file("/dev/zero (deleted)", false)),
        ("rw-p 00000000 00:05 4 /dev/zero", "rd wr ac", file("/dev/zero", false)),
        ("rw-s 00000000 00:0a 8 /[aio] (deleted)", "rd wr de", Ok("AioRing".into())),
        ("r--s 00000000 fe:00 7 /[aio] (deleted)", "rd", file("/[aio] (deleted)", false)),
    ] {
        assert_eq!(kind(line, flags), expected, "{line}");
    }
}

#[test]
fn shared_memory_that_is_open_is_a_file() {
    let file = "File { path: \"/dev/zero (deleted)\", memfd: true }".to_owned();
    for line in
        ["rw-s 00000000 00:01 7 /dev/zero (deleted)", "rw-p 00000000 00:01 7 /dev/zero (deleted)"]
    {
        assert_eq!(kind_if(line, "rd wr", true), Ok(file.clone()), "{line}");
    }
    let named = kind_if("rw-s 00000000 00:01 7 [anon_shmem:x]", "rd wr", true);
    assert_eq!(named, Err(Obstacle::NamedOpen));
}

#[test]
fn what_cannot_be_kept_is_refused() {
    for (line, flags, obstacle) in [
        ("rw-s 00000000 00:0f 8 /SYSV00000001 (deleted)", "rd wr sh ht", Obstacle::HugeSegment),
        ("rw-s 00000000 00:05 8 /dev/mem", "rd wr io pf", Obstacle::Device),
        ("rw-s 00000000 00:01 8 /drm mm object (deleted)", "rd wr", Obstacle::Device),
        ("rw-p 00000000 00:01 8 /dev/zero (deleted)", "rd wr", Obstacle::PrivateShared),
        ("rw-s 00000000 00:09 8 /secretmem (deleted)", "rd wr lo", Obstacle::Secret),
        ("rw-s 00000000 00:10 8 anon_inode:[perf_event]", "rd wr", Obstacle::Unknown),
        ("rw-p 00000000 00:00 0", "rd wr ss", Obstacle::ShadowStack),
        ("rw-p 00000000 00:00 0", "rd wr zz", Obstacle::UnknownFlag),
        ("rw-s 00000000 fe:00 7 /pmem/x", "rd wr sf", Obstacle::Sync),
        ("r-xp 00000000 00:00 0 [vdso]", "rd ex sl", Obstacle::SealedSpecial),
    ] {
        assert_eq!(kind(line, flags), Err(obstacle), "{line}");
    }
}

#[test]
fn a_protection_key_is_refused_but_for_the_kernels_own() {
    let smaps = |perms: &str| {
        let text = format!(
            "7f0000000000-7f0000002000 {perms} 00000000 00:00 0\nProtectionKey: 1\nVmFlags: ex\n"
        );
        let smaps = parse_smaps(text.as_bytes()).unwrap();
        check(Kind::Anonymous { heap: false }, &smaps[0])
    };
    assert_eq!(smaps("rw-p"), Err(Obstacle::ProtectionKey));
    assert_eq!(smaps("--xp"), Ok(()));
}

#[test]
fn flags_are_carried_over() {
    use dormouse_kernel::proc::VmFlags;
    let flags = VmFlags::GROWS_DOWN
        | VmFlags::ACCOUNT
        | VmFlags::DONT_DUMP
        | VmFlags::LOCKED
        | VmFlags::LOCK_ON_FAULT;
    assert_eq!(traits(flags), Traits::GROWS_DOWN | Traits::ACCOUNTED);
    assert_eq!(advice(flags), Advice::DONT_DUMP);
    assert_eq!(lock(flags), Lock::OnFault);
    let of = |flags| access(VmFlags::MAY_READ | flags, true);
    assert_eq!(of(VmFlags::MAY_SHARE), Access::ReadOnly);
    assert_eq!(of(VmFlags::MAY_SHARE | VmFlags::SHARED), Access::Sealed);
    assert_eq!(of(VmFlags::MAY_SHARE | VmFlags::SHARED | VmFlags::MAY_WRITE), Access::ReadWrite);
    assert_eq!(of(VmFlags::MAY_WRITE), Access::ReadOnly);
    assert_eq!(access(VmFlags::MAY_SHARE | VmFlags::SHARED, false), Access::ReadOnly);
}

#[test]
fn the_mappings_of_this_process_are_recognised() {
    let proc = ProcDir::of_self().unwrap();
    let mut mappings = Mappings::new(SharedObjects::new().unwrap(), Uprobes::Refuse);
    let mut files = Vec::new();
    let Enumerated { vmas, pages, .. } = mappings
        .enumerate(&proc, Walked::read(&proc).unwrap(), |file| {
            files.push((file.device, file.inode, file.path.to_owned(), file.access));
            Ok::<_, Error>(FileId::from_raw(files.len().try_into().unwrap()))
        })
        .unwrap();
    assert!(vmas.is_sorted_by(|a, b| a.range.end() <= b.range.start()));
    let count = |backing: Backing| vmas.iter().filter(|vma| vma.backing == backing).count();
    assert_eq!(count(Backing::Vdso), 1);
    assert_eq!(count(Backing::Vvar), 1);
    assert_eq!(count(Backing::Vsyscall), 1);
    // Each file is asked for once, though it is mapped in several parts.
    let mut unique = files.clone();
    unique.dedup();
    assert_eq!(files, unique);
    // The stack we stand on is stored.
    let here = std::ptr::from_ref(&vmas).addr() as u64;
    let here = dormouse_kernel::Addr::from_raw(here);
    assert!(pages.runs.iter().any(|run| run.range.contains(here)));
    let exe = std::env::current_exe().unwrap();
    assert!(files.iter().any(|(_, _, path, access)| *path == exe && *access == Access::ReadOnly));
}
