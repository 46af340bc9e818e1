// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
//! What a host can map, and what a mapping deserves: arithmetic.

use crate::{check, sys};
use std::{fmt, io};

/// What lies behind a mapping, which bounds the leaves that Linux uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backing {
    /// Every leaf size of the host. Placement uses these for all but anonymous memory.
    Any,
    /// A BAR mapped through VFIO, since Linux 6.12.
    Vfio,
    /// Page cache and file-system DAX.
    File,
    /// Anonymous memory.
    Anonymous,
}

/// Leaf sizes: how much memory one page-table entry maps, or one run of entries that the hardware
/// treats as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Leaves(sys::alignmap_leaves);

impl Leaves {
    /// Those of this host.
    pub fn host(backing: Backing) -> Leaves {
        let backing = match backing {
            Backing::Any => sys::ALIGNMAP_ANY,
            Backing::Vfio => sys::ALIGNMAP_VFIO,
            Backing::File => sys::ALIGNMAP_FILE,
            Backing::Anonymous => sys::ALIGNMAP_ANONYMOUS,
        };
        let mut leaves = sys::alignmap_leaves::default();
        // SAFETY: it writes a whole structure.
        let result = unsafe { sys::alignmap_host_leaves(backing, &mut leaves) };
        // It fails for other backings only.
        assert_eq!(result, 0);
        Leaves(leaves)
    }

    /// Those of any other host, to plan for it: up to eight powers of two in bytes, the largest
    /// first and the base page last.
    ///
    /// # Errors
    /// `EINVAL`, or [`io::ErrorKind::InvalidInput`] if there are more: the sizes are no such list.
    pub fn new(sizes: &[usize]) -> io::Result<Leaves> {
        let mut leaves = sys::alignmap_leaves::default();
        let places = leaves.size.get_mut(..sizes.len()).ok_or(io::ErrorKind::InvalidInput)?;
        places.copy_from_slice(sizes);
        leaves.count = sizes.len() as u32;
        let leaves = Leaves(leaves);
        leaves.plan(0, 1)?;
        Ok(leaves)
    }

    /// The sizes in bytes, largest first. The last is the base page.
    pub fn sizes(&self) -> &[usize] {
        &self.0.size[..self.0.count as usize]
    }

    /// Works out what a mapping of `length` bytes at `offset` deserves. Anonymous memory has offset
    /// 0.
    ///
    /// # Errors
    /// `EINVAL` (the length is 0, the offset no multiple of the base page), `EOVERFLOW` (they exceed
    /// 64 bits).
    pub fn plan(&self, offset: u64, length: usize) -> io::Result<Plan> {
        let mut plan = sys::alignmap_plan::default();
        // SAFETY: one is read, the other written.
        check(unsafe { sys::alignmap_plan(&self.0, length, offset, &mut plan) })?;
        Ok(Plan {
            alignment: plan.alignment,
            phase: plan.phase,
            entries: plan.entries,
            count: plan.count,
        })
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Leaves").field(&self.sizes()).finish()
    }
}

/// What a mapping deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The modulus, in bytes, under which its address must agree with its offset.
    pub alignment: usize,
    /// Its offset modulo the alignment: what its address must leave as a remainder.
    pub phase: usize,
    /// How many page-table entries map it at such an address, the fewest possible; and how many
    /// faults fill it.
    pub entries: usize,
    /// The same by leaf size, in the order of [`Leaves::sizes`].
    pub count: [usize; sys::ALIGNMAP_LEAVES_MAX],
}
