// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The environment's parser. It runs in every process that inherits the variables: it only reads. */
#include <stdint.h>
#include <string.h>

#include "policy.h"

/* "64K", "2M", "1G", "16T", or bytes. No strtoull(): it takes signs, spaces and what is too large.
 */
static bool parse_size(const char *value, size_t *size)
{
	uint64_t number = 0;
	unsigned int shift = 0;
	const char *at = value;

	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
			return false;
	if (at == value || !number)
		return false;
	switch (*at) {
	case 'T': /* NOLINT(bugprone-branch-clone): each falls through */
		shift += 10;
		/* fall through */
	case 'G':
		shift += 10;
		/* fall through */
	case 'M':
		shift += 10;
		/* fall through */
	case 'K':
		shift += 10;
		at++;
	}
	if (*at || number > (uint64_t)SIZE_MAX >> shift)
		return false;
	*size = number << shift;
	return true;
}

/* Each of the first ones says no, as each of the last ones says yes. */
static bool parse_switch(const char *value, bool *on)
{
	static const char values[][6] = { "0", "off", "no", "false", "1", "on", "yes", "true" };
	const size_t count = sizeof(values) / sizeof(values[0]);
	size_t i = 0;

	while (i < count && strcmp(value, values[i]) != 0)
		i++;
	*on = i >= count / 2 && i < count;
	return i < count;
}

static bool parse_destination(const char *value, const char **destination)
{
	bool on = false;

	if (strchr(value, '/')) {
		*destination = value;
		return true;
	}
	if (!parse_switch(value, &on))
		return false;
	*destination = on ? TO_STANDARD_ERROR : NULL;
	return true;
}

/* Returns what the value should have been, or NULL if it is good. */
static const char *set(struct policy *policy, const char *name, size_t length, const char *value)
{
	const char *const a_size = "not a size such as 2M or 1G";
	const char *const a_switch = "neither 1 (on) nor 0 (off)";
	const char *const a_destination = "neither 1, 0 nor a path with a slash in it, as ./file";
#define IS(literal) (length == sizeof(literal) - 1 && memcmp(name, literal, length) == 0)

	if (IS("OFF"))
		return parse_switch(value, &policy->off) ? NULL : a_switch;
	if (IS("MIN"))
		return parse_size(value, &policy->min_leaf) ? NULL : a_size;
	if (IS("MAX"))
		return parse_size(value, &policy->max_leaf) ? NULL : a_size;
	if (IS("HINTS"))
		return parse_switch(value, &policy->hints) ? NULL : a_switch;
	if (IS("MADVISE"))
		return parse_switch(value, &policy->madvise) ? NULL : a_switch;
	if (IS("STATS"))
		return parse_destination(value, &policy->stats) ? NULL : a_destination;
	if (IS("LOG"))
		return parse_destination(value, &policy->log) ? NULL : a_destination;
	if (IS("ANON")) {
		if (strcmp(value, "none") == 0)
			policy->anon = ANON_NONE;
		else if (strcmp(value, "reserve") == 0)
			policy->anon = ANON_RESERVE;
		else if (strcmp(value, "all") == 0)
			policy->anon = ANON_ALL;
		else
			return "neither none, reserve nor all";
		return NULL;
	}
	if (IS("CLAIM")) {
		bool fixed = strcmp(value, "fixed") == 0;

		if (!fixed && strcmp(value, "hint") != 0)
			return "neither hint nor fixed";
		policy->claim = fixed ? CLAIM_FIXED : CLAIM_HINT;
		return NULL;
	}
#undef IS
	return "no such variable";
}

void read_policy(char *const *environment, struct policy *policy, policy_complaint *complain)
{
	static const char prefix[] = "ALIGNMAP_";
	const char *min = NULL;

	*policy = (struct policy){
		.max_leaf = SIZE_MAX,
		.claim = CLAIM_HINT,
		.madvise = true,
	};
	for (; environment && *environment; environment++) {
		const char *variable = *environment;
		const char *name = variable + sizeof(prefix) - 1;
		const char *equals = strchr(variable, '=');
		struct policy changed = *policy;
		const char *wrong;

		if (!equals || strncmp(variable, prefix, sizeof(prefix) - 1) != 0)
			continue;
		/* As everywhere in a shell, an empty variable is as good as none. */
		if (!equals[1])
			continue;
		wrong = set(&changed, name, (size_t)(equals - name), equals + 1);
		if (wrong) {
			complain(variable, wrong);
			continue;
		}
		*policy = changed;
		if (strncmp(name, "MIN=", 4) == 0)
			min = variable;
	}
	if (min && policy->min_leaf > policy->max_leaf) {
		complain(min, "larger than ALIGNMAP_MAX");
		policy->min_leaf = 0;
	}
}
