// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * alignmap_plan() and alignmap_entries_at() on any leaf sizes, lengths and offsets, for libFuzzer
 * (tests/fuzz/run) and for the unit test, which gives it the corpus.
 *
 * An input is a byte of how the rest is read (SMALL, RAW), one with the number of leaf sizes, the
 * length, the offset and an address of eight bytes each, and the sizes: as powers of two of a byte
 * each, or raw of eight. What is missing is zero.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"
#include "replay.h"

__extension__ typedef unsigned __int128 wide;

/* How the rest is read. */
enum { SMALL = 1, RAW = 2 };

/* What is small enough is tried at every address. */
#define PAGES_TRIED 300
#define ADDRESSES_TRIED 128

struct question {
	struct alignmap_leaves leaves;
	size_t length;
	uint64_t offset, address;
};

static const struct question *asked;

static void wrong(const char *what)
{
	fprintf(stderr,
		"alignmap_plan: %s\n length %#zx offset %#llx address %#llx, %u leaves:", what,
		asked->length, (unsigned long long)asked->offset,
		(unsigned long long)asked->address, asked->leaves.count);
	for (unsigned int i = 0; i < asked->leaves.count && i < ALIGNMAP_LEAVES_MAX; i++)
		fprintf(stderr, " %#zx", asked->leaves.size[i]);
	fprintf(stderr, "\n");
	abort();
}

static void take(const uint8_t **input, size_t *length, void *place, size_t wanted)
{
	const size_t there = *length < wanted ? *length : wanted;

	memset(place, 0, wanted);
	if (there)
		memcpy(place, *input, there);
	*input += there;
	*length -= there;
}

static void read_question(const uint8_t *input, size_t length, struct question *question)
{
	uint8_t how, count;

	take(&input, &length, &how, sizeof(how));
	take(&input, &length, &count, sizeof(count));
	take(&input, &length, &question->length, sizeof(question->length));
	take(&input, &length, &question->offset, sizeof(question->offset));
	take(&input, &length, &question->address, sizeof(question->address));
	if (how & SMALL) {
		question->length %= 1024;
		question->offset %= 1024;
	}
	question->leaves.count = count;
	for (unsigned int i = 0; i < ALIGNMAP_LEAVES_MAX; i++) {
		uint8_t bits;

		if (how & RAW) {
			take(&input, &length, &question->leaves.size[i], sizeof(size_t));
			continue;
		}
		take(&input, &length, &bits, sizeof(bits));
		question->leaves.size[i] = (size_t)1 << (bits % (how & SMALL ? 8 : 64));
	}
}

static bool leaves_are_valid(const struct alignmap_leaves *leaves)
{
	if (leaves->count == 0 || leaves->count > ALIGNMAP_LEAVES_MAX)
		return false;
	for (unsigned int i = 0; i < leaves->count; i++)
		if (__builtin_popcountll(leaves->size[i]) != 1)
			return false;
	for (unsigned int i = 1; i < leaves->count; i++)
		if (leaves->size[i] >= leaves->size[i - 1])
			return false;
	return true;
}

/* How many whole blocks of @size, at its multiples, [start, end) holds. */
static wide blocks(wide start, wide end, wide size)
{
	const wide first = (start + size - 1) / size;

	return end / size > first ? end / size - first : 0;
}

/* The fewest entries over those leaves that divide @difference, which is address minus offset. */
static wide entries_of(const struct question *question, wide end, uint64_t difference)
{
	wide entries = 0, mapped = 0;

	for (unsigned int i = 0; i < question->leaves.count; i++) {
		const wide size = question->leaves.size[i];
		const wide here = blocks(question->offset, end, size) * size;

		if (difference % size)
			continue;
		entries += (here - mapped) / size;
		mapped = here;
	}
	return entries;
}

/* What a kernel needs that takes, at each step, the largest leaf that fits there. */
static wide walk(const struct question *question, wide end, uint64_t address)
{
	wide entries = 0;

	for (wide at = question->offset; at < end; entries++) {
		unsigned int i = 0;

		while (at % question->leaves.size[i] || address % question->leaves.size[i] ||
		       end - at < question->leaves.size[i])
			i++;
		at += question->leaves.size[i];
		address += question->leaves.size[i];
	}
	return entries;
}

static void check_everywhere(const struct question *question, wide end,
			     const struct alignmap_plan *plan)
{
	const struct alignmap_leaves *leaves = &question->leaves;
	const size_t page = leaves->size[leaves->count - 1];
	wide least = ~(wide)0;

	for (uint64_t i = 0; i < leaves->size[0] / page; i++) {
		const uint64_t address = i * page;
		const wide entries = walk(question, end, address);

		least = entries < least ? entries : least;
		if (address % plan->alignment == plan->phase && entries != plan->entries)
			wrong("a planned address needs another number of entries");
		if (alignmap_entries_at(leaves, question->length, question->offset, address) !=
		    entries)
			wrong("entries at an address are another number");
	}
	if (least != plan->entries)
		wrong("not the fewest entries");
}

static void check_plan(const struct question *question, wide end, const struct alignmap_plan *plan)
{
	const struct alignmap_leaves *leaves = &question->leaves;
	const size_t page = leaves->size[leaves->count - 1];
	wide entries = 0, length = 0;
	size_t alignment = page;

	for (unsigned int i = 0; i < ALIGNMAP_LEAVES_MAX; i++) {
		if (i >= leaves->count && plan->count[i])
			wrong("entries of a leaf that is not there");
		entries += plan->count[i];
		length += i < leaves->count ? (wide)plan->count[i] * leaves->size[i] : 0;
	}
	if (length != end - question->offset)
		wrong("the entries do not map the length");
	if (entries != plan->entries || entries != entries_of(question, end, 0))
		wrong("another number of entries");
	for (unsigned int i = leaves->count; i-- > 0;)
		if (blocks(question->offset, end, leaves->size[i]))
			alignment = leaves->size[i];
	if (plan->alignment != alignment || plan->phase != question->offset % alignment)
		wrong("another alignment or phase");
	if (alignmap_entries_at(leaves, question->length, question->offset, question->address) !=
	    entries_of(question, end, question->address - question->offset))
		wrong("another number of entries at the address");
	if ((end - question->offset) / page <= PAGES_TRIED &&
	    leaves->size[0] / page <= ADDRESSES_TRIED)
		check_everywhere(question, end, plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length)
{
	const struct alignmap_plan untouched = { 1, 2, 3, { 4, 5, 6, 7, 8, 9, 10, 11 } };
	struct alignmap_plan plan = untouched;
	struct question question;
	int error = 0, result;
	bool valid;
	wide end = 0;

	read_question(input, length, &question);
	asked = &question;
	valid = leaves_are_valid(&question.leaves);
	if (valid) {
		const size_t page = question.leaves.size[question.leaves.count - 1];
		const wide rounded = ((wide)question.length + page - 1) / page * page;

		end = question.offset + rounded;
		if (!question.length || question.offset % page)
			error = EINVAL;
		else if (rounded > SIZE_MAX || end > UINT64_MAX)
			error = EOVERFLOW;
	} else {
		error = EINVAL;
	}

	errno = EXDEV;
	result = alignmap_plan(&question.leaves, question.length, question.offset, &plan);
	if (result != (error ? -1 : 0) || errno != (error ? error : EXDEV))
		wrong("another result or errno");
	if (!error)
		check_plan(&question, end, &plan);
	else if (memcmp(&plan, &untouched, sizeof(plan)) != 0)
		wrong("a failure that changes the plan");
	errno = EXDEV;
	if (error && valid &&
	    alignmap_entries_at(&question.leaves, question.length, question.offset,
				question.address))
		wrong("entries of what cannot be planned");
	if (errno != EXDEV)
		wrong("entries that change errno");
	return 0;
}
