// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * How long a user waits for a BAR: maps BAR 2 of devices, whole and from the middle, at the address
 * that each way chooses, and prints the faults and the seconds of VFIO_IOMMU_MAP_DMA there. The
 * rules of others are written from their description. LD_PRELOAD=libalignmap.so must be set.
 *
 *	bars [--json] [--quick] BDF...
 */
#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "../tests/lab/device.h"
#include "rules.h"
#include "subject.h"
#include "turns.h"

#define MIB ((size_t)1 << 20)

/* Some 100,000 a second are taken here: what takes more than these is not tried. */
#define FAULTS_MAX ((size_t)1 << 20)

static bool json, quick, failed;
static struct utsname host;
static struct device device;
static struct subject subject;

static void *by_kernel(void)
{
	return map_plainly(&subject, NULL, 0);
}

static void *as_qemu_10(void)
{
	return map_at(&subject, alignment_of_qemu_10(subject.length), 0);
}

static void *as_cloud_hypervisor(void)
{
	return map_at(&subject, alignment_of_cloud_hypervisor(subject.length), 0);
}

static void *as_libpmem2(void)
{
	return map_at(&subject, alignment_of_libpmem2(subject.length), 0);
}

static void *by_api(void)
{
	return alignmap_mmap(NULL, subject.length, subject.prot, subject.flags, subject.fd,
			     (off_t)subject.offset);
}

static void *by_preload(void)
{
	return mmap(NULL, subject.length, subject.prot, subject.flags, subject.fd,
		    (off_t)subject.offset);
}

static void *by_hand(void)
{
	return map_at(&subject, leaves.size[0], subject.offset);
}

enum { KERNEL, QEMU_10, CLOUD_HYPERVISOR, LIBPMEM2, API, PRELOAD, HAND, WAYS };

static const struct {
	const char *name;
	void *(*map)(void);
	bool best; /* whether no address may take fewer faults */
} ways[WAYS] = {
	[KERNEL] = { "mmap", by_kernel, false },
	[QEMU_10] = { "QEMU 10", as_qemu_10, false },
	[CLOUD_HYPERVISOR] = { "Cloud Hypervisor", as_cloud_hypervisor, false },
	[LIBPMEM2] = { "libpmem2", as_libpmem2, false },
	[API] = { "alignmap_mmap", by_api, true },
	[PRELOAD] = { "preload", by_preload, true },
	[HAND] = { "by hand", by_hand, true },
};

static void *map(size_t way, struct row *row)
{
	void *address = ways[way].map();

	if (address == MAP_FAILED)
		die("mmap of %#zx bytes, %s", subject.length, ways[way].name);
	row->modulus = modulus_of(&leaves, &subject, address);
	row->plan = entries_at((uintptr_t)address, subject.offset, subject.length);
	return address;
}

static void expect(const char *what, size_t count, size_t expected, size_t way)
{
	if (count == expected)
		return;
	warnx("%#zx bytes at %#" PRIx64 ", %s: %zu %s, not %zu", subject.length, subject.offset,
	      ways[way].name, count, what, expected);
	failed = true;
}

/* VFIO takes a large BAR out again page by page: seconds, after which all caches are cold. */
static void warm_caches(void)
{
	const struct subject piece = { subject.fd, subject.prot, subject.flags, subject.offset,
				       2 * MIB };
	void *address = map_plainly(&piece, NULL, 0);

	if (address == MAP_FAILED)
		die("mmap of a piece");
	map_for_dma(&device, address, piece.length, piece.offset);
	munmap(address, piece.length);
}

static double measure(size_t way, struct row *row)
{
	void *address = map(way, row);
	struct dma_map dma;

	warm_caches();
	dma = map_for_dma(&device, address, subject.length, subject.offset);
	munmap(address, subject.length);
	row->faults = dma.faults;
	expect("faults", row->faults, row->plan, way);
	return dma.seconds * 1e9;
}

static int rounds_of(size_t way, const struct row *row)
{
	if (row->plan > FAULTS_MAX)
		return 0;
	/* VFIO takes what it mapped at once out again page by page: seconds for 64 GiB. */
	if (subject.length > 4 * GIB)
		return ways[way].best ? 21 : 3;
	return rounds_for(row->plan, quick ? 9 : ROUNDS_MAX);
}

/* What is to be expected of each way, which says how often it is tried. */
static void look(struct row *rows)
{
	struct alignmap_plan plan;

	if (alignmap_plan(&leaves, subject.length, subject.offset, &plan))
		die("alignmap_plan");
	for (size_t way = 0; way < WAYS; way++) {
		struct row *row = &rows[way];

		munmap(map(way, row), subject.length);
		if (ways[way].best)
			expect("entries", row->plan, plan.entries, way);
		row->rounds = rounds_of(way, row);
	}
}

static void print_json(size_t bar, uint64_t offset, const struct row *rows)
{
	for (size_t way = 0; way < WAYS; way++) {
		const struct row *row = &rows[way];

		printf("{\"benchmark\": \"bar-faults\", \"kernel\": \"%s\", \"bar\": %zu, "
		       "\"offset\": %" PRIu64 ", \"length\": %zu, \"way\": \"%s\", "
		       "\"modulus\": %zu, \"plan\": %zu, ",
		       host.release, bar, offset, subject.length, ways[way].name, row->modulus,
		       row->plan);
		if (!row->rounds) {
			printf("\"skipped\": \"so many faults take minutes\"}\n");
			continue;
		}
		printf("\"faults\": %zu, \"seconds\": %.7f, \"seconds_low\": %.7f, "
		       "\"seconds_high\": %.7f, \"rounds\": %d, ",
		       row->faults, row->spread.median / 1e9, row->spread.low / 1e9,
		       row->spread.high / 1e9, row->rounds);
		if (rows[KERNEL].rounds)
			printf("\"ratio\": %.4g, ", times_of(&rows[KERNEL], row));
		printf("\"to_best\": %.4g}\n", times_of(row, &rows[HAND]));
	}
}

static void print_head(void)
{
	printf("BARs on Linux %s, filled by VFIO_IOMMU_MAP_DMA. In software emulation the seconds "
	       "are good for ratios only.\n"
	       "RATIO: how many times faster than mmap. TO BEST: how many times the seconds of the "
	       "address by hand.\n\n"
	       "%5s %-6s %-16s %6s %9s %9s %10s %10s %10s %6s %9s %7s\n",
	       host.release, "BAR", "FROM", "WAY", "MODULO", "FAULTS", "PLAN", "SECONDS", "LOW",
	       "HIGH", "ROUNDS", "RATIO", "TO BEST");
}

static void print_row(const struct row *rows, size_t way)
{
	const struct row *row = &rows[way];

	printf("%-16s %6s ", ways[way].name, size_text(row->modulus).text);
	if (!row->rounds) {
		printf("%9s %9zu skipped: so many faults take minutes\n", "-", row->plan);
		return;
	}
	printf("%9zu %9zu %10.6f %10.6f %10.6f %6d ", row->faults, row->plan,
	       row->spread.median / 1e9, row->spread.low / 1e9, row->spread.high / 1e9,
	       row->rounds);
	if (rows[KERNEL].rounds)
		printf("%9.1f ", times_of(&rows[KERNEL], row));
	else
		printf("%9s ", "-");
	printf("%7.2f\n", times_of(row, &rows[HAND]));
}

static void print_rows(size_t bar, uint64_t offset, const struct row *rows)
{
	for (size_t way = 0; way < WAYS; way++) {
		printf("%5s %-6s ", size_text(bar).text, offset ? "middle" : "start");
		print_row(rows, way);
	}
}

static void compare(const struct vfio_region_info *bar, uint64_t offset)
{
	static struct row rows[WAYS];

	subject = (struct subject){
		.fd = device.fd,
		.prot = PROT_READ | PROT_WRITE,
		.flags = MAP_SHARED,
		.offset = bar->offset + offset,
		.length = bar->size - offset,
	};
	look(rows);
	take_turns(rows, WAYS, measure);
	(json ? print_json : print_rows)(bar->size, offset, rows);
}

/* The measuring code's own first pages and the device's first fault are not to be counted. */
static void warm_up(const struct vfio_region_info *bar)
{
	const struct subject first = { device.fd, PROT_READ | PROT_WRITE, MAP_SHARED, bar->offset,
				       base_page() };

	for (int i = 0; i < 2; i++) {
		void *address = map_plainly(&first, NULL, 0);

		if (address == MAP_FAILED)
			die("mmap of a page");
		map_for_dma(&device, address, first.length, first.offset);
		munmap(address, first.length);
	}
}

static void compare_bar(const char *bdf)
{
	struct vfio_region_info bar;

	open_device(&device, bdf);
	if (!device_region(&device, VFIO_PCI_BAR2_REGION_INDEX, &bar))
		die("BAR 2 of %s", bdf);
	warm_up(&bar);
	compare(&bar, 0);
	/* A page past the middle: within a leaf, of each size that the rest holds. */
	compare(&bar, bar.size / 2 + base_page());
	device_close(&device);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "quick", no_argument, NULL, 'q' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		json |= option == 'j';
		quick |= option == 'q';
		if (option == '?')
			optind = argc;
	}
	if (optind >= argc) {
		fputs("usage: bars [--json] [--quick] BDF...\n", stderr);
		return 2;
	}
	uname(&host);
	host.release[strcspn(host.release, "-+")] = '\0';
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!json)
		print_head();
	for (int i = optind; i < argc; i++)
		compare_bar(argv[i]);
	return failed;
}
