// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * read_policy() on any environment, for libFuzzer (tests/fuzz/run) and for the unit test, which
 * gives it the corpus. An input is the variables, each ended by a zero byte but for the last.
 *
 * What should come out is found another way: by a table of the variables, and strtoull().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"
#include "replay.h"

#define VARIABLES_MAX 64
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PREFIX "ALIGNMAP_"

__extension__ typedef unsigned __int128 wide;

struct expected {
	struct policy policy;
	const char *complaints[VARIABLES_MAX + 1];
	size_t count;
};

static struct expected expected;
static size_t complaints;

static void wrong(const char *what, const char *variable)
{
	fprintf(stderr, "read_policy: %s: %s\n", what, variable ? variable : "(at the end)");
	abort();
}

static void complain(const char *variable, const char *why)
{
	if (complaints == expected.count || expected.complaints[complaints] != variable)
		wrong("a complaint that should not be", variable);
	if (!why || !*why)
		wrong("a complaint without a reason", variable);
	complaints++;
}

/* One of the words, apart by spaces: its place; -1 if it is none of them. */
static int choose(const char *words, const char *value)
{
	const size_t length = strlen(value);
	int place = 0;

	for (; *words; place++) {
		const size_t word = strcspn(words, " ");

		if (word == length && strncmp(words, value, word) == 0)
			return place;
		words += word + strspn(words + word, " ");
	}
	return -1;
}

/* 0 if it is no size: no size is 0. */
static size_t size_of(const char *value)
{
	static const char units[] = "KMGT";
	const size_t digits = strspn(value, "0123456789");
	const char *unit = value[digits] ? strchr(units, value[digits]) : NULL;
	wide size;

	if (!digits || (value[digits] && !unit) || (unit && value[digits + 1]))
		return 0;
	errno = 0;
	size = strtoull(value, NULL, 10);
	if (errno)
		return 0;
	for (const char *smaller = units; unit && smaller <= unit; smaller++)
		size *= 1024;
	return size > SIZE_MAX ? 0 : (size_t)size;
}

/* Whether the value makes sense; what it says goes to the policy. */
static bool expect_value(const char *name, const char *value, struct policy *policy)
{
	const int on = choose("0 off no false 1 on yes true", value);
	const size_t size = size_of(value);
	int choice;

	switch (choose("OFF MIN MAX HINTS MADVISE STATS LOG ANON CLAIM", name)) {
	case 0:
		policy->off = on >= 0 ? on >= 4 : policy->off;
		return on >= 0;
	case 1:
		policy->min_leaf = size ? size : policy->min_leaf;
		return size;
	case 2:
		policy->max_leaf = size ? size : policy->max_leaf;
		return size;
	case 3:
		policy->hints = on >= 0 ? on >= 4 : policy->hints;
		return on >= 0;
	case 4:
		policy->madvise = on >= 0 ? on >= 4 : policy->madvise;
		return on >= 0;
	case 5:
	case 6: {
		const char **place = *name == 'S' ? &policy->stats : &policy->log;

		if (strchr(value, '/'))
			*place = value;
		else if (on >= 0)
			*place = on >= 4 ? TO_STANDARD_ERROR : NULL;
		return strchr(value, '/') || on >= 0;
	}
	case 7:
		choice = choose("none reserve all", value);
		if (choice >= 0)
			policy->anon = (int[]){ ANON_NONE, ANON_RESERVE, ANON_ALL }[choice];
		return choice >= 0;
	case 8:
		choice = choose("hint fixed", value);
		if (choice >= 0)
			policy->claim = choice ? CLAIM_FIXED : CLAIM_HINT;
		return choice >= 0;
	}
	return false;
}

static void expect(char *const *environment)
{
	const char *last_min = NULL;

	expected = (struct expected){ .policy = {
					      .max_leaf = SIZE_MAX,
					      .anon = ANON_NONE,
					      .claim = CLAIM_HINT,
					      .madvise = true,
				      } };
	for (; *environment; environment++) {
		char *equals = strchr(*environment, '=');
		char *name;

		if (strncmp(*environment, PREFIX, strlen(PREFIX)) != 0 || !equals || !equals[1])
			continue;
		name = strndup(*environment + strlen(PREFIX),
			       (size_t)(equals - *environment) - strlen(PREFIX));
		if (!name)
			abort();
		if (!expect_value(name, equals + 1, &expected.policy))
			expected.complaints[expected.count++] = *environment;
		else if (strcmp(name, "MIN") == 0)
			last_min = *environment;
		free(name);
	}
	if (expected.policy.min_leaf > expected.policy.max_leaf) {
		expected.complaints[expected.count++] = last_min;
		expected.policy.min_leaf = 0;
	}
}

static bool same_destination(const char *right, const char *actual)
{
	if (right && actual && strcmp(right, TO_STANDARD_ERROR) == 0)
		return strcmp(actual, TO_STANDARD_ERROR) == 0;
	return right == actual;
}

static void compare(const struct policy *policy)
{
	const struct policy *right = &expected.policy;

	if (complaints != expected.count)
		wrong("a complaint is missing", expected.complaints[complaints]);
	if (policy->off != right->off)
		wrong("ALIGNMAP_OFF", NULL);
	if (policy->min_leaf != right->min_leaf || policy->max_leaf != right->max_leaf)
		wrong("ALIGNMAP_MIN or ALIGNMAP_MAX", NULL);
	if (policy->anon != right->anon)
		wrong("ALIGNMAP_ANON", NULL);
	if (policy->hints != right->hints || policy->claim != right->claim ||
	    policy->madvise != right->madvise)
		wrong("ALIGNMAP_HINTS, ALIGNMAP_CLAIM or ALIGNMAP_MADVISE", NULL);
	if (!same_destination(right->stats, policy->stats) ||
	    !same_destination(right->log, policy->log))
		wrong("ALIGNMAP_STATS or ALIGNMAP_LOG", NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length)
{
	char *environment[VARIABLES_MAX + 1] = { NULL };
	struct policy policy;
	size_t count = 0;

	/* In blocks of just their sizes, whose ends the address sanitizer knows. */
	while (length && count < VARIABLES_MAX) {
		const size_t one = strnlen((const char *)input, length);

		environment[count] = strndup((const char *)input, one);
		if (!environment[count++])
			abort();
		input += one < length ? one + 1 : one;
		length -= one < length ? one + 1 : one;
	}
	expect(environment);
	complaints = 0;
	read_policy(environment, &policy, complain);
	compare(&policy);
	while (count)
		free(environment[--count]);
	return 0;
}
