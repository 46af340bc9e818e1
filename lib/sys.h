/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * mmap and its like as bare system calls. Inline, because they are made before this object is
 * relocated (from an IFUNC resolver of another library) and where other interposers and sanitizers
 * must not see them. All return what the kernel returns: a negative errno on failure.
 */
#ifndef SYS_H
#define SYS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#if defined(__x86_64__) && defined(__LP64__)

static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

#elif defined(__aarch64__) && defined(__LP64__)

static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}

#elif defined(__riscv) && __riscv_xlen == 64

static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long a7 __asm__("a7") = number;
	register long a0 __asm__("a0") = a;
	register long a1 __asm__("a1") = b;
	register long a2 __asm__("a2") = c;
	register long a3 __asm__("a3") = d;
	register long a4 __asm__("a4") = e;
	register long a5 __asm__("a5") = f;

	__asm__ volatile("ecall"
			 : "+r"(a0)
			 : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
			 : "memory");
	return a0;
}

#elif defined(__powerpc64__)

/* Whether a result is an errno, without a sign, is told beside it. */
static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r0 __asm__("r0") = number;
	register long r3 __asm__("r3") = a;
	register long r4 __asm__("r4") = b;
	register long r5 __asm__("r5") = c;
	register long r6 __asm__("r6") = d;
	register long r7 __asm__("r7") = e;
	register long r8 __asm__("r8") = f;

	__asm__ volatile("sc\n\t"
			 "bns+ 1f\n\t"
			 "neg %1, %1\n"
			 "1:"
			 : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r7), "+r"(r8)
			 :
			 : "r9", "r10", "r11", "r12", "cr0", "ctr", "memory");
	return r3;
}

#elif defined(__s390x__)

static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r1 __asm__("r1") = number;
	register long r2 __asm__("r2") = a;
	register long r3 __asm__("r3") = b;
	register long r4 __asm__("r4") = c;
	register long r5 __asm__("r5") = d;
	register long r6 __asm__("r6") = e;
	register long r7 __asm__("r7") = f;

	__asm__ volatile("svc 0"
			 : "+d"(r2)
			 : "d"(r1), "d"(r3), "d"(r4), "d"(r5), "d"(r6), "d"(r7)
			 : "memory");
	return r2;
}

#elif defined(__i386__)

/* The sixth argument goes where the compiler may keep its frame. */
static inline long sys_call6(long number, long a, long b, long c, long d, long e, long f)
{
	const long others[] = { number, f };
	long result;

	__asm__ volatile("pushl %%ebp\n\t"
			 "movl 4(%%eax), %%ebp\n\t"
			 "movl (%%eax), %%eax\n\t"
			 "int $0x80\n\t"
			 "popl %%ebp"
			 : "=a"(result)
			 : "a"(others), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
}

#else
#error "write this machine's system call here, as above"
#endif

static inline long sys_mmap(void *address, size_t length, int prot, int flags, int fd,
			    int64_t offset)
{
#ifdef SYS_mmap2
	/* It counts offsets in units of 4 KiB, whatever the page. What it cannot say is refused. */
	if (offset & 4095 || offset < 0 || offset >> 12 > UINT32_MAX)
		return -EINVAL;
	return sys_call6(SYS_mmap2, (long)address, (long)length, prot, flags, fd,
			 (long)(offset >> 12));
#elif defined(__s390x__)
	/* A call of the days before one could have six arguments. */
	const long arguments[] = { (long)address, (long)length, prot, flags, fd, offset };

	return sys_call6(SYS_mmap, (long)arguments, 0, 0, 0, 0, 0);
#else
	return sys_call6(SYS_mmap, (long)address, (long)length, prot, flags, fd, offset);
#endif
}

static inline long sys_munmap(uintptr_t address, size_t length)
{
	return sys_call6(SYS_munmap, (long)address, (long)length, 0, 0, 0, 0);
}

/* Moves a mapping, whole, over whatever is at @to. */
static inline long sys_mremap(uintptr_t from, size_t length, uintptr_t to)
{
	return sys_call6(SYS_mremap, (long)from, (long)length, (long)length,
			 MREMAP_MAYMOVE | MREMAP_FIXED, (long)to, 0);
}

static inline long sys_munlock(uintptr_t address, size_t length)
{
	return sys_call6(SYS_munlock, (long)address, (long)length, 0, 0, 0, 0);
}

/*
 * Seccomp filters that allow fstat need not know newfstatat, which fstat() of glibc 2.33 and some
 * later ones makes. On these machines struct stat is the kernel's.
 */
static inline long sys_fstat(int fd, struct stat *status)
{
#ifdef SYS_fstat64
	/* With 64 bits in an off_t struct stat is this one's, but not with 64 bits in a time_t. */
	_Static_assert(sizeof(time_t) == sizeof(long), "build without _TIME_BITS=64");
	return sys_call6(SYS_fstat64, fd, (long)status, 0, 0, 0, 0);
#else
	return sys_call6(SYS_fstat, fd, (long)status, 0, 0, 0, 0);
#endif
}

/* Whether a system call's result is an error: the kernel keeps the top 4095 values for that. */
static inline int sys_failed(long result)
{
	return (unsigned long)result > -4096UL;
}

#endif /* SYS_H */
