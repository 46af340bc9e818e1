/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the lab's programs share, beside the command's device.c. */
#ifndef LAB_DEVICE_H
#define LAB_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include <alignmap.h>

#include "../../tools/device.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What Linux maps a BAR with. open_device() asks for them. */
extern struct alignmap_leaves leaves;

__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

/* As in tools/device.h, but these end the program where it fails. */
void open_device(struct device *device, const char *bdf);
struct dma_map map_for_dma(const struct device *device, void *address, size_t length,
			   uint64_t offset);

size_t base_page(void);
size_t page_align(size_t length);

/*
 * Walks a mapping as the kernel fills it: at each place the largest leaf that address and offset
 * both allow and that ends inside.
 */
size_t entries_at(uintptr_t address, uint64_t offset, size_t length);

/* The number of KiB that a file of /proc names so, in bytes. */
size_t proc_bytes(const char *path, const char *name);

#endif /* LAB_DEVICE_H */
