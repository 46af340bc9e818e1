// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* An mmap that is preloaded in front of the library's, and hands calls on. */
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/types.h>

/* Both are symbols here. */
#undef mmap64
void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset);

typedef void *mmap_function(void *, size_t, int, int, int, off64_t);

void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	static mmap_function *next;

	if (!next)
		next = __extension__(mmap_function *) dlsym(RTLD_NEXT, "mmap64");
	return next(address, length, prot, flags, fd, offset);
}

void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return mmap64(address, length, prot, flags, fd, offset);
}
