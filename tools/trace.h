/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Places what a program maps that no preloaded library reaches: a tracer gives its mmap calls a
 * hint, under ptrace(2), and is gone before a guest runs.
 */
#ifndef TRACE_H
#define TRACE_H

#include "program.h"

enum until { UNTIL_KVM_RUN, UNTIL_SECONDS, UNTIL_FOREVER };

struct trace_wish {
	enum until until; /* when the tracer leaves; if a thread is about to trace, in any case */
	unsigned int seconds;
};

/*
 * Has a process of its own trace this one from its next exec on, which is that of @program, and
 * place and report by the policy in the environment. This process stays what it is, with its
 * number, parent, group and terminal, and the tracer is no child that it would see. Why that cannot
 * be, as what is said of the program: both texts allocated.
 */
struct obstacle trace_from_exec(const char *program, const struct trace_wish *wish);

#endif /* TRACE_H */
