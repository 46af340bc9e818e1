// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Windows that are remembered: how many system calls that leaves, and that a window which is
 * somebody else's by now is nobody's loss. And where windows are found each time: that they are
 * looked for where the last one was.
 */
#include "watch.h"
#include "system.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* musl has none: there, whatever is opened comes behind what was loaded at start. */
#ifndef RTLD_DEEPBIND
#define RTLD_DEEPBIND 0
#endif

/* What is placed below a congruent one is not congruent by luck. */
#define LENGTH (4 * pmd_size() + page_size())
#define ROUNDS 100

static const int numbers[] = { SYS_mmap, SYS_munmap };

static struct {
	unsigned int calls;
	unsigned int reservations, hinted;
	uintptr_t last_hint; /* of a reservation */
	bool refuse_hinted;
	bool as_hints; /* as Linux before 4.17 and qemu-user take MAP_FIXED_NOREPLACE */
} watch;

static struct verdict look(const struct seccomp_data *call)
{
	const __u64 *a = call->args;
	void *mapping;

	watch.calls++;
	if (call->nr == SYS_mmap && a[2] == PROT_NONE) {
		watch.reservations++;
		watch.hinted += a[0] != 0;
		watch.last_hint = a[0];
		if (watch.refuse_hinted && a[0])
			return (struct verdict){ ENOMEM, NULL };
	}
	if (!watch.as_hints || call->nr != SYS_mmap || !(a[3] & MAP_FIXED_NOREPLACE))
		return (struct verdict){ 0 };
	mapping = map_raw((void *)a[0], a[1], (int)a[2], (int)a[3] & ~MAP_FIXED_NOREPLACE,
			  (int)a[4], (off_t)a[5]);
	return (struct verdict){ mapping == MAP_FAILED ? errno : 0, mapping };
}

/* Another alignmap_mmap() than that of the way. */
typedef void *mmap_function(void *, size_t, int, int, int, off_t);
static mmap_function *other;

static void *place(int file)
{
	return (other ? other : map)(NULL, LENGTH, PROT_READ, MAP_SHARED, file, 0);
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

static int map_validated(int file)
{
	for (int i = 0; i < ROUNDS; i++) {
		void *mapping = map(NULL, LENGTH, PROT_READ, MAP_SHARED_VALIDATE, file, 0);

		REQUIRE(well_placed(mapping));
		REQUIRE(munmap(mapping, LENGTH) == 0);
	}
	return 0;
}

/* As a program that goes through a file piece by piece has them. */
static int map_phases(int file)
{
	for (int i = 0; i < ROUNDS; i++) {
		const off_t offset = (off_t)((size_t)i * 77 % 1000 * page_size());
		void *mapping = map(NULL, LENGTH, PROT_READ, MAP_SHARED, file, offset);

		REQUIRE(mapping != MAP_FAILED && congruent(mapping, (uint64_t)offset, pmd_size()));
		REQUIRE(munmap(mapping, LENGTH) == 0);
	}
	return 0;
}

static int through_a_file(void)
{
	return remembers() ? count_calls(map_phases, 200, 205) : count_calls(map_phases, 400, 400);
}

/* A fixed claim is refused before it becomes a hint: a call more, and no guess. */
static int validating(void)
{
	return insists() ? count_calls(map_validated, 500, 500)
			 : count_calls(map_validated, 400, 400);
}

/* The program's calls of mmap do not come to a library behind the C library. */
static int behind_the_c_library(void)
{
	void *library = dlopen(getenv("LIBRARY"), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);

	REQUIRE(library);
	other = __extension__(mmap_function *) dlsym(library, "alignmap_mmap");
	REQUIRE(other);
	return count_calls(map_and_unmap, 400, 400);
}

/* Where a reservation has its window at that place, whatever else is free. */
static uintptr_t room_of(const void *window)
{
	return (uintptr_t)window + page_size() - deserved(LENGTH, 0, largest_leaf());
}

/* Found where the kernel puts it, and remembered. */
static char *find_anew(int file)
{
	/* Of another length, by which the last one is forgotten. */
	char *other_length = map(NULL, LENGTH - page_size(), PROT_READ, MAP_SHARED, file, 0);
	char *window;

	munmap(other_length, LENGTH - page_size());
	window = place(file);
	return watch.last_hint ? NULL : window;
}

static int reserve_in_one_place(void)
{
	const int file = memfd_of((off_t)(2 * LENGTH));
	char *window, *second;

	if (!be_watched(numbers, COUNT(numbers), look))
		return 2;
	window = find_anew(file);
	REQUIRE(well_placed(window) && munmap(window, LENGTH) == 0);
	watch.reservations = 0;
	for (int i = 0; i < ROUNDS; i++) {
		REQUIRE(place(file) == window);
		REQUIRE(watch.last_hint == room_of(window));
		REQUIRE(munmap(window, LENGTH) == 0);
	}
	REQUIRE(watch.reservations == ROUNDS);

	/* Another phase, and the same again. */
	second = map(NULL, LENGTH, PROT_READ, MAP_SHARED, file, (off_t)page_size());
	REQUIRE(congruent(second, page_size(), pmd_size()) && !watch.last_hint);
	REQUIRE(munmap(second, LENGTH) == 0);
	window = find_anew(file);
	REQUIRE(well_placed(window));

	/* Every other one asks where the window still is, in vain, and forgets it. */
	watch.reservations = 0;
	watch.hinted = 0;
	for (int i = 0; i < ROUNDS; i++) {
		second = place(file);
		REQUIRE(well_placed(second) && second != window);
	}
	REQUIRE(watch.reservations == ROUNDS && watch.hinted == ROUNDS / 2);
	return 0;
}

static int refuse_the_last_room(void)
{
	const int file = memfd_of((off_t)LENGTH);

	if (!be_watched(numbers, COUNT(numbers), look))
		return 2;
	watch.refuse_hinted = true;
	REQUIRE(map_and_unmap(file) == 0);
	REQUIRE(watch.hinted == ROUNDS / 2);
	return 0;
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

static void phases_that_differ_share_a_window(void **state)
{
	(void)state;
	assert_counted(end_of(through_a_file));
}

static void where_room_was_found_it_is_looked_for_again(void **state)
{
	const char *setting = getenv("SETTING");

	(void)state;
	if (remembers())
		skip_because("windows are remembered");
	if (setting && strcmp(setting, "ADDR_COMPAT_LAYOUT") == 0)
		skip_because("from the bottom up, what lies below a window is taken");
	assert_counted(end_of(reserve_in_one_place));
}

static void where_that_is_refused_room_is_found_elsewhere(void **state)
{
	(void)state;
	if (remembers())
		skip_because("windows are remembered");
	assert_counted(end_of(refuse_the_last_room));
}

static void those_that_are_kept_are_seldom_more(void **state)
{
	(void)state;
	assert_counted(end_of(keeping));
}

static void a_claim_that_is_but_a_hint_is_not_guessed(void **state)
{
	(void)state;
	assert_counted(end_of(validating));
}

static void a_library_behind_the_c_library_remembers_nothing(void **state)
{
	(void)state;
	if (!getenv("LIBRARY"))
		skip_because("it is in front already");
	if (SANITIZED)
		skip_because("a sanitizer refuses RTLD_DEEPBIND");
	assert_counted(end_of(behind_the_c_library));
}

struct span {
	uintptr_t lowest, highest;
};

static void *widen(struct span *span, void *mapping)
{
	const uintptr_t start = (uintptr_t)mapping;

	assert_ptr_not_equal(mapping, MAP_FAILED);
	if (!span->highest || start < span->lowest)
		span->lowest = start;
	if (start + LENGTH > span->highest)
		span->highest = start + LENGTH;
	return mapping;
}

static void phases_that_differ_do_not_walk_down(void **state)
{
	const int file = memfd_of((off_t)(8 * LENGTH));
	struct span span = { 0 };

	(void)state;
	for (size_t i = 0; i < 10 * ROUNDS; i++) {
		const off_t offset = (off_t)(i * 3 % 1000 * page_size());
		void *mapping =
			widen(&span, map(NULL, LENGTH, PROT_READ, MAP_SHARED, file, offset));

		assert_true(congruent(mapping, (uint64_t)offset, pmd_size()));
		munmap(mapping, LENGTH);
	}
	assert_true(span.highest - span.lowest <= 2 * LENGTH);
	close(file);
}

/* Room that has become free above is used again, but for a sixteenth. */
static void a_chain_comes_back_up(void **state)
{
	const int file = memfd_of((off_t)LENGTH);
	struct span first = { 0 }, both;
	void *mappings[ROUNDS];

	(void)state;
	for (int i = 0; i < ROUNDS; i++)
		mappings[i] = widen(&first, place(file));
	for (int i = 0; i < ROUNDS - 1; i++)
		munmap(mappings[i], LENGTH);
	both = first;
	for (int i = 0; i < ROUNDS - 1; i++)
		mappings[i] = widen(&both, place(file));
	assert_true(first.lowest - both.lowest <=
		    (first.highest - first.lowest) / 16 + LENGTH + 2 * pmd_size());
	for (int i = 0; i < ROUNDS; i++)
		munmap(mappings[i], LENGTH);
	close(file);
}

static void a_call_with_a_hint_goes_near_it_and_is_not_remembered(void **state)
{
	const int file = memfd_of((off_t)LENGTH);
	char *window, *room, *mapping;

	(void)state;
	if (!getenv("ALIGNMAP_HINTS"))
		skip_because("for ALIGNMAP_HINTS=1");
	window = place(file);
	assert_true(well_placed(window));
	munmap(window, LENGTH);
	room = map_raw(NULL, 64 * G, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(room, MAP_FAILED);
	munmap(room, 64 * G);
	room += page_size();
	mapping = map(room, LENGTH, PROT_READ, MAP_SHARED, file, 0);
	assert_true(well_placed(mapping));
	assert_true(mapping >= room && mapping < room + 2 * pmd_size());
	munmap(mapping, LENGTH);
	mapping = place(file);
	assert_true(mapping + 32 * G > window);
	munmap(mapping, LENGTH);
	close(file);
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
	if (way == WAY_API && remembers())
		skip_because("the archive does not see MAP_GROWSDOWN, and remembers nothing");
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
		cmocka_unit_test(where_room_was_found_it_is_looked_for_again),
		cmocka_unit_test(where_that_is_refused_room_is_found_elsewhere),
		cmocka_unit_test(phases_that_differ_share_a_window),
		cmocka_unit_test(those_that_are_kept_are_seldom_more),
		cmocka_unit_test(a_claim_that_is_but_a_hint_is_not_guessed),
		cmocka_unit_test(a_library_behind_the_c_library_remembers_nothing),
		cmocka_unit_test(phases_that_differ_do_not_walk_down),
		cmocka_unit_test(a_chain_comes_back_up),
		cmocka_unit_test(a_call_with_a_hint_goes_near_it_and_is_not_remembered),
		cmocka_unit_test(what_has_taken_the_place_meanwhile_stays),
		cmocka_unit_test(a_mapping_that_grows_down_keeps_its_guard_gap),
	};

	choose_way(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
