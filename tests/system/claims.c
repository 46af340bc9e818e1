// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What the next mmap in line gets to see of a call: what is left to the kernel comes through as it
 * was made, once; what is placed differs in its address and, where it insists, by one flag.
 */
#include "system.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/io_uring.h>

#include "recorder.h"

/* What was asked for, by way and environment. */
enum arm {
	API = 1,
	PRELOAD = 2, /* nothing but, perhaps, ALIGNMAP_CLAIM */
	RESERVE = 4, /* ALIGNMAP_ANON */
	ALL = 8,
	HINTS = 16, /* ALIGNMAP_HINTS=1 */
	MIN = 32,   /* ALIGNMAP_MIN=1G */
	MAX = 64,   /* ALIGNMAP_MAX=2M */
	OFF = 128,  /* ALIGNMAP_OFF=1 */
};

static const struct {
	const char *variable;
	const char *value;
	enum arm arm;
} asked[] = {
	{ "ALIGNMAP_ANON", "reserve", RESERVE }, { "ALIGNMAP_ANON", "all", ALL },
	{ "ALIGNMAP_HINTS", "1", HINTS },	 { "ALIGNMAP_MIN", "1G", MIN },
	{ "ALIGNMAP_MAX", "2M", MAX },		 { "ALIGNMAP_OFF", "1", OFF },
};

#define EVERY (API | PRELOAD | RESERVE | ALL | HINTS | MIN | MAX)
#define NEVER 0

static unsigned int arm = PRELOAD;
static recorder_take *take;
static recorder_pretend *pretend;

/* musl has no mmap64 but a macro. */
#ifdef mmap64
#define HAS_MMAP64 false
#else
#define HAS_MMAP64 true
#endif

static void learn_arm(void)
{
	for (size_t i = 0; i < COUNT(asked); i++) {
		const char *value = getenv(asked[i].variable);

		if (value && strcmp(value, asked[i].value) == 0)
			arm = asked[i].arm;
	}
	if (way == WAY_API)
		arm = API;
	take = __extension__(recorder_take *) dlsym(RTLD_DEFAULT, "take_records");
	pretend = __extension__(recorder_pretend *) dlsym(RTLD_DEFAULT, "pretend");
	if (!take || !pretend) {
		fprintf(stderr, "the recorder is not preloaded\n");
		exit(2);
	}
}

enum where {
	ANYWHERE,	/* NULL */
	AT_A_PAGE,	/* a free address that is not congruent */
	AT_A_LEAF,	/* a free address that is */
	IN_OWN_MAPPING, /* a mapping that is there to be replaced */
};

struct row {
	const char *name;
	size_t length;
	off_t offset;
	int prot;
	int flags;
	unsigned int placed; /* in which arms */
	enum where where;
};

static struct recorded calls[64];

static void fail_row(const struct row *row, const char *claim, int line)
{
	print_error("line %d: not so: %s\n  for: %s\n", line, claim, row->name);
	fail();
}

#define expect(claim)                                    \
	do {                                             \
		if (!(claim))                            \
			fail_row(row, #claim, __LINE__); \
	} while (0)

static bool same_call(const struct recorded *call, const struct row *row, void *address, int flags,
		      int fd)
{
	return call->address == address && call->length == row->length && call->prot == row->prot &&
	       call->flags == flags && call->fd == fd && call->offset == row->offset &&
	       call->is_mmap64 == (HAS_MMAP64 && way != WAY_MMAP);
}

/* An address with room for a reservation behind it, were one made there. */
static char *address_for(const struct row *row, size_t alignment)
{
	const size_t room = row->length + 2 * alignment + 2 * pmd_size();
	char *free_room, *leaf;

	if (row->where == ANYWHERE)
		return NULL;
	free_room = map_raw(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(free_room != MAP_FAILED);
	leaf = free_room + (-(uintptr_t)free_room & (alignment - 1)) +
	       ((size_t)row->offset & (alignment - 1));
	if (row->where == IN_OWN_MAPPING) {
		/* What the call will not replace goes here. */
		expect(munmap(free_room, (size_t)(leaf - free_room) + page_size()) == 0);
		leaf += page_size();
		expect(munmap(leaf + row->length,
			      room - (size_t)(leaf - free_room) - row->length) == 0);
		return leaf;
	}
	expect(munmap(free_room, room) == 0);
	return row->where == AT_A_LEAF ? leaf : leaf + page_size();
}

static void check_row(const struct row *row, int file, size_t most)
{
	const bool is_file = !(row->flags & MAP_ANONYMOUS);
	const size_t alignment = deserved(row->length, is_file ? (uint64_t)row->offset : 0,
					  is_file ? most : pmd_size());
	const uint64_t behind = is_file ? (uint64_t)row->offset : 0;
	const int fd = is_file ? file : -1;
	char *const address = address_for(row, alignment);
	char *mapping;
	unsigned int count;

	take(calls, COUNT(calls));
	errno = EXDEV;
	mapping = map(address, row->length, row->prot, row->flags, fd, row->offset);
	expect(mapping == MAP_FAILED || errno == EXDEV);
	count = take(calls, COUNT(calls));
	expect(count == 1);
	expect(calls[0].result == mapping);
	if (row->placed & arm) {
		const int added = insists() ? MAP_FIXED_NOREPLACE : 0;
		char *const claimed = calls[0].address;

		expect(same_call(&calls[0], row, claimed, row->flags | added, fd));
		expect(claimed);
		expect(congruent(claimed, behind, alignment));
		expect(mapping == claimed);
		/* The hint went to the reservation, and the window lies within. */
		if (address)
			expect(claimed >= address && claimed < address + alignment);
	} else {
		expect(same_call(&calls[0], row, address, row->flags, fd));
		expect(mapping != MAP_FAILED || calls[0].error == errno);
	}
	if (mapping != MAP_FAILED)
		expect(munmap(mapping, row->length) == 0);
}

/* In every other arm MAX is no bound; there, a call that deserves more is placed for less. */
static void check_rows(const struct row *rows, size_t count)
{
	int file = memfd_of((off_t)2 << 40);
	const size_t most = arm == MAX ? 2 * M : largest_leaf();

	for (size_t i = 0; i < count; i++)
		check_row(&rows[i], file, most);
	close(file);
}

#define READ PROT_READ
#define WRITE (PROT_READ | PROT_WRITE)

static void need_1g_leaves(void)
{
	if (largest_leaf() != G || pmd_size() != 2 * M)
		skip_because("for hosts with leaves of 2 MiB and 1 GiB");
}

static void what_holds_a_leaf_is_placed(void **state)
{
	const size_t page = page_size(), pmd = pmd_size(), leaf = largest_leaf();
	const struct row rows[] = {
		{ "a leaf, private", pmd, 0, READ, MAP_PRIVATE, EVERY & ~MIN, ANYWHERE },
		{ "a leaf, shared", pmd, 0, WRITE, MAP_SHARED, EVERY & ~MIN, ANYWHERE },
		{ "nearly a page less", pmd - page + 1, 0, READ, MAP_SHARED, EVERY & ~MIN, 0 },
		{ "a leaf in the middle", 3 * pmd, (off_t)page, READ, MAP_SHARED, EVERY & ~MIN, 0 },
		{ "inaccessible", pmd, 0, PROT_NONE, MAP_PRIVATE, EVERY & ~MIN, ANYWHERE },
		{ "executable", pmd, 0, READ | PROT_EXEC, MAP_PRIVATE, EVERY & ~MIN, ANYWHERE },
		{ "MAP_NORESERVE", pmd, 0, WRITE, MAP_PRIVATE | MAP_NORESERVE, EVERY & ~MIN, 0 },
		{ "MAP_POPULATE", pmd, 0, READ, MAP_SHARED | MAP_POPULATE, EVERY & ~MIN, 0 },
		{ "MAP_DENYWRITE", pmd, 0, READ, MAP_SHARED | MAP_DENYWRITE, EVERY & ~MIN, 0 },
		{ "the largest leaf", leaf, 0, READ, MAP_SHARED, EVERY, ANYWHERE },
		{ "two of them, almost", 2 * leaf - page, (off_t)page, READ, MAP_SHARED, EVERY, 0 },
		{ "one less a page", leaf - page, 0, READ, MAP_SHARED, EVERY & ~MIN, ANYWHERE },
		{ "a file's end", pmd, ((off_t)2 << 40) - (off_t)page, READ, MAP_SHARED, NEVER, 0 },
		{ "behind its end", pmd, (off_t)2 << 40, READ, MAP_SHARED, EVERY & ~MIN, 0 },
	};

	(void)state;
	need_1g_leaves();
	check_rows(rows, COUNT(rows));
}

static void what_holds_no_larger_leaf_is_left_alone(void **state)
{
	const size_t page = page_size(), pmd = pmd_size();
	const struct row rows[] = {
		{ "a page", page, 0, READ, MAP_SHARED, NEVER, ANYWHERE },
		{ "a byte", 1, 0, READ, MAP_PRIVATE, NEVER, ANYWHERE },
		{ "a page less than a leaf", pmd - page, 0, READ, MAP_SHARED, NEVER, ANYWHERE },
		{ "a leaf's length", pmd, (off_t)page, READ, MAP_SHARED, NEVER, ANYWHERE },
		{ "almost two leaves", 2 * pmd - 2 * page, (off_t)page, READ, MAP_SHARED, NEVER,
		  0 },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void flags_that_choose_the_address_leave_it_to_the_kernel(void **state)
{
	const size_t pmd = pmd_size(), length = 4 * pmd;
	const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
	const struct row rows[] = {
		{ "MAP_FIXED", length, 0, READ, MAP_SHARED | MAP_FIXED, NEVER, IN_OWN_MAPPING },
		{ "MAP_FIXED at 0", length, 0, READ, MAP_SHARED | MAP_FIXED, NEVER, ANYWHERE },
		{ "MAP_FIXED_NOREPLACE", length, 0, READ, MAP_SHARED | MAP_FIXED_NOREPLACE, NEVER,
		  AT_A_PAGE },
		{ "MAP_FIXED_NOREPLACE in vain", length, 0, READ, MAP_SHARED | MAP_FIXED_NOREPLACE,
		  NEVER, IN_OWN_MAPPING },
#ifdef MAP_32BIT
		{ "MAP_32BIT", length, 0, READ, MAP_SHARED | MAP_32BIT, NEVER, ANYWHERE },
		{ "anonymous MAP_32BIT", 64 * M, 0, WRITE, anonymous | MAP_32BIT, NEVER, ANYWHERE },
#endif
		{ "MAP_GROWSDOWN", length, 0, READ, MAP_PRIVATE | MAP_GROWSDOWN, NEVER, ANYWHERE },
		{ "MAP_STACK", length, 0, READ, MAP_SHARED | MAP_STACK, NEVER, ANYWHERE },
		{ "MAP_HUGETLB", length, 0, READ, MAP_SHARED | MAP_HUGETLB, NEVER, ANYWHERE },
		{ "anonymous MAP_FIXED", 64 * M, 0, WRITE, anonymous | MAP_FIXED, NEVER,
		  IN_OWN_MAPPING },
		{ "anonymous MAP_GROWSDOWN", 64 * M, 0, WRITE, anonymous | MAP_GROWSDOWN, NEVER,
		  ANYWHERE },
		{ "anonymous MAP_STACK", 64 * M, 0, WRITE, anonymous | MAP_STACK, NEVER, ANYWHERE },
		{ "anonymous MAP_HUGETLB", 64 * M, 0, WRITE, anonymous | MAP_HUGETLB, NEVER,
		  ANYWHERE },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void an_address_hint_is_left_alone_unless_placing_it_is_asked_for(void **state)
{
	const size_t page = page_size(), pmd = pmd_size(), leaf = largest_leaf();
	const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
	const struct row rows[] = {
		{ "a page's address", 4 * pmd, 0, READ, MAP_SHARED, HINTS, AT_A_PAGE },
		{ "a page's address, in a leaf", 4 * pmd, (off_t)(2 * page), READ, MAP_PRIVATE,
		  HINTS, AT_A_PAGE },
		{ "a page's address, large", leaf, 0, READ, MAP_SHARED, HINTS, AT_A_PAGE },
		{ "a good address", 4 * pmd, 0, READ, MAP_SHARED, NEVER, AT_A_LEAF },
		{ "a good address, in a leaf", 4 * pmd, (off_t)page, READ, MAP_SHARED, NEVER,
		  AT_A_LEAF },
		{ "a page's address, anonymous", 64 * M, 0, WRITE, anonymous, NEVER, AT_A_PAGE },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void offsets_of_drm_objects_are_left_alone_by_the_preload(void **state)
{
	const off_t page = (off_t)page_size(), pmd = 2 * M, first = (off_t)4 << 30;
	const off_t beyond = first + ((off_t)1 << 40);
	const struct row rows[] = {
		{ "the page before", 4 * M, first - page, READ, MAP_SHARED, EVERY & ~MIN, 0 },
		{ "the first", 4 * M, first, READ, MAP_SHARED, EVERY & ~MIN, 0 },
		{ "the next page", 4 * M, first + page, READ, MAP_SHARED, API, 0 },
		{ "a leaf further", 4 * M, first + pmd, READ, MAP_SHARED, EVERY & ~MIN, 0 },
		{ "a leaf further, but large", 2 * G, first + pmd, READ, MAP_SHARED, API | MAX, 0 },
		{ "a large leaf further", 2 * G, first + (off_t)G, READ, MAP_SHARED, EVERY, 0 },
		{ "the last page", 4 * M, beyond - page, READ, MAP_SHARED, API, 0 },
		{ "the page behind", 4 * M, beyond + page, READ, MAP_SHARED, EVERY & ~MIN, 0 },
		{ "small", (size_t)page, first + page, READ, MAP_SHARED, NEVER, 0 },
	};

	(void)state;
	need_1g_leaves();
	check_rows(rows, COUNT(rows));
}

static void anonymous_memory_is_placed_by_the_api_and_when_asked_for(void **state)
{
	const size_t page = page_size(), pmd = pmd_size();
	const int private = MAP_PRIVATE | MAP_ANONYMOUS, shared = MAP_SHARED | MAP_ANONYMOUS;
	const struct row rows[] = {
		{ "memory", 64 * M, 0, WRITE, private, API | ALL, ANYWHERE },
		{ "shared memory", 64 * M, 0, WRITE, shared, API | ALL, ANYWHERE },
		{ "a reservation", 64 * M, 0, PROT_NONE, private, API | RESERVE | ALL, ANYWHERE },
		{ "a small reservation", 32 * M - page, 0, PROT_NONE, private, API, ANYWHERE },
		{ "small memory", 32 * M - page, 0, WRITE, private, API, ANYWHERE },
		{ "smaller memory", pmd, 0, WRITE, private, API, ANYWHERE },
		{ "a page", page, 0, WRITE, private, NEVER, ANYWHERE },
		{ "an offset that is none", 64 * M, (off_t)page, WRITE, private, API | ALL, 0 },
		{ "a DRM object's", 64 * M, (off_t)(4 * G + page), WRITE, private, API | ALL, 0 },
		{ "much", 3 * G + page, 0, PROT_NONE, private, API | RESERVE | ALL, ANYWHERE },
	};

	(void)state;
	if (pmd > 32 * M)
		skip_because("for hosts with a PMD of at most 32 MiB");
	check_rows(rows, COUNT(rows));
}

static struct row a_mapping_of(int flags)
{
	return (struct row){
		.name = "4 PMDs", .length = 4 * pmd_size(), .prot = READ, .flags = flags
	};
}

static void a_refused_claim_is_followed_by_the_call_as_it_was(void **state)
{
	const struct row row = a_mapping_of(MAP_SHARED);
	const int added = insists() ? MAP_FIXED_NOREPLACE : 0;

	(void)state;
	take(calls, COUNT(calls));
	errno = 0;
	assert_ptr_equal(map(NULL, row.length, READ, MAP_SHARED, -1, 0), MAP_FAILED);
	assert_int_equal(errno, EBADF);
	assert_int_equal(take(calls, COUNT(calls)), 2);
	assert_true(same_call(&calls[0], &row, calls[0].address, MAP_SHARED | added, -1));
	assert_non_null(calls[0].address);
	assert_true(same_call(&calls[1], &row, NULL, MAP_SHARED, -1));
}

static void the_call_as_it_was_decides_after_a_refused_claim(void **state)
{
	static const int errors[] = { EINVAL, ENOMEM, EAGAIN, EACCES, EPERM, ENXIO, ENODEV };
	int file = memfd_of((off_t)(4 * pmd_size()));
	char *mapping;

	(void)state;
	take(calls, COUNT(calls));
	for (size_t i = 0; i < COUNT(errors); i++) {
		pretend(PRETEND_ERROR, errors[i], 1);
		errno = EXDEV;
		mapping = map(NULL, 4 * pmd_size(), READ, MAP_SHARED, file, 0);
		assert_ptr_not_equal(mapping, MAP_FAILED);
		assert_int_equal(errno, EXDEV);
		assert_int_equal(take(calls, COUNT(calls)), 2);
		assert_null(calls[1].address);
		assert_int_equal(calls[1].flags, MAP_SHARED);
		assert_int_equal(munmap(mapping, 4 * pmd_size()), 0);

		/* A driver that has its reasons is asked twice, not more. */
		pretend(PRETEND_ERROR, errors[i], 2);
		assert_ptr_equal(map(NULL, 4 * pmd_size(), READ, MAP_SHARED, file, 0), MAP_FAILED);
		assert_int_equal(errno, errors[i]);
		assert_int_equal(take(calls, COUNT(calls)), 2);
		pretend(PRETEND_NOTHING, 0, 0);
	}
	close(file);
}

static void a_fixed_claim_that_another_thread_was_faster_with_is_repeated(void **state)
{
	int file = memfd_of((off_t)(4 * pmd_size()));
	const unsigned int attempts = insists() ? 4 : 2;
	char *mapping;

	(void)state;
	take(calls, COUNT(calls));
	pretend(PRETEND_ERROR, EEXIST, attempts - 1);
	mapping = map(NULL, 4 * pmd_size(), READ, MAP_SHARED, file, 0);
	assert_int_equal(take(calls, COUNT(calls)), attempts);
	assert_ptr_not_equal(mapping, MAP_FAILED);
	if (insists()) {
		assert_ptr_equal(mapping, calls[3].address);
		assert_true(congruent(mapping, 0, pmd_size()));
		for (int i = 0; i < 4; i++)
			assert_int_equal(calls[i].flags, MAP_SHARED | MAP_FIXED_NOREPLACE);
	}
	assert_int_equal(munmap(mapping, 4 * pmd_size()), 0);

	/* Not for ever; and the last word is that of the call as it was. */
	pretend(PRETEND_ERROR, EEXIST, 10000);
	errno = 0;
	assert_ptr_equal(map(NULL, 4 * pmd_size(), READ, MAP_SHARED, file, 0), MAP_FAILED);
	assert_int_equal(errno, EEXIST);
	pretend(PRETEND_NOTHING, 0, 0);
	assert_in_range(take(calls, 0), 2, 200);
	close(file);
}

static int lose_three_races(void)
{
	int file = memfd_of((off_t)(4 * pmd_size()));

	pretend(PRETEND_ERROR, EEXIST, 3);
	return map(NULL, 4 * pmd_size(), READ, MAP_SHARED, file, 0) == MAP_FAILED;
}

static void the_summary_counts_the_races_that_were_lost(void **state)
{
	char *const arguments[] = { (char *)"lose", NULL };
	int status;
	pid_t pid;

	(void)state;
	if (way == WAY_API)
		skip_because("the API prints no summary");
	fclose(run_again(arguments, &pid));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(summary_number(stats_path, "races lost, tried again"), 3);
	assert_int_equal(summary_number(stats_path, "fallbacks"), 0);
}

/* Room for one reservation and not for a larger one: it must do for every attempt. */
static int repeat_near_the_address_space_limit(void)
{
	const size_t length = 4 * pmd_size(), room = length + 2 * pmd_size();
	struct address_space *space =
		map_raw(NULL, sizeof(*space), WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int file = memfd_of((off_t)length);
	struct rlimit limit;
	char *mapping;

	read_address_space(space);
	getrlimit(RLIMIT_AS, &limit);
	limit.rlim_cur = space->pages * page_size() + room;
	if (setrlimit(RLIMIT_AS, &limit))
		return 99;
	pretend(PRETEND_ERROR, EEXIST, 12);
	mapping = map(NULL, length, READ, MAP_SHARED, file, 0);
	if (mapping == MAP_FAILED || !congruent(mapping, 0, pmd_size()))
		return 1;
	return take(NULL, 0) == 13 ? 0 : 2;
}

static void a_repeated_claim_needs_no_more_room_than_the_first(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	take(calls, COUNT(calls));
	pid = fork_child();
	if (pid == 0)
		_exit(repeat_near_the_address_space_limit());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_mapping_that_landed_elsewhere_is_returned_as_it_is(void **state)
{
	const enum pretence pretences[] = { PRETEND_ELSEWHERE, PRETEND_NO_NOREPLACE };
	int file = memfd_of((off_t)(4 * pmd_size()));

	(void)state;
	take(calls, COUNT(calls));
	for (size_t i = insists() ? 1 : 0; i < COUNT(pretences); i++) {
		char *spacer, *mapping;

		/* Such an address would be congruent, by accident, one time in 512. */
		spacer = map_raw(NULL, page_size(), READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		pretend(pretences[i], 0, 1);
		errno = EXDEV;
		mapping = map(NULL, 4 * pmd_size(), READ, MAP_SHARED, file, 0);
		assert_ptr_not_equal(mapping, MAP_FAILED);
		assert_int_equal(errno, EXDEV);
		assert_int_equal(take(calls, COUNT(calls)), 1);
		assert_ptr_equal(mapping, calls[0].result);
		assert_int_equal(munmap(mapping, 4 * pmd_size()), 0);
		assert_int_equal(munmap(spacer, page_size()), 0);
	}
	close(file);
}

/* It refuses flags that it does not know, MAP_FIXED_NOREPLACE among them. */
static void map_shared_validate_is_placed_by_hint(void **state)
{
	const struct row row = a_mapping_of(MAP_SHARED_VALIDATE);
	int file = memfd_of((off_t)row.length);
	char *mapping;
	unsigned int count;

	(void)state;
	take(calls, COUNT(calls));
	mapping = map(NULL, row.length, READ, MAP_SHARED_VALIDATE, file, 0);
	assert_ptr_not_equal(mapping, MAP_FAILED);
	assert_true(congruent(mapping, 0, pmd_size()));
	count = take(calls, COUNT(calls));
	assert_int_equal(count, insists() ? 2 : 1);
	assert_true(same_call(&calls[count - 1], &row, mapping, MAP_SHARED_VALIDATE, file));
	assert_int_equal(munmap(mapping, row.length), 0);
	close(file);
}

/* Its driver refuses every call with an address, this one's too. */
static void io_uring_is_mapped_as_ever(void **state)
{
	struct io_uring_params params = { 0 };
	const size_t length = 32768 * sizeof(struct io_uring_sqe);
	const struct row row = {
		.length = length,
		.offset = IORING_OFF_SQES,
		.prot = WRITE,
		.flags = MAP_SHARED | MAP_POPULATE,
	};
	char *entries;
	int ring;

	(void)state;
	take(calls, COUNT(calls));
	if (deserved(length, IORING_OFF_SQES, SIZE_MAX) == page_size())
		skip_because("no larger leaf fits into its entries here");
	ring = (int)syscall(SYS_io_uring_setup, 32768, &params);
	if (ring < 0)
		skip_because("no io_uring: %s", strerror(errno));
	errno = EXDEV;
	entries = map(NULL, length, row.prot, row.flags, ring, row.offset);
	assert_ptr_not_equal(entries, MAP_FAILED);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(take(calls, COUNT(calls)), 2);
	assert_non_null(calls[0].address);
	assert_ptr_equal(calls[0].result, MAP_FAILED);
	assert_true(same_call(&calls[1], &row, NULL, row.flags, ring));
	entries[length - 1] = 1;
	assert_int_equal(munmap(entries, length), 0);
	close(ring);
}

#define ROWS                                                                                    \
	cmocka_unit_test(what_holds_a_leaf_is_placed),                                          \
		cmocka_unit_test(what_holds_no_larger_leaf_is_left_alone),                      \
		cmocka_unit_test(flags_that_choose_the_address_leave_it_to_the_kernel),         \
		cmocka_unit_test(an_address_hint_is_left_alone_unless_placing_it_is_asked_for), \
		cmocka_unit_test(offsets_of_drm_objects_are_left_alone_by_the_preload),         \
		cmocka_unit_test(anonymous_memory_is_placed_by_the_api_and_when_asked_for)

#define CLAIMS                                                                                   \
	cmocka_unit_test(a_refused_claim_is_followed_by_the_call_as_it_was),                     \
		cmocka_unit_test(the_call_as_it_was_decides_after_a_refused_claim),              \
		cmocka_unit_test(a_fixed_claim_that_another_thread_was_faster_with_is_repeated), \
		cmocka_unit_test(a_mapping_that_landed_elsewhere_is_returned_as_it_is),          \
		cmocka_unit_test(map_shared_validate_is_placed_by_hint),                         \
		cmocka_unit_test(io_uring_is_mapped_as_ever)

int main(int argc, char **argv)
{
	const struct CMUnitTest what_is_placed[] = { ROWS };
	const struct CMUnitTest tests[] = { ROWS, CLAIMS };
	const struct CMUnitTest insisting[] = {
		ROWS,
		CLAIMS,
		cmocka_unit_test(a_repeated_claim_needs_no_more_room_than_the_first),
		cmocka_unit_test_setup_teardown(the_summary_counts_the_races_that_were_lost,
						make_stats, remove_stats),
	};

	choose_way(argc, argv);
	learn_arm();
	if (argc > 2 && strcmp(argv[2], "lose") == 0)
		return lose_three_races();
	if (arm & (API | PRELOAD) && insists())
		return cmocka_run_group_tests(insisting, NULL, NULL);
	if (arm & (API | PRELOAD))
		return cmocka_run_group_tests(tests, NULL, NULL);
	return cmocka_run_group_tests(what_is_placed, NULL, NULL);
}
