/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
#ifndef REPORT_H
#define REPORT_H

#include <sys/types.h>

#include "policy.h"
#include "wanted.h"

#pragma GCC visibility push(hidden)

/* Whether anybody asked for ALIGNMAP_STATS or ALIGNMAP_LOG; else nothing is counted. */
extern bool report_wanted;

/* Opens what the policy names. Not on the mapping path. */
void report_open(const struct policy *policy);
/* From now on of that process, which this one traces. */
void report_about(pid_t process);
/* Says on standard error which variable is ignored, and why: one line. */
void report_complaint(const char *variable, const char *why);

/* Count a call, and log it if it was placed or given up. errno unchanged; signal-safe. */
void report_left(enum left why);
void report_placement(const struct mapping_call *call, const struct placement *placement,
		      void *result);

/* Prints the summary, in the process that read the policy. Not on the mapping path. */
void report_close(void);

#pragma GCC visibility pop

#endif /* REPORT_H */
