// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! Address space that is held for pieces of files.

use crate::{check, check_address, sys, Options, Protection, Sharing};
use std::io;
use std::mem::{size_of, ManuallyDrop, MaybeUninit};
use std::os::unix::io::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// A range of address space, congruent with a range of offsets, in which pieces of files are mapped
/// at their places. It is unmapped, with all its pieces, when it is dropped.
#[derive(Debug)]
pub struct Window {
    window: NonNull<sys::alignmap_window>,
    address: NonNull<u8>,
    offset: u64,
    length: usize,
}

// SAFETY: a window can be used by any thread: it has a lock, and its addresses are the same in all.
unsafe impl Send for Window {}
// SAFETY: the same. What needs it alone, its release, takes it by value.
unsafe impl Sync for Window {}

impl Window {
    /// Holds addresses for `length` bytes from `offset` on, both multiples of the base page. Nothing
    /// there can be accessed yet.
    ///
    /// # Errors
    /// `EINVAL` (they are no such multiples, the length is 0, or the options are wrong),
    /// `EOVERFLOW`, `ENOMEM` and `EAGAIN` (there is no room).
    pub fn reserve(offset: u64, length: usize, options: Options) -> io::Result<Window> {
        let options = sys::alignmap_window_options {
            size: size_of::<sys::alignmap_window_options>(),
            max_alignment: options.max_alignment,
            flags: options.flags(),
        };
        // SAFETY: the options are those of this version.
        let window = unsafe { sys::alignmap_window_reserve(offset, length, &options) };
        let window = NonNull::new(window).ok_or_else(io::Error::last_os_error)?;
        let mut window = Window { window, address: NonNull::dangling(), offset, length };
        let all = window.query(offset)?;
        window.address = check_address(all.address.cast())?;
        Ok(window)
    }

    /// The address of its first byte.
    pub fn address(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// The offset of its first byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Maps a piece of a file at its place, and gives its address. `offset` says what of the file,
    /// and where in the window. It stays until [`Window::unmap`] takes it out or the window is
    /// dropped, and must not be unmapped or moved otherwise. The file can be closed.
    ///
    /// # Errors
    /// `EINVAL` (it is not wholly in the window, or not aligned), `EEXIST` (it overlaps another
    /// piece, or a place that is lost), and those of mmap(2), mremap(2) and fstatfs(2).
    pub fn map<F: AsFd>(
        &self,
        file: F,
        offset: u64,
        length: usize,
        protection: Protection,
        sharing: Sharing,
    ) -> io::Result<*mut u8> {
        let fd = file.as_fd().as_raw_fd();
        let (prot, flags) = (protection.bits(), sharing.flags());
        // SAFETY: the library refuses what is not wholly in a free part of the window, where there
        // is nothing that Rust knows of.
        let piece = unsafe {
            sys::alignmap_window_map(self.window.as_ptr(), length, prot, flags, fd, offset as i64)
        };
        Ok(check_address(piece)?.as_ptr())
    }

    /// Takes all pieces between `offset` and `offset + length` out, and holds their places. Who
    /// accesses them faults.
    ///
    /// # Errors
    /// `EINVAL` (the range is not wholly in the window, not aligned, or cuts a piece; then nothing
    /// has changed), and those of mmap(2).
    pub fn unmap(&self, offset: u64, length: usize) -> io::Result<()> {
        // SAFETY: nothing but pieces is unmapped, to which there are no references.
        check(unsafe { sys::alignmap_window_unmap(self.window.as_ptr(), offset, length) })
    }

    /// What lies at an offset: the piece, the lost place, or all of the reserved part between such.
    ///
    /// # Errors
    /// `EINVAL`: the offset is not in the window.
    pub fn query(&self, offset: u64) -> io::Result<Extent> {
        let mut extent = MaybeUninit::uninit();
        // SAFETY: it writes all of an extent, or fails.
        let extent = unsafe {
            check(sys::alignmap_window_query(self.window.as_ptr(), offset, extent.as_mut_ptr()))?;
            extent.assume_init()
        };
        Ok(Extent {
            address: extent.address.cast(),
            length: extent.length,
            offset: extent.offset,
            state: match extent.state {
                sys::ALIGNMAP_RESERVED => ExtentState::Reserved,
                sys::ALIGNMAP_MAPPED => ExtentState::Mapped(Protection(extent.prot)),
                _ => ExtentState::Lost,
            },
        })
    }

    /// All that lies in the window, by rising offset.
    pub fn extents(&self) -> Extents<'_> {
        Extents { window: self, next: Some(self.offset) }
    }

    /// Unmaps it, as dropping does, and says whether that has succeeded.
    ///
    /// # Errors
    /// Those of munmap(2), such as `ENOMEM` near vm.max_map_count; what is left stays mapped then.
    pub fn release(self) -> io::Result<()> {
        let window = ManuallyDrop::new(self);
        // SAFETY: it is ours, and nobody uses it after this.
        check(unsafe { sys::alignmap_window_release(window.window.as_ptr()) })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it after this. There is nobody to tell of a failure.
        unsafe { sys::alignmap_window_release(self.window.as_ptr()) };
    }
}

/// A part of a window in which all is alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// Its first address.
    pub address: *mut u8,
    /// Its length in bytes.
    pub length: usize,
    /// Its first offset.
    pub offset: u64,
    /// What lies there.
    pub state: ExtentState,
}

/// What lies in a part of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentState {
    /// Nothing; it is held.
    Reserved,
    /// A piece, which was mapped so.
    Mapped(Protection),
    /// It cannot be known what: another thread may have mapped something. It is never touched
    /// again.
    Lost,
}

/// What lies in a window: see [`Window::extents`].
#[derive(Clone, Debug)]
pub struct Extents<'a> {
    window: &'a Window,
    next: Option<u64>,
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        let extent = self.window.query(self.next?).ok()?;
        self.next = extent.offset.checked_add(extent.length as u64);
        Some(extent)
    }
}
