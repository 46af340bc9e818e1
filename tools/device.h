/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * A PCI device that is bound to vfio-pci, opened by its group; its registers are never touched. The
 * command and the lab's programs share it.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_BARS 6

struct device {
	char bdf[16];	   /* 0000:65:00.0 */
	int fd, container; /* of the VFIO device, and of the container for its DMA */
	int group;
};

/* Finds out the full name of a device, as lspci -D or lspci prints it. False if it is no name. */
bool device_name(struct device *device, const char *name);

/* NULL, or why there is none, as device_open() says it. */
char *device_find(struct device *device, const char *name);

/*
 * Opens the device called @name. Opening a device by VFIO resets
 * it, as starting a VMM with it does. NULL, or why it could not be opened and what to do, a
 * sentence without the device's name, allocated; nothing is then left open.
 */
char *device_open(struct device *device, const char *name);

void device_close(struct device *device);

/* What the kernel says of a region, capabilities apart. False, with errno, if there is none. */
bool device_region(const struct device *device, unsigned int index,
		   struct vfio_region_info *region);

struct bar {
	unsigned int number;
	uint64_t offset; /* in the device's file */
	uint64_t length; /* 0: no such BAR, or nothing of it can be mapped */
};

/*
 * One of the six, from 0 on. What is not mapped whole, as around an MSI-X table, counts as mapped
 * whole where the kernel allows it.
 */
struct bar device_bar(const struct device *device, unsigned int number);

/* The longest of those that can be mapped; of length 0 if there is none. */
struct bar device_longest_bar(const struct device *device);

/* Of a BAR of length 0: what it is instead, as "is absent". */
const char *device_bar_refusal(const struct device *device, unsigned int number);

struct dma_map {
	size_t faults;
	double seconds;
};

/*
 * Maps what lies at @address, of a length in base pages, for DMA and takes it out again: the kernel
 * takes the faults of all of it meanwhile, and they are counted. The IOVA is congruent with @offset
 * as a guest's address is. What this process has mapped so before is warm: the measuring code's own
 * first pages count too. NULL, or why it could not be mapped, as device_open() says it.
 */
char *device_map_for_dma(const struct device *device, void *address, size_t length, uint64_t offset,
			 struct dma_map *dma);

/* Seconds of the clock that the faults are measured by. */
double device_clock(void);

#endif /* DEVICE_H */
