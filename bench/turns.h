/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the benchmarks of faults share: ways of mapping the same that take turns. */
#ifndef TURNS_H
#define TURNS_H

#include <stddef.h>

#include "measure.h"

#define ROUNDS_MAX 101

struct row {
	size_t modulus; /* the largest leaf size modulo which the address is congruent */
	size_t plan;	/* the entries that follow from the address */
	size_t faults;
	int rounds; /* 0: it is not tried */
	double times[ROUNDS_MAX + 1];
	struct spread spread;
};

/* How many rounds so many faults are worth: @most, or fewer where they take long. */
int rounds_for(size_t faults, int most);

/*
 * Measures each way as often as its row says, and once before that to warm up if it is more than
 * once. @measure returns the time that the way has taken.
 */
void take_turns(struct row *rows, size_t count, double (*measure)(size_t way, struct row *row));

/* How many times the time of @row that of @other is; 0 if one of them was not tried. */
double times_of(const struct row *other, const struct row *row);

#endif /* TURNS_H */
