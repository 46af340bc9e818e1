/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/**
 * DOC: libalignmap for VFIO
 *
 * Maps a region of a VFIO device, such as a PCI device's BAR, with the largest page-table entries
 * that its size allows, without the holes that the kernel or the VMM wants to be trapped, and
 * lists the areas that are left, to be told to KVM and to the IOMMU.
 */
#ifndef ALIGNMAP_VFIO_H
#define ALIGNMAP_VFIO_H

#include <linux/vfio.h>
#include <stddef.h>
#include <stdint.h>

#include "alignmap.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/**
 * struct alignmap_vfio_hole - A range of a region that is not to be mapped.
 * @offset: Its first byte, from the region's start. Any: the pages that hold a byte of it are cut.
 * @length: Its length in bytes. 0 cuts nothing.
 */
struct alignmap_vfio_hole {
	uint64_t offset;
	uint64_t length;
};

/**
 * struct alignmap_vfio_options - How to map a region.
 * @size: sizeof(struct alignmap_vfio_options), so that later versions can append to it.
 * @max_alignment: As in struct alignmap_window_options.
 * @flags: 0 or ALIGNMAP_STRICT.
 * @holes: What the VMM emulates or traps, in any order; they may overlap. Copied. The library does
 *	not look for the MSI-X table and the PBA, and since Linux 4.16 the kernel lets them be
 *	mapped: a VMM that emulates them must name them, or its guest writes the device's own.
 * @hole_count: How many holes there are. 0: @holes is not read.
 */
struct alignmap_vfio_options {
	size_t size;
	size_t max_alignment;
	uint64_t flags;
	const struct alignmap_vfio_hole *holes;
	size_t hole_count;
};

/**
 * struct alignmap_vfio_area - A part of a region that is mapped.
 * @address: Where it is mapped: userspace_addr of KVM_SET_USER_MEMORY_REGION, vaddr of
 *	VFIO_IOMMU_MAP_DMA. (IOMMU_IOAS_MAP refuses device memory, with EFAULT.)
 * @length: Its length in bytes, a multiple of the base page: memory_size of the former, size of the
 *	latter.
 * @offset: Its offset in bytes from the region's start: guest_phys_addr and iova are the guest's
 *	address of the region plus this.
 * @prot: PROT_READ, PROT_WRITE or both, as the region's flags allow.
 */
struct alignmap_vfio_area {
	void *address;
	size_t length;
	uint64_t offset;
	int prot;
};

/**
 * struct alignmap_vfio_region - A region that is mapped. Made by the library, read by the caller.
 * @address: The address of the region's first byte, whether that is mapped or not.
 * @length: The region's length in bytes, as the kernel says. The last area may go beyond it, to the
 *	end of a page: vfio-pci lets a BAR smaller than a page be mapped only if nothing else lies
 *	in that page.
 * @offset: The region's offset in bytes in the device's file, for pread(2) and pwrite(2).
 * @flags: VFIO_REGION_INFO_FLAG_*, as the kernel says.
 * @index: The region's number.
 * @area_count: How many areas there are. 0 if the holes leave nothing.
 * @areas: The areas, by rising offset. They do not overlap, and stay as they are until
 *	alignmap_vfio_unmap().
 */
struct alignmap_vfio_region {
	void *address;
	uint64_t length;
	uint64_t offset;
	uint32_t flags;
	uint32_t index;
	size_t area_count;
	const struct alignmap_vfio_area *areas;
};

/**
 * alignmap_vfio_map() - Maps what of a device's region can be mapped.
 * @device: The device's file descriptor, of a group or a cdev. It must stay open until
 *	alignmap_vfio_unmap(): alignmap_vfio_enable() maps what has its number.
 * @index: The region's number, such as VFIO_PCI_BAR0_REGION_INDEX.
 * @options: NULL stands for no holes and the best alignment that there is room for.
 *
 * The kernel says by VFIO_DEVICE_GET_REGION_INFO how long the region is, whether it can be mapped
 * and written, and by the sparse mmap capability which areas of it. Areas that are not aligned are
 * cut to whole pages, and where two overlap the later begins where the earlier ends, so that each
 * mapping lies in one area of the kernel's. The caller's holes are cut out of them page by
 * page. What is left is mapped shared, each piece at its place in a window that is congruent with
 * the whole region, and madvise(MADV_HUGEPAGE) is called on it, whose failure means nothing.
 *
 * It makes the system calls ioctl and madvise, and those of alignmap_window_reserve() and
 * alignmap_window_map().
 *
 * Return: the region, to be freed by alignmap_vfio_unmap(). Or NULL, with nothing left mapped (but
 * near vm.max_map_count, where munmap(2) can fail), and errno set to ENODEV (the region has no
 * bytes or cannot be mapped: I/O ports, configuration space, a BAR that is not there; to be skipped
 * when mapping all BARs), EINVAL (the options are not as described), ERANGE (a hole is not wholly
 * in the region), E2BIG (options of a later version that this one does not know), EPROTO (what the
 * kernel or a mediated device says of the region contradicts itself: a capability or an area out of
 * range, a chain that loops, a sparse mmap capability twice or of another version than 1), or as
 * ioctl(2) (EINVAL: no such region; ENOTTY: no VFIO device), alignmap_window_reserve() and
 * alignmap_window_map() set it.
 *
 * Safe in threads, not in signal handlers.
 */
struct alignmap_vfio_region *alignmap_vfio_map(int device, unsigned int index,
					       const struct alignmap_vfio_options *options);

/**
 * alignmap_vfio_disable() - Takes a region's areas out, and holds their addresses.
 * @region: The region. One that is disabled already stays so.
 *
 * For when the device must not be accessed: memory decoding is off, a reset, a power state. Each
 * access faults with SIGSEGV until alignmap_vfio_enable(). What KVM and the IOMMU were given of the
 * areas must be taken back before, and given anew only when alignmap_vfio_enable() has succeeded:
 * an area whose place is lost (alignmap_window_map() and alignmap_window_unmap() say when) may hold
 * other memory of the process.
 *
 * Return: 0, or -1 with errno set to EINVAL (@region is NULL) or as alignmap_window_unmap() sets
 * it; some areas may be out then, and either call can be made again. After ENOMEM an area may be
 * lost, and stay mapped for good. Once an area's place is lost the call fails with EEXIST: only
 * unmapping the region and mapping it anew helps.
 *
 * Safe in threads, not in signal handlers.
 */
int alignmap_vfio_disable(struct alignmap_vfio_region *region);

/**
 * alignmap_vfio_enable() - Maps a region's areas again, where they were.
 * @region: The region. One that is enabled already stays so.
 *
 * Return: 0, or -1 with errno set to EINVAL (@region is NULL) or as alignmap_window_map() sets it;
 * then those that were mapped have been taken out, as by alignmap_vfio_disable(), which may fail
 * too. Once an area's place is lost the call fails with EEXIST: only unmapping the region and
 * mapping it anew helps.
 *
 * Safe in threads, not in signal handlers.
 */
int alignmap_vfio_enable(struct alignmap_vfio_region *region);

/**
 * alignmap_vfio_unmap() - Unmaps a region, and frees it.
 * @region: The region, which no other thread uses any more. NULL: nothing happens.
 *
 * What lies in a place that was lost is left alone; an area that could not be taken out stays
 * mapped there.
 *
 * Return: 0, or -1 with errno as alignmap_window_release() sets it; then it can only be unmapped
 * again.
 *
 * Safe in threads, not in signal handlers.
 */
int alignmap_vfio_unmap(struct alignmap_vfio_region *region);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif /* ALIGNMAP_VFIO_H */
