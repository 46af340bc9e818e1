// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Windows that are remembered: how many system calls that leaves, and that a window which is
 * somebody else's by now is nobody's loss.
 */
#include "watch.h"
#include "system.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What is placed below a congruent one is not congruent by luck. */
#define LENGTH (4 * pmd_size() + page_size())
#define ROUNDS 100

static const int numbers[] = { SYS_mmap, SYS_munmap };

static struct {
	unsigned int calls;
	bool as_hints; /* as Linux before 4.17 and qemu-user take MAP_FIXED_NOREPLACE */
} watch;

static struct verdict look(const struct seccomp_data *call)
{
	const __u64 *a = call->args;
	void *mapping;

	watch.calls++;
	if (!watch.as_hints || call->nr != SYS_mmap || !(a[3] & MAP_FIXED_NOREPLACE))
		return (struct verdict){ 0 };
	mapping = map_raw((void *)a[0], a[1], (int)a[2], (int)a[3] & ~MAP_FIXED_NOREPLACE,
			  (int)a[4], (off_t)a[5]);
	return (struct verdict){ mapping == MAP_FAILED ? errno : 0, mapping };
}

static void *place(int file)
{
	return map(NULL, LENGTH, PROT_READ, MAP_SHARED, file, 0);
}

static bool well_placed(const void *mapping)
{
	return mapping != MAP_FAILED && congruent(mapping, 0, pmd_size());
}

static int map_and_unmap(int file)
{
	for (int i = 0; i < ROUNDS; i++) {
		void *mapping = place(file);

		REQUIRE(well_placed(mapping));
		REQUIRE(munmap(mapping, LENGTH) == 0);
	}
	return 0;
}

static int map_and_keep(int file)
{
	void *mappings[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		mappings[i] = place(file);
		REQUIRE(well_placed(mappings[i]));
	}
	for (int i = 0; i < ROUNDS; i++)
		REQUIRE(munmap(mappings[i], LENGTH) == 0);
	return 0;
}

/* How many calls it takes, of which the rounds' own munmap are one each. */
static int count_calls(int (*rounds)(int file), unsigned int least, unsigned int most)
{
	const int file = memfd_of((off_t)LENGTH);

	if (!be_watched(numbers, COUNT(numbers), look))
		return 2;
	REQUIRE(rounds(file) == 0);
	watch.calls = 0;
	REQUIRE(rounds(file) == 0);
	if (watch.calls < least * ROUNDS / 100 || watch.calls > most * ROUNDS / 100) {
		fprintf(stderr, "# %u calls in %d rounds\n", watch.calls, ROUNDS);
		return 1;
	}
	return 0;
}

static int steadily(void)
{
	/* Where windows are found it is a reservation, its release, the claim and the munmap. */
	return remembers() ? count_calls(map_and_unmap, 200, 200)
			   : count_calls(map_and_unmap, 400, 400);
}

static int keeping(void)
{
	return remembers() ? count_calls(map_and_keep, 200, 215)
			   : count_calls(map_and_keep, 400, 400);
}

static void assert_counted(int status)
{
	if (status == 2 << 8)
		skip_because("seccomp's user notification is not to be had");
	assert_int_equal(status, 0);
}

static void in_a_steady_state_a_mapping_is_one_system_call(void **state)
{
	(void)state;
	assert_counted(end_of(steadily));
}

static void those_that_are_kept_are_seldom_more(void **state)
{
	(void)state;
	assert_counted(end_of(keeping));
}

/* The same window comes again until somebody else has it. */
static void what_has_taken_the_place_meanwhile_stays(void **state)
{
	const int file = memfd_of((off_t)LENGTH);
	char *first, *second, *foreign;

	(void)state;
	first = place(file);
	assert_true(well_placed(first));
	for (size_t at = 0; at < LENGTH; at += LENGTH - page_size()) {
		assert_int_equal(munmap(first, LENGTH), 0);
		foreign = map_raw(first + at, page_size(), PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		assert_ptr_equal(foreign, first + at);
		*foreign = 'f';
		errno = EXDEV;
		second = place(file);
		assert_int_equal(errno, EXDEV);
		assert_true(well_placed(second));
		assert_true(second + LENGTH <= foreign || second >= foreign + page_size());
		assert_int_equal(*foreign, 'f');
		assert_int_equal(munmap(foreign, page_size()), 0);
		first = second;
	}
	munmap(first, LENGTH);
	close(file);
}

/* The kernel itself keeps stack_guard_gap, of 256 pages unless booted otherwise, below it. */
static int map_below_what_grows(void)
{
	const size_t gap = 256 * page_size();
	const int file = memfd_of((off_t)LENGTH);
	char *mapping, *stack;

	REQUIRE(map_and_unmap(file) == 0);
	mapping = place(file);
	REQUIRE(well_placed(mapping));
	REQUIRE(munmap(mapping, LENGTH) == 0);
	stack = map(mapping + LENGTH, page_size(), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
	REQUIRE(stack == mapping + LENGTH);
	for (int i = 0; i < ROUNDS; i++) {
		mapping = place(file);
		REQUIRE(well_placed(mapping));
		REQUIRE(mapping + LENGTH + gap <= stack || mapping > stack);
		if (i % 2)
			REQUIRE(munmap(mapping, LENGTH) == 0);
	}
	/* It grows as if nobody had mapped anything. */
	stack[-1] = 's';
	return 0;
}

static void a_mapping_that_grows_down_keeps_its_guard_gap(void **state)
{
	(void)state;
	if (way == WAY_API)
		skip_because("the archive does not see MAP_GROWSDOWN, and remembers nothing");
	if (!remembers())
		skip_because("nothing is remembered in this layout");
	assert_int_equal(end_of(map_below_what_grows), 0);
}

static int map_as_before_4_17(void)
{
	const int file = memfd_of((off_t)LENGTH);

	watch.as_hints = true;
	if (!be_watched(numbers, COUNT(numbers), look))
		return 2;
	REQUIRE(map_and_keep(file) == 0);
	REQUIRE(map_and_unmap(file) == 0);
	return 0;
}

static void where_a_fixed_claim_is_a_hint_no_place_is_guessed(void **state)
{
	(void)state;
	assert_counted(end_of(map_as_before_4_17));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		/* In front: what a claim is, is asked once in a process. */
		cmocka_unit_test(where_a_fixed_claim_is_a_hint_no_place_is_guessed),
		cmocka_unit_test(in_a_steady_state_a_mapping_is_one_system_call),
		cmocka_unit_test(those_that_are_kept_are_seldom_more),
		cmocka_unit_test(what_has_taken_the_place_meanwhile_stays),
		cmocka_unit_test(a_mapping_that_grows_down_keeps_its_guard_gap),
	};

	choose_way(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
