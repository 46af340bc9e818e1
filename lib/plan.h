/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef PLAN_H
#define PLAN_H

#include <stdbool.h>

#include "alignmap.h"

#pragma GCC visibility push(hidden)

/*
 * How many leaves map @length bytes of @offset where they lie, at @address: the plan's entries over
 * those leaf sizes that the address is congruent for. 0 where alignmap_plan() would fail.
 */
size_t alignmap_entries_at(const struct alignmap_leaves *leaves, size_t length, uint64_t offset,
			   uintptr_t address);

/* Whether [@offset, @offset + @length), which must not wrap, holds a whole block of @size. */
static inline bool holds_block(uint64_t offset, uint64_t length, size_t size)
{
	uint64_t head = -offset & (size - 1);

	return length >= head && length - head >= size;
}

#pragma GCC visibility pop

#endif /* PLAN_H */
