// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Opens the file of a report. The path may be in a folder where others write, or come from somebody
 * who may do less than this process: nothing is opened before it is known what it is (opening alone
 * winds tapes and starts watchdogs), and nothing is appended to that is no report.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "report-file.h"

/* Not in every machine's linux/magic.h. */
#define FUSE_MAGIC 0x65735546

static const char replaced[] = "somebody replaces it";

/* By no link of /proc, which may lead to other processes' files and out of a chroot. */
static int open_unlinked(const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = flags & O_CREAT ? 0600 : 0,
		.resolve = RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

/*
 * Opens what was found before; -1 if it cannot be opened, or is something else by now. Who holds
 * what was found keeps its inode's number from being given to another file.
 */
static int open_found(const char *path, int flags, const struct stat *found, const char **why)
{
	int fd = open_unlinked(path, flags | O_NOCTTY | O_NONBLOCK);
	struct stat opened;

	if (fd < 0) {
		*why = errno == ENXIO ? "it is a pipe that nobody reads yet; start its reader first"
				      : strerror(errno);
		return -1;
	}
	if (fstat(fd, &opened) == 0 && opened.st_dev == found->st_dev &&
	    opened.st_ino == found->st_ino)
		return fd;
	*why = replaced;
	close(fd);
	return -1;
}

/* Kernel interfaces have no room to tell of; few others are so. */
static bool is_stored(int place)
{
	struct statfs system;

	return fstatfs(place, &system) == 0 &&
	       (system.f_blocks || system.f_type == TMPFS_MAGIC ||
		(unsigned int)system.f_type == RAMFS_MAGIC || system.f_type == FUSE_MAGIC);
}

/* What speaks against the file at @place, but for what it holds; NULL if nothing does. */
static const char *objection(int place, const struct stat *found)
{
	if (S_ISLNK(found->st_mode))
		return "it is a symbolic link, which is not followed; name the file itself (1 is "
		       "standard error)";
	if (S_ISDIR(found->st_mode))
		return strerror(EISDIR);
	if (S_ISCHR(found->st_mode) && found->st_rdev == makedev(1, 3))
		return NULL;
	if (!S_ISREG(found->st_mode) && !S_ISFIFO(found->st_mode))
		return "it is neither a file, a pipe nor /dev/null";
	if (!is_stored(place))
		return "it is an interface of the kernel";
	/* Who owns it can read it. */
	if (found->st_uid != geteuid() && found->st_uid != 0)
		return "it belongs to another user";
	if (found->st_nlink != 1)
		return "it has several names (hard links)";
	return NULL;
}

static bool is_report(const char *path, const struct stat *found, const char **why)
{
	char start[sizeof(REPORT_MARK) - 1];
	bool same;
	int fd;

	if (!S_ISREG(found->st_mode) || !found->st_size)
		return true;
	fd = open_found(path, O_RDONLY, found, why);
	if (fd < 0)
		return false;
	same = read(fd, start, sizeof(start)) == sizeof(start) &&
	       memcmp(start, REPORT_MARK, sizeof(start)) == 0;
	close(fd);
	*why = "it holds something else than what libalignmap writes";
	return same;
}

int open_report_file(const char *path, const char **why)
{
	struct stat found;
	int place, fd;

	/* Another process may make the file in between, but hardly take it away again, too. */
	for (int attempt = 0; attempt < 3; attempt++) {
		place = open_unlinked(path, O_PATH);
		if (place >= 0 || errno != ENOENT)
			break;
		fd = open_unlinked(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL);
		if (fd >= 0)
			return fd;
		if (errno != EEXIST)
			break;
	}
	if (place < 0) {
		*why = strerror(errno);
		if (errno == EEXIST)
			*why = replaced;
		if (errno == ELOOP)
			*why = "a link of /proc is on the way (or many others are)";
		if (errno == ENOSYS || errno == EPERM)
			*why = "the kernel (before 5.6) or a seccomp filter has no openat2 for it";
		return -1;
	}
	fd = -1;
	*why = fstat(place, &found) ? strerror(errno) : objection(place, &found);
	if (!*why && is_report(path, &found, why))
		fd = open_found(path, O_WRONLY | O_APPEND, &found, why);
	close(place);
	return fd;
}
