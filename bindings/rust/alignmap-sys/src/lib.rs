// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! The C interface of libalignmap, name by name: `alignmap.h` and `alignmap-vfio.h`, which say what
//! each means, as do the manual pages (`man 7 alignmap`). The crate `alignmap` is the safe one.
//!
//! The library is found by pkg-config, or in the folder that the environment's `ALIGNMAP_LIB_DIR`
//! names when the crate is built. With the feature `static`, or `ALIGNMAP_STATIC=1`, it is
//! `libalignmap.a`.
#![allow(non_camel_case_types)]

use std::marker::{PhantomData, PhantomPinned};
use std::os::raw::{c_int, c_uint, c_void};

/// Offsets have 64 bits, on machines of 32 bits too.
pub type off_t = i64;

/// The most leaf sizes that a host can have.
pub const ALIGNMAP_LEAVES_MAX: usize = 8;

/// Leaf sizes, largest first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct alignmap_leaves {
    pub count: c_uint,
    pub size: [usize; ALIGNMAP_LEAVES_MAX],
}

/// What lies behind a mapping.
pub type alignmap_backing = c_uint;
pub const ALIGNMAP_ANY: alignmap_backing = 0;
pub const ALIGNMAP_VFIO: alignmap_backing = 1;
pub const ALIGNMAP_FILE: alignmap_backing = 2;
pub const ALIGNMAP_ANONYMOUS: alignmap_backing = 3;

/// What a mapping deserves.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct alignmap_plan {
    pub alignment: usize,
    pub phase: usize,
    pub entries: usize,
    pub count: [usize; ALIGNMAP_LEAVES_MAX],
}

/// A congruent range of address space that is held for pieces of files.
#[repr(C)]
pub struct alignmap_window {
    _inside: [u8; 0],
    _not_to_be_moved: PhantomData<(*mut u8, PhantomPinned)>,
}

/// An option: rather fail than take a smaller alignment.
pub const ALIGNMAP_STRICT: u64 = 1;

/// How to reserve a window.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct alignmap_window_options {
    pub size: usize,
    pub max_alignment: usize,
    pub flags: u64,
}

/// What lies in a part of a window.
pub type alignmap_extent_state = c_uint;
pub const ALIGNMAP_RESERVED: alignmap_extent_state = 0;
pub const ALIGNMAP_MAPPED: alignmap_extent_state = 1;
pub const ALIGNMAP_LOST: alignmap_extent_state = 2;

/// A part of a window in which all is alike.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct alignmap_extent {
    pub address: *mut c_void,
    pub length: usize,
    pub offset: u64,
    pub state: alignmap_extent_state,
    pub prot: c_int,
}

/// A range of a region that is not to be mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct alignmap_vfio_hole {
    pub offset: u64,
    pub length: u64,
}

/// How to map a region.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct alignmap_vfio_options {
    pub size: usize,
    pub max_alignment: usize,
    pub flags: u64,
    pub holes: *const alignmap_vfio_hole,
    pub hole_count: usize,
}

/// A part of a region that is mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct alignmap_vfio_area {
    pub address: *mut c_void,
    pub length: usize,
    pub offset: u64,
    pub prot: c_int,
}

/// A region that is mapped. Made by the library, read by the caller.
#[repr(C)]
#[derive(Debug)]
pub struct alignmap_vfio_region {
    pub address: *mut c_void,
    pub length: u64,
    pub offset: u64,
    pub flags: u32,
    pub index: u32,
    pub area_count: usize,
    pub areas: *const alignmap_vfio_area,
}

extern "C" {
    pub fn alignmap_host_leaves(backing: alignmap_backing, leaves: *mut alignmap_leaves) -> c_int;

    pub fn alignmap_plan(
        leaves: *const alignmap_leaves,
        length: usize,
        offset: u64,
        plan: *mut alignmap_plan,
    ) -> c_int;

    pub fn alignmap_mmap(
        addr: *mut c_void,
        length: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        offset: off_t,
    ) -> *mut c_void;

    pub fn alignmap_window_reserve(
        offset: u64,
        length: usize,
        options: *const alignmap_window_options,
    ) -> *mut alignmap_window;

    pub fn alignmap_window_map(
        window: *mut alignmap_window,
        length: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        offset: off_t,
    ) -> *mut c_void;

    pub fn alignmap_window_unmap(window: *mut alignmap_window, offset: u64, length: usize)
        -> c_int;

    pub fn alignmap_window_query(
        window: *mut alignmap_window,
        offset: u64,
        extent: *mut alignmap_extent,
    ) -> c_int;

    pub fn alignmap_window_release(window: *mut alignmap_window) -> c_int;

    pub fn alignmap_vfio_map(
        device: c_int,
        index: c_uint,
        options: *const alignmap_vfio_options,
    ) -> *mut alignmap_vfio_region;

    pub fn alignmap_vfio_disable(region: *mut alignmap_vfio_region) -> c_int;

    pub fn alignmap_vfio_enable(region: *mut alignmap_vfio_region) -> c_int;

    pub fn alignmap_vfio_unmap(region: *mut alignmap_vfio_region) -> c_int;
}
