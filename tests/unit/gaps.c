// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Windows in made-up address spaces, against brute force over all places. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gaps.h"
#include "leaves.h"

#define K ((size_t)1 << 10)
#define M ((size_t)1 << 20)
#define G ((size_t)1 << 30)
#define PAGE (4 * K)
#define PMD (2 * M)

#define STACK ((uintptr_t)0x7ffd00000000)
#define BASE ((uintptr_t)0x7f0000000000)

static char name_of_stack[] = "[stack]", no_name[] = "";
static struct mapping mappings[64];
static struct promised promised[8];
static struct gaps gaps;
static struct mapping_call call;

static int set_up(void **state)
{
	(void)state;
	alignmap_host.leaves = (struct alignmap_leaves){ 3, { G, PMD, PAGE } };
	alignmap_host.pmd = PMD;
	gaps = (struct gaps){ .maps.mappings = mappings, .promised = promised, .stack = 8 * M };
	call = (struct mapping_call){ .length = 8 * M, .flags = MAP_SHARED };
	return 0;
}

static void add(uintptr_t address, size_t length)
{
	assert_true(!gaps.maps.count ||
		    mappings[gaps.maps.count - 1].address + mappings[gaps.maps.count - 1].length <=
			    address);
	mappings[gaps.maps.count++] =
		(struct mapping){ .address = address,
				  .length = length,
				  .name = address == STACK ? name_of_stack : no_name };
}

static size_t below(size_t limit)
{
	return (size_t)rand() % limit;
}

static int overlaps(uintptr_t window, size_t room, uintptr_t address, size_t length)
{
	return window < address + length && address < window + room;
}

static int is_free(uintptr_t window, size_t room)
{
	for (size_t i = 0; i < gaps.maps.count; i++)
		if (overlaps(window, room, mappings[i].address, mappings[i].length))
			return 0;
	for (size_t i = 0; i < gaps.promises; i++)
		if (overlaps(window, room, promised[i].address, promised[i].length))
			return 0;
	return window >= mappings[0].address;
}

/* All that are congruent, from the highest mapping below the stack down. */
static uintptr_t by_brute_force(size_t alignment)
{
	const struct mapping *highest = &mappings[gaps.maps.count - 2];
	const size_t room = (call.length + PAGE - 1) / PAGE * PAGE + PMD;
	const uintptr_t phase = (uintptr_t)call.offset % alignment;

	for (uintptr_t at = highest->address / alignment * alignment + phase;
	     at >= mappings[0].address; at -= alignment)
		if (at + room <= highest->address && is_free(at, room))
			return at;
	return 0;
}

static void the_highest_window_is_found(void **state)
{
	size_t found = 0;

	(void)state;
	srand(1);
	for (int i = 0; i < 20000; i++) {
		const size_t alignment = below(4) ? PMD : 64 * M;
		uintptr_t at = BASE + below(64) * PAGE, window;

		set_up(NULL);
		add(PAGE * 1024, PAGE);
		for (size_t count = 2 + below(40); count--;) {
			const size_t length = (1 + below(8)) * PAGE << below(10);

			add(at, length);
			at += length + (below(3) ? below(4096) * PAGE : 0);
		}
		add(STACK, 33 * PAGE);
		/* Below is room for everything: for half of all there shall be none. */
		if (below(2)) {
			mappings[0].address = BASE - 8 * G;
			mappings[0].length = 8 * G;
		}
		call.length = 1 + below(32 * M);
		call.offset = (off_t)(below(1024) * PAGE);
		gaps.promises = below(4);
		for (size_t j = 0; j < gaps.promises; j++)
			promised[j] = (struct promised){ BASE + below(128 * M), 1 + below(8 * M) };
		window = find_gap(&gaps, &call, alignment);
		/* Below the lowest, another test looks. */
		if (window < mappings[0].address)
			window = 0;
		found += window != 0;
		assert_int_equal(window, by_brute_force(alignment));
	}
	assert_true(found > 5000 && found < 20000);
}

static void without_mappings_it_is_drawn_below_what_the_stack_may_take(void **state)
{
	uintptr_t lowest = UINTPTR_MAX, highest = 0;

	(void)state;
	add(0x400000, M);
	add(0x1c00000, M);
	add(STACK, 33 * PAGE);
	for (int i = 0; i < 1000; i++) {
		gaps.drawn = (uint64_t)rand() << 31 ^ (uint64_t)rand();
		const uintptr_t window = find_gap(&gaps, &call, PMD);

		assert_true(window && window % PMD == 0);
		assert_true(window + call.length + 128 * M <= STACK);
		lowest = window < lowest ? window : lowest;
		highest = window > highest ? window : highest;
	}
	/* Of 1 TiB. */
	assert_true(highest - lowest > 1000 * G);
	gaps.stack = 64 * G;
	assert_true(find_gap(&gaps, &call, PMD) + call.length + 64 * G <= STACK);
	gaps.stack = SIZE_MAX;
	assert_true(find_gap(&gaps, &call, PMD) < STACK / 6);
}

static void nothing_is_put_between_the_kernels_mappings_and_the_stack(void **state)
{
	(void)state;
	add(0x400000, M);
	add(STACK - 600 * G, M);
	add(STACK, 33 * PAGE);
	assert_int_equal(find_gap(&gaps, &call, PMD), STACK - 600 * G - 8 * M - PMD);
	call.length = 3 * G;
	call.offset = (off_t)(5 * PAGE);
	assert_int_equal(find_gap(&gaps, &call, G),
			 (STACK - 600 * G - 3 * G - PMD) / G * G + 5 * PAGE);
}

static void below_a_program_that_mmap_has_placed_there_is_room(void **state)
{
	(void)state;
	add(BASE, M);
	add(STACK, 33 * PAGE);
	assert_int_equal(find_gap(&gaps, &call, PMD), BASE - 8 * M - PMD);
	/* Not where its heap is to be. */
	call.length = BASE / 4;
	assert_int_equal(find_gap(&gaps, &call, PMD), 0);
}

static void a_hint_is_followed_where_there_is_room(void **state)
{
	const uintptr_t hint = BASE + 5 * PAGE;

	(void)state;
	add(0x400000, M);
	add(BASE + 100 * M, M);
	add(STACK - 600 * G, M);
	add(STACK, 33 * PAGE);
	call.address = (void *)hint;
	assert_int_equal(find_gap(&gaps, &call, PMD), BASE + PMD);
	call.address = (void *)(BASE + 92 * M);
	assert_int_equal(find_gap(&gaps, &call, PMD), STACK - 600 * G - 8 * M - PMD);
	call.address = (void *)(BASE + 90 * M);
	assert_int_equal(find_gap(&gaps, &call, PMD), BASE + 90 * M);
	/* One that is taken may be the program itself, and its heap behind that. */
	call.address = (void *)0x400000;
	assert_int_equal(find_gap(&gaps, &call, PMD), STACK - 600 * G - 8 * M - PMD);
	call.address = (void *)(BASE + 90 * M);
	promised[0] = (struct promised){ BASE + 95 * M, PAGE };
	gaps.promises = 1;
	assert_int_equal(find_gap(&gaps, &call, PMD), STACK - 600 * G - 8 * M - PMD);
	call.address = (void *)UINTPTR_MAX;
	assert_int_equal(find_gap(&gaps, &call, PMD), STACK - 600 * G - 8 * M - PMD);
}

static void what_does_not_fit_is_not_found(void **state)
{
	(void)state;
	add(0x400000, M);
	add(STACK - 600 * G, M);
	call.length = 8 * M;
	/* No main stack to be seen. */
	assert_int_equal(find_gap(&gaps, &call, PMD), 0);
	add(STACK, 33 * PAGE);
	for (size_t i = 0; i < 2; i++) {
		call.address = i ? (void *)BASE : NULL;
		call.length = SIZE_MAX;
		assert_int_equal(find_gap(&gaps, &call, PMD), 0);
		call.length = SIZE_MAX - PMD;
		assert_int_equal(find_gap(&gaps, &call, PMD), 0);
		call.length = STACK;
		assert_int_equal(find_gap(&gaps, &call, PMD), 0);
	}
	/* All that there is: from 6 MiB on, as the lowest ends at 5. */
	call.address = NULL;
	call.length = STACK - 600 * G - 6 * M - PMD;
	assert_int_equal(find_gap(&gaps, &call, PMD), 6 * M);
	call.length += PAGE;
	assert_int_equal(find_gap(&gaps, &call, PMD), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_highest_window_is_found, set_up),
		cmocka_unit_test_setup(without_mappings_it_is_drawn_below_what_the_stack_may_take,
				       set_up),
		cmocka_unit_test_setup(nothing_is_put_between_the_kernels_mappings_and_the_stack,
				       set_up),
		cmocka_unit_test_setup(below_a_program_that_mmap_has_placed_there_is_room, set_up),
		cmocka_unit_test_setup(a_hint_is_followed_where_there_is_room, set_up),
		cmocka_unit_test_setup(what_does_not_fit_is_not_found, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
