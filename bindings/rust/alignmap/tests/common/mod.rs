// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! What the tests share: files in memory, the kernel's own counts and lists.
#![allow(dead_code)]

use alignmap::{Backing, Leaves};
use std::ffi::{c_void, CString};
use std::fs::{self, File};
use std::io;
use std::os::raw::{c_char, c_int, c_long, c_uint};
use std::os::unix::io::FromRawFd;

extern "C" {
    fn memfd_create(name: *const c_char, flags: c_uint) -> c_int;
    fn getrusage(who: c_int, usage: *mut c_long) -> c_int;
    fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
}

pub const EBADF: i32 = 9;
pub const EACCES: i32 = 13;
pub const EEXIST: i32 = 17;
pub const ENODEV: i32 = 19;
pub const EINVAL: i32 = 22;
pub const ENOTTY: i32 = 25;
pub const ERANGE: i32 = 34;

const RUSAGE_THREAD: c_int = 1;
const MADV_HUGEPAGE: c_int = 14;
/// Of `struct rusage` as an array: two times, then ru_maxrss, ru_ixrss, ru_idrss, ru_isrss.
const RU_MINFLT: usize = 8;

/// A file in memory, to be found by its name in the list of mappings.
pub fn memfd(name: &str, length: u64) -> File {
    let name = CString::new(name).unwrap();
    // SAFETY: the descriptor is new, and ours.
    let file = unsafe {
        let fd = memfd_create(name.as_ptr(), 0);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        File::from_raw_fd(fd)
    };
    file.set_len(length).unwrap();
    file
}

/// How many bytes of a file are mapped, as the kernel says.
pub fn mapped(name: &str) -> u64 {
    let name = format!("/memfd:{name} ");
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let range = |line: &str| {
        let (start, rest) = line.split_once('-').unwrap();
        let end = rest.split_once(' ').unwrap().0;
        u64::from_str_radix(end, 16).unwrap() - u64::from_str_radix(start, 16).unwrap()
    };
    maps.lines().filter(|line| line.contains(&name)).map(range).sum()
}

pub fn page() -> usize {
    *Leaves::host(Backing::Any).sizes().last().unwrap()
}

pub fn pmd() -> usize {
    Leaves::host(Backing::Anonymous).sizes()[0]
}

/// The rule for the alignment of a mapping, by itself.
pub fn deserved(offset: u64, length: usize) -> u64 {
    let end = offset + length as u64;
    let leaves = Leaves::host(Backing::Any);
    let fits = |leaf: &u64| (offset + leaf - 1) / leaf * leaf + leaf <= end;
    leaves.sizes().iter().map(|&leaf| leaf as u64).find(fits).unwrap_or(page() as u64)
}

pub fn is_congruent(address: *mut u8, offset: u64, modulo: u64) -> bool {
    (address as u64).wrapping_sub(offset) % modulo == 0
}

/// Writes a byte of each page, and counts the faults of that.
pub fn faults_of_writing(parts: &[(*mut u8, usize)]) -> usize {
    let before = faults();
    for &(address, length) in parts {
        for at in (0..length).step_by(page()) {
            // SAFETY: the callers have mapped it, writable.
            unsafe { address.add(at).write_volatile(1) };
        }
    }
    faults() - before
}

fn faults() -> usize {
    let mut usage = [0; 32];
    // SAFETY: there is more room than it needs.
    assert_eq!(unsafe { getrusage(RUSAGE_THREAD, usage.as_mut_ptr()) }, 0);
    usage[RU_MINFLT] as usize
}

pub fn advise_huge_pages(address: *mut u8, length: usize) {
    // SAFETY: it is advice.
    unsafe { madvise(address.cast(), length, MADV_HUGEPAGE) };
}

/// Whether a policy for transparent huge pages, of those in sysfs, is one of these.
pub fn policy_is(file: &str, values: &[&str]) -> bool {
    let path = format!("/sys/kernel/mm/transparent_hugepage/{file}");
    let text = fs::read_to_string(path).unwrap_or_default();
    values.iter().any(|value| text.contains(&format!("[{value}]")))
}

pub fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

pub fn is_for_all_threads<T: Send + Sync>(thing: T) -> T {
    thing
}
