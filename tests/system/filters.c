// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Threads that confine themselves as VMMs do, by the lists in filters.h, and then map, fail to map,
 * unmap and end. Each runs in a process of its own, which has read its own environment: a filter
 * cannot be taken off again.
 */
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "filters.h"

#define ROUNDS 10
#define NOTHING (-1)
#define SMALL 0

/* What VMMs map, of those that a list allows; a small one holds no leaf above the base page. */
static const struct attempt {
	const char *name;
	int prot, flags;
	enum { OF_MEMORY, OF_FILE, OF_DEVICE } of;
	bool small;
} attempts[] = {
#define READ_WRITE (PROT_READ | PROT_WRITE)
	[SMALL] = { "small shared file", PROT_READ, MAP_SHARED, OF_FILE, true },
	{ "anonymous", READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, OF_MEMORY, false },
	{ "unreserved anonymous", READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	  OF_MEMORY, false },
	{ "private file", READ_WRITE, MAP_PRIVATE, OF_FILE, false },
	{ "shared file", READ_WRITE, MAP_SHARED, OF_FILE, false },
	{ "unreserved shared file", READ_WRITE, MAP_SHARED | MAP_NORESERVE, OF_FILE, false },
	{ "populated shared file", READ_WRITE, MAP_SHARED | MAP_POPULATE, OF_FILE, false },
	{ "shared device", READ_WRITE, MAP_SHARED, OF_DEVICE, false },
	{ "unreserved shared device", READ_WRITE, MAP_SHARED | MAP_NORESERVE, OF_DEVICE, false },
};

/* The environment, and what it changes. */
enum destination { UNSET, TO_A_FILE, TO_A_PIPE };
static const struct setting {
	const char *name; /* a variable as it is set, %s for a file; or none */
	bool anonymous, fixed, no_madvise;
	enum destination log, stats;
} settings[] = {
	{ .name = "the default" },
	{ .name = "ALIGNMAP_MADVISE=off", .no_madvise = true },
	{ .name = "ALIGNMAP_ANON=all", .anonymous = true },
	{ .name = "ALIGNMAP_CLAIM=fixed", .fixed = true },
	{ .name = "ALIGNMAP_LOG=%s", .log = TO_A_FILE },
	{ .name = "ALIGNMAP_LOG=1", .log = TO_A_PIPE },
	{ .name = "ALIGNMAP_STATS=%s", .stats = TO_A_FILE },
	{ .name = "ALIGNMAP_STATS=1", .stats = TO_A_PIPE },
};

/* Shared with the confined process, which may make no call to tell. */
struct course {
	unsigned int made, placed, refused;
	bool unavailable, went_wrong, ended;
	int trapped; /* the call, or NOTHING */
};

/* The confined process. */

static struct {
	const struct list *list;
	const struct attempt *attempt;
	struct course *course;
	void (*control)(void);
	size_t length, pmd;
	int fd;
} confined;

static const char *way_name;

static bool in_list(const struct list *list, int number, const long arguments[6])
{
	for (size_t part = 0; part < COUNT(list->parts) && list->parts[part]; part++) {
		for (const struct rule *rule = list->parts[part]; rule->number >= 0; rule++) {
			bool all = rule->number == number;

			for (size_t i = 0; i < COUNT(rule->conditions); i++) {
				const struct condition *if_so = &rule->conditions[i];

				all &= ((uint32_t)arguments[if_so->argument] & if_so->mask) ==
				       if_so->value;
			}
			if (all)
				return true;
		}
	}
	return false;
}

static bool is_a_vmms(const struct list *list)
{
	return list->parts[0] != least;
}

static bool knows(const struct list *list, int number)
{
	static const long none[6];

	return in_list(list, number, none);
}

static int confine(const struct list *list)
{
	static struct sock_filter steps[1024];
	struct sock_fprog program = { 0, steps };

#define STEP(...) steps[program.len++] = (struct sock_filter)__VA_ARGS__
	for (size_t part = 0; part < COUNT(list->parts) && list->parts[part]; part++) {
		for (const struct rule *rule = list->parts[part]; rule->number >= 0; rule++) {
			const struct condition *first = &rule->conditions[0];
			const unsigned char next = first[1].mask ? 7 : first->mask ? 4 : 1;

			STEP(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
			STEP(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rule->number, 0, next));
			for (int i = 0; i < 2 && first[i].mask; i++) {
				STEP(BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					      (uint32_t)offsetof(struct seccomp_data, args) +
						      8 * first[i].argument));
				STEP(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, first[i].mask));
				STEP(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, first[i].value, 0,
					      (unsigned char)(next - 3 * (i + 1))));
			}
			STEP(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
		}
	}
	STEP(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
#undef STEP
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Where exit_group is not allowed either, this kills. */
static void note_and_end(int signal, siginfo_t *information, void *context)
{
	(void)signal;
	(void)context;
	confined.course->trapped = information->si_syscall;
	syscall(SYS_exit_group, 1);
}

static void map_and_unmap(void)
{
	const struct attempt *attempt = confined.attempt;
	struct course *course = confined.course;
	const bool memory = attempt->of == OF_MEMORY;
	/* More than any machine has, or a descriptor that is none. */
	const size_t length = memory ? -(SIZE_MAX / 8 + 1) : confined.length;
	char *mapping = map(NULL, confined.length, attempt->prot, attempt->flags, confined.fd, 0);

	course->went_wrong |= mapping == MAP_FAILED || mapping[0] != 0;
	course->made++;
	course->placed += congruent(mapping, 0, confined.pmd);
	course->went_wrong |= munmap(mapping, confined.length) != 0;
	course->went_wrong |= map(NULL, length, attempt->prot, attempt->flags, -1, 0) != MAP_FAILED;
	course->went_wrong |= errno != (memory ? ENOMEM : EBADF);
	course->refused++;
}

static void *be_confined(void *unused)
{
	struct course *course = confined.course;

	if (confine(confined.list)) {
		course->unavailable = true;
		return unused;
	}
	if (confined.control)
		confined.control();
	for (int i = 0; i < ROUNDS; i++)
		map_and_unmap();
	course->ended = true;
	if (knows(confined.list, SYS_exit_group))
		exit(0);
	/* What pthread_exit() would call is allowed to few. */
	syscall(SYS_exit, 0);
	return unused;
}

static void make_another_call(void)
{
	syscall(SYS_getppid);
}

static void map_with_another_flag(void)
{
	map_raw(NULL, confined.length, PROT_READ, MAP_SHARED | MAP_DENYWRITE, confined.fd, 0);
}

static void (*const controls[])(void) = { NULL, make_another_call, map_with_another_flag };

/* LIST ATTEMPT CONTROL COURSE: indices, and a descriptor. */
static int confined_process(char **arguments)
{
	struct sigaction action = { .sa_sigaction = note_and_end, .sa_flags = SA_SIGINFO };
	const struct attempt *attempt = &attempts[atoi(arguments[1])];
	pthread_t thread;

	confined.list = &lists[atoi(arguments[0])];
	confined.attempt = attempt;
	confined.control = controls[atoi(arguments[2])];
	confined.course = map_raw(NULL, sizeof(*confined.course), PROT_READ | PROT_WRITE,
				  MAP_SHARED, atoi(arguments[3]), 0);
	confined.pmd = pmd_size();
	/*
	 * Of anonymous memory the preload places no less than 32 MiB. A multiple of the PMD Linux
	 * would align itself (mm/mmap.c, __get_unmapped_area()).
	 */
	confined.length = attempt->small ? 16 * page_size()
					 : (attempt->of == OF_MEMORY ? 32 * M : confined.pmd) +
						   confined.pmd + page_size();
	confined.fd = attempt->of == OF_MEMORY ? -1
		      : attempt->of == OF_FILE ? memfd_of((off_t)confined.length)
					       : open("/dev/zero", O_RDWR | O_CLOEXEC);
	if (confined.course == MAP_FAILED || sigaction(SIGSYS, &action, NULL) ||
	    pthread_create(&thread, NULL, be_confined, NULL))
		return 99;
	pthread_join(thread, NULL);
	return 0;
}

/* The tests' process. */

static char log_path[] = "/tmp/alignmap-test-XXXXXX";
static struct course *course;
static int course_fd;

static int prepare(void **state)
{
	int fd = mkstemp(log_path);

	(void)state;
	course_fd = memfd_create("alignmap-test", 0);
	course = map_raw(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, course_fd, 0);
	return fd < 0 || close(fd) || course == MAP_FAILED ||
	       ftruncate(course_fd, (off_t)page_size());
}

static int tidy_up(void **state)
{
	(void)state;
	return unlink(log_path);
}

/* Runs one, and leaves what became of it in "course"; returns how the process ended. */
static int run_confined(const struct list *list, const struct setting *setting,
			const struct attempt *attempt, unsigned int control)
{
	char numbers[4][24], variable[64];
	int status, errors[2];
	pid_t pid;

	*course = (struct course){ .trapped = NOTHING };
	assert_int_equal(truncate(log_path, 0), 0);
	snprintf(numbers[0], sizeof(numbers[0]), "%td", list - lists);
	snprintf(numbers[1], sizeof(numbers[1]), "%td", attempt - attempts);
	snprintf(numbers[2], sizeof(numbers[2]), "%u", control);
	snprintf(numbers[3], sizeof(numbers[3]), "%d", course_fd);
	snprintf(variable, sizeof(variable), setting->name, log_path);
	assert_int_equal(pipe2(errors, O_CLOEXEC), 0);
	pid = fork_child();
	if (pid == 0) {
		if (strchr(variable, '='))
			putenv(variable);
		if (setting->log == TO_A_PIPE || setting->stats == TO_A_PIPE)
			dup2(errors[1], STDERR_FILENO);
		execl("/proc/self/exe", "filters", way_name, "confined", numbers[0], numbers[1],
		      numbers[2], numbers[3], NULL);
		_exit(98);
	}
	close(errors[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(errors[0]);
	if (course->unavailable)
		skip_because("seccomp filters are not to be had here");
	return status;
}

/* Whether that is what such a thread maps, and not only what its list would let it map. */
static bool maps_that(const struct list *list, const struct attempt *attempt)
{
	return attempt->of == OF_MEMORY || attempt->small || list->maps_files;
}

static bool may_map(const struct list *list, const struct attempt *attempt, int flags)
{
	const long arguments[6] = { 0, 0, attempt->prot, attempt->flags | flags };

	return in_list(list, SYS_mmap, arguments);
}

/*
 * The calls that the documentation names for a setting, in their order: the first one that the list
 * does not allow, or NOTHING.
 */
struct forecast {
	const struct list *list;
	int trapped;
};

static void will_call(struct forecast *forecast, int number, int prot, int flags, long advice)
{
	const bool maps = number == SYS_mmap;
	const long arguments[6] = { 0, 0, maps ? prot : advice, maps ? flags : 0 };

	if (forecast->trapped == NOTHING && !in_list(forecast->list, number, arguments))
		forecast->trapped = number;
}

static void will_write(struct forecast *forecast, bool at_exit)
{
	will_call(forecast, SYS_fstat, 0, 0, 0);
	if (at_exit)
		will_call(forecast, SYS_getpid, 0, 0, 0);
	will_call(forecast, SYS_rt_sigprocmask, 0, 0, 0);
	will_call(forecast, SYS_write, 0, 0, 0);
}

static bool will_place(const struct setting *setting, const struct attempt *attempt)
{
	return !attempt->small &&
	       (attempt->of != OF_MEMORY || way == WAY_API || setting->anonymous);
}

static int will_trap(const struct list *list, const struct setting *setting,
		     const struct attempt *attempt)
{
	const int claim = way == WAY_API || setting->fixed ? MAP_FIXED_NOREPLACE : 0;
	const bool advises = policy_rules_bars() && !setting->no_madvise;
	struct forecast forecast = { list, NOTHING };

	if (will_place(setting, attempt)) {
		will_call(&forecast, SYS_mmap, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
		will_call(&forecast, SYS_munmap, 0, 0, 0);
		will_call(&forecast, SYS_mmap, attempt->prot, attempt->flags | claim, 0);
		if (advises && attempt->flags & MAP_SHARED)
			will_call(&forecast, SYS_fstat, 0, 0, 0);
		if (advises && attempt->of == OF_DEVICE)
			will_call(&forecast, SYS_madvise, 0, 0, MADV_HUGEPAGE);
		if (setting->log)
			will_write(&forecast, false);
	}
	if (setting->stats && knows(list, SYS_exit_group))
		will_write(&forecast, true);
	return forecast.trapped;
}

static size_t lines_logged(void)
{
	char line[512];
	size_t lines = 0;
	FILE *log = fopen(log_path, "re");

	assert_non_null(log);
	while (fgets(line, sizeof(line), log))
		lines++;
	fclose(log);
	return lines;
}

/* Runs it, and holds it against what is foretold. */
static void assert_as_foretold(const struct list *list, const struct setting *setting,
			       const struct attempt *attempt)
{
	const int foretold = will_trap(list, setting, attempt);
	const int status = run_confined(list, setting, attempt, 0);
	const bool placed = will_place(setting, attempt);

	if (course->trapped != foretold || course->went_wrong)
		fail_msg("%s%s, %s, %s: call %d is trapped, not %d%s", list->name, list->thread,
			 setting->name, attempt->name, course->trapped, foretold,
			 course->went_wrong ? ", and a mapping went wrong" : "");
	if (foretold == NOTHING) {
		assert_int_equal(status, 0);
		assert_true(course->ended);
		assert_int_equal(course->made, ROUNDS);
		assert_int_equal(course->refused, ROUNDS);
		if (placed)
			assert_int_equal(course->placed, ROUNDS);
	} else {
		assert_int_not_equal(status, 0);
	}
	if (setting->log == TO_A_FILE && placed)
		assert_int_equal(lines_logged(), course->made + course->refused);
	if (setting->stats == TO_A_FILE && status == 0)
		assert_true(lines_logged() > 0);
}

static const char *call_name(int number)
{
#define NAME(call)       \
	case SYS_##call: \
		return #call
	switch (number) {
		NAME(fstat);
		NAME(getpid);
		NAME(madvise);
		NAME(mmap);
		NAME(rt_sigprocmask);
	}
#undef NAME
	return "another call";
}

/* What a list and a setting came to, over all that the list lets be mapped. */
struct result {
	char what[512];
	unsigned int made, placed, refused;
};

/* Whether it is @placing that made a mapping congruent, and not chance. */
static void add_to(struct result *result, const struct attempt *attempt, bool placing)
{
	const size_t length = strlen(result->what);
	char at[64];

	result->made += course->made;
	result->placed += placing ? course->placed : 0;
	result->refused += course->refused;
	if (course->trapped == NOTHING)
		return;
	snprintf(at, sizeof(at), "SIGSYS at %s: ", call_name(course->trapped));
	snprintf(result->what + length, sizeof(result->what) - length, "%s%s%s",
		 length ? (strstr(result->what, at) ? ", " : "; ") : "",
		 strstr(result->what, at) ? "" : at, attempt->name);
}

/* A row for the settings that came to the same. */
static void print_rows(const struct list *list, const char *condition, const struct result *results,
		       size_t count)
{
	bool printed[COUNT(settings)] = { false };

	for (size_t i = 0; i < count; i++) {
		unsigned int made = 0, placed = 0, refused = 0;
		char names[256] = "";

		for (size_t j = i; j < count && !printed[i]; j++) {
			const size_t length = strlen(names);
			char name[64];

			if (strcmp(results[i].what, results[j].what) != 0 ||
			    results[i].placed != results[j].placed)
				continue;
			snprintf(name, sizeof(name), settings[j].name, "PATH");
			snprintf(names + length, sizeof(names) - length, "%s%s", length ? ", " : "",
				 way == WAY_API ? "alignmap_mmap()" : name);
			made += results[j].made;
			placed += results[j].placed;
			refused += results[j].refused;
			printed[j] = j > i;
		}
		if (!printed[i])
			print_message("# %s|%s%s%s|%s|%u made, %u placed, %u refused|%s\n",
				      is_a_vmms(list) ? "trust seccomp" : "no VMM's", list->name,
				      list->thread, condition, names, made, placed, refused,
				      *results[i].what ? results[i].what : "no violation");
	}
}

static void need_filters(void)
{
	if (SANITIZED)
		skip_because("a sanitizer makes system calls that a seccomp filter kills");
#ifdef COVERAGE
	skip_because("gcov writes files when a program ends, which a seccomp filter kills");
#endif
	/* Skips where there is none. */
	pmd_size();
}

/* What it maps it must survive; where it does not survive what else its list allows is documented.
 */
static void no_vmm_is_killed_by_default_for_what_its_list_says_that_it_maps(void **state)
{
	unsigned int tried = 0;

	(void)state;
	need_filters();
	for (size_t i = 0; i < COUNT(lists); i++) {
		for (size_t j = 0; j < COUNT(attempts); j++) {
			const bool free = way == WAY_RAW || maps_that(&lists[i], &attempts[j]);
			int limit;

			if (!is_a_vmms(&lists[i]) || !may_map(&lists[i], &attempts[j], 0))
				continue;
			limit = free ? NOTHING : will_trap(&lists[i], &settings[0], &attempts[j]);
			tried++;
			run_confined(&lists[i], &settings[0], &attempts[j], 0);
			assert_int_equal(course->trapped, limit);
			assert_false(course->went_wrong);
			assert_int_equal(course->ended, limit == NOTHING);
		}
	}
	if (!tried)
		skip_because("the VMMs' lists are those of x86-64");
}

static void a_confined_thread_makes_the_calls_that_are_documented_and_no_others(void **state)
{
	const size_t count = way == WAY_API ? 1 : COUNT(settings);

	(void)state;
	need_filters();
	for (size_t i = 0; i < COUNT(lists); i++) {
		struct result maps[COUNT(settings)] = { 0 }, could_map[COUNT(settings)] = { 0 };

		for (size_t j = 0; j < count; j++) {
			for (size_t k = 0; k < COUNT(attempts); k++) {
				if (!may_map(&lists[i], &attempts[k], 0))
					continue;
				assert_as_foretold(&lists[i], &settings[j], &attempts[k]);
				add_to(maps_that(&lists[i], &attempts[k]) ? &maps[j]
									  : &could_map[j],
				       &attempts[k], will_place(&settings[j], &attempts[k]));
			}
		}
		print_rows(&lists[i], "", maps, count);
		if (!lists[i].maps_files)
			print_rows(&lists[i], ", if it mapped large files", could_map, count);
	}
}

static void a_list_kills_what_it_should(void **state)
{
	(void)state;
	need_filters();
	for (size_t i = 0; i < COUNT(lists); i++) {
		const struct attempt *small = &attempts[SMALL];

		assert_int_not_equal(run_confined(&lists[i], &settings[0], small, 1), 0);
		assert_int_equal(course->trapped, SYS_getppid);
		if (may_map(&lists[i], small, MAP_DENYWRITE))
			continue;
		assert_int_not_equal(run_confined(&lists[i], &settings[0], small, 2), 0);
		assert_int_equal(course->trapped, SYS_mmap);
		assert_int_equal(course->made, 0);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_vmm_is_killed_by_default_for_what_its_list_says_that_it_maps),
		cmocka_unit_test(
			a_confined_thread_makes_the_calls_that_are_documented_and_no_others),
		cmocka_unit_test(a_list_kills_what_it_should),
	};

	choose_way(argc, argv);
	way_name = argv[1];
	if (argc == 7)
		return confined_process(argv + 3);
	/* The API insists, and what its callers' filters know is theirs. */
	if (way == WAY_API)
		cmocka_set_test_filter("*documented*");
	if (way == WAY_RAW)
		cmocka_set_skip_filter("*documented*");
	return cmocka_run_group_tests(tests, prepare, tidy_up);
}
