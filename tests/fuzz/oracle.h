/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What alignmap_vfio_ranges() may answer, looked at page by page and area by area. The unit test
 * and the fuzz target ask it; it shares no code with lib/.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vfio.h"

/* Sums that overflow 64 bits are what is asked about, where a machine has wider numbers. */
#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 wide;
#else
typedef uint64_t wide;
#endif

/* A region that can be mapped, with the kernel's areas (the whole region if it names none). */
struct question {
	uint64_t length;
	size_t page;
	const struct vfio_region_sparse_mmap_area *areas;
	size_t area_count;
	const struct alignmap_vfio_hole *holes;
	size_t hole_count;
	size_t room;
};

static inline wide round_up(wide number, size_t page)
{
	return (number + page - 1) / page * page;
}

/* Whether an area holds all of [start, end); what ends with the region ends with its last page. */
static inline bool area_holds(const struct question *question, size_t area, wide start, wide end)
{
	const wide first = question->areas[area].offset;
	const wide behind = first + question->areas[area].size;

	if (behind == question->length && first < behind)
		return start >= first && end <= round_up(behind, question->page);
	return start >= first && end <= behind;
}

static inline bool any_area_holds(const struct question *question, wide start, wide end)
{
	for (size_t i = 0; i < question->area_count; i++)
		if (area_holds(question, i, start, end))
			return true;
	return false;
}

static inline bool has_hole(const struct question *question, wide start, wide end)
{
	for (size_t i = 0; i < question->hole_count; i++) {
		const wide first = question->holes[i].offset;

		if (question->holes[i].length && first < end &&
		    first + question->holes[i].length > start)
			return true;
	}
	return false;
}

/* Whether an area's whole pages begin or end there: ranges meet nowhere else. */
static inline bool is_edge(const struct question *question, wide place)
{
	for (size_t i = 0; i < question->area_count; i++) {
		const wide first = question->areas[i].offset;
		const wide behind = first + question->areas[i].size;

		if (round_up(first, question->page) == place ||
		    behind / question->page * question->page == place)
			return true;
	}
	return false;
}

/* Beyond so many pages, what is missing from an answer is not looked for. */
#define PAGES_LOOKED_AT 2048

static inline const char *wrong_page(const struct question *question,
				     const struct vfio_range *ranges, size_t count)
{
	const wide all = round_up(question->length, question->page);

	for (wide at = 0; at < all; at += question->page) {
		const wide behind = at + question->page;
		bool answered = false;

		for (size_t i = 0; i < count && !answered; i++)
			answered = ranges[i].offset <= at &&
				   behind <= (wide)ranges[i].offset + ranges[i].length;
		if (answered !=
		    (any_area_holds(question, at, behind) && !has_hole(question, at, behind)))
			return answered ? "a page too many" : "a page is missing";
	}
	return NULL;
}

/* What is wrong with an answer; NULL if nothing is. */
static inline const char *wrong_answer(const struct question *question,
				       const struct vfio_range *ranges, ssize_t count)
{
	wide last = 0;

	if (count < 0)
		return "no answer";
	if ((size_t)count > question->room)
		return "more ranges than there is room for";
	for (ssize_t i = 0; i < count; i++) {
		const wide start = ranges[i].offset, end = start + ranges[i].length;

		if (start == end)
			return "an empty range";
		if (start % question->page || end % question->page)
			return "a range that is no whole pages";
		if (start < last)
			return "ranges that are not sorted, or overlap";
		if (end > round_up(question->length, question->page))
			return "a range beyond the region";
		if (!any_area_holds(question, start, end))
			return "a range that is not in one area";
		if (has_hole(question, start, end))
			return "a range with a hole in it";
		if (i > 0 && start == last && !is_edge(question, start))
			return "a range that was split for no reason";
		last = end;
	}
	if (question->length / question->page <= PAGES_LOOKED_AT)
		return wrong_page(question, ranges, (size_t)count);
	return NULL;
}

#endif /* ORACLE_H */
