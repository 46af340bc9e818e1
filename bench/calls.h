/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef CALLS_H
#define CALLS_H

/*
 * How many system calls @work makes, in a child that is traced and not timed; -1 where processes
 * may not be traced.
 */
long calls_of(void (*work)(void));

#endif /* CALLS_H */
