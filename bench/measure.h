/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the benchmarks share: a clock, what many samples come to, and a random order. */
#ifndef MEASURE_H
#define MEASURE_H

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
