// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What a mapping deserves: arithmetic over any machine's leaf sizes, and nothing else. */
#include <errno.h>

#include "plan.h"

static bool valid(const struct alignmap_leaves *leaves)
{
	if (leaves->count < 1 || leaves->count > ALIGNMAP_LEAVES_MAX)
		return false;
	for (unsigned int i = 0; i < leaves->count; i++) {
		size_t size = leaves->size[i];

		/* Powers of two in falling order divide each other. */
		if (!size || size & (size - 1) || (i && size >= leaves->size[i - 1]))
			return false;
	}
	return true;
}

/* How many whole, aligned blocks of @size lie in [@start, @end). */
static uint64_t whole_blocks(uint64_t start, uint64_t end, size_t size)
{
	if (!holds_block(start, end - start, size))
		return 0;
	return (end - start - (-start & (size - 1))) / size;
}

int alignmap_plan(const struct alignmap_leaves *leaves, size_t length, uint64_t offset,
		  struct alignmap_plan *plan)
{
	struct alignmap_plan p = { 0 };
	uint64_t larger = 0;
	uint64_t end;
	size_t page;

	if (!leaves || !plan || !valid(leaves) || !length) {
		errno = EINVAL;
		return -1;
	}
	page = leaves->size[leaves->count - 1];
	if (offset & (page - 1)) {
		errno = EINVAL;
		return -1;
	}
	if (__builtin_add_overflow(length, page - 1, &length) ||
	    __builtin_add_overflow(offset, length & ~(page - 1), &end)) {
		errno = EOVERFLOW;
		return -1;
	}

	p.alignment = page;
	for (unsigned int i = 0; i < leaves->count; i++) {
		size_t size = leaves->size[i];
		uint64_t whole = whole_blocks(offset, end, size);

		/* What larger leaves map already is not mapped again. */
		if (i)
			larger *= leaves->size[i - 1] / size;
		p.count[i] = whole - larger;
		p.entries += p.count[i];
		if (whole && !larger && size > p.alignment)
			p.alignment = size;
		larger = whole;
	}
	p.phase = offset & (p.alignment - 1);
	*plan = p;
	return 0;
}

size_t alignmap_entries_at(const struct alignmap_leaves *leaves, size_t length, uint64_t offset,
			   uintptr_t address)
{
	struct alignmap_leaves usable = { 0 };
	struct alignmap_plan plan;
	int saved = errno;

	for (unsigned int i = 0; i < leaves->count; i++)
		if (((address - offset) & (leaves->size[i] - 1)) == 0)
			usable.size[usable.count++] = leaves->size[i];
	if (alignmap_plan(&usable, length, offset, &plan)) {
		errno = saved;
		return 0;
	}
	return plan.entries;
}
