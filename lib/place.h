/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef PLACE_H
#define PLACE_H

#include <stdbool.h>
#include <sys/mman.h>

#include "alignmap.h"

/* Declared hidden, not only defined so: else they are reached by way of relocations. */
#pragma GCC visibility push(hidden)

/* Flags that not every machine's or every C library's headers have. */
#ifndef MAP_32BIT
#define MAP_32BIT 0
#endif
#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 0x03
#endif

/* An mmap64 of the C library or of another interposer. */
typedef void *mmap_function(void *, size_t, int, int, int, off64_t);

/*
 * The next mmap in line after this library; NULL stands for the system call itself. In the archive
 * that is the program's own, in the shared object what preload/ looked up.
 */
extern mmap_function *alignmap_next_mmap;

/* A call of mmap as the program made it. */
struct mapping_call {
	void *address;
	size_t length;
	int prot;
	int flags;
	int fd;
	off64_t offset;
	mmap_function *next; /* through which it is made */
};

/* How a window is taken (DESIGN: the API insists, the preload suggests). */
enum claim { CLAIM_FIXED, CLAIM_HINT };

enum outcome {
	NOT_TRIED, /* it holds no leaf above the base page */
	PLACED,	   /* at the window, or elsewhere and congruent all the same */
	ELSEWHERE, /* the kernel took the hint for a hint */
	NO_WINDOW, /* no room for any leaf size, or lost to other threads: made as it stood */
	REFUSED,   /* the claim failed: made as it stood */
};

struct placement {
	enum outcome outcome;
	size_t deserved;  /* the plan's alignment, in bytes */
	size_t alignment; /* the one that was tried last */
	/* How often a window was found and another thread was faster: CLAIM_FIXED tried again. */
	unsigned int losses;
};

/* Whether these flags leave the choice of an address to us. */
static inline bool flags_are_placeable(int flags)
{
	return !(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT | MAP_GROWSDOWN | MAP_STACK |
			  MAP_HUGETLB));
}

/* What the address must agree with: anonymous memory begins at 0 whatever the caller says. */
static inline uint64_t offset_behind(const struct mapping_call *call)
{
	return call->flags & MAP_ANONYMOUS ? 0 : (uint64_t)call->offset;
}

/* The highest address up to @address that is congruent modulo @alignment. */
static inline uintptr_t congruent_up_to(const struct mapping_call *call, uintptr_t address,
					size_t alignment)
{
	return address - ((address - offset_behind(call)) & (alignment - 1));
}

/*
 * Unmaps what is certainly ours; 0, or a negative errno. Where Linux fails that, for want of
 * memory, it has unmapped nothing (mm/vma.c, do_vmi_align_munmap; 6.1 to 6.4 had that wrong): so it
 * is tried twice.
 */
long alignmap_unmap(uintptr_t start, size_t length);

/* Makes the call with another address and flags; errno as mmap sets it. */
void *alignmap_make_call(const struct mapping_call *call, void *address, int flags);

/*
 * Makes the call at @window, with MAP_FIXED_NOREPLACE where that is known: where the mapping lies,
 * its address alone says.
 */
void *alignmap_claim(const struct mapping_call *call, uintptr_t window);

/*
 * Makes the call at an address that is congruent modulo @deserved, the plan's alignment over
 * @leaves; modulo a lesser size where there is no room, in the end as it stands. With @advise,
 * madvise where the THP policy would undo it all.
 */
void *alignmap_place(const struct mapping_call *call, const struct alignmap_leaves *leaves,
		     size_t deserved, enum claim claim, bool advise, struct placement *placement);

#pragma GCC visibility pop

#endif /* PLACE_H */
