// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "behind-slash.h"
#include "formatted.h"
#include "process.h"

/* Of /proc/PID/status. */
struct status {
	char state;
	pid_t tgid, parent;
	uid_t uid;
	bool has_memory, of_kernel, thp_disabled;
};

static void *checked(void *allocated)
{
	if (!allocated)
		err(2, NULL);
	return allocated;
}

static FILE *open_file(int directory, const char *path)
{
	const int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

	if (fd >= 0 && !file)
		close(fd);
	return file;
}

static DIR *open_directory(int directory, const char *path)
{
	const int fd = openat(directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !entries)
		close(fd);
	return entries;
}

/* The whole of a short file, without a newline at its end; "" where it cannot be read. */
static size_t read_short(int directory, const char *path, char *text, size_t room)
{
	const int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, room - 1);

	if (fd >= 0)
		close(fd);
	if (length < 0)
		length = 0;
	if (length && text[length - 1] == '\n')
		length--;
	text[length] = '\0';
	return (size_t)length;
}

/* Where a symbolic link points; "" where there is none. */
static void read_link(int directory, const char *path, char *text, size_t room)
{
	const ssize_t length = readlinkat(directory, path, text, room - 1);

	text[length > 0 ? length : 0] = '\0';
}

static bool is_number(const char *text)
{
	return *text && text[strspn(text, "0123456789")] == '\0';
}

static bool begins_with(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

static bool read_status(int directory, struct status *status)
{
	FILE *file = open_file(directory, "status");
	size_t room = 0;
	char *line = NULL;

	*status = (struct status){ 0 };
	if (!file)
		return false;
	while (getline(&line, &room, file) > 0) {
		const char *value = strchr(line, ':');

		if (!value)
			continue;
		value += 1 + strspn(value + 1, "\t ");
		if (begins_with(line, "State:"))
			status->state = *value;
		else if (begins_with(line, "Tgid:"))
			status->tgid = (pid_t)strtol(value, NULL, 10);
		else if (begins_with(line, "PPid:"))
			status->parent = (pid_t)strtol(value, NULL, 10);
		else if (begins_with(line, "Uid:"))
			status->uid = (uid_t)strtoul(value, NULL, 10);
		else if (begins_with(line, "VmSize:"))
			status->has_memory = true;
		else if (begins_with(line, "Kthread:"))
			status->of_kernel = *value == '1';
		else if (begins_with(line, "THP_enabled:"))
			status->thp_disabled = *value == '0';
	}
	free(line);
	fclose(file);
	return status->state != 0;
}

/* Of the program's file; "" where that is not to be seen, or there is none. */
static void read_program(int directory, char *name, size_t room)
{
	static const char deleted[] = " (deleted)";
	char path[PATH_MAX];
	size_t length;

	read_link(directory, "exe", path, sizeof(path));
	length = strlen(path);
	if (length >= sizeof(deleted) &&
	    strcmp(path + length - (sizeof(deleted) - 1), deleted) == 0)
		path[length - (sizeof(deleted) - 1)] = '\0';
	snprintf(name, room, "%s", behind_slash(path));
}

static char *why_absent(pid_t pid)
{
	if (kill(pid, 0) && errno == ESRCH)
		return formatted("there is no such process; 'pgrep -a NAME' lists those of a name");
	return formatted("it is hidden from you (by hidepid, an option of the mount of /proc); try "
			 "'sudo alignmap inspect %d'",
			 pid);
}

static char *why_without_memory(pid_t pid, const struct status *status)
{
	if (status->tgid && status->tgid != pid)
		return formatted("it is a thread of process %d, whose mappings it shares; try "
				 "'alignmap inspect %d'",
				 status->tgid, status->tgid);
	if (status->state == 'Z' || status->state == 'X')
		return formatted("it has ended and has no mappings any more: process %d, its "
				 "parent, has yet to take note (a zombie)",
				 status->parent);
	if (status->has_memory)
		return NULL;
	/* kthreadd and its children, where Linux before 6.8 does not say Kthread. */
	if (status->of_kernel || status->parent == 2 || pid == 2)
		return formatted("it is a thread of the kernel, which has no mappings; choose "
				 "another process");
	return formatted("it is ending, and has no mappings any more");
}

char *process_open(struct process *process, const char *proc, pid_t pid)
{
	char path[PATH_MAX], name[NAME_MAX + 1];
	struct status status;
	char *why;

	snprintf(path, sizeof(path), "%s/%d", proc, pid);
	process->pid = pid;
	process->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (process->directory < 0)
		return errno == ENOENT ? why_absent(pid)
				       : formatted("%s: %s", path, strerror(errno));
	why = read_status(process->directory, &status) ? why_without_memory(pid, &status)
						       : why_absent(pid);
	if (why) {
		close(process->directory);
		return why;
	}
	process->thp_disabled = status.thp_disabled;
	read_program(process->directory, name, sizeof(name));
	if (!*name)
		read_short(process->directory, "comm", name, sizeof(name));
	process->name = checked(strdup(name));
	return NULL;
}

void process_close(struct process *process)
{
	close(process->directory);
	free(process->name);
}

bool process_has_ended(const struct process *process)
{
	struct status status;

	return !read_status(process->directory, &status) || !status.has_memory;
}

/* proc(5): smaps and maps take PTRACE_MODE_READ_FSCREDS. */
static char *why_refused(const struct process *process)
{
	const struct passwd *owner;
	struct status status;

	if (geteuid() == 0)
		return formatted("root may not read its mappings here: CAP_SYS_PTRACE is missing, "
				 "or a security module forbids it");
	if (!read_status(process->directory, &status) || status.uid == geteuid())
		return formatted(
			"its mappings are not yours to read (as those of setuid programs); "
			"try 'sudo alignmap inspect %d'",
			process->pid);
	owner = getpwuid(status.uid);
	if (!owner)
		return formatted("it belongs to user %u; try 'sudo alignmap inspect %d'",
				 status.uid, process->pid);
	return formatted("it belongs to %s; try 'sudo alignmap inspect %d'", owner->pw_name,
			 process->pid);
}

char *process_maps(const struct process *process, struct maps *maps, bool *has_smaps)
{
	FILE *file = open_file(process->directory, "smaps");
	bool read;

	*maps = (struct maps){ 0 };
	*has_smaps = file != NULL;
	if (!file && errno == ENOENT)
		file = open_file(process->directory, "maps");
	if (!file && (errno == EACCES || errno == EPERM))
		return why_refused(process);
	if (!file && errno != ENOENT && errno != ESRCH)
		return formatted("its mappings cannot be read: %s", strerror(errno));
	read = file && maps_read(file, maps);
	if (file && !read && errno != ESRCH) {
		const int error = errno;

		fclose(file);
		errno = error;
		return formatted("its mappings cannot be read: %s", strerror(errno));
	}
	if (file)
		fclose(file);
	/* The kernel ends the file early where the process ends meanwhile. */
	if (!read || process_has_ended(process))
		return formatted("it has ended; there is nothing left to inspect");
	return NULL;
}

/* The kernel keeps 15 bytes of a name. */
static bool is_called(int directory, const char *name)
{
	char text[NAME_MAX + 1];
	size_t length;

	length = read_short(directory, "comm", text, sizeof(text));
	if (strcmp(text, name) == 0)
		return true;
	if (length == 15 && strncmp(text, name, length) == 0) {
		/* What another user's program is called, its first argument tells. */
		read_short(directory, "cmdline", text, sizeof(text));
		if (strcmp(behind_slash(text), name) == 0)
			return true;
	}
	read_program(directory, text, sizeof(text));
	return strcmp(text, name) == 0;
}

static char *command_of(int directory, const char *name)
{
	char text[4096];
	const size_t length = read_short(directory, "cmdline", text, sizeof(text));

	/* An argument may be empty, the last one too. */
	for (size_t i = 0; i + 1 < length; i++)
		if (!text[i])
			text[i] = ' ';
	return checked(strdup(*text ? text : name));
}

static int by_pid(const void *one, const void *other)
{
	const struct found *a = one, *b = other;

	return (a->pid > b->pid) - (a->pid < b->pid);
}

static size_t processes_that(bool live, const char *proc, const char *name, struct found **found)
{
	DIR *entries = open_directory(AT_FDCWD, proc);
	struct dirent *entry;
	size_t count = 0;

	*found = NULL;
	while (entries && (entry = readdir(entries))) {
		struct status status;
		int directory;

		if (!is_number(entry->d_name) || strtol(entry->d_name, NULL, 10) == getpid())
			continue;
		directory =
			openat(dirfd(entries), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (directory < 0)
			continue;
		if (is_called(directory, name) && read_status(directory, &status) &&
		    status.has_memory == live) {
			*found = checked(reallocarray(*found, count + 1, sizeof(**found)));
			(*found)[count].pid = (pid_t)strtol(entry->d_name, NULL, 10);
			(*found)[count++].command = command_of(directory, name);
		}
		close(directory);
	}
	if (entries)
		closedir(entries);
	if (count)
		qsort(*found, count, sizeof(**found), by_pid);
	return count;
}

size_t processes_called(const char *proc, const char *name, struct found **found)
{
	const size_t count = processes_that(true, proc, name, found);

	return count ? count : processes_that(false, proc, name, found);
}

void found_free(struct found *found, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(found[i].command);
	free(found);
}

/* "36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue" */
static bool read_mount(char *line, struct mount *mount)
{
	char *rest, *device = NULL, *point = NULL, *word;
	size_t number = 0;

	for (word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		if (number == 2)
			device = word;
		if (number == 4)
			point = word;
		if (number++ > 5 && strcmp(word, "-") == 0)
			break;
	}
	mount->type = word ? strtok_r(NULL, " ", &rest) : NULL;
	if (!mount->type || !strtok_r(NULL, " ", &rest))
		return false;
	mount->options = strtok_r(NULL, "\n", &rest);
	mount->point = point;
	errno = 0;
	mount->major = (unsigned int)strtoul(device, &word, 10);
	if (*word != ':')
		return false;
	mount->minor = (unsigned int)strtoul(word + 1, &word, 10);
	return !*word && !errno && mount->options;
}

void process_mounts(const struct process *process, struct mounts *mounts)
{
	FILE *file = open_file(process->directory, "mountinfo");
	size_t room = 0;
	char *line = NULL;

	*mounts = (struct mounts){ 0 };
	while (file && getline(&line, &room, file) > 0) {
		struct mount mount;

		if (!read_mount(line, &mount))
			continue;
		mount.point = checked(strdup(mount.point));
		mount.type = checked(strdup(mount.type));
		mount.options = checked(strdup(mount.options));
		mounts->mounts = checked(
			reallocarray(mounts->mounts, mounts->count + 1, sizeof(*mounts->mounts)));
		mounts->mounts[mounts->count++] = mount;
	}
	free(line);
	if (file)
		fclose(file);
}

void mounts_free(struct mounts *mounts)
{
	for (size_t i = 0; i < mounts->count; i++) {
		free(mounts->mounts[i].point);
		free(mounts->mounts[i].type);
		free(mounts->mounts[i].options);
	}
	free(mounts->mounts);
	*mounts = (struct mounts){ 0 };
}

static void add_device(struct vfio_devices *devices, const char *name)
{
	for (size_t i = 0; i < devices->count; i++)
		if (strcmp(devices->names[i], name) == 0)
			return;
	devices->names =
		checked(reallocarray(devices->names, devices->count + 1, sizeof(*devices->names)));
	devices->names[devices->count++] = checked(strdup(name));
}

void vfio_devices_free(struct vfio_devices *devices)
{
	for (size_t i = 0; i < devices->count; i++)
		free(devices->names[i]);
	free(devices->names);
	*devices = (struct vfio_devices){ 0 };
}

/* A device's file names it by vfio-device-syspath, on the newest kernels. */
static void add_by_fdinfo(const struct process *process, const char *fd,
			  struct vfio_devices *devices)
{
	static const char key[] = "vfio-device-syspath:";
	char path[64 + NAME_MAX];
	size_t room = 0;
	char *line = NULL;
	FILE *file;

	snprintf(path, sizeof(path), "fdinfo/%s", fd);
	file = open_file(process->directory, path);
	while (file && getline(&line, &room, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (begins_with(line, key) && strchr(line, '/') && *behind_slash(line))
			add_device(devices, behind_slash(line));
	}
	free(line);
	if (file)
		fclose(file);
}

/* The devices of an IOMMU group that VFIO drives. */
static void add_group(const char *sys, const char *group, struct vfio_devices *devices)
{
	char path[PATH_MAX], driver[PATH_MAX];
	struct dirent *entry;
	DIR *entries;

	snprintf(path, sizeof(path), "%s/kernel/iommu_groups/%.32s/devices", sys, group);
	entries = open_directory(AT_FDCWD, path);
	while (entries && (entry = readdir(entries))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/driver", entry->d_name);
		read_link(dirfd(entries), path, driver, sizeof(driver));
		if (strstr(behind_slash(driver), "vfio"))
			add_device(devices, entry->d_name);
	}
	if (entries)
		closedir(entries);
}

/* "2", or "noiommu-2", of /dev/vfio/2; else NULL. */
static const char *group_of(const char *path)
{
	const char *group;

	if (!begins_with(path, "/dev/vfio/"))
		return NULL;
	group = path + strlen("/dev/vfio/");
	if (begins_with(group, "noiommu-"))
		group += strlen("noiommu-");
	return is_number(group) ? group : NULL;
}

static bool is_of(const struct mapping *mapping, int entries, const char *fd)
{
	struct stat file;

	return fstatat(entries, fd, &file, 0) == 0 && file.st_ino == mapping->inode &&
	       major(file.st_dev) == mapping->major && minor(file.st_dev) == mapping->minor;
}

/* By the descriptors of the process. */
static void add_opened(const struct process *process, const char *sys,
		       const struct mapping *mapping, struct vfio_devices *devices)
{
	DIR *entries = open_directory(process->directory, "fd");
	struct vfio_devices in_groups = { 0 };
	struct dirent *entry;

	while (entries && (entry = readdir(entries))) {
		char path[PATH_MAX];
		const char *group;

		read_link(dirfd(entries), entry->d_name, path, sizeof(path));
		group = group_of(path);
		if (group)
			add_group(sys, group, &in_groups);
		else if (strcmp(path, "anon_inode:[vfio-device]") == 0 &&
			 is_of(mapping, dirfd(entries), entry->d_name))
			add_by_fdinfo(process, entry->d_name, devices);
	}
	if (!devices->count)
		for (size_t i = 0; i < in_groups.count; i++)
			add_device(devices, in_groups.names[i]);
	vfio_devices_free(&in_groups);
	if (entries)
		closedir(entries);
}

/* Whether a device has that much of that BAR; true where sysfs does not say. */
static bool has_bar(const char *sys, const char *device, const struct mapping *mapping)
{
	const unsigned int region = VFIO_REGION(mapping->offset);
	unsigned long long start, end;
	char path[PATH_MAX];
	size_t room = 0;
	char *line = NULL;
	bool has = true;
	FILE *file;

	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/resource", sys, device);
	file = open_file(AT_FDCWD, path);
	for (unsigned int i = 0; file && i <= region; i++) {
		if (getline(&line, &room, file) <= 0)
			break;
		if (i == region && sscanf(line, "%llx %llx", &start, &end) == 2)
			has = end > start &&
			      end - start >= VFIO_OFFSET(mapping->offset) + mapping->length - 1;
	}
	free(line);
	if (file)
		fclose(file);
	return has;
}

/* Unless none would be left: drivers of VFIO may make regions up. */
static void keep_fitting(const char *sys, const struct mapping *mapping,
			 struct vfio_devices *devices)
{
	struct vfio_devices fitting = { 0 };

	/* Behind the ROM, 6, VFIO's indices are no longer those of sysfs. */
	if (VFIO_REGION(mapping->offset) > 6)
		return;
	for (size_t i = 0; i < devices->count; i++)
		if (has_bar(sys, devices->names[i], mapping))
			add_device(&fitting, devices->names[i]);
	if (!fitting.count)
		return;
	vfio_devices_free(devices);
	*devices = fitting;
}

static int by_name(const void *one, const void *other)
{
	return strcmp(*(char *const *)one, *(char *const *)other);
}

void process_vfio_devices(const struct process *process, const char *sys,
			  const struct mapping *mapping, struct vfio_devices *devices)
{
	static const char cdevs[] = "/dev/vfio/devices/";
	char path[PATH_MAX], device[PATH_MAX];

	*devices = (struct vfio_devices){ 0 };
	if (begins_with(mapping->name, cdevs)) {
		snprintf(path, sizeof(path), "%s/class/vfio-dev/%.*s/device", sys,
			 (int)strcspn(mapping->name + sizeof(cdevs) - 1, " /"),
			 mapping->name + sizeof(cdevs) - 1);
		read_link(AT_FDCWD, path, device, sizeof(device));
		if (*behind_slash(device))
			add_device(devices, behind_slash(device));
		return;
	}
	add_opened(process, sys, mapping, devices);
	keep_fitting(sys, mapping, devices);
	if (devices->count)
		qsort(devices->names, devices->count, sizeof(*devices->names), by_name);
}
