/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the lab's programs share: a device, opened through its VFIO group, and the faults that the
 * kernel takes for one VFIO_IOMMU_MAP_DMA.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <alignmap.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What Linux maps a BAR with. device_open() asks for them. */
extern struct alignmap_leaves leaves;

struct device {
	int container;
	int fd;
};

struct dma_map {
	size_t faults;
	double seconds;
};

__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

void device_open(struct device *device, const char *bdf);

/* What the kernel says of a region, capabilities apart. False, with errno, if there is none. */
bool device_region(const struct device *device, unsigned int index,
		   struct vfio_region_info *region);

/*
 * Maps a piece of a region for DMA, at an address congruent with its offset as a guest's is, and
 * takes it out again. The pieces mapped before it in this process are warm: the measuring code's
 * own first pages count too.
 */
struct dma_map device_map_for_dma(const struct device *device, void *address, size_t length,
				  uint64_t offset);

size_t base_page(void);
size_t page_align(size_t length);

/*
 * Walks a mapping as the kernel fills it: at each place the largest leaf that address and offset
 * both allow and that ends inside.
 */
size_t entries_at(uintptr_t address, uint64_t offset, size_t length);

#endif /* DEVICE_H */
