/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* A folder of made-up files, for what is read from proc and sysfs. */
#ifndef TREE_H
#define TREE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Where @path is below @top; the folders that lead there are made. Good until the next call. */
static inline const char *place(const char *top, const char *path)
{
	static char whole[4096];

	snprintf(whole, sizeof(whole), "%s/%s", top, path);
	for (char *slash = strchr(whole + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		assert_true(mkdir(whole, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
	return whole;
}

static inline void write_bytes(const char *top, const char *path, const char *bytes, size_t length)
{
	FILE *file = fopen(place(top, path), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	fclose(file);
}

static inline void write_file(const char *top, const char *path, const char *text)
{
	write_bytes(top, path, text, strlen(text));
}

/* As a group's teardown returns. */
static inline int remove_tree(const char *top)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r '%s'", top);
	return system(command);
}

#endif /* TREE_H */
