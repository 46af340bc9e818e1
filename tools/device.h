/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* A PCI device that is bound to vfio-pci, opened by its group; its registers are never touched. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device {
	char bdf[16];	   /* 0000:65:00.0 */
	int fd, container; /* of the VFIO device, and of the container for its DMA */
	int group;
};

/*
 * Opens the device called @name, as lspci -D or lspci prints it. Opening a device by VFIO resets
 * it, as starting a VMM with it does. NULL, or why it could not be opened and what to do, a
 * sentence without the device's name, allocated; nothing is then left open.
 */
char *device_open(struct device *device, const char *name);

void device_close(struct device *device);

struct bar {
	unsigned int number;
	uint64_t offset; /* in the device's file */
	uint64_t length; /* 0: no such BAR, or nothing of it can be mapped */
};

/* One of the six, from 0 on. What is not mapped whole, as around an MSI-X table, counts as mapped
 * whole where the kernel allows it.
 */
struct bar device_bar(const struct device *device, unsigned int number);

/* The longest of those that can be mapped; of length 0 if there is none. */
struct bar device_longest_bar(const struct device *device);

#endif /* DEVICE_H */
