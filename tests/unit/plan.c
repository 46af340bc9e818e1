// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The plan against brute force. The oracle knows nothing of alignments: it walks a mapping at a
 * given address as a kernel would that takes the largest leaf that fits at each step.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../fuzz/replay.h"
#include "alignmap.h"
#include "plan.h"

#define K ((size_t)1 << 10)
#define M ((size_t)1 << 20)
#define G ((size_t)1 << 30)

static const struct alignmap_leaves machines[] = {
	{ 3, { G, 2 * M, 4 * K } },		    /* x86-64 */
	{ 2, { 2 * M, 4 * K } },		    /* x86-64 without 1 GiB pages */
	{ 5, { G, 32 * M, 2 * M, 64 * K, 4 * K } }, /* arm64 */
	{ 4, { G, 32 * M, 2 * M, 16 * K } },	    /* arm64, 16 KiB pages */
#if SIZE_MAX > UINT32_MAX
	{ 4, { 16 * G, 512 * M, 2 * M, 64 * K } }, /* arm64, 64 KiB pages */
#else
	{ 3, { 512 * M, 2 * M, 64 * K } },
#endif
	{ 4, { G, 2 * M, 64 * K, 4 * K } }, /* riscv64 with Svnapot */
	{ 3, { G, 2 * M, 64 * K } },	    /* ppc64, radix */
	{ 3, { 2 * G, M, 4 * K } },	    /* s390x */
	{ 1, { 4 * K } },		    /* nothing but pages */
};

/* Small enough for every address to be tried. */
static const struct alignmap_leaves toys[] = {
	{ 3, { 64, 8, 1 } },
	{ 4, { 64, 32, 4, 2 } },
	{ 2, { 32, 1 } },
	{ 5, { 64, 16, 8, 2, 1 } },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What a kernel needs that takes, at each step, the largest leaf that fits there. */
static uint64_t walk(const struct alignmap_leaves *leaves, uint64_t length, uint64_t offset,
		     uint64_t address)
{
	uint64_t page = leaves->size[leaves->count - 1];
	uint64_t left = (length + page - 1) / page * page;
	uint64_t entries = 0;

	while (left) {
		uint64_t step = page;

		for (unsigned int i = 0; i < leaves->count; i++) {
			uint64_t size = leaves->size[i];

			if (offset % size == 0 && address % size == 0 && left >= size) {
				step = size;
				break;
			}
		}
		entries++;
		offset += step;
		address += step;
		left -= step;
	}
	return entries;
}

static uint64_t random_below(uint64_t bound)
{
	uint64_t number = 0;

	for (int i = 0; i < 5; i++)
		number = number << 15 ^ (uint64_t)(rand() & 0x7fff);
	return number % bound;
}

static uint64_t sum(const struct alignmap_leaves *leaves, const struct alignmap_plan *plan)
{
	uint64_t entries = 0;

	for (unsigned int i = 0; i < leaves->count; i++)
		entries += plan->count[i];
	return entries;
}

static void check_every_address(const struct alignmap_leaves *leaves, size_t length,
				uint64_t offset)
{
	size_t page = leaves->size[leaves->count - 1];
	uint64_t least = UINT64_MAX;
	struct alignmap_plan plan;

	assert_int_equal(alignmap_plan(leaves, length, offset, &plan), 0);
	for (uint64_t address = 0; address < leaves->size[0]; address += page) {
		uint64_t entries = walk(leaves, length, offset, address);

		least = entries < least ? entries : least;
		if (address % plan.alignment == plan.phase)
			assert_int_equal(entries, plan.entries);
		assert_int_equal(alignmap_entries_at(leaves, length, offset, address), entries);
	}
	assert_int_equal(plan.entries, least);
	assert_int_equal(plan.entries, sum(leaves, &plan));
	assert_int_equal(plan.phase, offset % plan.alignment);
}

static void no_address_needs_fewer_entries_than_the_plan(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(toys); i++) {
		size_t page = toys[i].size[toys[i].count - 1];

		for (uint64_t offset = 0; offset < toys[i].size[0]; offset += page)
			for (size_t length = 1; length <= 5 * toys[i].size[0] / 2; length += page)
				check_every_address(&toys[i], length, offset);
		for (int round = 0; round < 500; round++)
			check_every_address(&toys[i], 1 + random_below(300),
					    random_below((uint64_t)1 << 50) * page);
	}
}

/* Real sizes: the planned address and a few others, at offsets as VFIO makes them. */
static void real_machines_need_what_the_plan_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(machines); i++) {
		const struct alignmap_leaves *leaves = &machines[i];
		size_t page = leaves->size[leaves->count - 1];

		for (int round = 0; round < 25; round++) {
			/* Near a leaf's bounds, where it is easiest to be wrong. */
			size_t about = leaves->size[random_below(leaves->count)];
			uint64_t offset = (random_below(9) << 40) +
					  (about * random_below(3) + page * random_below(4));
			size_t length = about * random_below(2) + random_below(4 * page) +
					random_below(G) / 8 * (round % 3 == 0) + 1;
			uint64_t base = leaves->size[0] * random_below(1000);
			struct alignmap_plan plan;

			assert_int_equal(alignmap_plan(leaves, length, offset, &plan), 0);
			assert_int_equal(sum(leaves, &plan), plan.entries);
			assert_int_equal(walk(leaves, length, offset, base + plan.phase),
					 plan.entries);
			for (int other = 0; other < 3; other++) {
				uint64_t address =
					base + page * random_below(leaves->size[0] / page);
				uint64_t entries = walk(leaves, length, offset, address);

				assert_true(entries >= plan.entries);
				assert_int_equal(
					alignmap_entries_at(leaves, length, offset, address),
					entries);
			}
		}
	}
}

static void known_plans(void **state)
{
	static const struct {
		size_t length;
		uint64_t offset;
		size_t alignment, phase, entries, count[3];
	} x86[] = {
		{ 2 * G, 0, G, 0, 2, { 2, 0, 0 } },
		{ 3 * G, (uint64_t)2 << 40, G, 0, 3, { 3, 0, 0 } },
		/* QEMU up to 10.2 takes 4 KiB for this length. */
		{ 0x1ff000, 0, 4 * K, 0, 511, { 0, 0, 511 } },
		{ 4 * M - 4 * K, 4 * K, 2 * M, 4 * K, 512, { 0, 1, 511 } },
		{ 2 * M, 4 * K, 4 * K, 0, 512, { 0, 0, 512 } },
		{ 2 * M - 1, 0, 2 * M, 0, 1, { 0, 1, 0 } },
		{ 2 * M + 1, 0, 2 * M, 0, 2, { 0, 1, 1 } },
		{ G + 2 * M, G - 2 * M, G, G - 2 * M, 2, { 1, 1, 0 } },
		{ 2 * G - 4 * K, 4 * K, G, 4 * K, 1023, { 1, 511, 511 } },
		{ G, 2 * M, 2 * M, 0, 512, { 0, 512, 0 } },
		{ 1, 0, 4 * K, 0, 1, { 0, 0, 1 } },
		{ 4 * K, ((uint64_t)8 << 40) + 12 * K, 4 * K, 0, 1, { 0, 0, 1 } },
		{ SIZE_MAX / 2 + 1, 0, G, 0, SIZE_MAX / 2 / G + 1, { SIZE_MAX / 2 / G + 1, 0, 0 } },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(x86); i++) {
		struct alignmap_plan plan;

		assert_int_equal(alignmap_plan(&machines[0], x86[i].length, x86[i].offset, &plan),
				 0);
		assert_int_equal(plan.alignment, x86[i].alignment);
		assert_int_equal(plan.phase, x86[i].phase);
		assert_int_equal(plan.entries, x86[i].entries);
		assert_memory_equal(plan.count, x86[i].count, sizeof(x86[i].count));
	}
}

static void lengths_near_the_end_are_counted_or_refused(void **state)
{
	struct alignmap_plan plan;
	const struct alignmap_leaves *leaves = &machines[0];
	const uint64_t last_page = UINT64_MAX - 4 * K + 1;

	(void)state;
	assert_int_equal(alignmap_plan(leaves, SIZE_MAX - 8 * K + 1, 0, &plan), 0);
	assert_int_equal(plan.alignment, G);
	assert_int_equal(plan.count[0], (SIZE_MAX >> 30));
	assert_int_equal(plan.count[1], 511);
	assert_int_equal(plan.count[2], 510);

	errno = 0;
	assert_int_equal(alignmap_plan(leaves, SIZE_MAX, 0, &plan), -1);
	assert_int_equal(errno, EOVERFLOW);
	errno = 0;
	assert_int_equal(alignmap_plan(leaves, 8 * K, last_page, &plan), -1);
	assert_int_equal(errno, EOVERFLOW);
#if SIZE_MAX == UINT64_MAX
	errno = 0;
	assert_int_equal(alignmap_plan(leaves, SIZE_MAX - 8 * K + 1, 8 * K, &plan), -1);
	assert_int_equal(errno, EOVERFLOW);
#endif
	assert_int_equal(alignmap_plan(leaves, 4 * K, last_page - 4 * K, &plan), 0);
	assert_int_equal(plan.entries, 1);
}

static void wrong_arguments_are_refused_and_change_nothing(void **state)
{
	static const struct alignmap_leaves wrong[] = {
		{ 0, { 4 * K } },	 { ALIGNMAP_LEAVES_MAX + 1, { G, 2 * M, 4 * K } },
		{ 2, { 4 * K, 2 * M } }, { 2, { 2 * M, 2 * M } },
		{ 2, { 3 * M, 4 * K } }, { 2, { 2 * M, 0 } },
	};
	const struct alignmap_plan untouched = { 1, 2, 3, { 4 } };
	struct alignmap_plan plan = untouched;

	(void)state;
#define REFUSED(call)                                                 \
	do {                                                          \
		errno = 0;                                            \
		assert_int_equal(call, -1);                           \
		assert_int_equal(errno, EINVAL);                      \
		assert_memory_equal(&plan, &untouched, sizeof(plan)); \
	} while (0)
	for (size_t i = 0; i < COUNT(wrong); i++)
		REFUSED(alignmap_plan(&wrong[i], 4 * K, 0, &plan));
	REFUSED(alignmap_plan(NULL, 4 * K, 0, &plan));
	REFUSED(alignmap_plan(&machines[0], 4 * K, 0, NULL));
	REFUSED(alignmap_plan(&machines[0], 0, 0, &plan));
	REFUSED(alignmap_plan(&machines[0], 4 * K, 1, &plan));
	REFUSED(alignmap_plan(&machines[3], 16 * K, 4 * K, &plan));
}

#ifdef __SIZEOF_INT128__
static void the_fuzzers_corpus_is_planned(void **state)
{
	(void)state;
	assert_true(replay(CORPUS "/plan") > 10);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_address_needs_fewer_entries_than_the_plan),
		cmocka_unit_test(real_machines_need_what_the_plan_says),
		cmocka_unit_test(known_plans),
		cmocka_unit_test(lengths_near_the_end_are_counted_or_refused),
		cmocka_unit_test(wrong_arguments_are_refused_and_change_nothing),
#ifdef __SIZEOF_INT128__
		cmocka_unit_test(the_fuzzers_corpus_is_planned),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
