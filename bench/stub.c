// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * An mmap to stand behind libalignmap in LD_PRELOAD, which returns at once while it is told so:
 * what is left of a call's time is then the way to it.
 */
/* The build defines it, and the headers would then make one symbol of the two. */
#undef _FILE_OFFSET_BITS
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../tests/system/raw.h"

/* Both are symbols here. */
#undef mmap64
void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset);

extern bool stub_returns_at_once;
bool stub_returns_at_once;

static void *stub(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	if (stub_returns_at_once)
		return &stub_returns_at_once;
	return raw_mmap(address, length, prot, flags, fd, offset);
}

void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return stub(address, length, prot, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return stub(address, length, prot, flags, fd, offset);
}
