// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! The options of windows, where room is scarce: in a program of its own, since the limit is one for
//! all threads.

mod common;
use alignmap::{Options, Window};
use common::*;
use std::fs;
use std::os::raw::{c_int, c_ulong};

const RLIMIT_AS: c_int =
    if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 6 } else { 9 };
const ENOMEM: i32 = 12;

extern "C" {
    fn setrlimit(resource: c_int, limits: *const [c_ulong; 2]) -> c_int;
}

/// What the process has mapped, in bytes.
fn address_space() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<usize>().unwrap() * page()
}

#[test]
fn where_there_is_no_room_for_the_alignment_the_options_say_what_to_do() {
    let length = 4 * pmd();
    let reserve = |options| errno(Window::reserve(0, length, options));
    assert_eq!(reserve(Options::new().strict()), None);
    let limit = (address_space() + length + pmd() / 2) as c_ulong;
    // SAFETY: it reads two numbers.
    assert_eq!(unsafe { setrlimit(RLIMIT_AS, &[limit, limit]) }, 0);
    assert_eq!(reserve(Options::new()), None);
    assert_eq!(reserve(Options::new().strict()), Some(ENOMEM));
    assert_eq!(reserve(Options::new().strict().max_alignment(page())), None);
}
