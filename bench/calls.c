// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Counts system calls as a debugger sees them: whoever makes them, and in whatever way. */
#include <err.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"

static void be_traced(void (*work)(void))
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) || raise(SIGSTOP))
		_exit(1);
	syscall(MARK, 0);
	work();
	syscall(MARK, 0);
	_exit(0);
}

/* Lets the child go on to its next system call. False: it makes none any more. */
static bool next_call(pid_t pid, unsigned long long *number)
{
	struct __ptrace_syscall_info call;
	int status;

	do {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) || waitpid(pid, &status, 0) != pid ||
		    !WIFSTOPPED(status))
			return false;
		if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(call), &call) <= 0)
			return false;
	} while (call.op != PTRACE_SYSCALL_INFO_ENTRY);
	*number = call.entry.nr;
	return true;
}

long calls_of(void (*work)(void))
{
	unsigned long long number;
	long marks = 0, calls = 0;
	pid_t pid = fork();
	int status;

	if (pid < 0)
		err(1, "fork");
	if (!pid)
		be_traced(work);
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	while (next_call(pid, &number)) {
		if (number == MARK)
			marks++;
		else if (marks == 1)
			calls++;
	}
	return marks == 2 ? calls : -1;
}

bool halt_before_calls(pid_t pid)
{
	int status;

	return !ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESYSGOOD) &&
	       !ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) && waitpid(pid, &status, 0) == pid &&
	       WIFSTOPPED(status);
}

long calls_to_end(pid_t pid)
{
	unsigned long long number;
	long calls = 0;

	while (next_call(pid, &number))
		calls++;
	return calls;
}
