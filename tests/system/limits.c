// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Near the limits of a process and of the machine: each call is granted or refused as the system
 * call is, one by one, and leaves nothing behind; what others see of a reservation is counted.
 */
#include "system.h"

#include "leaves.h"
#include "place.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ PROT_READ
#define WRITE (PROT_READ | PROT_WRITE)

static struct address_space before, after;
static unsigned long calls, granted;
/* Whether the limit counts no reservation, so that it takes no placement away. */
static bool reservations_are_free;

static bool is_well_placed(const void *mapping, size_t length, int flags)
{
	const bool anonymous = flags & MAP_ANONYMOUS;

	/* The preload leaves smaller ones alone. */
	if (anonymous && way != WAY_API && length < 32 * M)
		return true;
	return congruent(mapping, 0, deserved(length, 0, anonymous ? pmd_size() : largest_leaf()));
}

static void report_calls(const char *limit)
{
	char tried[128], result[64];

	snprintf(tried, sizeof(tried), "%lu calls%s, of which the kernel grants %lu", calls,
		 getenv("ALIGNMAP_HINTS") ? ", half with a hint" : "", granted);
	snprintf(result, sizeof(result), "%lu as the system call", calls);
	report_limit(limit, tried, result);
}

/* One call by both ways: what either says, and whether all is as before. */
static int compare(const char *name, void *hint, size_t length, int prot, int flags, int fd)
{
	void *theirs, *ours;
	int their_errno, our_errno;

	read_address_space(&before);
	errno = EXDEV;
	theirs = map_raw(hint, length, prot, flags, fd, 0);
	their_errno = errno;
	if (theirs != MAP_FAILED)
		munmap(theirs, length);
	errno = EXDEV;
	ours = map(hint, length, prot, flags, fd, 0);
	our_errno = errno;
	if (ours != MAP_FAILED)
		munmap(ours, length);
	read_address_space(&after);
	calls++;
	granted += theirs != MAP_FAILED;
	if ((ours == MAP_FAILED) == (theirs == MAP_FAILED) && our_errno == their_errno &&
	    strcmp(before.vmas, after.vmas) == 0 && before.pages == after.pages &&
	    (!reservations_are_free || ours == MAP_FAILED || hint ||
	     is_well_placed(ours, length, flags)))
		return 0;
	fprintf(stderr, "# %s, length %#zx, hint %p: %p (%s), system call %p (%s)\n", name, length,
		hint, ours, strerror(our_errno), theirs, strerror(their_errno));
	return 1;
}

/* All kinds of memory, with a hint too where the preload is asked to place such. */
static int compare_kinds(size_t length, int fd)
{
	static const struct {
		const char *name;
		int prot, flags;
		bool of_file;
	} kinds[] = {
		{ "shared", READ, MAP_SHARED, true },
		{ "shared, writable", WRITE, MAP_SHARED, true },
		{ "validated", WRITE, MAP_SHARED_VALIDATE, true },
		{ "private", READ, MAP_PRIVATE, true },
		{ "private, writable", WRITE, MAP_PRIVATE, true },
		{ "reservation", PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, false },
		{ "anonymous", WRITE, MAP_PRIVATE | MAP_ANONYMOUS, false },
		{ "anonymous, not reserved", WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		  false },
		{ "anonymous, shared", WRITE, MAP_SHARED | MAP_ANONYMOUS, false },
	};
	char *const hints[] = { NULL, (char *)G + page_size() };
	const size_t hint_count = getenv("ALIGNMAP_HINTS") ? 2 : 1;
	int wrong = 0;

	for (size_t i = 0; i < COUNT(kinds); i++)
		for (size_t j = 0; j < hint_count; j++)
			wrong += compare(kinds[i].name, hints[j], length, kinds[i].prot,
					 kinds[i].flags, kinds[i].of_file ? fd : -1);
	return wrong;
}

/* Lengths from just below to just above what is left. */
static int compare_around(size_t left, int fd)
{
	const size_t page = page_size(), pmd = pmd_size();
	const size_t lengths[] = {
		page,	     pmd,  left - 3 * pmd, left - 2 * pmd, left - pmd - page, left - pmd,
		left - page, left, left + page,	   left + pmd,	   2 * left,
	};
	int wrong = 0;

	for (size_t i = 0; i < COUNT(lengths); i++)
		if (lengths[i] && lengths[i] <= 4 * left)
			wrong += compare_kinds(lengths[i], fd);
	return wrong;
}

/* What is left of a limit: a few PMDs, what ANON=all begins at, the largest leaf, and about them.
 */
static size_t lefts[9];

static int learn_lefts(void **state)
{
	const size_t page = page_size(), pmd = pmd_size(), leaf = largest_leaf();

	(void)state;
	lefts[0] = pmd;
	lefts[1] = pmd + page;
	lefts[2] = 3 * pmd - page;
	lefts[3] = 4 * pmd;
	lefts[4] = 32 * M + 2 * pmd - page;
	lefts[5] = 32 * M + 3 * pmd;
	lefts[6] = leaf + pmd;
	lefts[7] = 2 * leaf + pmd - page;
	lefts[8] = 3 * leaf;
	return 0;
}

/* There must be a limit, and not all beyond it. */
#define REQUIRE_SAME(wrong)                                  \
	do {                                                 \
		REQUIRE((wrong) == 0);                       \
		REQUIRE(granted > 0 && calls - granted > 0); \
	} while (0)

static int map_near_the_address_space_limit(void)
{
	const int file = memfd_of((off_t)(4 * largest_leaf()));
	int wrong = 0;

	for (size_t i = 0; i < COUNT(lefts); i++) {
		REQUIRE(limit_address_space(&before, lefts[i]) == 0);
		wrong += compare_around(lefts[i], file);
	}
	REQUIRE_SAME(wrong);
	report_calls("RLIMIT_AS, around the byte");
	return 0;
}

/* The smaller leaf is tried where the limit has room for its reservation alone. */
static int map_by_smaller_leaves(void)
{
	const size_t pmd = pmd_size(), length = 2 * largest_leaf();
	const int file = memfd_of((off_t)length);

	for (size_t more = 2 * pmd; more < 6 * pmd; more += page_size() + pmd / 4) {
		char *mapping;

		/* An odd page makes the next free address one that is no multiple of the PMD. */
		map_raw(NULL, page_size(), READ, MAP_SHARED, file, 0);
		REQUIRE(limit_address_space(&before, length + more) == 0);
		mapping = map(NULL, length, READ, MAP_SHARED, file, 0);
		REQUIRE(mapping != MAP_FAILED && congruent(mapping, 0, pmd));
		REQUIRE(munmap(mapping, length) == 0);
	}
	return 0;
}

/* What is tried last where there are @more bytes for a reservation and the mapping needs @length.
 */
static size_t tried_last(const struct mapping_call *call, const struct alignmap_leaves *leaves,
			 enum claim claim, size_t more, enum outcome *outcome)
{
	struct placement placement;
	char *mapping;

	if (limit_address_space(&before, call->length + more))
		return 0;
	mapping = alignmap_place(call, leaves, leaves->size[0], claim, false, &placement);
	if (mapping == MAP_FAILED || munmap(mapping, call->length))
		return 0;
	*outcome = placement.outcome;
	return placement.outcome != PLACED || congruent(mapping, 0, placement.alignment)
		       ? placement.alignment
		       : 0;
}

/* More leaf sizes than this machine may have: those of arm64. */
static int map_by_each_leaf_in_turn(void)
{
	const size_t page = page_size(), pmd = pmd_size();
	const struct alignmap_leaves leaves = { 5, { G, 32 * M, 2 * M, 16 * page, page } };
	const struct mapping_call call = { .length = G,
					   .prot = READ,
					   .flags = MAP_SHARED,
					   .fd = memfd_of((off_t)G),
					   .next = alignmap_next_mmap };
	enum outcome outcome = NOT_TRIED;

	for (enum claim claim = CLAIM_FIXED; claim <= CLAIM_HINT; claim++) {
		for (unsigned int i = 0; i < leaves.count - 1; i++) {
			const size_t size = leaves.size[i], room = size - page + pmd;
			const bool last = leaves.size[i + 1] == page;

			REQUIRE(tried_last(&call, &leaves, claim, room, &outcome) == size);
			REQUIRE(outcome == PLACED);
			REQUIRE(tried_last(&call, &leaves, claim, room - page, &outcome) ==
				(last ? size : leaves.size[i + 1]));
			REQUIRE(outcome == (last ? NO_WINDOW : PLACED));
		}
	}
	return 0;
}

static void each_leaf_size_is_tried_in_turn(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	if (way != WAY_API)
		skip_because("it is the archive that is asked");
	if (remembers())
		skip_because("a window that is remembered takes no reservation");
	assert_int_equal(end_of(map_by_each_leaf_in_turn), 0);
}

static void a_limit_that_leaves_no_room_for_a_reservation_refuses_no_mapping(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	assert_int_equal(end_of(map_near_the_address_space_limit), 0);
}

static void a_limit_with_room_for_a_smaller_leaf_gets_it(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	assert_int_equal(end_of(map_by_smaller_leaves), 0);
}

/* VmData, in bytes. */
static size_t data_size(void)
{
	char line[128];
	size_t kib = 0;
	FILE *status = fopen("/proc/self/status", "re");

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "VmData: %zu", &kib) == 1)
			break;
	if (status)
		fclose(status);
	return kib << 10;
}

static int map_near_the_limit_of_data(void)
{
	const int file = memfd_of((off_t)(4 * largest_leaf()));
	int wrong = 0;

	reservations_are_free = true;
	for (size_t i = 0; i < COUNT(lefts); i++) {
		struct rlimit limit;

		REQUIRE(getrlimit(RLIMIT_DATA, &limit) == 0);
		/* The second time: the first fopen() may allocate. */
		data_size();
		limit.rlim_cur = data_size() + lefts[i];
		REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
		wrong += compare_around(lefts[i], file);
	}
	REQUIRE_SAME(wrong);
	report_calls("RLIMIT_DATA, around the byte");
	return 0;
}

static void a_limit_of_data_is_where_it_was(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer has data of its own (RLIMIT_DATA)");
	assert_int_equal(end_of(map_near_the_limit_of_data), 0);
}

/* How it ends where the hard limit leaves nothing to try. */
#define TOO_LITTLE 77

static int map_near_the_limit_of_locked_memory(void)
{
	const int file = memfd_of((off_t)(4 * largest_leaf()));
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	int wrong = 0;

	/* As far as is allowed; but root itself may lock what it likes. */
	setrlimit(RLIMIT_MEMLOCK, &limit);
	if (geteuid() == 0)
		REQUIRE(setresuid(65534, 65534, 65534) == 0);
	REQUIRE(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	if (limit.rlim_max < lefts[0])
		return TOO_LITTLE;
	for (size_t i = 0; i < COUNT(lefts) && lefts[i] <= limit.rlim_max; i++) {
		/* Without it all is filled at once, which takes its time. */
		const int on_fault = lefts[i] > 2 * pmd_size() ? MCL_ONFAULT : 0;

		limit.rlim_cur = lefts[i];
		REQUIRE(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
		REQUIRE(mlockall(MCL_FUTURE | on_fault) == 0);
		wrong += compare_around(lefts[i], file);
		REQUIRE(munlockall() == 0);
	}
	REQUIRE_SAME(wrong);
	report_calls("RLIMIT_MEMLOCK with mlockall(MCL_FUTURE)");
	return 0;
}

static void a_limit_of_locked_memory_refuses_no_mapping_either(void **state)
{
	int status;

	(void)state;
	if (SANITIZED)
		skip_because("under a sanitizer mlockall() does nothing");
	status = end_of(map_near_the_limit_of_locked_memory);
	if (WIFEXITED(status) && WEXITSTATUS(status) == TOO_LITTLE)
		skip_because("the hard RLIMIT_MEMLOCK is less than a PMD");
	assert_int_equal(status, 0);
}

/* How many mappings can still be made, by either way; errno is what ended it. */
static int make_all(bool raw, int file)
{
	static char *made[64];
	const size_t length = 4 * pmd_size();
	int count = 0;
	int ended;

	while (count < (int)COUNT(made)) {
		char *mapping = raw ? map_raw(NULL, length, READ, MAP_SHARED, file, 0)
				    : map(NULL, length, READ, MAP_SHARED, file, 0);

		if (mapping == MAP_FAILED)
			break;
		made[count++] = mapping;
	}
	ended = errno;
	for (int i = 0; i < count; i++)
		munmap(made[i], length);
	errno = ended;
	return count;
}

static int map_near_the_map_count_limit(void)
{
	const size_t page = page_size(), many = (size_t)4 << 20;
	const int file = memfd_of((off_t)(4 * pmd_size()));
	char *pages = map_raw(NULL, many * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char tried[128], result[128];
	size_t split = 1;
	int theirs = 0, most;

	REQUIRE(pages != MAP_FAILED);
	while (split < many && mprotect(pages + split * page, page, READ) == 0)
		split += 2;
	REQUIRE(errno == ENOMEM);
	for (int room = 0; room < 8; room++) {
		int ours;

		theirs = make_all(true, file);
		REQUIRE(errno == ENOMEM);
		ours = make_all(false, file);
		REQUIRE(errno == ENOMEM);
		if (ours != theirs) {
			fprintf(stderr, "# %d mappings, but by the system call %d\n", ours, theirs);
			return 1;
		}
		calls += (unsigned long)ours + 1;
		REQUIRE(theirs >= room);
		/* Merges three into one. */
		split -= 2;
		REQUIRE(mprotect(pages + split * page, page, PROT_NONE) == 0);
	}
	most = theirs;
	snprintf(tried, sizeof(tried), "mappings until one is refused, %lu calls, up to %d granted",
		 calls, most);
	snprintf(result, sizeof(result), "%lu as the system call", calls);
	report_limit("vm.max_map_count reached", tried, result);
	return 0;
}

static void the_map_count_limit_is_where_it_was(void **state)
{
	(void)state;
	need_map_count_in_reach();
	assert_int_equal(end_of(map_near_the_map_count_limit), 0);
}

/* A second thread, which waits to be started and maps until it is stopped. */
static struct {
	bool ours;
	int file;
	size_t length;
	pthread_barrier_t start;
	atomic_bool stop;
	atomic_ulong made, refused;
} other;

static void *map_besides(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&other.start);
	while (!other.stop) {
		void *mapping =
			other.ours ? map(NULL, other.length, READ, MAP_SHARED, other.file, 0)
				   : map_raw(NULL, other.length, READ, MAP_SHARED, other.file, 0);

		if (mapping != MAP_FAILED)
			munmap(mapping, other.length);
		else if (errno != ENOMEM)
			abort();
		other.made++;
		other.refused += mapping == MAP_FAILED;
	}
	return NULL;
}

static pthread_t start_other(bool ours, int file, size_t length)
{
	pthread_t thread;

	other.ours = ours;
	other.file = file;
	other.length = length;
	other.stop = false;
	other.made = other.refused = 0;
	if (pthread_barrier_init(&other.start, NULL, 2) ||
	    pthread_create(&thread, NULL, map_besides, NULL))
		abort();
	return thread;
}

/* What is different each time is told, and so tried often, in the usual setting. */
static unsigned long often(unsigned long times)
{
	return getenv("SETTING") ? times / 20 : times;
}

static void report_instant(const char *limit, const char *tried, const char *result)
{
	char how[128];

	snprintf(how, sizeof(how), "%s, by a %s%s", tried, insists() ? "fixed claim" : "hint",
		 remembers() ? ", its window remembered" : "");
	if (!getenv("SETTING"))
		report_limit(limit, how, result);
}

/* There is room for this thread's mapping and the other's, and for not a byte more. */
static int map_beside_another_thread(bool raw)
{
	const size_t length = 4 * pmd_size();
	const int file = memfd_of((off_t)length);
	pthread_t thread = start_other(false, file, length);
	struct rlimit limit;

	REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
	REQUIRE(limit_address_space(&before, 2 * length) == 0);
	pthread_barrier_wait(&other.start);
	for (unsigned long i = 0; i < often(20000) || other.made < 100; i++) {
		void *mapping = raw ? map_raw(NULL, length, READ, MAP_SHARED, file, 0)
				    : map(NULL, length, READ, MAP_SHARED, file, 0);

		REQUIRE(mapping != MAP_FAILED);
		REQUIRE(munmap(mapping, length) == 0);
	}
	other.stop = true;
	REQUIRE(pthread_join(thread, NULL) == 0);
	REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
	return 0;
}

static int count_refusals(void)
{
	const bool must_happen = !remembers() && !getenv("SETTING");
	char result[128];
	unsigned long made;

	/* Without us none is, or the limit would say nothing of us. */
	REQUIRE(map_beside_another_thread(true) == 0);
	REQUIRE(other.refused == 0);
	made = other.made;
	/* On a busy machine the two seldom meet: then more often. */
	for (int tries = 0; tries == 0 || (tries < 10 && must_happen && other.refused == 0);
	     tries++)
		REQUIRE(map_beside_another_thread(false) == 0);
	REQUIRE(other.refused > 0 || !must_happen);
	snprintf(result, sizeof(result), "%lu of %lu refused (ENOMEM), 0 of %lu beside mmap",
		 other.refused, other.made, made);
	report_instant("RLIMIT_AS with room for just two mappings of 8 MiB",
		       "another thread maps by mmap while this one maps", result);
	return 0;
}

static void a_thread_beside_a_reservation_is_refused_now_and_then_we_never(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	if (pmd_size() != 2 * M)
		skip_because("for a PMD of 2 MiB");
	assert_int_equal(end_of(count_refusals), 0);
}

/* In a fork: with what more it was born than nothing, a mapping or a reservation. */
static int inherited(unsigned long base, unsigned long mapping, unsigned long reservation)
{
	read_address_space(&after);
	if (after.pages == base || after.pages == base + mapping)
		return 0;
	if (after.pages == base + reservation)
		return 1;
	fprintf(stderr, "# a fork has %lu pages more\n", after.pages - base);
	return 2;
}

static int count_inheritances(void)
{
	const size_t page = page_size(), length = 4 * pmd_size();
	const size_t reservation = length + pmd_size() - page + pmd_size();
	const int file = memfd_of((off_t)length);
	const unsigned long forks = often(300);
	unsigned long ends[2] = { 0 };
	pthread_t thread = start_other(true, file, length);
	char result[128];

	/* A fork() may have something to set up. */
	for (unsigned long i = 0; i < forks; i++) {
		int status;
		pid_t pid;

		if (i == 1) {
			read_address_space(&before);
			pthread_barrier_wait(&other.start);
		}
		pid = fork();
		REQUIRE(pid >= 0);
		if (pid == 0)
			_exit(i ? inherited(before.pages, length / page, reservation / page) : 0);
		REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
		REQUIRE(WEXITSTATUS(status) < 2);
		ends[WEXITSTATUS(status)]++;
	}
	other.stop = true;
	REQUIRE(pthread_join(thread, NULL) == 0);
	REQUIRE(other.refused == 0);
	/* Where the other's window is remembered, it reserves once. */
	if (remembers())
		REQUIRE(ends[1] <= forks / 10);
	else
		REQUIRE(ends[1] > 0 || getenv("SETTING"));
	snprintf(result, sizeof(result), "%lu of %lu keep PROT_NONE, each %zu bytes", ends[1],
		 forks, reservation);
	report_instant("a fork in the instant of a reservation",
		       "forks while another thread maps 8 MiB over and over", result);
	return 0;
}

static void a_fork_in_the_instant_of_a_reservation_keeps_just_that(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer maps for itself (VmSize)");
	if (pmd_size() != 2 * M)
		skip_because("for a PMD of 2 MiB");
	assert_int_equal(end_of(count_inheritances), 0);
}

static bool commits_strictly(void)
{
	FILE *setting = fopen("/proc/sys/vm/overcommit_memory", "re");
	int mode = 0;

	assert_non_null(setting);
	assert_int_equal(fscanf(setting, "%d", &mode), 1);
	fclose(setting);
	return mode == 2;
}

static bool can_commit(size_t length)
{
	void *memory = map_raw(NULL, length, WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory != MAP_FAILED && munmap(memory, length) == 0;
}

/* How much memory the kernel still promises, to the page. */
static size_t left_to_commit(void)
{
	size_t left = 0;

	for (size_t step = 64 * G; step >= page_size(); step /= 2)
		if (can_commit(left + step))
			left += step;
	return left;
}

static int map_near_the_commit_limit(void)
{
	const int file = memfd_of((off_t)(4 * largest_leaf()));
	const size_t pmd = pmd_size();
	int wrong = 0;

	/* Whoever reads our output is root, and keeps vm.admin_reserve_kbytes. */
	if (geteuid() == 0)
		REQUIRE(setresuid(65534, 65534, 65534) == 0);
	reservations_are_free = true;
	for (size_t i = 0; i < COUNT(lefts); i++) {
		size_t left = left_to_commit() / pmd * pmd;
		char *taken = MAP_FAILED;

		/* All but so much is promised to us before. */
		if (left > lefts[i]) {
			taken = map_raw(NULL, left - lefts[i], WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
					-1, 0);
			REQUIRE(taken != MAP_FAILED);
		}
		wrong += compare_around(left_to_commit(), file);
		if (taken != MAP_FAILED)
			REQUIRE(munmap(taken, left - lefts[i]) == 0);
	}
	REQUIRE_SAME(wrong);
	report_calls("what the kernel promises, around the page");
	return 0;
}

static void what_is_promised_strictly_is_promised_alike(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer needs more memory than is promised");
	if (!commits_strictly())
		skip_because("vm.overcommit_memory is not 2; the lab sets it");
	assert_int_equal(end_of(map_near_the_commit_limit), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_limit_that_leaves_no_room_for_a_reservation_refuses_no_mapping),
		cmocka_unit_test(a_limit_with_room_for_a_smaller_leaf_gets_it),
		cmocka_unit_test(each_leaf_size_is_tried_in_turn),
		cmocka_unit_test(a_limit_of_data_is_where_it_was),
		cmocka_unit_test(a_limit_of_locked_memory_refuses_no_mapping_either),
		cmocka_unit_test(the_map_count_limit_is_where_it_was),
		cmocka_unit_test(a_thread_beside_a_reservation_is_refused_now_and_then_we_never),
		cmocka_unit_test(a_fork_in_the_instant_of_a_reservation_keeps_just_that),
		cmocka_unit_test(what_is_promised_strictly_is_promised_alike),
	};

	choose_way(argc, argv);
	/* Where the machine is set for one of them. */
	if (getenv("ONLY"))
		cmocka_set_test_filter(getenv("ONLY"));
	return cmocka_run_group_tests(tests, learn_lefts, NULL);
}
