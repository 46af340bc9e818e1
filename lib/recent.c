// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Where windows were: who maps and unmaps again and again gets the same one each time, by one
 * system call in place of three; who maps and keeps gets the next one below.
 *
 * These are guesses. The claim finds out whether one is right: what is taken since is refused
 * before the file's driver is asked, and a window is found as ever. Nothing is held meanwhile. Who
 * does not guess looks for the same window first where it was: the kernel finds out.
 *
 * The kernel takes the highest room that there is. Who always took the next one below would walk
 * down the address space for ever, past room that has become free above, and leave holes that
 * nothing else fits into. So the next one below is for the same length and phase alone, and none
 * lies further than a sixteenth below the span in which windows were found.
 */
#include <pthread.h>

#include "leaves.h"
#include "recent.h"
#include "sys.h"

atomic_uintptr_t alignmap_recent_below;

/* Of one thread, or several: what they overwrite of each other's makes a bad guess, no more. */
static struct recent {
	atomic_uintptr_t start, end;	  /* of the last mapping that was placed */
	atomic_bool descending;		  /* the last window found lay below the one before */
	atomic_uintptr_t lowest, highest; /* the span of what was found */
	atomic_uintptr_t room, room_end;  /* where a reservation finds the last window again */
} threads[128];

#define get(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define set(field, value) atomic_store_explicit(&(field), value, memory_order_relaxed)

/* Threads' own addresses lie at regular distances: they are spread (Knuth's multiplication). */
static struct recent *own(void)
{
	const uint64_t self = (uintptr_t)pthread_self();

	return &threads[(self / 4096) * 0x9e3779b97f4a7c15 >> 57];
}

/*
 * Linux before 4.17, and qemu-user, take MAP_FIXED_NOREPLACE for a hint, and a bad guess would be
 * a bad place. A page that is certainly taken tells, once.
 */
static bool claims_are_refused(void)
{
	static atomic_int known;
	const size_t page = host_page();
	const uintptr_t taken = (uintptr_t)&known & -page;
	long result;

	if (get(known))
		return get(known) > 0;
	result = sys_mmap((void *)taken, page, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (result == -EEXIST) {
		set(known, 1);
	} else if (!sys_failed(result)) {
		alignmap_unmap((uintptr_t)result, page);
		set(known, -1);
	}
	return result == -EEXIST;
}

/* The highest congruent one that ends at @end or below; 0 if there is none. */
static uintptr_t last_before(const struct mapping_call *call, size_t length, size_t alignment,
			     uintptr_t end)
{
	const uintptr_t window = congruent_up_to(call, end - length, alignment);

	return end > length && window < end ? window : 0;
}

/* Below the last mapping, if that was of the same length and phase. */
static uintptr_t guess_below(const struct recent *recent, const struct mapping_call *call,
			     size_t length, size_t alignment)
{
	const uintptr_t start = get(recent->start);

	if (get(recent->end) - start != length || (start - offset_behind(call)) & (alignment - 1))
		return 0;
	/* What find_window() leaves above: holes that are alike can all be found again. */
	return last_before(call, length, alignment, start - alignmap_host.pmd);
}

uintptr_t alignmap_guess_window(const struct mapping_call *call, size_t length, size_t alignment)
{
	const uintptr_t below = get(alignmap_recent_below);
	const struct recent *recent = own();
	const uintptr_t lowest = get(recent->lowest), highest = get(recent->highest);
	uintptr_t guess;

	if (below <= NO_RECENT_WINDOWS || call->address)
		return 0;
	/* Such a claim is but a hint, and a bad guess would be a bad place. */
	if ((call->flags & MAP_TYPE) == MAP_SHARED_VALIDATE)
		return 0;
	guess = get(recent->descending) ? guess_below(recent, call, length, alignment)
					: last_before(call, length, alignment, get(recent->end));
	if (!guess || guess < lowest - (highest - lowest) / 16 || guess + length > below)
		return 0;
	return claims_are_refused() ? guess : 0;
}

void alignmap_remember_window(const struct mapping_call *call, uintptr_t window, size_t length,
			      bool guessed)
{
	struct recent *recent = own();

	/* Where the caller wants it near a hint, it tells nothing of where others go. */
	if (call->address)
		return;
	if (!guessed) {
		set(recent->descending, window < get(recent->start));
		if (!get(recent->lowest) || window < get(recent->lowest))
			set(recent->lowest, window);
		if (window + length > get(recent->highest))
			set(recent->highest, window + length);
	}
	set(recent->start, window);
	/* Where it was guessed to end again it may end lower, and the next one lower still. */
	if (!guessed || get(recent->descending))
		set(recent->end, window + length);
}

uintptr_t alignmap_recent_room(const struct mapping_call *call, size_t length, size_t alignment)
{
	const struct recent *recent = own();
	const uintptr_t room = get(recent->room), window = room + alignment - host_page();

	if (call->address || get(recent->room_end) - room != length)
		return 0;
	return congruent_up_to(call, window, alignment) == window ? room : 0;
}

void alignmap_remember_room(const struct mapping_call *call, uintptr_t window, size_t length,
			    size_t alignment)
{
	struct recent *recent = own();

	if (call->address || window < alignment)
		return;
	set(recent->room, window - (alignment - host_page()));
	set(recent->room_end, get(recent->room) + length);
}

void alignmap_forget_room(void)
{
	set(own()->room_end, 0);
}
