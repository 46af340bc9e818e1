// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! Single mappings, by the owner of one and by the call that is shaped as mmap(2).

mod common;
use alignmap::{mmap, Backing, Leaves, Mapping, Protection, Sharing};
use common::*;
use std::ffi::c_void;
use std::fs::File;
use std::io::Error;
use std::os::raw::c_int;
use std::os::unix::fs::FileExt;
use std::os::unix::io::AsRawFd;
use std::ptr::{null_mut, NonNull};
use std::thread;

type Mmap = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void;

extern "C" {
    /// Without more alignment than the kernel gives. `libc::mmap` is declared so where addresses
    /// have 64 bits.
    fn mmap64(
        addr: *mut c_void,
        length: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut c_void;
}

const MAP_SHARED: c_int = 1;
const MAP_FIXED: c_int = 0x10;

#[test]
fn a_mapping_is_congruent_with_its_offset() {
    let (page, pmd) = (page() as u64, pmd() as u64);
    let length = 2 * Leaves::host(Backing::Any).sizes()[0] as u64 + pmd;
    let file = memfd("congruent", length);
    let offsets = [0, page, pmd, pmd + page, length / 2, length - pmd, length - page];
    for offset in offsets.map(|offset| offset / page * page) {
        for length in [page, pmd, 2 * pmd - page, length / 2 + pmd, length] {
            let length = length as usize;
            let mapping = Mapping::new(&file, offset, length, Protection::READ, Sharing::Shared);
            let mapping = mapping.unwrap();
            assert_eq!(mapping.length(), length);
            let modulo = deserved(offset, length);
            assert!(is_congruent(mapping.address(), offset, modulo), "{offset:#x} {length:#x}");
        }
    }
    assert_eq!(mapped("congruent"), 0);
}

#[test]
fn it_has_what_the_file_has() {
    let (offset, length) = (pmd() as u64 + page() as u64, 2 * pmd());
    let file = memfd("content", offset + length as u64);
    file.write_all_at(b"there", offset).unwrap();
    let shared = Mapping::new(&file, offset, length, Protection::READ_WRITE, Sharing::Shared);
    let private = Mapping::new(&file, offset, length, Protection::READ_WRITE, Sharing::Private);
    let (shared, private) = (shared.unwrap(), private.unwrap());
    // SAFETY: they are mapped, and longer than that.
    unsafe {
        assert_eq!(shared.address().read_volatile(), b't');
        private.address().write_volatile(b'T');
        assert_eq!(shared.address().read_volatile(), b't');
        shared.address().add(1).write_volatile(b'H');
    }
    let mut word = [0; 5];
    file.read_exact_at(&mut word, offset).unwrap();
    assert_eq!(&word, b"tHere");
}

#[test]
fn writing_all_of_a_file_takes_as_many_faults_as_planned() {
    if !policy_is("shmem_enabled", &["never", "deny"]) {
        return eprintln!("skipped: files in memory may have huge pages here");
    }
    let (offset, length) = (page() as u64, 2 * pmd() + 5 * page());
    let pages = Leaves::new(&[page()]).unwrap();
    let file = memfd("faults", offset + length as u64);
    let faults = fewest_faults(|| {
        file.set_len(0).unwrap();
        file.set_len(offset + length as u64).unwrap();
        Mapping::new(&file, offset, length, Protection::READ_WRITE, Sharing::Shared).unwrap()
    });
    assert_eq!(faults, pages.plan(offset, length).unwrap().entries);
}

#[test]
fn writing_all_of_memory_takes_as_many_faults_as_planned() {
    let length = 3 * pmd() + 5 * page();
    let leaves = if policy_is("enabled", &["never"]) {
        Leaves::new(&[page()]).unwrap()
    } else {
        Leaves::host(Backing::Anonymous)
    };
    let faults = fewest_faults(|| {
        let memory = Mapping::anonymous(length, Protection::READ_WRITE, Sharing::Private).unwrap();
        advise_huge_pages(memory.address(), length);
        memory
    });
    assert_eq!(faults, leaves.plan(0, length).unwrap().entries);
}

/// Of five mappings, since the first faults of the measuring code count too, and memory may be too
/// scattered for a huge page. A wrong address takes more each time.
fn fewest_faults(map: impl Fn() -> Mapping) -> usize {
    let faults = || {
        let mapping = map();
        faults_of_writing(&[(mapping.address(), mapping.length())])
    };
    (0..5).map(|_| faults()).min().unwrap()
}

#[test]
fn it_is_unmapped_when_it_is_dropped() {
    let file = memfd("dropped", 4 * pmd() as u64);
    let map = || Mapping::new(&file, 0, pmd() + page(), Protection::READ, Sharing::Shared).unwrap();
    let (first, second) = (map(), map());
    assert_eq!(mapped("dropped"), 2 * (pmd() + page()) as u64);
    drop(first);
    assert_eq!(mapped("dropped"), (pmd() + page()) as u64);
    second.unmap().unwrap();
    assert_eq!(mapped("dropped"), 0);

    let (address, length) = map().into_raw();
    assert_eq!(mapped("dropped"), (pmd() + page()) as u64);
    // SAFETY: it was just given up.
    drop(unsafe { Mapping::from_raw(address, length) });
    assert_eq!(mapped("dropped"), 0);
}

#[test]
fn a_refused_mapping_has_the_errno_of_mmap() {
    let file = File::open("/proc/self/exe").unwrap();
    let map = |offset, length, protection| {
        errno(Mapping::new(&file, offset, length, protection, Sharing::Shared))
    };
    assert_eq!(map(0, 0, Protection::READ), Some(EINVAL));
    assert_eq!(map(1, 4 * pmd(), Protection::READ), Some(EINVAL));
    assert_eq!(map(0, 4 * pmd(), Protection::READ_WRITE), Some(EACCES));
    let null = File::open("/proc/self/status").unwrap();
    let refused = Mapping::new(&null, 0, 4 * pmd(), Protection::READ, Sharing::Private);
    assert_eq!(errno(refused), Some(ENODEV));
    // The mapping would end behind the last offset that there is.
    let last = u64::MAX / page() as u64 * page() as u64;
    assert!(Mapping::new(&file, last, 4 * pmd(), Protection::READ, Sharing::Shared).is_err());
}

#[test]
fn the_mmap_shaped_call_takes_the_place_of_mmap() {
    let file = memfd("shaped", 8 * pmd() as u64);
    let (offset, length) = (page() as i64, 4 * pmd());
    let calls: [Mmap; 2] = [mmap64, mmap];
    for call in calls {
        let map = |addr: *mut c_void, flags, fd| {
            // SAFETY: MAP_FIXED is given for the test's own mapping only.
            let result = unsafe { call(addr, length, 3, flags, fd, offset) };
            if result as isize == -1 {
                Err(Error::last_os_error())
            } else {
                Ok(result)
            }
        };
        let address = map(null_mut(), MAP_SHARED, file.as_raw_fd()).unwrap();
        let again = map(address, MAP_SHARED | MAP_FIXED, file.as_raw_fd()).unwrap();
        assert_eq!(again, address);
        assert_eq!(mapped("shaped"), length as u64);
        if call == mmap as Mmap {
            assert!(is_congruent(address.cast(), offset as u64, deserved(offset as u64, length)));
        }
        // SAFETY: it was just mapped.
        drop(unsafe { Mapping::from_raw(NonNull::new(address.cast()).unwrap(), length) });
        assert_eq!(errno(map(null_mut(), MAP_SHARED, -1)), Some(EBADF));
    }
    assert_eq!(mapped("shaped"), 0);
}

#[test]
fn threads_share_a_mapping() {
    let memory = Mapping::anonymous(2 * pmd(), Protection::READ_WRITE, Sharing::Shared);
    let memory = &is_for_all_threads(memory.unwrap());
    thread::scope(|scope| {
        for number in 0..4 {
            // SAFETY: it is mapped, and each thread writes another byte.
            scope.spawn(move || unsafe { memory.address().add(number).write_volatile(1) });
        }
    });
    // SAFETY: the threads have ended.
    let written = (0..5).map(|at| unsafe { memory.address().add(at).read_volatile() });
    assert_eq!(written.sum::<u8>(), 4);
}
