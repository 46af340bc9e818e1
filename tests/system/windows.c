// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Windows: what the library says of one is held against the kernel's own list of what is mapped,
 * through all that can go wrong. window-races.c has the calls that fail by choice, and the threads.
 */
#include "recorder.h"
#include "windows.h"

#include <dlfcn.h>
#include <limits.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/vfs.h>

#include <linux/memfd.h>

#define READ PROT_READ
#define WRITE (PROT_READ | PROT_WRITE)

static struct address_space before, during, after;

/* A page that is somebody else's; NULL if it is that already. */
static char *fence(char *address)
{
	char *page = map_raw(address, page_size(), WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (page == MAP_FAILED) {
		assert_int_equal(errno, EEXIST);
		return NULL;
	}
	/* valgrind and qemu-user take it for a hint. */
	if (page != address) {
		munmap(page, page_size());
		return NULL;
	}
	memset(page, 0x5a, page_size());
	return page;
}

static void take_fence_away(char *page)
{
	for (size_t i = 0; i < page_size(); i++)
		assert_int_equal(page[i], 0x5a);
	assert_int_equal(munmap(page, page_size()), 0);
}

/* A window right between two pages of somebody else's. */
static struct alignmap_window *reserve_fenced(uint64_t offset, size_t length, char **fences)
{
	const size_t page = page_size();
	struct alignmap_window *windows[16];
	char *spacers[16];
	size_t last = 0;

	for (;; last++) {
		char *address;

		assert_true(last < COUNT(windows));
		/* The kernel's next choice lies below, if there is room in the same hole. */
		spacers[last] =
			map_raw(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		windows[last] = reserve(offset, length, NULL);
		munmap(spacers[last], length);
		address = address_in(windows[last], offset);
		fences[0] = fence(address - page);
		fences[1] = fence(address + length);
		if (fences[0] && fences[1])
			break;
		/* The next must look elsewhere. */
		for (int i = 0; i < 2; i++)
			if (fences[i])
				take_fence_away(fences[i]);
		map_raw(spacers[last], length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			-1, 0);
	}
	for (size_t i = 0; i < last; i++) {
		munmap(spacers[i], length);
		release(windows[i]);
	}
	return windows[last];
}

static struct alignmap_window_options options_of(size_t max_alignment, uint64_t flags)
{
	return (struct alignmap_window_options){
		sizeof(struct alignmap_window_options),
		max_alignment,
		flags,
	};
}

/* What is taken from the heap the first time must not show in a comparison. */
static int warm_up(void **state)
{
	const size_t page = page_size();
	int file = memfd_of((off_t)page);

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct alignmap_window *window = alignmap_window_reserve(0, page, NULL);

		if (!window ||
		    alignmap_window_map(window, page, READ, MAP_SHARED, file, 0) == MAP_FAILED)
			return -1;
		alignmap_window_release(window);
	}
	return close(file);
}

static void a_window_is_congruent_and_exactly_its_length_is_held(void **state)
{
	const size_t page = page_size(), pmd = pmd_size(), leaf = largest_leaf();
	const uint64_t region = (uint64_t)1 << 40;
	const uint64_t offsets[] = {
		0,	     page,	 pmd - page,	    pmd,
		pmd + page,  leaf - pmd, leaf - page,	    leaf,
		leaf + page, region,	 5 * region + page, ((uint64_t)1 << 62) + page,
	};
	const size_t lengths[] = {
		page,		pmd - page,  pmd,  pmd + page, 2 * pmd - page,	2 * pmd,
		5 * pmd + page, leaf - page, leaf, leaf + pmd, 2 * leaf - page, 2 * leaf,
	};
	const size_t most[] = { 0, page, pmd, leaf, SIZE_MAX / 4 + 1 };

	(void)state;
	for (size_t i = 0; i < COUNT(offsets) * COUNT(lengths) * COUNT(most) * 2; i++) {
		const uint64_t offset = offsets[i / 2 % COUNT(offsets)];
		const size_t length = lengths[i / 2 / COUNT(offsets) % COUNT(lengths)];
		const size_t max = most[i / 2 / COUNT(offsets) / COUNT(lengths)];
		struct alignmap_window_options options = options_of(max, i % 2);
		struct alignmap_window *window;
		struct census census;

		read_address_space(&before);
		window = reserve(offset, length, i % 2 || max ? &options : NULL);
		read_address_space(&during);
		assert_true(congruent(address_in(window, offset), offset,
				      deserved(length, offset, max ? max : SIZE_MAX)));
		census = take_census(window, offset, length);
		assert_int_equal(census.reserved, length);
		assert_int_equal(census.extents, 1);
		if (!SANITIZED)
			assert_int_equal(during.pages, before.pages + length / page);
		release(window);
		read_address_space(&after);
		assert_same_address_space(&before, &after);
	}
}

/* The options lie at the end of what can be read: no byte behind them may be looked at. */
static void options_that_are_not_as_described_are_refused(void **state)
{
	const size_t page = page_size(), known = sizeof(struct alignmap_window_options);
	char *pages = map_raw(NULL, 2 * page, WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct {
		size_t size;
		size_t max_alignment;
		uint64_t flags;
		size_t tail; /* where the one byte is that is not zero */
		int error;
	} rows[] = {
		{ known, 0, 0, 0, 0 },
		{ known, page, ALIGNMAP_STRICT, 0, 0 },
		{ known, largest_leaf(), 0, 0, 0 },
		{ known, SIZE_MAX / 2 + 1, 0, 0, 0 },
		{ 0, 0, 0, 0, EINVAL },
		{ 8, 0, 0, 0, EINVAL },
		{ known - 1, 0, 0, 0, EINVAL },
		{ known + 1, 0, 0, 0, 0 },
		{ known + 64, 0, 0, 0, 0 },
		{ known + 1, 0, 0, known, E2BIG },
		{ known + 64, 0, 0, known, E2BIG },
		{ known + 64, 0, 0, known + 63, E2BIG },
		{ known, page / 2, 0, 0, EINVAL },
		{ known, 1, 0, 0, EINVAL },
		{ known, page + 1, 0, 0, EINVAL },
		{ known, 3 * page, 0, 0, EINVAL },
		{ known, SIZE_MAX, 0, 0, EINVAL },
		{ known, 0, 2, 0, EINVAL },
		{ known, 0, ALIGNMAP_STRICT | (uint64_t)1 << 63, 0, EINVAL },
	};

	(void)state;
	assert_ptr_not_equal(pages, MAP_FAILED);
	assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
	for (size_t i = 0; i < COUNT(rows); i++) {
		const size_t size = rows[i].size < sizeof(size_t) ? sizeof(size_t) : rows[i].size;
		char *options = pages + page - size;
		const struct alignmap_window_options full = { rows[i].size, rows[i].max_alignment,
							      rows[i].flags };
		struct alignmap_window *window;

		memset(pages, 0, page);
		memcpy(options, &full, size < known ? size : known);
		if (rows[i].tail)
			options[rows[i].tail] = 1;
		read_address_space(&before);
		errno = EXDEV;
		window = alignmap_window_reserve(0, 4 * page, (const void *)options);
		if (!window != !!rows[i].error || errno != (window ? EXDEV : rows[i].error))
			fail_msg("row %zu: %s", i, strerror(errno));
		release(window);
		read_address_space(&after);
		assert_same_address_space(&before, &after);
	}
	munmap(pages, 2 * page);
}

static void ranges_that_are_none_are_not_reserved(void **state)
{
	const uint64_t page = page_size(), pmd = pmd_size();
	const struct {
		uint64_t offset;
		size_t length;
		int error;
	} rows[] = {
		{ 0, 0, EINVAL },
		{ page, 0, EINVAL },
		{ 1, page, EINVAL },
		{ pmd - 1, 2 * pmd, EINVAL },
		{ page / 2, page, EINVAL },
		{ 0, 1, EINVAL },
		{ 0, page - 1, EINVAL },
		{ 0, page + 1, EINVAL },
		{ page, pmd + 8, EINVAL },
		{ -page, page, EOVERFLOW },
		{ -page, 2 * page, EOVERFLOW },
		{ -pmd, 2 * pmd, EOVERFLOW },
		{ page, -page, SIZE_MAX < UINT64_MAX ? ENOMEM : EOVERFLOW },
		{ -(uint64_t)(SIZE_MAX / 2 + 1), SIZE_MAX / 2 + 1, EOVERFLOW },
		{ 0, -page, ENOMEM },
		{ 0, -(SIZE_MAX / 8 + 1), ENOMEM },
		{ 0, -pmd, ENOMEM },
		{ pmd, -2 * pmd, ENOMEM },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		read_address_space(&before);
		errno = 0;
		assert_null(alignmap_window_reserve(rows[i].offset, rows[i].length, NULL));
		if (errno != rows[i].error)
			fail_msg("row %zu: %s", i, strerror(errno));
		read_address_space(&after);
		assert_same_address_space(&before, &after);
	}
}

static void a_window_may_end_where_offsets_end(void **state)
{
	const size_t page = page_size(), pmd = pmd_size(), length = 2 * pmd;
	const uint64_t offset = -(uint64_t)page - length;
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	struct alignmap_window *window = reserve(offset, length, NULL);
	const off_t last = (off_t)(offset + length - page);
	struct alignmap_extent extent;
	struct census census;
	char *piece;

	(void)state;
	assert_true(congruent(address_in(window, offset), offset, pmd));
	take_census(window, offset, length);
	extent = extent_at(window, -(uint64_t)page - 1);
	assert_int_equal(extent.length, length);
	assert_int_equal(alignmap_window_query(window, -(uint64_t)page, &extent), -1);
	assert_int_equal(alignmap_window_query(window, UINT64_MAX, &extent), -1);
	assert_int_equal(alignmap_window_query(window, 0, &extent), -1);

	/* A device that has every offset. */
	piece = put(window, page, WRITE, MAP_PRIVATE, zero, last);
	*(volatile char *)piece = 1;
	piece = put(window, page, READ, MAP_PRIVATE, zero, (off_t)offset);
	assert_int_equal(*(volatile char *)piece, 0);
	census = take_census(window, offset, length);
	assert_int_equal(census.mapped, 2 * page);
	assert_int_equal(census.extents, 3);
	errno = 0;
	assert_ptr_equal(alignmap_window_map(window, 2 * page, READ, MAP_PRIVATE, zero, last),
			 MAP_FAILED);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(alignmap_window_unmap(window, (uint64_t)last, 2 * page), -1);
	assert_int_equal(errno, EINVAL);
	take_out(window, offset, length);
	assert_int_equal(take_census(window, offset, length).reserved, length);
	release(window);
	close(zero);
}

static void limit_from_here(size_t more)
{
	assert_int_equal(limit_address_space(&before, more), 0);
}

/* An offset with which the kernel's own choice of an address is congruent by no luck. */
static uint64_t offset_unlike_the_kernels(size_t length)
{
	char *chosen = map_raw(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (chosen == MAP_FAILED)
		return 0;
	munmap(chosen, length);
	return ((uintptr_t)chosen + page_size()) % largest_leaf();
}

/* Whether a window is granted, which then is congruent modulo @wanted. */
static bool reserves(size_t length, size_t max_alignment, uint64_t flags, size_t wanted)
{
	const uint64_t offset = offset_unlike_the_kernels(length);
	const struct alignmap_window_options options = options_of(max_alignment, flags);
	struct alignmap_window *window;

	errno = EXDEV;
	window = alignmap_window_reserve(offset, length, &options);
	assert_int_equal(errno, window ? EXDEV : ENOMEM);
	if (!window)
		return false;
	assert_int_equal(take_census(window, offset, length).reserved, length);
	assert_true(congruent(address_in(window, offset), offset, wanted));
	release(window);
	return true;
}

static void reserve_near_the_limit(void)
{
	const size_t page = page_size(), pmd = pmd_size(), leaf = largest_leaf();
	const size_t length = 2 * leaf + page;

	/* Room for all that is held for an instant, and for less. */
	limit_from_here(length + leaf);
	assert_true(reserves(length, 0, ALIGNMAP_STRICT, leaf));
	limit_from_here(length + pmd);
	assert_int_equal(reserves(length, 0, ALIGNMAP_STRICT, leaf), leaf == pmd);
	assert_true(reserves(length, 0, 0, pmd));
	assert_true(reserves(length, pmd, ALIGNMAP_STRICT, pmd));
	limit_from_here(length);
	assert_false(reserves(length, 0, ALIGNMAP_STRICT, leaf));
	assert_false(reserves(length, pmd, ALIGNMAP_STRICT, pmd));
	assert_true(reserves(length, 0, 0, page));
	assert_true(reserves(length, page, ALIGNMAP_STRICT, page));
	/* No more is asked for than what is deserved takes. */
	limit_from_here(5 * pmd);
	assert_true(reserves(4 * pmd, 0, ALIGNMAP_STRICT, pmd));
	limit_from_here(length - page);
	assert_false(reserves(length, 0, 0, page));
	assert_false(reserves(length, page, 0, page));
	read_address_space(&after);
	assert_same_address_space(&before, &after);
}

static void where_there_is_no_room_a_smaller_leaf_does_unless_strict(void **state)
{
	(void)state;
	largest_leaf();
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	in_a_child(reserve_near_the_limit);
}

/* VmLck, in KiB. */
static long locked(void)
{
	char line[256];
	long kib = -1;
	FILE *status = fopen("/proc/self/status", "re");

	assert_non_null(status);
	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "VmLck: %ld", &kib) == 1)
			break;
	fclose(status);
	assert_true(kib >= 0);
	return kib;
}

/* More private memory than there can be is refused, unless the machine is set to promise anything.
 */
static size_t more_than_there_is(int file)
{
	/* munlock(2) counts less than 8 TiB right (mm/mlock.c, mlock_fixup: an int of pages). */
	const size_t length = (size_t)(SIZE_MAX < UINT64_MAX ? 2 * G : (uint64_t)1 << 42);
	void *mapping = map_raw(NULL, length, WRITE, MAP_PRIVATE, file, 0);

	if (mapping == MAP_FAILED)
		return SANITIZED ? 0 : length;
	munmap(mapping, length);
	return 0;
}

static void lock_all_that_comes(void)
{
	const size_t page = page_size(), length = 8 * page;
	const int file = memfd_of((off_t)(4 * length)), event = eventfd(0, EFD_CLOEXEC);
	/* Root may lock what it likes, for an instant. */
	const size_t too_much = geteuid() == 0 ? more_than_there_is(file) : 0;
	const long piece = (long)(2 * page >> 10);
	struct alignmap_window *window, *large;
	long held;

	if (mlockall(MCL_FUTURE))
		_exit(SKIPPED);
	/* The C library maps what it reads by. */
	locked();
	held = locked();
	window = reserve(page, length, NULL);
	assert_int_equal(locked(), held);
	put(window, 2 * page, READ, MAP_SHARED, file, (off_t)page);
	assert_int_equal(locked(), held + piece);
	assert_ptr_equal(
		alignmap_window_map(window, page, READ, MAP_SHARED, event, (off_t)(4 * page)),
		MAP_FAILED);
	assert_int_equal(locked(), held + piece);
	take_out(window, page, 2 * page);
	assert_int_equal(locked(), held);
	if (too_much) {
		/* In the gap, which is held again. */
		large = reserve(0, too_much, NULL);
		assert_ptr_equal(alignmap_window_map(large, too_much, WRITE, MAP_PRIVATE, file, 0),
				 MAP_FAILED);
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(extent_at(large, 0).state, ALIGNMAP_RESERVED);
		assert_int_equal(locked(), held);
		release(large);
	}
	release(window);
	assert_int_equal(locked(), held);
}

static void a_held_window_is_no_locked_memory(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("under a sanitizer mlockall() does nothing");
	if (in_a_child(lock_all_that_comes) == SKIPPED)
		skip_because("mlockall() is not permitted");
}

static void lock_more_than_is_allowed(void)
{
	const struct rlimit limit = { 8 * page_size(), 8 * page_size() };

	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	/* Root may lock what it likes. */
	if (geteuid() == 0)
		assert_int_equal(setresuid(65534, 65534, 65534), 0);
	assert_int_equal(mlockall(MCL_FUTURE), 0);
	read_address_space(&before);
	errno = 0;
	assert_null(alignmap_window_reserve(0, 16 * page_size(), NULL));
	assert_int_equal(errno, EAGAIN);
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	/* What is held does not add up. A page or two may be malloc()'s, which is locked, too. */
	for (int i = 0; i < 16; i++)
		reserve(0, 4 * page_size(), NULL);
}

static void a_window_beyond_the_limit_of_locked_memory_is_refused(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("under a sanitizer mlockall() does nothing");
	in_a_child(lock_more_than_is_allowed);
}

static void a_piece_shows_its_file_at_its_place(void **state)
{
	const size_t page = page_size(), pmd = pmd_size();
	const size_t length = 6 * pmd;
	const uint64_t offset = pmd - page;
	const int file = stamped_file(8 * pmd / page);
	const struct {
		size_t offset;
		size_t length;
		int prot;
		int flags;
	} pieces[] = {
		{ 0, page, READ, MAP_SHARED },
		{ page, pmd, WRITE, MAP_SHARED },
		{ pmd + page, 2 * page, WRITE, MAP_PRIVATE },
		{ pmd + 5 * page, 7 * page, PROT_NONE, MAP_SHARED },
		{ 2 * pmd, pmd, READ, MAP_PRIVATE | MAP_POPULATE },
		{ 3 * pmd, pmd + page, READ | PROT_EXEC, MAP_PRIVATE },
		{ 5 * pmd - page, 2 * page, WRITE, MAP_SHARED | MAP_POPULATE },
		{ 6 * pmd - page, page, WRITE, MAP_SHARED_VALIDATE },
	};
	struct alignmap_window *window;
	size_t total = 0;
	char *start;

	(void)state;
	read_address_space(&before);
	window = reserve(offset, length, NULL);
	start = address_in(window, offset);
	for (size_t i = 0; i < COUNT(pieces); i++) {
		const uint64_t at = offset + pieces[i].offset;
		char *piece = put(window, pieces[i].length, pieces[i].prot, pieces[i].flags, file,
				  (off_t)at);
		struct alignmap_extent extent = extent_at(window, at + pieces[i].length - 1);

		total += pieces[i].length;
		assert_ptr_equal(piece, start + pieces[i].offset);
		assert_true(is_mapped(piece, pieces[i].length, pieces[i].prot, pieces[i].flags,
				      file, at));
		assert_int_equal(extent.state, ALIGNMAP_MAPPED);
		assert_int_equal(extent.prot, pieces[i].prot);
		assert_int_equal(extent.offset, at);
		assert_int_equal(extent.length, pieces[i].length);
		assert_int_equal(take_census(window, offset, length).mapped, total);
		for (size_t p = 0; pieces[i].prot && p < pieces[i].length; p += page)
			assert_int_equal(*(uint64_t *)(piece + p), stamp((at + p) / page));
	}
	read_address_space(&during);
	if (!SANITIZED)
		assert_int_equal(during.pages, before.pages + length / page);
	/* A shared piece writes to the file, a private one does not. */
	*(volatile uint64_t *)(start + page) = 1;
	*(volatile uint64_t *)(start + pmd + page) = 1;
	for (int i = 0; i < 2; i++) {
		const uint64_t at = offset + page + (i ? pmd : 0);
		uint64_t word;

		assert_int_equal(pread(file, &word, sizeof(word), (off_t)at), sizeof(word));
		assert_int_equal(word, i ? stamp(at / page) : 1);
	}
	release(window);
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	close(file);
}

static void a_piece_outlives_its_descriptor(void **state)
{
	const size_t page = page_size();
	int file = stamped_file(4);
	struct alignmap_window *window = reserve(0, 4 * page, NULL);
	uint64_t *piece = (uint64_t *)put(window, page, READ, MAP_SHARED, file, (off_t)page);

	(void)state;
	close(file);
	assert_int_equal(*piece, stamp(1));
	release(window);
}

static unsigned long count_faults(const char *from, size_t length)
{
	struct rusage start, end;

	assert_int_equal(getrusage(RUSAGE_SELF, &start), 0);
	for (size_t at = 0; at < length; at += page_size())
		(void)*(const volatile char *)(from + at);
	assert_int_equal(getrusage(RUSAGE_SELF, &end), 0);
	return (unsigned long)(end.ru_minflt - start.ru_minflt);
}

static int file_of_huge_pages(off_t length)
{
	char directory[] = "/tmp/alignmap-test-XXXXXX";
	int file = -1;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    !mkdtemp(directory))
		return -1;
	if (mount("none", directory, "tmpfs", 0, "huge=always") == 0) {
		file = unlinked_file_in(directory, length);
		umount2(directory, MNT_DETACH);
	}
	rmdir(directory);
	return file;
}

static void map_huge_pages_of_tmpfs(void)
{
	const size_t page = page_size(), pmd = pmd_size();
	const struct {
		size_t first, count;
	} pieces[] = { { 1, 2 }, { 4, 3 }, { 7, 1 } };
	const int file = file_of_huge_pages((off_t)(9 * pmd));
	struct alignmap_window *window;
	char *plain;

	if (file < 0)
		_exit(SKIPPED);
	for (size_t i = 0; i < 9; i++)
		assert_int_equal(pwrite(file, "x", 1, (off_t)(i * pmd)), 1);

	window = reserve(page, 8 * pmd + page, NULL);
	/* The first count has the faults of counting in it. */
	plain = map_raw(NULL, pmd, READ, MAP_SHARED, file, 0);
	count_faults(plain, pmd);
	for (size_t i = 0; i < COUNT(pieces); i++) {
		const size_t length = pieces[i].count * pmd;
		char *piece =
			put(window, length, READ, MAP_SHARED, file, (off_t)(pieces[i].first * pmd));

		assert_int_equal(count_faults(piece, length), pieces[i].count);
		take_out(window, pieces[i].first * pmd, length);
	}
	/* What was filled aside is moved with its leaves. */
	plain = put(window, 2 * pmd, READ, MAP_SHARED | MAP_POPULATE, file, (off_t)pmd);
	assert_int_equal(count_faults(plain, 2 * pmd), 0);
	release(window);
	/* The count would show a piece at another address. */
	plain = map_raw(NULL, 2 * pmd, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	plain += -(uintptr_t)plain % pmd + page;
	plain = map_raw(plain, pmd - page, READ, MAP_SHARED | MAP_FIXED, file, 0);
	assert_true(count_faults(plain, pmd - page) > 1);
}

static void a_piece_takes_one_fault_a_leaf(void **state)
{
	(void)state;
	pmd_size();
	if (SANITIZED)
		skip_because("a sanitizer faults for itself");
	if (in_a_child(map_huge_pages_of_tmpfs) == SKIPPED)
		skip_because("a tmpfs with huge=always cannot be mounted here");
}

/* Nothing has changed then: not by the query, not on the kernel's list. */
static void refuses(struct alignmap_window *window, uint64_t start, size_t length, size_t piece,
		    int prot, int flags, int fd, off_t offset, int error)
{
	const struct census census = take_census(window, start, length);
	struct census now;

	read_address_space(&before);
	errno = 0;
	if (alignmap_window_map(window, piece, prot, flags, fd, offset) != MAP_FAILED ||
	    errno != error)
		fail_msg("length %#zx, flags %#x, offset %#lx: %s, not %s", piece,
			 (unsigned int)flags, (long)offset, strerror(errno), strerror(error));
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	now = take_census(window, start, length);
	assert_memory_equal(&now, &census, sizeof(now));
}

static void a_piece_that_does_not_belong_changes_nothing(void **state)
{
	const size_t page = page_size();
	const uint64_t start = 8 * page;
	const size_t length = 16 * page;
	const int file = stamped_file(64);
	const struct {
		long offset; /* in pages, as the length is; from the window's first */
		long length;
		int error;
	} rows[] = {
		{ -1, 1, EINVAL },
		{ -1, 2, EINVAL },
		{ -1, 18, EINVAL },
		{ -8, 8, EINVAL },
		{ -8, 40, EINVAL },
		{ 16, 1, EINVAL },
		{ 15, 2, EINVAL },
		{ 0, 17, EINVAL },
		{ 40, 1, EINVAL },
		{ 2, 0, EINVAL },
		{ 15, LONG_MAX >> 16, EINVAL },
		/* Pieces lie in [4, 8) and in [10, 11). */
		{ 4, 4, EEXIST },
		{ 4, 1, EEXIST },
		{ 7, 1, EEXIST },
		{ 5, 2, EEXIST },
		{ 3, 2, EEXIST },
		{ 7, 2, EEXIST },
		{ 3, 6, EEXIST },
		{ 7, 4, EEXIST },
		{ 9, 2, EEXIST },
		{ 10, 1, EEXIST },
		{ 10, 6, EEXIST },
		{ 0, 16, EEXIST },
		{ 0, 5, EEXIST },
	};
	const size_t unaligned[] = {
		1, 8, page / 2, page - 1, page + 1, SIZE_MAX, SIZE_MAX - page
	};
	const int flags[] = {
		MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE,
		MAP_GROWSDOWN, MAP_STACK, MAP_HUGETLB,
#ifdef MAP_32BIT
		MAP_32BIT,
#endif
	};
	char *fences[2];
	struct alignmap_window *window = reserve_fenced(start, length, fences);

	(void)state;
	put(window, 4 * page, WRITE, MAP_SHARED, file, (off_t)(start + 4 * page));
	put(window, page, READ, MAP_PRIVATE, file, (off_t)(start + 10 * page));
	for (size_t i = 0; i < COUNT(rows); i++)
		refuses(window, start, length, (size_t)rows[i].length * page, READ, MAP_SHARED,
			file, (off_t)start + rows[i].offset * (long)page, rows[i].error);
	for (size_t i = 0; i < COUNT(unaligned); i++)
		refuses(window, start, length, unaligned[i], READ, MAP_SHARED, file, (off_t)start,
			EINVAL);
	refuses(window, start, length, page, READ, MAP_SHARED, file, (off_t)start + 1, EINVAL);
	refuses(window, start, length, page, READ, MAP_SHARED, file, (off_t)(start + page / 2),
		EINVAL);
	refuses(window, start, length, page, READ, MAP_SHARED, file, (off_t)(start + page - 1),
		EINVAL);
	for (size_t i = 0; i < COUNT(flags); i++)
		refuses(window, start, length, page, READ, MAP_PRIVATE | flags[i], file,
			(off_t)start, EINVAL);
	refuses(window, start, length, page, READ, MAP_SHARED, file, -(off_t)page, EINVAL);
	refuses(window, start, length, page, READ, MAP_SHARED, file, INT64_MIN, EINVAL);
	/* Neighbours are no overlap. */
	put(window, 4 * page, READ, MAP_SHARED, file, (off_t)start);
	put(window, 2 * page, READ, MAP_SHARED, file, (off_t)(start + 8 * page));
	put(window, 5 * page, READ, MAP_SHARED, file, (off_t)(start + 11 * page));
	release(window);
	take_fence_away(fences[0]);
	take_fence_away(fences[1]);
	close(file);
}

static void a_piece_that_the_kernel_refuses_leaves_its_place_held(void **state)
{
	const size_t page = page_size(), pmd = pmd_size();
	const size_t lengths[] = { page, 4 * page, 2 * pmd };
	const size_t length = 4 * pmd;
	const int file = stamped_file(4 * pmd / page);
	const size_t too_much = more_than_there_is(file);
	struct alignmap_window *window = reserve(0, length, NULL), *large;
	char path[64];
	int pipe_ends[2];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	const struct {
		int fd;
		int prot;
		int flags;
		int error;
	} rows[] = {
		{ -1, READ, MAP_SHARED, EBADF },
		{ 1000, READ, MAP_PRIVATE, EBADF },
		{ open(path, O_PATH | O_CLOEXEC), READ, MAP_SHARED, EBADF },
		{ open(path, O_RDONLY | O_CLOEXEC), WRITE, MAP_SHARED, EACCES },
		{ open(path, O_WRONLY | O_CLOEXEC), READ, MAP_PRIVATE, EACCES },
		{ open("/", O_RDONLY | O_CLOEXEC), READ, MAP_SHARED, ENODEV },
		{ pipe_ends[0], READ, MAP_SHARED, ENODEV },
		{ eventfd(0, EFD_CLOEXEC), READ, MAP_PRIVATE, ENODEV },
		{ file, READ, 0, EINVAL },
		{ file, READ, MAP_SHARED_VALIDATE | 0x200000, EOPNOTSUPP },
		/* By its driver, behind which a gap would be left. */
		{ perf_event(), READ, MAP_PRIVATE, EINVAL },
	};

	put(window, page, READ, MAP_SHARED, file, (off_t)(3 * pmd));
	for (size_t i = 0; i < COUNT(rows) * COUNT(lengths); i++) {
		const int fd = rows[i / COUNT(lengths)].fd;
		const int prot = rows[i / COUNT(lengths)].prot;
		const int flags = rows[i / COUNT(lengths)].flags;
		const int error = rows[i / COUNT(lengths)].error;
		const size_t piece = lengths[i % COUNT(lengths)];

		/* A row that the kernel grants would show nothing. */
		if (fd < 0 && error == EINVAL)
			continue;
		errno = 0;
		assert_ptr_equal(map_raw(NULL, piece, prot, flags, fd, 0), MAP_FAILED);
		assert_int_equal(errno, error);
		refuses(window, 0, length, piece, prot, flags, fd, 0, error);
		put(window, piece, WRITE, MAP_SHARED, file, 0);
		take_out(window, 0, piece);
	}
	for (size_t i = 2; i < COUNT(rows); i++)
		if (rows[i].fd != file)
			close(rows[i].fd);
	release(window);

	/* There is no room aside either: its place is given up, and held again. */
	if (too_much) {
		large = reserve(0, too_much, NULL);
		refuses(large, 0, too_much, too_much, WRITE, MAP_PRIVATE, file, 0, ENOMEM);
		refuses(large, 0, too_much, too_much / 2, WRITE, MAP_PRIVATE, file,
			(off_t)(too_much / 4), ENOMEM);
		release(large);
	}
	close(pipe_ends[1]);
	close(file);
}

static void map_near_the_limit(void)
{
	const size_t page = page_size(), pmd = pmd_size(), length = 8 * pmd;
	const int file = stamped_file(16);
	struct alignmap_window *window = reserve(0, length, NULL);
	const size_t pieces[] = { page, 4 * page, 2 * pmd, length };
	const size_t rooms[] = { 0, page, pmd, 2 * pmd - page, 2 * pmd, length };
	/* The last does not let itself be claimed with MAP_FIXED_NOREPLACE. */
	const int types[] = { MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE };
	struct census census;

	for (size_t i = 0; i < COUNT(pieces) * COUNT(rooms) * COUNT(types); i++) {
		const size_t piece = pieces[i / COUNT(types) / COUNT(rooms)];
		const uint64_t offset = piece < length ? pmd : 0;

		limit_from_here(rooms[i / COUNT(types) % COUNT(rooms)]);
		put(window, piece, READ, types[i % COUNT(types)], file, (off_t)offset);
		census = take_census(window, 0, length);
		assert_int_equal(census.mapped, piece);
		assert_int_equal(census.lost, 0);
		take_out(window, 0, length);
		read_address_space(&after);
		assert_same_address_space(&before, &after);
	}
	/* A driver that refuses gets its place no worse by that. */
	limit_from_here(0);
	assert_ptr_equal(alignmap_window_map(window, pmd, READ, MAP_SHARED, eventfd(0, 0), 0),
			 MAP_FAILED);
	assert_int_equal(take_census(window, 0, length).reserved, length);
	/* Below what there is already: a place that is given up may be lost, which is told. */
	limit_from_here(-page);
	errno = 0;
	assert_ptr_equal(alignmap_window_map(window, pmd, READ, MAP_SHARED, file, (off_t)pmd),
			 MAP_FAILED);
	assert_int_equal(errno, ENOMEM);
	take_census(window, 0, length);
	limit_from_here(page);
	put(window, page, READ, MAP_SHARED, file, 0);
	release(window);
}

/* As on Linux before 4.17; and there is a hole above the window, which is chosen before its place.
 */
static void map_where_a_place_is_taken_for_a_hint(void)
{
	const size_t page = page_size(), length = 16 * page;
	recorder_pretend *pretend = __extension__(recorder_pretend *)
		dlsym(RTLD_DEFAULT, "pretend");
	const int file = stamped_file(16);
	char *spacer = map_raw(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct alignmap_window *window = reserve(0, length, NULL);

	if (!pretend)
		_exit(SKIPPED);
	munmap(spacer, length);
	limit_from_here(0);
	/* The one aside is refused, the one in the gap lands elsewhere. */
	pretend(PRETEND_NO_NOREPLACE, 0, 2);
	errno = 0;
	assert_ptr_equal(
		alignmap_window_map(window, 4 * page, READ, MAP_SHARED, file, (off_t)(4 * page)),
		MAP_FAILED);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(take_census(window, 0, length).reserved, length);
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	put(window, 4 * page, READ, MAP_SHARED, file, (off_t)(4 * page));
	release(window);
}

static void a_piece_that_lands_elsewhere_is_unmapped_there(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	if (in_a_child(map_where_a_place_is_taken_for_a_hint) == SKIPPED)
		skip_because("the recorder is not preloaded");
}

static void a_piece_is_mapped_where_there_is_no_room_aside(void **state)
{
	(void)state;
	pmd_size();
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	in_a_child(map_near_the_limit);
}

/* Splits memory until vm.max_map_count is reached, into @splits that can be given back. */
static char *fill_map_count(size_t *splits)
{
	const size_t page = page_size(), many = (size_t)4 << 20;
	char *pages = map_raw(NULL, many * page, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(pages, MAP_FAILED);
	*splits = 0;
	while (mprotect(pages + (2 * *splits + 1) * page, page, READ) == 0)
		++*splits;
	assert_int_equal(errno, ENOMEM);
	return pages;
}

/* One mapping less. */
static void give_back(char *pages, size_t *splits)
{
	--*splits;
	assert_int_equal(munmap(pages + (2 * *splits + 1) * page_size(), page_size()), 0);
}

/*
 * The kernel grants one mapping more than it lets a split make; this file's page is mapped by
 * nobody beside, with which it would merge.
 */
static void fill_up(void)
{
	const int file = memfd_of((off_t)(64 * page_size()));
	int made = 0;

	while (made < 32 && map_raw(NULL, page_size(), READ, MAP_SHARED, file,
				    (off_t)(2 * (size_t)made * page_size())) != MAP_FAILED)
		made++;
	assert_true(made < 32);
}

static bool map_once_near_the_map_count(struct alignmap_window *window, uint64_t offset,
					size_t length, int flags, int file)
{
	const char *place = address_in(window, offset);

	errno = EXDEV;
	if (alignmap_window_map(window, length, READ, flags, file, (off_t)offset) == MAP_FAILED) {
		assert_int_equal(errno, ENOMEM);
		/* It may be called lost, since the kernel does not say when it saw the limit. */
		assert_int_not_equal(extent_at(window, offset).state, ALIGNMAP_MAPPED);
		for (size_t p = 0; p < length; p += page_size())
			assert_int_equal(look(place + p), HELD);
		return false;
	}
	assert_int_equal(errno, EXDEV);
	assert_int_equal(extent_at(window, offset).state, ALIGNMAP_MAPPED);
	assert_int_equal(*(const uint64_t *)place, stamp(offset / page_size()));
	return true;
}

/* Where that is refused the piece is still there, and is taken out when there is room again. */
static void unmap_near_the_map_count(struct alignmap_window *window, uint64_t offset, size_t length,
				     char *pages, size_t *splits)
{
	const uint64_t *place = (uint64_t *)address_in(window, offset);

	if (alignmap_window_unmap(window, offset, length)) {
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(extent_at(window, offset).state, ALIGNMAP_MAPPED);
		assert_int_equal(*place, stamp(offset / page_size()));
		give_back(pages, splits);
		give_back(pages, splits);
		take_out(window, offset, length);
	}
	assert_int_equal(extent_at(window, offset).state, ALIGNMAP_RESERVED);
	assert_int_equal(look(place), HELD);
}

static void map_near_the_map_count(int flags)
{
	const size_t page = page_size(), length = 16 * page;
	const int file = stamped_file(32);
	unsigned long refused = 0, granted = 0;
	/* Each is a mapping of its own, that is, merged with none beside it. */
	char *fences[2];
	struct alignmap_window *part[16], *whole[16];
	size_t splits;
	char *pages;

	for (int room = 0; room < 16; room++) {
		part[room] = reserve_fenced(0, length, fences);
		whole[room] = reserve_fenced(0, length, fences);
	}
	pages = fill_map_count(&splits);
	fill_up();
	for (int room = 0; room < 16; room++) {
		if (map_once_near_the_map_count(part[room], 4 * page, 3 * page, flags, file)) {
			granted++;
			unmap_near_the_map_count(part[room], 4 * page, 3 * page, pages, &splits);
		} else {
			refused++;
		}
		if (map_once_near_the_map_count(whole[room], 0, length, flags, file))
			unmap_near_the_map_count(whole[room], 0, length, pages, &splits);
		give_back(pages, &splits);
	}
	assert_true(refused > 0 && granted > 0);
	for (int room = 0; room < 16; room++) {
		release(part[room]);
		release(whole[room]);
	}
}

static void map_shared_near_the_map_count(void)
{
	map_near_the_map_count(MAP_SHARED);
}

static void map_private_near_the_map_count(void)
{
	map_near_the_map_count(MAP_PRIVATE);
}

static void unmap_at_the_map_count(void)
{
	const size_t page = page_size();
	const int file = stamped_file(32);
	struct alignmap_window *window = reserve(0, 16 * page, NULL);
	size_t splits;
	char *pages;

	put(window, 2 * page, READ, MAP_SHARED, file, (off_t)(2 * page));
	put(window, 2 * page, READ, MAP_SHARED, file, (off_t)(8 * page));
	pages = fill_map_count(&splits);
	fill_up();
	errno = 0;
	assert_int_equal(alignmap_window_unmap(window, 0, 16 * page), -1);
	assert_int_equal(errno, ENOMEM);
	for (uint64_t at = 2; at < 14; at += 6) {
		const struct alignmap_extent extent = extent_at(window, at * page);

		assert_int_equal(extent.state, ALIGNMAP_MAPPED);
		assert_int_equal(extent.length, 2 * page);
		assert_int_equal(*(uint64_t *)extent.address, stamp(at));
	}
	give_back(pages, &splits);
	give_back(pages, &splits);
	take_out(window, 0, 16 * page);
	assert_int_equal(extent_at(window, 0).length, 16 * page);
	for (size_t p = 0; p < 16; p++)
		assert_int_equal(look(address_in(window, p * page)), HELD);
	release(window);
}

/* In the middle of one mapping with what others hold, of which it must be cut out. */
static void release_at_the_map_count(void)
{
	const size_t page = page_size(), length = 16 * page;
	char *neighbours[2];
	struct alignmap_window *window = reserve_fenced(0, length, neighbours);
	char *address = address_in(window, 0);
	size_t splits;
	char *pages;

	for (size_t i = 0; i < COUNT(neighbours); i++)
		assert_ptr_equal(map_raw(neighbours[i], page, PROT_NONE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 neighbours[i]);
	pages = fill_map_count(&splits);
	errno = 0;
	assert_int_equal(alignmap_window_release(window), -1);
	assert_int_equal(errno, ENOMEM);
	for (size_t p = 0; p < length; p += page)
		assert_int_equal(look(address + p), HELD);
	give_back(pages, &splits);
	release(window);
	for (size_t p = 0; p < length; p += page)
		assert_int_equal(look(address + p), UNMAPPED);
	for (size_t i = 0; i < COUNT(neighbours); i++)
		assert_int_equal(look(neighbours[i]), HELD);
}

/* What cannot be trimmed, since it has become one mapping with others, goes with the window. */
static void reserve_at_the_map_count(void)
{
	const size_t page = page_size(), pmd = pmd_size(), length = 2 * pmd + page;
	unsigned long granted = 0;
	size_t splits;
	char *pages = fill_map_count(&splits);

	for (int room = 0; room < 6; room++) {
		const uint64_t offset = offset_unlike_the_kernels(length);
		const unsigned long held = pages_held();
		struct alignmap_window *window;

		errno = EXDEV;
		window = alignmap_window_reserve(offset, length, NULL);
		assert_int_equal(errno, window ? EXDEV : ENOMEM);
		for (size_t p = 0; window && p < length; p += page)
			assert_int_equal(look(address_in(window, offset) + p), HELD);
		granted += window != NULL;
		if (alignmap_window_release(window)) {
			assert_int_equal(errno, ENOMEM);
			give_back(pages, &splits);
			give_back(pages, &splits);
			release(window);
			assert_int_equal(pages_held(), held - 2);
		} else {
			assert_int_equal(pages_held(), held);
		}
		give_back(pages, &splits);
	}
	assert_true(granted > 0);
}

static void near_the_map_count_limit(void (*what)(void))
{
	need_map_count_in_reach();
	if (SANITIZED)
		skip_because("a sanitizer needs its own mappings (vm.max_map_count)");
	pmd_size();
	in_a_child(what);
}

static void near_the_map_count_limit_a_shared_piece_is_mapped_or_its_place_held(void **state)
{
	(void)state;
	near_the_map_count_limit(map_shared_near_the_map_count);
}

static void near_the_map_count_limit_a_private_piece_is_mapped_or_its_place_held(void **state)
{
	(void)state;
	near_the_map_count_limit(map_private_near_the_map_count);
}

static void at_the_map_count_limit_what_is_not_unmapped_is_still_there(void **state)
{
	(void)state;
	near_the_map_count_limit(unmap_at_the_map_count);
}

static void at_the_map_count_limit_a_window_that_is_not_released_can_be_again(void **state)
{
	(void)state;
	near_the_map_count_limit(release_at_the_map_count);
}

static void at_the_map_count_limit_what_is_not_trimmed_goes_with_the_window(void **state)
{
	(void)state;
	near_the_map_count_limit(reserve_at_the_map_count);
}

static int hugetlb_file(size_t pages, size_t *huge)
{
	int fd = memfd_create("alignmap-test", MFD_CLOEXEC | MFD_HUGETLB);
	struct statfs status;

	if (fd < 0)
		skip_because("no hugetlbfs: %s", strerror(errno));
	assert_int_equal(fstatfs(fd, &status), 0);
	*huge = (size_t)status.f_bsize;
	assert_int_equal(ftruncate(fd, (off_t)(pages * *huge)), 0);
	return fd;
}

/* Nothing is touched, so that no huge pages need be kept on this machine. */
static void a_piece_of_hugetlbfs_is_mapped_whole_or_not_at_all(void **state)
{
	const int flags = MAP_SHARED | MAP_NORESERVE;
	const size_t page = page_size();
	struct alignmap_window_options options = options_of(page, 0);
	struct alignmap_window *window;
	size_t huge;
	int fd = hugetlb_file(8, &huge);
	/* It ends in the middle of a huge page. */
	const size_t length = 4 * huge + page;
	char *address, *fences[2];
	uint64_t offset;

	(void)state;
	window = reserve_fenced(0, length, fences);
	address = address_in(window, 0);
	refuses(window, 0, length, page, WRITE, flags, fd, (off_t)(4 * huge), EINVAL);
	refuses(window, 0, length, page, WRITE, flags, fd, 0, EINVAL);
	refuses(window, 0, length, huge - page, WRITE, flags, fd, (off_t)huge, EINVAL);
	refuses(window, 0, length, huge + page, WRITE, flags, fd, (off_t)(3 * huge), EINVAL);
	refuses(window, 0, length, length, WRITE, flags, fd, 0, EINVAL);
	refuses(window, 0, length, huge, WRITE, flags, fd, (off_t)page, EINVAL);
	refuses(window, 0, length, huge, WRITE, flags, fd, (off_t)(3 * huge + page), EINVAL);
	assert_ptr_equal(put(window, huge, WRITE, flags, fd, 0), address);
	assert_true(is_mapped(address, huge, WRITE, MAP_SHARED, fd, 0));
	put(window, 2 * huge, READ, flags, fd, (off_t)(2 * huge));
	assert_true(is_mapped(address + 2 * huge, 2 * huge, READ, MAP_SHARED, fd, 2 * huge));
	assert_int_equal(take_census(window, 0, length).mapped, 3 * huge);
	take_out(window, 0, huge);
	take_out(window, 2 * huge, 2 * huge);
	assert_int_equal(take_census(window, 0, length).reserved, length);
	release(window);
	take_fence_away(fences[0]);
	take_fence_away(fences[1]);

	/* A window that is not congruent modulo the huge page. */
	for (offset = 0; offset < 64 * page; offset += page) {
		window = reserve(offset, length, &options);
		if (!congruent(address_in(window, offset), offset, huge))
			break;
		release(window);
	}
	assert_true(offset < 64 * page);
	refuses(window, offset, length, huge, WRITE, flags, fd, (off_t)huge, EINVAL);
	release(window);
	close(fd);
}

static void fill_pieces_of_hugetlbfs(void)
{
	size_t huge;
	int fd = hugetlb_file(4, &huge);
	struct alignmap_window *window = reserve(0, 4 * huge, NULL);
	const int flags[] = { MAP_SHARED, MAP_SHARED | MAP_POPULATE };

	for (size_t i = 0; i < COUNT(flags); i++) {
		uint64_t *piece = alignmap_window_map(window, 2 * huge, WRITE, flags[i], fd,
						      (off_t)(2 * i * huge));

		/* None are to be had on this machine. */
		if (piece == MAP_FAILED)
			_exit(errno == ENOMEM ? SKIPPED : 1);
		for (size_t at = 0; at < 2 * huge; at += page_size())
			piece[at / sizeof(uint64_t)] = stamp(2 * i * huge + at);
	}
	for (size_t at = 0; at < 4 * huge; at += page_size()) {
		uint64_t word;

		assert_int_equal(pread(fd, &word, sizeof(word), (off_t)at), sizeof(word));
		assert_int_equal(word, stamp(at));
	}
	take_out(window, 0, 4 * huge);
	release(window);
}

/* The kernel may make huge pages as they are wanted, for as long as the child lives. */
static void a_piece_of_hugetlbfs_holds_what_it_should(void **state)
{
	char path[128], old[32] = "", more[32];
	int setting, status;
	size_t huge;

	(void)state;
	close(hugetlb_file(4, &huge));
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%zukB/%s", huge >> 10,
		 "nr_overcommit_hugepages");
	setting = open(path, O_RDWR | O_CLOEXEC);
	if (setting < 0)
		skip_because("%s cannot be written", path);
	assert_int_equal(flock(setting, LOCK_EX), 0);
	assert_true(pread(setting, old, sizeof(old) - 1, 0) > 0);
	snprintf(more, sizeof(more), "%ld\n", strtol(old, NULL, 10) + 4);
	assert_true(pwrite(setting, more, strlen(more), 0) > 0);
	status = end_of_child(fill_pieces_of_hugetlbfs);
	assert_true(pwrite(setting, old, strlen(old), 0) > 0);
	close(setting);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		skip_because("this machine has not 4 huge pages free");
	assert_int_equal(status, 0);
}

/* Those pages are promised when they are mapped, so that a piece without any is refused late. */
static void map_hugetlbfs_near_the_limit(void)
{
	struct alignmap_window *window;
	size_t huge;
	int fd = hugetlb_file(64, &huge);

	window = reserve(0, 64 * huge, NULL);
	limit_from_here(page_size());
	put(window, huge, READ, MAP_SHARED | MAP_NORESERVE, fd, (off_t)huge);
	if (alignmap_window_map(window, 60 * huge, WRITE, MAP_SHARED, fd, (off_t)(3 * huge)) ==
	    MAP_FAILED) {
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(extent_at(window, 3 * huge).state, ALIGNMAP_RESERVED);
	}
	take_census(window, 0, 64 * huge);
	release(window);
}

static void a_piece_of_hugetlbfs_is_mapped_without_room_aside_or_its_place_held(void **state)
{
	size_t huge;

	(void)state;
	close(hugetlb_file(1, &huge));
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	in_a_child(map_hugetlbfs_near_the_limit);
}

static void what_is_unmapped_is_held_again(void **state)
{
	const size_t page = page_size();
	const uint64_t start = 8 * page;
	const size_t length = 16 * page;
	const int file = stamped_file(64);
	struct alignmap_window *window = reserve(start, length, NULL);
	const struct {
		long offset, length; /* in pages */
	} pieces[] = { { 0, 2 }, { 2, 1 }, { 4, 4 }, { 10, 1 }, { 12, 4 } }, wrong[] = {
		/* These cut a piece, */
		{ 0, 1 },
		{ 1, 1 },
		{ 1, 2 },
		{ 2, 3 },
		{ 5, 2 },
		{ 4, 3 },
		{ 5, 4 },
		{ 3, 4 },
		{ 0, 5 },
		{ 6, 10 },
		{ 11, 3 },
		{ 13, 3 },
		{ 0, 13 },
		{ 7, 9 },
		{ 15, 1 },
		/* and these are not in the window. */
		{ 16, 1 },
		{ 15, 2 },
		{ 12, 5 },
		{ 0, 17 },
		{ -1, 1 },
		{ -1, 18 },
		{ 0, 0 },
		{ 3, 0 },
		{ 0, LONG_MAX >> 16 },
	};
	struct census census;

	(void)state;
	read_address_space(&before);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < COUNT(pieces); i++)
			put(window, (size_t)pieces[i].length * page, WRITE, MAP_SHARED, file,
			    (off_t)start + pieces[i].offset * (long)page);
		read_address_space(&during);
		for (size_t i = 0; i < COUNT(wrong) + 3; i++) {
			/* Not aligned, in the end. */
			uint64_t offset = start + (i % 2 ? page / 2 : 0);
			size_t cut = 2 * page + (i % 2 ? 0 : 1);

			if (i < COUNT(wrong)) {
				offset = start + (uint64_t)wrong[i].offset * page;
				cut = (size_t)wrong[i].length * page;
			}
			errno = 0;
			assert_int_equal(alignmap_window_unmap(window, offset, cut), -1);
			assert_int_equal(errno, EINVAL);
		}
		/* Nothing is there. */
		take_out(window, start + 3 * page, page);
		take_out(window, start + 8 * page, 2 * page);
		take_out(window, start + 9 * page, page);
		assert_int_equal(take_census(window, start, length).mapped, 12 * page);
		read_address_space(&after);
		assert_same_address_space(&during, &after);

		/* One alone; several, with what is between and beside them; the rest. */
		take_out(window, start + 2 * page, page);
		assert_int_equal(extent_at(window, start + 3 * page).offset, start + 2 * page);
		assert_int_equal(extent_at(window, start + 3 * page).length, 2 * page);
		assert_int_equal(take_census(window, start, length).mapped, 11 * page);
		take_out(window, start + 3 * page, 8 * page);
		census = take_census(window, start, length);
		assert_int_equal(census.mapped, 6 * page);
		assert_int_equal(census.extents, 3);
		assert_int_equal(extent_at(window, start + 7 * page).length, 10 * page);
		take_out(window, start, length);
		assert_int_equal(take_census(window, start, length).reserved, length);
		read_address_space(&after);
		assert_same_address_space(&before, &after);
	}
	release(window);
	close(file);
}

static void a_thousand_times_leave_the_address_space_as_it_was(void **state)
{
	const size_t page = page_size(), pmd = pmd_size();
	const int file = memfd_of((off_t)(8 * pmd));
	struct alignmap_window *window = reserve(page, 4 * pmd, NULL);

	(void)state;
	read_address_space(&before);
	for (int i = 0; i < 1000; i++) {
		put(window, pmd, READ, MAP_SHARED, file, (off_t)pmd);
		put(window, pmd - page, WRITE, MAP_PRIVATE, file, (off_t)page);
		put(window, page, WRITE, MAP_SHARED, file, (off_t)(2 * pmd + 3 * page));
		if (i % 2) {
			take_out(window, page, 4 * pmd);
		} else {
			take_out(window, 2 * pmd, pmd);
			take_out(window, page, 2 * pmd - page);
		}
	}
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	release(window);
	close(file);
}

#define PAGES 48

/* Pages bear their piece's number; 0: none. */
static void compare_with_model(struct alignmap_window *window, uint64_t start,
			       const unsigned short *model, const int *prots)
{
	const size_t page = page_size();
	char *address = address_in(window, start);

	for (size_t p = 0; p < PAGES; p++) {
		const struct alignmap_extent extent = extent_at(window, start + p * page + p * 83);
		size_t first = p, end = p;

		while (first > 0 && model[first - 1] == model[p])
			first--;
		while (end < PAGES && model[end] == model[p])
			end++;
		assert_int_equal(extent.offset, start + first * page);
		assert_int_equal(extent.length, (end - first) * page);
		assert_ptr_equal(extent.address, address + first * page);
		assert_int_equal(extent.state, model[p] ? ALIGNMAP_MAPPED : ALIGNMAP_RESERVED);
		assert_int_equal(extent.prot, model[p] ? prots[model[p]] : PROT_NONE);
	}
}

/* What is to be said of a piece in the pages [@first, @end). */
static int expected(const unsigned short *model, long first, long end)
{
	if (first < 0 || end > PAGES || end <= first)
		return EINVAL;
	while (first < end)
		if (model[first++])
			return EEXIST;
	return 0;
}

static bool cuts(const unsigned short *model, long first, long end)
{
	return (first > 0 && model[first] && model[first - 1] == model[first]) ||
	       (end < PAGES && model[end] && model[end - 1] == model[end]);
}

static void the_query_says_what_was_done_in_any_order(void **state)
{
	static const int prots_of[] = { PROT_NONE, READ, WRITE };
	static int prots[4001];
	const size_t page = page_size();
	const uint64_t start = 3 * page;
	const uint64_t outside[] = {
		0,	    start - 1,	       start + PAGES * page, start + (PAGES + 1) * page,
		UINT64_MAX, (uint64_t)1 << 63,
	};
	const int file = stamped_file(64);
	struct alignmap_window *window = reserve(start, PAGES * page, NULL);
	unsigned short model[PAGES] = { 0 };
	struct alignmap_extent untouched, extent;

	(void)state;
	srandom(7);
	for (unsigned short step = 1; step <= 4000; step++) {
		const long first = random() % (PAGES + 2) - 1;
		const long end = first + 1 + random() % (random() % 4 ? 6 : 50);
		const off_t offset = (off_t)start + first * (long)page;
		const size_t length = (size_t)(end - first) * page;
		const bool out = random() % 3 == 0;
		const int prot = prots_of[random() % 3];
		int error;

		errno = 0;
		if (out) {
			error = first < 0 || end > PAGES || cuts(model, first, end) ? EINVAL : 0;
			assert_int_equal(alignmap_window_unmap(window, (uint64_t)offset, length),
					 error ? -1 : 0);
		} else {
			error = expected(model, first, end);
			assert_int_equal(alignmap_window_map(window, length, prot, MAP_SHARED, file,
							     offset) == MAP_FAILED,
					 error != 0);
			prots[step] = prot;
		}
		assert_int_equal(errno, error);
		for (long p = first; p < end && !error; p++)
			model[p] = out ? 0 : step;
		compare_with_model(window, start, model, prots);
		if (step % 16 == 0)
			take_census(window, start, PAGES * page);
	}
	memset(&untouched, 0x77, sizeof(untouched));
	extent = untouched;
	for (size_t i = 0; i < COUNT(outside); i++) {
		errno = 0;
		assert_int_equal(alignmap_window_query(window, outside[i], &extent), -1);
		assert_int_equal(errno, EINVAL);
		assert_memory_equal(&extent, &untouched, sizeof(extent));
	}
	errno = 0;
	assert_int_equal(alignmap_window_query(window, start, NULL), -1);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(alignmap_window_query(NULL, start, &extent), -1);
	assert_int_equal(errno, EINVAL);
	release(window);
	close(file);
}

#define MANY 10000

static void ten_thousand_pieces_keep_their_order(void **state)
{
	const size_t page = page_size(), length = 2 * MANY * page;
	const int file = stamped_file(2 * MANY);
	const unsigned long held = pages_held();
	struct alignmap_window *window = reserve(0, length, NULL);
	static unsigned short order[MANY];
	struct alignmap_extent extent;
	uint64_t offset = 0;
	size_t pieces = 0;

	(void)state;
	for (unsigned short i = 0; i < MANY; i++)
		order[i] = i;
	srandom(11);
	for (size_t i = MANY - 1; i > 0; i--) {
		const size_t other = (size_t)random() % (i + 1);
		const unsigned short swapped = order[i];

		order[i] = order[other];
		order[other] = swapped;
	}
	for (size_t i = 0; i < MANY; i++) {
		const uint64_t at = 2 * order[i] * page;

		assert_int_equal(*(uint64_t *)put(window, page, READ, MAP_SHARED, file, (off_t)at),
				 stamp(at / page));
	}
	while (alignmap_window_query(window, offset, &extent) == 0) {
		assert_int_equal(extent.offset, offset);
		assert_int_equal(extent.length, page);
		assert_int_equal(extent.state,
				 offset / page % 2 ? ALIGNMAP_RESERVED : ALIGNMAP_MAPPED);
		pieces += extent.state == ALIGNMAP_MAPPED;
		offset += extent.length;
	}
	assert_int_equal(offset, length);
	assert_int_equal(pieces, MANY);
	for (size_t i = 0; i < MANY; i += 2)
		take_out(window, 2 * order[i] * page, page);
	for (size_t i = 1; i < MANY; i += 2)
		assert_int_equal(*(uint64_t *)address_in(window, 2 * order[i] * page),
				 stamp(2 * order[i]));
	take_out(window, 0, length);
	extent = extent_at(window, length - 1);
	assert_int_equal(extent.length, length);
	for (size_t at = 0; at < length; at += page)
		assert_int_equal(look((char *)extent.address + at), HELD);
	release(window);
	/* But for the heap. */
	if (!SANITIZED)
		assert_true(pages_held() - held < 2 * M / page);
	close(file);
}

static void what_is_released_is_gone_and_nothing_beside_it(void **state)
{
	const size_t page = page_size(), pmd = pmd_size(), length = 4 * pmd + page;
	const int file = stamped_file(8 * pmd / page);
	struct alignmap_window *windows[16];
	char *addresses[16];

	(void)state;
	assert_int_equal(alignmap_window_release(NULL), 0);
	read_address_space(&before);
	for (size_t i = 0; i < COUNT(windows); i++) {
		windows[i] = reserve(i * page, length, NULL);
		addresses[i] = address_in(windows[i], i * page);
		put(windows[i], page, READ, MAP_SHARED, file, (off_t)(i * page));
		put(windows[i], pmd, READ, MAP_PRIVATE, file, (off_t)(i * page + 2 * pmd));
		put(windows[i], page, READ, MAP_SHARED, file, (off_t)(i * page + 4 * pmd));
	}
	for (size_t i = 0; i < COUNT(windows); i += 2)
		release(windows[i]);
	for (size_t i = 0; i < COUNT(windows); i++) {
		assert_int_equal(look(addresses[i]), i % 2 ? READABLE : UNMAPPED);
		assert_int_equal(look(addresses[i] + pmd), i % 2 ? HELD : UNMAPPED);
		assert_int_equal(look(addresses[i] + length - page), i % 2 ? READABLE : UNMAPPED);
	}
	for (size_t i = 1; i < COUNT(windows); i += 2) {
		take_census(windows[i], i * page, length);
		release(windows[i]);
	}
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	close(file);
}

static void no_window_takes_no_piece_and_gives_none_back(void **state)
{
	const int fd = memfd_of((off_t)page_size());

	(void)state;
	errno = 0;
	assert_ptr_equal(alignmap_window_map(NULL, page_size(), PROT_READ, MAP_SHARED, fd, 0),
			 MAP_FAILED);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(alignmap_window_unmap(NULL, 0, page_size()), -1);
	assert_int_equal(errno, EINVAL);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_window_is_congruent_and_exactly_its_length_is_held),
		cmocka_unit_test(options_that_are_not_as_described_are_refused),
		cmocka_unit_test(no_window_takes_no_piece_and_gives_none_back),
		cmocka_unit_test(ranges_that_are_none_are_not_reserved),
		cmocka_unit_test(a_window_may_end_where_offsets_end),
		cmocka_unit_test(where_there_is_no_room_a_smaller_leaf_does_unless_strict),
		cmocka_unit_test(a_held_window_is_no_locked_memory),
		cmocka_unit_test(a_window_beyond_the_limit_of_locked_memory_is_refused),
		cmocka_unit_test(a_piece_shows_its_file_at_its_place),
		cmocka_unit_test(a_piece_outlives_its_descriptor),
		cmocka_unit_test(a_piece_takes_one_fault_a_leaf),
		cmocka_unit_test(a_piece_that_does_not_belong_changes_nothing),
		cmocka_unit_test(a_piece_that_the_kernel_refuses_leaves_its_place_held),
		cmocka_unit_test(a_piece_is_mapped_where_there_is_no_room_aside),
		cmocka_unit_test(a_piece_that_lands_elsewhere_is_unmapped_there),
		cmocka_unit_test(
			near_the_map_count_limit_a_shared_piece_is_mapped_or_its_place_held),
		cmocka_unit_test(
			near_the_map_count_limit_a_private_piece_is_mapped_or_its_place_held),
		cmocka_unit_test(at_the_map_count_limit_what_is_not_unmapped_is_still_there),
		cmocka_unit_test(at_the_map_count_limit_a_window_that_is_not_released_can_be_again),
		cmocka_unit_test(at_the_map_count_limit_what_is_not_trimmed_goes_with_the_window),
		cmocka_unit_test(a_piece_of_hugetlbfs_is_mapped_whole_or_not_at_all),
		cmocka_unit_test(a_piece_of_hugetlbfs_holds_what_it_should),
		cmocka_unit_test(
			a_piece_of_hugetlbfs_is_mapped_without_room_aside_or_its_place_held),
		cmocka_unit_test(what_is_unmapped_is_held_again),
		cmocka_unit_test(a_thousand_times_leave_the_address_space_as_it_was),
		cmocka_unit_test(the_query_says_what_was_done_in_any_order),
		cmocka_unit_test(ten_thousand_pieces_keep_their_order),
		cmocka_unit_test(what_is_released_is_gone_and_nothing_beside_it),
	};

	choose_way(argc, argv);
	return cmocka_run_group_tests(tests, warm_up, NULL);
}
