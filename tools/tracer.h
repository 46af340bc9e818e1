/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef TRACER_H
#define TRACER_H

#include "policy.h"
#include "trace.h"

/* What PTRACE_SEIZE is to be told. */
extern const long trace_options;

/*
 * Places what @program maps, which this process traces, and what it starts, until there is none or
 * the wish says so; and prints the summary. It leaves by ending, which is up to the caller: Linux
 * then lets go of all threads at once (kernel/ptrace.c, exit_ptrace), and disturbs none that runs
 * or sleeps, as PTRACE_INTERRUPT does, after which epoll_wait(2) and others fail with EINTR.
 */
void follow(pid_t program, const struct policy *policy, const struct trace_wish *wish);

/* What /proc/PID/status says in a row, as "Tgid"; @otherwise where it cannot be read. */
pid_t status_number(pid_t thread, const char *row, pid_t otherwise);

#endif /* TRACER_H */
