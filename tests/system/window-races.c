// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Windows whose system calls fail, and other threads that take any place that is free meanwhile. A
 * thread of ours is stopped by seccomp before each call that maps, and another one, the watcher,
 * decides what comes of it and what happens before it: so each failure and each race is had by
 * choice, one by one. Then the same under load. All in children, since the control arm destroys
 * what is mapped, and a filter stays.
 */
#include "watch.h"
#include "windows.h"

#include <pthread.h>
#include <stdatomic.h>

#define READ PROT_READ
#define WRITE (PROT_READ | PROT_WRITE)

/* No errno: mremap succeeds, but at an address of its own, as some drivers choose. */
#define ELSEWHERE 4096

/* What the watcher does to the thread that it watches. */
static struct {
	atomic_bool armed;
	/* This call fails, counted from 1; 0: none. Or each that is a multiple of it. */
	unsigned int failing;
	bool again;
	int error;
	/* mremap, or mmap without memory, has unmapped its destination before, as they may. */
	bool leaves_gap;
	/* Each page of the window that is free is taken before each call. */
	bool takes_gaps;
	char *window;
	size_t pages;
	/* What it saw. */
	atomic_uint calls;
	int number;
	bool fixed;
	struct {
		uint64_t *page;
		uint64_t word; /* on it, and on no other: it may be taken twice */
	} taken[64];
	size_t taken_count;
} watch;

static void take_gaps(void)
{
	static uint64_t word;

	for (size_t p = 0; p < watch.pages; p++) {
		uint64_t *page = map_raw(watch.window + p * page_size(), page_size(), WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (page == MAP_FAILED)
			continue;
		*page = ++word;
		if (watch.taken_count == COUNT(watch.taken))
			abort();
		watch.taken[watch.taken_count].page = page;
		watch.taken[watch.taken_count++].word = word;
	}
}

static struct verdict decide(const struct seccomp_data *call)
{
	struct verdict verdict = { 0 };
	unsigned int nth;

	if (!watch.armed)
		return verdict;
	nth = ++watch.calls;
	if (watch.takes_gaps)
		take_gaps();
	if (watch.again ? nth % watch.failing : nth != watch.failing)
		return verdict;
	watch.number = call->nr;
	watch.fixed = call->nr == SYS_mmap && call->args[3] & MAP_FIXED;
	if (call->nr == SYS_mremap && watch.error == ELSEWHERE)
		verdict.result = mremap((void *)call->args[0], call->args[1], call->args[2],
					MREMAP_MAYMOVE | MREMAP_FIXED,
					map_raw(NULL, call->args[2], PROT_NONE,
						MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	if (call->nr == SYS_mremap && watch.leaves_gap) {
		munmap((void *)call->args[4], call->args[2]);
		if (watch.takes_gaps)
			take_gaps();
	}
	if (watch.fixed && watch.leaves_gap && watch.error == ENOMEM) {
		munmap((void *)call->args[0], call->args[1]);
		if (watch.takes_gaps)
			take_gaps();
	}
	verdict.error = watch.error == ELSEWHERE ? 0 : watch.error;
	return verdict;
}

/* The window of each trial, in pages: pieces are at [2, 6) and, for some, at [9, 11). */
#define WINDOW 16
#define FIRST 4

enum operation {
	MAP_A_SHARED_PIECE,
	MAP_A_PRIVATE_PIECE,
	MAP_WHAT_A_DRIVER_REFUSES,
	UNMAP_TWO_PIECES,
	RELEASE,
	RELEASE_WITH_LOST_PLACES,
	OPERATIONS
};

struct trial {
	enum operation operation;
	unsigned int failing;
	int error;
	bool leaves_gap;
	bool takes_gaps;
	bool again; /* each that comes after fails, too, if failing is 1 */
};

static int file, refusing;

static void arm(const struct trial *trial)
{
	watch.failing = trial->failing;
	watch.error = trial->error;
	watch.leaves_gap = trial->leaves_gap;
	watch.takes_gaps = trial->takes_gaps;
	watch.again = trial->again;
	watch.calls = 0;
	watch.number = -1;
	watch.fixed = false;
	watch.armed = true;
}

static uint64_t at_page(size_t page)
{
	return (FIRST + page) * page_size();
}

static bool is_taken(const void *page)
{
	for (size_t i = 0; i < watch.taken_count; i++)
		if (watch.taken[i].page == page)
			return true;
	return false;
}

/* Nothing that was taken is touched; what is not lost is as the query says. */
static void check_window(struct alignmap_window *window)
{
	uint64_t word = 0;

	for (size_t i = 0; i < watch.taken_count; i++) {
		assert_int_equal(look_for(watch.taken[i].page, &word), READABLE);
		assert_int_equal(word, watch.taken[i].word);
	}
	for (size_t p = 0; window && p < WINDOW; p++) {
		const char *page = watch.window + p * page_size();

		assert_ptr_equal(address_in(window, at_page(p)), page);
		switch (extent_at(window, at_page(p)).state) {
		case ALIGNMAP_RESERVED:
			assert_false(is_taken(page));
			assert_int_equal(look(page), HELD);
			break;
		case ALIGNMAP_MAPPED:
			assert_false(is_taken(page));
			assert_int_equal(look_for(page, &word), READABLE);
			assert_int_equal(word, stamp(FIRST + p));
			break;
		case ALIGNMAP_LOST:
			break;
		}
	}
}

static enum alignmap_extent_state state_at(struct alignmap_window *window, size_t page)
{
	return extent_at(window, at_page(page)).state;
}

/* A place that a thread took while mremap failed. */
static void lose(struct alignmap_window *window, size_t page)
{
	const struct trial trial = { 0, 1, EFAULT, true, true, false };

	/* The first mremap: others are let through before. */
	for (unsigned int nth = 1; nth < 32; nth++) {
		arm(&trial);
		watch.failing = nth;
		watch.takes_gaps = false;
		/* Only where it is mremap that would fail is it let fail. */
		watch.error = 0;
		alignmap_window_map(window, page_size(), READ, MAP_SHARED, file,
				    (off_t)at_page(page));
		watch.armed = false;
		take_out(window, at_page(page), page_size());
		if (watch.number != SYS_mremap)
			continue;
		arm(&trial);
		watch.failing = nth;
		assert_ptr_equal(alignmap_window_map(window, page_size(), READ, MAP_SHARED, file,
						     (off_t)at_page(page)),
				 MAP_FAILED);
		watch.armed = false;
		break;
	}
	assert_int_equal(state_at(window, page), ALIGNMAP_LOST);
	assert_int_equal(extent_at(window, at_page(page)).length, page_size());
	assert_int_equal(extent_at(window, at_page(page)).prot, PROT_NONE);
}

/* What the caller is told must be so. */
static void check_mapping(struct alignmap_window *window, const struct trial *trial,
			  const void *result)
{
	const bool by_mremap = watch.number == SYS_mremap;

	for (size_t p = 8; p < 12; p++) {
		const enum alignmap_extent_state state = state_at(window, p);

		if (result != MAP_FAILED)
			assert_int_equal(state, ALIGNMAP_MAPPED);
		else
			assert_int_not_equal(state, ALIGNMAP_MAPPED);
		/* Where nobody took anything, and it is certain whose the place is. */
		if (!trial->takes_gaps && (!by_mremap || trial->leaves_gap ||
					   trial->error == EPERM || trial->error == ENOSYS))
			assert_int_not_equal(state, ALIGNMAP_LOST);
	}
	if (result != MAP_FAILED) {
		assert_ptr_equal(result, watch.window + 8 * page_size());
		assert_int_not_equal(trial->operation, MAP_WHAT_A_DRIVER_REFUSES);
	} else if (!watch.number) {
		assert_int_equal(trial->operation, MAP_WHAT_A_DRIVER_REFUSES);
	}
	/* Mapped all the same, where nothing but mremap is in the way. */
	if (by_mremap && !trial->takes_gaps &&
	    (trial->leaves_gap || trial->error == EPERM || trial->error == ENOSYS))
		assert_ptr_not_equal(result, MAP_FAILED);
	for (size_t p = 2; p < 6; p++)
		assert_int_equal(state_at(window, p), ALIGNMAP_MAPPED);
}

static void check_unmapping(struct alignmap_window *window, const struct trial *trial, int result)
{
	const enum alignmap_extent_state first = state_at(window, 2), second = state_at(window, 9);
	/* Only there nobody knows what became of the piece. */
	const bool over_a_piece = watch.fixed && trial->error == ENOMEM;

	/* A gap that nobody takes is held again. */
	if (over_a_piece && trial->leaves_gap && !trial->takes_gaps)
		assert_int_equal(result, 0);
	if (result == 0) {
		assert_int_equal(first, ALIGNMAP_RESERVED);
		assert_int_equal(second, ALIGNMAP_RESERVED);
	} else if (first == ALIGNMAP_RESERVED) {
		assert_int_equal(second, over_a_piece ? ALIGNMAP_LOST : ALIGNMAP_MAPPED);
	} else {
		/* What is behind the one that failed was not tried. */
		assert_int_equal(first, over_a_piece ? ALIGNMAP_LOST : ALIGNMAP_MAPPED);
		assert_int_equal(second, ALIGNMAP_MAPPED);
	}
	assert_int_equal(extent_at(window, at_page(9)).prot,
			 second == ALIGNMAP_MAPPED ? READ : PROT_NONE);
}

/* A lost place stays what it is, and the rest can be used. */
static void check_use(struct alignmap_window *window)
{
	const size_t page = page_size();

	for (size_t p = 0; p < WINDOW; p++) {
		errno = 0;
		switch (state_at(window, p)) {
		case ALIGNMAP_LOST:
			assert_ptr_equal(alignmap_window_map(window, page, READ, MAP_SHARED, file,
							     (off_t)at_page(p)),
					 MAP_FAILED);
			assert_int_equal(errno, EEXIST);
			take_out(window, at_page(p), page);
			assert_int_equal(state_at(window, p), ALIGNMAP_LOST);
			break;
		case ALIGNMAP_RESERVED:
			put(window, page, READ, MAP_SHARED, file, (off_t)at_page(p));
			break;
		case ALIGNMAP_MAPPED:
			break;
		}
	}
	check_window(window);
	take_out(window, at_page(0), WINDOW * page);
	check_window(window);
	for (size_t p = 0; p < WINDOW; p++)
		assert_int_not_equal(state_at(window, p), ALIGNMAP_MAPPED);
}

/* Releases it, once more where that fails, and looks at what is left. */
static void check_release(struct alignmap_window *window, const struct trial *trial)
{
	bool was_lost[WINDOW];
	int result;

	for (size_t p = 0; p < WINDOW; p++)
		was_lost[p] = state_at(window, p) == ALIGNMAP_LOST;
	if (trial) {
		arm(trial);
		errno = 0;
		result = alignmap_window_release(window);
		watch.armed = false;
		/* A munmap that fails is tried twice. */
		assert_int_equal(result, trial->again ? -1 : 0);
		if (result) {
			assert_int_equal(errno, trial->error);
			check_window(NULL);
			release(window);
		}
	} else {
		release(window);
	}
	check_window(NULL);
	for (size_t p = 0; p < WINDOW; p++) {
		const char *page = watch.window + p * page_size();

		if (!is_taken(page) && !was_lost[p])
			assert_int_equal(look(page), UNMAPPED);
	}
}

static void put_pieces(struct alignmap_window *window, enum operation operation)
{
	const size_t page = page_size();

	put(window, 4 * page, READ, MAP_SHARED, file, (off_t)at_page(2));
	if (operation == UNMAP_TWO_PIECES)
		put(window, 2 * page, READ, MAP_SHARED, file, (off_t)at_page(9));
	if (operation == RELEASE_WITH_LOST_PLACES) {
		lose(window, 0);
		lose(window, 8);
		lose(window, 9);
		lose(window, 12);
	}
}

/* Returns whether there was a call to fail. */
static bool try_once(const struct trial *trial)
{
	const size_t page = page_size();
	const unsigned long held = pages_held();
	struct alignmap_window *window = reserve(at_page(0), WINDOW * page, NULL);
	unsigned long left = 0;
	int failed;

	watch.window = address_in(window, at_page(0));
	watch.pages = WINDOW;
	watch.taken_count = 0;
	put_pieces(window, trial->operation);
	if (trial->operation < UNMAP_TWO_PIECES) {
		const bool refused = trial->operation == MAP_WHAT_A_DRIVER_REFUSES;
		const bool shared = trial->operation == MAP_A_SHARED_PIECE;
		void *result;

		arm(trial);
		result = alignmap_window_map(window, 4 * page, shared ? READ : WRITE,
					     shared ? MAP_SHARED : MAP_PRIVATE,
					     refused ? refusing : file, (off_t)at_page(8));
		watch.armed = false;
		failed = watch.number;
		check_window(window);
		check_mapping(window, trial, result);
	} else if (trial->operation == UNMAP_TWO_PIECES) {
		int result;

		arm(trial);
		result = alignmap_window_unmap(window, at_page(1), 14 * page);
		watch.armed = false;
		failed = watch.number;
		check_window(window);
		check_unmapping(window, trial, result);
	} else {
		check_release(window, trial);
		failed = watch.number;
		window = NULL;
	}
	if (window) {
		check_use(window);
		for (size_t p = 0; p < WINDOW; p++)
			left += state_at(window, p) == ALIGNMAP_LOST &&
				!is_taken(watch.window + p * page) &&
				look(watch.window + p * page) != UNMAPPED;
		check_release(window, NULL);
	}
	for (size_t i = 0; i < watch.taken_count; i++)
		munmap(watch.taken[i].page, page);
	/* Nothing is left but what nobody could know to be ours. */
	assert_int_equal(pages_held(), held + left);
	return failed >= 0;
}

static unsigned long trials;

static void fail_in_turn(struct trial trial)
{
	trial.failing = 1;
	while (try_once(&trial)) {
		trial.failing++;
		trials++;
	}
	assert_true(trial.failing > 1 && trial.failing < 32);
}

static void fail_each_call_in_turn(void)
{
	static const int numbers[] = { SYS_mmap, SYS_munmap, SYS_mremap };
	struct trial trial = { 0 };

	file = stamped_file(2 * WINDOW);
	refusing = perf_event();
	if (refusing < 0)
		_exit(SKIPPED);
	if (!be_watched(numbers, COUNT(numbers), decide))
		_exit(SKIPPED);
	/* The heap is as large as it will be, then. */
	for (int op = 0; op < OPERATIONS; op++)
		try_once(&(struct trial){ .operation = (enum operation)op });
	for (int i = 0; i < OPERATIONS * MMAP_ERRORS * 4; i++) {
		trial.operation = (enum operation)(i % OPERATIONS);
		trial.error = mmap_errors[i / OPERATIONS % MMAP_ERRORS];
		trial.takes_gaps = i / OPERATIONS / MMAP_ERRORS % 2;
		trial.leaves_gap = i / OPERATIONS / MMAP_ERRORS / 2;
		/* The kernel unmaps nothing before it fails so (lib/window.c says why). */
		if (trial.leaves_gap && (trial.error == EPERM || trial.error == ENOSYS))
			continue;
		fail_in_turn(trial);
	}
	for (int i = 0; i < 2; i++) {
		fail_in_turn((struct trial){ MAP_A_SHARED_PIECE, 0, ELSEWHERE, true, i, false });
		fail_in_turn((struct trial){ MAP_A_PRIVATE_PIECE, 0, ELSEWHERE, true, i, false });
		try_once(&(struct trial){ RELEASE, 1, ENOMEM, false, i, true });
		try_once(&(struct trial){ RELEASE_WITH_LOST_PLACES, 1, EPERM, false, i, true });
	}
	print_message(
		"# trust failures|a window's pieces: mapped, unmapped, released|%lu, by %d errnos, "
		"with and without a thread that takes what is free|mmap, munmap, mremap|"
		"the window says what is; nothing foreign touched; nothing left but lost "
		"places\n",
		trials, MMAP_ERRORS);
}

static void whatever_call_fails_nothing_foreign_is_touched_and_the_window_says_what_is(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer makes such calls for itself");
	if (in_a_child(fail_each_call_in_turn) == SKIPPED)
		skip_because("seccomp's user notification or perf_event_open is not permitted");
}

/* A plain filter, such as a VMM puts on itself. */
static void map_without_mremap(int error)
{
	static const int mremap_alone[] = { SYS_mremap };
	const size_t page = page_size();
	struct alignmap_window *window = reserve(0, WINDOW * page, NULL);
	struct census census;

	if (filter_calls(mremap_alone, 1, SECCOMP_RET_ERRNO | (uint32_t)error, 0))
		_exit(SKIPPED);
	file = stamped_file(WINDOW);
	for (uint64_t p = 0; p < WINDOW; p += 4)
		if (alignmap_window_map(window, 3 * page, READ, MAP_SHARED, file,
					(off_t)(p * page)) == MAP_FAILED)
			assert_int_equal(extent_at(window, p * page).state, ALIGNMAP_LOST);
		else
			assert_int_equal(*(uint64_t *)address_in(window, p * page), stamp(p));
	census = take_census(window, 0, WINDOW * page);
	assert_int_equal(census.reserved, WINDOW / 4 * page);
	/* These tell that there was no call. */
	if (error == EPERM || error == ENOSYS)
		assert_int_equal(census.mapped, WINDOW / 4 * 3 * page);
	take_out(window, 0, WINDOW * page);
	take_census(window, 0, WINDOW * page);
	release(window);
}

static void map_without_mremap_eperm(void)
{
	map_without_mremap(EPERM);
}

static void map_without_mremap_enosys(void)
{
	map_without_mremap(ENOSYS);
}

static void map_without_mremap_einval(void)
{
	map_without_mremap(EINVAL);
}

static void map_without_mremap_efault(void)
{
	map_without_mremap(EFAULT);
}

static void where_mremap_is_not_to_be_had_a_piece_is_mapped_or_told_to_be_lost(void **state)
{
	void (*const ways[])(void) = { map_without_mremap_eperm, map_without_mremap_enosys,
				       map_without_mremap_einval, map_without_mremap_efault };

	(void)state;
	for (size_t i = 0; i < COUNT(ways); i++)
		if (in_a_child(ways[i]) == SKIPPED)
			skip_because("seccomp is not permitted");
}

static void map_without_fstatfs(void)
{
	static const int fstatfs_alone[] = { SYS_fstatfs };
	const size_t page = page_size();
	struct alignmap_window *window = reserve(0, WINDOW * page, NULL);

	if (filter_calls(fstatfs_alone, 1, SECCOMP_RET_ERRNO | EPERM, 0))
		_exit(SKIPPED);
	file = stamped_file(WINDOW);
	errno = 0;
	assert_ptr_equal(alignmap_window_map(window, page, READ, MAP_SHARED, file, 0), MAP_FAILED);
	assert_int_equal(errno, EPERM);
	assert_int_equal(take_census(window, 0, WINDOW * page).reserved, WINDOW * page);
	release(window);
}

static void a_file_whose_page_size_is_not_to_be_had_is_not_mapped(void **state)
{
	(void)state;
	if (in_a_child(map_without_fstatfs) == SKIPPED)
		skip_because("seccomp is not permitted");
}

/*
 * Under load, from here on. Foreign threads hold mappings of their own, with a word on each that
 * nobody else writes; they are small, and as large as a piece, so that they fit into each gap.
 */
#define HELD_AT_ONCE 8
#define PIECE ((size_t)4)
#define ROUNDS (SANITIZED ? 2000UL : 20000UL)

static atomic_bool over;
static atomic_uint at_work;
static atomic_ulong lost, foreign, failures, gaps;

static void *mind_own_memory(void *number)
{
	const uint64_t id = (uintptr_t)number;
	const int own = memfd_of((off_t)(PIECE * page_size()));
	struct {
		uint64_t *at;
		size_t length;
		uint64_t word;
	} held[HELD_AT_ONCE] = { 0 };

	for (uint64_t i = 0; !over || held[i % HELD_AT_ONCE].at; i++) {
		const size_t slot = i % HELD_AT_ONCE;
		const bool is_file = i % 4 == 3;

		if (held[slot].at) {
			const char *last = (char *)held[slot].at + held[slot].length - page_size();
			uint64_t words[2] = { 0 };

			if (look_for(held[slot].at, &words[0]) != READABLE ||
			    look_for(last, &words[1]) != READABLE || words[0] != held[slot].word ||
			    words[1] != held[slot].word)
				lost++;
			else
				munmap(held[slot].at, held[slot].length);
		}
		held[slot].at = NULL;
		if (over)
			continue;
		held[slot].length = page_size() * (i % 3 ? PIECE : 1);
		held[slot].word = is_file ? id << 48 : id << 48 | i;
		/* By the symbol, for the thread sanitizer to know it for new; it takes its time. */
		held[slot].at = (way == WAY_RAW ? map_raw : call_mmap)(
			NULL, held[slot].length, WRITE,
			is_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, is_file ? own : -1, 0);
		if (held[slot].at == MAP_FAILED)
			abort();
		held[slot].at[0] = held[slot].word;
		held[slot].at[(held[slot].length - page_size()) / sizeof(uint64_t)] =
			held[slot].word;
		foreign++;
	}
	close(own);
	return NULL;
}

/* Returns how many of its pages are lost. The others must be what the query says. */
static unsigned long count_lost(struct alignmap_window *window)
{
	struct alignmap_extent extent;
	unsigned long count = 0;
	uint64_t offset = 0;

	for (; alignmap_window_query(window, offset, &extent) == 0; offset += extent.length) {
		if (extent.state == ALIGNMAP_LOST) {
			count += extent.length / page_size();
			continue;
		}
		for (size_t p = 0; p < extent.length; p += page_size())
			if (extent.state == ALIGNMAP_MAPPED ||
			    look((char *)extent.address + p) != HELD)
				abort();
	}
	if (offset != WINDOW * page_size())
		abort();
	return count;
}

/* By a driver that refuses; and what is mapped finds its way by a gap, as the thread's filter is.
 */
static void *fail_in_all_ways(void *number)
{
	const size_t page = page_size();

	(void)number;
	for (unsigned long round = 0; round < ROUNDS / 64; round++) {
		struct alignmap_window *window = alignmap_window_reserve(0, WINDOW * page, NULL);

		if (!window)
			abort();
		for (unsigned long i = 0; i < 64; i++) {
			const uint64_t place = i % 4 * 4 * page;
			uint64_t word;

			/* The thread sanitizer does not know that a piece has been moved there. */
			if (alignmap_window_map(
				    window, PIECE * page, READ, i % 2 ? MAP_SHARED : MAP_PRIVATE,
				    i % 8 < 4 ? refusing : file, (off_t)place) == MAP_FAILED)
				failures++;
			else if (look_for(address_in(window, place), &word) != READABLE ||
				 word != stamp(place / page))
				abort();
			if (alignmap_window_unmap(window, 0, WINDOW * page))
				abort();
		}
		gaps += count_lost(window);
		if (alignmap_window_release(window))
			abort();
	}
	at_work--;
	return NULL;
}

static char *held;

/* Below it lies all that is mapped from now on, so that a gap in it is what the kernel takes first.
 */
static void hold_above_others(void)
{
	held = map_raw(NULL, WINDOW * page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < 1000000; i++)
		if ((char *)map_raw(NULL, page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
				    0) < held)
			return;
	abort();
}

/* The way that others go: map over what is held, and hold it anew when that fails. */
static void *fail_naively(void *number)
{
	const size_t page = page_size();

	(void)number;
	for (unsigned long i = 0; i < 1000000 && !lost; i++) {
		char *place = held + i % 4 * 4 * page;

		if (map_raw(place, PIECE * page, READ, MAP_PRIVATE | MAP_FIXED, refusing, 0) !=
		    MAP_FAILED)
			abort();
		munmap(place, PIECE * page);
		map_raw(place, PIECE * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			0);
		failures++;
	}
	at_work--;
	return NULL;
}

static void *fail_under_watch(void *number)
{
	static const int mremap_alone[] = { SYS_mremap };

	if (!be_watched(mremap_alone, 1, decide))
		_exit(SKIPPED);
	watch.failing = 3;
	watch.again = true;
	watch.error = EFAULT;
	watch.leaves_gap = true;
	watch.armed = true;
	return fail_in_all_ways(number);
}

static void *fail_without_mremap(void *number)
{
	static const int mremap_alone[] = { SYS_mremap };

	if (filter_calls(mremap_alone, 1, SECCOMP_RET_ERRNO | EPERM, 0))
		_exit(SKIPPED);
	return fail_in_all_ways(number);
}

static void run_beside_others(void *(*const *failing)(void *), size_t count)
{
	pthread_t threads[8];
	size_t made = 0;

	file = stamped_file(WINDOW);
	refusing = perf_event();
	at_work = (unsigned int)count;
	for (size_t i = 0; i < 3; i++, made++)
		if (pthread_create(&threads[made], NULL, mind_own_memory, (void *)(made + 1)))
			abort();
	for (size_t i = 0; i < count; i++, made++)
		if (pthread_create(&threads[made], NULL, failing[i], (void *)(made + 1)))
			abort();
	while (at_work)
		usleep(1000);
	over = true;
	for (size_t i = 0; i < made; i++)
		pthread_join(threads[i], NULL);
	print_message("# %lu pieces failed beside %lu mappings of others, of which %lu were lost; "
		      "%lu pages of windows were lost\n",
		      failures, foreign, lost, gaps);
}

static void fail_beside_others(void)
{
	void *(*const failing[])(void *) = { fail_in_all_ways, fail_without_mremap,
					     fail_under_watch };

	run_beside_others(failing, COUNT(failing));
	assert_int_equal(lost, 0);
	assert_true(failures > 0 && foreign > 0);
}

static void begin(void)
{
	int event = perf_event();

	if (event < 0)
		skip_because("perf_event_open is not permitted: %s", strerror(errno));
	close(event);
}

static void beside_pieces_that_fail_nothing_foreign_is_lost(void **state)
{
	(void)state;
	begin();
	if (in_a_child(fail_beside_others) == SKIPPED)
		skip_because("seccomp's user notification is not permitted");
}

static void fail_naively_beside_others(void)
{
	void *(*const failing[])(void *) = { fail_naively };

	hold_above_others();
	run_beside_others(failing, COUNT(failing));
	_exit(lost ? HAS_LOST : 0);
}

/* The control: what is asserted above would be seen. */
static void foreign_mappings_are_lost_by_those_who_map_over_what_they_hold(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	begin();
	pid = fork_child();
	if (pid == 0)
		fail_naively_beside_others();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(has_lost(status));
}

#define SHARERS 4
#define SHARED_PAGES 64

static struct alignmap_window *shared;
static atomic_ulong granted, refused;

/*
 * Each has pages that are his alone, between those of others, and some that all want: what is
 * granted is his until he takes it out.
 */
static void *share(void *number)
{
	const size_t page = page_size(), id = (uintptr_t)number;
	struct alignmap_extent extent;

	for (size_t i = 0; i < ROUNDS / 4; i++) {
		const bool contended = i % 4 == 3;
		const uint64_t first = contended ? i % 3 : 4 + (i % 15) * SHARERS + id;
		const uint64_t pages = contended ? 1 + i % 2 : 1;
		uint64_t *piece = alignmap_window_map(shared, pages * page, READ, MAP_SHARED, file,
						      (off_t)(first * page));

		if (piece == MAP_FAILED) {
			if (errno != EEXIST || !contended)
				abort();
			refused++;
			continue;
		}
		granted++;
		if (*piece != stamp(first) ||
		    alignmap_window_query(shared, first * page, &extent) ||
		    extent.state != ALIGNMAP_MAPPED || extent.address != piece ||
		    extent.length != pages * page)
			abort();
		if (alignmap_window_unmap(shared, first * page, pages * page))
			abort();
	}
	return NULL;
}

static void share_a_window(void)
{
	const size_t page = page_size();
	pthread_t threads[SHARERS];

	file = stamped_file(SHARED_PAGES);
	shared = reserve(0, SHARED_PAGES * page, NULL);
	for (size_t i = 0; i < SHARERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, share, (void *)i), 0);
	for (size_t i = 0; i < SHARERS; i++)
		pthread_join(threads[i], NULL);
	print_message("# %lu pieces, and %lu refused\n", granted, refused);
	assert_int_equal(granted + refused, SHARERS * (ROUNDS / 4));
	assert_int_equal(take_census(shared, 0, SHARED_PAGES * page).reserved, SHARED_PAGES * page);
	release(shared);
}

static void threads_that_share_a_window_get_what_they_asked_for(void **state)
{
	(void)state;
	in_a_child(share_a_window);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			whatever_call_fails_nothing_foreign_is_touched_and_the_window_says_what_is),
		cmocka_unit_test(
			where_mremap_is_not_to_be_had_a_piece_is_mapped_or_told_to_be_lost),
		cmocka_unit_test(a_file_whose_page_size_is_not_to_be_had_is_not_mapped),
		cmocka_unit_test(threads_that_share_a_window_get_what_they_asked_for),
		cmocka_unit_test(beside_pieces_that_fail_nothing_foreign_is_lost),
	};
	const struct CMUnitTest control[] = {
		cmocka_unit_test(foreign_mappings_are_lost_by_those_who_map_over_what_they_hold),
	};

	choose_way(argc, argv);
	if (way == WAY_RAW)
		return cmocka_run_group_tests(control, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
