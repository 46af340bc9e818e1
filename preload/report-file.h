/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef REPORT_FILE_H
#define REPORT_FILE_H

#pragma GCC visibility push(hidden)

/* What every report begins with. */
#define REPORT_MARK "libalignmap"

/*
 * Opens what ALIGNMAP_STATS or ALIGNMAP_LOG names, to append to, so that neither who else can write
 * to its folder nor who chose the path gains by it: a file that is made, or one of this user's (or
 * root's) that is empty or begins with REPORT_MARK; a pipe of theirs; or /dev/null. Returns -1 with
 * the reason in @why.
 */
int open_report_file(const char *path, const char **why);

#pragma GCC visibility pop

#endif /* REPORT_FILE_H */
