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

/* Mappings of files, of the process. */
struct selection {
	const struct mapping **mappings;
	size_t count;
};

/* What the answer depends on besides the mapping. Tests make up others. */
struct surroundings {
	struct alignmap_leaves all;	  /* the host's */
	struct alignmap_leaves bar;	  /* of VFIO */
	struct alignmap_leaves cache;	  /* of files */
	struct alignmap_leaves anonymous; /* of private anonymous memory, up to the PMD */
	struct alignmap_leaves shmem;	  /* of shared memory, up to the PMD */
	bool has_thp;			  /* Linux has transparent huge pages */
	bool bars_obey;			  /* 6.16 to 7.1: BARs follow the policy for all memory */
	enum huge_policy bar_policy;
	enum huge_policy anonymous_policy;
	enum huge_policy mount_policy;	  /* System V: of shmem's own mount */
	enum huge_policy unlinked_policy; /* of what has no name in a file system: memfd */
	bool denied, forced;		  /* shmem_enabled, which mounts' huge= gives way to */
	bool thp_disabled;		  /* for the process */
	bool knows_shm;
	unsigned int shm_major, shm_minor; /* of shmem's own mount, which mountinfo does not list */
	const struct mounts *mounts;
	struct selection executable, huge; /* those with pages that PMDs map */
	const char *sys;
};

/* The word of a policy's file that is in brackets; "" where there is none. */
void read_choice(const char *path, char *choice, size_t room);

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
	struct alignmap_leaves leaves; /* as things stand; of none if there is no rule */
	struct alignmap_leaves able;   /* if no policy stood in the way */
	const char *reason;	       /* for base pages only, or for no rule; else NULL */
};

/* Fills in the selections. */
void select_mappings(const struct maps *maps, struct surroundings *around);

void free_selections(struct surroundings *around);

struct backing backing_of(const struct surroundings *around, const struct mapping *mapping);

/* As JSON has it: "vfio". */
const char *backing_name(enum backing_kind kind);

#endif /* BACKING_H */
