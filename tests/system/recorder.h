/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The next mmap in line: an object preloaded behind the library, which sees exactly what it calls,
 * and can be told to behave as other kernels and drivers do. (Reservations are raw system calls,
 * which it does not see; tests/system/trace.sh does.)
 */
#ifndef RECORDER_H
#define RECORDER_H

#include <stddef.h>
#include <sys/types.h>

struct recorded {
	int is_mmap64;
	void *address;
	size_t length;
	int prot;
	int flags;
	int fd;
	off64_t offset;
	void *result;
	int error; /* errno, where the result is MAP_FAILED */
};

/* Copies the calls since it was called last, at most @room, and returns how many there were. */
typedef unsigned int recorder_take(struct recorded *calls, unsigned int room);

enum pretence {
	PRETEND_NOTHING,
	PRETEND_ERROR,	     /* fail with that errno */
	PRETEND_ELSEWHERE,   /* take no hint */
	PRETEND_NO_NOREPLACE /* know no MAP_FIXED_NOREPLACE and take no hint: before 4.17 */
};

/* Pretends for the next so many calls. */
typedef void recorder_pretend(enum pretence pretence, int error, unsigned int calls);

#endif /* RECORDER_H */
