/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef LEAVES_H
#define LEAVES_H

#include <stdbool.h>

#include "alignmap.h"

#pragma GCC visibility push(hidden)

enum machine {
	MACHINE_X86_64,
	MACHINE_ARM64,
	MACHINE_RISCV64,
	MACHINE_PPC64,
	MACHINE_S390X,
	MACHINE_OTHER
};

/* What a host says of itself. Tests make up other hosts. */
struct machine_facts {
	enum machine machine;
	size_t page;	       /* the base page, in bytes */
	bool (*maps_1g)(void); /* x86-64: whether the processor has pdpe1gb */
	const char *sysfs;     /* "/sys/kernel/mm" */
	const char *release;   /* uname's: "6.18.44-amd64" */
};

enum thp_policy { THP_UNKNOWN, THP_ALWAYS, THP_MADVISE, THP_NEVER };

/* Where a leaf size is learnt. */
enum leaf_source {
	LEAF_PAGE,	/* the base page that the kernel tells each process */
	LEAF_HUGEPAGES, /* sysfs: hugepages */
	LEAF_THP,	/* sysfs: transparent_hugepage/hpage_pmd_size */
	LEAF_PROCESSOR, /* x86-64: pdpe1gb; riscv64: every one has it */
	LEAF_TABLE,	/* the table by machine and base page */
	LEAF_SOURCES
};

/* What is concluded from it. */
struct host {
	struct alignmap_leaves leaves;	  /* all; a count of 0 means: not learnt yet */
	struct alignmap_leaves anonymous; /* those up to the PMD */
	size_t told[LEAF_SOURCES]; /* by each source: its sizes, which are powers of two, or'ed */
	enum machine machine;
	size_t pmd;	     /* in bytes; the base page where there is no PMD leaf */
	enum thp_policy thp; /* transparent_hugepage/enabled */
	bool thp_rules_bars; /* this Linux applies that policy to device memory */
};

void alignmap_learn_host(const struct machine_facts *facts, struct host *host);
int alignmap_leaves_of(const struct host *host, enum alignmap_backing backing,
		       struct alignmap_leaves *leaves);

/* This host, learnt by a constructor. */
extern struct host alignmap_host;

/* Its base page, in bytes. */
static inline size_t host_page(void)
{
	return alignmap_host.leaves.size[alignmap_host.leaves.count - 1];
}

#pragma GCC visibility pop

#endif /* LEAVES_H */
