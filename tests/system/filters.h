/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The system calls that VMMs allow their own threads, as facts: number, argument, mask, value. Read
 * on 26 November 2026 from
 *   firecracker-microvm/firecracker, resources/seccomp/x86_64-unknown-linux-musl.json, at the
 *     commits 01a3b57933e4 (of early 2023: after Rust 1.67, for whose channels it has sched_yield,
 *     and before pull request 3693 of May 2023, with which madvise came to be allowed whole) and
 *     f7c23840f5af (after that, and before the pmem device of October 2025, pull request 5463);
 *   the same with PCI hotplug (pull request 5786 of April 2026) from aerosouund/firecracker, commit
 *     8a02b3758eeb, less what that fork adds for vsock;
 *   Cloud Hypervisor, vmm/src/seccomp_filters.rs, from olivereanderson/cloud-hypervisor, commit
 *     040d7b0a1374 (2026; the threads' own rules and those common to all).
 * Rules for ioctl, socket and uname are left out: these filters allow less than the published ones.
 * Nothing is added. What is not allowed raises SIGSYS, as it does there.
 *
 * Firecracker's releases are static, and its GNU targets install no filter of their own, but can be
 * given one (docs/seccomp.md, --seccomp-filter): the preload meets these lists there, and in
 * programs that have copied them.
 */
#ifndef FILTERS_H
#define FILTERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct condition {
	unsigned int argument;
	uint32_t mask, value; /* with a mask of 0 there is none */
};

struct rule {
	int number;
	struct condition conditions[2];
};

struct list {
	const char *name;
	const char *thread;
	/*
	 * Files of a leaf and more, and devices. Firecracker's lists comment what mmap they are
	 * for: MAP_SHARED "for reading the timezone", MAP_SHARED | MAP_POPULATE "by io_uring for
	 * mapping the queues"; and of April 2026 MAP_SHARED | MAP_NORESERVE "by pmem device to mmap
	 * the backing file". The latter alone may be large.
	 */
	bool maps_files;
	const struct rule *parts[4];
};

/* clang-format off */
#define ANY(call) { SYS_##call, { { 0, 0, 0 } } }
#define IF(call, argument, value) { SYS_##call, { { argument, UINT32_MAX, value } } }
#define AND_IF(call, one, first, two, mask, second) \
	{ SYS_##call, { { one, UINT32_MAX, first }, { two, mask, second } } }
#define MMAP(flags) IF(mmap, 3, flags)
#define END { -1, { { 0, 0, 0 } } }

/* No VMM's: what a thread needs that maps files and, as malloc() does, anonymous memory. */
static const struct rule least[] = {
	ANY(munmap), ANY(write), ANY(exit), MMAP(MAP_PRIVATE), MMAP(MAP_SHARED),
	MMAP(MAP_PRIVATE | MAP_ANONYMOUS), END,
};

static const struct rule noreplace[] = {
	MMAP(MAP_PRIVATE | MAP_FIXED_NOREPLACE), MMAP(MAP_SHARED | MAP_FIXED_NOREPLACE),
	MMAP(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE), END,
};

/* So that what comes behind fstat can be seen to be called. */
static const struct rule fstat_too[] = { ANY(fstat), END };

#ifdef __x86_64__

static const struct rule firecracker_all[] = {
	ANY(exit), ANY(exit_group), ANY(open), ANY(write), ANY(close), ANY(brk), ANY(clock_gettime),
	ANY(fstat), ANY(mremap), ANY(munmap), ANY(rt_sigprocmask), ANY(sigaltstack),
	ANY(sched_yield), IF(futex, 1, 0), IF(futex, 1, 1), IF(futex, 1, 128), IF(futex, 1, 137),
	IF(futex, 1, 129), IF(madvise, 2, MADV_DONTNEED), MMAP(MAP_SHARED), IF(rt_sigaction, 0, 6),
	IF(tkill, 1, 6), END,
};

static const struct rule firecracker_vmm[] = {
	ANY(epoll_ctl), ANY(epoll_pwait), ANY(read), ANY(writev), ANY(fsync), ANY(eventfd2),
	ANY(io_uring_enter), ANY(io_uring_setup), ANY(io_uring_register), ANY(connect),
	ANY(ftruncate), ANY(lseek), ANY(recvfrom), ANY(rt_sigreturn), IF(accept4, 3, 524288),
	AND_IF(fcntl, 1, 2, 2, UINT32_MAX, 1), MMAP(MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE),
	MMAP(MAP_ANONYMOUS | MAP_PRIVATE), MMAP(MAP_SHARED | MAP_POPULATE), IF(tkill, 1, 35),
	IF(timerfd_settime, 1, 0), END,
};

static const struct rule firecracker_vmm_later[] = {
	ANY(madvise), ANY(stat), ANY(getrandom), ANY(sendmsg), ANY(recvmsg), END,
};

static const struct rule firecracker_vmm_hotplug[] = {
	ANY(mincore), ANY(readv), ANY(gettid), ANY(sendto), ANY(restart_syscall), ANY(mprotect),
	IF(msync, 2, 4), AND_IF(mmap, 3, MAP_SHARED | MAP_NORESERVE, 2, PROT_EXEC, 0),
	AND_IF(mmap, 3, MAP_PRIVATE | MAP_NORESERVE | MAP_ANONYMOUS, 2, PROT_EXEC, 0),
	AND_IF(mmap, 3, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, 2, PROT_EXEC, 0),
	AND_IF(mmap, 3, MAP_SHARED | MAP_FIXED, 2, UINT32_MAX, PROT_READ | PROT_WRITE),
	IF(memfd_create, 1, 3), IF(fcntl, 1, 1033),
	AND_IF(timerfd_create, 0, 1, 1, UINT32_MAX, 526336), END,
};

static const struct rule firecracker_api[] = {
	ANY(epoll_ctl), ANY(epoll_pwait), ANY(read), ANY(recvfrom), ANY(recvmsg), ANY(getrandom),
	IF(accept4, 3, 524288), IF(fcntl, 1, 2), IF(madvise, 2, MADV_FREE),
	MMAP(MAP_ANONYMOUS | MAP_PRIVATE), END,
};

static const struct rule firecracker_vcpu[] = {
	ANY(rt_sigreturn), ANY(sendmsg), IF(madvise, 2, MADV_FREE), IF(timerfd_settime, 1, 0),
	AND_IF(mmap, 3, MAP_ANONYMOUS | MAP_PRIVATE, 2, UINT32_MAX, PROT_READ | PROT_WRITE), END,
};

static const struct rule cloud_hypervisor_all[] = {
	ANY(getpid), ANY(gettid), ANY(read), ANY(rt_sigaction), ANY(rt_sigprocmask), ANY(tgkill),
	ANY(tkill), ANY(write), END,
};

static const struct rule cloud_hypervisor_vmm[] = {
	ANY(accept4), ANY(access), ANY(arch_prctl), ANY(bind), ANY(brk), ANY(clock_gettime),
	ANY(clock_nanosleep), ANY(clone), ANY(clone3), ANY(close), ANY(close_range), ANY(connect),
	ANY(dup), ANY(epoll_create1), ANY(epoll_ctl), ANY(epoll_pwait), ANY(epoll_wait),
	ANY(eventfd2), ANY(exit), ANY(exit_group), ANY(fallocate), ANY(fcntl), ANY(fdatasync),
	ANY(fstat), ANY(fsync), ANY(ftruncate), ANY(futex), ANY(getcwd), ANY(getdents64),
	ANY(getpgid), ANY(getpgrp), ANY(getrandom), ANY(getsockname), ANY(gettimeofday),
	ANY(getuid), ANY(io_cancel), ANY(io_destroy), ANY(io_getevents), ANY(io_setup),
	ANY(io_submit), ANY(io_uring_enter), ANY(io_uring_setup), ANY(io_uring_register), ANY(kill),
	ANY(landlock_create_ruleset), ANY(landlock_add_rule), ANY(landlock_restrict_self),
	ANY(listen), ANY(lseek), ANY(madvise), ANY(mbind), ANY(memfd_create), ANY(mmap),
	ANY(mprotect), ANY(mremap), ANY(munmap), ANY(nanosleep), ANY(newfstatat), ANY(open),
	ANY(openat), ANY(openat2), ANY(pipe2), ANY(poll), ANY(prctl), ANY(pread64), ANY(preadv),
	ANY(prlimit64), ANY(pwrite64), ANY(pwritev), ANY(pwritev2), ANY(readv), ANY(readlink),
	ANY(recvfrom), ANY(recvmsg), ANY(restart_syscall), ANY(rseq), ANY(rt_sigreturn),
	ANY(sched_getaffinity), ANY(sched_setaffinity), ANY(sched_yield), ANY(seccomp),
	ANY(sendmsg), ANY(sendto), ANY(set_robust_list), ANY(setsid), ANY(setsockopt),
	ANY(shutdown), ANY(sigaltstack), ANY(socketpair), ANY(stat), ANY(statfs), ANY(statx),
	ANY(timerfd_create), ANY(timerfd_settime), IF(umask, 0, 077), ANY(unlink), ANY(userfaultfd),
	ANY(wait4), ANY(writev), END,
};

static const struct rule cloud_hypervisor_vcpu[] = {
	ANY(brk), ANY(clock_gettime), ANY(clock_nanosleep), ANY(close), ANY(dup), ANY(exit),
	ANY(epoll_ctl), ANY(fallocate), ANY(fcntl), ANY(fdatasync), ANY(fstat), ANY(fsync),
	ANY(futex), ANY(getcwd), ANY(getrandom), ANY(lseek), ANY(madvise), ANY(mmap), ANY(mprotect),
	ANY(mremap), ANY(munmap), ANY(nanosleep), ANY(newfstatat), ANY(open), ANY(openat),
	ANY(openat2), ANY(pread64), ANY(pwrite64), ANY(pwritev2), ANY(readlink), ANY(recvfrom),
	ANY(recvmsg), ANY(rt_sigreturn), ANY(sched_yield), ANY(sendmsg), ANY(sendto), ANY(shutdown),
	ANY(sigaltstack), ANY(stat), ANY(statx), ANY(unlink), ANY(writev), END,
};

#endif /* __x86_64__ */
/* clang-format on */

static const struct list lists[] = {
	{ "the least", "", true, { least } },
	{ "the least and MAP_FIXED_NOREPLACE", "", true, { least, noreplace } },
	{ "the least and fstat", "", true, { least, fstat_too } },
#ifdef __x86_64__
	{ "Firecracker 01a3b57", ", vmm", false, { firecracker_all, firecracker_vmm } },
	{ "Firecracker f7c2384",
	  ", vmm",
	  false,
	  { firecracker_all, firecracker_vmm, firecracker_vmm_later } },
	{ "Firecracker with PCI hotplug",
	  ", vmm",
	  true,
	  { firecracker_all, firecracker_vmm, firecracker_vmm_later, firecracker_vmm_hotplug } },
	{ "Firecracker f7c2384", ", api", false, { firecracker_all, firecracker_api } },
	{ "Firecracker f7c2384", ", vcpu", false, { firecracker_all, firecracker_vcpu } },
	{ "Cloud Hypervisor 040d7b0",
	  ", vmm",
	  true,
	  { cloud_hypervisor_all, cloud_hypervisor_vmm } },
	{ "Cloud Hypervisor 040d7b0",
	  ", vcpu",
	  true,
	  { cloud_hypervisor_all, cloud_hypervisor_vcpu } },
#endif
};

#endif /* FILTERS_H */
