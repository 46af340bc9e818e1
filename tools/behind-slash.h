/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The name at the end of a path: glibc's basename(), but musl's of that name is another. */
#ifndef BEHIND_SLASH_H
#define BEHIND_SLASH_H

#include <string.h>

static inline const char *behind_slash(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

#endif /* BEHIND_SLASH_H */
