/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What else there is to know of the findings, and what to do about them. */
#ifndef NOTES_H
#define NOTES_H

#include <stdbool.h>

#include "findings.h"

/* Adds the notes to the findings. The selections of @around are set. */
void note_findings(const struct process *process, bool has_smaps, const struct surroundings *around,
		   struct findings *findings);

#endif /* NOTES_H */
