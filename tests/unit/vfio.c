// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What of a region can be mapped, by recorded and made-up answers of VFIO_DEVICE_GET_REGION_INFO.
 * The oracle (../fuzz/oracle.h) looks at each page by itself. The answers lie right below a page
 * that cannot be accessed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../fuzz/oracle.h"
#include "../fuzz/replay.h"

#define K ((uint64_t)1 << 10)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define READ VFIO_REGION_INFO_FLAG_READ
#define WRITE VFIO_REGION_INFO_FLAG_WRITE
#define MMAP VFIO_REGION_INFO_FLAG_MMAP
#define CAPS VFIO_REGION_INFO_FLAG_CAPS

#define SPARSE VFIO_REGION_INFO_CAP_SPARSE_MMAP
#define MSIX VFIO_REGION_INFO_CAP_MSIX_MAPPABLE

#define AREAS_MAX 4096

/* What the kernel has written, in the making. */
struct answer {
	union {
		struct vfio_region_info info;
		unsigned char bytes[sizeof(struct vfio_region_info) + 1024 +
				    AREAS_MAX * sizeof(struct vfio_region_sparse_mmap_area)];
	};
	size_t filled;
	size_t link; /* where the place of the next capability is written */
};

static struct answer answer;
static struct vfio_range *ranges;

static void answer_with(uint32_t flags, uint64_t length)
{
	memset(&answer, 0, sizeof(answer));
	answer.info = (struct vfio_region_info){ sizeof(answer.info), flags, 2, 0, length,
						 (uint64_t)2 << 40 };
	answer.filled = sizeof(answer.info);
	answer.link = offsetof(struct vfio_region_info, cap_offset);
}

static void write32(size_t at, uint32_t number)
{
	memcpy(answer.bytes + at, &number, sizeof(number));
}

/* Links a capability in that is to lie at @at. */
static void link_at(size_t at, uint16_t id, uint16_t version)
{
	const struct vfio_info_cap_header header = { id, version, 0 };

	answer.info.flags |= CAPS;
	write32(answer.link, (uint32_t)at);
	memcpy(answer.bytes + at, &header, sizeof(header));
	answer.link = at + offsetof(struct vfio_info_cap_header, next);
}

/* Appends one with a body of @length bytes, and says where it lies. */
static size_t append(uint16_t id, uint16_t version, size_t length)
{
	const size_t at = answer.filled;

	link_at(at, id, version);
	answer.filled += sizeof(struct vfio_info_cap_header) + length;
	answer.info.argsz = (uint32_t)answer.filled;
	return at;
}

static size_t append_areas(const struct vfio_region_sparse_mmap_area *areas, size_t count)
{
	const size_t at = append(SPARSE, 1, 8 + count * sizeof(*areas));

	write32(at + 8, (uint32_t)count);
	if (count)
		memcpy(answer.bytes + at + 16, areas, count * sizeof(*areas));
	return at;
}

static void *below_guard(char **place, size_t length)
{
	const size_t room = 256 << 10, guard = (size_t)sysconf(_SC_PAGESIZE);

	if (!*place) {
		*place = mmap(NULL, room + guard, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(*place != MAP_FAILED);
		assert_int_equal(mprotect(*place + room, guard, PROT_NONE), 0);
	}
	assert_true(length <= room);
	return *place + room - length;
}

static ssize_t ask(size_t page, const struct alignmap_vfio_hole *holes, size_t hole_count)
{
	static char *bytes, *room;
	void *info = below_guard(&bytes, answer.filled);
	size_t most = alignmap_vfio_room(answer.filled, hole_count);

	memcpy(info, answer.bytes, answer.filled);
	ranges = below_guard(&room, most * sizeof(*ranges));
	errno = 0;
	return alignmap_vfio_ranges(info, answer.filled, page, holes, hole_count, ranges);
}

static void print_answer(const char *name, ssize_t count)
{
	print_error("%s: %zd, errno %d\n", name, count, count < 0 ? errno : 0);
	for (ssize_t i = 0; i < count; i++)
		print_error("  %#llx %#llx\n", (unsigned long long)ranges[i].offset,
			    (unsigned long long)ranges[i].length);
}

#define assert_refused(error)                              \
	do {                                               \
		assert_int_equal(ask(4 * K, NULL, 0), -1); \
		assert_int_equal(errno, error);            \
	} while (0)

/* The whole region, which no capability cuts. */
#define assert_whole(page, expected)                          \
	do {                                                  \
		assert_int_equal(ask(page, NULL, 0), 1);      \
		assert_int_equal(ranges[0].offset, 0);        \
		assert_int_equal(ranges[0].length, expected); \
	} while (0)

struct list {
	size_t count;
	struct vfio_range at[6];
};

#define LIST(...)                                              \
	{                                                      \
		COUNT(((struct vfio_range[]){ __VA_ARGS__ })), \
		{                                              \
			__VA_ARGS__                            \
		}                                              \
	}
#define NOTHING                      \
	{                            \
		0,                   \
		{                    \
			{            \
				0, 0 \
			}            \
		}                    \
	}
#define KIB(from, length)                    \
	{                                    \
		(from) * 1024, (length)*1024 \
	}

struct row {
	const char *name;
	size_t page;
	uint64_t length;
	struct list areas;
	struct list holes;
	int error; /* or: */
	struct list expected;
};

/* Of a region without the sparse mmap capability if @whole. */
static void check_row(const struct row *row, bool whole)
{
	struct vfio_region_sparse_mmap_area areas[6];
	struct alignmap_vfio_hole holes[6];
	const struct vfio_region_sparse_mmap_area all = { 0, row->length };
	struct question question = { row->length, row->page,	    areas, row->areas.count,
				     holes,	  row->holes.count, 0 };
	const char *wrong;
	ssize_t count;

	for (size_t i = 0; i < row->areas.count; i++)
		areas[i] = (struct vfio_region_sparse_mmap_area){ row->areas.at[i].offset,
								  row->areas.at[i].length };
	for (size_t i = 0; i < row->holes.count; i++)
		holes[i] = (struct alignmap_vfio_hole){ row->holes.at[i].offset,
							row->holes.at[i].length };
	answer_with(READ | WRITE | MMAP, row->length);
	if (!whole)
		append_areas(areas, row->areas.count);
	count = ask(row->page, holes, row->holes.count);
	if (row->error) {
		if (count != -1 || errno != row->error) {
			print_answer(row->name, count);
			fail();
		}
		return;
	}
	if (count != (ssize_t)row->expected.count ||
	    memcmp(ranges, row->expected.at, (size_t)count * sizeof(*ranges)) != 0) {
		print_answer(row->name, count);
		fail();
	}
	if (whole) {
		question.areas = &all;
		question.area_count = 1;
	}
	question.room = alignmap_vfio_room(answer.filled, row->holes.count);
	wrong = wrong_answer(&question, ranges, count);
	if (wrong)
		fail_msg("%s: the oracle: %s", row->name, wrong);
}

static void a_region_without_areas_is_whole_pages(void **state)
{
	static const struct row rows[] = {
		{ "4K", 4 * K, 4 * K, NOTHING, NOTHING, 0, LIST(KIB(0, 4)) },
		{ "64M", 4 * K, 65536 * K, NOTHING, NOTHING, 0, LIST(KIB(0, 65536)) },
		{ "256 bytes, 4K", 4 * K, 256, NOTHING, NOTHING, 0, LIST(KIB(0, 4)) },
		{ "1 byte, 16K", 16 * K, 1, NOTHING, NOTHING, 0, LIST(KIB(0, 16)) },
		{ "16K, 64K", 64 * K, 16 * K, NOTHING, NOTHING, 0, LIST(KIB(0, 64)) },
		{ "16K, 64K, a hole", 64 * K, 16 * K, NOTHING, LIST({ 100, 1 }), 0, NOTHING },
		{ "80K, 64K", 64 * K, 80 * K, NOTHING, NOTHING, 0, LIST(KIB(0, 128)) },
		{ "80K, 64K, a hole", 64 * K, 80 * K, NOTHING, LIST(KIB(64, 4)), 0,
		  LIST(KIB(0, 64)) },
		{ "20K+1, 16K", 16 * K, 20 * K + 1, NOTHING, NOTHING, 0, LIST(KIB(0, 32)) },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		check_row(&rows[i], true);
}

static void areas_are_sorted_cut_inward_and_kept_apart(void **state)
{
	static const struct row rows[] = {
		{ "none", 4 * K, 64 * K, NOTHING, NOTHING, 0, NOTHING },
		{ "one", 4 * K, 64 * K, LIST(KIB(8, 8)), NOTHING, 0, LIST(KIB(8, 8)) },
		{ "all", 4 * K, 64 * K, LIST(KIB(0, 64)), NOTHING, 0, LIST(KIB(0, 64)) },
		{ "unsorted", 4 * K, 64 * K, LIST(KIB(32, 4), KIB(0, 4), KIB(16, 4)), NOTHING, 0,
		  LIST(KIB(0, 4), KIB(16, 4), KIB(32, 4)) },
		{ "touching", 4 * K, 64 * K, LIST(KIB(0, 8), KIB(8, 8)), NOTHING, 0,
		  LIST(KIB(0, 8), KIB(8, 8)) },
		{ "overlapping", 4 * K, 64 * K, LIST(KIB(8, 16), KIB(0, 12)), NOTHING, 0,
		  LIST(KIB(0, 12), KIB(12, 12)) },
		{ "nested", 4 * K, 64 * K, LIST(KIB(8, 4), KIB(0, 32)), NOTHING, 0,
		  LIST(KIB(0, 32)) },
		{ "behind a nested one", 4 * K, 64 * K, LIST(KIB(0, 32), KIB(4, 4), KIB(16, 20)),
		  NOTHING, 0, LIST(KIB(0, 32), KIB(32, 4)) },
		{ "from the same start", 4 * K, 64 * K, LIST(KIB(4, 4), KIB(4, 12), KIB(4, 8)),
		  NOTHING, 0, LIST(KIB(4, 12)) },
		{ "twice", 4 * K, 64 * K, LIST(KIB(4, 4), KIB(4, 4)), NOTHING, 0, LIST(KIB(4, 4)) },
		{ "zero-length", 4 * K, 64 * K, LIST(KIB(0, 0), KIB(8, 4), KIB(8, 0), KIB(64, 0)),
		  NOTHING, 0, LIST(KIB(8, 4)) },
		{ "unaligned", 4 * K, 64 * K, LIST({ 0x1001, 0x2fff }, { 0x8000, 0x1fff }), NOTHING,
		  0, LIST(KIB(8, 8), KIB(32, 4)) },
		{ "less than a page", 4 * K, 64 * K, LIST({ 0x1001, 0xffe }, { 0x3800, 0x1000 }),
		  NOTHING, 0, NOTHING },
		/* Each has the page that the other has not whole. */
		{ "overlapping by less than a page", 4 * K, 64 * K,
		  LIST({ 0, 0x1800 }, { 0x1000, 0x1000 }), NOTHING, 0, LIST(KIB(0, 4), KIB(4, 4)) },
		{ "two halves of a page", 4 * K, 64 * K, LIST({ 0, 0x1800 }, { 0x1800, 0x800 }),
		  NOTHING, 0, LIST(KIB(0, 4)) },
		{ "to the end of an odd region", 4 * K, 0x5100, LIST({ 0x4000, 0x1100 }), NOTHING,
		  0, LIST(KIB(16, 8)) },
		{ "not to the end of it", 4 * K, 0x5100, LIST({ 0x4000, 0x10ff }), NOTHING, 0,
		  LIST(KIB(16, 4)) },
		{ "the end of it alone", 4 * K, 0x5100, LIST({ 0x5000, 0x100 }), NOTHING, 0,
		  LIST(KIB(20, 4)) },
		{ "less than the end of it", 4 * K, 0x5100, LIST({ 0x5001, 0xff }), NOTHING, 0,
		  NOTHING },
		{ "zero-length at the end of it", 4 * K, 0x5100, LIST({ 0x5100, 0 }), NOTHING, 0,
		  NOTHING },
		{ "16K pages", 16 * K, 64 * K, LIST(KIB(4, 28), KIB(32, 20)), NOTHING, 0,
		  LIST(KIB(16, 16), KIB(32, 16)) },
		{ "64K pages", 64 * K, 16 * K, LIST(KIB(0, 8), KIB(8, 8)), NOTHING, 0, NOTHING },
		{ "64K pages, all", 64 * K, 16 * K, LIST(KIB(0, 16)), NOTHING, 0,
		  LIST(KIB(0, 64)) },
		{ "beyond the end", 4 * K, 64 * K, LIST(KIB(0, 4), KIB(60, 8)), NOTHING, EPROTO,
		  NOTHING },
		{ "a byte beyond the end", 4 * K, 64 * K, LIST({ 0, 64 * 1024 + 1 }), NOTHING,
		  EPROTO, NOTHING },
		{ "behind the end", 4 * K, 64 * K, LIST(KIB(64, 4)), NOTHING, EPROTO, NOTHING },
		{ "zero-length behind the end", 4 * K, 64 * K, LIST(KIB(68, 0)), NOTHING, EPROTO,
		  NOTHING },
		{ "in the last page, beyond the end", 4 * K, 0x5100, LIST({ 0x5000, 0x1000 }),
		  NOTHING, EPROTO, NOTHING },
		{ "beyond 64 bits", 4 * K, 64 * K, LIST({ 0x1000, UINT64_MAX }), NOTHING, EPROTO,
		  NOTHING },
		{ "to 2^64", 4 * K, 64 * K, LIST({ 0x1000, -(uint64_t)0x1000 }), NOTHING, EPROTO,
		  NOTHING },
		{ "at 2^64", 4 * K, 64 * K, LIST({ UINT64_MAX, 1 }), NOTHING, EPROTO, NOTHING },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		check_row(&rows[i], false);
}

static void holes_take_the_pages_that_they_touch(void **state)
{
	static const struct row rows[] = {
		{ "a page", 4 * K, 64 * K, NOTHING, LIST(KIB(12, 4)), 0,
		  LIST(KIB(0, 12), KIB(16, 48)) },
		{ "a byte", 4 * K, 64 * K, NOTHING, LIST({ 0x3fff, 1 }), 0,
		  LIST(KIB(0, 12), KIB(16, 48)) },
		{ "two bytes", 4 * K, 64 * K, NOTHING, LIST({ 0x3fff, 2 }), 0,
		  LIST(KIB(0, 12), KIB(20, 44)) },
		{ "zero-length", 4 * K, 64 * K, NOTHING, LIST({ 0, 0 }, { 0x3100, 0 }), 0,
		  LIST(KIB(0, 64)) },
		{ "at the start", 4 * K, 64 * K, NOTHING, LIST({ 0, 16 }), 0, LIST(KIB(4, 60)) },
		{ "at the end", 4 * K, 64 * K, NOTHING, LIST({ 0xffff, 1 }), 0, LIST(KIB(0, 60)) },
		{ "at an odd end", 4 * K, 0x5100, NOTHING, LIST({ 0x50ff, 1 }), 0,
		  LIST(KIB(0, 20)) },
		{ "all", 4 * K, 64 * K, NOTHING, LIST(KIB(0, 64)), 0, NOTHING },
		{ "all by two", 4 * K, 64 * K, NOTHING, LIST(KIB(32, 32), KIB(0, 32)), 0, NOTHING },
		{ "all of an odd region", 4 * K, 0x5100, NOTHING, LIST({ 0, 0x5100 }), 0, NOTHING },
		{ "unsorted", 4 * K, 64 * K, NOTHING, LIST(KIB(40, 4), KIB(8, 4), KIB(24, 4)), 0,
		  LIST(KIB(0, 8), KIB(12, 12), KIB(28, 12), KIB(44, 20)) },
		{ "overlapping", 4 * K, 64 * K, NOTHING,
		  LIST(KIB(8, 8), KIB(12, 8), KIB(12, 2), KIB(8, 8)), 0,
		  LIST(KIB(0, 8), KIB(20, 44)) },
		{ "growing", 4 * K, 64 * K, NOTHING, LIST(KIB(12, 4), KIB(8, 12)), 0,
		  LIST(KIB(0, 8), KIB(20, 44)) },
		{ "across two areas", 4 * K, 64 * K, LIST(KIB(0, 16), KIB(16, 16)),
		  LIST(KIB(12, 8)), 0, LIST(KIB(0, 12), KIB(20, 12)) },
		{ "across three areas", 4 * K, 64 * K, LIST(KIB(0, 8), KIB(8, 8), KIB(16, 16)),
		  LIST(KIB(4, 16)), 0, LIST(KIB(0, 4), KIB(20, 12)) },
		{ "in the second area", 4 * K, 64 * K, LIST(KIB(0, 8), KIB(16, 16), KIB(40, 8)),
		  LIST(KIB(20, 4)), 0, LIST(KIB(0, 8), KIB(16, 4), KIB(24, 8), KIB(40, 8)) },
		{ "between areas", 4 * K, 64 * K, LIST(KIB(0, 8), KIB(16, 16)), LIST(KIB(8, 8)), 0,
		  LIST(KIB(0, 8), KIB(16, 16)) },
		{ "from an area's start to its end", 4 * K, 64 * K,
		  LIST(KIB(0, 8), KIB(16, 16), KIB(40, 8)), LIST(KIB(16, 16)), 0,
		  LIST(KIB(0, 8), KIB(40, 8)) },
		{ "16K pages", 16 * K, 64 * K, NOTHING, LIST(KIB(20, 4)), 0,
		  LIST(KIB(0, 16), KIB(32, 32)) },
		{ "64K pages", 64 * K, 192 * K, NOTHING, LIST(KIB(127, 1)), 0,
		  LIST(KIB(0, 64), KIB(128, 64)) },
		{ "beyond the end", 4 * K, 64 * K, NOTHING, LIST(KIB(60, 8)), ERANGE, NOTHING },
		{ "behind the end", 4 * K, 64 * K, NOTHING, LIST(KIB(68, 4)), ERANGE, NOTHING },
		{ "a byte beyond", 4 * K, 0x5100, NOTHING, LIST({ 0x5100, 1 }), ERANGE, NOTHING },
		{ "beyond 64 bits", 4 * K, 64 * K, NOTHING, LIST({ 0x1000, UINT64_MAX }), ERANGE,
		  NOTHING },
		{ "to 2^64", 4 * K, 64 * K, NOTHING, LIST({ 0x1000, -(uint64_t)0x1000 }), ERANGE,
		  NOTHING },
		{ "outside behind good ones", 4 * K, 64 * K, NOTHING,
		  LIST(KIB(0, 4), KIB(8, 4), KIB(64, 1)), ERANGE, NOTHING },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		check_row(&rows[i], rows[i].areas.count == 0);
}

/*
 * By vfio-pci of Linux 7.3.4, in the lab's guest: a BAR of an emulated NVMe with its MSI-X table,
 * first as it is said to have more to say, then whole; and one without capabilities.
 */
static void recorded_answers_are_whole_regions(void **state)
{
	static const struct vfio_region_info first = { 40, READ | WRITE | MMAP | CAPS, 0, 0, 16 * K,
						       0 };
	static const struct vfio_region_info nvme = { 40, READ | WRITE | MMAP | CAPS, 0, 32, 16 * K,
						      0 };
	static const struct vfio_region_info ivshmem = {
		32, READ | WRITE | MMAP, 2, 0, 65536 * K, (uint64_t)2 << 40
	};
	static const struct vfio_info_cap_header msix = { MSIX, 1, 0 };

	(void)state;
	answer.info = first;
	answer.filled = sizeof(first);
	assert_whole(4 * K, 16 * K);
	answer.info = nvme;
	memcpy(answer.bytes + sizeof(nvme), &msix, sizeof(msix));
	answer.filled = 40;
	assert_whole(4 * K, 16 * K);
	assert_whole(64 * K, 64 * K);
	answer.info = ivshmem;
	answer.filled = sizeof(ivshmem);
	assert_whole(4 * K, 65536 * K);
}

/* Its areas are at 16 KiB. */
static void assert_one_area(void)
{
	assert_int_equal(ask(4 * K, NULL, 0), 1);
	assert_int_equal(ranges[0].offset, 16 * K);
	assert_int_equal(ranges[0].length, 8 * K);
}

static const struct vfio_region_sparse_mmap_area one_area = { 16 * 1024, 8 * 1024 };

static void other_capabilities_are_passed_by(void **state)
{
	size_t first, second;

	(void)state;
	answer_with(READ | MMAP, 64 * K);
	append(MSIX, 1, 0);
	append(0xffff, 0xffff, 100);
	append_areas(&one_area, 1);
	append(VFIO_REGION_INFO_CAP_TYPE, 1, 8);
	append(0, 0, 0);
	assert_one_area();

	answer_with(READ | MMAP, 64 * K);
	append(MSIX, 7, 0);
	append(VFIO_REGION_INFO_CAP_NVLINK2_SSATGT, 1, 8);
	append(VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD, 1, 8);
	assert_whole(4 * K, 64 * K);

	/* A chain that goes backwards has an end all the same. */
	answer_with(READ | MMAP, 64 * K);
	first = append(SPARSE, 1, 24);
	answer.link = offsetof(struct vfio_region_info, cap_offset);
	second = append(MSIX, 1, 0);
	assert_true(second > first);
	link_at(first, SPARSE, 1);
	write32(first + 8, 1);
	memcpy(answer.bytes + first + 16, &one_area, sizeof(one_area));
	assert_one_area();

	/* Linux aligns capabilities only since 6.6. */
	for (size_t odd = 1; odd < 8; odd++) {
		answer_with(READ | MMAP, 64 * K);
		append(MSIX, 1, odd);
		append_areas(&one_area, 1);
		append(MSIX, 1, 0);
		assert_one_area();
	}
}

static void capabilities_count_where_the_flag_says_so(void **state)
{
	(void)state;
	answer_with(READ | WRITE | MMAP, 64 * K);
	append_areas(&one_area, 1);
	answer.info.flags &= ~(uint32_t)CAPS;
	assert_whole(4 * K, 64 * K);
	answer.info.cap_offset = 1;
	assert_whole(4 * K, 64 * K);

	answer_with(READ | WRITE | MMAP, 64 * K);
	append_areas(&one_area, 1);
	answer.info.cap_offset = 0;
	assert_whole(4 * K, 64 * K);
}

static void argsz_is_no_measure_of_what_is_there(void **state)
{
	static const uint32_t sizes[] = { 0, 1, 31, 32, 33, 64, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		answer_with(READ | WRITE | MMAP, 64 * K);
		append_areas(&one_area, 1);
		answer.info.argsz = sizes[i];
		assert_one_area();
		answer.filled--;
		assert_refused(EPROTO);
	}
}

static void a_chain_out_of_range_is_refused(void **state)
{
	size_t at;

	(void)state;
	/* Zeros lie where there is no header: an unknown capability, the chain's end. */
	for (uint32_t offset = 1; offset < 64; offset++) {
		answer_with(READ | WRITE | MMAP, 64 * K);
		append(0, 0, 8);
		answer.info.cap_offset = offset;
		if (offset >= 32 && offset <= 40)
			assert_whole(4 * K, 64 * K);
		else
			assert_refused(EPROTO);
	}
	/* The same by a capability's own link. */
	for (uint32_t offset = 1; offset < 64; offset++) {
		answer_with(READ | WRITE | MMAP, 64 * K);
		at = append(0, 0, 8);
		append(0, 0, 0);
		write32(at + 4, offset);
		if (offset >= 40 && offset <= 48)
			assert_whole(4 * K, 64 * K);
		else if (offset <= 32 || offset > 48)
			assert_refused(EPROTO);
	}
	for (uint32_t offset = UINT32_MAX; offset > UINT32_MAX - 64; offset--) {
		answer_with(READ | WRITE | MMAP, 64 * K);
		append(MSIX, 1, 8);
		answer.info.cap_offset = offset;
		assert_refused(EPROTO);
	}

	/* A header that the end cuts, and one that has nothing behind it. */
	for (size_t cut = 0; cut < 8; cut++) {
		answer_with(READ | WRITE | MMAP, 64 * K);
		append(MSIX, 1, 0);
		answer.filled = 32 + cut;
		assert_refused(EPROTO);
	}
	for (size_t cut = 8; cut < 32; cut++) {
		answer_with(READ | WRITE | MMAP, 64 * K);
		append_areas(&one_area, 1);
		answer.filled = 32 + cut;
		assert_refused(EPROTO);
	}
	for (size_t cut = 0; cut < 32; cut++) {
		answer_with(READ | WRITE | MMAP, 64 * K);
		answer.filled = cut;
		assert_refused(EPROTO);
	}
}

static void a_chain_that_loops_is_refused(void **state)
{
	size_t first, second, third;

	(void)state;
	answer_with(READ | WRITE | MMAP, 64 * K);
	first = append(MSIX, 1, 0);
	write32(first + 4, (uint32_t)first);
	assert_refused(EPROTO);

	answer_with(READ | WRITE | MMAP, 64 * K);
	first = append_areas(&one_area, 1);
	write32(first + 4, (uint32_t)first);
	assert_refused(EPROTO);

	answer_with(READ | WRITE | MMAP, 64 * K);
	append_areas(&one_area, 1);
	second = append(MSIX, 1, 0);
	append(VFIO_REGION_INFO_CAP_TYPE, 1, 8);
	third = append(MSIX, 1, 0);
	write32(third + 4, (uint32_t)second);
	assert_refused(EPROTO);
}

static void a_capability_that_contradicts_itself_is_refused(void **state)
{
	static const uint32_t counts[] = { 2, 3, 0x10000000, 0x10000001, UINT32_MAX };
	static const uint16_t versions[] = { 0, 2, 0xffff };
	size_t at;

	(void)state;
	for (size_t i = 0; i < COUNT(counts); i++) {
		answer_with(READ | WRITE | MMAP, 64 * K);
		at = append_areas(&one_area, 1);
		write32(at + 8, counts[i]);
		assert_refused(EPROTO);
	}
	/* Linux has defined no version but 1; another may mean anything. */
	for (size_t i = 0; i < COUNT(versions); i++) {
		answer_with(READ | WRITE | MMAP, 64 * K);
		at = append_areas(&one_area, 1);
		memcpy(answer.bytes + at + 2, &versions[i], sizeof(versions[i]));
		assert_refused(EPROTO);
	}
	answer_with(READ | WRITE | MMAP, 64 * K);
	append_areas(&one_area, 1);
	append_areas(&one_area, 1);
	assert_refused(EPROTO);
}

static void what_cannot_be_mapped_is_no_device(void **state)
{
	static const uint32_t flags[] = { 0,	READ, WRITE,	   READ | WRITE,
					  MMAP, CAPS, MMAP | CAPS, READ | WRITE | CAPS };

	(void)state;
	for (size_t i = 0; i < COUNT(flags); i++) {
		answer_with(flags[i], 64 * K);
		assert_refused(ENODEV);
	}
	answer_with(READ | WRITE | MMAP, 0);
	assert_refused(ENODEV);
	answer_with(READ | MMAP, 64 * K);
	assert_whole(4 * K, 64 * K);
	answer_with(WRITE | MMAP, 64 * K);
	assert_whole(4 * K, 64 * K);
}

/* mmap's offsets are signed: a region ends below 2^63, by the page. */
static void offsets_and_lengths_that_mmap_has_not_are_refused(void **state)
{
	static const struct {
		uint64_t offset, length;
		size_t page;
		bool right;
	} places[] = {
		{ 1, 4096, 4096, false },
		{ 0x800, 4096, 4096, false },
		{ 0x1000, 4096, 4096, true },
		{ 0x1000, 4096, 16384, false },
		{ 0x4000, 4096, 65536, false },
		{ 0, INT64_MAX, 4096, false },
		{ 0, ((uint64_t)1 << 63) - 4096, 4096, true },
		{ 0, ((uint64_t)1 << 63) - 4095, 4096, false },
		{ 0, (uint64_t)1 << 63, 4096, false },
		{ 0, UINT64_MAX, 4096, false },
		{ 0, UINT64_MAX - 4095, 4096, false },
		{ 4096, UINT64_MAX - 4095, 4096, false },
		{ (uint64_t)1 << 63, 4096, 4096, false },
		{ -(uint64_t)4096, 4096, 4096, false },
		{ -(uint64_t)4096, 8192, 4096, false },
		{ ((uint64_t)1 << 63) - 4096, 4096, 4096, false },
		{ ((uint64_t)1 << 63) - 8192, 4096, 4096, true },
		{ ((uint64_t)1 << 63) - 8192, 1, 4096, true },
		{ ((uint64_t)1 << 63) - 8192, 4097, 4096, false },
		{ ((uint64_t)1 << 63) - 131072, 1, 65536, true },
		{ ((uint64_t)1 << 63) - 65536, 1, 65536, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(places); i++) {
		ssize_t count;

		answer_with(READ | WRITE | MMAP, places[i].length);
		answer.info.offset = places[i].offset;
		count = ask(places[i].page, NULL, 0);
		if (count != (places[i].right ? 1 : -1) || (!places[i].right && errno != EPROTO) ||
		    (places[i].right &&
		     ranges[0].length != round_up(places[i].length, places[i].page)))
			fail_msg("place %zu: %zd, errno %d", i, count, errno);
	}
}

static uint64_t random_below(uint64_t bound)
{
	uint64_t number = 0;

	for (int i = 0; i < 5; i++)
		number = number << 15 ^ (uint64_t)(rand() & 0x7fff);
	return number % bound;
}

/* Places that meet, or miss each other by a byte, more often than chance would have it. */
static uint64_t random_place(uint64_t length, size_t page)
{
	uint64_t place = random_below(length + 1);

	if (random_below(4))
		place = place / page * page;
	if (!random_below(8))
		place += random_below(3) - 1;
	return place > length ? length : place;
}

static void random_range(uint64_t length, size_t page, uint64_t *offset, uint64_t *size)
{
	const uint64_t one = random_place(length, page), other = random_place(length, page);

	*offset = one < other ? one : other;
	*size = (one < other ? other : one) - *offset;
}

/* Capabilities nobody knows, in a number of their own. */
static void append_others(void)
{
	for (uint64_t i = random_below(3); i > 0; i--)
		append((uint16_t)(2 + random_below(60)), (uint16_t)random_below(3),
		       random_below(40));
}

static void pseudo_random_regions_are_what_each_page_says(void **state)
{
	static const size_t pages[] = { 4 << 10, 16 << 10, 64 << 10 };
	size_t split = 0, nothing = 0;

	(void)state;
	srand(3);
	for (size_t round = 0; round < 50000; round++) {
		struct vfio_region_sparse_mmap_area areas[8];
		struct alignmap_vfio_hole holes[6];
		struct question question = {
			.page = pages[random_below(COUNT(pages))],
			.areas = areas,
			.area_count = random_below(COUNT(areas) + 1),
			.holes = holes,
			.hole_count = random_below(COUNT(holes) + 1),
		};
		const bool whole = !random_below(8);
		const char *wrong;
		ssize_t count;

		question.length = random_below(40 * question.page) + 1;
		if (random_below(2))
			question.length = (uint64_t)round_up(question.length, question.page);
		answer_with(READ | MMAP, question.length);
		append_others();
		if (whole) {
			areas[0] = (struct vfio_region_sparse_mmap_area){ 0, question.length };
			question.area_count = 1;
		} else {
			for (size_t i = 0; i < question.area_count; i++) {
				__u64 *offset = &areas[i].offset, *size = &areas[i].size;
				uint64_t from, length;

				random_range(question.length, question.page, &from, &length);
				*offset = from;
				*size = length;
			}
			append_areas(areas, question.area_count);
		}
		append_others();
		for (size_t i = 0; i < question.hole_count; i++)
			random_range(question.length / (1 + random_below(3)), question.page,
				     &holes[i].offset, &holes[i].length);
		question.room = alignmap_vfio_room(answer.filled, question.hole_count);
		count = ask(question.page, holes, question.hole_count);
		wrong = wrong_answer(&question, ranges, count);
		if (wrong)
			fail_msg("round %zu: %s (%zd)", round, wrong, count);
		split += count > (ssize_t)question.area_count;
		nothing += count == 0;
	}
	/* All of them are worth something only if these were among them. */
	assert_true(split > 1000);
	assert_true(nothing > 1000);
}

static void as_many_areas_as_there_is_room_for_are_read(void **state)
{
	static struct vfio_region_sparse_mmap_area areas[AREAS_MAX];

	(void)state;
	/* Every other page, the last one first. */
	for (size_t i = 0; i < AREAS_MAX; i++)
		areas[i] =
			(struct vfio_region_sparse_mmap_area){ (AREAS_MAX - 1 - i) * 8 * K, 4 * K };
	answer_with(READ | WRITE | MMAP, AREAS_MAX * 8 * K);
	append_areas(areas, AREAS_MAX);
	assert_int_equal(ask(4 * K, NULL, 0), AREAS_MAX);
	for (size_t i = 0; i < AREAS_MAX; i++) {
		assert_int_equal(ranges[i].offset, i * 8 * K);
		assert_int_equal(ranges[i].length, 4 * K);
	}
}

#ifdef __SIZEOF_INT128__
static void the_fuzzers_corpus_is_answered(void **state)
{
	(void)state;
	assert_true(replay(CORPUS "/regions") > 10);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_region_without_areas_is_whole_pages),
		cmocka_unit_test(areas_are_sorted_cut_inward_and_kept_apart),
		cmocka_unit_test(holes_take_the_pages_that_they_touch),
		cmocka_unit_test(recorded_answers_are_whole_regions),
		cmocka_unit_test(other_capabilities_are_passed_by),
		cmocka_unit_test(capabilities_count_where_the_flag_says_so),
		cmocka_unit_test(argsz_is_no_measure_of_what_is_there),
		cmocka_unit_test(a_chain_out_of_range_is_refused),
		cmocka_unit_test(a_chain_that_loops_is_refused),
		cmocka_unit_test(a_capability_that_contradicts_itself_is_refused),
		cmocka_unit_test(what_cannot_be_mapped_is_no_device),
		cmocka_unit_test(offsets_and_lengths_that_mmap_has_not_are_refused),
		cmocka_unit_test(pseudo_random_regions_are_what_each_page_says),
		cmocka_unit_test(as_many_areas_as_there_is_room_for_are_read),
#ifdef __SIZEOF_INT128__
		cmocka_unit_test(the_fuzzers_corpus_is_answered),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
