/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What /proc/PID/smaps says of a process's mappings, or /proc/PID/maps, which has the same lines
 * but for those on the pages.
 */
#ifndef MAPS_H
#define MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Of VmFlags, what matters here: advice, hugetlbfs, and page frames that smaps does not count. */
enum mapping_flags {
	UNDER_MADV_HUGEPAGE = 1,   /* hg */
	UNDER_MADV_NOHUGEPAGE = 2, /* nh */
	OF_HUGETLB = 4,		   /* ht */
	OF_PAGE_FRAMES = 8,	   /* pf */
};

struct mapping {
	uintptr_t address;
	size_t length;
	char permissions[5]; /* "rw-p" */
	uint64_t offset;
	unsigned int major, minor; /* of the file's device, with the inode 0 where there is none */
	uint64_t inode;
	char *name; /* as it stands there: with \012 for newlines and " (deleted)"; "" for none */
	/* From smaps, in bytes; 0 where it does not say. */
	unsigned int flags;
	bool has_rss;
	uint64_t page; /* KernelPageSize */
	uint64_t rss;
	uint64_t huge; /* of it, or on hugetlbfs besides it, what PMDs and larger entries map */
};

struct maps {
	struct mapping *mappings;
	size_t count, room;
	size_t skipped; /* lines that make no sense, and those that would belong to such a line */
};

/*
 * Reads all of @file. False with errno set if that fails: ESRCH where the process has ended. What
 * has been read until then is to be freed in any case.
 */
bool maps_read(FILE *file, struct maps *maps);

void maps_free(struct maps *maps);

#endif /* MAPS_H */
