// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The environment's parser: what it takes, and what it says of what it does not take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../fuzz/replay.h"
#include "policy.h"

static unsigned int complaints;
static char complained_of[64];

static void complain(const char *variable, const char *why)
{
	complaints++;
	assert_true(strlen(why) > 0);
	strncpy(complained_of, variable, sizeof(complained_of) - 1);
}

static struct policy read_one(const char *first, const char *second)
{
	char *const environment[] = { (char *)"HOME=/", (char *)first, (char *)second, NULL };
	struct policy policy;

	complaints = 0;
	read_policy(environment, &policy, complain);
	return policy;
}

static struct policy read_good(const char *variable)
{
	struct policy policy = read_one(variable, NULL);

	assert_int_equal(complaints, 0);
	return policy;
}

static void assert_default(const struct policy *policy)
{
	assert_false(policy->off);
	assert_int_equal(policy->min_leaf, 0);
	assert_int_equal(policy->max_leaf, SIZE_MAX);
	assert_int_equal(policy->anon, ANON_NONE);
	assert_false(policy->hints);
	assert_int_equal(policy->claim, CLAIM_HINT);
	assert_true(policy->madvise);
	assert_null(policy->stats);
	assert_null(policy->log);
}

static void an_empty_environment_is_the_default(void **state)
{
	struct policy policy = read_good(NULL);

	(void)state;
	assert_default(&policy);
	read_policy(NULL, &policy, complain);
	assert_int_equal(complaints, 0);
	assert_default(&policy);
	policy = read_good("ALIGNMAP_MIN=");
	assert_default(&policy);
	policy = read_good("XALIGNMAP_OFF=1");
	assert_default(&policy);
	policy = read_good("ALIGNMAP");
	assert_default(&policy);
}

static void every_good_value_is_taken(void **state)
{
	(void)state;
	assert_true(read_good("ALIGNMAP_OFF=1").off);
	assert_false(read_good("ALIGNMAP_OFF=0").off);
	assert_true(read_good("ALIGNMAP_OFF=yes").off);
	assert_true(read_good("ALIGNMAP_OFF=true").off);
	assert_false(read_good("ALIGNMAP_MADVISE=no").madvise);
	assert_false(read_good("ALIGNMAP_MADVISE=false").madvise);
	assert_int_equal(read_good("ALIGNMAP_MIN=2M").min_leaf, 2 << 20);
	assert_int_equal(read_good("ALIGNMAP_MIN=65536").min_leaf, 65536);
	assert_int_equal(read_good("ALIGNMAP_MIN=64K").min_leaf, 65536);
	assert_int_equal(read_good("ALIGNMAP_MAX=1G").max_leaf, 1 << 30);
#if SIZE_MAX > UINT32_MAX
	assert_int_equal(read_good("ALIGNMAP_MAX=2T").max_leaf, (size_t)2 << 40);
#endif
	assert_int_equal(read_good("ALIGNMAP_ANON=reserve").anon, ANON_RESERVE);
	assert_int_equal(read_good("ALIGNMAP_ANON=none").anon, ANON_NONE);
	assert_int_equal(read_good("ALIGNMAP_ANON=all").anon, ANON_ALL);
	assert_true(read_good("ALIGNMAP_HINTS=1").hints);
	assert_false(read_good("ALIGNMAP_HINTS=off").hints);
	assert_int_equal(read_good("ALIGNMAP_CLAIM=fixed").claim, CLAIM_FIXED);
	assert_int_equal(read_good("ALIGNMAP_CLAIM=hint").claim, CLAIM_HINT);
	assert_false(read_good("ALIGNMAP_MADVISE=off").madvise);
	assert_true(read_good("ALIGNMAP_MADVISE=on").madvise);
	assert_string_equal(read_good("ALIGNMAP_STATS=1").stats, TO_STANDARD_ERROR);
	assert_null(read_good("ALIGNMAP_STATS=0").stats);
	assert_string_equal(read_good("ALIGNMAP_STATS=./s").stats, "./s");
	assert_string_equal(read_good("ALIGNMAP_LOG=/tmp/l").log, "/tmp/l");
}

static void every_bad_value_is_named_once_and_ignored(void **state)
{
	static const char *const bad[] = {
		"ALIGNMAP_OFF=maybe",
		"ALIGNMAP_MIN=2Q",
		"ALIGNMAP_MIN=M",
		"ALIGNMAP_MIN=-1",
		"ALIGNMAP_MIN=+1",
		"ALIGNMAP_MIN= 1",
		"ALIGNMAP_MIN=0",
		"ALIGNMAP_MIN=0x1000",
		"ALIGNMAP_MIN=2MM",
		"ALIGNMAP_MIN=2MiB",
		"ALIGNMAP_MIN=1.5G",
		"ALIGNMAP_MAX=18446744073709551616",
		"ALIGNMAP_MAX=18446744073709551615K",
		"ALIGNMAP_MAX=99999999999T",
		"ALIGNMAP_ANON=1",
		"ALIGNMAP_ANON=ALL",
		"ALIGNMAP_HINTS=perhaps",
		"ALIGNMAP_CLAIM=noreplace",
		"ALIGNMAP_MADVISE=never",
		"ALIGNMAP_STATS=stats.txt",
		"ALIGNMAP_LOG=truth",
		"ALIGNMAP_STAT=1",
		"ALIGNMAP_OFFX=1",
		"ALIGNMAP_=1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct policy policy = read_one(bad[i], NULL);

		if (complaints != 1)
			fail_msg("%s: %u complaints", bad[i], complaints);
		assert_string_equal(complained_of, bad[i]);
		assert_default(&policy);
	}
}

static void a_bad_value_does_not_spoil_a_good_one(void **state)
{
	struct policy policy = read_one("ALIGNMAP_MIN=lots", "ALIGNMAP_CLAIM=fixed");

	(void)state;
	assert_int_equal(complaints, 1);
	assert_int_equal(policy.claim, CLAIM_FIXED);
}

static void a_minimum_above_the_maximum_is_named_and_ignored(void **state)
{
	struct policy policy = read_one("ALIGNMAP_MIN=1G", "ALIGNMAP_MAX=2M");

	(void)state;
	assert_int_equal(complaints, 1);
	assert_string_equal(complained_of, "ALIGNMAP_MIN=1G");
	assert_int_equal(policy.min_leaf, 0);
	assert_int_equal(policy.max_leaf, 2 << 20);

	policy = read_one("ALIGNMAP_MAX=2M", "ALIGNMAP_MIN=2M");
	assert_int_equal(complaints, 0);
	assert_int_equal(policy.min_leaf, policy.max_leaf);
}

#ifdef __SIZEOF_INT128__
static void the_fuzzers_corpus_is_read(void **state)
{
	(void)state;
	assert_true(replay(CORPUS "/environment") > 10);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_environment_is_the_default),
		cmocka_unit_test(every_good_value_is_taken),
		cmocka_unit_test(every_bad_value_is_named_once_and_ignored),
		cmocka_unit_test(a_bad_value_does_not_spoil_a_good_one),
		cmocka_unit_test(a_minimum_above_the_maximum_is_named_and_ignored),
#ifdef __SIZEOF_INT128__
		cmocka_unit_test(the_fuzzers_corpus_is_read),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
