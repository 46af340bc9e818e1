// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * VFIO regions from end to end on this machine, of a device that is made up: a sparse file for its
 * memory, each page of which tells its offset, and an ioctl of our own for what its driver says
 * (the linker's --wrap puts it in front of the archive's calls). No device of the lab has sparse
 * areas, or a driver that is hostile. The oracle is the fuzzer's: it knows single pages.
 */
#include "system.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../fuzz/oracle.h"

#define READ VFIO_REGION_INFO_FLAG_READ
#define WRITE VFIO_REGION_INFO_FLAG_WRITE
#define MMAP VFIO_REGION_INFO_FLAG_MMAP

#define INDEX 2
/* Where vfio-pci puts that region in the device's file. */
#define BASE ((uint64_t)INDEX << 40)
/* So much of it tells its offsets. */
#define TOLD (16 * M)
#define AREAS_MAX 400

static int memory = -1;

/* The device, and what it and its driver are asked to do wrong. */
static struct {
	int fd;
	uint32_t flags;
	uint64_t length;
	uint64_t offset;
	bool sparse;
	size_t area_count;
	struct vfio_region_sparse_mmap_area areas[AREAS_MAX];
	struct alignmap_vfio_hole holes[8];
	size_t hole_count;

	unsigned int calls;
	uint32_t rooms[4];     /* argsz, as it came */
	uint32_t says;	       /* argsz, as it goes; 0 for the truth */
	uint32_t says_more_by; /* or: so much more than there is room for, always */
	bool grows;	       /* or: a new area at the second call */

	int refusal; /* the errno for mapping what lies at: */
	uint64_t refused;
	int advice_error;
	size_t advised;
	struct {
		void *address;
		size_t length;
	} advices[64];
	long allocations; /* which one fails, counted from 1 on; 0 for none */
	long allocated;
} device;

static size_t length_of_answer(void)
{
	if (!device.sparse)
		return sizeof(struct vfio_region_info);
	return sizeof(struct vfio_region_info) + sizeof(struct vfio_region_info_cap_sparse_mmap) +
	       device.area_count * sizeof(device.areas[0]);
}

/* As vfio-pci does: capabilities only where there is room for all of them. */
static int answer(struct vfio_region_info *info)
{
	const uint32_t room = info->argsz;

	device.rooms[device.calls % COUNT(device.rooms)] = room;
	if (room < sizeof(*info) || info->index != INDEX) {
		errno = EINVAL;
		return -1;
	}
	if (device.grows && device.calls == 1)
		device.area_count++;
	device.calls++;
	info->argsz = (uint32_t)length_of_answer();
	info->flags = device.flags;
	info->cap_offset = 0;
	info->size = device.length;
	info->offset = device.offset;
	if (device.sparse) {
		const struct vfio_region_info_cap_sparse_mmap sparse = {
			{ VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0 }, (uint32_t)device.area_count, 0
		};
		char *behind = (char *)(info + 1);

		info->flags |= VFIO_REGION_INFO_FLAG_CAPS;
		if (room >= info->argsz) {
			info->cap_offset = sizeof(*info);
			memcpy(behind, &sparse, sizeof(sparse));
			memcpy(behind + sizeof(sparse), device.areas,
			       device.area_count * sizeof(device.areas[0]));
		}
	}
	if (device.says)
		info->argsz = device.says;
	if (device.says_more_by)
		info->argsz = room + device.says_more_by;
	return 0;
}

int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	if (fd == device.fd && request == VFIO_DEVICE_GET_REGION_INFO)
		return answer(argument);
	return __real_ioctl(fd, request, argument);
}

/* musl has no mmap64 but a macro. */
#ifdef mmap64
#define __real_mmap64 __real_mmap
#define __wrap_mmap64 __wrap_mmap
#endif
void *__real_mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset);
void *__wrap_mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset);

void *__wrap_mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	if (fd == device.fd && device.refusal && (uint64_t)offset == device.refused) {
		errno = device.refusal;
		return MAP_FAILED;
	}
	return __real_mmap64(address, length, prot, flags, fd, offset);
}

int __real_madvise(void *address, size_t length, int advice);
int __wrap_madvise(void *address, size_t length, int advice);

int __wrap_madvise(void *address, size_t length, int advice)
{
	if (advice != MADV_HUGEPAGE)
		return __real_madvise(address, length, advice);
	if (device.advised < COUNT(device.advices)) {
		device.advices[device.advised].address = address;
		device.advices[device.advised].length = length;
	}
	device.advised++;
	errno = device.advice_error;
	return device.advice_error ? -1 : 0;
}

static bool out_of_memory(void)
{
	if (!device.allocations || ++device.allocated != device.allocations)
		return false;
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t length);
void *__wrap_malloc(size_t length);
void *__real_calloc(size_t count, size_t length);
void *__wrap_calloc(size_t count, size_t length);
void *__real_realloc(void *old, size_t length);
void *__wrap_realloc(void *old, size_t length);
void *__real_reallocarray(void *old, size_t count, size_t length);
void *__wrap_reallocarray(void *old, size_t count, size_t length);

void *__wrap_malloc(size_t length)
{
	return out_of_memory() ? NULL : __real_malloc(length);
}

void *__wrap_calloc(size_t count, size_t length)
{
	return out_of_memory() ? NULL : __real_calloc(count, length);
}

void *__wrap_realloc(void *old, size_t length)
{
	return out_of_memory() ? NULL : __real_realloc(old, length);
}

void *__wrap_reallocarray(void *old, size_t count, size_t length)
{
	return out_of_memory() ? NULL : __real_reallocarray(old, count, length);
}

/* A region that can be read and written, all of it. */
static int make_device(void **state)
{
	(void)state;
	memset(&device, 0, sizeof(device));
	device.fd = memory;
	device.flags = READ | WRITE | MMAP;
	device.length = 16 * page_size();
	device.offset = BASE;
	return 0;
}

static int make_memory(void **state)
{
	(void)state;
	memory = memfd_of((off_t)(BASE + 4 * largest_leaf()));
	for (uint64_t at = BASE; at < BASE + TOLD; at += page_size())
		assert_int_equal(pwrite(memory, &at, sizeof(at), (off_t)at), sizeof(at));
	return 0;
}

/* In pages. */
static void add_area(size_t from, size_t count)
{
	device.sparse = true;
	device.areas[device.area_count++] =
		(struct vfio_region_sparse_mmap_area){ from * page_size(), count * page_size() };
}

/* In bytes. */
static void add_hole(uint64_t from, uint64_t length)
{
	device.holes[device.hole_count++] = (struct alignmap_vfio_hole){ from, length };
}

/* Three areas by the driver, one of which a hole makes two. */
static void make_sparse(void)
{
	add_area(9, 6);
	add_area(1, 2);
	add_area(4, 3);
	add_hole(12 * page_size() + 8, 16);
}

static struct alignmap_vfio_region *map_device(void)
{
	const struct alignmap_vfio_options options = { .size = sizeof(options),
						       .holes = device.holes,
						       .hole_count = device.hole_count };

	return alignmap_vfio_map(device.fd, INDEX, &options);
}

static struct address_space before, during, after;

/* What stands behind an address in the list of VMAs: "rw-s", or "" if nothing lies there. */
static const char *access_at(const struct address_space *space, const void *address)
{
	static char access[8];

	for (const char *line = space->vmas; *line; line = strchr(line, '\n') + 1) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx %7s", &start, &end, access) == 3 &&
		    (uintptr_t)address >= start && (uintptr_t)address < end)
			return access;
	}
	return "";
}

static const char *access_of_areas(void)
{
	if (!(device.flags & WRITE))
		return "r--s";
	return device.flags & READ ? "rw-s" : "-w-s";
}

static void check_areas(const struct alignmap_vfio_region *region, const struct question *question)
{
	const int prot = (device.flags & READ ? PROT_READ : 0) |
			 (device.flags & WRITE ? PROT_WRITE : 0);
	static struct vfio_range ranges[AREAS_MAX];
	const char *wrong;

	assert_true(region->area_count <= COUNT(ranges));
	for (size_t i = 0; i < region->area_count; i++) {
		const struct alignmap_vfio_area *area = &region->areas[i];

		assert_ptr_equal(area->address, (char *)region->address + area->offset);
		assert_int_equal(area->prot, prot);
		ranges[i] = (struct vfio_range){ area->offset, area->length };
	}
	wrong = wrong_answer(question, ranges, (ssize_t)region->area_count);
	if (wrong)
		fail_msg("%s", wrong);
}

/* All of a region, page by page, against what the device's driver and the holes leave of it. */
static void check_region(const struct alignmap_vfio_region *region, bool enabled)
{
	const struct vfio_region_sparse_mmap_area all = { 0, device.length };
	const struct question question = {
		.length = device.length,
		.page = page_size(),
		.areas = device.sparse ? device.areas : &all,
		.area_count = device.sparse ? device.area_count : 1,
		.holes = device.holes,
		.hole_count = device.hole_count,
		.room = SIZE_MAX / 2,
	};
	const uint64_t whole = (uint64_t)round_up(device.length, page_size());

	assert_int_equal(region->length, device.length);
	assert_int_equal(region->offset, device.offset);
	assert_int_equal(region->index, INDEX);
	assert_int_equal(region->flags & ~(uint32_t)VFIO_REGION_INFO_FLAG_CAPS, device.flags);
	assert_true(congruent(region->address, device.offset,
			      deserved(whole, device.offset, SIZE_MAX)));
	check_areas(region, &question);
	read_address_space(&during);
	for (uint64_t at = 0; at < whole; at += page_size()) {
		const char *page = (char *)region->address + at;
		const bool mapped = enabled && any_area_holds(&question, at, at + page_size()) &&
				    !has_hole(&question, at, at + page_size());

		assert_string_equal(access_at(&during, page), mapped ? access_of_areas() : "---p");
		if (mapped && device.flags & READ)
			assert_int_equal(*(const volatile uint64_t *)page, device.offset + at);
	}
}

static void check_and_unmap(struct alignmap_vfio_region *region)
{
	assert_non_null(region);
	check_region(region, true);
	assert_int_equal(alignmap_vfio_disable(region), 0);
	check_region(region, false);
	assert_int_equal(alignmap_vfio_enable(region), 0);
	check_region(region, true);
	assert_int_equal(alignmap_vfio_unmap(region), 0);
}

static void a_region_lies_congruent_with_its_offset_page_by_page(void **state)
{
	const size_t page = page_size(), pmd = pmd_size();
	const struct {
		uint64_t length, phase;
	} regions[] = {
		{ page, 0 },
		{ 256, 0 },
		{ 5 * page + 1, 3 * page },
		{ pmd, 0 },
		{ pmd - page, page },
		{ 2 * pmd, 0 },
		{ 2 * pmd + 7, pmd / 2 },
		{ 3 * pmd, pmd - page },
		{ pmd + page, pmd / 2 },
		{ 16 * page, 0 },
	};

	for (size_t i = 0; i < COUNT(regions); i++) {
		for (int holes = 0; holes < 2; holes++) {
			make_device(state);
			device.length = regions[i].length;
			device.offset += regions[i].phase;
			if (holes) {
				add_hole(device.length - 1, 1);
				add_hole(device.length / 2, 100);
				add_hole(device.length / 3, 0);
			}
			read_address_space(&before);
			errno = EXDEV;
			check_and_unmap(map_device());
			assert_int_equal(errno, EXDEV);
			read_address_space(&after);
			assert_same_address_space(&before, &after);
		}
	}
}

static void areas_and_holes_lie_where_the_region_has_them(void **state)
{
	static const uint32_t flags[] = { READ | WRITE | MMAP, READ | MMAP, WRITE | MMAP };

	for (size_t i = 0; i < COUNT(flags); i++) {
		struct alignmap_vfio_region *region;

		make_device(state);
		device.flags = flags[i];
		make_sparse();
		region = map_device();
		assert_non_null(region);
		assert_int_equal(region->area_count, 4);
		check_and_unmap(region);
	}
	/* Areas that overlap, touch, say nothing, or are no whole pages. */
	make_device(state);
	add_area(8, 4);
	add_area(10, 4);
	add_area(2, 3);
	add_area(5, 1);
	add_area(3, 0);
	device.areas[2].offset++;
	check_and_unmap(map_device());
	/* One that many holes cut. */
	make_device(state);
	add_area(0, 16);
	while (device.hole_count < COUNT(device.holes))
		add_hole((2 * device.hole_count + 1) * page_size(), 1);
	check_and_unmap(map_device());
	/* As many as a device will hardly have. */
	make_device(state);
	for (size_t i = AREAS_MAX - 1; i > 0; i--)
		add_area(2 * i, 1);
	device.length = 2 * AREAS_MAX * page_size();
	check_and_unmap(map_device());
}

static void a_region_of_the_largest_leaf_is_congruent_around_its_hole(void **state)
{
	const size_t leaf = largest_leaf();
	struct alignmap_vfio_region *region;

	(void)state;
	device.length = 2 * leaf;
	add_hole(0, page_size());
	add_hole(leaf + leaf / 2, 1);
	region = map_device();
	assert_non_null(region);
	assert_true(congruent(region->address, BASE, leaf));
	assert_int_equal(region->area_count, 2);
	assert_int_equal(region->areas[0].offset, page_size());
	assert_int_equal(region->areas[1].offset, leaf + leaf / 2 + page_size());
	assert_true(congruent(region->areas[1].address, BASE + region->areas[1].offset, leaf));
	assert_int_equal(alignmap_vfio_unmap(region), 0);
}

/* What a child dies of that reads, or writes, there. */
static int fatal_signal(char *address, bool writes)
{
	int status;
	pid_t pid = fork_child();

	if (pid == 0) {
		const char there = *(volatile char *)address;

		if (writes)
			*(volatile char *)address = there;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	/* A sanitizer exits with a report of it. */
	return SANITIZED ? SIGSEGV : WTERMSIG(status);
}

static void what_must_not_be_accessed_faults(void **state)
{
	struct alignmap_vfio_region *region;
	char *address;

	(void)state;
	make_sparse();
	region = map_device();
	assert_non_null(region);
	address = region->address;
	assert_int_equal(fatal_signal(address + page_size(), true), 0);
	assert_int_equal(fatal_signal(address, false), SIGSEGV);
	assert_int_equal(fatal_signal(address + 12 * page_size(), false), SIGSEGV);
	assert_int_equal(alignmap_vfio_disable(region), 0);
	assert_int_equal(fatal_signal(address + page_size(), false), SIGSEGV);
	assert_int_equal(alignmap_vfio_enable(region), 0);
	assert_int_equal(fatal_signal(address + page_size(), true), 0);
	assert_int_equal(alignmap_vfio_unmap(region), 0);

	device.flags = READ | MMAP;
	region = map_device();
	assert_non_null(region);
	address = region->areas[0].address;
	assert_int_equal(fatal_signal(address, false), 0);
	assert_int_equal(fatal_signal(address, true), SIGSEGV);
	assert_int_equal(alignmap_vfio_unmap(region), 0);
}

static void what_is_written_reaches_the_device(void **state)
{
	struct alignmap_vfio_region *region;
	const uint64_t word = 0x0123456789abcdef;
	uint64_t seen = 0;

	(void)state;
	make_sparse();
	region = map_device();
	assert_non_null(region);
	((uint64_t *)region->areas[1].address)[1] = word;
	assert_int_equal(pread(memory, &seen, sizeof(seen), (off_t)(BASE + 4 * page_size() + 8)),
			 sizeof(seen));
	assert_true(seen == word);
	assert_int_equal(alignmap_vfio_unmap(region), 0);
}

static void the_kernel_is_asked_for_as_much_as_it_has_to_say(void **state)
{
	const uint32_t fixed = sizeof(struct vfio_region_info);

	check_and_unmap(map_device());
	assert_int_equal(device.calls, 1);
	assert_int_equal(device.rooms[0], fixed);

	make_device(state);
	make_sparse();
	check_and_unmap(map_device());
	assert_int_equal(device.calls, 2);
	assert_int_equal(device.rooms[0], fixed);
	assert_int_equal(device.rooms[1], length_of_answer());

	/* It has more to say when it is asked again. */
	make_device(state);
	make_sparse();
	add_area(15, 1);
	device.area_count--;
	device.grows = true;
	check_and_unmap(map_device());
	assert_int_equal(device.area_count, 4);
	assert_int_equal(device.calls, 3);
	assert_int_equal(device.rooms[2], length_of_answer());

	/* It says less than what it fills, which is all there. */
	for (uint32_t says = 1; says <= fixed; says++) {
		make_device(state);
		device.says = says;
		check_and_unmap(map_device());
		assert_int_equal(device.calls, 1);
	}
}

static void assert_refused(int error)
{
	errno = 0;
	assert_null(map_device());
	assert_int_equal(errno, error);
}

static void a_kernel_that_never_has_room_enough_is_given_up(void **state)
{
	static const uint32_t lengths[] = { (1u << 20) + 1, 1u << 24, 1u << 31, UINT32_MAX };
	static const uint32_t more[] = { 1, 8, 4096, 1u << 18 };

	for (size_t i = 0; i < COUNT(lengths); i++) {
		make_device(state);
		device.says = lengths[i];
		assert_refused(EPROTO);
		assert_int_equal(device.calls, 1);
	}
	read_address_space(&before);
	for (size_t i = 0; i < COUNT(more); i++) {
		make_device(state);
		device.says_more_by = more[i];
		assert_refused(EPROTO);
		assert_in_range(device.calls, 2, 10);
	}
	read_address_space(&after);
	assert_same_address_space(&before, &after);
}

static void nonsense_maps_nothing(void **state)
{
	const size_t page = page_size();

	make_sparse();
	read_address_space(&before);
	device.areas[1].size = 16 * page;
	assert_refused(EPROTO);
	device.areas[1].size = UINT64_MAX;
	assert_refused(EPROTO);
	make_device(state);
	device.offset++;
	assert_refused(EPROTO);
	device.offset = UINT64_MAX - page + 1;
	assert_refused(EPROTO);
	make_device(state);
	device.length = UINT64_MAX;
	assert_refused(EPROTO);
	device.length = 0;
	assert_refused(ENODEV);
	make_device(state);
	device.flags = READ | WRITE;
	assert_refused(ENODEV);
	device.flags = MMAP;
	assert_refused(ENODEV);
	/* Consistent, but more than there are addresses. */
	make_device(state);
	device.length = (uint64_t)1 << 60;
	assert_refused(ENOMEM);
	read_address_space(&after);
	assert_same_address_space(&before, &after);
}

static void what_is_no_region_is_refused_as_ioctl_does(void **state)
{
	const int file = memfd_of((off_t)page_size());

	(void)state;
	read_address_space(&before);
	errno = 0;
	assert_null(alignmap_vfio_map(device.fd, INDEX + 1, NULL));
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_null(alignmap_vfio_map(device.fd, UINT32_MAX, NULL));
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_null(alignmap_vfio_map(file, INDEX, NULL));
	assert_int_equal(errno, ENOTTY);
	close(file);
	errno = 0;
	assert_null(alignmap_vfio_map(file, INDEX, NULL));
	assert_int_equal(errno, EBADF);
	errno = 0;
	assert_null(alignmap_vfio_map(-1, INDEX, NULL));
	assert_int_equal(errno, EBADF);
	read_address_space(&after);
	assert_same_address_space(&before, &after);
}

static void options_that_are_none_are_refused(void **state)
{
	const size_t page = page_size(), known = sizeof(struct alignmap_vfio_options);
	const struct alignmap_vfio_hole outside = { device.length, 1 }, wraps = { 1, UINT64_MAX };
	char *pages = map_raw(NULL, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* There is nothing to be read behind it. */
	const struct alignmap_vfio_hole *last = (void *)(pages + page - sizeof(*last));
	const struct {
		struct alignmap_vfio_options options;
		int error;
	} rows[] = {
		{ { .size = 0 }, EINVAL },
		{ { .size = known - 1 }, EINVAL },
		{ { .size = SIZE_MAX }, E2BIG },
		{ { .size = known, .flags = 2 }, EINVAL },
		{ { .size = known, .flags = ALIGNMAP_STRICT | (uint64_t)1 << 63 }, EINVAL },
		{ { .size = known, .max_alignment = 1 }, EINVAL },
		{ { .size = known, .max_alignment = page / 2 }, EINVAL },
		{ { .size = known, .max_alignment = 3 * page }, EINVAL },
		{ { .size = known, .hole_count = 1 }, EINVAL },
		{ { .size = known, .holes = &outside, .hole_count = 1 }, ERANGE },
		{ { .size = known, .holes = &wraps, .hole_count = 1 }, ERANGE },
		{ { .size = known, .holes = last, .hole_count = SIZE_MAX }, EINVAL },
	};

	(void)state;
	assert_true(pages != MAP_FAILED);
	assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
	read_address_space(&before);
	for (size_t i = 0; i < COUNT(rows); i++) {
		errno = 0;
		if (alignmap_vfio_map(device.fd, INDEX, &rows[i].options) || errno != rows[i].error)
			fail_msg("row %zu: %s", i, strerror(errno));
	}
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	munmap(pages, 2 * page);
}

static void options_of_a_later_version_may_ask_for_nothing(void **state)
{
	struct {
		struct alignmap_vfio_options options;
		uint64_t later;
	} asked = { .options = { .size = sizeof(asked) } };
	struct alignmap_vfio_region *region = alignmap_vfio_map(device.fd, INDEX, &asked.options);

	(void)state;
	assert_non_null(region);
	check_and_unmap(region);
	asked.later = 1;
	errno = 0;
	assert_null(alignmap_vfio_map(device.fd, INDEX, &asked.options));
	assert_int_equal(errno, E2BIG);

	/* Without options at all; and holes are not read if there are none. */
	region = alignmap_vfio_map(device.fd, INDEX, NULL);
	assert_non_null(region);
	check_and_unmap(region);
	asked.options =
		(struct alignmap_vfio_options){ .size = sizeof(asked.options), .holes = (void *)1 };
	region = alignmap_vfio_map(device.fd, INDEX, &asked.options);
	assert_non_null(region);
	check_and_unmap(region);
}

static void holes_are_copied(void **state)
{
	struct alignmap_vfio_hole *mine = __real_malloc(sizeof(*mine));
	struct alignmap_vfio_options options = { .size = sizeof(options),
						 .holes = mine,
						 .hole_count = 1 };
	struct alignmap_vfio_region *region;

	(void)state;
	assert_non_null(mine);
	add_hole(5 * page_size(), 1);
	*mine = device.holes[0];
	region = alignmap_vfio_map(device.fd, INDEX, &options);
	*mine = (struct alignmap_vfio_hole){ 0, 1 };
	free(mine);
	memset(&options, 0xff, sizeof(options));
	check_and_unmap(region);
}

static void no_larger_alignment_is_used_than_was_asked_for(void **state)
{
	struct alignmap_vfio_options options = { .size = sizeof(options) };
	bool missed = false;

	(void)state;
	device.length = 4 * pmd_size();
	device.offset = BASE + page_size();
	options.max_alignment = pmd_size();
	for (int i = 0; i < 16; i++) {
		struct alignmap_vfio_region *region = alignmap_vfio_map(device.fd, INDEX, &options);

		assert_non_null(region);
		assert_true(congruent(region->address, device.offset, options.max_alignment));
		missed |= options.max_alignment == page_size() &&
			  !congruent(region->address, device.offset, pmd_size());
		options.max_alignment = page_size();
		assert_int_equal(alignmap_vfio_unmap(region), 0);
	}
	/* The kernel's own choice is never off by just that page. */
	assert_true(missed);
}

/* There is room for the window, but not to align it, and for a piece aside. */
static int map_strictly_near_the_limit(void)
{
	struct alignmap_vfio_options options = { .size = sizeof(options) };
	struct alignmap_vfio_region *region;

	device.length = 4 * pmd_size();
	device.offset = BASE + page_size();
	for (size_t at = 0; at < 4 * pmd_size(); at += pmd_size() / 2)
		add_area(at / page_size(), 1);
	REQUIRE(limit_address_space(&before, device.length + 4 * page_size()) == 0);
	region = alignmap_vfio_map(device.fd, INDEX, &options);
	REQUIRE(region && region->area_count == 8);
	REQUIRE(alignmap_vfio_unmap(region) == 0);
	options.flags = ALIGNMAP_STRICT;
	errno = 0;
	REQUIRE(!alignmap_vfio_map(device.fd, INDEX, &options) && errno == ENOMEM);
	options.max_alignment = page_size();
	region = alignmap_vfio_map(device.fd, INDEX, &options);
	REQUIRE(region && alignmap_vfio_unmap(region) == 0);
	read_address_space(&after);
	REQUIRE(after.pages == before.pages);
	return 0;
}

static void strict_means_as_the_plan_says_or_not_at_all(void **state)
{
	struct alignmap_vfio_options options = { .size = sizeof(options),
						 .flags = ALIGNMAP_STRICT };
	struct alignmap_vfio_region *region;

	(void)state;
	device.length = 4 * pmd_size();
	region = alignmap_vfio_map(device.fd, INDEX, &options);
	assert_non_null(region);
	check_and_unmap(region);
	if (SANITIZED)
		skip_because("a sanitizer needs its address space (RLIMIT_AS)");
	assert_int_equal(end_of(map_strictly_near_the_limit), 0);
}

static void a_thousand_resets_leave_the_address_space_as_it_was(void **state)
{
	struct alignmap_vfio_region *region;
	void *address;

	(void)state;
	make_sparse();
	region = map_device();
	assert_non_null(region);
	address = region->address;
	read_address_space(&before);
	for (int i = 0; i < 1000; i++) {
		errno = EXDEV;
		assert_int_equal(alignmap_vfio_disable(region), 0);
		assert_int_equal(alignmap_vfio_enable(region), 0);
		assert_int_equal(errno, EXDEV);
	}
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	assert_ptr_equal(region->address, address);
	check_and_unmap(region);
}

static void the_state_that_is_asked_for_twice_stays(void **state)
{
	struct alignmap_vfio_region *region;

	(void)state;
	make_sparse();
	region = map_device();
	assert_non_null(region);
	((uint64_t *)region->areas[0].address)[2] = 1;
	read_address_space(&before);
	device.advised = 0;
	assert_int_equal(alignmap_vfio_enable(region), 0);
	/* What was mapped has not been mapped again. */
	assert_int_equal(device.advised, 0);
	check_region(region, true);
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(alignmap_vfio_disable(region), 0);
		check_region(region, false);
	}
	assert_int_equal(alignmap_vfio_unmap(region), 0);
	assert_int_equal(alignmap_vfio_unmap(NULL), 0);
}

static void a_region_of_nothing_but_holes_is_held(void **state)
{
	struct alignmap_vfio_region *region;

	(void)state;
	add_hole(0, device.length);
	region = map_device();
	assert_non_null(region);
	assert_int_equal(region->area_count, 0);
	check_and_unmap(region);
}

static void each_area_is_advised_and_no_advice_need_be_taken(void **state)
{
	struct alignmap_vfio_region *region;

	for (int taken = 0; taken < 2; taken++) {
		make_device(state);
		make_sparse();
		device.advice_error = taken ? 0 : EINVAL;
		errno = EXDEV;
		region = map_device();
		assert_int_equal(errno, EXDEV);
		assert_non_null(region);
		assert_int_equal(device.advised, region->area_count);
		for (size_t i = 0; i < region->area_count; i++) {
			assert_ptr_equal(device.advices[i].address, region->areas[i].address);
			assert_int_equal(device.advices[i].length, region->areas[i].length);
		}
		assert_int_equal(alignmap_vfio_disable(region), 0);
		device.advised = 0;
		errno = EXDEV;
		assert_int_equal(alignmap_vfio_enable(region), 0);
		assert_int_equal(errno, EXDEV);
		assert_int_equal(device.advised, region->area_count);
		check_and_unmap(region);
	}
}

/* The pages at which the areas begin that make_sparse() makes. */
static const size_t starts[] = { 1, 4, 9, 13 };

static void a_region_that_is_refused_in_the_middle_leaves_nothing(void **state)
{

	(void)state;
	make_sparse();
	assert_int_equal(alignmap_vfio_unmap(map_device()), 0);
	read_address_space(&before);
	for (size_t i = 0; i < COUNT(starts); i++) {
		for (size_t j = 0; j < MMAP_ERRORS; j++) {
			device.refused = BASE + starts[i] * page_size();
			device.refusal = mmap_errors[j];
			assert_refused(mmap_errors[j]);
		}
	}
	device.refusal = 0;
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	check_and_unmap(map_device());
}

static void a_device_that_refuses_what_its_driver_says_leaves_nothing(void **state)
{
	char path[64];

	(void)state;
	make_sparse();
	read_address_space(&before);
	/* Nobody may write a sealed file, and nobody may map an eventfd. */
	device.fd = memfd_create("alignmap-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(device.fd, (off_t)(BASE + M)), 0);
	assert_int_equal(fcntl(device.fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_refused(EPERM);
	close(device.fd);
	device.fd = eventfd(0, EFD_CLOEXEC);
	assert_refused(ENODEV);
	close(device.fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
	device.fd = open(path, O_RDONLY);
	assert_true(device.fd >= 0);
	assert_refused(EACCES);
	read_address_space(&after);
	assert_same_address_space(&before, &after);
	/* It can be read, though. */
	device.flags = READ | MMAP;
	check_and_unmap(map_device());
	close(device.fd);
}

static void enabling_that_fails_leaves_all_out_and_can_be_repeated(void **state)
{
	struct alignmap_vfio_region *region;
	const int other = eventfd(0, EFD_CLOEXEC), stand_in = dup(memory);

	(void)state;
	assert_true(other >= 0 && stand_in >= 0);
	device.fd = stand_in;
	make_sparse();
	region = map_device();
	assert_non_null(region);
	assert_int_equal(alignmap_vfio_disable(region), 0);
	read_address_space(&before);
	for (size_t i = 0; i < COUNT(starts); i++) {
		for (int again = 0; again < 2; again++) {
			device.refused = BASE + starts[i] * page_size();
			device.refusal = ENXIO;
			errno = 0;
			assert_int_equal(alignmap_vfio_enable(region), -1);
			assert_int_equal(errno, ENXIO);
			check_region(region, false);
			read_address_space(&after);
			assert_same_address_space(&before, &after);
		}
	}
	device.refusal = 0;
	/* The kernel's own refusal. */
	assert_int_equal(dup2(other, stand_in), stand_in);
	errno = 0;
	assert_int_equal(alignmap_vfio_enable(region), -1);
	assert_int_equal(errno, ENODEV);
	check_region(region, false);
	assert_int_equal(dup2(memory, stand_in), stand_in);
	assert_int_equal(alignmap_vfio_enable(region), 0);
	check_and_unmap(region);
	close(stand_in);
	close(other);
}

/* No mapping can be made any more, not even over another, once there is one too many. */
static int disable_near_the_map_count_limit(void)
{
	const size_t page = page_size(), many = (size_t)4 << 20;
	char *pages = map_raw(NULL, many * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct alignmap_vfio_region *region;
	size_t split = 1;

	make_sparse();
	region = map_device();
	REQUIRE(region && pages != MAP_FAILED);
	while (split < many && mprotect(pages + split * page, page, PROT_READ) == 0)
		split += 2;
	REQUIRE(errno == ENOMEM);
	while (map_raw(NULL, page, PROT_READ, MAP_SHARED, memory, 0) != MAP_FAILED)
		;
	for (int i = 0; i < 2; i++) {
		errno = 0;
		REQUIRE(alignmap_vfio_disable(region) == -1 && errno == ENOMEM);
		REQUIRE(*(volatile uint64_t *)region->areas[0].address == BASE + page);
	}
	errno = 0;
	REQUIRE(alignmap_vfio_enable(region) == -1 && errno == ENOMEM);
	REQUIRE(munmap(pages, many * page) == 0);
	REQUIRE(*(volatile uint64_t *)region->areas[0].address == BASE + page);
	REQUIRE(alignmap_vfio_enable(region) == 0);
	REQUIRE(*(volatile uint64_t *)region->areas[3].address == BASE + 13 * page);
	REQUIRE(alignmap_vfio_disable(region) == 0);
	return alignmap_vfio_unmap(region);
}

static void disabling_that_fails_can_be_repeated(void **state)
{
	(void)state;
	need_map_count_in_reach();
	if (SANITIZED)
		skip_because("a sanitizer must map for itself (vm.max_map_count)");
	assert_int_equal(end_of(disable_near_the_map_count_limit), 0);
}

/* A filter that fails mremap so as the kernel does, which may have unmapped the place or not. */
static int lose_an_area(void)
{
	static const int mremap_alone[] = { SYS_mremap };
	struct alignmap_vfio_region *region;

	make_sparse();
	region = map_device();
	REQUIRE(region && alignmap_vfio_disable(region) == 0);
	REQUIRE(filter_calls(mremap_alone, 1, SECCOMP_RET_ERRNO | EFAULT, 0) == 0);
	errno = 0;
	REQUIRE(alignmap_vfio_enable(region) == -1 && errno == EFAULT);
	for (int i = 0; i < 2; i++) {
		errno = 0;
		REQUIRE(alignmap_vfio_enable(region) == -1 && errno == EEXIST);
		errno = 0;
		REQUIRE(alignmap_vfio_disable(region) == -1 && errno == EEXIST);
	}
	return alignmap_vfio_unmap(region);
}

static void a_region_that_has_lost_an_area_can_only_be_unmapped(void **state)
{
	(void)state;
	assert_int_equal(end_of(lose_an_area), 0);
}

static void an_allocation_that_fails_leaves_nothing(void **state)
{
	struct alignmap_vfio_region *region = NULL;

	(void)state;
	/* More areas than the window makes room for at first. */
	for (size_t i = 0; i < 20; i++)
		add_area(3 * i, 2);
	device.length = 64 * page_size();
	assert_int_equal(alignmap_vfio_unmap(map_device()), 0);
	read_address_space(&before);
	for (long n = 1; !region; n++) {
		device.allocated = 0;
		device.allocations = n;
		errno = 0;
		region = map_device();
		if (region)
			break;
		assert_int_equal(errno, ENOMEM);
		/* The n-th was one that was made. */
		assert_int_equal(device.allocated, n);
		read_address_space(&after);
		assert_same_address_space(&before, &after);
	}
	/* The answer twice, the ranges, the region, the window and its pieces at the least. */
	assert_true(device.allocations > 6);
	device.allocations = 0;
	check_and_unmap(region);
}

/* What fails of the system calls that a region takes, as each operation makes them. */
static struct {
	bool armed;
	unsigned int nth;
	bool munmaps; /* or each munmap */
	int error;
	unsigned int calls;
	int number; /* of the one that failed; -1: none did */
	bool fixed; /* it was an mmap over what is there */
} failing;

static struct verdict fail_the_nth(const struct seccomp_data *call)
{
	if (!failing.armed)
		return (struct verdict){ 0 };
	if (++failing.calls != failing.nth && !(failing.munmaps && call->nr == SYS_munmap))
		return (struct verdict){ 0 };
	failing.number = call->nr;
	failing.fixed = call->nr == SYS_mmap && call->args[3] & MAP_FIXED;
	return (struct verdict){ failing.error, NULL };
}

static void arm(unsigned int nth, int error)
{
	failing.nth = nth;
	failing.error = error;
	failing.calls = 0;
	failing.number = -1;
	failing.armed = true;
}

/* After what fails so, nobody knows whose the place is (lib/window.c says why). */
static bool a_place_is_lost(void)
{
	if (failing.number == SYS_mremap)
		return failing.error != EPERM && failing.error != ENOSYS;
	return failing.number >= 0 && failing.fixed && failing.error == ENOMEM;
}

enum operation { MAP, DISABLE, ENABLE, UNMAP };

/* Fails the n-th call of one of them; the others are made as they should be. Returns whether there
 * was one. */
static bool fail_one_call(enum operation failed, unsigned int nth, int error)
{
	int (*const operations[])(struct alignmap_vfio_region *) = {
		[DISABLE] = alignmap_vfio_disable,
		[ENABLE] = alignmap_vfio_enable,
		[UNMAP] = alignmap_vfio_unmap,
	};
	struct alignmap_vfio_region *region;

	read_address_space(&before);
	errno = EXDEV;
	arm(nth, error);
	failing.armed = failed == MAP;
	region = map_device();
	failing.armed = false;
	if (!region)
		assert_int_equal(errno, error);
	for (enum operation i = DISABLE; region && i <= UNMAP; i++) {
		int result;

		if (i == failed)
			arm(nth, error);
		errno = EXDEV;
		result = operations[i](region);
		failing.armed = false;
		if (i == failed && result) {
			assert_int_equal(errno, error);
			errno = EXDEV;
			result = operations[i](region);
		}
		/* A second time it goes as it should. */
		if (a_place_is_lost() && i != UNMAP) {
			assert_int_equal(result, -1);
			assert_int_equal(errno, EEXIST);
			continue;
		}
		assert_int_equal(result, 0);
		if (i != UNMAP)
			check_region(region, i == ENABLE);
	}
	read_address_space(&after);
	if (!a_place_is_lost())
		assert_same_address_space(&before, &after);
	return failing.number >= 0;
}

static int fail_each_call(void)
{
	static const int numbers[] = { SYS_mmap, SYS_munmap, SYS_mremap, SYS_munlock };
	unsigned long injected = 0;

	/* cmocka would go on with the next test otherwise. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	make_sparse();
	failing.number = -1;
	REQUIRE(alignmap_vfio_unmap(map_device()) == 0);
	REQUIRE(be_watched(numbers, COUNT(numbers), fail_the_nth));
	for (enum operation operation = MAP; operation <= UNMAP; operation++) {
		for (size_t i = 0; i < MMAP_ERRORS; i++) {
			unsigned int nth = 1;

			while (fail_one_call(operation, nth, mmap_errors[i]))
				nth++;
			REQUIRE(nth > 1);
			injected += nth - 1;
		}
	}
	/* A munmap that fails is tried twice. */
	failing.munmaps = true;
	fail_one_call(UNMAP, 0, ENOMEM);
	REQUIRE(failing.calls == 2 && failing.number == SYS_munmap);
	printf("# trust failures|a region of four areas: mapped, disabled, enabled, unmapped|"
	       "%lu, by %d errnos|mmap, munmap, mremap, munlock|as it should be, or the errno and "
	       "then "
	       "repeated; mappings and VmSize as before, but for lost places\n",
	       injected, MMAP_ERRORS);
	fflush(stdout);
	return 0;
}

static void whatever_call_fails_a_region_is_mapped_whole_or_not_and_can_be_repeated(void **state)
{
	(void)state;
	if (SANITIZED)
		skip_because("a sanitizer makes such calls for itself");
	assert_int_equal(end_of(fail_each_call), 0);
}

#define THREADS 4
#define EACH (SANITIZED ? 300 : 3000)

static struct alignmap_vfio_region *shared_region;
static atomic_ulong failures, wrong_words, words;
static atomic_bool finished;

static void *enable_and_disable(void *number)
{
	for (int i = 0; i < EACH; i++) {
		if (((uintptr_t)number + (unsigned int)i) % 3 == 0)
			failures += alignmap_vfio_disable(shared_region) != 0;
		else
			failures += alignmap_vfio_enable(shared_region) != 0;
	}
	return NULL;
}

/* By a system call, since an area that is out cannot be looked at. */
static void *read_words(void *nothing)
{
	while (!finished) {
		for (size_t i = 0; i < shared_region->area_count; i++) {
			const struct alignmap_vfio_area *area = &shared_region->areas[i];
			struct iovec remote = { area->address, sizeof(uint64_t) };
			uint64_t word = 0;
			struct iovec local = { &word, sizeof(word) };

			if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) !=
			    (ssize_t)sizeof(word))
				continue;
			words++;
			wrong_words += word != BASE + area->offset;
		}
	}
	return nothing;
}

static void threads_that_enable_and_disable_one_region_leave_it_whole(void **state)
{
	pthread_t threads[THREADS], reader;

	(void)state;
	make_sparse();
	read_address_space(&before);
	shared_region = map_device();
	assert_non_null(shared_region);
	assert_int_equal(pthread_create(&reader, NULL, read_words, NULL), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, enable_and_disable, (void *)i),
				 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	finished = true;
	pthread_join(reader, NULL);
	assert_int_equal(failures, 0);
	assert_int_equal(wrong_words, 0);
	assert_int_equal(alignmap_vfio_enable(shared_region), 0);
	check_and_unmap(shared_region);
}

static void no_region_is_neither_enabled_nor_disabled(void **state)
{
	(void)state;
	errno = 0;
	assert_int_equal(alignmap_vfio_disable(NULL), -1);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_int_equal(alignmap_vfio_enable(NULL), -1);
	assert_int_equal(errno, EINVAL);
}

#define test(name) cmocka_unit_test_setup(name, make_device)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		test(no_region_is_neither_enabled_nor_disabled),
		test(a_region_lies_congruent_with_its_offset_page_by_page),
		test(areas_and_holes_lie_where_the_region_has_them),
		test(a_region_of_the_largest_leaf_is_congruent_around_its_hole),
		test(what_must_not_be_accessed_faults),
		test(what_is_written_reaches_the_device),
		test(the_kernel_is_asked_for_as_much_as_it_has_to_say),
		test(a_kernel_that_never_has_room_enough_is_given_up),
		test(nonsense_maps_nothing),
		test(what_is_no_region_is_refused_as_ioctl_does),
		test(options_that_are_none_are_refused),
		test(options_of_a_later_version_may_ask_for_nothing),
		test(holes_are_copied),
		test(no_larger_alignment_is_used_than_was_asked_for),
		test(strict_means_as_the_plan_says_or_not_at_all),
		test(a_thousand_resets_leave_the_address_space_as_it_was),
		test(the_state_that_is_asked_for_twice_stays),
		test(a_region_of_nothing_but_holes_is_held),
		test(each_area_is_advised_and_no_advice_need_be_taken),
		test(a_region_that_is_refused_in_the_middle_leaves_nothing),
		test(a_device_that_refuses_what_its_driver_says_leaves_nothing),
		test(enabling_that_fails_leaves_all_out_and_can_be_repeated),
		test(disabling_that_fails_can_be_repeated),
		test(a_region_that_has_lost_an_area_can_only_be_unmapped),
		test(an_allocation_that_fails_leaves_nothing),
		test(whatever_call_fails_a_region_is_mapped_whole_or_not_and_can_be_repeated),
		test(threads_that_enable_and_disable_one_region_leave_it_whole),
	};

	choose_way(argc, argv);
	/* So the heap is as large as it will be, and no part of what the tests compare. */
#ifdef M_TRIM_THRESHOLD
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	mallopt(M_MMAP_THRESHOLD, 16 << 20);
#endif
	free(__real_malloc(8 << 20));
	return cmocka_run_group_tests(tests, make_memory, NULL);
}
