// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Prints the leaf sizes that the library knows, a line for each backing: "vfio 1G 2M 4K". What they
 * should be is for the caller to know.
 */
#include <err.h>
#include <stdio.h>

#include <alignmap.h>

static void print_size(size_t size)
{
	const char *unit = "KMG";

	for (size >>= 10; size >= 1024 && unit[1]; size >>= 10)
		unit++;
	printf(" %zu%c", size, *unit);
}

int main(void)
{
	static const struct {
		enum alignmap_backing backing;
		const char *name;
	} backings[] = {
		{ ALIGNMAP_ANY, "any" },
		{ ALIGNMAP_VFIO, "vfio" },
		{ ALIGNMAP_FILE, "file" },
		{ ALIGNMAP_ANONYMOUS, "anonymous" },
	};
	struct alignmap_leaves leaves;

	for (size_t i = 0; i < sizeof(backings) / sizeof(backings[0]); i++) {
		if (alignmap_host_leaves(backings[i].backing, &leaves) < 0)
			err(1, "alignmap_host_leaves");
		printf("%s", backings[i].name);
		for (unsigned int j = 0; j < leaves.count; j++)
			print_size(leaves.size[j]);
		putchar('\n');
	}
	return 0;
}
