// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A library that maps as early as can be: in an IFUNC resolver, which ld.so calls while it
 * relocates this library, and that is before it relocates what was preloaded; and in a constructor,
 * which runs before those of what was preloaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "early-library.h"
#include "sanitized.h"

#define LENGTH ((size_t)8 << 20)

static struct early_calls by_resolver, by_constructor;

/*
 * ld.so fills this before it calls a resolver. What a plain call goes through it fills only after
 * on 64-bit Power, where LD_BIND_NOW leaves nothing to call there.
 */
static void *(*const volatile any_mmap)(void *, size_t, int, int, int, off_t) = mmap;

static void make_calls(struct early_calls *calls)
{
	calls->length = LENGTH;
	calls->granted =
		any_mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	calls->refused = any_mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, -1, 0);
}

static int chosen(void)
{
	return 42;
}

__attribute__((visibility("hidden"))) int choice(void);
int choice(void) __attribute__((ifunc("choose")));

__attribute__((no_stack_protector, used)) static int (*choose(void))(void)
{
	/* A sanitizer's runtime is not to be called yet. */
#if !SANITIZED
	make_calls(&by_resolver);
#endif
	return chosen;
}

__attribute__((constructor(101))) static void begin(void)
{
	errno = 0;
	make_calls(&by_constructor);
	by_constructor.error = errno;
	errno = EXDEV;
	munmap(mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), LENGTH);
	by_constructor.errno_kept = errno == EXDEV;
}

const struct early_calls *calls_of_resolver(void)
{
	return choice() == 42 ? &by_resolver : NULL;
}

const struct early_calls *calls_of_constructor(void)
{
	return &by_constructor;
}
