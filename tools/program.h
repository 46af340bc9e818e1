/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What exec would start, and whether a library that is preloaded reaches it. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdbool.h>

/*
 * The path of what execvp(3) would start for @command, allocated; NULL with errno where it would
 * start nothing: ENOENT if there is none of that name, else there is one that cannot be started.
 */
char *find_program(const char *command);

struct obstacle {
	char *what;   /* "is statically linked", as after the program's name; NULL: none */
	char *advice; /* what to do instead */
	bool broken;  /* it would not start without the library, either */
};

/*
 * Why nothing that is preloaded would reach the program at @path, both texts allocated. Follows
 * scripts to their interpreters. Prints a note if the file may be started but not read.
 */
struct obstacle preload_obstacle(const char *path);

#endif /* PROGRAM_H */
