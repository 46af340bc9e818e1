// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <string.h>

#include "gaps.h"
#include "leaves.h"

/* arch/x86/mm/mmap.c and mm/util.c: the least that mmap leaves to the main stack, and the most. */
#define STACK_LEAST ((size_t)128 << 20)
#define STACK_MOST(top) ((top) / 6 * 5)

/*
 * Linux draws where mmap begins from this share of the address space on x86-64 (28 bits of pages
 * below 47 bits), and the distance of the stack from its end from less.
 */
#define DRAWN_SHARE 128

static uintptr_t end_of(const struct mapping *mapping)
{
	return mapping->address + mapping->length;
}

static const struct promised *promised_in(const struct gaps *gaps, uintptr_t start, size_t room)
{
	for (size_t i = 0; i < gaps->promises; i++)
		if (gaps->promised[i].address < start + room &&
		    start < gaps->promised[i].address + gaps->promised[i].length)
			return &gaps->promised[i];
	return NULL;
}

/* The highest window in [@low, @high) with @room; 0 if there is none. */
static uintptr_t fit(const struct gaps *gaps, const struct mapping_call *call, size_t alignment,
		     uintptr_t low, uintptr_t high, size_t room)
{
	const struct promised *other;
	uintptr_t window;

	for (; high > low && high - low >= room; high = other->address) {
		window = congruent_up_to(call, high - room, alignment);
		if (window < low || window > high)
			break;
		other = promised_in(gaps, window, room);
		if (!other)
			return window;
	}
	return 0;
}

/* Below which address to look; 0 where the main stack is not to be seen. */
static uintptr_t ceiling(const struct gaps *gaps)
{
	const struct mapping *mappings = gaps->maps.mappings;
	uintptr_t stack, share;
	size_t kept, i = gaps->maps.count;

	while (i && strcmp(mappings[i - 1].name, "[stack]") != 0)
		i--;
	if (!i)
		return 0;
	stack = mappings[i - 1].address;
	share = stack / DRAWN_SHARE;
	kept = gaps->stack < STACK_LEAST ? STACK_LEAST : gaps->stack;
	if (kept > STACK_MOST(stack))
		kept = STACK_MOST(stack);
	if (i > 1 && stack - end_of(&mappings[i - 2]) < kept + 2 * share)
		return end_of(&mappings[i - 2]);
	return stack - kept - gaps->drawn % share;
}

/* The lowest window from the hint on, if there is room from the hint itself on: as for the kernel.
 */
static uintptr_t behind_hint(const struct gaps *gaps, const struct mapping_call *call,
			     size_t alignment, size_t room)
{
	const uintptr_t hint = (uintptr_t)call->address & ~(host_page() - 1);
	uintptr_t window, end;

	if (__builtin_add_overflow(hint, alignment - host_page(), &window))
		return 0;
	window = congruent_up_to(call, window, alignment);
	if (__builtin_add_overflow(window, room, &end) || promised_in(gaps, window, room))
		return 0;
	for (size_t i = 0; i < gaps->maps.count; i++)
		if (gaps->maps.mappings[i].address < end && end_of(&gaps->maps.mappings[i]) > hint)
			return 0;
	return window;
}

uintptr_t find_gap(const struct gaps *gaps, const struct mapping_call *call, size_t alignment)
{
	uintptr_t above = ceiling(gaps), floor = above / 8 * 7, window = 0;
	size_t room;

	if (!above || __builtin_add_overflow(call->length, host_page() - 1, &room) ||
	    __builtin_add_overflow(room & ~(host_page() - 1), alignmap_host.pmd, &room))
		return 0;
	if (call->address)
		window = behind_hint(gaps, call, alignment, room);
	for (size_t i = gaps->maps.count; i && !window; i--) {
		const struct mapping *mapping = &gaps->maps.mappings[i - 1];

		window = fit(gaps, call, alignment, end_of(mapping), above, room);
		if (mapping->address < above)
			above = mapping->address;
	}
	/*
	 * What lies below the lowest mapping is not for mmap, unless mmap has placed that: a
	 * static-pie program before it has a heap (fs/binfmt_elf.c: at two thirds).
	 */
	if (!window)
		window = fit(gaps, call, alignment, floor, above, room);
	return window;
}
