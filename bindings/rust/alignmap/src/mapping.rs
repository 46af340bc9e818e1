// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! One mapping.

use crate::{check, check_address, mmap, Protection};
use std::ffi::c_void;
use std::io;
use std::mem::ManuallyDrop;
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd};
use std::ptr::{null_mut, NonNull};

const MAP_ANONYMOUS: c_int =
    if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 0x800 } else { 0x20 };

extern "C" {
    fn munmap(address: *mut c_void, length: usize) -> c_int;
}

/// Who sees what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All who map it: `MAP_SHARED`.
    Shared,
    /// The process alone: `MAP_PRIVATE`.
    Private,
}

impl Sharing {
    pub(crate) const fn flags(self) -> c_int {
        match self {
            Sharing::Shared => 1,
            Sharing::Private => 2,
        }
    }
}

/// A mapping, at the address that it deserves. It is unmapped when it is dropped.
///
/// It says where it is, and lends no references: see [the crate](crate#memory-that-others-write).
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: it is a range of addresses, which are the same in all threads. It accesses nothing there.
unsafe impl Send for Mapping {}
// SAFETY: the same; and nothing can be changed by a reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of a file, or of a device, from `offset` on, a multiple of the base page.
    /// The file can be closed. On hugetlbfs the length should be a multiple of the file's page size:
    /// munmap(2) refuses any other, and the mapping stays.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new<F: AsFd>(
        file: F,
        offset: u64,
        length: usize,
        protection: Protection,
        sharing: Sharing,
    ) -> io::Result<Mapping> {
        let fd = file.as_fd().as_raw_fd();
        Mapping::make(length, protection, sharing.flags(), fd, offset as i64)
    }

    /// Maps `length` bytes of anonymous memory.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn anonymous(
        length: usize,
        protection: Protection,
        sharing: Sharing,
    ) -> io::Result<Mapping> {
        Mapping::make(length, protection, sharing.flags() | MAP_ANONYMOUS, -1, 0)
    }

    fn make(
        length: usize,
        protection: Protection,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> io::Result<Mapping> {
        // SAFETY: without MAP_FIXED, which none of the callers gives, what is mapped stays.
        let mapping = unsafe { mmap(null_mut(), length, protection.bits(), flags, fd, offset) };
        Ok(Mapping { address: check_address(mapping)?, length })
    }

    /// Takes over what [`mmap`] has mapped, with any of its flags.
    ///
    /// # Safety
    /// `length` bytes are mapped at `address`, and nobody else unmaps them.
    pub unsafe fn from_raw(address: NonNull<u8>, length: usize) -> Mapping {
        Mapping { address, length }
    }

    /// Gives it up: it is not unmapped.
    pub fn into_raw(self) -> (NonNull<u8>, usize) {
        let mapping = ManuallyDrop::new(self);
        (mapping.address, mapping.length)
    }

    /// The address of its first byte: `userspace_addr` of `KVM_SET_USER_MEMORY_REGION`, `vaddr` of
    /// `VFIO_IOMMU_MAP_DMA`.
    pub fn address(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// Its length in bytes, as it was asked for.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Unmaps it, as dropping does, and says whether that has succeeded.
    ///
    /// # Errors
    /// Those of munmap(2), such as `ENOMEM` near vm.max_map_count; it stays mapped then.
    pub fn unmap(self) -> io::Result<()> {
        ManuallyDrop::new(self).release()
    }

    fn release(&mut self) -> io::Result<()> {
        // SAFETY: it is ours, and nobody uses it after this.
        check(unsafe { munmap(self.address.as_ptr().cast(), self.length) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // There is nobody to tell: what the kernel refuses to unmap stays mapped.
        let _ = self.release();
    }
}
