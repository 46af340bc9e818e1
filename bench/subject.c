// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <stdio.h>
#include <sys/mman.h>

#include "../tests/system/raw.h"
#include "subject.h"

void *map_plainly(const struct subject *subject, void *address, int flags)
{
	return raw_mmap(address, subject->length, subject->prot, subject->flags | flags,
			subject->fd, (int64_t)subject->offset);
}

void *map_at(const struct subject *subject, size_t modulus, uint64_t remainder)
{
	const size_t room = subject->length + modulus;
	void *window = raw_mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uintptr_t address = (uintptr_t)window;

	if (window == MAP_FAILED || munmap(window, room))
		return MAP_FAILED;
	address += (remainder - address) & (modulus - 1);
	return map_plainly(subject, (void *)address, MAP_FIXED_NOREPLACE);
}

void *map_at_leaf(const struct subject *subject, size_t leaf)
{
	return map_at(subject, 2 * leaf, subject->offset + leaf);
}

size_t modulus_of(const struct alignmap_leaves *leaves, const struct subject *subject,
		  const void *address)
{
	unsigned int i = 0;

	while (((uintptr_t)address - subject->offset) & (leaves->size[i] - 1))
		i++;
	return leaves->size[i];
}

struct size_text size_text(uint64_t size)
{
	static const char units[] = "\0KMGT";
	struct size_text text;
	int unit = 0;

	while (size && size % 1024 == 0 && units[unit + 1]) {
		size /= 1024;
		unit++;
	}
	snprintf(text.text, sizeof(text.text), "%llu%.1s", (unsigned long long)size, units + unit);
	return text;
}
