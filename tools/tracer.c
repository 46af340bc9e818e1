// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The rule of this file: a thread is never left in a state that would harm it if this process were
 * killed now. What is done to a call is to give it a hint, which the kernel may take or not.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formatted.h"
#include "gaps.h"
#include "registers.h"
#include "report.h"
#include "tracer.h"
#include "wanted.h"

const long trace_options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
			   PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;

/* include/uapi/linux/kvm.h, _IO(KVMIO, 0x80). */
#define KVM_RUN 0xae80u

/* include/linux/errno.h: to ERESTARTSYS and its like the kernel itself makes the call again. */
static bool restarts(int64_t result)
{
	return result <= -512 && result >= -516;
}

/* A call that is placed, from its entry until it has ended for good; or one of exec. */
struct under_way {
	pid_t thread;
	enum { AT_WINDOW, TO_BE_MADE, AS_MADE, LOOKED_AT } stage;
	pid_t looker;		  /* who looks at what exec would start */
	struct mapping_call call; /* as the program made it */
	uintptr_t window;
	struct placement placement;
};

static struct {
	struct wanted wanted;
	const struct trace_wish *wish;
	pid_t program;
	size_t threads; /* that are traced */
	uint64_t drawn;
	struct under_way *calls;
	size_t count, room;
} tracing;

/* How often this process was told to leave: the second time it does not wait for calls any more. */
static volatile sig_atomic_t told;

/* Once more after a second: the first may have come just before waitid(2). */
static void tell(int unused)
{
	(void)unused;
	told++;
	alarm(1);
}

static struct under_way *call_of(pid_t thread)
{
	for (size_t i = 0; i < tracing.count; i++)
		if (tracing.calls[i].thread == thread)
			return &tracing.calls[i];
	return NULL;
}

static void forget(pid_t thread)
{
	struct under_way *call = call_of(thread);

	if (call && call->stage == LOOKED_AT)
		call->thread = 0; /* until that has been done */
	else if (call)
		*call = tracing.calls[--tracing.count];
}

/* NULL for want of memory: then the call is left alone. */
static struct under_way *remember(pid_t thread)
{
	if (tracing.count == tracing.room) {
		const size_t room = tracing.room ? 2 * tracing.room : 16;
		struct under_way *more = reallocarray(tracing.calls, room, sizeof(*more));

		if (!more)
			return NULL;
		tracing.calls = more;
		tracing.room = room;
	}
	tracing.calls[tracing.count] = (struct under_way){ .thread = thread };
	return &tracing.calls[tracing.count++];
}

static bool any_at_window(void)
{
	for (size_t i = 0; i < tracing.count; i++)
		if (tracing.calls[i].stage == AT_WINDOW)
			return true;
	return false;
}

static bool read_maps(pid_t thread, struct maps *maps)
{
	char path[64];
	FILE *file;
	bool read;

	*maps = (struct maps){ 0 };
	snprintf(path, sizeof(path), "/proc/%d/maps", thread);
	file = fopen(path, "re");
	if (!file)
		return false;
	read = maps_read(file, maps);
	fclose(file);
	return read;
}

static size_t stack_limit(void)
{
	struct rlimit limit = { .rlim_cur = RLIM_INFINITY };

	getrlimit(RLIMIT_STACK, &limit);
	return limit.rlim_cur > SIZE_MAX ? SIZE_MAX : (size_t)limit.rlim_cur;
}

/*
 * For the largest leaf that there is room for, up to what the call deserves; 0 if there is none for
 * any.
 */
static uintptr_t find_window(pid_t thread, const struct mapping_call *call,
			     const struct alignmap_leaves *leaves, struct placement *placement)
{
	struct promised *promised = calloc(tracing.count + 1, sizeof(*promised));
	struct gaps gaps = { .promised = promised, .stack = stack_limit() };
	uintptr_t window = 0;

	gaps.drawn = tracing.drawn;
	for (size_t i = 0; promised && i < tracing.count; i++) {
		const struct under_way *other = &tracing.calls[i];

		if (other->stage == AT_WINDOW)
			promised[gaps.promises++] =
				(struct promised){ other->window, other->call.length };
	}
	if (promised && read_maps(thread, &gaps.maps))
		for (unsigned int i = 0; i + 1 < leaves->count && !window; i++) {
			if (leaves->size[i] > placement->deserved)
				continue;
			placement->alignment = leaves->size[i];
			window = find_gap(&gaps, call, leaves->size[i]);
		}
	maps_free(&gaps.maps);
	free(promised);
	return window;
}

static void enter_mmap(pid_t thread, const uint64_t *arguments)
{
	const struct mapping_call call = {
		.address = (void *)(uintptr_t)arguments[0],
		.length = arguments[1],
		.prot = (int)arguments[2],
		.flags = (int)arguments[3],
		.fd = (int)arguments[4],
		.offset = (off64_t)arguments[5],
	};
	struct under_way *under_way = call_of(thread);
	const struct alignmap_leaves *leaves;
	struct placement placement = { 0 };
	struct alignmap_plan plan;
	uintptr_t window;
	enum left why;

	if (under_way) {
		under_way->stage = AS_MADE;
		return;
	}
	if (told)
		return;
	if (!wants_placing(&tracing.wanted, &call, &leaves, &plan, &why)) {
		if (report_wanted)
			report_left(why);
		return;
	}
	placement.deserved = plan.alignment;
	window = find_window(thread, &call, leaves, &placement);
	under_way = remember(thread);
	if (!under_way)
		return;
	placement.outcome = window ? PLACED : NO_WINDOW;
	*under_way = (struct under_way){ thread, AS_MADE, 0, call, window, placement };
	if (window && set_first_argument(thread, window))
		under_way->stage = AT_WINDOW;
}

pid_t status_number(pid_t thread, const char *row, pid_t otherwise)
{
	const size_t length = strlen(row);
	char path[64], line[256];
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status))
		if (strncmp(line, row, length) == 0 && line[length] == ':')
			otherwise = atoi(line + length + 1);
	if (status)
		fclose(status);
	return otherwise;
}

static void report(const struct under_way *under_way, int64_t result, bool failed)
{
	if (!report_wanted)
		return;
	report_about(status_number(under_way->thread, "Tgid", under_way->thread));
	errno = failed ? (int)-result : 0;
	report_placement(&under_way->call, &under_way->placement,
			 failed ? MAP_FAILED : (void *)(uintptr_t)result);
}

static void leave_mmap(pid_t thread, int64_t result, bool failed)
{
	struct under_way *under_way = call_of(thread);
	uint64_t address;

	if (!under_way || under_way->stage == TO_BE_MADE)
		return;
	address = (uintptr_t)under_way->call.address;
	if (under_way->stage == AT_WINDOW) {
		if (failed && restarts(result)) {
			restore_first_argument(thread, address);
			forget(thread);
			return;
		}
		if (failed && make_again(thread, SYS_mmap, address)) {
			under_way->stage = TO_BE_MADE;
			under_way->placement.outcome = REFUSED;
			return;
		}
		restore_first_argument(thread, address);
		if (((uint64_t)result - offset_behind(&under_way->call)) &
		    (under_way->placement.alignment - 1))
			under_way->placement.outcome = ELSEWHERE;
	}
	report(under_way, result, failed);
	forget(thread);
}

/*
 * A traced program gains no privileges (security/commoncap.c), as sudo(8) must. So whoever starts
 * such a one is let go of before; and whoever starts what cannot be seen.
 */
static bool may_gain(pid_t thread, int directory, uint64_t path_address)
{
	char from[64], path[PATH_MAX + 1] = "";
	char *root, *whole;
	ssize_t filled;
	bool gains;
	int memory;

	snprintf(from, sizeof(from), "/proc/%d/mem", thread);
	memory = open(from, O_RDONLY | O_CLOEXEC);
	filled = memory < 0 ? -1 : pread(memory, path, PATH_MAX, (off_t)path_address);
	if (memory >= 0)
		close(memory);
	if (filled <= 0)
		return true;
	root = formatted("/proc/%d/root", thread);
	if (*path == '/')
		whole = formatted("%s%s", root, path);
	else if (directory == AT_FDCWD)
		whole = formatted("/proc/%d/cwd/%s", thread, path);
	else
		whole = formatted("/proc/%d/fd/%d%s%s", thread, directory, *path ? "/" : "", path);
	gains = may_gain_privileges(root, whole);
	free(whole);
	free(root);
	return gains;
}

enum next { GO_ON, HOLD, LET_GO };

/*
 * By a process of its own, while the thread is held: whoever is looked through may be traced as
 * well, and wait for us: who serves a file system (fuse), or pages (userfaultfd).
 */
static enum next look_at_exec(pid_t thread, int directory, uint64_t path_address)
{
	struct under_way *call;

	forget(thread);
	call = remember(thread);
	if (!call)
		return LET_GO;
	call->stage = LOOKED_AT;
	call->looker = fork();
	if (call->looker > 0)
		return HOLD;
	if (call->looker == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(may_gain(thread, directory, path_address));
	}
	*call = tracing.calls[--tracing.count];
	return LET_GO;
}

/* The thread goes on when this process has left. */
static enum next leave_before(void)
{
	if (!told)
		tell(0);
	return HOLD;
}

static enum next enter(pid_t thread, uint64_t number, const uint64_t *arguments)
{
	switch (number) {
	case SYS_mmap:
		enter_mmap(thread, arguments);
		return GO_ON;
	case SYS_ioctl:
		if ((unsigned int)arguments[1] != KVM_RUN || tracing.wish->until != UNTIL_KVM_RUN)
			return GO_ON;
		return leave_before();
	case SYS_ptrace:
		/* Who is traced already cannot be traced by others. */
		return leave_before();
	case SYS_clone:
		/* By such a child either, of which nothing is seen: leaks are looked for so. */
		return arguments[0] & CLONE_UNTRACED ? leave_before() : GO_ON;
	case SYS_execve:
		return look_at_exec(thread, AT_FDCWD, arguments[0]);
	case SYS_execveat:
		return look_at_exec(thread, (int)arguments[0], arguments[1]);
	default:
		return GO_ON;
	}
}

static enum next at_system_call(pid_t thread)
{
	struct __ptrace_syscall_info stop = { 0 };

	if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(stop), &stop) <= 0)
		return GO_ON;
	/* A 32-bit program: its calls have other numbers, and it may run a guest or gain
	 * privileges. */
	if (stop.arch != NATIVE_CALLS)
		return LET_GO;
	if (stop.op == PTRACE_SYSCALL_INFO_ENTRY)
		return enter(thread, stop.entry.nr, stop.entry.args);
	if (stop.op == PTRACE_SYSCALL_INFO_EXIT)
		leave_mmap(thread, stop.exit.rval, stop.exit.is_error);
	return GO_ON;
}

static bool stops_processes(int signal)
{
	return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

/*
 * A stop that has been taken has no signal any more (kernel/exit.c, wait_task_stopped): it would be
 * lost with this process. So stops at signals and calls are looked at, and end by a request; others
 * are taken: such as last, and an exec's (kernel/ptrace.c, looks_like_a_spurious_pid).
 */
static void take_stop(pid_t thread)
{
	siginfo_t stop;

	waitid(P_PID, (id_t)thread, &stop, WSTOPPED | WNOHANG | __WALL);
}

/* By another thread than the first: that has ended without a word, and left it its number. */
static void on_exec(pid_t thread)
{
	unsigned long former = (unsigned long)thread;

	ptrace(PTRACE_GETEVENTMSG, thread, 0, &former);
	if ((pid_t)former == thread)
		return;
	forget(thread);
	forget((pid_t)former);
	/* Who started a thread may have been killed before it could say so. */
	if (tracing.threads > 1)
		tracing.threads--;
}

static bool starts_another(int event)
{
	return event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK ||
	       event == PTRACE_EVENT_CLONE;
}

/* Requests to a thread that was killed meanwhile fail; waitid(2) tells its end. */
static void proceed(pid_t thread, enum next next, int signal)
{
	if (next == HOLD)
		take_stop(thread);
	if (next == LET_GO && !ptrace(PTRACE_DETACH, thread, 0, 0))
		tracing.threads--;
	if (next == GO_ON)
		ptrace(PTRACE_SYSCALL, thread, 0, (long)signal);
}

static void on_stop(pid_t thread, int signal, int event)
{
	enum next next = GO_ON;

	if (event)
		take_stop(thread);
	if (event == PTRACE_EVENT_STOP && stops_processes(signal)) {
		/* It stays stopped, as others see it, until SIGCONT. */
		ptrace(PTRACE_LISTEN, thread, 0, 0);
		return;
	}
	if (signal == (SIGTRAP | 0x80))
		next = at_system_call(thread);
	if (event == PTRACE_EVENT_EXEC)
		on_exec(thread);
	if (starts_another(event))
		tracing.threads++;
	proceed(thread, next, event || signal == (SIGTRAP | 0x80) ? 0 : signal);
}

static void summarize(void)
{
	report_about(tracing.program);
	report_close();
}

/* Whether that was one who looked: then the exec that was held is decided on. */
static bool has_looked(pid_t looker, bool gains)
{
	for (size_t i = 0; i < tracing.count; i++) {
		struct under_way *call = &tracing.calls[i];

		if (call->stage != LOOKED_AT || call->looker != looker)
			continue;
		proceed(call->thread, gains ? LET_GO : GO_ON, 0);
		*call = tracing.calls[--tracing.count];
		return true;
	}
	return false;
}

static void on_end(pid_t thread)
{
	forget(thread);
	/* Before the program's parent is told of its end, and looks for the summary. */
	if (!--tracing.threads)
		summarize();
	waitpid(thread, NULL, __WALL);
}

static void prepare(void)
{
	static const int leaving[] = { SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	const struct sigaction action = { .sa_handler = tell };
	sigset_t none;

	for (size_t i = 0; i < sizeof(leaving) / sizeof(leaving[0]); i++)
		sigaction(leaving[i], &action, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE) &&
	    getrandom(&tracing.drawn, sizeof(tracing.drawn), 0) < 0)
		tracing.drawn = 0;
}

void follow(pid_t program, const struct policy *policy, const struct trace_wish *wish)
{
	siginfo_t event;

	learn_wanted(policy, &tracing.wanted);
	tracing.wish = wish;
	tracing.program = program;
	tracing.threads = 1;
	prepare();
	if (wish->until == UNTIL_SECONDS)
		alarm(wish->seconds);
	while (!told || (told == 1 && any_at_window())) {
		if (!waitid(P_ALL, 0, &event, WEXITED | WSTOPPED | WNOWAIT | __WALL)) {
			if (event.si_code == CLD_TRAPPED)
				on_stop(event.si_pid, event.si_status & 0xff, event.si_status >> 8);
			else if (has_looked(event.si_pid, event.si_status))
				waitpid(event.si_pid, NULL, 0);
			else
				on_end(event.si_pid);
		} else if (errno != EINTR) {
			break;
		}
	}
	summarize();
}
