/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the benchmarks share: a clock, what many samples come to, and a random order. */
#ifndef MEASURE_H
#define MEASURE_H

#include <math.h>
#include <stdlib.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Nanoseconds. */
static inline double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* The median, and between what eight of ten samples lie. */
struct spread {
	double low, median, high;
};

static inline int ascending(const void *a, const void *b)
{
	const double *x = a;
	const double *y = b;

	return (*x > *y) - (*x < *y);
}

/* Sorts the samples, of which there is one at least. */
static inline struct spread spread_of(double *samples, size_t count)
{
	qsort(samples, count, sizeof(*samples), ascending);
	return (struct spread){ samples[count / 10], samples[count / 2],
				samples[count - 1 - count / 10] };
}

/*
 * Of what one way has taken over what another one has, by rounds: what slows the machine down for a
 * while slows down all that run in it. The median of the ratios of all rounds that there could be
 * lies between low and high with a probability of 95 %.
 */
static inline struct spread ratio_of(const double *times, const double *others, size_t rounds)
{
	const double margin = 0.98 * sqrt((double)rounds);
	const double middle = (double)(rounds - 1) / 2;
	double *ratios = calloc(rounds, sizeof(*ratios));
	struct spread spread;

	if (!ratios)
		abort();
	for (size_t round = 0; round < rounds; round++)
		ratios[round] = times[round] / others[round];
	spread = spread_of(ratios, rounds);
	spread.low = ratios[(size_t)fmax(middle - margin, 0)];
	spread.high = ratios[(size_t)fmin(ceil(middle + margin), (double)(rounds - 1))];
	free(ratios);
	return spread;
}

/* Puts the numbers below @count in some order, each as likely. */
static inline void shuffle(size_t *order, size_t count)
{
	for (size_t i = 0; i < count; i++)
		order[i] = i;
	for (size_t i = 1; i < count; i++) {
		const size_t place = (size_t)rand() % (i + 1), number = order[i];

		order[i] = order[place];
		order[place] = number;
	}
}

#endif /* MEASURE_H */
