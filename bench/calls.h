/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef CALLS_H
#define CALLS_H

#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/types.h>

/* A system call that nothing measured makes: it stands before and behind what is. */
#define MARK SYS_getpgid

/*
 * How many system calls @work makes, in a child that is traced and not timed; -1 where processes
 * may not be traced. If it executes a program, that makes the MARK behind what is counted.
 */
long calls_of(void (*work)(void));

/* Stops a process of any parent, and counts how many it makes from then on until it ends. */
bool halt_before_calls(pid_t pid);
long calls_to_end(pid_t pid);

#endif /* CALLS_H */
