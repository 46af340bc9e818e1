// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! Regions of VFIO. No machine has a device for tests: its file is one in memory, and this program's
//! `ioctl` says of it what the kernel says of a device's regions. Real ones are tested in C.
#![deny(unsafe_op_in_unsafe_fn)]

mod common;
use alignmap::vfio::{Hole, Region};
use alignmap::{Options, Protection};
use common::*;
use std::ffi::c_void;
use std::fs::File;
use std::os::raw::{c_char, c_int, c_ulong};
use std::os::unix::io::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

const RTLD_NEXT: *mut c_void = -1isize as *mut c_void;
const VFIO_DEVICE_GET_REGION_INFO: c_ulong = 0x3b6c;
const READ: u32 = 1;
const WRITE: u32 = 2;
const MMAP: u32 = 4;
const CAPS: u32 = 8;

/// `struct vfio_region_info`, and behind it a sparse mmap capability.
#[repr(C)]
pub struct Info {
    argsz: u32,
    flags: u32,
    index: u32,
    cap_offset: u32,
    size: u64,
    offset: u64,
    sparse: Sparse,
}

#[repr(C)]
pub struct Sparse {
    id: u16,
    version: u16,
    next: u32,
    area_count: u32,
    reserved: u32,
    areas: [(u64, u64); 2],
}

const WITHOUT_CAPABILITY: u32 = 32;

static DEVICES: Mutex<Vec<c_int>> = Mutex::new(Vec::new());

/// Before the C library's, for the library too.
///
/// # Safety
/// That of ioctl(2).
#[no_mangle]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut Info) -> c_int {
    if request == VFIO_DEVICE_GET_REGION_INFO && DEVICES.lock().unwrap().contains(&fd) {
        // SAFETY: who makes that request has such a structure, without what is behind.
        return unsafe { region_info(argument) };
    }
    type Ioctl = unsafe extern "C" fn(c_int, c_ulong, ...) -> c_int;
    // SAFETY: it is the call that was made.
    unsafe {
        let next = dlsym(RTLD_NEXT, b"ioctl\0".as_ptr().cast());
        std::mem::transmute::<*mut c_void, Ioctl>(next)(fd, request, argument)
    }
}

/// BAR 0 whole, no BAR 1, BAR 2 with a hole of the kernel's own, the rest read-only and small.
unsafe fn region_info(info: *mut Info) -> c_int {
    let pmd = pmd() as u64;
    // SAFETY: the caller's.
    unsafe {
        let room = (*info).argsz;
        let index = (*info).index;
        (*info).argsz = WITHOUT_CAPABILITY;
        (*info).cap_offset = 0;
        (*info).offset = u64::from(index) << 40;
        (*info).size = [8 * pmd, 0, 8 * pmd, 256][index as usize];
        (*info).flags =
            [READ | WRITE | MMAP, 0, READ | WRITE | MMAP | CAPS, READ | MMAP][index as usize];
        if index == 2 {
            (*info).argsz = std::mem::size_of::<Info>() as u32;
            if room >= (*info).argsz {
                (*info).cap_offset = WITHOUT_CAPABILITY;
                let areas = [(4 * pmd, 4 * pmd), (0, pmd)];
                (*info).sparse =
                    Sparse { id: 1, version: 1, next: 0, area_count: 2, reserved: 0, areas };
            }
        }
    }
    0
}

/// A device that knows whether it is open.
struct Device(File, Arc<AtomicBool>);

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        DEVICES.lock().unwrap().retain(|&fd| fd != self.0.as_raw_fd());
        self.1.store(false, Ordering::SeqCst);
    }
}

fn open(name: &str) -> (Device, Arc<AtomicBool>) {
    let file = memfd(name, 4 << 40);
    DEVICES.lock().unwrap().push(file.as_raw_fd());
    let is_open = Arc::new(AtomicBool::new(true));
    (Device(file, is_open.clone()), is_open)
}

fn areas<D>(region: &Region<D>) -> Vec<(u64, usize, Protection)> {
    let part = |area: alignmap::vfio::Area| {
        assert_eq!(area.address as u64, region.address() as u64 + area.offset);
        (area.offset, area.length, area.protection)
    };
    region.areas().map(part).collect()
}

#[test]
fn a_region_is_mapped_around_its_holes() {
    let (page, pmd) = (page(), pmd());
    let (device, _) = open("holes");
    let holes =
        [Hole { offset: 5 * pmd as u64 + 16, length: 1 }, Hole { offset: 0, length: page as u64 }];
    let region = Region::map(device, 2, &holes, Options::new().strict()).unwrap();
    assert_eq!((region.index(), region.length()), (2, 8 * pmd as u64));
    assert_eq!((region.offset(), region.flags()), (2 << 40, READ | WRITE | MMAP | CAPS));
    assert!(is_congruent(region.address(), region.offset(), deserved(2 << 40, 8 * pmd)));
    let expected = [
        (page as u64, pmd - page),
        (4 * pmd as u64, pmd),
        ((5 * pmd + page) as u64, 3 * pmd - page),
    ];
    let expected = expected.map(|(offset, length)| (offset, length, Protection::READ_WRITE));
    assert_eq!(areas(&region), expected);
    assert_eq!(region.areas().len(), 3);
    assert_eq!(mapped("holes"), (5 * pmd - 2 * page) as u64);
    for area in region.areas() {
        // SAFETY: it is mapped, writable.
        unsafe { area.address.write_volatile(1) };
    }
}

#[test]
fn it_is_as_before_when_it_was_disabled() {
    let (device, _) = open("disabled");
    let region = is_for_all_threads(Region::map(&device, 0, &[], Options::new()).unwrap());
    let before = areas(&region);
    assert_eq!(mapped("disabled"), 8 * pmd() as u64);
    thread::scope(|scope| {
        scope.spawn(|| {
            region.disable().unwrap();
            region.disable().unwrap();
        });
    });
    assert_eq!(mapped("disabled"), 0);
    region.enable().unwrap();
    assert_eq!(mapped("disabled"), 8 * pmd() as u64);
    assert_eq!(areas(&region), before);
    region.unmap().unwrap();
    assert_eq!(mapped("disabled"), 0);
}

#[test]
fn the_device_is_open_as_long_as_its_region_is_mapped() {
    let (device, is_open) = open("open");
    let region = Region::map(device, 0, &[], Options::new()).unwrap();
    assert!(is_open.load(Ordering::SeqCst));
    assert!(region.device().1.load(Ordering::SeqCst));
    drop(region);
    assert!(!is_open.load(Ordering::SeqCst));
    assert_eq!(mapped("open"), 0);
}

#[test]
fn a_small_region_is_read_only_if_the_kernel_says_so() {
    let (device, _) = open("small");
    let region = Region::map(&device, 3, &[], Options::new()).unwrap();
    assert_eq!(region.length(), 256);
    assert_eq!(areas(&region), [(0, page(), Protection::READ)]);
}

#[test]
fn what_cannot_be_mapped_says_why() {
    let (device, _) = open("why");
    let map = |index, holes: &[Hole]| errno(Region::map(&device, index, holes, Options::new()));
    assert_eq!(map(1, &[]), Some(ENODEV));
    assert_eq!(map(0, &[Hole { offset: 8 * pmd() as u64, length: 1 }]), Some(ERANGE));
    let file = memfd("none", 4096);
    assert_eq!(errno(Region::map(file, 0, &[], Options::new())), Some(ENOTTY));
    assert_eq!(mapped("why"), 0);
}

#[test]
fn holes_may_leave_nothing() {
    let (device, _) = open("nothing");
    let all = [Hole { offset: 0, length: 8 * pmd() as u64 }];
    let region = Region::map(&device, 0, &all, Options::new()).unwrap();
    assert_eq!(region.areas().count(), 0);
}
