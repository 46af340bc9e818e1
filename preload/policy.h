/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef POLICY_H
#define POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "place.h"

#pragma GCC visibility push(hidden)

/* What the user asks of the preload, by environment variables that begin with ALIGNMAP_. */
struct policy {
	bool off;	 /* OFF: leave every call alone */
	size_t min_leaf; /* MIN: in bytes; the smallest and the largest leaf size to place for */
	size_t max_leaf; /* MAX */
	enum { ANON_NONE, ANON_RESERVE, ANON_ALL } anon; /* ANON: which anonymous mappings */
	bool hints;	   /* HINTS: place calls that carry an address hint, too */
	enum claim claim;  /* CLAIM */
	bool madvise;	   /* MADVISE: where the THP policy would undo the placement */
	const char *stats; /* STATS, LOG: NULL, TO_STANDARD_ERROR, or a path */
	const char *log;
};

/* Mappings of anonymous memory do not merge once placed: below this they would use up map counts.
 */
#define ANON_LEAST ((size_t)32 << 20)

#define TO_STANDARD_ERROR "1"

/* Told of each variable that is ignored: the variable as it stands ("NAME=VALUE"), and why. */
typedef void policy_complaint(const char *variable, const char *why);

/* Reads the policy; what the environment does not say, or says wrongly, is the default. */
void read_policy(char *const *environment, struct policy *policy, policy_complaint *complain);

#pragma GCC visibility pop

#endif /* POLICY_H */
