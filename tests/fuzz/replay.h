/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* A corpus without a fuzzer, for unit tests. */
#ifndef REPLAY_H
#define REPLAY_H

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length);

/* Gives the target each file of the folder; it aborts where an answer is wrong. Returns how many.
 */
static inline size_t replay(const char *folder)
{
	static uint8_t input[1 << 20];
	DIR *corpus = opendir(folder);
	struct dirent *entry;
	size_t inputs = 0;

	while (corpus && (entry = readdir(corpus))) {
		char path[4096];
		size_t length;
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		file = fopen(path, "rb");
		if (!file)
			abort();
		length = fread(input, 1, sizeof(input), file);
		if (!feof(file))
			abort();
		fclose(file);
		LLVMFuzzerTestOneInput(input, length);
		inputs++;
	}
	if (corpus)
		closedir(corpus);
	return inputs;
}

#endif /* REPLAY_H */
