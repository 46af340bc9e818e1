/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The ways to place a mapping that are measured against each other, each in a process of its own.
 */
#ifndef WAYS_H
#define WAYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "alignmap.h"

enum way {
	PLAIN,
	QEMU_10,
	CLOUD_HYPERVISOR,
	LIBPMEM2,
	API,
	PRELOAD_HINT,
	PRELOAD_FIXED,
	FREE_ADDRESS,
	WAYS,
};

struct mapping {
	size_t length;
	off_t offset;
	int fd;
};

/*
 * Maps, shared, to be read and written; MAP_FAILED as mmap(2). @free_address is for the one way
 * that is told where there is room, and congruent.
 */
typedef void *map_function(const struct mapping *mapping, uintptr_t free_address);

extern const struct way_description {
	const char *name;
	map_function *map;
	const char *environment; /* NULL: not under the preload */
} ways[WAYS];

/* Whether this library answers for the address, so that it must be congruent. */
static inline int is_ours(enum way way)
{
	return way == API || way == PRELOAD_HINT || way == PRELOAD_FIXED;
}

/* What the host's leaf sizes make of it. */
struct alignmap_plan plan_for(size_t length, off_t offset);

/* A process that does what it reads from its standard input. */
struct worker {
	pid_t pid;
	int orders;
	int answers;
};

/*
 * Starts this program anew as `PROGRAM --worker WAY`, under @library where the way asks for it,
 * and without any other environment.
 */
struct worker start_worker(enum way way, const char *library);
void end_worker(struct worker *worker);

/* Whole structures through pipes; the program ends where one cannot be had. */
void tell(int fd, const void *from, size_t length);
void hear(int fd, void *to, size_t length);

#endif /* WAYS_H */
