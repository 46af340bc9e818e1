/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The system call itself, which neither the library nor a sanitizer sees. */
#ifndef RAW_H
#define RAW_H

#include "sys.h"

static inline void *raw_mmap(void *address, size_t length, int prot, int flags, int fd,
			     int64_t offset)
{
	const long result = sys_mmap(address, length, prot, flags, fd, offset);

	if (!sys_failed(result))
		return (void *)result;
	errno = (int)-result;
	return MAP_FAILED;
}

#endif /* RAW_H */
