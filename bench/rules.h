/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The alignment that others choose for a mapping, by its length in bytes, which is not 0. Each is
 * written from what the program does: QEMU 9.2 to 10.2 (hw/vfio/region.c), Cloud Hypervisor of
 * mid-2026 (pci/src/mmap.rs), libpmem2 (map_posix.c). None counts the offset.
 */
#ifndef RULES_H
#define RULES_H

#include <stddef.h>

#define GIB ((size_t)1 << 30)

/* The lowest set bit of the length. */
static inline size_t alignment_of_qemu_10(size_t length)
{
	const size_t lowest = length & -length;

	return lowest < GIB ? lowest : GIB;
}

/* The power of two over the length. */
static inline size_t alignment_of_cloud_hypervisor(size_t length)
{
	size_t alignment = 1;

	while (alignment < length && alignment < GIB)
		alignment <<= 1;
	return alignment;
}

static inline size_t alignment_of_libpmem2(size_t length)
{
	return length < 2 * GIB ? (size_t)2 << 20 : GIB;
}

#endif /* RULES_H */
