// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Maps the regions of real VFIO devices by alignmap-vfio.h and alignmap_window_map(), and prints
 * TAP without numbers. What is expected is worked out page by page; faults are the kernel's own
 * count, against alignmap_plan().
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <alignmap-vfio.h>

#include "device.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define ROUNDS 1000
#define REFUSALS 400

static const char *label = "";
static bool expect_pages; /* a fault for each base page, as where a policy forbids larger leaves */
static bool failed;

__attribute__((format(printf, 2, 3))) static void check(bool ok, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	printf("%sok - ", ok ? "" : "not ");
	vprintf(format, arguments);
	puts(label);
	va_end(arguments);
	failed = failed || !ok;
}

/* What an address turns out to be. */
enum place {
	READABLE,
	HELD,	/* SIGSEGV, and no other thread can come in: there is a mapping */
	GAP,	/* SIGSEGV, and there is none */
	NO_BUS, /* SIGBUS: mapped, but the device does not answer */
};

static _Thread_local sigjmp_buf on_fault;

static void jump(int signal, siginfo_t *about, void *context)
{
	(void)context;
	if (signal == SIGBUS)
		siglongjmp(on_fault, NO_BUS);
	siglongjmp(on_fault, about->si_code == SEGV_ACCERR ? HELD : GAP);
}

static void catch_faults(void)
{
	struct sigaction action = { .sa_sigaction = jump, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static enum place look_at(const void *address)
{
	int place = sigsetjmp(on_fault, 0);

	if (place)
		return (enum place)place;
	*(const volatile char *)address;
	return READABLE;
}

/* A range of a region, in bytes from its start. */
struct range {
	uint64_t offset;
	uint64_t length;
};

struct trial {
	const char *name;
	struct device device;
	unsigned int index;
	struct vfio_region_info region;
	const struct alignmap_vfio_hole *holes;
	size_t hole_count;
	struct range expected[9]; /* and one that ends them */
	size_t expected_count;
	struct alignmap_vfio_region *mapped;
};

static bool page_has_hole(const struct trial *trial, uint64_t page)
{
	for (size_t i = 0; i < trial->hole_count; i++) {
		const struct alignmap_vfio_hole *hole = &trial->holes[i];

		if (hole->length && hole->offset < page + base_page() &&
		    hole->offset + hole->length > page)
			return true;
	}
	return false;
}

/* The runs of pages in which no byte of a hole lies, page by page. */
static void expect_areas(struct trial *trial)
{
	bool before = true;

	for (uint64_t page = 0; page < trial->region.size; page += base_page()) {
		bool hole = page_has_hole(trial, page);
		struct range *range = &trial->expected[trial->expected_count];

		if (!hole && before) {
			if (++trial->expected_count == COUNT(trial->expected))
				abort();
			*range = (struct range){ page, base_page() };
		} else if (!hole) {
			range[-1].length += base_page();
		}
		before = hole;
	}
}

static void begin(struct trial *trial)
{
	const struct alignmap_vfio_options options = {
		.size = sizeof(options),
		.holes = trial->holes,
		.hole_count = trial->hole_count,
	};

	trial->mapped = alignmap_vfio_map(trial->device.fd, trial->index, &options);
	if (!trial->mapped)
		die("%s: alignmap_vfio_map", trial->name);
}

static bool areas_are_as_expected(const struct trial *trial)
{
	const struct alignmap_vfio_region *mapped = trial->mapped;
	bool ok = mapped->area_count == trial->expected_count &&
		  mapped->length == trial->region.size && mapped->index == trial->index &&
		  mapped->offset == trial->region.offset && mapped->flags == trial->region.flags;

	for (size_t i = 0; i < mapped->area_count; i++) {
		const struct alignmap_vfio_area *area = &mapped->areas[i];

		printf("# area at %#" PRIx64 ", %#zx bytes, %p\n", area->offset, area->length,
		       area->address);
		ok = ok && area->offset == trial->expected[i].offset &&
		     area->length == trial->expected[i].length &&
		     area->address == (char *)mapped->address + area->offset &&
		     area->prot == (PROT_READ | PROT_WRITE);
	}
	return ok;
}

/* Each area takes exactly the planned faults; none of its pages has been touched before. */
static bool faults_are_exact(const struct trial *trial, char *counts, size_t room)
{
	bool ok = true;

	*counts = '\0';
	for (size_t i = 0; i < trial->mapped->area_count; i++) {
		const struct alignmap_vfio_area *area = &trial->mapped->areas[i];
		uint64_t offset = trial->region.offset + area->offset;
		size_t at = strlen(counts), expected, faults;
		struct alignmap_plan plan;

		if (alignmap_plan(&leaves, area->length, offset, &plan))
			die("alignmap_plan");
		expected = expect_pages ? area->length / base_page() : plan.entries;
		faults = map_for_dma(&trial->device, area->address, area->length, offset).faults;
		snprintf(counts + at, room - at, "%s%zu", i ? " + " : "", faults);
		if (faults != expected)
			printf("# area %zu took %zu faults, not %zu\n", i, faults, expected);
		ok = ok && faults == expected;
	}
	return ok;
}

/* Every page, at both its ends; of a long hole one in each 2 MiB, and the last. */
static bool hole_is_held(const char *start, uint64_t at, uint64_t end)
{
	const uint64_t page = base_page(), step = end - at > 2 * MIB ? 2 * MIB : page;

	for (; at < end; at += step)
		if (look_at(start + at) != HELD || look_at(start + at + page - 1) != HELD)
			return false;
	return look_at(start + end - 1) == HELD;
}

/* All of the region that is in no area. */
static bool holes_are_held(const struct trial *trial)
{
	uint64_t at = 0;

	for (size_t i = 0; i <= trial->expected_count; i++) {
		const struct range *next = &trial->expected[i];
		const bool last = i == trial->expected_count;
		const uint64_t end = last ? page_align(trial->region.size) : next->offset;

		if (at < end && !hole_is_held(trial->mapped->address, at, end))
			return false;
		at = end + (last ? 0 : next->length);
	}
	return true;
}

/* At the ends of each area, and of each 2 MiB. */
static bool areas_are(const struct trial *trial, enum place place)
{
	const char *start = trial->mapped->address;

	for (size_t i = 0; i < trial->expected_count; i++) {
		const struct range *range = &trial->expected[i];
		uint64_t end = range->offset + range->length;

		for (uint64_t at = range->offset; at < end; at = (at | (2 * MIB - 1)) + 1)
			if (look_at(start + at) != place)
				return false;
		if (look_at(start + end - 1) != place)
			return false;
	}
	return true;
}

static void *map_page_plainly(const struct trial *trial, uint64_t offset)
{
	void *page = mmap(NULL, base_page(), PROT_READ | PROT_WRITE, MAP_SHARED, trial->device.fd,
			  (off_t)(trial->region.offset + offset));

	if (page == MAP_FAILED)
		die("mmap of a page at %#" PRIx64, offset);
	return page;
}

/* Memory: what is written through an area is seen through another mapping, and back. */
static bool content_at(const struct trial *trial, uint64_t offset)
{
	volatile uint64_t *here = (void *)((char *)trial->mapped->address + offset);
	char *page = map_page_plainly(trial, offset & ~(uint64_t)(base_page() - 1));
	volatile uint64_t *there = (void *)(page + (offset & (base_page() - 1)));
	bool ok;

	*here = 0x1000000000000001 + offset;
	ok = *there == 0x1000000000000001 + offset;
	*there = ~offset;
	ok = ok && *here == ~offset;
	munmap(page, base_page());
	return ok;
}

static bool content_is_the_regions(const struct trial *trial)
{
	for (size_t i = 0; i < trial->expected_count; i++) {
		const struct range *range = &trial->expected[i];
		const uint64_t end = range->offset + range->length;
		const uint64_t places[] = {
			range->offset,
			range->offset + base_page(),
			(range->offset + range->length / 2) & ~7ULL,
			(range->offset | (2 * MIB - 1)) + 1,
			(range->offset | (GIB - 1)) + 1,
			end - base_page(),
			end - sizeof(uint64_t),
		};

		for (size_t j = 0; j < COUNT(places); j++)
			if (places[j] < end && !content_at(trial, places[j]))
				return false;
	}
	return true;
}

/* Registers: an area shows what pread(2) of the region reads. */
static bool registers_are_the_regions(const struct trial *trial)
{
	for (size_t i = 0; i < trial->expected_count; i++) {
		uint64_t offset = trial->expected[i].offset;
		volatile uint32_t *here = (void *)((char *)trial->mapped->address + offset);
		uint32_t there;

		if (pread(trial->device.fd, &there, sizeof(there),
			  (off_t)(trial->region.offset + offset)) != sizeof(there))
			die("pread at %#" PRIx64, offset);
		if (*here != there)
			return false;
	}
	return true;
}

/* What must not change: the mappings, their sum and the heap. */
struct state {
	char maps[1 << 16];
	size_t length;
	size_t vm_size; /* KiB */
	size_t heap;	/* bytes in use */
};

static void take_state(struct state *state)
{
	char status[4096] = "";
	ssize_t more;
	int fd;

#ifdef __GLIBC__
	state->heap = mallinfo2().uordblks;
#endif
	state->length = 0;
	fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	while ((more = read(fd, state->maps + state->length, sizeof(state->maps) - state->length)) >
	       0)
		state->length += (size_t)more;
	close(fd);
	fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	more = read(fd, status, sizeof(status) - 1);
	close(fd);
	if (more < 0 || !state->length || state->length == sizeof(state->maps) ||
	    sscanf(strstr(status, "VmSize:"), "VmSize: %zu", &state->vm_size) != 1)
		die("/proc/self");
}

static bool same(const struct state *a, const struct state *b)
{
	if (a->vm_size != b->vm_size || a->heap != b->heap)
		printf("# VmSize %zu -> %zu KiB, heap %zu -> %zu bytes\n", a->vm_size, b->vm_size,
		       a->heap, b->heap);
	return a->length == b->length && !memcmp(a->maps, b->maps, a->length) &&
	       a->vm_size == b->vm_size && a->heap == b->heap;
}

static void set_decoding(const struct trial *trial, bool on)
{
	struct vfio_region_info config;
	uint16_t command;
	off_t at;

	if (!device_region(&trial->device, VFIO_PCI_CONFIG_REGION_INDEX, &config))
		die("VFIO_DEVICE_GET_REGION_INFO of the configuration space");
	at = (off_t)config.offset + PCI_COMMAND;
	if (pread(trial->device.fd, &command, sizeof(command), at) != sizeof(command))
		die("pread of the command register");
	command = on ? command | PCI_COMMAND_MEMORY : command & ~PCI_COMMAND_MEMORY;
	if (pwrite(trial->device.fd, &command, sizeof(command), at) != sizeof(command))
		die("pwrite of the command register");
}

static void nothing(const struct trial *trial)
{
	(void)trial;
}

static void switch_decoding(const struct trial *trial)
{
	set_decoding(trial, false);
	set_decoding(trial, true);
}

static void reset(const struct trial *trial)
{
	if (ioctl(trial->device.fd, VFIO_DEVICE_RESET) < 0)
		die("VFIO_DEVICE_RESET");
}

static bool cycle(const struct trial *trial, unsigned int rounds,
		  void (*between)(const struct trial *))
{
	bool ok = true;

	for (unsigned int i = 0; i < rounds && ok; i++) {
		ok = alignmap_vfio_disable(trial->mapped) == 0;
		between(trial);
		ok = ok && alignmap_vfio_enable(trial->mapped) == 0;
	}
	return ok;
}

static void check_cycles(const struct trial *trial, unsigned int rounds, const char *doing,
			 void (*between)(const struct trial *))
{
	static struct state before, after;
	char counts[256];
	bool ok = cycle(trial, 1, between);

	take_state(&before);
	ok = cycle(trial, rounds, between) && ok;
	take_state(&after);
	check(ok && same(&before, &after),
	      "%s: disabled and enabled %u times%s, mappings, VmSize and heap are as they were",
	      trial->name, rounds, doing);
	ok = faults_are_exact(trial, counts, sizeof(counts));
	check(ok, "%s: afterwards it takes the planned faults: %s", trial->name, counts);
}

static void check_mapping(struct trial *trial)
{
	char counts[256];
	bool ok;

	begin(trial);
	check(areas_are_as_expected(trial), "%s: its %zu areas are what the holes leave",
	      trial->name, trial->expected_count);
	ok = faults_are_exact(trial, counts, sizeof(counts));
	check(ok, "%s: each area takes the %s faults: %s", trial->name,
	      expect_pages ? "base pages'" : "planned", counts);
	check(holes_are_held(trial) && areas_are(trial, READABLE),
	      "%s: each page of its holes faults, and the areas beside can be read", trial->name);

	/* Twice each. NOLINTNEXTLINE(misc-redundant-expression) */
	ok = alignmap_vfio_disable(trial->mapped) == 0 && alignmap_vfio_disable(trial->mapped) == 0;
	check(ok && areas_are(trial, HELD) && holes_are_held(trial),
	      "%s: disabled, all of it faults", trial->name);
	/* NOLINTNEXTLINE(misc-redundant-expression) */
	ok = alignmap_vfio_enable(trial->mapped) == 0 && alignmap_vfio_enable(trial->mapped) == 0;
	check(ok && areas_are(trial, READABLE) && holes_are_held(trial),
	      "%s: enabled, its areas can be read again", trial->name);
}

static void check_end(struct trial *trial)
{
	static struct state states[10];
	bool ok = true;

	/* malloc() puts by the first seven of a size that are freed, and counts them as in use. */
	for (size_t i = 0; i < COUNT(states); i++) {
		ok = alignmap_vfio_unmap(trial->mapped) == 0 && ok;
		take_state(&states[i]);
		if (i < COUNT(states) - 1)
			begin(trial);
	}
	check(ok && same(&states[8], &states[9]), "%s: unmapped, nothing is left of it",
	      trial->name);
}

static void open_trial(struct trial *trial, const char *bdf, unsigned int index)
{
	open_device(&trial->device, bdf);
	trial->index = index;
	if (!device_region(&trial->device, index, &trial->region))
		die("VFIO_DEVICE_GET_REGION_INFO of region %u", index);
}

/* The measuring code's own first pages and the device's first fault are not to be counted. */
static void warm_up(const struct trial *trial)
{
	for (int i = 0; i < 2; i++) {
		void *page = map_page_plainly(trial, 0);

		map_for_dma(&trial->device, page, base_page(), trial->region.offset);
		munmap(page, base_page());
	}
}

/* The large BAR, memory, around a page near its start and one in its second gigabyte. */
static void holes(const char *bdf)
{
	struct trial trial = { 0 };
	struct alignmap_vfio_hole cut[3] = { { GIB + GIB / 2, 0x1000 }, { 0x3000, 0x1000 } };
	char name[64];

	open_trial(&trial, bdf, VFIO_PCI_BAR2_REGION_INDEX);
	snprintf(name, sizeof(name), "BAR of %llu GiB with two holes", trial.region.size / GIB);
	trial.name = name;
	trial.holes = cut;
	trial.hole_count = 2;
	if (expect_pages) {
		/* Base pages take their time: of those, a few. The second hole lies in this one. */
		cut[2] = (struct alignmap_vfio_hole){ 64 * MIB, trial.region.size - 64 * MIB };
		trial.hole_count = 3;
	}
	expect_areas(&trial);
	warm_up(&trial);
	check_mapping(&trial);
	check(content_is_the_regions(&trial),
	      "%s: what is written through an area is at its offset in the region", trial.name);
	/* The circumstances that a label names change the faults alone. */
	if (!*label)
		check_cycles(&trial, ROUNDS, "", nothing);
	check_end(&trial);
}

static uint32_t config(const struct device *device, unsigned int at, size_t length)
{
	struct vfio_region_info region;
	uint32_t value = 0;

	if (!device_region(device, VFIO_PCI_CONFIG_REGION_INDEX, &region) ||
	    pread(device->fd, &value, length, (off_t)region.offset + at) != (ssize_t)length)
		die("pread of the configuration space");
	return value;
}

/* Where the MSI-X table and the pending bits lie; the BAR that the table is in. */
static unsigned int find_msix(const struct device *device, struct alignmap_vfio_hole *table,
			      struct alignmap_vfio_hole *pending)
{
	unsigned int at = config(device, PCI_CAPABILITY_LIST, 1), vectors;
	uint32_t where[2];

	while (at && config(device, at, 1) != PCI_CAP_ID_MSIX)
		at = config(device, at + PCI_CAP_LIST_NEXT, 1);
	if (!at) {
		errno = ENOENT;
		die("an MSI-X capability");
	}
	vectors = (config(device, at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
	where[0] = config(device, at + PCI_MSIX_TABLE, 4);
	where[1] = config(device, at + PCI_MSIX_PBA, 4);
	*table = (struct alignmap_vfio_hole){ where[0] & PCI_MSIX_TABLE_OFFSET,
					      vectors * (uint64_t)PCI_MSIX_ENTRY_SIZE };
	*pending = (struct alignmap_vfio_hole){ where[1] & PCI_MSIX_PBA_OFFSET,
						(vectors + 63) / 64 * 8 };
	if ((where[0] & PCI_MSIX_TABLE_BIR) != (where[1] & PCI_MSIX_PBA_BIR))
		pending->length = 0;
	return where[0] & PCI_MSIX_TABLE_BIR;
}

static void msix(const char *bdf)
{
	struct alignmap_vfio_hole cut[2];
	struct trial trial = { 0 };
	char name[64];

	open_device(&trial.device, bdf);
	trial.index = find_msix(&trial.device, &cut[0], &cut[1]);
	if (!device_region(&trial.device, trial.index, &trial.region))
		die("VFIO_DEVICE_GET_REGION_INFO of region %u", trial.index);
	printf("# %s: BAR %u of %#llx bytes, table %#llx+%#llx, pending bits %#llx+%#llx\n", bdf,
	       trial.index, (unsigned long long)trial.region.size,
	       (unsigned long long)cut[0].offset, (unsigned long long)cut[0].length,
	       (unsigned long long)cut[1].offset, (unsigned long long)cut[1].length);
	snprintf(name, sizeof(name), "BAR %u of %s around its MSI-X table", trial.index, bdf);
	trial.name = name;
	trial.holes = cut;
	trial.hole_count = 2;
	expect_areas(&trial);
	warm_up(&trial);
	check_mapping(&trial);
	check(registers_are_the_regions(&trial), "%s: an area shows what pread(2) reads", name);
	check_cycles(&trial, ROUNDS, "", nothing);

	set_decoding(&trial, false);
	check(areas_are(&trial, NO_BUS), "%s: with memory decoding off its areas do not answer",
	      name);
	set_decoding(&trial, true);
	check_cycles(&trial, ROUNDS, ", memory decoding off between", switch_decoding);

	check_cycles(&trial, 3, ", the device reset between", reset);
	check_end(&trial);
}

static bool refuses(int fd, unsigned int index, int error)
{
	errno = 0;
	return !alignmap_vfio_map(fd, index, NULL) && errno == error;
}

static unsigned int seen_ports, seen_absent, seen_rom, seen_small, seen_beside;

static void check_bar(struct trial *trial, const char *bdf, unsigned int index)
{
	char name[64], counts[256];
	bool ok;

	trial->index = index;
	if (!(trial->region.flags & VFIO_REGION_INFO_FLAG_MMAP)) {
		const bool ports = index < 6 &&
				   config(&trial->device, PCI_BASE_ADDRESS_0 + 4 * index, 4) &
					   PCI_BASE_ADDRESS_SPACE_IO;
		check(refuses(trial->device.fd, index, ENODEV),
		      "region %u of %s, which has %llu bytes and no mmap, is refused: ENODEV",
		      index, bdf, (unsigned long long)trial->region.size);
		seen_absent += index < 6 && !trial->region.size;
		seen_ports += trial->region.size && ports;
		seen_beside += index < 6 && trial->region.size && !ports;
		seen_rom += index == VFIO_PCI_ROM_REGION_INDEX && trial->region.size;
		return;
	}
	seen_small += trial->region.size < base_page();
	snprintf(name, sizeof(name), "BAR %u of %s, %#llx bytes", index, bdf,
		 (unsigned long long)trial->region.size);
	trial->name = name;
	trial->expected_count = 0;
	expect_areas(trial);
	begin(trial);
	warm_up(trial);
	check(trial->expected_count == 1 && areas_are_as_expected(trial),
	      "%s: without holes it is one area, to the end of a page", name);
	ok = faults_are_exact(trial, counts, sizeof(counts));
	check(ok, "%s: it takes the planned faults: %s", name, counts);
	check(areas_are(trial, READABLE), "%s: it can be read", name);
	check_end(trial);
}

static void bars(const char *bdf)
{
	struct vfio_device_info about = { .argsz = sizeof(about) };
	struct trial trial = { 0 };

	open_device(&trial.device, bdf);
	if (ioctl(trial.device.fd, VFIO_DEVICE_GET_INFO, &about) < 0)
		die("VFIO_DEVICE_GET_INFO");
	for (unsigned int index = 0; index < about.num_regions; index++) {
		if (device_region(&trial.device, index, &trial.region))
			check_bar(&trial, bdf, index);
		else
			check(refuses(trial.device.fd, index, errno),
			      "region %u of %s, of which the kernel says nothing, is refused so",
			      index, bdf);
	}
	check(refuses(trial.device.fd, about.num_regions, EINVAL),
	      "region %u of %s, which has less, is refused: EINVAL", about.num_regions, bdf);
	check(refuses(trial.device.container, 0, ENOTTY) && refuses(STDIN_FILENO, 0, ENOTTY) &&
		      refuses(-1, 0, EBADF),
	      "what is no VFIO device is refused: ENOTTY, EBADF");
}

/* A BAR smaller than a page lies where the machine's firmware, or the kernel, has put it. */
static void check_seen(void)
{
	check(seen_ports && seen_absent && seen_rom,
	      "among them were I/O ports, a BAR that is not there and a ROM: %u, %u, %u",
	      seen_ports, seen_absent, seen_rom);
	if (!seen_small && seen_beside)
		puts("ok - a BAR smaller than a page is mapped # SKIP here each shares its page "
		     "with another, and Linux lets none of them be mapped");
	else
		check(seen_small, "among them was a BAR smaller than a page: %u", seen_small);
}

/* Another mapping of the process's, which is to stay as it is. */
struct foreign {
	volatile uint64_t *address;
	size_t length;
};

static volatile bool stop;
static sem_t turns; /* that the mappers may still take */

/* How many of the thread's mappings were lost. */
static uint64_t foreign_is_lost(const struct foreign *foreign, uint64_t stamp)
{
	if (look_at((void *)foreign->address) != READABLE ||
	    look_at((char *)foreign->address + foreign->length - 1) != READABLE)
		return 1;
	return *foreign->address != stamp;
}

struct mapper {
	pthread_t thread;
	uint64_t made, lost;
};

/* Maps and unmaps pieces as long as those that are refused, eight at a time, of small pages. */
static void *map_meanwhile(void *argument)
{
	static const size_t lengths[] = { 1 << 12, 1 << 14, 1 << 14, 1 << 21 };
	struct mapper *mapper = argument;
	struct foreign held[8] = { 0 };

	for (uint64_t turn = 0; sem_wait(&turns) == 0 && !stop; turn++) {
		struct foreign *foreign = &held[turn % COUNT(held)];

		if (foreign->address) {
			mapper->lost += foreign_is_lost(foreign, turn - COUNT(held));
			munmap((void *)foreign->address, foreign->length);
		}
		foreign->length = lengths[turn % COUNT(lengths)];
		foreign->address = mmap(NULL, foreign->length, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (foreign->address == MAP_FAILED ||
		    madvise((void *)foreign->address, foreign->length, MADV_NOHUGEPAGE))
			die("mmap");
		*foreign->address = turn;
		mapper->made++;
	}
	for (size_t i = 0; i < COUNT(held); i++)
		if (held[i].address)
			munmap((void *)held[i].address, held[i].length);
	return NULL;
}

/*
 * Leaves no room above @bottom, so that a gap below it that somebody opens is the highest one: the
 * kernel puts the next mapping that fits in it.
 */
static void fill_above(const char *bottom)
{
	for (size_t length = SIZE_MAX < 64 * GIB ? GIB : 64 * GIB; length >= base_page();
	     length /= 2) {
		char *filler;

		do {
			filler = mmap(NULL, length, PROT_NONE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		} while (filler != MAP_FAILED && filler > bottom);
		if (filler != MAP_FAILED)
			munmap(filler, length);
	}
}

static void let_another_map(int signal)
{
	(void)signal;
	sem_post(&turns);
	sched_yield();
}

/* A piece that the driver, or the kernel before it, does not map. */
struct refusal {
	uint64_t offset; /* from the region's start */
	size_t length;
	int flags;
	int fd;
};

static long microseconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

/*
 * alignmap_window_map(), in the midst of which another thread maps. With one processor that takes
 * an interruption: one, at any time of those that the call before took.
 */
static void *map_interrupted(struct alignmap_window *window, const struct refusal *piece, int prot,
			     off_t offset)
{
	static long took = 100;
	const struct itimerval once = { .it_value.tv_usec = 1 + random() % took };
	const long start = microseconds();
	void *address;

	setitimer(ITIMER_REAL, &once, NULL);
	address = alignmap_window_map(window, piece->length, prot, piece->flags, piece->fd, offset);
	took = (microseconds() - start) % 100000 + 1;
	return address;
}

static bool is_refused(struct alignmap_window *window, const struct trial *trial,
		       const struct refusal *piece)
{
	const off_t offset = (off_t)(trial->region.offset + piece->offset);
	const int prot = PROT_READ | PROT_WRITE;
	struct alignmap_extent extent;
	int expected;

	if (mmap(NULL, piece->length, prot, piece->flags, piece->fd, offset) != MAP_FAILED)
		return false;
	expected = errno;
	errno = 0;
	return map_interrupted(window, piece, prot, offset) == MAP_FAILED && errno == expected &&
	       alignmap_window_query(window, (uint64_t)offset, &extent) == 0 &&
	       extent.state == ALIGNMAP_RESERVED && look_at(extent.address) == HELD &&
	       look_at((char *)extent.address + ((uint64_t)offset - extent.offset) + piece->length -
		       1) == HELD;
}

/* All of the window but the piece at @offset is reserved, and one extent before and behind it. */
static bool window_is_whole(struct alignmap_window *window, const struct trial *trial,
			    uint64_t offset, size_t length, size_t window_length)
{
	const uint64_t start = trial->region.offset;
	struct alignmap_extent before, piece, behind;

	return alignmap_window_query(window, start, &before) == 0 &&
	       alignmap_window_query(window, start + offset, &piece) == 0 &&
	       alignmap_window_query(window, start + offset + length, &behind) == 0 &&
	       before.state == ALIGNMAP_RESERVED && before.offset == start &&
	       before.length == offset && piece.state == ALIGNMAP_MAPPED &&
	       piece.offset == start + offset && piece.length == length &&
	       behind.state == ALIGNMAP_RESERVED && behind.offset == start + offset + length &&
	       behind.length == window_length - offset - length &&
	       look_at(before.address) == HELD && look_at(piece.address) == READABLE &&
	       look_at(behind.address) == HELD &&
	       look_at((char *)behind.address + behind.length - 1) == HELD;
}

static void refused(const char *bdf)
{
	struct trial trial = { .name = "refused" };
	struct mapper mappers[3] = { 0 };
	const int executable = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const struct sigaction action = { .sa_handler = let_another_map, .sa_flags = SA_RESTART };
	const uint64_t good = 64 * MIB;
	struct alignmap_window *window;
	uint64_t made = 0, lost = 0;
	struct alignmap_plan plan;
	volatile uint64_t *piece;
	unsigned int refusals = 0;
	size_t length, faults;
	sigset_t alarm;
	bool ok = true;

	open_trial(&trial, bdf, VFIO_PCI_BAR2_REGION_INDEX);
	warm_up(&trial);
	const struct refusal pieces[] = {
		{ trial.region.size, 4 * base_page(), MAP_SHARED, trial.device.fd },
		{ trial.region.size + 2 * MIB, 2 * MIB, MAP_SHARED, trial.device.fd },
		{ trial.region.size - base_page(), 4 * base_page(), MAP_SHARED, trial.device.fd },
		{ 0, 1 << 21, MAP_PRIVATE, trial.device.fd },
		{ base_page(), base_page(), MAP_SHARED, executable },
	};

	/* Beyond the BAR's end, which no driver maps. */
	length = trial.region.size + GIB;
	window = alignmap_window_reserve(trial.region.offset, length, NULL);
	if (!window)
		die("alignmap_window_reserve");
	piece = alignmap_window_map(window, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED,
				    trial.device.fd, (off_t)(trial.region.offset + good));
	if (piece == MAP_FAILED)
		die("alignmap_window_map");
	*piece = 4711;

	sem_init(&turns, 0, 0);
	fill_above((char *)piece - good + length - 1);
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	for (size_t i = 0; i < COUNT(mappers); i++)
		if (pthread_create(&mappers[i].thread, NULL, map_meanwhile, &mappers[i]))
			die("pthread_create");
	pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
	sigaction(SIGALRM, &action, NULL);
	for (; refusals < REFUSALS && ok; refusals++)
		ok = is_refused(window, &trial, &pieces[refusals % COUNT(pieces)]);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	stop = true;
	for (size_t i = 0; i < COUNT(mappers); i++)
		sem_post(&turns);
	for (size_t i = 0; i < COUNT(mappers); i++) {
		pthread_join(mappers[i].thread, NULL);
		made += mappers[i].made;
		lost += mappers[i].lost;
	}
	check(ok,
	      "%u pieces of a window that the driver refuses fail as mmap(2) does, and their "
	      "places "
	      "stay held",
	      refusals);
	check(made > REFUSALS / 10 && !lost,
	      "meanwhile other threads have mapped %" PRIu64 " times: lost are %" PRIu64, made,
	      lost);
	check(window_is_whole(window, &trial, good, 2 * MIB, length) && *piece == 4711,
	      "the window is whole, the piece in it the one that was there");

	if (alignmap_window_unmap(window, trial.region.offset, length) ||
	    alignmap_plan(&leaves, trial.region.size, trial.region.offset, &plan))
		die("alignmap_window_unmap");
	piece = alignmap_window_map(window, trial.region.size, PROT_READ | PROT_WRITE, MAP_SHARED,
				    trial.device.fd, (off_t)trial.region.offset);
	if (piece == MAP_FAILED)
		die("alignmap_window_map");
	faults = map_for_dma(&trial.device, (void *)piece, trial.region.size, trial.region.offset)
			 .faults;
	check(faults == plan.entries, "the whole BAR in that window takes the planned faults: %zu",
	      faults);
	check(alignmap_window_release(window) == 0 && look_at((void *)piece) == GAP,
	      "the window is released");
}

/* What the library relies on: the kernel moves a mapping that is not filled, and fills it well. */
static void moved(const char *bdf)
{
	struct trial trial = { .name = "moved" };
	struct alignmap_extent to[2];
	struct alignmap_plan plan;
	size_t faults;
	void *aside;

	open_trial(&trial, bdf, VFIO_PCI_BAR2_REGION_INDEX);
	warm_up(&trial);
	aside = alignmap_mmap(NULL, trial.region.size, PROT_READ | PROT_WRITE, MAP_SHARED,
			      trial.device.fd, (off_t)trial.region.offset);
	if (aside == MAP_FAILED ||
	    alignmap_plan(&leaves, trial.region.size, trial.region.offset, &plan))
		die("alignmap_mmap");
	for (size_t i = 0; i < COUNT(to); i++) {
		struct alignmap_window *window =
			alignmap_window_reserve(trial.region.offset, trial.region.size, NULL);

		if (!window || alignmap_window_query(window, trial.region.offset, &to[i]))
			die("alignmap_window_reserve");
		if (mremap(aside, trial.region.size, trial.region.size,
			   MREMAP_MAYMOVE | MREMAP_FIXED, to[i].address) != to[i].address)
			die("mremap");
		faults = map_for_dma(&trial.device, to[i].address, trial.region.size,
				     trial.region.offset)
				 .faults;
		if (i == 0)
			check(faults == plan.entries,
			      "a mapping of the BAR moved by mremap(2) takes the planned faults: "
			      "%zu",
			      faults);
		else
			printf("# moved again with its entries in place it takes %zu\n", faults);
		aside = to[i].address;
	}
	trial.mapped = &(struct alignmap_vfio_region){ .address = aside };
	trial.expected[0] = (struct range){ 0, trial.region.size };
	trial.expected_count = 1;
	check(content_is_the_regions(&trial),
	      "what is written through it is at its offset in the region");
}

static void usage(int status)
{
	fputs("usage: region [option...] PART BDF...\n"
	      "  PART is one of\n"
	      "    holes    the large BAR around two holes\n"
	      "    msix     the BAR with the MSI-X table, around the table and the pending bits\n"
	      "    bars     every region of the devices, mapped or refused\n"
	      "    refused  pieces of a window that the driver refuses, beside other threads\n"
	      "    moved    the large BAR, moved by mremap(2)\n"
	      "  -p, --pages        expect a fault for each base page, not the plan's\n"
	      "  -L, --label=LABEL  ends each line\n",
	      status ? stderr : stdout);
	exit(status);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "pages", no_argument, NULL, 'p' },
		{ "label", required_argument, NULL, 'L' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static const struct {
		const char *name;
		void (*run)(const char *bdf);
	} parts[] = {
		{ "holes", holes },	{ "msix", msix },   { "bars", bars },
		{ "refused", refused }, { "moved", moved },
	};
	size_t part = 0;
	int option;

	while ((option = getopt_long(argc, argv, "pL:h", options, NULL)) != -1) {
		switch (option) {
		case 'p':
			expect_pages = true;
			break;
		case 'L':
			label = optarg;
			break;
		default:
			usage(option == 'h' ? 0 : 2);
		}
	}
	if (argc - optind < 2)
		usage(2);
	while (part < COUNT(parts) && strcmp(parts[part].name, argv[optind]) != 0)
		part++;
	if (part == COUNT(parts))
		usage(2);

	setvbuf(stdout, NULL, _IOLBF, 0);
	catch_faults();
	for (int i = optind + 1; i < argc; i++)
		parts[part].run(argv[i]);
	if (parts[part].run == bars)
		check_seen();
	return failed;
}
