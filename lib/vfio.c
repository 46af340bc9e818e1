// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * VFIO regions: what the kernel says of a region, without the caller's holes, put piece by piece in
 * a window. The kernel, or a mediated device's driver, may say any nonsense.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vfio.h"
#include "window.h"

/* More than any kernel has to say of a region: 65,000 areas. */
#define MOST_INFO (1u << 20)

struct region {
	struct alignmap_vfio_region public;
	pthread_mutex_t lock; /* for all areas at once; the window has its own for each */
	struct alignmap_window *window;
	size_t window_length;
	int device;
	bool enabled;
	struct alignmap_vfio_area areas[];
};

static uint64_t down(uint64_t offset, size_t page)
{
	return offset & ~(uint64_t)(page - 1);
}

static uint64_t up(uint64_t offset, size_t page)
{
	return down(offset + page - 1, page);
}

/* Where the one sparse mmap capability lies, 0 if there is none. False: the chain is broken. */
static bool find_sparse(const char *info, size_t filled, size_t *found)
{
	struct vfio_region_info region;
	size_t steps = filled / sizeof(struct vfio_info_cap_header);
	struct vfio_info_cap_header header;

	*found = 0;
	memcpy(&region, info, sizeof(region));
	if (!(region.flags & VFIO_REGION_INFO_FLAG_CAPS))
		return true;
	for (size_t at = region.cap_offset; at; at = header.next) {
		/* More capabilities than there is room for headers: the chain loops. */
		if (at < sizeof(region) || at > filled - sizeof(header) || !steps--)
			return false;
		memcpy(&header, info + at, sizeof(header));
		if (header.id != VFIO_REGION_INFO_CAP_SPARSE_MMAP)
			continue;
		if (header.version != 1 || *found)
			return false;
		*found = at;
	}
	return true;
}

/* The areas that the kernel lets be mapped, as whole pages in any order; -1: nonsense. */
static ssize_t read_areas(const char *info, size_t filled, uint64_t length, size_t page,
			  struct vfio_range *ranges)
{
	struct vfio_region_info_cap_sparse_mmap sparse;
	size_t at;
	ssize_t count = 0;

	if (!find_sparse(info, filled, &at))
		return -1;
	if (!at) {
		ranges[0] = (struct vfio_range){ 0, up(length, page) };
		return 1;
	}
	if (filled - at < sizeof(sparse))
		return -1;
	memcpy(&sparse, info + at, sizeof(sparse));
	at += sizeof(sparse);
	if (sparse.nr_areas > (filled - at) / sizeof(struct vfio_region_sparse_mmap_area))
		return -1;
	for (; sparse.nr_areas--; at += sizeof(struct vfio_region_sparse_mmap_area)) {
		struct vfio_region_sparse_mmap_area area;
		uint64_t start, end;

		memcpy(&area, info + at, sizeof(area));
		if (area.offset > length || area.size > length - area.offset)
			return -1;
		start = up(area.offset, page);
		end = area.offset + area.size;
		/* The last page of the region is the kernel's to vouch for. */
		end = end == length ? up(end, page) : down(end, page);
		if (start < end)
			ranges[count++] = (struct vfio_range){ start, end - start };
	}
	return count;
}

/* By offset, the longer first. */
static int compare(const void *left, const void *right)
{
	const struct vfio_range *a = left, *b = right;

	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	return a->length < b->length ? 1 : -(a->length > b->length);
}

static size_t sort(struct vfio_range *ranges, size_t count)
{
	uint64_t reached = 0;
	size_t kept = 0;

	qsort(ranges, count, sizeof(ranges[0]), compare);
	for (size_t i = 0; i < count; i++) {
		uint64_t start = ranges[i].offset;
		uint64_t end = start + ranges[i].length;

		if (start < reached)
			start = reached;
		if (start >= end)
			continue;
		ranges[kept++] = (struct vfio_range){ start, end - start };
		reached = end;
	}
	return kept;
}

/* Cuts [@from, @to) out of sorted ranges, of which one may become two. */
static size_t cut(struct vfio_range *ranges, size_t count, uint64_t from, uint64_t to)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		const uint64_t start = ranges[i].offset;
		const uint64_t end = start + ranges[i].length;

		if (from > start && to < end) {
			memmove(&ranges[i + 1], &ranges[i], (count - i) * sizeof(ranges[0]));
			ranges[i].length = from - start;
			ranges[i + 1] = (struct vfio_range){ to, end - to };
			return count + 1;
		}
		if (to <= start || from >= end)
			ranges[kept++] = ranges[i];
		else if (from > start)
			ranges[kept++] = (struct vfio_range){ start, from - start };
		else if (to < end)
			ranges[kept++] = (struct vfio_range){ to, end - to };
	}
	return kept;
}

ssize_t alignmap_vfio_ranges(const void *info, size_t filled, size_t page,
			     const struct alignmap_vfio_hole *holes, size_t hole_count,
			     struct vfio_range *ranges)
{
	struct vfio_region_info region;
	ssize_t areas;
	size_t count;

	if (filled < sizeof(region)) {
		errno = EPROTO;
		return -1;
	}
	memcpy(&region, info, sizeof(region));
	if (!region.size || !(region.flags & VFIO_REGION_INFO_FLAG_MMAP) ||
	    !(region.flags & (VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE))) {
		errno = ENODEV;
		return -1;
	}
	/* mmap's offsets end at 2^63. */
	if (region.offset & (page - 1) || region.offset > INT64_MAX ||
	    region.size > down(INT64_MAX - region.offset, page)) {
		errno = EPROTO;
		return -1;
	}
	areas = read_areas(info, filled, region.size, page, ranges);
	if (areas < 0) {
		errno = EPROTO;
		return -1;
	}
	count = sort(ranges, (size_t)areas);
	for (size_t i = 0; i < hole_count; i++) {
		const struct alignmap_vfio_hole hole = holes[i];

		if (!hole.length)
			continue;
		if (hole.offset > region.size || hole.length > region.size - hole.offset) {
			errno = ERANGE;
			return -1;
		}
		count = cut(ranges, count, down(hole.offset, page),
			    up(hole.offset + hole.length, page));
	}
	return (ssize_t)count;
}

/* What the kernel says of a region, to be freed; it says itself how much room that takes. */
static struct vfio_region_info *ask(int device, unsigned int index, size_t *filled)
{
	struct vfio_region_info *info = NULL;
	uint32_t room = sizeof(*info);

	for (unsigned int attempt = 0; attempt < 4 && room <= MOST_INFO; attempt++) {
		free(info);
		info = calloc(1, room);
		if (!info)
			return NULL;
		info->argsz = room;
		info->index = index;
		if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, info) < 0) {
			free(info);
			return NULL;
		}
		*filled = room;
		if (info->argsz <= room)
			return info;
		room = info->argsz;
	}
	free(info);
	errno = EPROTO;
	return NULL;
}

static int enable(struct region *region)
{
	const struct alignmap_vfio_region *public = &region->public;
	int saved = errno;

	if (region->enabled)
		return 0;
	/* What alignmap_vfio_disable() failed to take out. */
	if (alignmap_window_unmap(region->window, public->offset, region->window_length))
		return -1;
	for (size_t i = 0; i < public->area_count; i++) {
		const struct alignmap_vfio_area *area = &region->areas[i];
		void *mapping = alignmap_window_map(region->window, area->length, area->prot,
						    MAP_SHARED, region->device,
						    (off_t)(public->offset + area->offset));

		if (mapping == MAP_FAILED) {
			saved = errno;
			alignmap_window_unmap(region->window, public->offset,
					      region->window_length);
			errno = saved;
			return -1;
		}
		/* Linux 6.16 to 7.1 applies the transparent-huge-page policy to BARs. */
		madvise(mapping, area->length, MADV_HUGEPAGE);
	}
	region->enabled = true;
	errno = saved;
	return 0;
}

/* Everything but the mappings; NULL with errno set. */
static struct region *make_region(int device, const struct vfio_region_info *info,
				  const struct vfio_range *ranges, size_t count, size_t page,
				  const struct alignmap_vfio_options *options)
{
	const struct alignmap_window_options window_options = { sizeof(window_options),
								options->max_alignment,
								options->flags };
	struct region *region = calloc(1, sizeof(*region) + count * sizeof(region->areas[0]));
	struct alignmap_extent extent;
	int prot = PROT_NONE;

	if (!region)
		return NULL;
	region->window_length = up(info->size, page);
	region->window =
		alignmap_window_reserve(info->offset, region->window_length, &window_options);
	if (!region->window || alignmap_window_query(region->window, info->offset, &extent)) {
		free(region);
		return NULL;
	}
	pthread_mutex_init(&region->lock, NULL);
	region->device = device;
	if (info->flags & VFIO_REGION_INFO_FLAG_READ)
		prot |= PROT_READ;
	if (info->flags & VFIO_REGION_INFO_FLAG_WRITE)
		prot |= PROT_WRITE;
	for (size_t i = 0; i < count; i++)
		region->areas[i] = (struct alignmap_vfio_area){
			.address = (char *)extent.address + ranges[i].offset,
			.length = ranges[i].length,
			.offset = ranges[i].offset,
			.prot = prot,
		};
	region->public = (struct alignmap_vfio_region){
		.address = extent.address,
		.length = info->size,
		.offset = info->offset,
		.flags = info->flags,
		.index = info->index,
		.area_count = count,
		.areas = region->areas,
	};
	return region;
}

static struct region *map_region(int device, const struct vfio_region_info *info, size_t filled,
				 const struct alignmap_vfio_options *options)
{
	struct vfio_range *ranges;
	struct alignmap_leaves leaves;
	struct region *region = NULL;
	ssize_t count;
	size_t page;

	alignmap_host_leaves(ALIGNMAP_ANY, &leaves);
	page = leaves.size[leaves.count - 1];
	ranges = calloc(alignmap_vfio_room(filled, options->hole_count), sizeof(ranges[0]));
	if (!ranges)
		return NULL;
	count = alignmap_vfio_ranges(info, filled, page, options->holes, options->hole_count,
				     ranges);
	if (count >= 0)
		region = make_region(device, info, ranges, (size_t)count, page, options);
	free(ranges);
	if (region && enable(region)) {
		int error = errno;

		alignmap_vfio_unmap(&region->public);
		errno = error;
		region = NULL;
	}
	return region;
}

struct alignmap_vfio_region *alignmap_vfio_map(int device, unsigned int index,
					       const struct alignmap_vfio_options *options)
{
	struct alignmap_vfio_options asked = { 0 };
	struct vfio_region_info *info;
	struct region *region;
	size_t filled;

	if (!alignmap_read_options(options, &asked, sizeof(asked)))
		return NULL;
	if (asked.hole_count && (!asked.holes || asked.hole_count > SIZE_MAX / 64)) {
		errno = EINVAL;
		return NULL;
	}
	info = ask(device, index, &filled);
	if (!info)
		return NULL;
	region = map_region(device, info, filled, &asked);
	free(info);
	return region ? &region->public : NULL;
}

static bool has_lost_an_area(const struct region *region)
{
	struct alignmap_extent extent;

	for (size_t i = 0; i < region->public.area_count; i++)
		if (alignmap_window_query(region->window,
					  region->public.offset + region->areas[i].offset,
					  &extent) == 0 &&
		    extent.state == ALIGNMAP_LOST)
			return true;
	return false;
}

/* The public part is the first member. */
static struct region *inside(struct alignmap_vfio_region *region)
{
	return (struct region *)region;
}

int alignmap_vfio_disable(struct alignmap_vfio_region *public)
{
	struct region *region = inside(public);
	int result;

	if (!region) {
		errno = EINVAL;
		return -1;
	}
	pthread_mutex_lock(&region->lock);
	region->enabled = false;
	result = alignmap_window_unmap(region->window, public->offset, region->window_length);
	/* It may be mapped there still. */
	if (!result && has_lost_an_area(region)) {
		errno = EEXIST;
		result = -1;
	}
	pthread_mutex_unlock(&region->lock);
	return result;
}

int alignmap_vfio_enable(struct alignmap_vfio_region *public)
{
	struct region *region = inside(public);
	int result;

	if (!region) {
		errno = EINVAL;
		return -1;
	}
	pthread_mutex_lock(&region->lock);
	result = enable(region);
	pthread_mutex_unlock(&region->lock);
	return result;
}

int alignmap_vfio_unmap(struct alignmap_vfio_region *public)
{
	struct region *region = inside(public);

	if (!region)
		return 0;
	if (alignmap_window_release(region->window))
		return -1;
	pthread_mutex_destroy(&region->lock);
	free(region);
	return 0;
}
