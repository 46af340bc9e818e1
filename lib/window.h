/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef WINDOW_H
#define WINDOW_H

#include <stdbool.h>
#include <stddef.h>

#pragma GCC visibility push(hidden)

/*
 * Copies a caller's options, which begin with their size, to the @known bytes of this version's.
 * NULL leaves those as they are. False, with errno set to EINVAL or E2BIG: they are not known here.
 */
bool alignmap_read_options(const void *callers, void *options, size_t known);

#pragma GCC visibility pop

#endif /* WINDOW_H */
