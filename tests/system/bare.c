// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A program as Go's are, that makes its system calls without a C library, to be linked with
 * -nostdlib and traced. It maps, fails to, maps in a thread and in a fork, and by a new program
 * after an exec; and looks at each mapping's place and content, each error, and the registers that
 * a system call leaves alone. Ends with 0, or the number of the line where something is not so.
 *
 *	bare file|exec [killed]
 *
 * With "killed" it is not said that anything lies well: its tracer may be gone.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <stdbool.h>

#include "sys.h"

/* A multiple of every base page. */
#define PAGE ((size_t)64 << 10)
#define PMD ((size_t)2 << 20)
#define LENGTH (4 * PMD + 3 * PAGE)
#define STACK ((size_t)64 << 10)

#define CALL(name, ...) CALL6(name, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL6(name, a, b, c, d, e, f, ...) \
	sys_call6(SYS_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define REQUIRE(claim)                                     \
	do {                                               \
		if (!(claim))                              \
			CALL(exit_group, __LINE__ & 0xff); \
	} while (0)

static bool killed;

/* mmap, and whether its arguments are in their registers behind it, but for the result's. */
static long map(size_t length, int fd, long offset, bool *kept)
{
	const long a = 0, b = (long)length, c = PROT_READ, d = MAP_SHARED, e = fd, f = offset;
#if defined(__x86_64__)
	long number = SYS_mmap, di = a, si = b, dx = c;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "+a"(number), "+D"(di), "+S"(si), "+d"(dx), "+r"(r10), "+r"(r8), "+r"(r9)
			 :
			 : "rcx", "r11", "memory");
	*kept = di == a && si == b && dx == c && r10 == d && r8 == e && r9 == f;
	return number;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_mmap;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0), "+r"(x8), "+r"(x1), "+r"(x2), "+r"(x3), "+r"(x4), "+r"(x5)
			 :
			 : "memory");
	*kept = x8 == SYS_mmap && x1 == b && x2 == c && x3 == d && x4 == e && x5 == f;
	return x0;
#endif
}

static void map_some(int file)
{
	bool kept;

	for (long i = 0; i < 8; i++) {
		const long mapping = map(LENGTH, file, i * (long)PAGE, &kept);

		REQUIRE(!sys_failed(mapping));
		REQUIRE(kept);
		REQUIRE(*(long *)mapping == i);
		REQUIRE(killed || (mapping - i * (long)PAGE) % (long)PMD == 0);
		REQUIRE(i % 2 || !sys_munmap((uintptr_t)mapping, LENGTH));
	}
	for (int i = 0; i < 4; i++) {
		REQUIRE(map(LENGTH, -1, 0, &kept) == -EBADF);
		REQUIRE(kept);
		REQUIRE(map(LENGTH, file, 1, &kept) == -EINVAL);
		REQUIRE(kept);
		REQUIRE(map((size_t)1 << 62, file, 0, &kept) == -ENOMEM);
		REQUIRE(kept);
	}
}

static int thread_file;

__attribute__((noreturn, used)) static void in_thread(void)
{
	map_some(thread_file);
	for (;;)
		CALL(exit, 0);
}

static void start_thread(int file)
{
	const long stack =
		sys_mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static int tid = 1;

	REQUIRE(!sys_failed(stack));
	thread_file = file;
	const long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			   CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
#if defined(__x86_64__)
	long number = SYS_clone;
	register int *r10 __asm__("r10") = &tid;
	register long r8 __asm__("r8") = 0;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "call in_thread\n"
			 "1:"
			 : "+a"(number)
			 : "D"(flags), "S"(stack + (long)STACK), "d"(0), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_clone;
	register long number __asm__("x0") = flags;
	register long x1 __asm__("x1") = stack + (long)STACK;
	register long x2 __asm__("x2") = 0;
	register long x3 __asm__("x3") = 0;
	register int *x4 __asm__("x4") = &tid;

	__asm__ volatile("svc 0\n\t"
			 "cbnz x0, 1f\n\t"
			 "bl in_thread\n"
			 "1:"
			 : "+r"(number)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
#endif
	REQUIRE(!sys_failed(number));
	while (__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
		CALL(futex, &tid, 0, 1, 0);
}

static void start_fork(int file)
{
	const long pid = CALL(clone, 17 /* SIGCHLD */);
	int status = 0;

	REQUIRE(!sys_failed(pid));
	if (pid == 0) {
		map_some(file);
		CALL(exit_group, 0);
	}
	REQUIRE(CALL(wait4, pid, &status) == pid);
	if (status)
		CALL(exit_group, status >> 8 ? status >> 8 : 255);
}

static bool is(const char *one, const char *other)
{
	while (*one && *one == *other) {
		one++;
		other++;
	}
	return *one == *other;
}

__attribute__((noreturn, used)) static void start(long *stack)
{
	char *const *arguments = (char *const *)(stack + 1);
	const int file = (int)CALL(memfd_create, "bare", 1);

	killed = stack[0] > 2;
	REQUIRE(file >= 0);
	REQUIRE(!CALL(ftruncate, file, 16 * PMD));
	for (long i = 0; i < 8; i++)
		REQUIRE(CALL(pwrite64, file, &i, sizeof(i), i * (long)PAGE) == sizeof(i));
	map_some(file);
	start_thread(file);
	start_fork(file);
	if (stack[0] > 1 && is(arguments[1], "exec")) {
		const char *again[] = { arguments[0], "file", killed ? "killed" : NULL, NULL };

		CALL(execve, "/proc/self/exe", again, arguments + stack[0] + 1);
		REQUIRE(!"executed");
	}
	for (;;)
		CALL(exit_group, 0);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall "
	"start");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl start");
#endif
