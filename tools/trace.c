// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Starts the tracer. It is not the program's parent, which would have to pass on how that ends and
 * stops: the program is what the shell started, and the tracer a process beside it, in a session
 * of its own, whose parent is not the program but who takes orphans.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "behind-slash.h"
#include "formatted.h"
#include "registers.h"
#include "report.h"
#include "tool.h"
#include "trace.h"
#include "tracer.h"

static int ptrace_scope(void)
{
	FILE *setting = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	int scope = 0;

	if (setting) {
		if (fscanf(setting, "%d", &scope) != 1)
			scope = 0;
		fclose(setting);
	}
	return scope;
}

/* Whether what /proc says of a number is of the process that has it here. */
static bool proc_is_ours(void)
{
	char self[32] = "";

	return readlink("/proc/self", self, sizeof(self) - 1) > 0 && atoi(self) == getpid();
}

static struct obstacle why_not(int error)
{
	const pid_t tracer = status_number(getpid(), "TracerPid", 0);
	const int scope = ptrace_scope();

	if (error == EPERM && tracer)
		return (struct obstacle){
			formatted("is traced already, by process %d", tracer),
			formatted("start it from outside of that one"),
		};
	if (error == EPERM && scope > 2)
		return (struct obstacle){
			formatted("may not be traced: kernel.yama.ptrace_scope is %d", scope),
			formatted("boot without that setting"),
		};
	if (error == EPERM && scope == 2)
		return (struct obstacle){
			formatted("may be traced by root alone: kernel.yama.ptrace_scope is 2"),
			formatted("start it as root, or: sysctl kernel.yama.ptrace_scope=1"),
		};
	if (error == EAGAIN)
		return (struct obstacle){
			formatted("cannot be traced: no process can be started for a tracer"),
			formatted("raise the limit of processes (ulimit -u)"),
		};
	if (error == ECHILD)
		return (struct obstacle){
			formatted("cannot be traced: the tracer has ended at once"),
			formatted("see what limits processes and files here, or forbids ptrace(2)"),
		};
	return (struct obstacle){
		formatted("cannot be traced (%s)", strerror(error)),
		formatted("see what forbids ptrace(2) here, as containers and security modules do"),
	};
}

/* Of which the parent is told nothing when it ends, and which wait(2) does not find. */
static pid_t fork_unseen(void)
{
	return (pid_t)syscall(SYS_clone, 0UL, NULL, NULL, NULL, NULL);
}

/* Orphans come to us ourselves: then the tracer stays our child, unseen. */
static bool takes_orphans(void)
{
	int subreaper = 0;

	prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
	return getpid() == 1 || subreaper;
}

enum { SOCKET = 3 };

/* As closefrom(3), which musl and glibc before 2.34 do not have. */
static void close_from(int lowest)
{
	DIR *numbers = opendir("/proc/self/fd");
	const struct dirent *entry;

	while (numbers && (entry = readdir(numbers))) {
		const int fd = atoi(entry->d_name);

		if (fd >= lowest && fd != dirfd(numbers))
			close(fd);
	}
	if (numbers)
		closedir(numbers);
}

/* Of what would keep files, terminals and mounts from being done with, all but the reports' files.
 */
static void let_go(int socket, const struct policy *policy)
{
	int null;

	setsid();
	/* Below that the numbers may be in use, the socket's own among them. */
	socket = fcntl(socket, F_DUPFD, SOCKET + 1);
	if (socket < 0 || dup2(socket, SOCKET) < 0)
		_exit(1);
	close_from(SOCKET + 1);
	report_open(policy);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < SOCKET; fd++)
		if (fd != null && dup2(null, fd) < 0)
			close(fd);
	if (null >= SOCKET)
		close(null);
	if (chdir("/"))
		_exit(1);
}

__attribute__((noreturn)) static void be_tracer(pid_t program, int socket,
						const struct trace_wish *wish)
{
	const pid_t self = getpid();
	struct policy policy;
	int error = 0;
	char go;

	read_policy(environ, &policy, report_complaint);
	/* In a process that it does not run in. */
	policy.madvise = false;
	let_go(socket, &policy);
	prctl(PR_SET_NAME, "alignmap-trace", 0, 0, 0);
	if (write(SOCKET, &self, sizeof(self)) != sizeof(self) || read(SOCKET, &go, 1) != 1)
		_exit(1);
	if (ptrace(PTRACE_SEIZE, program, 0, trace_options))
		error = errno;
	if (write(SOCKET, &error, sizeof(error)) != sizeof(error) || error)
		_exit(1);
	close(SOCKET);
	follow(program, &policy, wish);
	_exit(0);
}

static bool start_tracer(int socket, const struct trace_wish *wish)
{
	const pid_t program = getpid();
	const bool direct = takes_orphans();
	const pid_t child = fork_unseen();

	if (child == 0) {
		if (direct || fork_unseen() == 0)
			be_tracer(program, socket, wish);
		_exit(0);
	}
	if (child > 0 && !direct)
		waitpid(child, NULL, __WALL);
	return child > 0;
}

/* What PTRACE_SEIZE came to in the tracer. */
static int seized(int socket)
{
	pid_t tracer;
	int error;

	if (read(socket, &tracer, sizeof(tracer)) != sizeof(tracer))
		return ECHILD;
	/* Where there is no Yama, it needs no leave. */
	prctl(PR_SET_PTRACER, (unsigned long)tracer, 0, 0, 0);
	if (send(socket, "", 1, MSG_NOSIGNAL) != 1 ||
	    read(socket, &error, sizeof(error)) != sizeof(error))
		return ECHILD;
	return error;
}

struct obstacle trace_from_exec(const char *program, const struct trace_wish *wish)
{
	static char own_name[] = "alignmap run";
	int ends[2], error;

	if (!CAN_TRACE)
		return (struct obstacle){
			formatted("cannot be traced on this machine"),
			formatted("link the library instead: alignmap(7)"),
		};
	/* PTRACE_GET_SYSCALL_INFO is in 5.3, whose /proc/PID/maps may wait for an exec for ever. */
	if (!linux_from(5, 4))
		return (struct obstacle){
			formatted("cannot be traced by this Linux"),
			formatted("link the library instead, or boot Linux 5.4 or newer"),
		};
	if (!proc_is_ours())
		return (struct obstacle){
			formatted("cannot be traced, since /proc is not of its PID namespace"),
			formatted("mount that, as unshare --mount-proc does"),
		};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		err(1, "cannot make sockets for a tracer");
	fflush(NULL);
	/* What a summary names. */
	program_invocation_short_name = (char *)behind_slash(program);
	error = start_tracer(ends[1], wish) ? 0 : errno;
	program_invocation_short_name = own_name;
	close(ends[1]);
	if (!error)
		error = seized(ends[0]);
	close(ends[0]);
	return error ? why_not(error) : (struct obstacle){ 0 };
}
