// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Maps a BAR piece by piece around holes, by this library and by the rules of VMMs, and prints a
 * row of a table for each set of holes: the faults of VFIO_IOMMU_MAP_DMA of all the pieces. The
 * rules are written from their description, none is another program's code.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include <alignmap-vfio.h>

#include "../../bench/rules.h"
#include "device.h"

#define MIB (1ULL << 20)
#define PIECES_MAX 4

struct piece {
	uint64_t offset; /* from the BAR's start */
	uint64_t length;
	uintptr_t address;
};

struct layout {
	const char *name;
	struct alignmap_vfio_hole holes[2]; /* by rising offset, whole pages */
	size_t hole_count;
};

static struct device device;
static struct vfio_region_info bar;
static bool failed;

static size_t pieces_of(const struct layout *layout, struct piece *pieces)
{
	uint64_t at = 0;
	size_t count = 0;

	for (size_t i = 0; i <= layout->hole_count; i++) {
		const struct alignmap_vfio_hole *hole = &layout->holes[i];
		uint64_t end = i < layout->hole_count ? hole->offset : bar.size;

		if (end > at)
			pieces[count++] = (struct piece){ at, end - at, 0 };
		if (i < layout->hole_count)
			at = hole->offset + hole->length;
	}
	return count;
}

static uintptr_t map_at(const struct piece *piece, uintptr_t address, int flags)
{
	void *mapping = mmap((void *)address, piece->length, PROT_READ | PROT_WRITE,
			     MAP_SHARED | flags, device.fd, (off_t)(bar.offset + piece->offset));

	if (mapping == MAP_FAILED)
		die("mmap of %#" PRIx64 " bytes at %#" PRIx64, piece->length, piece->offset);
	return (uintptr_t)mapping;
}

/* The first multiple of @alignment in a reservation, of which nothing is kept. */
static uintptr_t aligned_place(uint64_t length, uint64_t alignment)
{
	void *start = mmap(NULL, length + alignment, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED)
		die("a reservation of %#" PRIx64 " bytes", length + alignment);
	munmap(start, length + alignment);
	return ((uintptr_t)start + alignment - 1) & ~(alignment - 1);
}

static void plainly(struct piece *pieces, size_t count)
{
	for (size_t i = 0; i < count; i++)
		pieces[i].address = map_at(&pieces[i], 0, 0);
}

/* Each piece at a multiple of the lowest set bit of its length. */
static void as_qemu_10(struct piece *pieces, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t length = pieces[i].length;
		uintptr_t place = aligned_place(length, alignment_of_qemu_10(length));

		pieces[i].address = map_at(&pieces[i], place, MAP_FIXED);
	}
}

/* Each piece at a multiple of the power of two over its length. */
static void as_cloud_hypervisor(struct piece *pieces, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t alignment = alignment_of_cloud_hypervisor(pieces[i].length);
		uintptr_t place = aligned_place(pieces[i].length, alignment);

		pieces[i].address = map_at(&pieces[i], place, MAP_FIXED);
	}
}

/* The region at a multiple of the power of two over its length, each piece at its place in it. */
static void as_qemu_11(struct piece *pieces, size_t count)
{
	uintptr_t place = aligned_place(bar.size, alignment_of_cloud_hypervisor(bar.size));

	for (size_t i = 0; i < count; i++)
		pieces[i].address = map_at(&pieces[i], place + pieces[i].offset, MAP_FIXED);
}

/* Takes all the pieces' faults; each must be those that follow from its address. */
static size_t faults_of(const struct piece *pieces, size_t count)
{
	size_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		const struct piece *piece = &pieces[i];
		uint64_t offset = bar.offset + piece->offset;
		size_t expected = entries_at(piece->address, offset, piece->length);
		struct dma_map dma =
			map_for_dma(&device, (void *)piece->address, piece->length, offset);

		if (dma.faults != expected) {
			printf("# %#" PRIx64 " bytes at %#" PRIx64 ", address %#zx: %zu faults, "
			       "not %zu\n",
			       piece->length, piece->offset, (size_t)piece->address, dma.faults,
			       expected);
			failed = true;
		}
		sum += dma.faults;
	}
	return sum;
}

static const struct {
	const char *name;
	void (*map)(struct piece *pieces, size_t count);
} rules[] = {
	{ "mmap", plainly },
	{ "QEMU 9.2 to 10.2", as_qemu_10 },
	{ "Cloud Hypervisor", as_cloud_hypervisor },
	{ "QEMU 11", as_qemu_11 },
};

static size_t faults_by(size_t rule, const struct layout *layout)
{
	struct piece pieces[PIECES_MAX];
	size_t count = pieces_of(layout, pieces), faults;

	rules[rule].map(pieces, count);
	faults = faults_of(pieces, count);
	for (size_t i = 0; i < count; i++)
		munmap((void *)pieces[i].address, pieces[i].length);
	return faults;
}

static size_t our_faults(const struct layout *layout)
{
	const struct alignmap_vfio_options options = {
		.size = sizeof(options),
		.holes = layout->holes,
		.hole_count = layout->hole_count,
	};
	struct alignmap_vfio_region *region = alignmap_vfio_map(device.fd, bar.index, &options);
	struct piece pieces[PIECES_MAX];
	size_t faults;

	if (!region)
		die("alignmap_vfio_map");
	if (region->area_count != pieces_of(layout, pieces))
		failed = true;
	for (size_t i = 0; i < region->area_count && i < PIECES_MAX; i++)
		pieces[i] = (struct piece){ region->areas[i].offset, region->areas[i].length,
					    (uintptr_t)region->areas[i].address };
	faults = faults_of(pieces, region->area_count);
	alignmap_vfio_unmap(region);
	return faults;
}

static size_t planned(const struct layout *layout)
{
	struct piece pieces[PIECES_MAX];
	size_t count = pieces_of(layout, pieces), sum = 0;
	struct alignmap_plan plan;

	for (size_t i = 0; i < count; i++) {
		if (alignmap_plan(&leaves, pieces[i].length, bar.offset + pieces[i].offset, &plan))
			die("alignmap_plan");
		sum += plan.entries;
	}
	return sum;
}

/* 524286 as 524,286, for people. */
static const char *grouped(size_t number)
{
	static char text[32];
	char digits[32];
	size_t length = (size_t)snprintf(digits, sizeof(digits), "%zu", number), at = 0;

	for (size_t i = 0; i < length; i++) {
		if (i && (length - i) % 3 == 0)
			text[at++] = ',';
		text[at++] = digits[i];
	}
	text[at] = '\0';
	return text;
}

static void compare(const struct layout *layout, const char *kernel)
{
	size_t faults[COUNT(rules)], ours, plan = planned(layout);
	bool ok = true;

	for (size_t i = 0; i < COUNT(rules); i++)
		faults[i] = faults_by(i, layout);
	ours = our_faults(layout);
	for (size_t i = 0; i < COUNT(rules); i++)
		ok = ok && ours <= faults[i];
	ok = ok && !failed && ours == plan;
	printf("%sok - BAR of %llu GiB, %s: %zu faults, as planned, and no rule takes less\n",
	       ok ? "" : "not ", (unsigned long long)(bar.size / GIB), layout->name, ours);
	failed = failed || !ok;

	printf("# | %s | %llu GiB, %s", kernel, (unsigned long long)(bar.size / GIB), layout->name);
	for (size_t i = 0; i < COUNT(rules); i++)
		printf(" | %s", grouped(faults[i]));
	printf(" | %s |\n", grouped(ours));
}

static void print_head(void)
{
	fputs("# | kernel | BAR", stdout);
	for (size_t i = 0; i < COUNT(rules); i++)
		printf(" | %s", rules[i].name);
	fputs(" | libalignmap |\n# | --- | ---", stdout);
	for (size_t i = 0; i <= COUNT(rules); i++)
		fputs(" | ---:", stdout);
	puts(" |");
}

int main(int argc, char **argv)
{
	struct utsname system;

	if (argc < 2 || argc > 3 || argv[argc - 1][0] == '-' ||
	    (argc == 3 && strcmp(argv[1], "--others") != 0)) {
		fputs("usage: rules [--others] BDF\n"
		      "around two holes, or with other ones; base pages take minutes\n",
		      stderr);
		return 2;
	}
	open_device(&device, argv[argc - 1]);
	if (!device_region(&device, VFIO_PCI_BAR2_REGION_INDEX, &bar))
		die("VFIO_DEVICE_GET_REGION_INFO");
	const struct layout two = { "holes at 12 KiB and 1.5 GiB",
				    { { 0x3000, 0x1000 }, { 1536 * MIB, 0x1000 } },
				    2 };
	const struct layout others[] = {
		{ "a hole at its start", { { 0, 0x1000 } }, 1 },
		{ "a hole at its end", { { bar.size - 0x1000, 0x1000 } }, 1 },
		{ "no hole", { { 0 } }, 0 },
	};

	/* The measuring code's own first pages and the device's first fault are not to be counted.
	 */
	for (int i = 0; i < 2; i++) {
		struct piece page = { 0, base_page(), 0 };

		plainly(&page, 1);
		map_for_dma(&device, (void *)page.address, page.length, bar.offset);
		munmap((void *)page.address, page.length);
	}

	uname(&system);
	system.release[strcspn(system.release, "-+")] = '\0';
	setvbuf(stdout, NULL, _IOLBF, 0);
	print_head();
	if (argc == 2)
		compare(&two, system.release);
	for (size_t i = 0; argc == 3 && i < COUNT(others); i++)
		compare(&others[i], system.release);
	return failed;
}
