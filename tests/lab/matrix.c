// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a VMM does with memory of any kind: maps pieces of it, by mmap or by the library, and keeps
 * them. It prints how many lie at addresses that are congruent with their offsets modulo 2 MiB and
 * 1 GiB, of those that hold a whole such block. Some it touches, page by page, and tells how many
 * faults that took, how much of them is mapped large, and by how many bytes of page tables.
 *
 * The pieces are the same in each run. It is linked with the archive, which has no mmap, so that
 * LD_PRELOAD decides about its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../tools/maps.h"
#include "device.h"

#define PMD ((size_t)2 << 20)
#define GIB ((size_t)1 << 30)

/* Of Linux 6.7 and later: <linux/fs.h> may be older. */
#ifndef PAGEMAP_SCAN
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_HUGE (1 << 6)

struct page_region {
	uint64_t start, end, categories;
};

struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#endif

static struct {
	bool api;
	bool advise;	    /* MADV_HUGEPAGE on what is touched */
	bool write;	    /* touch by writing */
	bool empty;	    /* the file is made anew */
	bool fill;	    /* and its first @contents bytes are written */
	bool from_start;    /* every piece begins with the first byte */
	bool reserve;	    /* PROT_NONE first, memory over it by MAP_FIXED */
	size_t multiple;    /* of which offsets and lengths are multiples */
	size_t least;	    /* the shortest length */
	uint64_t contents;  /* what is touched lies in so many bytes */
	unsigned int count; /* of pieces */
	unsigned int touch_short, touch_long;
} ask = { .multiple = 4096, .least = PMD, .count = 1000, .touch_short = 16 };

static struct {
	int fd;		 /* -1: anonymous memory */
	uint64_t offset; /* where it begins in the file */
	uint64_t extent; /* how much of it there is */
	int prot, flags;
} backing = { .fd = -1, .prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED };

struct piece {
	uint64_t offset; /* in the file */
	size_t length;
	char *address;
};

static struct {
	unsigned int errors;
	unsigned int congruent[2], of[2]; /* modulo a PMD, and modulo 1 GiB */
	size_t faults, large, by_smaps, touched, tables, planned;
} result;

static uint64_t round_up(uint64_t number, uint64_t to)
{
	return (number + to - 1) & ~(to - 1);
}

static size_t whole_blocks(const struct piece *piece, uint64_t block)
{
	uint64_t start = round_up(piece->offset, block);
	uint64_t end = (piece->offset + piece->length) & ~(block - 1);

	return end > start ? (end - start) / block : 0;
}

/* A multiple of @multiple between @least and @most. */
static uint64_t some(uint64_t least, uint64_t most, uint64_t multiple)
{
	uint64_t random = (uint64_t)rand() << 31 | (uint64_t)rand();

	least = round_up(least, multiple);
	return least + (most > least ? random % ((most - least) / multiple + 1) * multiple : 0);
}

/*
 * A piece that holds a whole @block, of @extent. Each second one is made of whole PMDs, as most of
 * what is mapped. What is touched begins with a multiple of 64 KiB: the kernel maps small pages of
 * a file by so many at once, and of another offset a congruent address may take a fault more.
 */
static struct piece some_piece(size_t block, uint64_t extent, bool whole, bool touched)
{
	const size_t multiple = whole && ask.multiple < PMD ? PMD : ask.multiple;
	const size_t start = touched && multiple < 65536 ? 65536 : multiple;
	uint64_t most = block < GIB ? ask.least + 14 * (1 << 20) : 2 * GIB;
	struct piece piece = { 0 };

	do {
		piece.length = some(block > ask.least ? block : ask.least,
				    most < extent ? most : extent, multiple);
		piece.offset = backing.offset;
		if (!ask.from_start)
			piece.offset += some(0, extent - piece.length, start);
	} while (!whole_blocks(&piece, block) ||
		 piece.offset + piece.length > backing.offset + extent);
	return piece;
}

static void *map(size_t length, int prot, int flags, int fd, off_t offset)
{
	if (ask.api)
		return alignmap_mmap(NULL, length, prot, flags, fd, offset);
	return mmap(NULL, length, prot, flags, fd, offset);
}

static bool map_piece(struct piece *piece)
{
	off_t offset = (off_t)piece->offset;

	if (ask.reserve) {
		piece->address = map(piece->length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (piece->address != MAP_FAILED)
			piece->address = mmap(piece->address, piece->length, backing.prot,
					      backing.flags | MAP_FIXED, backing.fd, offset);
	} else {
		piece->address =
			map(piece->length, backing.prot, backing.flags, backing.fd, offset);
	}
	if (piece->address != MAP_FAILED)
		return true;
	if (!result.errors++)
		fprintf(stderr, "matrix: mmap of %#zx bytes at %#" PRIx64 ": %s\n", piece->length,
			piece->offset, strerror(errno));
	return false;
}

/* What large entries map of it, or 0 where the kernel cannot tell. */
static size_t large_by_scan(const struct piece *piece)
{
	struct page_region regions[64] = { 0 };
	const uintptr_t end = (uintptr_t)piece->address + piece->length;
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = (uintptr_t)piece->address,
		.end = end,
		.vec = (uintptr_t)regions,
		.vec_len = COUNT(regions),
		.category_mask = PAGE_IS_HUGE,
		.return_mask = PAGE_IS_HUGE,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t large = 0;
	int filled = 0;

	/* musl's ioctl takes an int. */
	while (scan.start < end && (filled = ioctl(fd, (int)PAGEMAP_SCAN, &scan)) >= 0) {
		for (int i = 0; i < filled; i++)
			large += regions[i].end - regions[i].start;
		scan.start = scan.walk_end;
		scan.walk_end = 0;
	}
	if (filled < 0 && errno != ENOTTY)
		die("PAGEMAP_SCAN");
	close(fd);
	return large;
}

/* The same by another count, which takes pages of hugetlbfs whole and so cannot be compared. */
static size_t large_by_smaps(const struct piece *piece)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	struct maps maps = { 0 };
	size_t large = 0;

	if (!file || !maps_read(file, &maps))
		die("/proc/self/smaps");
	for (size_t i = 0; i < maps.count; i++)
		if (!(maps.mappings[i].flags & OF_HUGETLB) &&
		    maps.mappings[i].address >= (uintptr_t)piece->address &&
		    maps.mappings[i].address < (uintptr_t)piece->address + piece->length)
			large += maps.mappings[i].huge;
	maps_free(&maps);
	fclose(file);
	return large;
}

static size_t page_tables(void)
{
	return proc_bytes("/proc/self/status", "VmPTE");
}

static size_t faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (size_t)(usage.ru_minflt + usage.ru_majflt);
}

static void touch_pages(const struct piece *piece)
{
	for (volatile char *page = piece->address; page < piece->address + piece->length;
	     page += base_page())
		if (ask.write)
			*page = 1;
		else
			(void)*page;
}

static void touch(const struct piece *piece, size_t tables_before)
{
	struct alignmap_plan plan;
	size_t before;

	if (alignmap_plan(&leaves, piece->length, piece->offset, &plan) < 0)
		die("alignmap_plan");
	result.planned += plan.entries;
	if (ask.advise && madvise(piece->address, piece->length, MADV_HUGEPAGE) < 0)
		die("MADV_HUGEPAGE");
	before = faults();
	touch_pages(piece);
	result.faults += faults() - before;
	result.tables += page_tables() - tables_before;
	result.touched += whole_blocks(piece, PMD);
	result.large += large_by_scan(piece);
	result.by_smaps += large_by_smaps(piece);
	/* There may be too little memory for all of them. */
	if (backing.fd < 0)
		madvise(piece->address, piece->length, MADV_DONTNEED);
}

static void count_congruent(const struct piece *piece)
{
	static const size_t blocks[] = { PMD, GIB };

	for (size_t i = 0; i < COUNT(blocks); i++) {
		if (!whole_blocks(piece, blocks[i]))
			continue;
		result.of[i]++;
		if (!(((uintptr_t)piece->address - piece->offset) & (blocks[i] - 1)))
			result.congruent[i]++;
	}
}

/* Each fourth piece holds a whole GiB, where the backing has room for it. */
static void map_all(void)
{
	unsigned int touched[2] = { 0 };

	for (unsigned int turn = 0; turn < ask.count; turn++) {
		const bool lengthy = turn % 4 == 3 && backing.extent >= GIB + GIB / 4;
		const bool to_touch = touched[lengthy] <
				      (lengthy ? ask.touch_long : ask.touch_short);
		struct piece piece = some_piece(lengthy || ask.multiple == GIB ? GIB : PMD,
						to_touch ? ask.contents : backing.extent,
						(lengthy ? turn / 4 : turn) % 2 && backing.fd >= 0,
						to_touch);
		const size_t tables = to_touch ? page_tables() : 0;

		if (!map_piece(&piece))
			continue;
		count_congruent(&piece);
		if (to_touch) {
			touch(&piece, tables);
			touched[lengthy]++;
		}
	}
}

static void empty(void)
{
	if (ftruncate(backing.fd, 0) < 0 || ftruncate(backing.fd, (off_t)backing.extent) < 0)
		die("ftruncate");
}

static void fill(void)
{
	const size_t step = 2 * PMD;
	char *bytes = malloc(step);

	if (!bytes)
		die("malloc");
	memset(bytes, 1, step);
	/* Where a file system cannot, it writes all the same. */
	if (fallocate(backing.fd, 0, 0, (off_t)ask.contents) < 0 && errno != EOPNOTSUPP)
		die("fallocate");
	for (uint64_t at = 0; at < ask.contents; at += step)
		if (pwrite(backing.fd, bytes, step, (off_t)at) != (ssize_t)step)
			die("pwrite");
	free(bytes);
	if (fsync(backing.fd) < 0 && errno != EINVAL)
		die("fsync");
}

/* A region is open as long as this is. */
static struct device device;

static void open_bar(const char *bdf)
{
	struct vfio_region_info region;

	open_device(&device, bdf);
	if (!device_region(&device, VFIO_PCI_BAR2_REGION_INDEX, &region))
		die("VFIO_DEVICE_GET_REGION_INFO");
	backing.fd = device.fd;
	backing.offset = region.offset;
	backing.extent = region.size;
}

static void open_file(const char *path)
{
	off_t end;

	backing.fd = open(path, O_RDWR | O_CLOEXEC);
	if (backing.fd < 0 && errno == EROFS) {
		backing.fd = open(path, O_RDONLY | O_CLOEXEC);
		backing.prot = PROT_READ;
	}
	if (backing.fd < 0)
		die("%s", path);
	/* A device's file has no end. */
	end = lseek(backing.fd, 0, SEEK_END);
	if (end > 0)
		backing.extent = (uint64_t)end;
}

static void open_backing(const char *name, uint64_t length)
{
	if (strncmp(name, "vfio:", 5) == 0) {
		open_bar(name + 5);
	} else if (strcmp(name, "memfd") == 0) {
		backing.fd = memfd_create("matrix", MFD_CLOEXEC);
		if (backing.fd < 0 || ftruncate(backing.fd, (off_t)length) < 0)
			die("memfd");
	} else if (strcmp(name, "anonymous") == 0 || strcmp(name, "hugetlb") == 0) {
		backing.flags = MAP_PRIVATE | MAP_ANONYMOUS;
		if (name[0] == 'h')
			backing.flags |= MAP_HUGETLB;
		backing.extent = GIB;
		ask.from_start = true;
	} else {
		open_file(name);
	}
	/* A file may be mapped further than it goes. */
	if (length)
		backing.extent = length;
	if (!ask.contents || ask.contents > backing.extent)
		ask.contents = backing.extent;
}

static uint64_t parse(const char *text)
{
	char *end;
	uint64_t number = strtoull(text, &end, 0);

	switch (*end) {
	case 'G':
		return number << 30;
	case 'M':
		return number << 20;
	case 'K':
		return number << 10;
	default:
		return number;
	}
}

static void usage(int status)
{
	fputs("usage: matrix [option...] BACKING\n"
	      "  BACKING is a file, vfio:BDF (of which BAR 2), memfd, anonymous, or hugetlb\n"
	      "  (MAP_HUGETLB); its pieces are mapped shared, but for the last two.\n"
	      "  -n, --count=N        pieces (1000)\n"
	      "  -l, --length=SIZE    of the backing (all of it)\n"
	      "  -m, --multiple=SIZE  of which offsets and lengths are multiples (4K)\n"
	      "  -s, --least=SIZE     the shortest length (2M)\n"
	      "  -o, --at=OFFSET      where the backing begins in the file (0)\n"
	      "  -0, --from-start     all pieces begin with the first byte\n"
	      "  -r, --reserve        reserve PROT_NONE, and map over that with MAP_FIXED\n"
	      "  -t, --touch=N        touch so many short pieces (16)\n"
	      "  -T, --touch-long=N   and so many that hold a whole GiB (0)\n"
	      "  -c, --contents=SIZE  touch only what lies in so many bytes (all)\n"
	      "  -e, --empty          make the file anew\n"
	      "  -f, --fill           and write these\n"
	      "  -w, --write          touch by writing\n"
	      "  -H, --advise         MADV_HUGEPAGE on what is touched\n"
	      "  -a, --api            map by alignmap_mmap instead of mmap\n"
	      "A size may end with K, M or G.\n",
	      status ? stderr : stdout);
	exit(status);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "count", required_argument, NULL, 'n' },
		{ "length", required_argument, NULL, 'l' },
		{ "multiple", required_argument, NULL, 'm' },
		{ "least", required_argument, NULL, 's' },
		{ "at", required_argument, NULL, 'o' },
		{ "from-start", no_argument, NULL, '0' },
		{ "reserve", no_argument, NULL, 'r' },
		{ "touch", required_argument, NULL, 't' },
		{ "touch-long", required_argument, NULL, 'T' },
		{ "contents", required_argument, NULL, 'c' },
		{ "empty", no_argument, NULL, 'e' },
		{ "fill", no_argument, NULL, 'f' },
		{ "write", no_argument, NULL, 'w' },
		{ "advise", no_argument, NULL, 'H' },
		{ "api", no_argument, NULL, 'a' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static char warm;
	uint64_t length = 0;
	int option;

	while ((option = getopt_long(argc, argv, "n:l:m:s:o:0rt:T:c:efwHah", options, NULL)) !=
	       -1) {
		switch (option) {
		case 'n':
			ask.count = (unsigned int)parse(optarg);
			break;
		case 'l':
			length = parse(optarg);
			break;
		case 'm':
			ask.multiple = parse(optarg);
			break;
		case 's':
			ask.least = parse(optarg);
			break;
		case 'o':
			backing.offset = parse(optarg);
			break;
		case '0':
			ask.from_start = true;
			break;
		case 'r':
			ask.reserve = true;
			break;
		case 't':
			ask.touch_short = (unsigned int)parse(optarg);
			break;
		case 'T':
			ask.touch_long = (unsigned int)parse(optarg);
			break;
		case 'c':
			ask.contents = parse(optarg);
			break;
		case 'e':
			ask.empty = true;
			break;
		case 'f':
			ask.empty = ask.fill = true;
			break;
		case 'w':
			ask.write = true;
			break;
		case 'H':
			ask.advise = true;
			break;
		case 'a':
			ask.api = true;
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

	if (alignmap_host_leaves(ALIGNMAP_ANY, &leaves) < 0)
		die("alignmap_host_leaves");
	open_backing(argv[optind], length);
	if (ask.empty)
		empty();
	if (ask.fill)
		fill();
	else if (backing.fd >= 0)
		posix_fadvise(backing.fd, 0, 0, POSIX_FADV_DONTNEED);
	/* The first pages of what measures are not to be counted. */
	touch_pages(&(struct piece){ .address = &warm, .length = 1 });
	page_tables();
	map_all();
	printf("errors=%u pmd=%u pmds=%u pud=%u puds=%u faults=%zu large=%zu smaps=%zu blocks=%zu "
	       "tables=%zu planned=%zu\n",
	       result.errors, result.congruent[0], result.of[0], result.congruent[1], result.of[1],
	       result.faults, result.large / PMD, result.by_smaps / PMD, result.touched,
	       result.tables / 1024, result.planned);
	return 0;
}
