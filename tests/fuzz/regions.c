// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * alignmap_vfio_ranges() on any bytes, for libFuzzer (tests/fuzz/run) and for the unit test, which
 * gives it the corpus.
 *
 * An input is a byte with the page size (bits 0 and 1) and the number of holes (bits 2 to 5), the
 * holes with sixteen bytes each, and what VFIO_DEVICE_GET_REGION_INFO has written.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oracle.h"

#define INPUT_MAX 8192
#define AREAS_MAX (INPUT_MAX / sizeof(struct vfio_region_sparse_mmap_area))
#define HOLES_MAX 15

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length);

/* The bytes right below one that cannot be accessed: @which of two places. */
static void *below_guard(int which, size_t length)
{
	static char *places[2];
	const size_t room = 8 * INPUT_MAX;

	if (!places[which]) {
		const size_t guard = (size_t)sysconf(_SC_PAGESIZE);

		places[which] = mmap(NULL, room + guard, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (places[which] == MAP_FAILED || mprotect(places[which] + room, guard, PROT_NONE))
			abort();
	}
	return places[which] + room - length;
}

/* Why no answer may be given: one bit for each errno that would be right. */
enum reason { NO_DEVICE = 1, NO_PROTOCOL = 2, NO_HOLE = 4, MAYBE_NO_PROTOCOL = 8 };

/* The areas of the chain's sparse mmap capability; the whole region if it has none. */
static unsigned int read_chain(const uint8_t *bytes, size_t filled, struct question *question,
			       struct vfio_region_sparse_mmap_area *areas)
{
	struct vfio_info_cap_header header;
	struct vfio_region_info info;
	bool seen[INPUT_MAX] = { false };
	unsigned int reasons = 0;
	size_t headers = 0, sparse = 0;
	uint32_t count;

	memcpy(&info, bytes, sizeof(info));
	question->areas = areas;
	question->area_count = 1;
	areas[0] = (struct vfio_region_sparse_mmap_area){ 0, info.size };
	if (!(info.flags & VFIO_REGION_INFO_FLAG_CAPS))
		return 0;
	for (uint64_t at = info.cap_offset; at; at = header.next) {
		if (at < sizeof(info) || at + sizeof(header) > filled || seen[at])
			return NO_PROTOCOL;
		seen[at] = true;
		/* Headers that overlap may be taken for a loop. */
		if (++headers * sizeof(header) > filled)
			reasons |= MAYBE_NO_PROTOCOL;
		memcpy(&header, bytes + at, sizeof(header));
		if (header.id != VFIO_REGION_INFO_CAP_SPARSE_MMAP)
			continue;
		if (header.version != 1 || sparse)
			return NO_PROTOCOL;
		sparse = at;
	}
	if (!sparse)
		return reasons;
	if (sparse + sizeof(struct vfio_region_info_cap_sparse_mmap) > filled)
		return NO_PROTOCOL;
	memcpy(&count, bytes + sparse + sizeof(header), sizeof(count));
	sparse += sizeof(struct vfio_region_info_cap_sparse_mmap);
	if (sparse + (uint64_t)count * sizeof(*areas) > filled)
		return NO_PROTOCOL;
	memcpy(areas, bytes + sparse, count * sizeof(*areas));
	question->area_count = count;
	for (uint32_t i = 0; i < count; i++)
		if ((wide)areas[i].offset + areas[i].size > info.size)
			return NO_PROTOCOL;
	return reasons;
}

static unsigned int reasons_of(const uint8_t *bytes, size_t filled, struct question *question,
			       struct vfio_region_sparse_mmap_area *areas)
{
	struct vfio_region_info info;
	unsigned int reasons = 0;

	if (filled < sizeof(info))
		return NO_PROTOCOL;
	memcpy(&info, bytes, sizeof(info));
	question->length = info.size;
	if (!info.size || !(info.flags & VFIO_REGION_INFO_FLAG_MMAP) ||
	    !(info.flags & (VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE)))
		reasons |= NO_DEVICE;
	/* mmap takes no offset from 2^63 on. */
	if (info.offset % question->page ||
	    info.offset + round_up(info.size, question->page) > INT64_MAX)
		reasons |= NO_PROTOCOL;
	for (size_t i = 0; i < question->hole_count; i++)
		if (question->holes[i].length &&
		    (wide)question->holes[i].offset + question->holes[i].length > info.size)
			reasons |= NO_HOLE;
	return reasons | read_chain(bytes, filled, question, areas);
}

static const char *wrong_refusal(unsigned int reasons, int error)
{
	unsigned int right = 0;

	if (!reasons)
		return "refused for no reason";
	if (error == ENODEV)
		right = NO_DEVICE;
	else if (error == ERANGE)
		right = NO_HOLE;
	else if (error == EPROTO)
		right = NO_PROTOCOL | MAYBE_NO_PROTOCOL;
	return reasons & right ? NULL : "refused for another reason";
}

static void check(const char *wrong, ssize_t count, int error)
{
	if (!wrong)
		return;
	fprintf(stderr, "alignmap_vfio_ranges: %s (%zd, errno %d)\n", wrong, count, error);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length)
{
	static const size_t pages[] = { 4 << 10, 16 << 10, 64 << 10, 4 << 10 };
	static struct vfio_region_sparse_mmap_area areas[AREAS_MAX + 1];
	struct alignmap_vfio_hole holes[HOLES_MAX];
	struct vfio_range *in_heap, *guarded;
	unsigned int reasons;
	ssize_t count;
	uint8_t *bytes;
	int error;

	if (!length || length > INPUT_MAX)
		return -1;
	struct question question = { .page = pages[input[0] & 3], .holes = holes };
	const size_t hole_count = input[0] >> 2 & 15;

	input++;
	length--;
	while (question.hole_count < hole_count && length >= sizeof(holes[0])) {
		memcpy(&holes[question.hole_count++], input, sizeof(holes[0]));
		input += sizeof(holes[0]);
		length -= sizeof(holes[0]);
	}
	question.room = alignmap_vfio_room(length, question.hole_count);
	reasons = reasons_of(input, length, &question, areas);

	/* In blocks of just that size, whose ends the address sanitizer knows. */
	bytes = calloc(1, length);
	in_heap = malloc(question.room * sizeof(*in_heap));
	if (!in_heap || (length && !bytes))
		abort();
	if (length)
		memcpy(bytes, input, length);
	count = alignmap_vfio_ranges(bytes, length, question.page, holes, question.hole_count,
				     in_heap);
	error = errno;
	if (count < 0)
		check(wrong_refusal(reasons, error), count, error);
	else if (reasons & ~(unsigned int)MAYBE_NO_PROTOCOL)
		check("answered what contradicts itself", count, 0);
	else
		check(wrong_answer(&question, in_heap, count), count, 0);

	/* The same where nothing is aligned and the end is seen without a sanitizer. */
	guarded = below_guard(1, question.room * sizeof(*guarded));
	if (length)
		memcpy(below_guard(0, length), input, length);
	if (alignmap_vfio_ranges(below_guard(0, length), length, question.page, holes,
				 question.hole_count, guarded) != count ||
	    (count > 0 && memcmp(guarded, in_heap, (size_t)count * sizeof(*guarded)) != 0))
		check("another answer at another address", count, 0);
	free(bytes);
	free(in_heap);
	return 0;
}
