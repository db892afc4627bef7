use proptest::prelude::*;

use super::*;
use crate::memory::samples::{self, anonymous, pages};

const IMAGE: ImageName = ImageName::Mm(7);

fn mm(vmas: Vec<Vma>, guards: Vec<AddrRange>) -> Mm {
    let at = |raw| (Addr::from_raw(raw), Addr::from_raw(raw + 0x800));
    Mm {
        layout: MemoryLayout {
            code: at(0x1000),
            data: at(0x2000),
            start_brk: Addr::from_raw(0x3000),
            start_stack: Addr::from_raw(0x4000),
            args: at(0x5000),
            env: at(0x6000),
        },
        brk: Addr::from_raw(0x3800),
        auxv: vec![6, 4096, 0, 0],
        exe: FileId::from_raw(5),
        dumpable: Dumpable::Yes,
        huge_pages: TransparentHugePages::IfAdvised,
        outlook: Outlook::default(),
        vmas,
        guards,
    }
}

fn problem(entry: &MmEntry) -> MappingProblem {
    match Mm::decode(IMAGE, entry) {
        Err(Error::Corrupt { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn damage_is_found() {
    let good = mm(vec![anonymous(pages(16, 4)), anonymous(pages(20, 4))], vec![pages(19, 2)]);
    let good = good.encode();
    assert!(Mm::decode(IMAGE, &good).is_ok());
    let damage = |change: fn(&mut MmEntry)| {
        let mut entry = good.clone();
        change(&mut entry);
        problem(&entry)
    };
    assert_eq!(damage(|e| e.mm_end_code = 0), MappingProblem::Layout);
    assert_eq!(damage(|e| e.mm_brk = 0), MappingProblem::Layout);
    assert_eq!(damage(|e| e.mm_saved_auxv.push(1)), MappingProblem::Auxv);
    assert_eq!(damage(|e| e.dumpable = Some(3)), MappingProblem::Dumpable(3));
    assert_eq!(damage(|e| e.vmas.swap(0, 1)), MappingProblem::Order);
    assert_eq!(damage(|e| e.vmas.swap(1, 2)), MappingProblem::Order);
    assert_eq!(damage(|e| e.vmas[0].end += 0x1000), MappingProblem::Order);
    assert_eq!(damage(|e| e.vmas[1].start += 0x1000), MappingProblem::Guard);
    assert_eq!(damage(|e| e.vmas[2].end = 0x40_0000), MappingProblem::Guard);
}

#[test]
fn there_is_one_vdso() {
    let vdso = |page| Vma { backing: Backing::Vdso, ..anonymous(pages(page, 2)) };
    assert_eq!(problem(&mm(vec![vdso(1), vdso(3)], vec![]).encode()), MappingProblem::Vdso);
    assert_eq!(problem(&mm(vec![vdso(1)], vec![pages(1, 1)]).encode()), MappingProblem::Guard);
}

proptest! {
    #[test]
    fn what_is_encoded_reads_back(vmas in samples::mappings(16, 20)) {
        let guards = vmas.iter().step_by(2).map(|vma| vma.range).collect::<Vec<_>>();
        let mm = mm(vmas, guards);
        prop_assert_eq!(Mm::decode(IMAGE, &mm.encode()).unwrap(), mm);
    }
}
