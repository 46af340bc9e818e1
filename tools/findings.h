/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The large mappings of a process, each judged by its address. */
#ifndef FINDINGS_H
#define FINDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alignmap.h"
#include "backing.h"
#include "maps.h"
#include "process.h"

struct finding {
	const struct mapping *mapping;
	struct backing backing;
	bool counted; /* whether there are numbers of entries */
	struct alignmap_plan best;
	size_t entries; /* where it lies */
	bool congruent; /* with its offset, where that counts */
	bool misplaced;
	struct vfio_devices devices;
	char *what; /* in words, printable: "0000:65:00.0 BAR 2" */
};

/* Whether its address can be good or bad. */
static inline bool is_judged(const struct finding *finding)
{
	return finding->counted && finding->backing.rule == BY_OFFSET;
}

#define NOTES_MAX 8

struct findings {
	struct maps maps;
	struct finding *findings; /* misplaced ones first */
	size_t count, misplaced;
	uint64_t entries, best; /* of those that are misplaced */
	char *notes[NOTES_MAX]; /* sentences on what else there is to know */
	size_t note_count;
};

/* The length from which on mappings are looked at: the host's smallest large leaf. */
size_t least_length(void);

/* NULL, or why the process cannot be looked at, as process_maps() says it: nothing is to be freed.
 */
char *find_misplaced(const struct process *process, struct findings *findings);

void findings_free(struct findings *findings);

#endif /* FINDINGS_H */
