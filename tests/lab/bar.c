// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a VMM does with a BAR, without its threads: opens the device through its VFIO group, maps
 * pieces of one BAR shared and writable, maps each for DMA, and tells how many faults the kernel
 * took for that one ioctl, beside the number that was to be expected.
 *
 * It is linked with the archive, which has no mmap, so that LD_PRELOAD decides about its own.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "device.h"

enum expectation {
	EXPECT_PLAN,	/* what alignmap_plan() promises, at an address that it asks for */
	EXPECT_ADDRESS, /* what follows from the address, wherever it is */
	EXPECT_PAGES,	/* a fault for each base page, as where a policy forbids larger leaves */
};

static struct {
	const char *name;  /* of the way, in what is printed */
	const char *label; /* of the circumstances, in what is printed */
	enum expectation expect;
	bool api;
	bool madvise;
	bool tap;
	bool touch;
	bool wait;
} ask = { .name = "mmap", .label = "", .expect = EXPECT_ADDRESS };

static struct device device;

static struct {
	uint64_t offset; /* of the BAR, in the device's file */
	uint64_t length;
} bar;

struct mapping {
	uint64_t offset; /* in the BAR */
	size_t length;
	void *address;
	struct dma_map dma;
	size_t tables; /* of its page-table entries, in bytes */
};

static bool failed;

static void open_bar(const char *bdf, unsigned int index)
{
	struct vfio_region_info region;

	open_device(&device, bdf);
	if (!device_region(&device, index, &region))
		die("VFIO_DEVICE_GET_REGION_INFO of BAR %u", index);
	if (!(region.flags & VFIO_REGION_INFO_FLAG_MMAP)) {
		errno = ENODEV;
		die("BAR %u of %s", index, bdf);
	}
	bar.offset = region.offset;
	bar.length = region.size;
}

static void map_piece(struct mapping *mapping)
{
	off_t offset = (off_t)(bar.offset + mapping->offset);
	int prot = PROT_READ | PROT_WRITE;

	if (ask.api)
		mapping->address =
			alignmap_mmap(NULL, mapping->length, prot, MAP_SHARED, device.fd, offset);
	else
		mapping->address = mmap(NULL, mapping->length, prot, MAP_SHARED, device.fd, offset);
	if (mapping->address == MAP_FAILED)
		die("mmap of %#zx bytes at %#" PRIx64, mapping->length, mapping->offset);
	if (ask.madvise && madvise(mapping->address, mapping->length, MADV_HUGEPAGE) < 0)
		die("MADV_HUGEPAGE");
}

/* All page tables of this process, in bytes. */
static size_t page_tables(void)
{
	return proc_bytes("/proc/self/status", "VmPTE");
}

static void map_bar(struct mapping *mapping)
{
	const size_t before = page_tables();

	map_piece(mapping);
	mapping->dma = map_for_dma(&device, mapping->address, mapping->length, mapping->offset);
	mapping->tables = page_tables() - before;
	munmap(mapping->address, mapping->length);
}

/* The largest leaf size modulo which the address agrees with the offset. */
static size_t agreement(const struct mapping *mapping)
{
	uintptr_t difference = (uintptr_t)mapping->address - mapping->offset;
	unsigned int i = 0;

	while (difference & (leaves.size[i] - 1))
		i++;
	return leaves.size[i];
}

static void judge(const struct mapping *mapping, const char *length, const char *offset)
{
	struct alignmap_plan plan;
	size_t expected = entries_at((uintptr_t)mapping->address, mapping->offset, mapping->length);
	bool ok = true;

	if (alignmap_plan(&leaves, mapping->length, bar.offset + mapping->offset, &plan) < 0)
		die("alignmap_plan");
	if (ask.expect == EXPECT_PLAN) {
		ok = agreement(mapping) >= plan.alignment && expected == plan.entries;
		expected = plan.entries;
	} else if (ask.expect == EXPECT_PAGES) {
		expected = page_align(mapping->length) / base_page();
	}
	ok = ok && mapping->dma.faults == expected;
	failed = failed || !ok;
	if (ask.tap)
		printf("%sok - %s%s, %s at %s: %zu faults%s\n", ok ? "" : "not ", ask.name,
		       ask.label, length, offset, mapping->dma.faults, ok ? "" : ", see below");
	if (!ask.tap || !ok)
		printf("%sway=%s offset=%#" PRIx64 " length=%#zx address=%p alignment=%#zx "
		       "faults=%zu expected=%zu tables=%zu seconds=%.6f\n",
		       ask.tap ? "# " : "", ask.name, mapping->offset, mapping->length,
		       mapping->address, agreement(mapping), mapping->dma.faults, expected,
		       mapping->tables, mapping->dma.seconds);
	fflush(stdout);
}

/* A size that has a name, which @at is then moved behind. */
static bool parse_name(const char **at, uint64_t *size)
{
	const struct {
		const char *name;
		uint64_t size;
	} names[] = {
		{ "all", bar.length },
		{ "half", bar.length / 2 },
		{ "page", base_page() },
		{ "PMD", leaves.count > 1 ? leaves.size[leaves.count - 2] : base_page() },
	};

	for (size_t i = 0; i < COUNT(names); i++) {
		size_t length = strlen(names[i].name);

		if (strncmp(*at, names[i].name, length) == 0) {
			*size = names[i].size;
			*at += length;
			return true;
		}
	}
	return false;
}

/* Sums of sizes such as 1G-4K, and of names: page, PMD, all of the BAR and half of it. */
static uint64_t parse(const char *text)
{
	const char *at = text;
	uint64_t sum = 0, term;
	bool minus = false;
	char *end;

	for (;;) {
		if (!parse_name(&at, &term)) {
			term = strtoull(at, &end, 0);
			if (end == at)
				break;
			at = end;
			switch (*at) {
			case 'G': /* NOLINT(bugprone-branch-clone): it falls through */
				term <<= 10;
				/* fall through */
			case 'M':
				term <<= 10;
				/* fall through */
			case 'K':
				term <<= 10;
				at++;
			}
		}
		sum = minus ? sum - term : sum + term;
		if (!*at)
			return sum;
		if (*at != '+' && *at != '-')
			break;
		minus = *at++ == '-';
	}
	fprintf(stderr, "bar: %s is no size: write a sum such as 1G-4K, all-PMD or half+page\n",
		text);
	exit(2);
}

static bool map_and_judge(const char *length, const char *offset, uint64_t limit)
{
	struct mapping mapping = { .offset = parse(offset), .length = parse(length) };

	if (mapping.offset >= bar.length || mapping.length > limit ||
	    page_align(mapping.length) > bar.length - mapping.offset)
		return false;
	map_bar(&mapping);
	judge(&mapping, length, offset);
	return true;
}

/*
 * Around the bounds of each leaf, below and above, in place and in length. A kernel may need a
 * second for a gigabyte, so the long ones are mapped from fewer places, and can be shared among
 * several runs: the @share-th of @shares maps every @shares-th.
 */
static void grid(uint64_t limit, unsigned int share, unsigned int shares)
{
	unsigned int turn = 0;
	static const char *const places[] = {
		"0", "page", "PMD", "1G-PMD", "1G-page", "1G", "1G+page", "all-PMD-PMD-PMD",
	};
	static const char *const more_places[] = {
		"PMD-page", "PMD+page", "PMD+PMD+PMD", "half-page", "half+PMD+PMD-page",
	};
	static const char *const long_ones[] = {
		"1G-PMD", "1G-page", "1G", "1G+page", "1G+PMD", "all-PMD-PMD", "all-page", "all",
	};
	static const char *const short_ones[] = {
		"page",		  "page+page+1", "64K",		 "PMD-page", "PMD",
		"PMD+1",	  "PMD+page",	 "PMD+PMD-page", "PMD+PMD",  "PMD+PMD+page+page",
		"PMD+PMD+1M+123", "64M-1",
	};

	for (size_t i = 0; i < COUNT(places); i++)
		for (size_t j = 0; j < COUNT(long_ones); j++)
			if (turn++ % shares == share % shares)
				map_and_judge(long_ones[j], places[i], limit);
	for (size_t j = 0; j < COUNT(short_ones); j++) {
		for (size_t i = 0; i < COUNT(places); i++)
			map_and_judge(short_ones[j], places[i], limit);
		for (size_t i = 0; i < COUNT(more_places); i++)
			map_and_judge(short_ones[j], more_places[i], limit);
	}
}

/* Maps it, and reads once from each page. */
static void map_and_touch(const char *length, const char *offset)
{
	struct mapping mapping = { .offset = parse(offset), .length = parse(length) };

	map_piece(&mapping);
	for (size_t i = 0; i < mapping.length; i += base_page())
		(void)((const volatile char *)mapping.address)[i];
}

/* Maps it, and holds it for those who look at this process. */
static void map_and_wait(const char *length, const char *offset)
{
	struct mapping mapping = { .offset = parse(offset), .length = parse(length) };

	map_piece(&mapping);
	printf("address=%p\n", mapping.address);
	fflush(stdout);
	while (getchar() != EOF)
		;
}

/* The measuring code's own first pages and the device's first fault are not to be counted. */
static void warm_up(void)
{
	struct mapping mapping = { .length = base_page() };

	for (int i = 0; i < 2; i++) {
		map_bar(&mapping);
		agreement(&mapping);
	}
}

static void usage(int status)
{
	fputs("usage: bar [option...] BDF\n"
	      "  -r, --region=N      the BAR's number (2)\n"
	      "  -o, --offset=SIZE   of the mapping in the BAR (0)\n"
	      "  -l, --length=SIZE   of the mapping (all)\n"
	      "  -g, --grid=LIMIT    a grid of offsets and lengths up to LIMIT instead\n"
	      "  -s, --share=N/M     the Nth of M shares of the grid's long mappings\n"
	      "  -a, --api           map by alignmap_mmap instead of mmap\n"
	      "  -m, --madvise       MADV_HUGEPAGE on each mapping\n"
	      "  -d, --thp-disable   PR_SET_THP_DISABLE for the process\n"
	      "  -e, --expect=WHAT   plan, address (what follows from it; the default) or pages\n"
	      "  -n, --name=NAME     of the way, for the output\n"
	      "  -t, --tap           print TAP\n"
	      "  -L, --label=LABEL   that follows NAME in it\n"
	      "  -T, --touch         map, not for DMA, and read once from each page\n"
	      "  -w, --wait          map, not for DMA, and wait for the end of the input\n"
	      "Sizes are sums such as 1G-4K, all-PMD (of the BAR), half+page.\n",
	      status ? stderr : stdout);
	exit(status);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "region", required_argument, NULL, 'r' },
		{ "offset", required_argument, NULL, 'o' },
		{ "length", required_argument, NULL, 'l' },
		{ "grid", required_argument, NULL, 'g' },
		{ "share", required_argument, NULL, 's' },
		{ "api", no_argument, NULL, 'a' },
		{ "madvise", no_argument, NULL, 'm' },
		{ "thp-disable", no_argument, NULL, 'd' },
		{ "expect", required_argument, NULL, 'e' },
		{ "name", required_argument, NULL, 'n' },
		{ "tap", no_argument, NULL, 't' },
		{ "label", required_argument, NULL, 'L' },
		{ "touch", no_argument, NULL, 'T' },
		{ "wait", no_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *offset = "0", *length = "all", *limit = NULL;
	unsigned int region = VFIO_PCI_BAR2_REGION_INDEX;
	unsigned int share = 0, shares = 1;
	int option;

	while ((option = getopt_long(argc, argv, "r:o:l:g:s:amde:n:tL:Twh", options, NULL)) != -1) {
		switch (option) {
		case 'r':
			region = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'o':
			offset = optarg;
			break;
		case 'l':
			length = optarg;
			break;
		case 'g':
			limit = optarg;
			break;
		case 's':
			if (sscanf(optarg, "%u/%u", &share, &shares) != 2 || !shares)
				usage(2);
			break;
		case 'a':
			ask.api = true;
			break;
		case 'm':
			ask.madvise = true;
			break;
		case 'd':
			if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) < 0)
				die("PR_SET_THP_DISABLE");
			break;
		case 'e':
			if (strcmp(optarg, "plan") == 0)
				ask.expect = EXPECT_PLAN;
			else if (strcmp(optarg, "address") == 0)
				ask.expect = EXPECT_ADDRESS;
			else if (strcmp(optarg, "pages") == 0)
				ask.expect = EXPECT_PAGES;
			else
				usage(2);
			break;
		case 'n':
			ask.name = optarg;
			break;
		case 't':
			ask.tap = true;
			break;
		case 'L':
			ask.label = optarg;
			break;
		case 'T':
			ask.touch = true;
			break;
		case 'w':
			ask.wait = true;
			break;
		case 'h':
			usage(0);
			break;
		default:
			usage(2);
		}
	}
	if (optind != argc - 1)
		usage(2);

	open_bar(argv[optind], region);
	if (ask.touch) {
		map_and_touch(length, offset);
		return 0;
	}
	if (ask.wait) {
		map_and_wait(length, offset);
		return 0;
	}
	warm_up();
	if (limit) {
		grid(parse(limit), share, shares);
	} else if (!map_and_judge(length, offset, UINT64_MAX)) {
		fprintf(stderr, "bar: %s at %s is not inside the BAR\n", length, offset);
		return 2;
	}
	return failed;
}
