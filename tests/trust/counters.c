// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Linked into each program and library of which the coverage is measured (tests/trust/coverage):
 * writes the counters that a process would lose that ends by _exit(), as most children of the
 * tests do.
 */
#include <dlfcn.h>
#include <unistd.h>

void __gcov_dump(void);
void __gcov_reset(void);

__attribute__((visibility("default"))) void _exit(int status)
{
	/* The next one may be the preloaded library's. */
	void (*next)(int) = __extension__(void (*)(int)) dlsym(RTLD_NEXT, "_exit");

	__gcov_dump();
	/* A child by vfork() has its parent's counters, which go on. */
	__gcov_reset();
	next(status);
	__builtin_unreachable();
}
