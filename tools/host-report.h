/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What there is to know of this host: leaf sizes, policies, its kernel's own placement. */
#ifndef HOST_REPORT_H
#define HOST_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/utsname.h>

#include "device.h"
#include "tool.h"

#define THP "/sys/kernel/mm/transparent_hugepage"

enum { TRIES = 8, LENGTHS = 5, PARTS = 3, SIZES_MAX = 24, CHANGES_MAX = 10 };

/* What is asked of transparent huge pages of one size, or of all that "inherit". */
struct policy {
	uint64_t size; /* 0: of all */
	struct text enabled, shmem_enabled;
};

/* Something to change, and a command that does. */
struct change {
	char *why, *command;
};

struct host_report {
	struct utsname name;
	unsigned int address_bits, levels; /* 0: unknown */
	struct alignmap_leaves bars, files, anonymous;
	struct policy all, sizes[SIZES_MAX];
	unsigned int size_count;
	const char *process; /* what PR_GET_THP_DISABLE says of this one; NULL: unknown */
	const char *bar_obstacle;
	char *file_folder, *file_system; /* NULL: no file could be made, or it is unknown */
	bool file_made, file_barred;	 /* its file system gives it base pages */
	const char *device_name;
	char *device_reason; /* why there are no rows of it */
	struct change changes[CHANGES_MAX];
	unsigned int change_count;
};

enum kind { ANONYMOUS, SHARED, REGULAR_FILE, BAR, KINDS };

/* A mapping that the kernel is asked for several times, and the worst place that it gave. */
struct trial {
	enum kind kind;
	unsigned int bar;
	uint64_t offset, length, bar_offset; /* of BARs, from the start of the BAR */
	struct alignmap_plan best;
	unsigned int tries; /* that were not refused */
	uint64_t address, modulus, entries;
	bool by_policy; /* entries are base pages, whatever the address */
	char *reason;	/* of a refusal, where all were refused */
};

struct trials {
	struct trial trial[KINDS * LENGTHS + DEVICE_BARS * PARTS];
	unsigned int count;
};

/* All but the placement. */
void learn_host(struct host_report *report);

/* Measures the placement, of the BARs of @device too if that is not NULL. */
void measure_placement(struct trials *trials, struct host_report *report,
		       const struct device *device);

/* Fills in what to change. */
void advise(struct host_report *report, const struct trials *trials);

/* The policy that decides about PMDs: their own, or the one that it inherits. */
const struct policy *ruling_policy(const struct host_report *report, bool shared);

bool is_misplaced(const struct trial *trial);

void free_report(struct host_report *report, struct trials *trials);

#endif /* HOST_REPORT_H */
