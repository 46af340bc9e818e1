// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What mmap(2) promises, kept at the addresses that we choose: each kind of memory, over offsets
 * and lengths in and out of leaf bounds, with the flags that do not concern the address.
 */
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/memfd.h>

/* A mapping to be made, and how often the kernel alone missed its address. */
struct cell {
	const char *backing;
	int fd;		  /* -1: anonymous */
	size_t unit;	  /* what the backing maps by, in bytes: its page */
	bool has_content; /* stamped, and free to be written */
	size_t most;	  /* the largest leaf that it is placed for */
	off_t offset;
	size_t length;
	int prot;
	int flags;
};

static struct address_space before, during, after;
static unsigned long cells, missed_by_kernel, all_cells;

static void fail_cell(const struct cell *cell, const char *claim, int line)
{
	print_error("line %d: not so: %s\n  %s, offset %#lx, length %#zx, prot %d, flags %#x\n",
		    line, claim, cell->backing, (unsigned long)cell->offset, cell->length,
		    cell->prot, (unsigned int)cell->flags);
	fail();
}

#define expect(claim)                                      \
	do {                                               \
		if (!(claim))                              \
			fail_cell(cell, #claim, __LINE__); \
	} while (0)

/* To a power of two. */
static size_t rounded(size_t length, size_t unit)
{
	return (length + unit - 1) & -unit;
}

/* Files bear a stamp on the first two pages and the last one of each PMD, else nothing. */
static bool is_stamped(uint64_t page)
{
	const uint64_t in_leaf = page % (pmd_size() / page_size());

	return in_leaf < 2 || in_leaf == pmd_size() / page_size() - 1;
}

static uint64_t stamp(uint64_t page)
{
	return is_stamped(page) ? page * 0x9e3779b97f4a7c15 + 1 : 0;
}

static void stamp_file(int fd, off_t length)
{
	for (uint64_t page = 0; page < (uint64_t)length / page_size(); page++) {
		const uint64_t value = stamp(page);

		if (value)
			assert_int_equal(
				pwrite(fd, &value, sizeof(value), (off_t)(page * page_size())),
				sizeof(value));
	}
}

/* The pages of a mapping that are looked at: its ends, and both sides of its leaf bounds. */
static size_t sample(const struct cell *cell, uint64_t *pages, size_t room)
{
	const uint64_t page = page_size();
	const uint64_t first = (uint64_t)cell->offset / page;
	const uint64_t end = first + rounded(cell->length, page) / page;
	const uint64_t per_pmd = pmd_size() / page, per_leaf = largest_leaf() / page;
	const uint64_t wanted[] = {
		first,
		first + 1,
		end - 2,
		end - 1,
		(first + end) / 2,
		rounded(first + 1, per_pmd) - 1,
		rounded(first + 1, per_pmd),
		end / per_pmd * per_pmd - 1,
		end / per_pmd * per_pmd,
		rounded(first + 1, per_leaf) - 1,
		rounded(first + 1, per_leaf),
	};
	size_t count = 0;

	for (size_t i = 0; i < COUNT(wanted) && count < room; i++)
		if (wanted[i] >= first && wanted[i] < end)
			pages[count++] = wanted[i];
	return count;
}

static void check_content(const struct cell *cell, char *mapping)
{
	const bool is_file = cell->fd >= 0;
	const bool shared = (cell->flags & MAP_TYPE) != MAP_PRIVATE;
	uint64_t pages[16];
	const size_t count = sample(cell, pages, COUNT(pages));

	for (size_t i = 0; i < count; i++) {
		const off_t at = (off_t)(pages[i] * page_size());
		volatile uint64_t *word = (void *)(mapping + (at - cell->offset));
		const uint64_t old = is_file ? stamp(pages[i]) : 0;
		uint64_t in_file = 0;

		expect(*word == old);
		if (!(cell->prot & PROT_WRITE))
			continue;
		*word = ~old;
		expect(*word == ~old);
		if (is_file) {
			expect(pread(cell->fd, &in_file, sizeof(in_file), at) == sizeof(in_file));
			expect(in_file == (shared ? ~old : old));
		}
		*word = old;
	}
}

/* A hole may never be found where the mapping is: exactly its pages have come, nothing beside. */
static void check_cell(const struct cell *cell)
{
	const size_t alignment = deserved(cell->length, (uint64_t)cell->offset, cell->most);
	const size_t whole = rounded(cell->length, cell->unit);
	char *mapping, *unaided;

	cells++;
	read_address_space(&before);
	errno = EXDEV;
	mapping = map(NULL, cell->length, cell->prot, cell->flags, cell->fd, cell->offset);
	expect(mapping != MAP_FAILED);
	expect(errno == EXDEV);
	expect(congruent(mapping, (uint64_t)cell->offset, alignment));
	if (cell->has_content)
		check_content(cell, mapping);
	read_address_space(&during);
	if (!SANITIZED)
		expect(during.pages == before.pages + whole / page_size());
	expect(munmap(mapping, whole) == 0);
	read_address_space(&after);
	assert_same_address_space(&before, &after);

	unaided = map_raw(NULL, cell->length, cell->prot, cell->flags, cell->fd, cell->offset);
	expect(unaided != MAP_FAILED);
	if (!congruent(unaided, (uint64_t)cell->offset, alignment))
		missed_by_kernel++;
	expect(munmap(unaided, whole) == 0);
}

static void check_grid(struct cell cell, const size_t *lengths, size_t length_count,
		       const size_t *offsets, size_t offset_count, size_t end)
{
	for (size_t i = 0; i < offset_count; i++) {
		for (size_t j = 0; j < length_count; j++) {
			const int flags = cell.flags;

			cell.offset = (off_t)offsets[i];
			cell.length = lengths[j];
			/* Of a leaf that is the file's page, nothing is left without one. */
			if (!lengths[j] || offsets[i] + lengths[j] > end)
				continue;
			/* Filling more than this takes long, and memory. */
			if (flags & MAP_POPULATE && lengths[j] > 4 * pmd_size())
				continue;
			/* Large ones would not be promised on a small machine. */
			if (lengths[j] > 64 * M)
				cell.flags |= MAP_NORESERVE;
			check_cell(&cell);
			cell.flags = flags;
		}
	}
}

static const struct {
	int prot;
	int flags;
} kinds[] = {
	{ PROT_READ, MAP_PRIVATE },
	{ PROT_READ | PROT_WRITE, MAP_PRIVATE },
	{ PROT_READ, MAP_SHARED },
	{ PROT_READ | PROT_WRITE, MAP_SHARED },
	{ PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE },
	{ PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE },
	{ PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE },
	{ PROT_READ, MAP_PRIVATE | MAP_POPULATE },
	{ PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE },
	{ PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_POPULATE },
};

static void report_kernel(void)
{
	print_message("# the kernel alone missed %lu of %lu addresses\n", missed_by_kernel, cells);
	all_cells += cells;
	cells = missed_by_kernel = 0;
}

/* Two of the largest leaves, and some more to begin behind their start. */
static size_t file_length(void)
{
	return 2 * largest_leaf() + 8 * pmd_size();
}

static void check_file(const char *backing, int fd)
{
	const size_t page = page_size(), pmd = pmd_size(), leaf = largest_leaf();
	const size_t offsets[] = {
		0, page, pmd - page, pmd, pmd + page, leaf - pmd, leaf - page, leaf, leaf + page,
	};
	const size_t lengths[] = {
		1,
		page,
		pmd - page,
		pmd - 1,
		pmd,
		pmd + 1,
		pmd + page,
		2 * pmd - page,
		2 * pmd - 1,
		2 * pmd,
		2 * pmd + 5,
		5 * pmd + page,
		leaf - page,
		leaf,
		leaf + 1,
		leaf + pmd,
		2 * leaf - page,
	};
	struct cell cell = {
		.backing = backing,
		.fd = fd,
		.unit = page,
		.most = leaf,
		.has_content = true,
	};

	stamp_file(fd, (off_t)file_length());
	for (size_t i = 0; i < COUNT(kinds); i++) {
		cell.prot = kinds[i].prot;
		cell.flags = kinds[i].flags;
		check_grid(cell, lengths, COUNT(lengths), offsets, COUNT(offsets), file_length());
	}
	close(fd);
	report_kernel();
}

static void a_memfd_is_placed_and_holds_what_it_should(void **state)
{
	(void)state;
	check_file("memfd", memfd_of((off_t)file_length()));
}

/* A file of that length in the first of these directories that is on such a file system. */
static int file_on(unsigned long magic, const char *name, const char *const *directories)
{
	struct statfs status;

	for (; *directories; directories++) {
		int fd;

		if (statfs(*directories, &status) || (unsigned long)status.f_type != magic)
			continue;
		fd = unlinked_file_in(*directories, (off_t)file_length());
		if (fd >= 0)
			return fd;
	}
	skip_because("no directory on %s where one may write", name);
	return -1;
}

static void a_file_on_tmpfs_is_placed_and_holds_what_it_should(void **state)
{
	static const char *const directories[] = { "/dev/shm", "/tmp", "/run", NULL };

	(void)state;
	check_file("tmpfs", file_on(TMPFS_MAGIC, "tmpfs", directories));
}

static void a_file_on_ext4_is_placed_and_holds_what_it_should(void **state)
{
	static const char *const directories[] = { ".", "/var/tmp", "/tmp", "/home", NULL };

	(void)state;
	check_file("ext4", file_on(EXT4_SUPER_MAGIC, "ext4", directories));
}

/*
 * The hole that the kernel would choose is made to end so far above the one good address in it:
 * file systems that align for themselves look at what is free there.
 */
static void check_below(struct cell *cell, size_t room_above)
{
	const size_t alignment = deserved(cell->length, (uint64_t)cell->offset, cell->most);
	const size_t hole = cell->length + alignment + pmd_size() - page_size();
	char *found = map_raw(NULL, hole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *end = found + hole;
	size_t above;

	expect(found != MAP_FAILED);
	expect(munmap(found, hole) == 0);
	above = ((uintptr_t)end - (uintptr_t)cell->offset - cell->length - room_above) &
		(alignment - 1);
	if (above)
		expect(map_raw(end - above, above, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			       0) == end - above);
	check_cell(cell);
	if (above)
		expect(munmap(end - above, above) == 0);
}

static void check_below_all(const char *backing, int fd)
{
	const size_t page = page_size(), pmd = pmd_size();
	const size_t rooms[] = { 0, page, pmd - page, pmd, pmd + page };

	for (size_t i = 0; i < COUNT(rooms); i++) {
		for (off_t offset = 0; offset < 3 * (off_t)page; offset += (off_t)page) {
			struct cell cell = {
				.backing = backing,
				.fd = fd,
				.unit = page,
				.most = largest_leaf(),
				.offset = offset,
				.length = 2 * largest_leaf(),
				.prot = PROT_READ,
				.flags = MAP_SHARED,
			};

			check_below(&cell, rooms[i]);
			cell.flags = MAP_PRIVATE;
			check_below(&cell, rooms[i]);
		}
	}
	close(fd);
	report_kernel();
}

static void a_hole_that_ends_just_above_a_good_address_will_do(void **state)
{
	static const char *const directories[] = { ".", "/var/tmp", "/tmp", "/home", NULL };

	(void)state;
	check_below_all("memfd", memfd_of((off_t)file_length()));
	check_below_all("ext4", file_on(EXT4_SUPER_MAGIC, "ext4", directories));
}

static void a_file_opened_for_reading_is_placed(void **state)
{
	int writable = memfd_of((off_t)(8 * pmd_size()));
	struct cell cell = {
		.backing = "read-only memfd",
		.unit = page_size(),
		.most = largest_leaf(),
		.has_content = true,
		.length = 4 * pmd_size(),
		.offset = (off_t)page_size(),
		.prot = PROT_READ,
	};
	char path[64];

	(void)state;
	stamp_file(writable, (off_t)(8 * pmd_size()));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", writable);
	cell.fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(cell.fd >= 0);
	cell.flags = MAP_SHARED;
	check_cell(&cell);
	cell.flags = MAP_PRIVATE;
	check_cell(&cell);
	cell.prot = PROT_READ | PROT_WRITE;
	check_cell(&cell);
	close(cell.fd);
	close(writable);
	report_kernel();
}

/* The preload places it from 32 MiB on (and only when asked to; the test is run so). */
static void anonymous_memory_is_placed_modulo_the_pmd_and_empty(void **state)
{
	const size_t page = page_size(), pmd = pmd_size(), leaf = largest_leaf();
	const size_t lengths[] = {
		1,
		page,
		pmd - page,
		pmd,
		2 * pmd + page + 1,
		rounded(32 * M, pmd),
		rounded(32 * M, pmd) + 1,
		rounded(33 * M, pmd) + page,
		leaf,
		leaf + pmd + page,
	};
	const size_t offsets[] = { 0 };
	struct cell cell = {
		.backing = "anonymous memory",
		.fd = -1,
		.unit = page,
		.has_content = true,
	};

	(void)state;
	for (size_t i = 0; i < COUNT(kinds); i++) {
		/* The kernel refuses this type without a file. */
		if ((kinds[i].flags & MAP_TYPE) == MAP_SHARED_VALIDATE)
			continue;
		cell.prot = kinds[i].prot;
		cell.flags = kinds[i].flags | MAP_ANONYMOUS;
		for (size_t j = 0; j < COUNT(lengths); j++) {
			cell.most = way == WAY_API || lengths[j] >= 32 * M ? pmd : page;
			check_grid(cell, &lengths[j], 1, offsets, 1, SIZE_MAX);
		}
	}
	report_kernel();
}

/*
 * Only the pages of a file on hugetlbfs that are touched or reserved must be there: where none are
 * kept on this machine its placement can be seen all the same.
 */
static int hugetlb_file(off_t length)
{
	int fd = memfd_create("alignmap-test", MFD_CLOEXEC | MFD_HUGETLB);

	if (fd < 0)
		skip_because("no hugetlbfs: %s", strerror(errno));
	assert_int_equal(ftruncate(fd, length), 0);
	return fd;
}

static size_t huge_page_of(int fd)
{
	struct statfs status;

	assert_int_equal(fstatfs(fd, &status), 0);
	return (size_t)status.f_bsize;
}

static void a_file_on_hugetlbfs_is_placed(void **state)
{
	const size_t leaf = largest_leaf();
	int fd = hugetlb_file((off_t)file_length());
	const size_t huge = huge_page_of(fd);
	const size_t offsets[] = { 0, huge, leaf - huge, leaf };
	const size_t lengths[] = { page_size(), huge, huge + page_size(), 3 * huge,
				   leaf - huge, leaf, leaf + 1,		  leaf + huge };
	struct cell cell = {
		.backing = "hugetlbfs",
		.fd = fd,
		.unit = huge,
		.most = leaf,
		.prot = PROT_READ | PROT_WRITE,
	};

	(void)state;
	cell.flags = MAP_SHARED | MAP_NORESERVE;
	check_grid(cell, lengths, COUNT(lengths), offsets, COUNT(offsets), file_length());
	cell.flags = MAP_PRIVATE | MAP_NORESERVE;
	check_grid(cell, lengths, COUNT(lengths), offsets, COUNT(offsets), file_length());
	close(fd);
	report_kernel();
}

#define HUGE_PAGES 4

static long read_number(const char *path)
{
	FILE *counter = fopen(path, "re");
	long number = -1;

	if (!counter)
		return -1;
	if (fscanf(counter, "%ld", &number) != 1)
		number = -1;
	fclose(counter);
	return number;
}

/* Returns by how much it changed: the kernel gives what it has. */
static long change_number(const char *path, long by)
{
	const long old = read_number(path);
	FILE *counter = fopen(path, "we");

	if (!counter)
		return 0;
	fprintf(counter, "%ld\n", old + by);
	fclose(counter);
	return read_number(path) - old;
}

/*
 * Adds huge pages to the machine's, for as long as the returned descriptor is open in this process:
 * a child takes away again what it added, however the test ends. Tests of this kind wait for each
 * other. Returns -1 if there were not that many to be had.
 */
static int keep_huge_pages(const char *path, pid_t *keeper)
{
	int lock = open(path, O_RDONLY | O_CLOEXEC);
	int until[2], ready[2];
	char enough = 'n';

	assert_true(lock >= 0);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	assert_int_equal(pipe2(until, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	fflush(NULL);
	*keeper = fork();
	assert_true(*keeper >= 0);
	if (*keeper == 0) {
		long added;

		setsid();
		close(until[1]);
		close(STDOUT_FILENO);
		added = change_number(path, HUGE_PAGES);
		enough = added == HUGE_PAGES ? 'y' : 'n';
		if (write(ready[1], &enough, 1) == 1)
			while (read(until[0], &enough, 1) > 0)
				;
		/* What is still in use stays, until it is not. */
		for (int i = 0; added > 0 && i < 200; i++) {
			added += change_number(path, -added);
			if (added > 0)
				usleep(10000);
		}
		_exit(added > 0);
	}
	close(until[0]);
	close(ready[1]);
	close(lock);
	if (read(ready[0], &enough, 1) != 1 || enough != 'y') {
		close(until[1]);
		until[1] = -1;
	}
	close(ready[0]);
	return until[1];
}

static void a_file_on_hugetlbfs_holds_what_it_should(void **state)
{
	int fd = hugetlb_file((off_t)file_length());
	const size_t huge = huge_page_of(fd), length = 2 * huge + page_size();
	char path[128];
	pid_t keeper;
	int keeping, status;
	char *mapping, *again;
	bool good;

	(void)state;
	if (geteuid() != 0)
		skip_because("needs root, to set nr_hugepages");
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%zukB/nr_hugepages",
		 huge >> 10);
	keeping = keep_huge_pages(path, &keeper);
	if (keeping < 0) {
		waitpid(keeper, NULL, 0);
		skip_because("this machine has not %d huge pages free", HUGE_PAGES);
	}
	/* One that the keeper has no share in. */
	close(fd);
	fd = hugetlb_file((off_t)file_length());
	mapping = map(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)huge);
	again = map_raw(NULL, 4 * huge, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	good = mapping != MAP_FAILED && again != MAP_FAILED && congruent(mapping, huge, huge);
	/* The third page comes whole, though the length ends in it. */
	for (size_t at = 0; good && at < 3 * huge; at += page_size())
		mapping[at] = (char)(1 + at / page_size() % 127);
	for (size_t at = 0; good && at < 3 * huge; at += page_size())
		good = again[huge + at] == (char)(1 + at / page_size() % 127);
	if (mapping != MAP_FAILED)
		good &= munmap(mapping, 3 * huge) == 0;
	if (again != MAP_FAILED)
		munmap(again, 4 * huge);
	close(fd);
	close(keeping);
	assert_int_equal(waitpid(keeper, &status, 0), keeper);
	assert_int_equal(status, 0);
	assert_true(good);
}

static void mappings_of_one_file_see_each_other(void **state)
{
	int fd = memfd_of((off_t)(8 * pmd_size()));
	const size_t length = 4 * pmd_size();
	char *mappings[16];

	(void)state;
	for (size_t i = 0; i < COUNT(mappings); i++) {
		mappings[i] = map(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
				  (off_t)(i * page_size()));
		assert_ptr_not_equal(mappings[i], MAP_FAILED);
		assert_true(congruent(mappings[i], i * page_size(), pmd_size()));
	}
	mappings[0][16 * page_size()] = 'a';
	for (size_t i = 0; i < COUNT(mappings); i++)
		assert_int_equal(mappings[i][(16 - i) * page_size()], 'a');
	for (size_t i = 0; i < COUNT(mappings); i++)
		assert_int_equal(munmap(mappings[i], length), 0);
	close(fd);
}

/* The same is seen of every mapping above; here of many at once, and of such as fail. */
static void what_is_unmapped_leaves_nothing_behind(void **state)
{
	int fd = memfd_of((off_t)file_length());
	const size_t length = 4 * pmd_size();
	char *mappings[64];

	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer maps for itself (VmSize)");
	read_address_space(&before);
	for (size_t i = 0; i < COUNT(mappings); i++) {
		mappings[i] =
			map(NULL, length, PROT_READ, MAP_SHARED, fd, (off_t)(i * page_size()));
		assert_ptr_not_equal(mappings[i], MAP_FAILED);
		assert_ptr_equal(map(NULL, length, PROT_READ, MAP_SHARED, -1, 0), MAP_FAILED);
		assert_ptr_equal(map(NULL, length, PROT_READ, 0, fd, 0), MAP_FAILED);
	}
	read_address_space(&during);
	assert_int_equal(during.pages, before.pages + COUNT(mappings) * length / page_size());
	for (size_t i = 0; i < COUNT(mappings); i++)
		assert_int_equal(munmap(mappings[i], length), 0);
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_memfd_is_placed_and_holds_what_it_should),
		cmocka_unit_test(a_file_on_tmpfs_is_placed_and_holds_what_it_should),
		cmocka_unit_test(a_file_on_ext4_is_placed_and_holds_what_it_should),
		cmocka_unit_test(a_hole_that_ends_just_above_a_good_address_will_do),
		cmocka_unit_test(a_file_opened_for_reading_is_placed),
		cmocka_unit_test(anonymous_memory_is_placed_modulo_the_pmd_and_empty),
		cmocka_unit_test(a_file_on_hugetlbfs_is_placed),
		cmocka_unit_test(a_file_on_hugetlbfs_holds_what_it_should),
		cmocka_unit_test(mappings_of_one_file_see_each_other),
		cmocka_unit_test(what_is_unmapped_leaves_nothing_behind),
	};

	int failed;

	choose_way(argc, argv);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (!failed && getenv("SETTING")) {
		char tried[64];

		snprintf(tried, sizeof(tried), "%lu mappings", all_cells);
		report_limit("", tried, "each at the address that it deserves");
	}
	return failed;
}
