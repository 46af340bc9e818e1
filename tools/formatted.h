/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef FORMATTED_H
#define FORMATTED_H

#include <err.h>
#include <stdarg.h>
#include <stdio.h>

/* As asprintf(3), without failure. */
__attribute__((format(printf, 1, 2))) static inline char *formatted(const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		err(1, "cannot compose a text");
	va_end(arguments);
	return text;
}

#endif /* FORMATTED_H */
