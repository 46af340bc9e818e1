/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the benchmarks of faults share: one mapping that is made at different addresses. */
#ifndef SUBJECT_H
#define SUBJECT_H

#include <stddef.h>
#include <stdint.h>

#include "alignmap.h"

/* What is mapped, and how; a descriptor of -1 is anonymous memory. */
struct subject {
	int fd, prot, flags;
	uint64_t offset;
	size_t length;
};

/* The system call itself, which no preloaded library sees. */
void *map_plainly(const struct subject *subject, void *address, int flags);

/*
 * At an address that leaves @remainder modulo @modulus, a power of two: chosen by hand in a
 * reservation, of which nothing is kept. Nothing else of this process maps anything meanwhile.
 */
void *map_at(const struct subject *subject, size_t modulus, uint64_t remainder);

/* At an address that is congruent modulo @leaf, and modulo no larger size. */
void *map_at_leaf(const struct subject *subject, size_t leaf);

/* The largest leaf size modulo which the address is congruent. */
size_t modulus_of(const struct alignmap_leaves *leaves, const struct subject *subject,
		  const void *address);

struct size_text {
	char text[24];
};

/* 2097152 as "2M", in the largest unit of which it is a whole number. */
struct size_text size_text(uint64_t size);

#endif /* SUBJECT_H */
