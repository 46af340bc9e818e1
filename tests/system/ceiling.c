// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A mapping is placed for the largest leaf of the host, and page cache can use no more than the
 * PMD. What that costs is address space, and for an instant: exactly the reservation that is said.
 * The same mapping is then made where it is congruent modulo the PMD alone, and counted alike.
 */
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Sixteen PMDs apart, so that huge pages need not be many. */
#define STRIDE 16

struct cost {
	size_t pages;	      /* of address space */
	unsigned long tables; /* of page tables, in KiB */
	size_t resident;      /* in memory, in pages */
	long faults;
};

/* A row of /proc/self/status in KiB, by no call that could allocate. */
static unsigned long status_kib(const char *row)
{
	static char status[8192];
	const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	const ssize_t filled = fd < 0 ? -1 : read(fd, status, sizeof(status) - 1);
	const char *found;

	if (filled < 0)
		abort();
	close(fd);
	status[filled] = '\0';
	found = strstr(status, row);
	return found ? strtoul(found + strlen(row), NULL, 10) : 0;
}

static struct cost now(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (struct cost){
		.pages = status_kib("\nVmSize:") * 1024 / page_size(),
		.tables = status_kib("\nVmPTE:"),
		.resident = resident_pages(),
		.faults = usage.ru_minflt,
	};
}

/* What there is more than before once a page of every so many PMDs has been written. */
static struct cost cost_of(const struct cost *before, char *mapping, size_t length)
{
	struct cost cost;

	for (size_t at = 0; at < length; at += STRIDE * pmd_size())
		*(volatile char *)(mapping + at) = 1;
	cost = now();
	cost.pages -= before->pages;
	cost.tables -= before->tables;
	cost.resident -= before->resident;
	cost.faults -= before->faults;
	return cost;
}

/* The same mapping by the library, and then where the PMD is all that it is congruent for. */
static int map_both(int file, size_t length, struct cost *placed, struct cost *lesser)
{
	const int flags = MAP_SHARED | MAP_NORESERVE, access = PROT_READ | PROT_WRITE;
	const size_t pmd = pmd_size();
	struct cost before = now();
	char *mapping = map(NULL, length, access, flags, file, 0), *other;

	REQUIRE(mapping != MAP_FAILED && congruent(mapping, 0, largest_leaf()));
	*placed = cost_of(&before, mapping, length);
	REQUIRE(munmap(mapping, length) == 0);
	REQUIRE(ftruncate(file, 0) == 0 && ftruncate(file, (off_t)length) == 0);

	before = now();
	/* Up to there the reservation was free. */
	other = map_raw(mapping + pmd, length, access, flags | MAP_FIXED_NOREPLACE, file, 0);
	REQUIRE(other == mapping + pmd);
	*lesser = cost_of(&before, other, length);
	REQUIRE(munmap(other, length) == 0);
	REQUIRE(ftruncate(file, 0) == 0 && ftruncate(file, (off_t)length) == 0);
	return 0;
}

static int compare_with_a_lesser_place(void)
{
	const size_t page = page_size(), pmd = pmd_size(), leaf = largest_leaf();
	const size_t length = 2 * leaf, reservation = length + leaf - page + pmd;
	const int file = memfd_of((off_t)length);
	const struct cost start = now();
	struct cost placed, lesser;

	REQUIRE(map_both(file, length, &placed, &lesser) == 0);
	/* A child's peak begins anew (kernel/fork.c, dup_mmap). */
	REQUIRE(status_kib("\nVmPeak:") * 1024 == start.pages * page + reservation);
	/* Counting has all that it needs now, and then so has placing by a remembered window. */
	for (int warm = 0; warm < 2; warm++)
		REQUIRE(map_both(file, length, &placed, &lesser) == 0);

	printf("# page cache at %zu MiB and at %zu MiB: address space %zu and %zu MiB, page tables "
	       "%lu and %lu KiB, resident %zu and %zu KiB, faults %ld and %ld; reserved for an "
	       "instant %zu MiB\n",
	       leaf / M, pmd / M, placed.pages * page / M, lesser.pages * page / M, placed.tables,
	       lesser.tables, placed.resident * page / 1024, lesser.resident * page / 1024,
	       placed.faults, lesser.faults, reservation / M);
	fflush(stdout);
	REQUIRE(placed.pages == length / page && lesser.pages == length / page);
	REQUIRE(placed.faults == lesser.faults);
	REQUIRE(placed.faults == (long)(length / pmd / STRIDE));
	REQUIRE(placed.resident == lesser.resident);
	REQUIRE(placed.tables <= lesser.tables);
	return 0;
}

static void a_leaf_above_what_page_cache_can_use_costs_address_space_alone(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer maps and faults for itself");
	if (largest_leaf() == pmd_size())
		skip_because("this host has no leaf that page cache cannot use");
	assert_int_equal(end_of(compare_with_a_lesser_place), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_leaf_above_what_page_cache_can_use_costs_address_space_alone),
	};

	choose_way(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
