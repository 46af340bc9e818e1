/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What lies behind a mapping, and the leaf sizes that Linux can map that with. */
#ifndef BACKING_H
#define BACKING_H

#include <stdbool.h>
#include <stddef.h>

#include "alignmap.h"
#include "maps.h"
#include "process.h"

/* A file of transparent_hugepage: what is advised is under MADV_HUGEPAGE. */
enum huge_policy { HUGE_NEVER, HUGE_ADVISED, HUGE_ALWAYS };

/* What the answer depends on besides the mapping. Tests make up others. */
struct surroundings {
	struct alignmap_leaves bar, cache, anonymous; /* of VFIO, page cache, anonymous memory */
	struct alignmap_leaves all;		      /* the host's */
	enum huge_policy anonymous_policy;
	enum huge_policy shmem_policy;	    /* memfd, System V */
	enum huge_policy anon_shmem_policy; /* MAP_SHARED|MAP_ANONYMOUS */
	bool denied, forced;		    /* shmem_enabled, which mounts' huge= gives way to */
	bool thp_disabled;		    /* for the process */
	const struct mounts *mounts;
	const struct mapping **executable; /* those of files, of the process */
	size_t executable_count;
	const char *sys;
};

/* Reads the policies of transparent_hugepage under @sys/kernel/mm; the leaves must be set. */
void read_policies(const char *sys, struct surroundings *around);

enum backing_kind {
	BACKING_VFIO,
	BACKING_DAX,
	BACKING_HUGETLB,
	BACKING_SHARED,
	BACKING_FILE,
	BACKING_IMAGE,
	BACKING_DEVICE,
	BACKING_ANONYMOUS,
	BACKING_RESERVED,
	BACKING_KERNEL,
};

/*
 * How the address counts: it must agree with the offset; or it alone decides, since the memory is
 * taken page by page when it is touched, at places that suit the address; or nothing is known.
 */
enum rule { BY_OFFSET, BY_ADDRESS, NO_RULE };

struct backing {
	enum backing_kind kind;
	enum rule rule;
	struct alignmap_leaves leaves; /* of none if there is no rule */
	const char *reason;	       /* for base pages only, or for no rule; else NULL */
};

/* Fills in the executable mappings, which are to be freed. */
void find_executable(const struct maps *maps, struct surroundings *around);

struct backing backing_of(const struct surroundings *around, const struct mapping *mapping);

/* As JSON has it: "vfio". */
const char *backing_name(enum backing_kind kind);

#endif /* BACKING_H */
