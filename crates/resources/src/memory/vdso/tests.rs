use super::elf::symbols;
use super::*;
use crate::memory::mm::{Dumpable, TransparentHugePages};
use crate::memory::outlook::Outlook;
use crate::memory::samples::{anonymous, pages};
use crate::memory::{Advice, Vma};

fn kernel() -> KernelVdso {
    KernelVdso { data: vec![0x4000, 0x2000], code: vec![1; 0x2000] }
}

fn mm(data: Option<u64>, code: Option<u64>) -> Mm {
    let special = |backing, page, count| Vma {
        backing,
        advice: Advice::empty(),
        ..anonymous(pages(page, count))
    };
    let data = data.map(|page| special(Backing::Vvar, page, 6));
    let code = code.map(|page| special(Backing::Vdso, page, 2));
    let none = (Addr::NULL, Addr::NULL);
    Mm {
        layout: dormouse_kernel::proc::MemoryLayout {
            code: none,
            data: none,
            start_brk: Addr::NULL,
            start_stack: Addr::NULL,
            args: none,
            env: none,
        },
        brk: Addr::NULL,
        auxv: Vec::new(),
        exe: crate::file::FileId::from_raw(1),
        dumpable: Dumpable::Yes,
        huge_pages: TransparentHugePages::Anywhere,
        outlook: Outlook::default(),
        vmas: data.into_iter().chain(code).collect(),
        guards: Vec::new(),
    }
}

#[test]
fn it_is_mapped_where_it_was() {
    let map = |mm: &Mm| kernel().map(mm, |len| pages(0x100, len / PAGE_SIZE));
    let usual = mm(Some(0x20), Some(0x26));
    let whole = pages(0x20, 8);
    assert_eq!(map(&usual), [MapStep::MapVdso(whole), MapStep::Expect(whole)]);
    assert_eq!(map(&mm(None, None)), []);
    let apart = mm(Some(0x20), Some(0x30));
    let whole = pages(0x100, 8);
    assert_eq!(
        map(&apart),
        [
            MapStep::MapVdso(whole),
            MapStep::Expect(whole),
            MapStep::Move { from: pages(0x100, 4), to: pages(0x20, 4) },
            MapStep::Move { from: pages(0x104, 2), to: pages(0x24, 2) },
            MapStep::Move { from: pages(0x106, 2), to: pages(0x30, 2) },
        ]
    );
    let alone = mm(None, Some(0x30));
    assert_eq!(
        map(&alone),
        [
            MapStep::MapVdso(whole),
            MapStep::Expect(whole),
            MapStep::Unmap(pages(0x100, 4)),
            MapStep::Unmap(pages(0x104, 2)),
            MapStep::Move { from: pages(0x106, 2), to: pages(0x30, 2) },
        ]
    );
}

#[test]
fn this_kernels_has_symbols() {
    let kernel = KernelVdso::probe().unwrap().unwrap();
    let symbols = symbols(&kernel.code).unwrap();
    assert!(symbols.contains_key(&b"__vdso_clock_gettime"[..]), "{symbols:?}");
    // The code may differ, the functions may not.
    let mut other = kernel.code.clone();
    let at = symbols[&b"__vdso_clock_gettime"[..]] as usize;
    other[at] ^= 1;
    assert!(same_symbols(&kernel.code, &other));
    let name = b"__vdso_clock_gettime\0";
    let at = other.windows(name.len()).position(|bytes| bytes == name).unwrap();
    other[at + 8] ^= 1;
    assert!(!same_symbols(&kernel.code, &other));
}

#[test]
fn what_is_no_elf_has_no_symbols() {
    assert_eq!(symbols(b""), None);
    assert!(!same_symbols(&[0; 0x2000], &[0; 0x2000]));
    // Lengths and offsets beyond all bounds.
    let kernel = KernelVdso::probe().unwrap().unwrap();
    for at in 0..0x40 {
        let mut damaged = kernel.code.clone();
        damaged[at] = 0xff;
        let _ = symbols(&damaged);
    }
}

#[test]
fn the_lowest_gap_that_is_large_enough_is_found() {
    let used = [pages(16, 4), pages(22, 4)];
    let free = |from, len| free_range(used.into_iter(), Addr::from_raw(from), len * PAGE_SIZE);
    assert_eq!(free(0x10000, 2), Some(pages(20, 2)));
    assert_eq!(free(0x10000, 3), Some(pages(26, 3)));
    assert_eq!(free(0x1000, 3), Some(pages(1, 3)));
    assert_eq!(free(0x1000, u64::MAX / PAGE_SIZE), None);
}

/// Each function of this kernel's vDSO, by its name.
fn entries(code: &[u8]) -> Vec<(&[u8], usize)> {
    let functions = elf::functions(code).unwrap();
    functions.into_iter().map(|(start, name)| (elf::plain(name), start)).collect()
}

#[test]
fn every_function_leads_to_its_namesake() {
    let kernel = KernelVdso::probe().unwrap().unwrap();
    let at = Addr::from_raw(0x7000_0000_0000);
    let target = redirect::Target { code: &kernel.code, at };
    let redirected = redirect::redirect(&kernel.code, Some(target)).unwrap();
    assert_eq!(redirected.len(), kernel.code.len());
    for (name, start) in entries(&kernel.code) {
        let entry = &redirected[start..start + 12];
        if name == b"getrandom" {
            assert_eq!(&entry[..8], b"\xb8\x3e\x01\0\0\x0f\x05\xc3");
        } else {
            let to = (at.as_raw() + start as u64).to_le_bytes();
            assert_eq!(entry, [&b"\x48\xb8"[..], &to, b"\xff\xe0"].concat());
        }
    }
    let whole = AddrRange::with_len(at, kernel.code.len() as u64).unwrap();
    assert!(redirect::is_redirected(&redirected, whole));
    assert!(!redirect::is_redirected(&kernel.code, whole));
    assert!(!redirect::is_redirected(&redirected, pages(1, 1)));
    // It can be redirected once more.
    let target = redirect::Target { at: Addr::from_raw(0x1000), ..target };
    let again = redirect::redirect(&redirected, Some(target)).unwrap();
    assert!(again == redirect::redirect(&kernel.code, Some(target)).unwrap());
}

#[test]
fn without_a_vdso_functions_are_calls() {
    let kernel = KernelVdso::probe().unwrap().unwrap();
    let redirected = redirect::redirect(&kernel.code, None).unwrap();
    let of = |wanted: &[u8]| {
        let entries = entries(&kernel.code);
        let (_, start) = entries.into_iter().find(|(name, _)| *name == wanted).unwrap();
        redirected[start..start + 8].to_vec()
    };
    assert_eq!(of(b"clock_gettime"), b"\xb8\xe4\0\0\0\x0f\x05\xc3");
    assert_eq!(of(b"getcpu"), b"\xb8\x35\x01\0\0\x0f\x05\xc3");
}

#[test]
fn what_cannot_be_redirected_is_left_alone() {
    let kernel = KernelVdso::probe().unwrap().unwrap();
    assert_eq!(redirect::redirect(&[0; 0x2000], None), None);
    let mut unknown = kernel.code.clone();
    let name = b"clock_getres\0";
    while let Some(at) = unknown.windows(name.len()).position(|bytes| bytes == name) {
        unknown[at] = b'X';
    }
    let target = redirect::Target { code: &kernel.code, at: Addr::from_raw(0x1000) };
    assert_eq!(redirect::redirect(&unknown, Some(target)), None);
    for at in 0..0x40 {
        let mut damaged = kernel.code.clone();
        damaged[at] = 0xff;
        let _ = redirect::redirect(&damaged, Some(target));
    }
}
