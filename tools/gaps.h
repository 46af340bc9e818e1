/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Where in another process a mapping could go: arithmetic over its maps. The library itself asks
 * the kernel, by a reservation, but nobody can reserve in another process.
 */
#ifndef GAPS_H
#define GAPS_H

#include "maps.h"
#include "place.h"

/* What is about to be mapped by threads whose calls are under way. */
struct promised {
	uintptr_t address;
	size_t length;
};

struct gaps {
	struct maps maps;
	const struct promised *promised;
	size_t promises;
	size_t stack;	/* how far the main stack may grow: RLIMIT_STACK */
	uint64_t drawn; /* at random, or 0 where addresses are not to be random */
};

/*
 * An address that is congruent modulo @alignment, with room for the call's length and a PMD above
 * it, for which alignmap_place() leaves room as well. It is the highest below what the kernel has
 * mapped first; where it has mapped nothing yet, below a place that is drawn. With a hint in the
 * call, behind that if there is room from there on. 0 if there is none.
 */
uintptr_t find_gap(const struct gaps *gaps, const struct mapping_call *call, size_t alignment);

#endif /* GAPS_H */
