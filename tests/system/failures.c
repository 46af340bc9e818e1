// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Each system call that the library makes for a mapping fails in turn, with each errno: the caller
 * gets a mapping, or what the call that it made has failed with; and what the process had before it
 * has afterwards. (tests/system/window-races.c and regions.c do so for windows and regions.)
 */
#include "watch.h"
#include "windows.h"

#include <dirent.h>
#include <stdatomic.h>

/* Which calls fail. */
enum failing {
	THE_NTH,
	FROM_THE_NTH_ON,
	EACH_CLAIM,	  /* an mmap of something that names an address */
	EACH_RESERVATION, /* an mmap of nothing, without access */
	EACH_MUNMAP,
	EACH_OTHER, /* fstat, madvise and write */
};

static struct {
	atomic_bool armed;
	enum failing failing;
	unsigned int nth;
	int error;
	/* What it saw. */
	unsigned int calls, failed, reservations;
	struct seccomp_data last_mmap;
	bool last_mmap_failed;
} watch;

/* The calls that are watched, the most, and how often each has failed. */
static const int numbers[] = { SYS_mmap,  SYS_munmap, SYS_munlock,   SYS_madvise,
			       SYS_write, SYS_fstat,  SYS_newfstatat };
static const char *const names[] = { "mmap",  "munmap", "munlock",   "madvise",
				     "write", "fstat",	"newfstatat" };
static unsigned long failures[COUNT(numbers)];

static bool is_to_fail(const struct seccomp_data *call, unsigned int number)
{
	switch (watch.failing) {
	case THE_NTH:
		return number == watch.nth;
	case FROM_THE_NTH_ON:
		return number >= watch.nth;
	case EACH_CLAIM:
		return call->nr == SYS_mmap && call->args[0] && call->args[2] != PROT_NONE;
	case EACH_RESERVATION:
		return call->nr == SYS_mmap && call->args[2] == PROT_NONE;
	case EACH_MUNMAP:
		return call->nr == SYS_munmap;
	case EACH_OTHER:
		return call->nr != SYS_mmap && call->nr != SYS_munmap;
	}
	return false;
}

static struct verdict decide(const struct seccomp_data *call)
{
	bool fails;

	if (!watch.armed)
		return (struct verdict){ 0 };
	fails = is_to_fail(call, ++watch.calls);
	if (call->nr == SYS_mmap) {
		watch.last_mmap = *call;
		watch.last_mmap_failed = fails;
		watch.reservations += call->args[2] == PROT_NONE;
	}
	watch.failed += fails;
	for (size_t i = 0; i < COUNT(numbers); i++)
		failures[i] += fails && numbers[i] == call->nr;
	return (struct verdict){ fails ? watch.error : 0, NULL };
}

static void arm(enum failing failing, unsigned int nth, int error)
{
	watch.failing = failing;
	watch.nth = nth;
	watch.error = error;
	watch.calls = 0;
	watch.failed = 0;
	watch.reservations = 0;
	watch.last_mmap_failed = false;
	watch.armed = true;
}

/* The calls that are tried. What the driver refuses fails with EINVAL by itself. */
enum descriptor { NO_DESCRIPTOR, FILE_OF_MEMORY, DEVICE, REFUSING };

static struct call {
	const char *name;
	size_t length;
	int prot;
	int flags;
	enum descriptor of;
	bool hint;
} kinds[8];

static int descriptors[] = { -1, -1, -1, -1 };

static void make_kinds(void)
{
	const size_t pmd = pmd_size(), leaf = largest_leaf();
	const int write = PROT_READ | PROT_WRITE;
	const struct call made[] = {
		{ "private", 4 * pmd, PROT_READ, MAP_PRIVATE, FILE_OF_MEMORY, false },
		{ "of two leaf sizes", 2 * leaf, write, MAP_SHARED, FILE_OF_MEMORY, false },
		{ "validated", 4 * pmd, write, MAP_SHARED_VALIDATE, FILE_OF_MEMORY, false },
		{ "device", 4 * pmd, write, MAP_SHARED, DEVICE, false },
		{ "refused", 4 * pmd, PROT_READ, MAP_PRIVATE, REFUSING, false },
		{ "anonymous", 64 * M, write, MAP_PRIVATE | MAP_ANONYMOUS, NO_DESCRIPTOR, false },
		{ "small", page_size(), write, MAP_SHARED, FILE_OF_MEMORY, false },
		{ "with a hint", 4 * pmd, write, MAP_SHARED, FILE_OF_MEMORY, true },
	};

	_Static_assert(sizeof(made) == sizeof(kinds), "as many");
	memcpy(kinds, made, sizeof(made));
	descriptors[FILE_OF_MEMORY] = memfd_of((off_t)(2 * leaf));
	descriptors[DEVICE] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	descriptors[REFUSING] = perf_event();
	if (descriptors[DEVICE] < 0 || descriptors[REFUSING] < 0)
		_exit(SKIPPED);
}

static unsigned int count_descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned int count = 0;

	assert_non_null(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static struct address_space before, after;

/* The last call was the program's own, and what it failed with is what the program gets. */
static void check_failure(const struct call *call, void *address, int fd, int error)
{
	const struct seccomp_data *last = &watch.last_mmap;

	assert_int_equal(last->args[0], (uintptr_t)address);
	assert_int_equal(last->args[1], call->length);
	assert_int_equal((int)last->args[2], call->prot);
	assert_int_equal((int)last->args[3], call->flags);
	assert_int_equal((int)last->args[4], fd);
	if (watch.last_mmap_failed) {
		assert_int_equal(error, watch.error);
	} else {
		assert_int_equal(call->of, REFUSING);
		assert_int_equal(error, EINVAL);
	}
}

/* Returns whether any call was there to fail. */
static bool try(const struct call *call, enum failing failing, unsigned int nth, int error)
{
	const int fd = descriptors[call->of];
	const unsigned int open_before = count_descriptors();
	/* A page behind a leaf, where nothing lies. */
	void *address = call->hint ? (void *)(16 * G + page_size()) : NULL;
	void *mapping;
	int result;

	read_address_space(&before);
	errno = EXDEV;
	arm(failing, nth, error);
	mapping = map(address, call->length, call->prot, call->flags, fd, 0);
	watch.armed = false;
	result = errno;
	if (mapping == MAP_FAILED) {
		check_failure(call, address, fd, result);
	} else {
		assert_int_equal(result, EXDEV);
		assert_int_not_equal(call->of, REFUSING);
		if (call->of == FILE_OF_MEMORY)
			assert_true(
				is_mapped(mapping, call->length, call->prot, call->flags, fd, 0));
		*(volatile char *)mapping;
		assert_int_equal(munmap(mapping, call->length), 0);
	}
	read_address_space(&after);
	if (failing != EACH_MUNMAP) {
		assert_string_equal(before.vmas, after.vmas);
		assert_int_equal(before.pages, after.pages);
	}
	assert_int_equal(count_descriptors(), open_before);
	return watch.failed > 0;
}

static void begin(void)
{
	/* Where fstat fails once there is no log any more. */
	const size_t count = COUNT(numbers) - (getenv("ALIGNMAP_LOG") ? 2 : 0);

	/* Looked up, and the heap grown, before anything is watched. */
	make_kinds();
	count_descriptors();
	if (!be_watched(numbers, count, decide))
		_exit(SKIPPED);
}

/* Those calls alone that were made, and so failed: which is as the kernel and its policy are. */
static void say_row(const char *what, const char *result)
{
	unsigned long all = 0;
	char failed[64] = "";

	for (size_t i = 0; i < COUNT(numbers); i++) {
		all += failures[i];
		if (failures[i])
			snprintf(failed + strlen(failed), sizeof(failed) - strlen(failed), "%s%s",
				 *failed ? ", " : "", names[i]);
	}
	print_message("# trust failures|%s|%lu, by %d errnos|%s|%s\n", what, all, MMAP_ERRORS,
		      failed, result);
}

static void say(void)
{
	static const char *const variables[] = { "ALIGNMAP_CLAIM", "ALIGNMAP_HINTS",
						 "ALIGNMAP_LOG" };
	char by[256] = "one mapping: the API";

	if (way != WAY_API)
		strcpy(by, "one mapping: the preload");
	for (size_t i = 0; way != WAY_API && i < COUNT(variables); i++)
		if (getenv(variables[i]))
			snprintf(by + strlen(by), sizeof(by) - strlen(by), ", %s=%s", variables[i],
				 getenv(variables[i]));
	say_row(by, "a mapping or the call's own errno; mappings, VmSize and descriptors as "
		    "before");
}

static void fail_each_in_turn(void)
{
	begin();
	for (size_t kind = 0; kind < COUNT(kinds); kind++) {
		for (size_t i = 0; i < MMAP_ERRORS; i++) {
			unsigned int nth = 0;

			while (try(&kinds[kind], THE_NTH, ++nth, mmap_errors[i]))
				;
			/* The one that the program makes, at least. */
			assert_true(nth > 1);
			/* From the first munmap on is another test's. */
			try(&kinds[kind], FROM_THE_NTH_ON, 1, mmap_errors[i]);
			try(&kinds[kind], EACH_CLAIM, 0, mmap_errors[i]);
			try(&kinds[kind], EACH_RESERVATION, 0, mmap_errors[i]);
			try(&kinds[kind], EACH_OTHER, 0, mmap_errors[i]);
		}
	}
	say();
}

static void whatever_call_fails_the_caller_gets_a_mapping_or_his_own_errno(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer makes such calls for itself");
	if (in_a_child(fail_each_in_turn) == SKIPPED)
		skip_because("seccomp's user notification or perf_event_open is not permitted");
}

/* One reservation stays while nobody can take it away, and no other comes to it. */
static void refuse_munmap(int error)
{
	const struct call *call = &kinds[0];
	static struct address_space at_first;
	unsigned long more;

	assert_true(try(call, EACH_MUNMAP, 0, error));
	assert_int_equal(watch.reservations, 1);
	at_first = before;
	more = after.pages - before.pages;
	assert_true(more * page_size() >= call->length && more * page_size() < 8 * pmd_size());
	for (size_t kind = 0; kind < COUNT(kinds); kind++) {
		try(&kinds[kind], EACH_MUNMAP, 0, error);
		assert_int_equal(watch.reservations, 0);
		assert_string_equal(before.vmas, after.vmas);
	}
	/* Then again it can be. */
	arm(EACH_OTHER, 0, 0);
	assert_int_equal(
		munmap(map(NULL, call->length, call->prot, call->flags, descriptors[call->of], 0),
		       call->length),
		0);
	watch.armed = false;
	assert_int_equal(watch.reservations, 1);
	read_address_space(&after);
	assert_string_equal(at_first.vmas, after.vmas);
	assert_int_equal(at_first.pages, after.pages);
}

static int refused_error;

static void refuse_every_munmap(void)
{
	begin();
	refuse_munmap(refused_error);
}

static void where_munmap_always_fails_one_reservation_stays_until_it_does_not(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer makes such calls for itself");
	for (size_t i = 0; i < MMAP_ERRORS; i++) {
		refused_error = mmap_errors[i];
		if (in_a_child(refuse_every_munmap) == SKIPPED)
			skip_because("seccomp's user notification is not permitted");
	}
}

static void reserve_a_window(void)
{
	const size_t length = 3 * largest_leaf();

	free(malloc(1 << 16));
	release(reserve(page_size(), length, NULL));
	if (!be_watched(numbers, COUNT(numbers), decide))
		_exit(SKIPPED);
	for (size_t i = 0; i < MMAP_ERRORS; i++) {
		struct alignmap_window *window;
		unsigned int nth = 0;

		do {
			read_address_space(&before);
			errno = EXDEV;
			arm(THE_NTH, ++nth, mmap_errors[i]);
			window = alignmap_window_reserve(page_size(), length, NULL);
			watch.armed = false;
			/* A smaller leaf size, at least. */
			assert_non_null(window);
			assert_int_equal(errno, EXDEV);
			assert_int_equal(take_census(window, page_size(), length).reserved, length);
			release(window);
			read_address_space(&after);
			assert_string_equal(before.vmas, after.vmas);
			assert_int_equal(before.pages, after.pages);
		} while (watch.failed);
		assert_true(nth > 3);

		/* What cannot be trimmed is held with the rest. */
		read_address_space(&before);
		arm(EACH_MUNMAP, 0, mmap_errors[i]);
		window = alignmap_window_reserve(page_size(), length, NULL);
		watch.armed = false;
		assert_int_equal(watch.failed, 4);
		assert_int_equal(take_census(window, page_size(), length).reserved, length);
		release(window);
		read_address_space(&after);
		assert_string_equal(before.vmas, after.vmas);

		read_address_space(&before);
		arm(FROM_THE_NTH_ON, 1, mmap_errors[i]);
		assert_null(alignmap_window_reserve(page_size(), length, NULL));
		watch.armed = false;
		assert_int_equal(errno, mmap_errors[i]);
		read_address_space(&after);
		assert_string_equal(before.vmas, after.vmas);
	}
	say_row("a window, reserved",
		"the window or the reservation's errno; mappings and VmSize as before");
}

static void whatever_call_fails_a_window_is_reserved_whole_or_not_at_all(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer makes such calls for itself");
	if (in_a_child(reserve_a_window) == SKIPPED)
		skip_because("seccomp's user notification is not permitted");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_call_fails_the_caller_gets_a_mapping_or_his_own_errno),
		cmocka_unit_test(where_munmap_always_fails_one_reservation_stays_until_it_does_not),
	};
	const struct CMUnitTest api_tests[] = {
		tests[0],
		tests[1],
		cmocka_unit_test(whatever_call_fails_a_window_is_reserved_whole_or_not_at_all),
	};

	choose_way(argc, argv);
	if (way == WAY_API)
		return cmocka_run_group_tests(api_tests, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
