// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Windows: address space that is held for a range of offsets, and pieces of files put in it.
 *
 * The rule of place.c holds here too: never map over, and never unmap, what is not certainly ours.
 * A mapping over a held place that fails leaves a gap there or does not, and nobody can tell which
 * (mm/vma.c, vms_abort_munmap_vmas). So the mapping that a driver may refuse is made aside, and
 * only moved over the place; and where that fails too, the place is given up before it is claimed.
 */
#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "leaves.h"
#include "place.h"
#include "sys.h"
#include "window.h"

struct piece {
	uint64_t offset;
	size_t length;
	int prot;
	bool lost; /* what lies there is not ours */
};

struct alignmap_window {
	pthread_mutex_t lock;
	uint64_t offset;
	size_t length;
	uintptr_t address;    /* of the first offset */
	uintptr_t start, end; /* what is held: more than the window where it could not be trimmed */
	struct piece *pieces; /* by rising offset */
	size_t count, room;
};

static uintptr_t address_of(const struct alignmap_window *window, uint64_t offset)
{
	return window->address + (offset - window->offset);
}

static uint64_t end_of(const struct piece *piece)
{
	return piece->offset + piece->length;
}

/* A held place is no locked memory, though mlockall(MCL_FUTURE) makes it so. */
static long hold(void *address, size_t length, int flags)
{
	long start =
		sys_mmap(address, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (!sys_failed(start))
		sys_munlock((uintptr_t)start, length);
	return start;
}

/* Holds a place that is a gap; 0, or a negative errno: it is not, and not known to be ours. */
static long hold_again(uintptr_t place, size_t length)
{
	long start = hold((void *)place, length, MAP_FIXED_NOREPLACE);

	if (sys_failed(start) || start == (long)place)
		return sys_failed(start) ? start : 0;
	/* Linux before 4.17 takes the place for a hint. */
	alignmap_unmap((uintptr_t)start, length);
	return -EEXIST;
}

static bool reserve(struct alignmap_window *window, size_t alignment, size_t page)
{
	size_t length;
	long start;

	if (__builtin_add_overflow(window->length, alignment - page, &length)) {
		errno = ENOMEM;
		return false;
	}
	start = hold(NULL, length, 0);
	if (sys_failed(start)) {
		errno = (int)-start;
		return false;
	}
	window->start = (uintptr_t)start;
	window->end = window->start + length;
	window->address = window->start + ((window->offset - window->start) & (alignment - 1));

	/* What cannot be trimmed, near vm.max_map_count, is held with the rest. */
	length = window->address - window->start;
	if (length && !sys_failed(alignmap_unmap(window->start, length)))
		window->start += length;
	length = window->end - (window->address + window->length);
	if (length && !sys_failed(alignmap_unmap(window->end - length, length)))
		window->end -= length;
	return true;
}

bool alignmap_read_options(const void *callers, void *options, size_t known)
{
	size_t size;

	if (!callers)
		return true;
	memcpy(&size, callers, sizeof(size));
	/* When they grow, the least stays what it is in 0.9, and what is missing is 0. */
	if (size < known) {
		errno = EINVAL;
		return false;
	}
	/* A size that no version will have is none; a later version's zeros ask for nothing. */
	for (size_t i = known; i < size; i++) {
		if (size > 4096 || ((const char *)callers)[i]) {
			errno = E2BIG;
			return false;
		}
	}
	memcpy(options, callers, known);
	return true;
}

struct alignmap_window *alignmap_window_reserve(uint64_t offset, size_t length,
						const struct alignmap_window_options *options)
{
	struct alignmap_window_options asked = { 0 };
	struct alignmap_window *window;
	struct alignmap_leaves leaves;
	struct alignmap_plan plan;
	size_t page, most;
	int saved = errno;

	if (!alignmap_read_options(options, &asked, sizeof(asked)) ||
	    alignmap_host_leaves(ALIGNMAP_ANY, &leaves) ||
	    alignmap_plan(&leaves, length, offset, &plan))
		return NULL;
	page = leaves.size[leaves.count - 1];
	most = asked.max_alignment ? asked.max_alignment : SIZE_MAX / 2 + 1;
	if (length & (page - 1) || most < page || most & (most - 1) ||
	    asked.flags & ~ALIGNMAP_STRICT) {
		errno = EINVAL;
		return NULL;
	}
	window = calloc(1, sizeof(*window));
	if (!window)
		return NULL;
	pthread_mutex_init(&window->lock, NULL);
	window->offset = offset;
	window->length = length;

	for (unsigned int i = 0; i < leaves.count; i++) {
		if (leaves.size[i] > plan.alignment || leaves.size[i] > most)
			continue;
		if (reserve(window, leaves.size[i], page)) {
			errno = saved;
			return window;
		}
		if (asked.flags & ALIGNMAP_STRICT)
			break;
	}
	free(window);
	return NULL;
}

/* The first piece or lost place that ends behind @offset; the count of them if there is none. */
static size_t first_behind(const struct alignmap_window *window, uint64_t offset)
{
	size_t low = 0, high = window->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (end_of(&window->pieces[middle]) > offset)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Whether [@offset, @offset + @length) is a range of pages that the window holds. */
static bool fits(const struct alignmap_window *window, uint64_t offset, size_t length)
{
	const size_t page = alignmap_host.leaves.size[alignmap_host.leaves.count - 1];

	return length && !((offset | length) & (page - 1)) && offset >= window->offset &&
	       offset - window->offset < window->length &&
	       length <= window->length - (offset - window->offset) &&
	       address_of(window, offset) >= window->start;
}

/*
 * Whether the file maps no more than it is asked to; if not, errno says why. The kernel rounds a
 * hugetlbfs mapping up to the file's page size, over whatever lies behind (mm/mmap.c,
 * ksys_mmap_pgoff).
 */
static bool suits_file(int fd, uintptr_t place, size_t length, uint64_t offset)
{
	struct statfs status;

	if (fstatfs(fd, &status))
		return false;
	errno = EINVAL;
	return (unsigned int)status.f_type != HUGETLBFS_MAGIC ||
	       !((place | length | offset) & ((size_t)status.f_bsize - 1));
}

enum result { PIECE_MAPPED, PIECE_REFUSED, PIECE_LOST };

/* Gives a place up, on purpose, to claim it for a piece: each step says for certain whose it is. */
static enum result put_in_gap(uintptr_t place, const struct mapping_call *call)
{
	long unmapped = alignmap_unmap(place, call->length);
	void *mapping;

	if (sys_failed(unmapped)) {
		errno = (int)-unmapped;
		return PIECE_REFUSED;
	}
	mapping = alignmap_claim(call, place);
	if (mapping == (void *)place)
		return PIECE_MAPPED;
	if (mapping != MAP_FAILED) {
		alignmap_unmap((uintptr_t)mapping, call->length);
		errno = EEXIST;
	}
	return hold_again(place, call->length) ? PIECE_LOST : PIECE_REFUSED;
}

/*
 * Mapped aside, where a refusal costs nothing, and moved. A move that fails may have unmapped the
 * place before (mm/mremap.c, mremap_to), unless a seccomp filter has refused the call.
 */
static enum result put(uintptr_t place, const struct mapping_call *call)
{
	void *aside = alignmap_mmap(NULL, call->length, call->prot, call->flags, call->fd,
				    (off_t)call->offset);
	long moved;

	if (aside == MAP_FAILED)
		return errno == ENOMEM ? put_in_gap(place, call) : PIECE_REFUSED;
	moved = sys_mremap((uintptr_t)aside, call->length, place);
	if (moved == (long)place)
		return PIECE_MAPPED;
	/* A driver that chooses its own addresses chooses here too, on newer kernels. */
	alignmap_unmap(sys_failed(moved) ? (uintptr_t)aside : (uintptr_t)moved, call->length);
	errno = sys_failed(moved) ? (int)-moved : EEXIST;
	if (errno != EPERM && errno != ENOSYS && hold_again(place, call->length))
		return PIECE_LOST;
	return put_in_gap(place, call);
}

static bool make_room(struct alignmap_window *window)
{
	size_t room = window->room ? 2 * window->room : 8;
	struct piece *pieces;

	if (window->count < window->room)
		return true;
	pieces = reallocarray(window->pieces, room, sizeof(*pieces));
	if (!pieces)
		return false;
	window->pieces = pieces;
	window->room = room;
	return true;
}

/* 0, or the errno. */
static int map_piece(struct alignmap_window *window, const struct mapping_call *call)
{
	const uint64_t offset = (uint64_t)call->offset;
	const uintptr_t place = address_of(window, offset);
	const size_t at = first_behind(window, offset);
	enum result result;

	if (!fits(window, offset, call->length) || call->flags & MAP_ANONYMOUS ||
	    !flags_are_placeable(call->flags))
		return EINVAL;
	if (at < window->count && window->pieces[at].offset < offset + call->length)
		return EEXIST;
	if (!suits_file(call->fd, place, call->length, offset))
		return errno;
	if (!make_room(window))
		return ENOMEM;
	result = put(place, call);
	if (result == PIECE_REFUSED)
		return errno;
	memmove(&window->pieces[at + 1], &window->pieces[at],
		(window->count - at) * sizeof(window->pieces[0]));
	window->pieces[at] =
		(struct piece){ offset, call->length, call->prot, .lost = result == PIECE_LOST };
	window->count++;
	return result == PIECE_LOST ? errno : 0;
}

void *alignmap_window_map(struct alignmap_window *window, size_t length, int prot, int flags,
			  int fd, off_t offset)
{
	const struct mapping_call call = {
		NULL, length, prot, flags, fd, offset, alignmap_next_mmap
	};
	int saved = errno;
	int error;

	if (!window) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	pthread_mutex_lock(&window->lock);
	error = map_piece(window, &call);
	pthread_mutex_unlock(&window->lock);
	errno = error ? error : saved;
	return error ? MAP_FAILED : (void *)address_of(window, (uint64_t)offset);
}

/*
 * 0, or the errno. Out of memory, Linux may or may not have unmapped the piece (mm/vma.c,
 * vms_abort_munmap_vmas); all else that fails, fails before. So does what is asked for first, a
 * mapping where there is one: with EEXIST, but with ENOMEM where vm.max_map_count is reached.
 */
static int take_out(const struct alignmap_window *window, struct piece *piece)
{
	const uintptr_t place = address_of(window, piece->offset);
	long held;

	if (hold_again(place, piece->length) == -ENOMEM)
		return ENOMEM;
	held = hold((void *)place, piece->length, MAP_FIXED);
	if (!sys_failed(held) || !hold_again(place, piece->length))
		return 0;
	piece->lost = held == -ENOMEM;
	return (int)-held;
}

static int unmap_pieces(struct alignmap_window *window, uint64_t offset, size_t length)
{
	const uint64_t end = offset + length;
	size_t first, last, kept;
	int error = 0;

	if (!fits(window, offset, length))
		return EINVAL;
	first = first_behind(window, offset);
	for (last = first; last < window->count && window->pieces[last].offset < end; last++) {
		const struct piece *piece = &window->pieces[last];

		if (!piece->lost && (piece->offset < offset || end_of(piece) > end))
			return EINVAL;
	}
	kept = first;
	for (size_t i = first; i < last; i++) {
		struct piece piece = window->pieces[i];

		if (!piece.lost && !error)
			error = take_out(window, &piece);
		if (piece.lost || error)
			window->pieces[kept++] = piece;
	}
	if (kept < last)
		memmove(&window->pieces[kept], &window->pieces[last],
			(window->count - last) * sizeof(window->pieces[0]));
	window->count -= last - kept;
	return error;
}

int alignmap_window_unmap(struct alignmap_window *window, uint64_t offset, size_t length)
{
	int error = EINVAL;

	if (window) {
		pthread_mutex_lock(&window->lock);
		error = unmap_pieces(window, offset, length);
		pthread_mutex_unlock(&window->lock);
	}
	if (!error)
		return 0;
	errno = error;
	return -1;
}

static void look(const struct alignmap_window *window, uint64_t offset,
		 struct alignmap_extent *extent)
{
	const size_t at = first_behind(window, offset);
	const struct piece *piece = at < window->count ? &window->pieces[at] : NULL;
	uint64_t start = at ? end_of(&window->pieces[at - 1]) : window->offset;
	uint64_t end = piece ? piece->offset : window->offset + window->length;

	extent->state = ALIGNMAP_RESERVED;
	extent->prot = PROT_NONE;
	if (piece && piece->offset <= offset) {
		start = piece->offset;
		end = end_of(piece);
		extent->state = piece->lost ? ALIGNMAP_LOST : ALIGNMAP_MAPPED;
		extent->prot = piece->lost ? PROT_NONE : piece->prot;
	}
	extent->offset = start;
	extent->length = end - start;
	extent->address = (void *)address_of(window, start);
}

int alignmap_window_query(struct alignmap_window *window, uint64_t offset,
			  struct alignmap_extent *extent)
{
	if (!window || !extent || offset < window->offset ||
	    offset - window->offset >= window->length) {
		errno = EINVAL;
		return -1;
	}
	pthread_mutex_lock(&window->lock);
	look(window, offset, extent);
	pthread_mutex_unlock(&window->lock);
	return 0;
}

int alignmap_window_release(struct alignmap_window *window)
{
	if (!window)
		return 0;
	/* From one lost place to the next, and from the last to the end. */
	for (size_t i = 0; i <= window->count; i++) {
		const struct piece *lost = i < window->count ? &window->pieces[i] : NULL;
		uintptr_t end = lost ? address_of(window, lost->offset) : window->end;
		long unmapped = 0;

		if (lost && (!lost->lost || end < window->start))
			continue;
		if (end > window->start)
			unmapped = alignmap_unmap(window->start, end - window->start);
		if (sys_failed(unmapped)) {
			errno = (int)-unmapped;
			return -1;
		}
		window->start = lost ? end + lost->length : end;
	}
	pthread_mutex_destroy(&window->lock);
	free(window->pieces);
	free(window);
	return 0;
}
