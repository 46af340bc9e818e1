// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! Maps files, device memory and anonymous memory at addresses that agree with what lies behind
//! them, so that Linux can map them with its largest page-table entries. It is libalignmap, a C
//! library, whose `man 7 alignmap` is the overview.
//!
//! - [`mmap`] has the arguments, the result and the errors of `libc::mmap`, to be put in its place.
//! - [`Mapping`] is one mapping, which is unmapped when it is dropped.
//! - [`Window`] is a range of addresses for pieces of a file, with holes.
//! - [`vfio::Region`] is a region of a VFIO device in such a window, around what the VMM traps.
//! - [`Leaves`] and [`Plan`] say what the host can map, and what a mapping deserves.
//!
//! ```
//! use alignmap::{Mapping, Protection, Sharing};
//!
//! let file = std::fs::File::open("/proc/self/exe")?;
//! let length = file.metadata()?.len() as usize;
//! let mapping = Mapping::new(&file, 0, length, Protection::READ, Sharing::Private)?;
//! // SAFETY: the mapping is there, can be read, and is no shorter than that.
//! let first = unsafe { mapping.address().read_volatile() };
//! assert_eq!(first, 0x7f);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Memory that others write
//! What is mapped here can be written by a guest, a device or another process, and cut short by
//! whoever truncates the file. A Rust reference to it would promise that this does not happen: there
//! are addresses and lengths only, to be accessed by volatile reads and writes, or given to
//! KVM, to VFIO, or to vm-memory's `MmapRegion::build_raw` and `VolatileSlice::new`.
//!
//! All types can be sent to other threads and used by several at once. In the child that a
//! threaded process forks, windows and regions must not be used.
//!
//! # How it is linked
//! libalignmap is found by pkg-config, or in the folder that the environment's `ALIGNMAP_LIB_DIR`
//! names when the crate `alignmap-sys` is built. With the feature `static`, or `ALIGNMAP_STATIC=1`
//! there, it is linked statically; else the program finds it where ld.so looks, so installed, or by
//! LD_LIBRARY_PATH. Other mappings of the program are not changed. In Cargo.toml it is
//! `alignmap = { path = "…/bindings/rust/alignmap" }`.
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_debug_implementations)]

mod leaves;
mod mapping;
pub mod vfio;
mod window;

pub use alignmap_sys as sys;
pub use leaves::{Backing, Leaves, Plan};
pub use mapping::{Mapping, Sharing};
pub use window::{Extent, ExtentState, Extents, Window};

/// Maps as mmap(2) does, at the address that the mapping deserves: `libc::mmap`, or `libc::mmap64`
/// on machines of 32 bits, with another name. `munmap` unmaps.
///
/// Calls that carry an address, or `MAP_FIXED` and its like, are left to the kernel as they are. So
/// is what cannot be placed: a mapping that mmap(2) would have made is always made.
///
/// # Safety
/// That of mmap(2): with `MAP_FIXED` it replaces what is mapped there.
pub use alignmap_sys::alignmap_mmap as mmap;

use std::ffi::c_void;
use std::io;
use std::ops::BitOr;
use std::os::raw::c_int;
use std::ptr::NonNull;

/// How memory may be accessed: one of the constants, or several by `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protection(c_int);

impl Protection {
    /// Not at all.
    pub const NONE: Protection = Protection(0);
    /// It can be read.
    pub const READ: Protection = Protection(1);
    /// It can be written.
    pub const WRITE: Protection = Protection(2);
    /// Both.
    pub const READ_WRITE: Protection = Protection(3);
    /// It can be executed.
    pub const EXECUTE: Protection = Protection(4);

    /// The `PROT_*` of mmap(2).
    pub const fn bits(self) -> c_int {
        self.0
    }

    /// Whether all is allowed that `other` allows.
    pub const fn contains(self, other: Protection) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Protection {
    type Output = Protection;

    fn bitor(self, other: Protection) -> Protection {
        Protection(self.0 | other.0)
    }
}

/// How to reserve a window or map a region. The default is the alignment that the plan asks for, or
/// a smaller one where there is no room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    max_alignment: usize,
    strict: bool,
}

impl Options {
    /// The default.
    pub const fn new() -> Options {
        Options { max_alignment: 0, strict: false }
    }

    /// Bounds the alignment: a power of two, in bytes, and no less than the base page.
    pub const fn max_alignment(self, bytes: usize) -> Options {
        Options { max_alignment: bytes, ..self }
    }

    /// Rather fails, with `ENOMEM`, than takes a smaller alignment than is asked for.
    pub const fn strict(self) -> Options {
        Options { strict: true, ..self }
    }

    const fn flags(self) -> u64 {
        if self.strict {
            sys::ALIGNMAP_STRICT
        } else {
            0
        }
    }
}

/// The result of a C function that gives 0, or -1 with errno set.
fn check(result: c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The result of a mapping call: `MAP_FAILED` is all bits.
fn check_address(result: *mut c_void) -> io::Result<NonNull<u8>> {
    match NonNull::new(result.cast()) {
        Some(address) if result as isize != -1 => Ok(address),
        _ => Err(io::Error::last_os_error()),
    }
}
