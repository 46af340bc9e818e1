/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The kinds of memory that bench/faults maps, and what this host allows each. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "alignmap.h"

struct memory {
	char name[32];
	const char *file_system; /* NULL: a memfd, or if it is anonymous no file */
	char options[32];	 /* of the file system's mount */
	size_t hugetlb;		 /* the size of hugetlbfs's pages; 0 if it is not on hugetlbfs */
	bool anonymous;
	struct alignmap_leaves leaves; /* what Linux maps it with, as it is set here */
};

#define MEMORIES_MAX (4 + ALIGNMAP_LEAVES_MAX)

/* All kinds; how many there are. */
size_t list_memories(struct memory memories[MEMORIES_MAX]);

/* NULL, or why there are no @length bytes of it to be had here. */
const char *memory_refusal(const struct memory *memory, size_t length);

/* A file of it, in memory of the right size already; -1, with errno. */
int open_memory(const struct memory *memory, size_t length);

/* Whether it is mapped with its leaves only under MADV_HUGEPAGE. */
bool memory_wants_advice(const struct memory *memory);

/*
 * Reserves huge pages for @length bytes of each size, and one more, and tells how many there were
 * before.
 */
void borrow_huge_pages(size_t length, size_t before[ALIGNMAP_LEAVES_MAX]);
void return_huge_pages(const size_t before[ALIGNMAP_LEAVES_MAX]);

#endif /* MEMORY_H */
