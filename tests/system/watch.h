/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * System calls that fail by choice: a thread is stopped by seccomp before each call that it makes
 * of some kinds, and another one, the watcher, decides what comes of it. For children only, since a
 * filter stays.
 */
#ifndef WATCH_H
#define WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/seccomp.h>

/* The errnos of Linux for mmap and munmap, of drivers, and of filters. */
#define MMAP_ERRORS 20
extern const int mmap_errors[MMAP_ERRORS];

/* What comes of a call: an errno; or else a result of what was done in its place; or it is made. */
struct verdict {
	int error;
	void *result;
};

typedef struct verdict judge_call(const struct seccomp_data *call);

/* This thread's calls of these numbers go by @action from now on; returns what seccomp does. */
int filter_calls(const int *numbers, size_t count, uint32_t action, unsigned int flags);

/*
 * This thread's calls of these numbers, and those of the threads that it makes, are judged from now
 * on. False where seccomp's user notification is not to be had.
 */
bool be_watched(const int *numbers, size_t count, judge_call *judge);

#endif /* WATCH_H */
