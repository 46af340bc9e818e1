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
	bool counted;		   /* whether there are numbers of entries */
	struct alignmap_plan best; /* at the best address, if no policy stood in the way */
	size_t entries;		   /* where it lies, as things stand */
	bool judged;		   /* whether its address can be good or bad */
	bool congruent;		   /* with its offset */
	bool misplaced;
	bool held_back; /* not misplaced, but a policy wants smaller leaves */
	struct vfio_devices devices;
	char *what; /* in words, printable: "0000:65:00.0 BAR 2" */
};

#define NOTES_MAX 8

/* How many there are of a kind, and the entries that they need, here and at best. */
struct tally {
	size_t count;
	uint64_t entries, best;
};

struct findings {
	struct maps maps;
	struct finding *findings; /* misplaced ones first */
	size_t count;
	struct tally misplaced, held_back;
	size_t bars_held_back;
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
