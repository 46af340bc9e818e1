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
	char *what;	/* "is statically linked", as after the program's name; NULL: none */
	char *advice;	/* what to do instead */
	bool broken;	/* it would not start without the library, either */
	bool traceable; /* a tracer sees what the library would not */
};

/*
 * Why nothing that is preloaded would reach the program at @path, both texts allocated. Follows
 * scripts to their interpreters. Prints a note if the file may be started but not read.
 */
struct obstacle preload_obstacle(const char *path);

/*
 * Whether the file at @path, or the interpreter below @root that it is a script for, has set-id
 * bits or capabilities, whoever starts it.
 */
bool may_gain_privileges(const char *root, const char *path);

#endif /* PROGRAM_H */
