// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! The arithmetic is the library's; these see that it is asked for the right thing.

mod common;
use alignmap::{Backing, Leaves};
use common::{errno, page, EINVAL};
use std::io::ErrorKind;

const EOVERFLOW: i32 = 75;

#[test]
fn the_host_has_leaves_for_each_backing() {
    let any = Leaves::host(Backing::Any);
    for backing in [Backing::Any, Backing::Vfio, Backing::File, Backing::Anonymous] {
        let leaves = Leaves::host(backing);
        assert!(leaves.sizes().windows(2).all(|pair| pair[0] > pair[1]));
        assert!(leaves.sizes().iter().all(|size| any.sizes().contains(size)));
        assert_eq!(leaves.sizes().last(), Some(&page()));
    }
    let pmd = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
    if let Ok(pmd) = pmd {
        let pmd = pmd.trim().parse().unwrap();
        assert_eq!(Leaves::host(Backing::File).sizes()[0], pmd);
        assert_eq!(Leaves::host(Backing::Anonymous).sizes()[0], pmd);
    }
}

#[test]
fn a_plan_is_for_the_leaves_of_any_host() {
    let leaves = Leaves::new(&[1 << 30, 2 << 20, 4 << 10]).unwrap();
    // A BAR of 2 GiB but for its first 12 KiB.
    let plan = leaves.plan(0x3000, 0x7fffd000).unwrap();
    assert_eq!((plan.alignment, plan.phase, plan.entries), (1 << 30, 0x3000, 1021));
    assert_eq!(plan.count, [1, 511, 509, 0, 0, 0, 0, 0]);
    assert_eq!(format!("{leaves:?}"), "Leaves([1073741824, 2097152, 4096])");
}

#[test]
fn what_is_no_list_of_leaves_is_refused() {
    assert_eq!(errno(Leaves::new(&[])), Some(EINVAL));
    assert_eq!(errno(Leaves::new(&[4096, 2 << 20])), Some(EINVAL));
    assert_eq!(errno(Leaves::new(&[3 << 12])), Some(EINVAL));
    assert_eq!(Leaves::new(&[4096; 9]).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_plan_that_cannot_be_made_says_why() {
    let leaves = Leaves::host(Backing::Any);
    assert_eq!(errno(leaves.plan(0, 0)), Some(EINVAL));
    assert_eq!(errno(leaves.plan(1, 4096)), Some(EINVAL));
    assert_eq!(errno(leaves.plan(0, usize::MAX)), Some(EOVERFLOW));
}
