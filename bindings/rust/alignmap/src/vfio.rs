// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! Regions of VFIO devices, such as BARs.
//!
//! ```no_run
//! use alignmap::vfio::{Hole, Region};
//! use alignmap::Options;
//! # let (device, table, pba, guest) = (std::fs::File::open("")?, 0x3000, 0x4000, 0u64);
//! # fn set_user_memory(guest: u64, address: u64, length: u64) {}
//!
//! // What the VMM emulates: the MSI-X table and the pending bits.
//! let trapped = [Hole { offset: table, length: 4096 }, Hole { offset: pba, length: 8 }];
//! let bar = Region::map(&device, 2, &trapped, Options::new())?;
//! for area in bar.areas() {
//!     set_user_memory(guest + area.offset, area.address as u64, area.length as u64);
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The device is whatever owns its descriptor, such as a `File` or an `Arc<File>`, or borrows it. For
//! a type that has `AsRawFd` only, as vfio-ioctls' `VfioDevice`, that is
//! [`BorrowedFd::borrow_raw`](std::os::unix::io::BorrowedFd::borrow_raw), or a type around it with
//! `AsFd`.

use crate::{check, sys, Options, Protection};
use std::io;
use std::mem::{size_of, ManuallyDrop};
use std::os::unix::io::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// A range of a region that is not to be mapped: the pages that hold a byte of it are cut.
pub use alignmap_sys::alignmap_vfio_hole as Hole;

/// A region of a device, mapped with the largest page-table entries that its size allows, without
/// the holes. It is unmapped when it is dropped, and the device is dropped then.
#[derive(Debug)]
pub struct Region<D> {
    // The order matters: the device is dropped last.
    mapped: Mapped,
    device: D,
}

/// What the library has made of it.
#[derive(Debug)]
struct Mapped(NonNull<sys::alignmap_vfio_region>);

// SAFETY: a region can be used by any thread: it has a lock, what can be read of it never changes,
// and its addresses are the same in all.
unsafe impl Send for Mapped {}
// SAFETY: the same. What needs it alone, unmapping, takes it by value.
unsafe impl Sync for Mapped {}

impl<D: AsFd> Region<D> {
    /// Maps what of the region can be mapped, but for the holes, which may lie in any order and
    /// overlap. The library does not look for the MSI-X table, which the kernel lets be mapped: a
    /// VMM that emulates it must name it as a hole.
    ///
    /// # Errors
    /// `ENODEV` (there is nothing to map in this region: to be skipped when mapping all BARs),
    /// `ERANGE` (a hole is not wholly in the region), `EPROTO` (what the kernel says of it contradicts
    /// itself), `ENOTTY` (it is no VFIO device), and those of [`Window`](crate::Window).
    pub fn map(device: D, index: u32, holes: &[Hole], options: Options) -> io::Result<Region<D>> {
        let options = sys::alignmap_vfio_options {
            size: size_of::<sys::alignmap_vfio_options>(),
            max_alignment: options.max_alignment,
            flags: options.flags(),
            holes: holes.as_ptr(),
            hole_count: holes.len(),
        };
        // SAFETY: the options are those of this version. The descriptor stays open, since the device
        // is kept.
        let region = unsafe { sys::alignmap_vfio_map(device.as_fd().as_raw_fd(), index, &options) };
        let region = NonNull::new(region).ok_or_else(io::Error::last_os_error)?;
        Ok(Region { mapped: Mapped(region), device })
    }
}

impl<D> Region<D> {
    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The address of its first byte, whether that is mapped or not.
    pub fn address(&self) -> *mut u8 {
        self.mapped.public().address.cast()
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.mapped.public().length
    }

    /// Its offset in the device's file, for pread(2) and pwrite(2).
    pub fn offset(&self) -> u64 {
        self.mapped.public().offset
    }

    /// `VFIO_REGION_INFO_FLAG_*`, as the kernel says.
    pub fn flags(&self) -> u32 {
        self.mapped.public().flags
    }

    /// Its number.
    pub fn index(&self) -> u32 {
        self.mapped.public().index
    }

    /// Its mapped areas, by rising offset; none if the holes leave nothing. They stay the same, while
    /// the region is disabled too.
    pub fn areas(&self) -> impl ExactSizeIterator<Item = Area> + '_ {
        let region = self.mapped.public();
        (0..region.area_count).map(move |at| {
            // SAFETY: there are that many, and they never change.
            let area = unsafe { *region.areas.add(at) };
            Area {
                address: area.address.cast(),
                length: area.length,
                offset: area.offset,
                protection: Protection(area.prot),
            }
        })
    }

    /// Takes the areas out, and holds their addresses: for when the device must not be accessed, as
    /// in a reset. What KVM and the IOMMU were given of them must be taken back before, and given
    /// anew only when [`Region::enable`] has succeeded.
    ///
    /// # Errors
    /// Those of [`Window::unmap`](crate::Window::unmap); `EEXIST` once the place of an area is lost.
    pub fn disable(&self) -> io::Result<()> {
        // SAFETY: nothing but areas is unmapped, to which there are no references.
        check(unsafe { sys::alignmap_vfio_disable(self.mapped.0.as_ptr()) })
    }

    /// Maps the areas again, where they were.
    ///
    /// # Errors
    /// Those of [`Window::map`](crate::Window::map); then no area is mapped.
    pub fn enable(&self) -> io::Result<()> {
        // SAFETY: the places are the region's, and the descriptor is still open.
        check(unsafe { sys::alignmap_vfio_enable(self.mapped.0.as_ptr()) })
    }

    /// Unmaps it, as dropping does, and says whether that has succeeded.
    ///
    /// # Errors
    /// Those of munmap(2), such as `ENOMEM` near vm.max_map_count; what is left stays mapped then.
    pub fn unmap(self) -> io::Result<()> {
        let mapped = ManuallyDrop::new(self.mapped);
        // SAFETY: it is ours, and nobody uses it after this.
        check(unsafe { sys::alignmap_vfio_unmap(mapped.0.as_ptr()) })
    }
}

impl Mapped {
    fn public(&self) -> &sys::alignmap_vfio_region {
        // SAFETY: it is there until it is unmapped, and nothing of it is ever written.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it after this. There is nobody to tell of a failure.
        unsafe { sys::alignmap_vfio_unmap(self.0.as_ptr()) };
    }
}

/// A part of a region that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Area {
    /// Where it is mapped: `userspace_addr` of `KVM_SET_USER_MEMORY_REGION`, `vaddr` of
    /// `VFIO_IOMMU_MAP_DMA`.
    pub address: *mut u8,
    /// Its length in bytes, a multiple of the base page.
    pub length: usize,
    /// Its offset from the region's start: `guest_phys_addr` and `iova` are the guest's address of
    /// the region plus this.
    pub offset: u64,
    /// How it can be accessed.
    pub protection: Protection,
}
