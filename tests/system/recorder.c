// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#undef _FILE_OFFSET_BITS
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "raw.h"
#include "recorder.h"

/* Both are symbols here. */
#undef mmap64

static struct recorded records[64];
static atomic_uint recorded;
static enum pretence pretended;
static int pretended_error;
static unsigned int pretended_calls;

static void *make(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	if (pretended_calls) {
		pretended_calls--;
		switch (pretended) {
		case PRETEND_NOTHING:
			break;
		case PRETEND_ERROR:
			errno = pretended_error;
			return MAP_FAILED;
		case PRETEND_NO_NOREPLACE:
			flags &= ~MAP_FIXED_NOREPLACE;
			/* fall through */
		case PRETEND_ELSEWHERE:
			address = NULL;
		}
	}
	return raw_mmap(address, length, prot, flags, fd, offset);
}

static void *record(int is_mmap64, void *address, size_t length, int prot, int flags, int fd,
		    off64_t offset)
{
	const unsigned int at = atomic_fetch_add(&recorded, 1) % 64;
	void *result = make(address, length, prot, flags, fd, offset);

	records[at] = (struct recorded){ is_mmap64, address, length,
					 prot,	    flags,   fd,
					 offset,    result,  result == MAP_FAILED ? errno : 0 };
	return result;
}

recorder_take take_records;
recorder_pretend pretend;
void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset);
void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset);

unsigned int take_records(struct recorded *calls, unsigned int room)
{
	const unsigned int count = atomic_exchange(&recorded, 0);

	for (unsigned int i = 0; i < count && i < room && i < 64; i++)
		calls[i] = records[i];
	return count;
}

void pretend(enum pretence pretence, int error, unsigned int calls)
{
	pretended = pretence;
	pretended_error = error;
	pretended_calls = calls;
}

void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return record(0, address, length, prot, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return record(1, address, length, prot, flags, fd, offset);
}
