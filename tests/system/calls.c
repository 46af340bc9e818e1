// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* mmap and mmap64 as two symbols; the headers make one of them if _FILE_OFFSET_BITS is 64. */
#undef _FILE_OFFSET_BITS
#include <sys/mman.h>
#include <sys/types.h>

void *call_mmap(void *address, size_t length, int prot, int flags, int fd, off64_t offset);
void *call_mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset);

void *call_mmap(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return mmap(address, length, prot, flags, fd, offset);
}

void *call_mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return mmap64(address, length, prot, flags, fd, offset);
}
