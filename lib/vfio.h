/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef LIB_VFIO_H
#define LIB_VFIO_H

#include <sys/types.h>

#include "alignmap-vfio.h"

#pragma GCC visibility push(hidden)

/* A part of a region, in bytes from the region's start. */
struct vfio_range {
	uint64_t offset;
	uint64_t length;
};

/*
 * What of a region can be mapped, as whole pages, by rising offset, none across two areas of the
 * kernel's, and none with a byte of a hole.
 *
 * @info, which need not be aligned, holds @filled bytes that VFIO_DEVICE_GET_REGION_INFO has
 * written, and may hold any nonsense; nothing outside is read. @ranges has room for
 * alignmap_vfio_room(). Returns how many there are, or -1 with errno set to ENODEV, ERANGE or
 * EPROTO as alignmap_vfio_map() says.
 */
ssize_t alignmap_vfio_ranges(const void *info, size_t filled, size_t page,
			     const struct alignmap_vfio_hole *holes, size_t hole_count,
			     struct vfio_range *ranges);

/* How many there can be: the areas that @filled bytes can name, or one, and one more for a hole. */
static inline size_t alignmap_vfio_room(size_t filled, size_t hole_count)
{
	return filled / sizeof(struct vfio_region_sparse_mmap_area) + 1 + hole_count;
}

#pragma GCC visibility pop

#endif /* LIB_VFIO_H */
