/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef EARLY_LIBRARY_H
#define EARLY_LIBRARY_H

#include <stddef.h>

/* What came of a mapping that should be made and of one that should be refused. */
struct early_calls {
	void *granted;
	size_t length;
	void *refused;
	int error; /* errno of the refused one; in a resolver there is none to be read */
	int errno_kept;
};

const struct early_calls *calls_of_resolver(void);
const struct early_calls *calls_of_constructor(void);

#endif /* EARLY_LIBRARY_H */
