/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef RECENT_H
#define RECENT_H

#include <stdatomic.h>

#include "place.h"

#pragma GCC visibility push(hidden)

/*
 * Windows are remembered below this address alone: one in the library's own code, that nothing
 * unmaps, where no stack above it can grow down to. 0: not yet; NO_RECENT_WINDOWS: never.
 *
 * A claim by MAP_FIXED_NOREPLACE does not see the guard gap below a mapping that grows down
 * (mm/mmap.c, __get_unmapped_area: the address is taken as it is). Where a window was just found
 * the kernel has seen to it; where one was found once a stack may have come to lie above. So
 * whoever sets it must see MAP_GROWSDOWN: in the archive, which cannot, it stays 0. What a program
 * maps so by the bare system call is not seen.
 */
extern atomic_uintptr_t alignmap_recent_below;
#define NO_RECENT_WINDOWS 1

/*
 * Where the call may be claimed without a window being found first: a guess, congruent modulo
 * @alignment. 0 if there is none.
 */
uintptr_t alignmap_guess_window(const struct mapping_call *call, size_t length, size_t alignment);

/* Tells that the calling thread's mapping, of whole pages, has been placed at @window. */
void alignmap_remember_window(const struct mapping_call *call, uintptr_t window, size_t length,
			      bool guessed);

/*
 * Where a reservation of @length would have the window that the calling thread found last. 0 where
 * that was another length or phase: those go where the kernel puts them. To stay where the last one
 * was would leave holes above, and so would one room after the other that is not to be had: then it
 * is forgotten.
 */
uintptr_t alignmap_recent_room(const struct mapping_call *call, size_t length, size_t alignment);
void alignmap_remember_room(const struct mapping_call *call, uintptr_t window, size_t length,
			    size_t alignment);
void alignmap_forget_room(void);

#pragma GCC visibility pop

#endif /* RECENT_H */
