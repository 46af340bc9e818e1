// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! Windows, held against the kernel's own list of what is mapped.

mod common;
use alignmap::{ExtentState, Leaves, Options, Protection, Sharing, Window};
use common::*;
use std::os::unix::fs::FileExt;
use std::thread;

const MAPPED: ExtentState = ExtentState::Mapped(Protection::READ_WRITE);

/// Where a window begins in the file: not at a leaf's bound.
fn start() -> u64 {
    (pmd() + page()) as u64
}

fn reserve() -> Window {
    Window::reserve(start(), 8 * pmd(), Options::new().strict()).unwrap()
}

/// What lies in a window, as offsets from its start.
fn layout(window: &Window) -> Vec<(u64, usize, ExtentState)> {
    let part = |extent: alignmap::Extent| {
        let offset = extent.offset - window.offset();
        assert_eq!(extent.address as u64, window.address() as u64 + offset);
        (offset, extent.length, extent.state)
    };
    window.extents().map(part).collect()
}

#[test]
fn pieces_lie_at_their_places() {
    let (page, pmd) = (page(), pmd());
    let file = memfd("pieces", 16 * pmd as u64);
    let window = reserve();
    assert_eq!((window.offset(), window.length()), (start(), 8 * pmd));
    assert!(is_congruent(window.address(), start(), deserved(start(), 8 * pmd)));
    assert_eq!(layout(&window), [(0, 8 * pmd, ExtentState::Reserved)]);

    file.write_all_at(b"x", start() + 2 * pmd as u64).unwrap();
    for (offset, length) in [(2 * pmd, 4 * pmd), (0, page)] {
        let from = start() + offset as u64;
        let piece = window.map(&file, from, length, Protection::READ_WRITE, Sharing::Shared);
        assert_eq!(piece.unwrap() as usize, window.address() as usize + offset);
    }
    // SAFETY: there is a piece.
    assert_eq!(unsafe { window.address().add(2 * pmd).read_volatile() }, b'x');
    assert_eq!(mapped("pieces"), (4 * pmd + page) as u64);
    let expected = [
        (0, page, MAPPED),
        (page as u64, 2 * pmd - page, ExtentState::Reserved),
        (2 * pmd as u64, 4 * pmd, MAPPED),
        (6 * pmd as u64, 2 * pmd, ExtentState::Reserved),
    ];
    assert_eq!(layout(&window), expected);

    window.unmap(start(), 2 * pmd).unwrap();
    assert_eq!(layout(&window)[0], (0, 2 * pmd, ExtentState::Reserved));
    assert_eq!(mapped("pieces"), 4 * pmd as u64);
    drop(window);
    assert_eq!(mapped("pieces"), 0);
}

#[test]
fn writing_the_pieces_takes_as_many_faults_as_planned() {
    if !policy_is("shmem_enabled", &["never", "deny"]) {
        return eprintln!("skipped: files in memory may have huge pages here");
    }
    let pages = Leaves::new(&[page()]).unwrap();
    let pieces = [(start(), pmd() + page()), (start() + 3 * pmd() as u64, pmd())];
    let faults = || {
        let file = memfd("planned", 16 * pmd() as u64);
        let window = reserve();
        let parts = pieces.map(|(offset, length)| {
            let piece = window.map(&file, offset, length, Protection::READ_WRITE, Sharing::Shared);
            (piece.unwrap(), length)
        });
        faults_of_writing(&parts)
    };
    // The first faults of the measuring code count too.
    let fewest = (0..3).map(|_| faults()).min().unwrap();
    let planned = pieces.map(|(offset, length)| pages.plan(offset, length).unwrap().entries);
    assert_eq!(fewest, planned.iter().sum());
}

#[test]
fn what_does_not_fit_is_refused() {
    let pmd = pmd() as u64;
    let file = memfd("refused", 16 * pmd);
    let window = reserve();
    let map = |offset, length: u64| {
        errno(window.map(&file, offset, length as usize, Protection::READ, Sharing::Private))
    };
    assert_eq!(map(start(), pmd), None);
    assert_eq!(map(start(), pmd), Some(EEXIST));
    assert_eq!(map(start() + 8 * pmd, pmd), Some(EINVAL));
    assert_eq!(map(0, pmd), Some(EINVAL));
    assert_eq!(map(start() + pmd + 1, pmd), Some(EINVAL));
    assert_eq!(errno(window.unmap(start(), page())), Some(EINVAL));
    assert_eq!(errno(window.query(start() - 1)), Some(EINVAL));
    assert_eq!(errno(window.query(start() + 8 * pmd)), Some(EINVAL));
    assert_eq!(errno(Window::reserve(1, pmd as usize, Options::new())), Some(EINVAL));
    assert_eq!(errno(Window::reserve(0, 0, Options::new())), Some(EINVAL));
    let odd = Options::new().max_alignment(3 * page());
    assert_eq!(errno(Window::reserve(0, pmd as usize, odd)), Some(EINVAL));
    assert_eq!(mapped("refused"), pmd);
    window.release().unwrap();
    assert_eq!(mapped("refused"), 0);
}

#[test]
fn threads_share_a_window() {
    let file = memfd("threads", 16 * pmd() as u64);
    let window = is_for_all_threads(reserve());
    thread::scope(|scope| {
        for number in 0..8 {
            let (window, file) = (&window, &file);
            let offset = start() + (number * pmd()) as u64;
            scope.spawn(move || {
                for _ in 0..20 {
                    window
                        .map(file, offset, pmd(), Protection::READ_WRITE, Sharing::Shared)
                        .unwrap();
                    window.unmap(offset, pmd()).unwrap();
                }
            });
        }
    });
    assert_eq!(layout(&window), [(0, 8 * pmd(), ExtentState::Reserved)]);
    assert_eq!(mapped("threads"), 0);
}
