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
 * Every function is safe in threads. All but alignmap_host_leaves() are safe in signal handlers.
 */
#ifndef ALIGNMAP_H
#define ALIGNMAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

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
 *	the base page, the PMD and the PUD, as tests/lab measures; on arm64 the base page and the
 *	PMD; on riscv64 as on x86-64, by the source of kernels that are newer than 6.12. Elsewhere
 *	the base page. (mm/Kconfig: ARCH_SUPPORTS_PMD_PFNMAP, ARCH_SUPPORTS_PUD_PFNMAP.)
 * @ALIGNMAP_FILE: Page cache and file-system DAX: sizes up to the PMD.
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

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif /* ALIGNMAP_H */
