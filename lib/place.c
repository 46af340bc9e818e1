// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Find and claim: where a mapping could go, and the mapping that takes it there.
 *
 * The rule of this file: never map over, and never unmap, what is not certainly ours. A window is
 * found by a reservation that is released again, not held, since a mapping that fails over a held
 * one may or may not have removed it (mm/vma.c, vms_abort_munmap_vmas), and then nobody can tell
 * whose memory lies there.
 */
#include <errno.h>
#include <stdatomic.h>

#include "leaves.h"
#include "place.h"
#include "plan.h"
#include "probes.h"
#include "recent.h"
#include "sys.h"

/* How often a window is lost to another thread before a smaller leaf size is tried. */
#define CLAIM_ATTEMPTS 32

#ifdef ALIGNMAP_ARCHIVE
mmap_function *alignmap_next_mmap = mmap64;
#else
mmap_function *alignmap_next_mmap;
#endif

/*
 * NULL until this object is relocated: another library's IFUNC resolver may have us map before
 * that, when there is no way to errno yet.
 */
static int *(*const volatile errno_address)(void) = __errno_location;

void *alignmap_make_call(const struct mapping_call *call, void *address, int flags)
{
	long result;

	if (call->next)
		return call->next(address, call->length, call->prot, flags, call->fd, call->offset);
	result = sys_mmap(address, call->length, call->prot, flags, call->fd, call->offset);
	if (!sys_failed(result))
		return (void *)result;
	if (errno_address)
		*errno_address() = (int)-result;
	return MAP_FAILED;
}

static void *as_it_stands(const struct mapping_call *call)
{
	return alignmap_make_call(call, call->address, call->flags);
}

long alignmap_unmap(uintptr_t start, size_t length)
{
	return sys_failed(sys_munmap(start, length)) ? sys_munmap(start, length) : 0;
}

/*
 * A reservation that could not be released: near vm.max_map_count, say, or under a filter that
 * refuses munmap. While there is one no other is made, that could stay, too.
 */
static struct {
	atomic_uintptr_t start; /* 0: none; BUSY: one that somebody sees to */
	size_t length;
} stuck;

#define BUSY 1

static bool nothing_is_stuck(void)
{
	uintptr_t start = atomic_load_explicit(&stuck.start, memory_order_acquire);

	if (!start)
		return true;
	if (start == BUSY || !atomic_compare_exchange_strong(&stuck.start, &start, BUSY))
		return false;
	if (!sys_failed(sys_munmap(start, stuck.length)))
		start = 0;
	atomic_store_explicit(&stuck.start, start, memory_order_release);
	return !start;
}

static void remember_stuck(uintptr_t start, size_t length)
{
	uintptr_t none = 0;

	if (!atomic_compare_exchange_strong(&stuck.start, &none, BUSY))
		return;
	stuck.length = length;
	atomic_store_explicit(&stuck.start, start, memory_order_release);
}

/* The length as the kernel rounds it up. The plan has seen that it can be. */
static size_t whole_pages(const struct mapping_call *call)
{
	return (call->length + host_page() - 1) & ~(host_page() - 1);
}

/*
 * An address that is congruent and was free a moment ago, or 0. It is the lowest part of a
 * reservation that is just large enough, but for what lies above it: a PMD, without which ext4,
 * xfs, btrfs and fuse take no hint (mm/huge_memory.c, __thp_get_unmapped_area) and into which
 * hugetlbfs may round a length up, and @depth times the whole.
 *
 * For the same mapping again it asks for room that begins such that the window is the same: a hint,
 * that the kernel checks as it checks any. The reservation then ends a PMD above the window, mostly
 * clear of what lies above, where the release walks page tables that both share (mm/memory.c).
 */
static uintptr_t find_window(const struct mapping_call *call, size_t alignment, unsigned int depth)
{
	const size_t page = host_page();
	uintptr_t window, room;
	size_t reserve;
	long start;

	if (!nothing_is_stuck() ||
	    __builtin_add_overflow(whole_pages(call), alignment - page, &reserve) ||
	    __builtin_add_overflow(reserve, alignmap_host.pmd, &reserve) ||
	    __builtin_mul_overflow(reserve, 1 + depth, &reserve))
		return 0;
	room = alignmap_recent_room(call, reserve, alignment);
	start = sys_mmap(room ? (void *)room : call->address, reserve, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* To riscv before 6.12 a hint is a bound, above which there may be room. */
	if (sys_failed(start) && room)
		start = sys_mmap(NULL, reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_failed(start))
		return depth ? find_window(call, alignment, 0) : 0;
	if (sys_failed(alignmap_unmap((uintptr_t)start, reserve))) {
		remember_stuck((uintptr_t)start, reserve);
		return 0;
	}
	window = congruent_up_to(call, (uintptr_t)start + alignment - page, alignment);
	if (!room)
		alignmap_remember_room(call, window, reserve, alignment);
	else if ((uintptr_t)start != room)
		alignmap_forget_room();
	return window;
}

/*
 * How deep below the kernel's first choice a thread looks that has lost its window so often. Two
 * that find and lose in step would do so for ever (64 times in a row were seen) if both chose by
 * one rule: so each chooses by where its stack lies, and differently each time.
 */
static unsigned int depth_after(unsigned int losses)
{
	const uint64_t stack = (uintptr_t)__builtin_frame_address(0);

	return losses ? (unsigned int)((stack / 4096 + losses) * 0x9e3779b97f4a7c15 >> 60) : 0;
}

void *alignmap_claim(const struct mapping_call *call, uintptr_t window)
{
	void *mapping = alignmap_make_call(call, (void *)window, call->flags | MAP_FIXED_NOREPLACE);

	/* MAP_SHARED_VALIDATE refuses MAP_FIXED_NOREPLACE, before any driver is asked. */
	if (mapping == MAP_FAILED && errno == EOPNOTSUPP &&
	    (call->flags & MAP_TYPE) == MAP_SHARED_VALIDATE)
		mapping = alignmap_make_call(call, (void *)window, call->flags);
	return mapping;
}

/* The claim at a window that has not been found, but may be free. As claim_fixed(). */
static void *claim_guess(const struct mapping_call *call, size_t alignment, uintptr_t *window)
{
	void *mapping;

	*window = alignmap_guess_window(call, whole_pages(call), alignment);
	if (!*window)
		return MAP_FAILED;
	mapping = alignmap_claim(call, *window);
	if (mapping == (void *)*window)
		alignmap_remember_window(call, *window, whole_pages(call), true);
	else if (mapping == MAP_FAILED && errno == EEXIST)
		*window = 0;
	return mapping;
}

/*
 * The API's claim: there or nowhere. MAP_FAILED with a @window of 0: there is no room, or every
 * one was lost to other threads. A kernel that knows no MAP_FIXED_NOREPLACE (before 4.17) takes it
 * for a hint, and its answer is as good as any.
 */
static void *claim_fixed(const struct mapping_call *call, size_t alignment, uintptr_t *window,
			 unsigned int *all_losses)
{
	void *mapping = claim_guess(call, alignment, window);

	if (*window)
		return mapping;
	for (unsigned int losses = 0; losses < CLAIM_ATTEMPTS; losses++) {
		*window = find_window(call, alignment, depth_after(losses));
		if (!*window)
			return MAP_FAILED;
		mapping = alignmap_claim(call, *window);
		if (mapping == (void *)*window)
			alignmap_remember_window(call, *window, whole_pages(call), false);
		if (mapping != MAP_FAILED || errno != EEXIST)
			return mapping;
		++*all_losses;
	}
	*window = 0;
	return MAP_FAILED;
}

/* The preload's claim: the program's own call, at a suggested address. */
static void *claim_hint(const struct mapping_call *call, size_t alignment, uintptr_t *window)
{
	*window = find_window(call, alignment, 0);
	return *window ? alignmap_make_call(call, (void *)*window, call->flags) : MAP_FAILED;
}

static bool is_no_regular_file(int fd)
{
	struct stat status = { 0 };

	return !sys_failed(sys_fstat(fd, &status)) && !S_ISREG(status.st_mode);
}

/*
 * A Linux that applies the THP policy to BARs maps them by base pages under "madvise", whatever the
 * address. Regular files are left out: there the policy is the user's wish. A failure is no loss.
 */
static void advise_huge(const struct mapping_call *call, void *mapping)
{
	if (alignmap_host.thp != THP_MADVISE || !alignmap_host.thp_rules_bars)
		return;
	if (call->flags & MAP_ANONYMOUS || (call->flags & MAP_TYPE) == MAP_PRIVATE)
		return;
	if (is_no_regular_file(call->fd))
		madvise(mapping, call->length, MADV_HUGEPAGE);
}

static void tell(const struct mapping_call *call, const struct placement *placement, void *mapping)
{
	switch (placement->outcome) {
	case NOT_TRIED:
		PROBE(left, call->address, call, 0);
		break;
	case PLACED:
		PROBE(placed, mapping, call, placement->alignment);
		break;
	case ELSEWHERE:
	case NO_WINDOW:
		PROBE(fallback, mapping, call, placement->deserved);
		break;
	case REFUSED:
		PROBE(refused, mapping, call, placement->deserved);
		break;
	}
}

void *alignmap_place(const struct mapping_call *call, const struct alignmap_leaves *leaves,
		     size_t deserved, enum claim claim, bool advise, struct placement *placement)
{
	const uint64_t offset = offset_behind(call);
	const int saved = errno;
	void *mapping = MAP_FAILED;

	*placement = (struct placement){ .outcome = NOT_TRIED, .deserved = deserved };
	for (unsigned int i = 0; i + 1 < leaves->count; i++) {
		const size_t alignment = leaves->size[i];
		uintptr_t window;

		if (alignment > deserved)
			continue;
		if (claim == CLAIM_FIXED)
			mapping = claim_fixed(call, alignment, &window, &placement->losses);
		else
			mapping = claim_hint(call, alignment, &window);
		placement->alignment = alignment;
		if (mapping != MAP_FAILED) {
			if (((uintptr_t)mapping - offset) & (alignment - 1)) {
				placement->outcome = ELSEWHERE;
				break;
			}
			placement->outcome = PLACED;
			if (advise)
				advise_huge(call, mapping);
			break;
		}
		placement->outcome = window ? REFUSED : NO_WINDOW;
		if (window)
			break;
	}
	/* That a window could not be had is not the program's concern; its own call decides. */
	errno = saved;
	if (mapping == MAP_FAILED)
		mapping = as_it_stands(call);
	tell(call, placement, mapping);
	return mapping;
}

static void *left_alone(const struct mapping_call *call)
{
	PROBE(left, call->address, call, 0);
	return as_it_stands(call);
}

void *alignmap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	const struct mapping_call call = {
		addr, length, prot, flags, fd, offset, alignmap_next_mmap
	};
	const struct alignmap_leaves *leaves = flags & MAP_ANONYMOUS ? &alignmap_host.anonymous
								     : &alignmap_host.leaves;
	struct placement placement;
	struct alignmap_plan plan;
	int saved;

	/* Nothing is known before the constructor has run, errno's address included. */
	if (addr || !flags_are_placeable(flags) || !leaves->count)
		return left_alone(&call);
	saved = errno;
	if (alignmap_plan(leaves, length, offset_behind(&call), &plan)) {
		errno = saved;
		return left_alone(&call);
	}
	return alignmap_place(&call, leaves, plan.alignment, CLAIM_FIXED, true, &placement);
}
