/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Memory that a thread holds, with a word on some of its pages that nobody else writes: what
 * happened to it is seen by those words.
 */
#ifndef HELD_H
#define HELD_H

#include "system.h"

#include <sys/uio.h>
#include <unistd.h>

/* A mapping that its thread holds, with a word on some of its pages that nobody else writes. */
struct held {
	uint64_t *at;
	size_t length;
	uint64_t word;
};

#define HELD_SAMPLES 8

static inline size_t step_of(const struct held *held)
{
	const size_t pages = held->length / page_size();

	return (pages < HELD_SAMPLES ? 1 : pages / HELD_SAMPLES) * page_size();
}

static inline void write_words(const struct held *held)
{
	for (size_t at = 0; at < held->length; at += step_of(held))
		held->at[at / sizeof(uint64_t)] = held->word + at;
}

/* By a system call, since what was unmapped by others cannot be looked at. */
static inline bool fetch(const struct iovec *from, size_t count, void *to, size_t length)
{
	const struct iovec local = { to, length };

	return process_vm_readv(getpid(), &local, 1, from, count, 0) == (ssize_t)length;
}

static inline bool still_there(const struct held *held)
{
	const size_t step = step_of(held);
	struct iovec remote[2 * HELD_SAMPLES];
	uint64_t words[2 * HELD_SAMPLES];
	size_t count = 0;

	for (size_t at = 0; at < held->length; at += step)
		remote[count++] = (struct iovec){ (char *)held->at + at, sizeof(uint64_t) };
	if (!fetch(remote, count, words, count * sizeof(uint64_t)))
		return false;
	for (size_t i = 0; i < count; i++)
		if (words[i] != held->word + i * step)
			return false;
	return true;
}

#endif /* HELD_H */
