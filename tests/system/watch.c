// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/filter.h>

const int mmap_errors[MMAP_ERRORS] = { EACCES, EAGAIN,	   EBADF,     EBUSY,  EEXIST,
				       EFAULT, EINTR,	   EINVAL,    EIO,    ENFILE,
				       ENODEV, ENOMEM,	   ENOSPC,    ENOSYS, ENXIO,
				       EPERM,  EOPNOTSUPP, EOVERFLOW, EROFS,  ETXTBSY };

int filter_calls(const int *numbers, size_t count, uint32_t action, unsigned int flags)
{
	struct sock_filter filter[16];
	struct sock_fprog program = { 0, filter };

	filter[program.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							     offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < count; i++) {
		filter[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
								     (uint32_t)numbers[i], 0, 1);
		filter[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
	}
	filter[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

struct watcher {
	judge_call *judge;
	int ends[2]; /* it learns of the listener by a call that nobody watches */
};

/* What RECV says by ENOENT: a call was interrupted; or, since Linux 6.11, nobody is left. */
static bool has_ended(int listener)
{
	struct pollfd end = { .fd = listener };

	return poll(&end, 1, 0) > 0 && end.revents & POLLHUP;
}

static void *keep_watch(void *watcher)
{
	const struct watcher *self = watcher;
	struct seccomp_notif notice;
	int listener;

	if (recv(self->ends[0], &listener, sizeof(listener), 0) != sizeof(listener))
		abort();
	for (;;) {
		struct seccomp_notif_resp answer = { 0 };
		struct verdict verdict;

		memset(&notice, 0, sizeof(notice));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notice)) {
			if (errno == EINTR || (errno == ENOENT && !has_ended(listener)))
				continue;
			/* Nobody is watched any more. */
			return NULL;
		}
		verdict = self->judge(&notice.data);
		answer.id = notice.id;
		answer.error = -verdict.error;
		answer.val = (intptr_t)verdict.result;
		if (!verdict.error && !verdict.result)
			answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

bool be_watched(const int *numbers, size_t count, judge_call *judge)
{
	static struct watcher watcher;
	pthread_t thread;
	int listener;

	watcher.judge = judge;
	/* Before there is a filter, which it would inherit. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, watcher.ends) ||
	    pthread_create(&thread, NULL, keep_watch, &watcher))
		abort();
	pthread_detach(thread);
	listener = filter_calls(numbers, count, SECCOMP_RET_USER_NOTIF,
				SECCOMP_FILTER_FLAG_NEW_LISTENER);
	if (listener < 0)
		return false;
	if (send(watcher.ends[1], &listener, sizeof(listener), 0) != sizeof(listener))
		abort();
	return true;
}
