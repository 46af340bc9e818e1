// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * An address space that is full but for one hole, and offsets of more than 32 bits: where addresses
 * are scarce, as on a 32-bit machine. Each call is compared with the system call itself. The ways
 * are those of system.h; no cmocka, so that it can be built for machines that have none.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alignmap.h"
#include "raw.h"
#include "sanitized.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef void *mmap_call(void *, size_t, int, int, int, off64_t);

/* In calls.c. */
mmap_call call_mmap, call_mmap64;

static const char *way;
static mmap_call *map;
static struct alignmap_leaves leaves;
static size_t page, pmd, leaf;
static int file;
static unsigned long calls, granted;

static void *hold(size_t length)
{
	return raw_mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			0);
}

static bool congruent(const void *mapping, size_t alignment)
{
	return (uintptr_t)mapping % alignment == 0;
}

/* The first cell of a row, as report_limit() of system.c has them. */
static void report(const char *limit)
{
	const char *setting = getenv("SETTING");

	printf("# trust limits|%s%s%s, %d bits|", setting ? setting : "", setting ? ", " : "",
	       limit, (int)(8 * sizeof(long)));
}

/* Nothing is allowed to allocate once the address space is full: no stdio but standard error's. */
#define REQUIRE(claim)                                                                    \
	do {                                                                              \
		if (!(claim)) {                                                           \
			fprintf(stderr, "# line %d: not so: %s (%s)\n", __LINE__, #claim, \
				strerror(errno));                                         \
			return false;                                                     \
		}                                                                         \
	} while (0)

static bool read_maps(char *text, size_t room)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	ssize_t more = 0;
	size_t filled = 0;

	while (fd >= 0 && (more = read(fd, text + filled, room - 1 - filled)) > 0)
		filled += (size_t)more;
	text[filled] = '\0';
	close(fd);
	return fd >= 0 && !more && filled < room - 1;
}

/* Takes all that can be had, down to the last page. */
static void fill(void)
{
	for (size_t length = SIZE_MAX / 2 + 1; length >= page; length /= 2)
		while (hold(length) != MAP_FAILED)
			;
}

/* What a hole must have for a placement, by what the API's documentation says it takes. */
static size_t room_for(size_t length, size_t size)
{
	return length + size - page + pmd;
}

/* The largest leaf size, up to @most, for which it has. */
static size_t expected(size_t length, size_t hole, size_t most)
{
	for (unsigned int i = 0; i < leaves.count - 1; i++)
		if (leaves.size[i] <= most && length >= leaves.size[i] &&
		    hole >= room_for(length, leaves.size[i]))
			return leaves.size[i];
	return page;
}

static const struct {
	const char *name;
	int prot, flags;
	bool of_file;
} kinds[] = {
	{ "shared", PROT_READ, MAP_SHARED, true },
	{ "private", PROT_READ, MAP_PRIVATE, true },
	{ "reservation", PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, false },
	/* Not writable: that might be more memory than is promised. */
	{ "anonymous", PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, false },
};

/* Whether the preload, which is asked for ANON=all, places it. */
static bool is_placed(size_t kind, size_t length)
{
	return kinds[kind].of_file || strcmp(way, "api") == 0 || length >= (size_t)32 << 20;
}

/* One call by both ways, in an address space whose largest hole is at @start. */
static bool compare(size_t kind, char *hint, size_t length, char *start, size_t hole)
{
	static char before[64 << 10], after[64 << 10];
	const int fd = kinds[kind].of_file ? file : -1;
	const size_t most = kinds[kind].of_file ? leaf : pmd;
	void *theirs, *ours;
	int their_errno, our_errno;

	REQUIRE(read_maps(before, sizeof(before)));
	errno = EXDEV;
	theirs = raw_mmap(hint, length, kinds[kind].prot, kinds[kind].flags, fd, 0);
	their_errno = errno;
	if (theirs != MAP_FAILED)
		REQUIRE(munmap(theirs, length) == 0);
	errno = EXDEV;
	ours = map(hint, length, kinds[kind].prot, kinds[kind].flags, fd, 0);
	our_errno = errno;
	if (ours != MAP_FAILED)
		REQUIRE(munmap(ours, length) == 0);
	REQUIRE(read_maps(after, sizeof(after)));
	calls++;
	granted += theirs != MAP_FAILED;
	if ((ours == MAP_FAILED) == (theirs == MAP_FAILED) && our_errno == their_errno &&
	    (theirs == MAP_FAILED) == (length > hole) && strcmp(before, after) == 0 &&
	    (ours == MAP_FAILED || hint || !is_placed(kind, length) ||
	     congruent(ours, expected(length, hole, most))))
		return true;
	fprintf(stderr,
		"# %s, length %#zx, hint %p, hole %#zx at %p: %p (%s), system call %p (%s)\n",
		kinds[kind].name, length, (void *)hint, hole, (void *)start, ours,
		strerror(our_errno), theirs, strerror(their_errno));
	return false;
}

static bool compare_in_hole(size_t length, char *start, size_t hole)
{
	bool good = true;

	for (size_t kind = 0; kind < COUNT(kinds); kind++) {
		good &= compare(kind, NULL, length, start, hole);
		/* A hint that lies in the hole, and one that is taken. */
		good &= compare(kind, start + page, length, start, hole);
		good &= compare(kind, start - 16 * page, length, start, hole);
	}
	return good;
}

static bool take_back(char *start, size_t hole)
{
	REQUIRE(raw_mmap(start, hole, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
			 0) == start);
	return true;
}

/* That begin at a multiple of the PMD, and beside one. */
static bool map_in_holes(char *first, size_t length, size_t hole, size_t most)
{
	bool good = true;

	/* A length of one page has no hole that is smaller. */
	for (size_t i = 0; i < 2 && hole && hole <= most; i++) {
		char *start = first + i * page;

		REQUIRE(munmap(start, hole) == 0);
		good &= compare_in_hole(length, start, hole);
		good &= take_back(start, hole);
	}
	return good;
}

static char *first_pmd(char *arena)
{
	return (char *)(((uintptr_t)arena + 2 * pmd - 1) & ~(uintptr_t)(pmd - 1));
}

/* Holes from too small for the mapping to large enough for any reservation. */
static bool map_where_one_hole_is_left(void)
{
	const size_t lengths[] = { page,     pmd - page,  pmd,	pmd + page, 4 * pmd,
				   32 * pmd, leaf - page, leaf, leaf + pmd };
	const size_t most = leaf + pmd + leaf + pmd;
	char *arena = hold(most + 2 * pmd);
	char *first = first_pmd(arena);
	bool good = true;

	REQUIRE(arena != MAP_FAILED);
	fill();
	for (size_t i = 0; i < COUNT(lengths); i++) {
		const size_t length = lengths[i];
		const size_t holes[] = {
			page,	       length - page,	    length,
			length + page, length + pmd - page, length + leaf - page,
		};

		for (size_t j = 0; j < COUNT(holes); j++)
			good &= map_in_holes(first, length, holes[j], most);
		for (unsigned int j = 0; j < leaves.count - 1; j++) {
			const size_t room = room_for(length, leaves.size[j]);

			good &= map_in_holes(first, length, room - page, most);
			good &= map_in_holes(first, length, room, most);
		}
	}
	return good;
}

/*
 * Several holes, from the lowest one on; together they would often do for a larger leaf than the
 * largest of them has room for.
 */
static bool map_in_fragments(void)
{
	const struct {
		size_t length, holes[5];
	} cases[] = {
		{ leaf, { leaf - page, room_for(leaf, pmd) } },
		{ leaf, { room_for(leaf, pmd), leaf - page } },
		{ leaf, { room_for(leaf, pmd) - page, leaf } },
		{ leaf, { 2 * pmd, room_for(leaf, leaf), 4 * pmd } },
		{ leaf, { 2 * pmd, room_for(leaf, leaf) - page, 4 * pmd } },
		{ 4 * pmd, { 4 * pmd, 5 * pmd, room_for(4 * pmd, pmd), 5 * pmd, 4 * pmd } },
		{ 4 * pmd, { 4 * pmd, 5 * pmd, room_for(4 * pmd, pmd) - page, 5 * pmd, 4 * pmd } },
		{ 6 * pmd, { 4 * pmd, 5 * pmd, 5 * pmd, 5 * pmd, 4 * pmd } },
	};
	char *arena = hold(2 * leaf + 48 * pmd);
	bool good = true;

	REQUIRE(arena != MAP_FAILED);
	fill();
	for (size_t i = 0; i < COUNT(cases); i++) {
		/* Beside a multiple of any leaf. */
		char *starts[COUNT(cases[0].holes)] = { NULL }, *next = first_pmd(arena) + page;
		size_t largest = 0;

		for (size_t j = 0; j < COUNT(starts) && cases[i].holes[j]; j++) {
			starts[j] = next;
			next = first_pmd(next + cases[i].holes[j]) + page;
			REQUIRE(munmap(starts[j], cases[i].holes[j]) == 0);
			if (cases[i].holes[j] > cases[i].holes[largest])
				largest = j;
		}
		for (size_t kind = 0; kind < COUNT(kinds); kind++)
			good &= compare(kind, NULL, cases[i].length, starts[largest],
					cases[i].holes[largest]);
		for (size_t j = 0; j < COUNT(starts) && cases[i].holes[j]; j++)
			good &= take_back(starts[j], cases[i].holes[j]);
	}
	return good;
}

/* How many mappings fill a hole, by the system call; by ours, each compared before it is kept. */
static bool fill_a_hole(size_t length, size_t hole, unsigned int *theirs, unsigned int *ours)
{
	char *arena = hold(hole), *mapping;
	static char *made[1024];

	REQUIRE(arena != MAP_FAILED);
	fill();
	REQUIRE(munmap(arena, hole) == 0);
	*theirs = *ours = 0;
	while (*theirs < COUNT(made)) {
		made[*theirs] = raw_mmap(NULL, length, PROT_READ, MAP_SHARED, file, 0);
		if (made[*theirs] == MAP_FAILED)
			break;
		++*theirs;
	}
	for (unsigned int i = 0; i < *theirs; i++)
		REQUIRE(munmap(made[i], length) == 0);
	do {
		mapping = raw_mmap(NULL, length, PROT_READ, MAP_SHARED, file, 0);
		if (mapping != MAP_FAILED)
			REQUIRE(munmap(mapping, length) == 0);
		errno = EXDEV;
		made[0] = map(NULL, length, PROT_READ, MAP_SHARED, file, 0);
		REQUIRE((made[0] == MAP_FAILED) == (mapping == MAP_FAILED));
		REQUIRE(errno == (mapping == MAP_FAILED ? ENOMEM : EXDEV));
		calls++;
		*ours += made[0] != MAP_FAILED;
		granted += made[0] != MAP_FAILED;
	} while (made[0] != MAP_FAILED && *ours < COUNT(made));
	REQUIRE(*ours && *theirs && *ours < COUNT(made));
	return true;
}

static bool fill_holes_with(size_t length)
{
	const size_t hole = 2 * leaf + 5 * pmd + page;
	unsigned int theirs, ours;
	char limit[64];

	REQUIRE(fill_a_hole(length, hole, &theirs, &ours));
	/* Gaps between placed mappings are the price; each holds less than a mapping. */
	snprintf(limit, sizeof(limit), "a hole of %zu KiB filled", hole >> 10);
	report(limit);
	printf("mappings of %zu MiB until mmap refuses one|%u, by mmap alone %u; the same call is "
	       "refused\n",
	       length >> 20, ours, theirs);
	return true;
}

static bool fill_a_hole_with_large_leaves(void)
{
	return fill_holes_with(leaf);
}

static bool fill_a_hole_with_pmds(void)
{
	return fill_holes_with(4 * pmd);
}

/*
 * Offsets that a long may not hold: what is mapped lies there, and what the C library's own mmap
 * refuses is refused alike.
 */
static bool map_far_offsets(void)
{
	const bool narrow = strcmp(way, "mmap") == 0 && sizeof(long) == 4;
	const int64_t offsets[] = {
		0,
		(int64_t)1 << 31,
		(int64_t)3 << 30,
		((int64_t)1 << 32) - 4096,
		(int64_t)1 << 32,
		((int64_t)1 << 32) + 4096,
		((int64_t)5 << 40) + 4096,
		((int64_t)1 << 44) - (int64_t)(4 * pmd),
		((int64_t)1 << 44) - 4096,
		(int64_t)1 << 44,
		(int64_t)1 << 50,
		-4096,
		-((int64_t)1 << 40),
		1,
		4095,
		-1,
		((int64_t)1 << 32) + 1,
		INT64_MAX,
		INT64_MAX - 4095,
		INT64_MIN,
	};
	const int fd = memfd_create("alignmap-test", MFD_CLOEXEC);
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	mmap_call *library = NULL;

	if (libc)
		library = __extension__(mmap_call *) dlsym(libc, "mmap64");
	REQUIRE(fd >= 0 && library);
	for (size_t i = 0; i < COUNT(offsets); i++) {
		/* What a caller's off_t cannot say is cut off before it reaches anybody. */
		const int64_t offset = narrow ? (int64_t)(uint32_t)offsets[i] : offsets[i];
		const size_t lengths[] = { page, 4 * pmd };

		pwrite(fd, &offset, sizeof(offset), offset);
		for (size_t j = 0; j < COUNT(lengths); j++) {
			int64_t *theirs, *ours;
			int their_errno;

			errno = EXDEV;
			theirs = library(NULL, lengths[j], PROT_READ, MAP_SHARED, fd, offset);
			their_errno = errno;
			errno = EXDEV;
			ours = map(NULL, lengths[j], PROT_READ, MAP_SHARED, fd, offset);
			calls++;
			granted += theirs != MAP_FAILED;
			REQUIRE((ours == MAP_FAILED) == (theirs == MAP_FAILED));
			REQUIRE(errno == their_errno);
			if (ours == MAP_FAILED)
				continue;
			REQUIRE(*theirs == *ours && *ours == offset);
			REQUIRE(munmap(theirs, lengths[j]) == 0 && munmap(ours, lengths[j]) == 0);
		}
	}
	return true;
}

/* It cannot grow any more once the address space is full. */
static __attribute__((noinline)) void touch_stack(void)
{
	volatile char stack[512 << 10];

	for (size_t at = 0; at < sizeof(stack); at += page)
		stack[at] = 0;
}

/* A child does it, which need not live in what is left. */
static bool passes(bool (*test)(void), const char *limit)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		bool good;

		touch_stack();
		alarm(100);
		good = test() && calls > granted && granted;
		if (good && limit) {
			report(limit);
			printf("%lu calls, of which the kernel grants %lu|%lu as the system call\n",
			       calls, granted, calls);
		}
		fflush(stdout);
		_exit(!good);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool choose_way(const char *name)
{
	const struct {
		const char *name;
		mmap_call *call;
	} ways[] = {
		{ "api", alignmap_mmap },
		{ "mmap", call_mmap },
		{ "mmap64", call_mmap64 },
		{ "raw", raw_mmap },
	};

	way = name;
	for (size_t i = 0; name && i < COUNT(ways); i++)
		if (strcmp(ways[i].name, name) == 0)
			map = ways[i].call;
	return map;
}

int main(int argc, char **argv)
{
	const struct {
		const char *name;
		bool (*test)(void);
		const char *limit;
	} tests[] = {
		{ "a_mapping_is_made_where_one_hole_is_left_that_holds_it",
		  map_where_one_hole_is_left, "an address space with one hole" },
		{ "a_mapping_is_placed_by_the_largest_leaf_that_a_fragment_has_room_for",
		  map_in_fragments, NULL },
		{ "a_hole_is_filled_until_the_system_call_refuses", fill_a_hole_with_large_leaves,
		  NULL },
		{ "a_hole_is_filled_by_small_leaves_until_the_system_call_refuses",
		  fill_a_hole_with_pmds, NULL },
		{ "an_offset_is_what_it_is_to_the_c_library", map_far_offsets,
		  "offsets up to 64 bits" },
	};
	struct alignmap_leaves anonymous;
	int failed = 0;

	if (!choose_way(argc > 1 ? argv[1] : NULL)) {
		fprintf(stderr, "%s: the first argument is api, mmap, mmap64 or raw\n", argv[0]);
		return 2;
	}
	alignmap_host_leaves(ALIGNMAP_ANY, &leaves);
	page = leaves.size[leaves.count - 1];
	leaf = leaves.size[0];
	alignmap_host_leaves(ALIGNMAP_ANONYMOUS, &anonymous);
	pmd = anonymous.size[0];
	if (SANITIZED || pmd == page) {
		printf("1..0 # SKIP %s\n", SANITIZED ? "a sanitizer needs its address space"
						     : "this host has no leaf above the base page");
		return 0;
	}
	file = memfd_create("alignmap-test", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, (off_t)(4 * pmd)))
		return 2;
	printf("1..%zu\n", COUNT(tests));
	for (size_t i = 0; i < COUNT(tests); i++) {
		const bool good = passes(tests[i].test, tests[i].limit);

		printf("%sok %zu - %s\n", good ? "" : "not ", i + 1, tests[i].name);
		failed |= !good;
	}
	return failed;
}
