// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The library in a process that does everything at once: 32 threads map through it, fail through
 * it, put pieces in windows, fork, load objects and mind memory of their own. Each looks after what
 * is its own; and when all have given back what they had, the process is what it was before.
 *
 *	load WAY SECONDS MAPPINGS
 *
 * for so many seconds, and then a soak of so many mappings; either may be 0. The way "raw" is the
 * control: it goes the way that others go, and what is asserted of the library is seen to fail.
 */
#include "held.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define HELD 8
#define WRITE (PROT_READ | PROT_WRITE)
/* Each thread's file, in PMDs: longer than its mappings. */
#define FILE_PMDS 8
/* What the preload leaves alone: preload/preload.c, ANON_LEAST. */
#define ANON_LEAST (32 * M)
/* Of a process that has faulted in a little more of its own code, stacks and heap. */
#define RESIDENT_SLACK 64

/* What all threads count, together. */
enum count {
	MAPPED,
	FAILED,
	FORKED,
	LOADED,
	WINDOWS,
	LOOKS,	/* at what somebody holds */
	LOST,	/* of these: it was not what it had been */
	WRONG,	/* a call had another result than it should have */
	ASTRAY, /* a mapping is not where the plan wants it */
	CLAIMS, /* at a fixed address, by the API */
	RACES,	/* of these: another thread was faster */
	/* Before it all, and what there is more in the end. */
	VMAS,
	VMAS_CHANGED,
	PAGES_MORE,
	RESIDENT_MORE,
	DESCRIPTORS_MORE,
	COUNTS
};

static atomic_long counts[COUNTS];

static void count(enum count what)
{
	atomic_fetch_add_explicit(&counts[what], 1, memory_order_relaxed);
}

static void require(bool claim, const char *text, int line)
{
	if (claim)
		return;
	if (!counts[WRONG])
		fprintf(stderr, "# line %d: not so: %s (%s)\n", line, text, strerror(errno));
	count(WRONG);
}

#define EXPECT(claim) require(claim, #claim, __LINE__)

/* The archive's claims come by here (the linker's --wrap). musl has no mmap64 but a macro. */
#ifdef mmap64
#define __real_mmap64 __real_mmap
#define __wrap_mmap64 __wrap_mmap
#endif
void *__real_mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset);

void *__wrap_mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	void *mapping = __real_mmap64(address, length, prot, flags, fd, offset);

	if (flags & MAP_FIXED_NOREPLACE) {
		count(CLAIMS);
		if (mapping == MAP_FAILED && errno == EEXIST)
			count(RACES);
	}
	return mapping;
}

struct worker {
	void (*round)(struct worker *worker);
	pthread_t thread;
	uint64_t word;	/* its own: that of its file at 0 */
	uint64_t state; /* of its random numbers */
	long left;	/* so many rounds, if nobody says that it is over */
	int file, image;
	uintptr_t last; /* where it mapped */
	size_t next;
	struct held held[HELD];
};

static atomic_bool over;
static pthread_barrier_t together;
static bool places_hints, places_anonymous;

static uint64_t below(struct worker *worker, uint64_t most)
{
	worker->state = worker->state * 6364136223846793005 + 1442695040888963407;
	return (worker->state >> 33) % most;
}

/* Those of its words that still_there() looks for in windows: by the PMD, and by the page. */
static void write_file(const struct worker *worker)
{
	const size_t steps[] = { page_size(), pmd_size() / HELD_SAMPLES };

	for (size_t i = 0; i < 32 * COUNT(steps); i++) {
		const size_t at = i / COUNT(steps) * steps[i % COUNT(steps)];
		const uint64_t word = worker->word + at;

		EXPECT(pwrite(worker->file, &word, sizeof(word), (off_t)at) == sizeof(word));
	}
}

static void look_at(const struct held *held)
{
	count(LOOKS);
	if (still_there(held))
		return;
	count(LOST);
	/* The control may not live to tell it later. */
	if (way == WAY_RAW)
		_exit(write(STDOUT_FILENO, counts, sizeof(counts)) < 0 ? 1 : HAS_LOST);
}

static void release(struct held *held)
{
	if (held->at) {
		look_at(held);
		EXPECT(munmap(held->at, held->length) == 0);
	}
	held->at = NULL;
}

static void release_all(struct worker *worker)
{
	for (size_t i = 0; i < HELD; i++)
		release(&worker->held[i]);
}

/* The alignment that the library promises; the page if it leaves the call alone. */
static size_t promised(const void *hint, size_t length, int flags, off_t offset)
{
	if (way == WAY_RAW || (hint && !places_hints))
		return page_size();
	if (!(flags & MAP_ANONYMOUS))
		return deserved(length, (uint64_t)offset, SIZE_MAX);
	if (way != WAY_API && (!places_anonymous || length < ANON_LEAST))
		return page_size();
	return deserved(length, 0, pmd_size());
}

/* Through the library, one of many kinds; with a hint to where the last one lay, now and then. */
static void map_something(struct worker *worker, struct held *held)
{
	static const int kinds[] = { MAP_SHARED, MAP_PRIVATE, MAP_PRIVATE | MAP_ANONYMOUS,
				     MAP_SHARED | MAP_ANONYMOUS };
	const int flags = kinds[below(worker, COUNT(kinds))];
	const bool is_file = !(flags & MAP_ANONYMOUS);
	const off_t offset = is_file ? (off_t)(below(worker, 32) * page_size()) : 0;
	size_t length = (1 + below(worker, 4)) * pmd_size() + below(worker, 2) * page_size();
	uintptr_t hint = 0;
	void *mapping;

	if (!is_file && below(worker, 4) == 0)
		length += ANON_LEAST;
	if (worker->last && below(worker, 8) == 0)
		hint = (worker->last | (pmd_size() - 1)) + 1 + (size_t)offset + page_size();
	release(held);
	errno = EXDEV;
	mapping = map((void *)hint, length, WRITE, flags, is_file ? worker->file : -1, offset);
	count(MAPPED);
	EXPECT(mapping != MAP_FAILED);
	EXPECT(errno == EXDEV);
	if (mapping == MAP_FAILED)
		return;
	if (!congruent(mapping, (uint64_t)offset, promised((void *)hint, length, flags, offset)))
		count(ASTRAY);
	worker->last = (uintptr_t)mapping;
	*held = (struct held){ mapping, length, worker->word + (uint64_t)offset };
}

static void map_and_hold(struct worker *worker)
{
	struct held *held = &worker->held[worker->next++ % HELD];

	map_something(worker, held);
	if (held->at)
		write_words(held);
}

/* Somebody who has nothing to do with the library. */
static void mind_own_memory(struct worker *worker)
{
	struct held *held = &worker->held[worker->next++ % HELD];

	release(held);
	held->length = page_size() << below(worker, 11);
	held->word = worker->word + (worker->next << 24);
	/*
	 * By the symbol, for the thread sanitizer to know it for new: what lay there may have been
	 * moved into a window, which it does not see.
	 */
	held->at = (SANITIZED ? call_mmap : map_raw)(NULL, held->length, WRITE,
						     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(held->at != MAP_FAILED);
	write_words(held);
}

/* What cannot be mapped, and why: errno as the system call itself sets it. */
static struct refusal {
	int file, flags;
	off_t offset;
	int error;
} refusals[8];
static size_t refusal_count;
/* Its driver refuses, when the kernel has already made room. */
static int refusing;

static void find_refusal(int file, int flags, off_t offset)
{
	EXPECT(map_raw(NULL, 4 * pmd_size(), WRITE, flags, file, offset) == MAP_FAILED);
	refusals[refusal_count++] = (struct refusal){ file, flags, offset, errno };
}

static void find_refusals(void)
{
	const int file = memfd_of((off_t)(FILE_PMDS * pmd_size())), event = perf_event();
	char path[64];

	refusing = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	find_refusal(refusing, MAP_SHARED, 0);
	find_refusal(refusing, MAP_PRIVATE, 0);
	if (event >= 0)
		find_refusal(event, MAP_SHARED, 0);
	find_refusal(eventfd(0, EFD_CLOEXEC), MAP_SHARED, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	find_refusal(open(path, O_RDONLY | O_CLOEXEC), MAP_SHARED, 0);
	find_refusal(file, MAP_SHARED, (off_t)((uint64_t)INT64_MAX & ~(page_size() - 1)));
	find_refusal(file, 0, 0);
	/* Closed, and too high a number for anybody to get it. */
	find_refusal(dup2(file, 900) == 900 && close(900) == 0 ? 900 : -1, MAP_PRIVATE, 0);
}

static void fail_to_map(struct worker *worker)
{
	const struct refusal *refusal = &refusals[below(worker, refusal_count)];
	void *mapping;

	errno = EXDEV;
	mapping = map(NULL, (1 + below(worker, 4)) * pmd_size(), WRITE, refusal->flags,
		      refusal->file, refusal->offset);
	count(FAILED);
	EXPECT(mapping == MAP_FAILED);
	EXPECT(errno == refusal->error);
}

/* Not all the time: those who sleep for the address space's lock would hardly ever get it. */
static void fail_and_rest(struct worker *worker)
{
	fail_to_map(worker);
	usleep(100);
}

/* The control's way to fail. */
static void fail_naively(struct worker *worker)
{
	(void)worker;
	fail_naively_once(refusing);
	count(FAILED);
}

/* The child has what its parent had, and maps for itself. */
static void fork_a_child(struct worker *worker)
{
	long violations;
	int status;
	pid_t pid;

	map_and_hold(worker);
	pid = fork();
	if (pid == 0) {
		violations = counts[LOST] + counts[WRONG];
		for (size_t i = 0; i < HELD; i++)
			map_and_hold(worker);
		release_all(worker);
		_exit(counts[LOST] + counts[WRONG] == violations ? 0 : 1);
	}
	EXPECT(pid > 0);
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
	count(FORKED);
}

/* A copy of some object; each thread's own, since one that is loaded already is not mapped. */
static int copy_object(void)
{
	const void *in_it = dlsym(RTLD_DEFAULT, "_cmocka_run_group_tests");
	int from, copy = memfd_of(0);
	char bytes[4096];
	ssize_t more;
	Dl_info object;

	if (!in_it || !dladdr(in_it, &object)) {
		EXPECT(!"the object is known");
		return copy;
	}
	from = open(object.dli_fname, O_RDONLY | O_CLOEXEC);
	while ((more = read(from, bytes, sizeof(bytes))) > 0)
		EXPECT(write(copy, bytes, (size_t)more) == more);
	EXPECT(more == 0);
	close(from);
	return copy;
}

static bool is_as_in_file(uintptr_t address, int file, off_t offset, size_t length)
{
	char loaded[4096], expected[4096];

	for (size_t at = 0; at < length; at += sizeof(loaded)) {
		const size_t part = length - at < sizeof(loaded) ? length - at : sizeof(loaded);
		const struct iovec there = { (void *)(address + at), part };

		if (!fetch(&there, 1, loaded, part) ||
		    pread(file, expected, part, offset + (off_t)at) != (ssize_t)part ||
		    memcmp(loaded, expected, part) != 0)
			return false;
	}
	return true;
}

/* But for what the loader has written to. */
static bool is_loaded(const struct link_map *map, int image)
{
	ElfW(Phdr) part;
	ElfW(Ehdr) head;
	bool intact = true;

	EXPECT(pread(image, &head, sizeof(head), 0) == sizeof(head));
	for (unsigned int i = 0; i < head.e_phnum; i++) {
		EXPECT(pread(image, &part, sizeof(part),
			     (off_t)(head.e_phoff + i * sizeof(part))) == sizeof(part));
		if (part.p_type == PT_LOAD && !(part.p_flags & PF_W))
			intact = intact && is_as_in_file(map->l_addr + part.p_vaddr, image,
							 (off_t)part.p_offset, part.p_filesz);
	}
	return intact;
}

static void load_an_object(struct worker *worker)
{
	struct link_map *map = NULL;
	char path[64];
	void *object;

	if (!worker->image)
		worker->image = copy_object();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", worker->image);
	object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!object || dlinfo(object, RTLD_DI_LINKMAP, &map) || !map) {
		EXPECT(!"it is loaded");
		return;
	}
	for (int i = 0; i < 2; i++) {
		count(LOOKS);
		if (!is_loaded(map, worker->image))
			count(LOST);
		sched_yield();
	}
	EXPECT(dlclose(object) == 0);
	count(LOADED);
}

/*
 * Pieces are looked at by still_there() alone: a piece is moved to its place by a raw mremap, which
 * the thread sanitizer does not see, so that what it says of accesses to that memory means nothing.
 */
static void use_a_window(struct worker *worker)
{
	const size_t piece = below(worker, 2) ? pmd_size() : 4 * page_size();
	struct alignmap_window *window = alignmap_window_reserve(0, 4 * piece, NULL);
	struct alignmap_extent extent;

	EXPECT(window != NULL);
	for (size_t i = 0; window && i < 8; i++) {
		const off_t offset = (off_t)(i % 4 * piece);
		const bool refused = below(worker, 4) == 0;
		struct held held = { .length = piece, .word = worker->word + (uint64_t)offset };

		errno = EXDEV;
		held.at = alignmap_window_map(window, piece, WRITE,
					      i % 2 ? MAP_SHARED : MAP_PRIVATE,
					      refused ? refusing : worker->file, offset);
		EXPECT((held.at == MAP_FAILED) == refused);
		EXPECT(errno == (refused ? ENODEV : EXDEV));
		EXPECT(alignmap_window_query(window, (uint64_t)offset, &extent) == 0);
		EXPECT(extent.state == (refused ? ALIGNMAP_RESERVED : ALIGNMAP_MAPPED));
		if (!refused)
			look_at(&held);
		if (i >= 3)
			EXPECT(alignmap_window_unmap(window, 0, 4 * piece) == 0);
	}
	EXPECT(alignmap_window_query(window, 0, &extent) == 0);
	EXPECT(extent.state == ALIGNMAP_RESERVED && extent.length == 4 * piece);
	EXPECT(alignmap_window_release(window) == 0);
	count(WINDOWS);
}

/* For the soak: one in 64 is looked at, and comes after one that fails. */
static void map_and_unmap(struct worker *worker)
{
	struct held held = { 0 };
	const bool looks = worker->left % 64 == 0;

	if (looks)
		fail_to_map(worker);
	map_something(worker, &held);
	if (!held.at)
		return;
	if (looks) {
		write_words(&held);
		look_at(&held);
	}
	EXPECT(munmap(held.at, held.length) == 0);
}

/* The control's soak. */
static void map_and_forget_a_page(struct worker *worker)
{
	map_and_unmap(worker);
	if (worker->left % 1000 == 0)
		map_raw(NULL, page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Before it begins, each has done a little of all that it does: what that takes is taken then. */
#define WARMING HELD

/* It destroys no stack of a thread that is being made. */
static void begin_control(void)
{
	if (way == WAY_RAW)
		pthread_barrier_wait(&together);
}

/* Between the two, nobody has anything, and the first thread looks. */
static void meet_twice(void)
{
	pthread_barrier_wait(&together);
	pthread_barrier_wait(&together);
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	begin_control();
	write_file(worker);
	for (int i = 0; i < WARMING; i++)
		worker->round(worker);
	release_all(worker);
	meet_twice();
	for (; worker->left && !over; worker->left--)
		worker->round(worker);
	release_all(worker);
	meet_twice();
	return NULL;
}

static struct snapshot {
	struct address_space space;
	unsigned long resident;
	long vmas, descriptors;
} before, after;

/* Without what malloc() holds, which is all in one area: see run(). */
static void take_snapshot(struct snapshot *snapshot)
{
	char *heap, *end;

	if (SANITIZED)
		return;
	snapshot->resident = resident_pages();
	read_address_space(&snapshot->space);
	heap = strstr(snapshot->space.vmas, "[heap]\n");
	if (heap) {
		while (heap > snapshot->space.vmas && heap[-1] != '\n')
			heap--;
		snapshot->space.pages += strtoul(heap, &end, 16) / page_size();
		snapshot->space.pages -= strtoul(end + 1, &end, 16) / page_size();
		end = strchr(end, '\n') + 1;
		memmove(heap, end, strlen(end) + 1);
	}
	for (const char *line = snapshot->space.vmas; *line; line = strchr(line, '\n') + 1)
		snapshot->vmas++;
	for (int fd = 0; fd < 1024; fd++)
		snapshot->descriptors += fcntl(fd, F_GETFD) >= 0;
}

static void compare_snapshots(void)
{
	size_t same = 0;

	counts[VMAS] = before.vmas;
	counts[VMAS_CHANGED] = strcmp(before.space.vmas, after.space.vmas) != 0;
	counts[PAGES_MORE] = (long)(after.space.pages - before.space.pages);
	counts[RESIDENT_MORE] = (long)(after.resident - before.resident);
	counts[DESCRIPTORS_MORE] = after.descriptors - before.descriptors;
	if (!counts[VMAS_CHANGED] || way == WAY_RAW)
		return;
	while (before.space.vmas[same] == after.space.vmas[same])
		same++;
	while (same && before.space.vmas[same - 1] != '\n')
		same--;
	fprintf(stderr, "# from here on other VMAs: before %.200s\n# after %.200s\n",
		before.space.vmas + same, after.space.vmas + same);
}

struct role {
	void (*round)(struct worker *worker);
	size_t threads;
};

static const struct role stress[] = {
	{ map_and_hold, 8 }, { mind_own_memory, 8 }, { fail_and_rest, 6 },
	{ use_a_window, 4 }, { fork_a_child, 3 },    { load_an_object, 3 },
};
static const struct role naive_stress[] = { { map_and_hold, 12 },
					    { mind_own_memory, 12 },
					    { fail_naively, 8 } };
static const struct role soak[] = { { map_and_unmap, 4 } };
static const struct role leaking_soak[] = { { map_and_forget_a_page, 4 } };

/* In a process of its own. Its counts are its output. */
static int run(const struct role *roles, size_t kinds, unsigned int duration, long rounds)
{
	static struct worker workers[32];
	size_t threads = 0;

	/* What a thread allocates comes from the one heap. */
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, 1);
#endif
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	places_hints = getenv("ALIGNMAP_HINTS");
	places_anonymous = getenv("ALIGNMAP_ANON");
	find_refusals();
	for (size_t i = 0; i < kinds; i++)
		for (size_t j = 0; j < roles[i].threads; j++, threads++)
			workers[threads] = (struct worker){
				.round = roles[i].round,
				.word = (uint64_t)(threads + 1) << 56,
				.state = threads,
				.left = LONG_MAX,
				.file = memfd_of((off_t)(FILE_PMDS * pmd_size())),
			};
	pthread_barrier_init(&together, NULL, (unsigned int)threads + 1);
	for (size_t i = 0; i < threads; i++) {
		if (rounds)
			workers[i].left = rounds / (long)threads;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			abort();
	}
	begin_control();
	pthread_barrier_wait(&together);
	take_snapshot(&before);
	pthread_barrier_wait(&together);
	for (unsigned int i = 0; i < 10 * duration && !over; i++)
		usleep(100000);
	if (!rounds)
		over = true;
	pthread_barrier_wait(&together);
	take_snapshot(&after);
	pthread_barrier_wait(&together);
	for (size_t i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	compare_snapshots();
	return fwrite(counts, sizeof(counts), 1, stdout) == 1 ? 0 : 1;
}

static unsigned int seconds;
static long mappings;
static long seen[COUNTS];

/* Runs a part apart, and returns how it ended; what it counted is seen. */
static int end_of_part(const char *part, unsigned int its_seconds, long its_mappings)
{
	char seconds_text[16], mappings_text[24];
	char *const arguments[] = { seconds_text, mappings_text, (char *)part, NULL };
	FILE *said;
	int status;
	pid_t pid;

	snprintf(seconds_text, sizeof(seconds_text), "%u", its_seconds);
	snprintf(mappings_text, sizeof(mappings_text), "%ld", its_mappings);
	memset(seen, 0, sizeof(seen));
	said = run_again(arguments, &pid);
	if (fread(seen, sizeof(seen), 1, said) != 1)
		print_message("# it ended before its time\n");
	fclose(said);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void assert_nothing_is_hurt_or_left(void)
{
	assert_int_equal(seen[LOST], 0);
	assert_int_equal(seen[WRONG], 0);
	if (insists())
		assert_int_equal(seen[ASTRAY], 0);
	else if (SANITIZED) /* whose runtime may map, too */
		assert_true(summary_number(stats_path, "landed elsewhere") >= seen[ASTRAY]);
	else
		assert_int_equal(summary_number(stats_path, "landed elsewhere"), seen[ASTRAY]);
	assert_int_equal(seen[VMAS_CHANGED], 0);
	assert_int_equal(seen[PAGES_MORE], 0);
	assert_true(seen[RESIDENT_MORE] <= RESIDENT_SLACK);
	assert_int_equal(seen[DESCRIPTORS_MORE], 0);
}

/* With a comma after each three digits; as often as that in one call of printf(3). */
static const char *grouped(long number)
{
	static char texts[8][32];
	static unsigned int next;
	char *text = texts[next++ % COUNT(texts)];
	char digits[32];
	const int length = snprintf(digits, sizeof(digits), "%ld", number);

	for (int i = 0, to = 0; i <= length; i++) {
		text[to++] = digits[i];
		if (i + 1 < length && digits[i] != '-' && (length - i - 1) % 3 == 0)
			text[to++] = ',';
	}
	return text;
}

static const char *name_of_way(void)
{
	static char name[64];

	if (way == WAY_API)
		return remembers() ? "API" : "API of the archive";
	snprintf(name, sizeof(name), "preload%s%s%s", insists() ? ", CLAIM=fixed" : ", by hint",
		 getenv("ALIGNMAP_ANON") ? ", ANON=all" : "",
		 getenv("ALIGNMAP_HINTS") ? ", HINTS=1" : "");
	return name;
}

static void print_races(void)
{
	long claims = seen[CLAIMS], races = seen[RACES];

	if (way != WAY_API) {
		races += summary_number(stats_path, "races lost, tried again");
		claims += summary_number(stats_path, "races lost, tried again") +
			  summary_number(stats_path, "placed") +
			  summary_number(stats_path, "fallbacks");
	}
	/* A place that is remembered and taken is no race, but by the API both look alike. */
	print_message("# trust load|%s and tried again, %s|%s of %s fixed claims|%s unplaced\n",
		      way == WAY_API && remembers() ? "guesses and races lost" : "races lost",
		      name_of_way(), grouped(races), grouped(claims), grouped(seen[ASTRAY]));
}

static void print_stress(void)
{
	if (SANITIZED)
		return;
	print_message("# trust load|32 threads, %u s, %s|%s mappings, %s refused, %s forks, %s "
		      "objects loaded, %s windows|%s of %s looks at what a thread holds found it "
		      "changed, %s landed elsewhere\n",
		      seconds, name_of_way(), grouped(seen[MAPPED]), grouped(seen[FAILED]),
		      grouped(seen[FORKED]), grouped(seen[LOADED]), grouped(seen[WINDOWS]),
		      grouped(seen[LOST]), grouped(seen[LOOKS]), grouped(seen[ASTRAY]));
	if (insists())
		print_races();
}

static void print_soak(void)
{
	if (SANITIZED)
		return;
	print_message(
		"# trust load|soak, 4 threads, %s|%s mappings, %s refused|%s %ld VMAs, VmSize "
		"%+ld pages, resident %+ld pages, descriptors %+ld\n",
		name_of_way(), grouped(seen[MAPPED]), grouped(seen[FAILED]),
		seen[VMAS_CHANGED] ? "not the" : "the same", seen[VMAS], seen[PAGES_MORE],
		seen[RESIDENT_MORE], seen[DESCRIPTORS_MORE]);
}

static void among_32_threads_that_do_everything_nothing_is_hurt_or_left(void **state)
{
	(void)state;
	assert_int_equal(end_of_part("stress", seconds, 0), 0);
	print_stress();
	for (enum count i = MAPPED; i <= LOOKS; i++)
		assert_true(seen[i] > 0);
	assert_nothing_is_hurt_or_left();
}

static void a_soak_ends_with_what_it_began_with(void **state)
{
	(void)state;
	assert_int_equal(end_of_part("soak", 0, mappings), 0);
	print_soak();
	assert_true(seen[MAPPED] >= mappings && seen[FAILED] > 0 && seen[LOOKS] > 0);
	assert_nothing_is_hurt_or_left();
}

static void among_threads_that_map_over_reservations_some_are_hurt(void **state)
{
	int runs = 0, status;

	(void)state;
	/* Again where it dies of a loss before anybody has looked. */
	do
		status = end_of_part("stress", seconds, 0);
	while (has_lost(status) && !seen[LOST] && ++runs < 20);
	print_message("# %ld mappings lost, after %ld that failed\n", seen[LOST], seen[FAILED]);
	assert_true(has_lost(status) && seen[LOST] > 0);
}

static void a_page_in_a_thousand_mappings_that_is_left_is_seen(void **state)
{
	(void)state;
	assert_int_equal(end_of_part("soak", 0, mappings), 0);
	assert_int_equal(seen[WRONG], 0);
	assert_int_equal(seen[PAGES_MORE], mappings / 1000);
	assert_int_equal(seen[VMAS_CHANGED], 1);
}

static int run_part(const char *part)
{
	const bool naive = way == WAY_RAW;

	alarm(100 + seconds + (unsigned int)(mappings / 5000));
	if (strcmp(part, "stress") == 0)
		return naive ? run(naive_stress, COUNT(naive_stress), seconds, 0)
			     : run(stress, COUNT(stress), seconds, 0);
	return naive ? run(leaking_soak, COUNT(leaking_soak), 0, mappings)
		     : run(soak, COUNT(soak), 0, mappings);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			among_32_threads_that_do_everything_nothing_is_hurt_or_left, make_stats,
			remove_stats),
		cmocka_unit_test_setup_teardown(a_soak_ends_with_what_it_began_with, make_stats,
						remove_stats),
	};
	const struct CMUnitTest control[] = {
		cmocka_unit_test(among_threads_that_map_over_reservations_some_are_hurt),
		cmocka_unit_test(a_page_in_a_thousand_mappings_that_is_left_is_seen),
	};

	choose_way(argc, argv);
	if (argc < 4) {
		fprintf(stderr, "usage: %s WAY SECONDS MAPPINGS\n", argv[0]);
		return 2;
	}
	seconds = (unsigned int)strtoul(argv[2], NULL, 10);
	mappings = strtol(argv[3], NULL, 10);
	if (argc > 4)
		return run_part(argv[4]);
	if (way == WAY_RAW)
		return cmocka_run_group_tests(control, NULL, NULL);
	/* What is asked for. */
	return _cmocka_run_group_tests("load", seconds ? tests : tests + 1,
				       (size_t) !!seconds + !!mappings, NULL, NULL);
}
