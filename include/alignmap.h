/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/**
 * DOC: libalignmap
 *
 * Maps files, device memory and anonymous memory at virtual addresses that agree with what lies
 * behind them, so that the kernel can map them with its largest page-table entries.
 *
 * A page-table entry, or a run of entries that the hardware treats as one, is called a *leaf*
 * here. A mapping is *congruent* modulo a leaf size when its address and its file offset leave
 * the same remainder; only then can the kernel use leaves of that size for it.
 *
 * A single mapping is made by alignmap_mmap(). A range that is mapped in pieces, some of it not at
 * all, is a *window*: alignmap_window_reserve(). The regions of a VFIO device are mapped by
 * alignmap-vfio.h.
 *
 * Every function is safe in threads. alignmap_plan() and alignmap_mmap() are safe in signal
 * handlers, the others are not. Windows and regions have locks: the child that a threaded process
 * forks must not use those that it inherits.
 */
#ifndef ALIGNMAP_H
#define ALIGNMAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
/* g++ would warn of alignmap_plan, a function and a struct. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
#pragma GCC visibility push(default)

/* Offsets have 64 bits. On a 32-bit machine compile with -D_FILE_OFFSET_BITS=64. */
typedef char alignmap_needs_an_off_t_of_64_bits[sizeof(off_t) == 8 ? 1 : -1];

/** ALIGNMAP_LEAVES_MAX - The most leaf sizes that a host can have. */
#define ALIGNMAP_LEAVES_MAX 8

/**
 * struct alignmap_leaves - The leaf sizes of a host, or of one kind of memory on it.
 * @count: How many sizes there are, 1 to ALIGNMAP_LEAVES_MAX.
 * @size: The sizes in bytes, largest first. Each is a power of two and divides the one before it;
 *	the last is the base page.
 */
struct alignmap_leaves {
	unsigned int count;
	size_t size[ALIGNMAP_LEAVES_MAX];
};

/**
 * enum alignmap_backing - What lies behind a mapping, which bounds the leaves that Linux uses.
 * @ALIGNMAP_ANY: Every leaf size of the host. Placement uses these for all but anonymous memory.
 * @ALIGNMAP_VFIO: A BAR mapped through VFIO, since Linux 6.12 (before, the base page). On x86-64
 *	the base page, the PMD and the PUD, on arm64 the base page and the PMD, as tests/lab
 *	measures; as on x86-64 by their source on riscv64 since Linux 6.16 and on ppc64 since 7.1.
 *	Elsewhere the base page. (mm/Kconfig: ARCH_SUPPORTS_PMD_PFNMAP, ARCH_SUPPORTS_PUD_PFNMAP.)
 * @ALIGNMAP_FILE: Page cache and file-system DAX: sizes up to the PMD, and up to 2,048 base pages,
 *	of which Linux makes no larger piece: less than the PMD on arm64 with pages of 64 KiB.
 * @ALIGNMAP_ANONYMOUS: Anonymous memory: sizes up to the PMD.
 */
enum alignmap_backing {
	ALIGNMAP_ANY,
	ALIGNMAP_VFIO,
	ALIGNMAP_FILE,
	ALIGNMAP_ANONYMOUS,
};

/**
 * alignmap_host_leaves() - The leaf sizes of this host.
 * @backing: The kind of memory that is asked about.
 * @leaves: Where the answer goes.
 *
 * The sizes are read once, when the library is loaded: the base page, what
 * /sys/kernel/mm/hugepages lists, transparent_hugepage/hpage_pmd_size beside it, and 1 GiB where
 * the processor has it. Where that directory is missing a table by architecture stands in.
 *
 * Return: 0, or -1 with errno set to EINVAL: @backing is none of the enumeration, or @leaves is
 * NULL.
 *
 * Safe in threads, not in signal handlers.
 */
int alignmap_host_leaves(enum alignmap_backing backing, struct alignmap_leaves *leaves);

/**
 * struct alignmap_plan - What a mapping deserves.
 * @alignment: The modulus, in bytes, under which its address must agree with its offset: the
 *	largest leaf size of which it holds at least one whole, aligned block; the base page if it
 *	holds no larger one.
 * @phase: Its offset modulo @alignment, in bytes: what its address must leave as a remainder.
 * @entries: How many leaves map it at such an address, the fewest possible. This is the number of
 *	faults that filling it takes where the kernel uses every leaf size that was given.
 * @count: The same by leaf size, in the order of struct alignmap_leaves.
 */
struct alignmap_plan {
	size_t alignment;
	size_t phase;
	size_t entries;
	size_t count[ALIGNMAP_LEAVES_MAX];
};

/**
 * alignmap_plan() - Works out what a mapping deserves.
 * @leaves: The leaf sizes to plan with: this host's, or any other's. Pure arithmetic.
 * @length: Length of the mapping in bytes, not 0; it is rounded up to the last (smallest) size.
 * @offset: Its offset in bytes into what is mapped, a multiple of the smallest size; 0 for
 *	anonymous memory.
 * @plan: Where the answer goes; unchanged on failure.
 *
 * Return: 0, or -1 with errno set to
 * EINVAL (a NULL argument, sizes that are not as struct alignmap_leaves says, a @length of 0, an
 * @offset that is no multiple of the smallest size) or
 * EOVERFLOW (@length cannot be rounded up, or @offset + @length exceeds 64 bits).
 *
 * Safe in threads and signal handlers.
 */
int alignmap_plan(const struct alignmap_leaves *leaves, size_t length, uint64_t offset,
		  struct alignmap_plan *plan);

/**
 * alignmap_mmap() - Maps as mmap(2) does, at the address that the mapping deserves.
 * @addr: As for mmap(2). Unless it is NULL the call is left to the kernel as it is.
 * @length: As for mmap(2), in bytes.
 * @prot: As for mmap(2).
 * @flags: As for mmap(2). With MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_32BIT, MAP_GROWSDOWN, MAP_STACK
 *	or MAP_HUGETLB the call is left to the kernel as it is. Files on hugetlbfs are placed.
 * @fd: As for mmap(2).
 * @offset: As for mmap(2), in bytes. Ignored in the choice of an address with MAP_ANONYMOUS.
 *
 * The address is congruent with @offset modulo the alignment that alignmap_plan() gives over the
 * host's leaf sizes (modulo the PMD at most for anonymous memory). Where no room can be found for
 * that (RLIMIT_AS, RLIMIT_MEMLOCK under mlockall(MCL_FUTURE), a full address space), modulo the
 * next smaller leaf size, and in the end where mmap(2) puts it. Where the kernel or the driver
 * refuses the mapping there, the call is made once more as it stands, and that result is
 * returned: a mapping that mmap(2) would have made is always made, and a caller that must have a
 * congruent one looks at its address.
 *
 * The address is claimed with MAP_FIXED_NOREPLACE, but only suggested where that is refused
 * (MAP_SHARED_VALIDATE) or not known (Linux before 4.17): then the mapping may land elsewhere.
 * For an instant the process holds the length, the alignment and a PMD of address space more, as
 * PROT_NONE; where other threads were faster to take the place, up to sixteen times as much, if
 * that is to be had.
 *
 * Where the calling thread's last mapping was placed, or somewhat below it, is claimed first: if
 * nothing is there, no room need be looked for, and there is no such instant. So it is only with
 * the shared object that was loaded at start and in front of the C library, and where the kernel
 * chooses addresses from the top down; and no more once the process has made a mapping with
 * MAP_GROWSDOWN by a call of mmap(), since a claim does not see the guard gap below one. (One that
 * is made by the bare system call is not noticed.)
 *
 * It makes no other system call than mmap and munmap, but in one case: on a Linux that applies
 * the transparent-huge-page policy to device memory (6.16 up to 7.1), under that policy "madvise",
 * placing a shared mapping of a descriptor also takes fstat(2) and, if that is no regular file,
 * madvise(MADV_HUGEPAGE), without which the right address gains nothing for a BAR. A seccomp
 * filter must then allow both.
 *
 * Before the library's constructors have run, the call is left to the kernel as it is.
 *
 * Return: the address of the mapping, to be unmapped by munmap(2); errno is unchanged. Or
 * MAP_FAILED with errno as mmap(2) sets it.
 *
 * Safe in threads and signal handlers, after fork() and vfork(). No memory is allocated and no
 * lock taken.
 */
void *alignmap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);

/** struct alignmap_window - A congruent range of address space that is held for pieces of files. */
struct alignmap_window;

/**
 * ALIGNMAP_STRICT - An option: fail with ENOMEM where there is no room for the alignment that the
 * plan and max_alignment ask for, rather than take a smaller one.
 */
#define ALIGNMAP_STRICT 1ULL

/**
 * struct alignmap_window_options - How to reserve a window.
 * @size: sizeof(struct alignmap_window_options), so that later versions can append to it.
 * @max_alignment: A bound in bytes, a power of two and at least the base page: what is asked for is
 *	the largest leaf size above neither it nor the plan's alignment. 0: there is no bound.
 * @flags: 0 or ALIGNMAP_STRICT.
 */
struct alignmap_window_options {
	size_t size;
	size_t max_alignment;
	uint64_t flags;
};

/**
 * alignmap_window_reserve() - Holds address space that is congruent with a range of offsets.
 * @offset: The first offset of the range, in bytes, a multiple of the base page.
 * @length: The length of the range in bytes, a multiple of the base page, not 0.
 * @options: NULL stands for an alignment as the plan says, or what room there is for.
 *
 * The whole range gets addresses at once, of which none can be accessed (PROT_NONE), and keeps
 * them until alignmap_window_release(). They are congruent with the offsets modulo the alignment
 * that alignmap_plan() gives for @length and @offset over the host's leaf sizes; where there is no
 * room for that, modulo the next smaller leaf size, down to the base page. So each piece that is
 * mapped in it by alignmap_window_map() gets the entries that it could get anywhere, but for a
 * piece that deserves more than the room allowed for.
 *
 * For an instant the process holds the length and the alignment of address space; what cannot be
 * trimmed, near vm.max_map_count, stays held with the window. What is held counts towards
 * RLIMIT_AS, but is no locked memory under mlockall(MCL_FUTURE). It makes the system calls mmap,
 * munmap and munlock.
 *
 * Return: the window, to be freed by alignmap_window_release(); alignmap_window_query() of @offset
 * says at what address it is. Or NULL with errno set to
 * EINVAL (@offset or @length is no multiple of the base page, @length is 0, or the options are not
 * as described: their size is less than the structure's, for one), E2BIG (options of a later
 * version that this one does not know, or that are not initialized), EOVERFLOW (@offset + @length
 * exceeds 64 bits), ENOMEM (there is no room at all, or with ALIGNMAP_STRICT none that is aligned
 * as it should be) or EAGAIN (RLIMIT_MEMLOCK, under mlockall(MCL_FUTURE)).
 *
 * Safe in threads, not in signal handlers.
 */
struct alignmap_window *alignmap_window_reserve(uint64_t offset, size_t length,
						const struct alignmap_window_options *options);

/**
 * alignmap_window_map() - Maps a piece of a file at its place in a window.
 * @window: The window.
 * @length: As for mmap(2), in bytes, a multiple of the base page. On hugetlbfs a multiple of the
 *	file's page size, as @offset is: the kernel would round it up and map over what lies behind.
 * @prot: As for mmap(2). The piece may be given another by mprotect(2), and advice by madvise(2),
 *	which go when it goes.
 * @flags: As for mmap(2), without MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_32BIT,
 *	MAP_GROWSDOWN, MAP_STACK and MAP_HUGETLB.
 * @fd: As for mmap(2). The window keeps no descriptor: it can be closed.
 * @offset: As for mmap(2), in bytes. It also says where in the window: the window's first address
 *	is that of its first offset.
 *
 * The piece is mapped aside by alignmap_mmap(), which for an instant takes that much address space
 * once more, and moved to its place by mremap(2). If it is refused, its place is still reserved.
 * Where it cannot be moved (hugetlbfs before Linux 5.16; a seccomp filter) or there is no memory
 * for it aside (ENOMEM), its place is given up for an instant and claimed for it with
 * MAP_FIXED_NOREPLACE. mremap(2) too may leave a place unmapped when it fails. Whatever another
 * thread maps in such a gap is never touched: that place is *lost*. So is one of which it cannot be
 * known whether there was a gap: within some five mappings of vm.max_map_count (the margin that
 * mm/mremap.c keeps), or with a filter that fails mremap(2) with another errno than EPERM and
 * ENOSYS. A lost place stays what it is, and refuses pieces until the window is released; the rest
 * of the window stays usable.
 *
 * It makes the system calls fstatfs, mmap, munmap and mremap, munlock where a place is taken back,
 * and those that alignmap_mmap() makes on Linux 6.16 to 7.1.
 *
 * Return: the address of the piece, to be taken out by alignmap_window_unmap(). It must not be
 * unmapped, moved or mapped over otherwise: the window takes the place for its own, and later maps
 * over what another thread has put there. errno is unchanged. Or MAP_FAILED with errno as
 * fstatfs(2), mmap(2) and mremap(2) set it, and nothing changed but for a place that is lost.
 * Besides, EINVAL (@window is NULL, or the piece is not wholly in the window, not aligned, or has
 * one of the flags above) and EEXIST (it overlaps another piece, or a place that is lost now or was
 * before).
 *
 * Safe in threads, not in signal handlers.
 */
void *alignmap_window_map(struct alignmap_window *window, size_t length, int prot, int flags,
			  int fd, off_t offset);

/**
 * alignmap_window_unmap() - Takes pieces out of a window, which keeps their places.
 * @window: The window.
 * @offset: Where to begin, in bytes, a multiple of the base page.
 * @length: How much, in bytes, a multiple of the base page, not 0. The range must not cut a piece;
 *	what in it is no piece stays as it is.
 *
 * It makes the system calls mmap and munlock.
 *
 * Return: 0. Or -1 with errno set to EINVAL (@window is NULL, or the range cuts a piece, is not
 * wholly in the window or not aligned; nothing is changed then), or as mmap(2) sets it where the
 * kernel refuses to map PROT_NONE over a piece. Those before it are out then, those behind it are
 * still there. So is that piece, but it may be lost after ENOMEM: where the kernel runs out of
 * memory it may or may not have unmapped it. alignmap_window_query() says.
 *
 * Safe in threads, not in signal handlers.
 */
int alignmap_window_unmap(struct alignmap_window *window, uint64_t offset, size_t length);

/**
 * enum alignmap_extent_state - What lies in a part of a window.
 * @ALIGNMAP_RESERVED: Nothing; it is held, PROT_NONE.
 * @ALIGNMAP_MAPPED: A piece.
 * @ALIGNMAP_LOST: It cannot be known what: another thread may have mapped something. The library
 *	never touches it again.
 */
enum alignmap_extent_state {
	ALIGNMAP_RESERVED,
	ALIGNMAP_MAPPED,
	ALIGNMAP_LOST,
};

/**
 * struct alignmap_extent - A part of a window in which all is alike.
 * @address: Its first address.
 * @length: Its length in bytes.
 * @offset: Its first offset in bytes.
 * @state: What lies there.
 * @prot: The protection that a piece was mapped with; PROT_NONE otherwise.
 */
struct alignmap_extent {
	void *address;
	size_t length;
	uint64_t offset;
	enum alignmap_extent_state state;
	int prot;
};

/**
 * alignmap_window_query() - What lies where in a window.
 * @window: The window.
 * @offset: The offset that is asked about, in bytes.
 * @extent: Where the answer goes: the piece, the lost place or the whole reserved part between such
 *	that holds @offset. Unchanged on failure.
 *
 * All of a window, from its first offset on::
 *
 *	while (alignmap_window_query(window, offset, &extent) == 0)
 *		offset = extent.offset + extent.length;
 *
 * Return: 0, or -1 with errno set to EINVAL: @offset is not in the window, or an argument is NULL.
 *
 * Safe in threads, not in signal handlers.
 */
int alignmap_window_query(struct alignmap_window *window, uint64_t offset,
			  struct alignmap_extent *extent);

/**
 * alignmap_window_release() - Unmaps a window with all its pieces, and frees it.
 * @window: The window, which no other thread uses any more. NULL: nothing happens.
 *
 * What lies in a place that was lost is left alone; a piece that could not be taken out stays
 * mapped there. It makes the system call munmap.
 *
 * Return: 0. Or -1 with errno as munmap(2) sets it (ENOMEM near vm.max_map_count): the window is
 * not freed, and what is left of it can only be released again.
 *
 * Safe in threads, not in signal handlers.
 */
int alignmap_window_release(struct alignmap_window *window);

#pragma GCC visibility pop
#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif

#endif /* ALIGNMAP_H */
