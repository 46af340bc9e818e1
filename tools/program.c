// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Follows a program as exec does (fs/exec.c, fs/binfmt_script.c, fs/binfmt_elf.c of Linux) and says
 * where the loader, which is who preloads, never comes to it or does not heed LD_PRELOAD.
 */
#include <byteswap.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <link.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "behind-slash.h"
#include "formatted.h"
#include "program.h"
#include "tool.h"

/* How much of a file exec looks at, and how many scripts may follow each other. */
enum { HEAD_LENGTH = 256, SCRIPTS_MAX = 5 };

/* Scripts for env(1) can follow each other for ever, each by a new exec. */
enum { ENV_MAX = 8 };

struct program {
	int fd;
	struct stat status;
	size_t filled; /* of head, which has a NUL behind that */
	_Alignas(ElfW(Ehdr)) char head[HEAD_LENGTH + 1];
};

struct identity {
	unsigned char class, encoding;
	unsigned int machine;
};

struct script {
	char interpreter[HEAD_LENGTH];
	char argument[HEAD_LENGTH]; /* "" if there is none */
};

static bool startable(const char *path)
{
	struct stat status;

	if (stat(path, &status))
		return false;
	if (!S_ISREG(status.st_mode)) {
		errno = S_ISDIR(status.st_mode) ? EISDIR : EACCES;
		return false;
	}
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

char *find_program(const char *command)
{
	char standard[64] = "";
	const char *folders = getenv("PATH");
	bool found = false;

	if (strchr(command, '/'))
		return startable(command) ? formatted("%s", command) : NULL;
	if (!folders) {
		confstr(_CS_PATH, standard, sizeof(standard));
		folders = standard;
	}
	for (; *command; folders++) {
		const int length = (int)strcspn(folders, ":");
		char *path =
			formatted("%.*s/%s", length ? length : 1, length ? folders : ".", command);

		if (startable(path))
			return path;
		found |= errno == EACCES || errno == EISDIR;
		free(path);
		folders += length;
		if (!*folders)
			break;
	}
	errno = found ? EACCES : ENOENT;
	return NULL;
}

/* False with errno. */
static bool open_program(const char *path, struct program *program)
{
	ssize_t filled;

	program->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (program->fd < 0)
		return false;
	filled = pread(program->fd, program->head, HEAD_LENGTH, 0);
	if (filled < 0 || fstat(program->fd, &program->status)) {
		close(program->fd);
		return false;
	}
	program->filled = (size_t)filled;
	program->head[filled] = '\0';
	return true;
}

static bool is_elf(const struct program *program)
{
	return program->filled >= SELFMAG && memcmp(program->head, ELFMAG, SELFMAG) == 0;
}

/* What is of other machines has the machine's number at the same place, in their byte order. */
static bool read_identity(const struct program *program, struct identity *identity)
{
	const ElfW(Ehdr) *header = (const void *)program->head;
	const unsigned char native = __BYTE_ORDER == __LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB;

	if (program->filled < offsetof(ElfW(Ehdr), e_machine) + sizeof(header->e_machine))
		return false;
	identity->class = header->e_ident[EI_CLASS];
	identity->encoding = header->e_ident[EI_DATA];
	identity->machine = identity->encoding == native ? header->e_machine
							 : bswap_16(header->e_machine);
	return true;
}

/* In words; with the byte order where that is in question. */
static char *identity_name(const struct identity *identity, bool with_order)
{
	static const struct {
		unsigned int machine;
		unsigned char class;
		const char *name;
	} names[] = {
		{ EM_386, ELFCLASS32, "32-bit x86" }, { EM_X86_64, ELFCLASS64, "x86-64" },
		{ EM_ARM, ELFCLASS32, "32-bit arm" }, { EM_AARCH64, ELFCLASS64, "arm64" },
		{ EM_RISCV, ELFCLASS64, "riscv64" },
	};
	const char *order = !with_order				? ""
			    : identity->encoding == ELFDATA2MSB ? ", big-endian"
								: ", little-endian";

	for (size_t i = 0; i < COUNT(names); i++)
		if (names[i].machine == identity->machine && names[i].class == identity->class)
			return formatted("%s%s", names[i].name, order);
	return formatted("ELF machine %u, %s-bit%s", identity->machine,
			 identity->class == ELFCLASS32 ? "32" : "64", order);
}

enum elf { DAMAGED, STATIC, SHARED, DYNAMIC };

/* Without a loader, a program and a library differ by a flag: static-pie has it. */
static bool is_pie(const struct program *program, const ElfW(Phdr) * dynamic)
{
	ElfW(Dyn) entry;

	for (ElfW(Xword) at = 0; at + sizeof(entry) <= dynamic->p_filesz; at += sizeof(entry)) {
		if (pread(program->fd, &entry, sizeof(entry), (off_t)(dynamic->p_offset + at)) !=
			    sizeof(entry) ||
		    entry.d_tag == DT_NULL)
			break;
		if (entry.d_tag == DT_FLAGS_1)
			return entry.d_un.d_val & DF_1_PIE;
	}
	return false;
}

/* Of a file that is known to be for this machine. @loader: its PT_INTERP. */
static enum elf read_loader(const struct program *program, char loader[PATH_MAX])
{
	const ElfW(Ehdr) *header = (const void *)program->head;
	enum elf elf = STATIC;
	ElfW(Phdr) segment;

	if (program->filled < sizeof(*header) || header->e_phentsize != sizeof(segment) ||
	    !header->e_phnum || header->e_phnum > 65536 / sizeof(segment) ||
	    (header->e_type != ET_EXEC && header->e_type != ET_DYN))
		return DAMAGED;
	for (unsigned int i = 0; i < header->e_phnum; i++) {
		ElfW(Off) at;

		if (__builtin_add_overflow(header->e_phoff, i * sizeof(segment), &at) ||
		    pread(program->fd, &segment, sizeof(segment), (off_t)at) != sizeof(segment))
			return DAMAGED;
		if (segment.p_type == PT_DYNAMIC && header->e_type == ET_DYN &&
		    !is_pie(program, &segment))
			elf = SHARED;
		if (segment.p_type != PT_INTERP)
			continue;
		if (segment.p_filesz < 2 || segment.p_filesz > PATH_MAX ||
		    pread(program->fd, loader, segment.p_filesz, (off_t)segment.p_offset) !=
			    (ssize_t)segment.p_filesz ||
		    loader[segment.p_filesz - 1])
			return DAMAGED;
		return DYNAMIC;
	}
	return elf;
}

/* This program's own: the library beside it is of the same kind. */
static const struct own {
	struct identity identity;
	char loader[PATH_MAX]; /* "" if it has none */
} * own_kind(void)
{
	static struct own own;
	struct program program;

	if (own.identity.class)
		return &own;
	if (!open_program("/proc/self/exe", &program))
		err(1, "cannot read /proc/self/exe");
	if (!read_identity(&program, &own.identity) || read_loader(&program, own.loader) != DYNAMIC)
		own.loader[0] = '\0';
	close(program.fd);
	return &own;
}

static struct obstacle foreign_obstacle(const struct identity *theirs)
{
	const struct identity *own = &own_kind()->identity;
	char *ours = identity_name(own, theirs->encoding != own->encoding);
	char *name = identity_name(theirs, theirs->encoding != own->encoding);
	struct obstacle obstacle = {
		formatted("is for %s, and this libalignmap for %s", name, ours),
		formatted("start it as it is, or by an alignmap that is built for %s", name),
	};

	free(ours);
	free(name);
	return obstacle;
}

static struct obstacle loader_obstacle(const char *loader)
{
	const char *ours = own_kind()->loader;
	char *shown = printable(loader);
	struct obstacle obstacle = { 0 };

	if (*ours && strcmp(behind_slash(loader), behind_slash(ours)) != 0) {
		obstacle.what = formatted("is loaded by %s, and this libalignmap is for %s", shown,
					  behind_slash(ours));
		obstacle.advice =
			formatted("start it by an alignmap that is built against its C library");
		obstacle.traceable = true;
	} else if (access(loader, F_OK)) {
		obstacle.what = formatted("wants to be loaded by %s, which cannot be had (%s)",
					  shown, strerror(errno));
		obstacle.advice = formatted("install the C library that it was built for");
		obstacle.broken = true;
	}
	free(shown);
	return obstacle;
}

/* `ld.so PROGRAM` has no loader but itself, and heeds LD_PRELOAD. */
static bool is_the_loader(const struct program *program)
{
	struct stat loader;

	return stat(own_kind()->loader, &loader) == 0 && loader.st_dev == program->status.st_dev &&
	       loader.st_ino == program->status.st_ino;
}

static struct obstacle elf_obstacle(const struct program *program)
{
	const struct identity *ours = &own_kind()->identity;
	char loader[PATH_MAX];
	struct identity theirs;
	enum elf elf = DAMAGED;

	if (read_identity(program, &theirs)) {
		if (theirs.class != ours->class || theirs.encoding != ours->encoding ||
		    theirs.machine != ours->machine)
			return foreign_obstacle(&theirs);
		elf = read_loader(program, loader);
	}
	switch (elf) {
	case DYNAMIC:
		return loader_obstacle(loader);
	case SHARED:
		if (is_the_loader(program))
			break;
		return (struct obstacle){
			formatted("is a shared object, and no program"),
			formatted("name a program that loads it"),
			true,
		};
	case STATIC:
		return (struct obstacle){
			formatted("is statically linked, so that no library can be preloaded"),
			formatted("link the library instead: alignmap(7)"),
			.traceable = true,
		};
	case DAMAGED:
		return (struct obstacle){
			formatted("is an ELF file, but no whole program"),
			formatted("see whether it was copied or built to its end"),
			true,
		};
	}
	return (struct obstacle){ 0 };
}

/*
 * What @id, of this user namespace, is in its parent; false if it is nothing there. Owners that are
 * not mapped are shown as the overflow id.
 */
static bool parent_id(const char *map, unsigned int id, unsigned int *outside)
{
	FILE *lines = fopen(map, "re");
	unsigned int first, parent, count;
	bool mapped = !lines; /* a kernel without user namespaces */

	*outside = id;
	while (!mapped && fscanf(lines, "%u %u %u", &first, &parent, &count) == 3) {
		mapped = id >= first && id - first < count;
		*outside = id - first + parent;
	}
	if (lines)
		fclose(lines);
	return mapped;
}

static bool honours_setid(const struct stat *status)
{
	unsigned int outside;

	return parent_id("/proc/self/uid_map", status->st_uid, &outside) &&
	       parent_id("/proc/self/gid_map", status->st_gid, &outside);
}

static uint32_t bounding_set(unsigned int word)
{
	uint32_t set = 0;

	for (unsigned int bit = 0; bit < 32; bit++)
		if (prctl(PR_CAPBSET_READ, 32 * word + bit, 0, 0, 0) == 1)
			set |= UINT32_C(1) << bit;
	return set;
}

/*
 * security/commoncap.c, get_file_caps(). getxattr() names a root only if it is not that of this
 * user namespace: then they are in force where it is the root of one above, of which we see the
 * parent.
 */
static bool gives_capabilities(const char *path, bool no_new_privileges)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct own[_LINUX_CAPABILITY_U32S_3] = { 0 };
	struct vfs_ns_cap_data file = { 0 };
	const ssize_t length = getxattr(path, "security.capability", &file, sizeof(file));
	unsigned int root;

	if (length < (ssize_t)sizeof(file.magic_etc) || syscall(SYS_capget, &header, own))
		return false;
	if (length == sizeof(file) &&
	    (!parent_id("/proc/self/uid_map", le32toh(file.rootid), &root) || root))
		return false;
	if (le32toh(file.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE)
		return true;
	for (unsigned int i = 0; i < VFS_CAP_U32; i++) {
		uint32_t given = (le32toh(file.data[i].permitted) & bounding_set(i)) |
				 (le32toh(file.data[i].inheritable) & own[i].inheritable);

		if (no_new_privileges ? given & own[i].permitted : given)
			return true;
	}
	return false;
}

static char *user_name(uid_t user)
{
	const struct passwd *entry = getpwuid(user);

	return entry ? formatted("%s", entry->pw_name) : formatted("'#%u'", user);
}

static char *group_name(gid_t group)
{
	const struct group *entry = getgrgid(group);

	return entry ? formatted("%s", entry->gr_name) : formatted("'#%u'", group);
}

static struct obstacle setid_obstacle(const char *how, const char *option, char *name)
{
	struct obstacle obstacle = {
		formatted("is started %s %s, and then the loader ignores LD_PRELOAD", how, name),
		strcmp(name, "root") == 0 && *option == 'u'
			? formatted("start it as that user: sudo alignmap run ...")
			: formatted("start it as that %s: sudo -%s %s alignmap run ...",
				    *option == 'u' ? "user" : "group", option, name),
	};

	free(name);
	return obstacle;
}

/* What makes the kernel set AT_SECURE: security/commoncap.c, cap_bprm_creds_from_file(). */
static struct obstacle secure_obstacle(const char *path)
{
	const bool no_new_privileges = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
	struct statvfs mount;
	struct stat status;

	if (stat(path, &status) || statvfs(path, &mount) || (mount.f_flag & ST_NOSUID))
		return (struct obstacle){ 0 };
	if (no_new_privileges || !honours_setid(&status))
		status.st_mode &= ~(S_ISUID | S_ISGID);
	if ((status.st_mode & S_ISUID) && status.st_uid != getuid())
		return setid_obstacle("setuid, as", "u", user_name(status.st_uid));
	/* Without the group's x it once meant mandatory locking. */
	if ((status.st_mode & S_ISGID) && (status.st_mode & S_IXGRP) && status.st_gid != getgid())
		return setid_obstacle("setgid, as", "g", group_name(status.st_gid));
	if (getuid() != 0 && gives_capabilities(path, no_new_privileges))
		return (struct obstacle){
			formatted("is started with capabilities of its own, and then the loader "
				  "ignores LD_PRELOAD"),
			formatted("start it as root: sudo alignmap run ..."),
		};
	return (struct obstacle){ 0 };
}

/* The same of whatever this process starts. */
static struct obstacle own_obstacle(void)
{
	if (geteuid() != getuid())
		return setid_obstacle("with another effective user,", "u", user_name(geteuid()));
	if (getegid() != getgid())
		return setid_obstacle("with another effective group,", "g", group_name(getegid()));
	return (struct obstacle){ 0 };
}

/* The first line as binfmt_script reads it. False: the kernel does not take it for a script. */
static bool read_script(const struct program *program, struct script *script)
{
	static const char blank[] = " \t";
	char line[HEAD_LENGTH + 1];
	size_t length;
	char *name;

	if (program->filled < 2 || memcmp(program->head, "#!", 2) != 0)
		return false;
	snprintf(line, sizeof(line), "%s", program->head + 2);
	name = line + strspn(line, blank);
	length = strcspn(name, " \t\n");
	/* A name that may go on behind what the kernel reads is not tried. */
	if (!length || name + length == line + HEAD_LENGTH - 2)
		return false;
	snprintf(script->interpreter, sizeof(script->interpreter), "%.*s", (int)length, name);
	name += length;
	name += strspn(name, blank);
	length = strcspn(name, "\n");
	while (length && strchr(blank, name[length - 1]))
		length--;
	snprintf(script->argument, sizeof(script->argument), "%.*s", (int)length, name);
	return true;
}

/*
 * What env(1) would start for the argument, which the kernel hands it as one word; in @argument.
 * NULL where that is not easily seen.
 */
static char *env_command(char *argument)
{
	if (strncmp(argument, "-S", 2) == 0) {
		argument += 2;
		argument += strspn(argument, " \t");
		argument[strcspn(argument, " \t")] = '\0';
		if (strpbrk(argument, "\\\"'$#"))
			return NULL;
	}
	return *argument && *argument != '-' && !strchr(argument, '=') ? argument : NULL;
}

/* A script has to be read by its interpreter, so this is none. */
static struct obstacle unseen_obstacle(const char *path, int why)
{
	struct obstacle obstacle = secure_obstacle(path);
	char *shown = printable(path);

	if (!obstacle.what)
		warnx("%s cannot be read (%s): whether anything can be preloaded is not known",
		      shown, strerror(why));
	free(shown);
	return obstacle;
}

static struct obstacle obstacle_of(const char *path, int scripts, int envs);

/* The same of the interpreter, as a clause of what is wrong with the script. */
static struct obstacle behind(const char *link, const char *path, struct obstacle obstacle)
{
	char *shown;

	if (obstacle.what) {
		char *inner = obstacle.what;

		shown = printable(path);
		obstacle.what = formatted("%s %s, which %s", link, shown, inner);
		free(shown);
		free(inner);
	}
	if (obstacle.what && !obstacle.broken) {
		free(obstacle.advice);
		obstacle.advice = formatted("write 'alignmap run' into the script, before the "
					    "program that is meant");
	}
	return obstacle;
}

static struct obstacle env_obstacle(struct script *script, int envs)
{
	char *command = strcmp(behind_slash(script->interpreter), "env") == 0
				? env_command(script->argument)
				: NULL;
	char *path = command ? find_program(command) : NULL;
	struct obstacle obstacle = { 0 };

	/* What is not found, env says. */
	if (path && envs < ENV_MAX)
		obstacle = behind("is, by env, a script for", path, obstacle_of(path, 0, envs + 1));
	free(path);
	return obstacle;
}

static struct obstacle script_obstacle(struct script *script, int scripts, int envs)
{
	struct obstacle obstacle;

	if (scripts > SCRIPTS_MAX)
		return (struct obstacle){
			formatted("is a script, too, one more in a row than Linux follows"),
			formatted("let the first line of the first script name a program"),
			true,
		};
	if (!startable(script->interpreter)) {
		char *shown = printable(script->interpreter);
		char *what = formatted("is a script for %s, which cannot be started (%s)", shown,
				       strerror(errno));

		free(shown);
		return (struct obstacle){
			what,
			formatted("install that, or name another in the script's first line"),
			true,
		};
	}
	obstacle = behind("is a script for", script->interpreter,
			  obstacle_of(script->interpreter, scripts, envs));
	return obstacle.what ? obstacle : env_obstacle(script, envs);
}

/* @scripts, @envs: how many led to it by the same exec, and by one of env's. */
static struct obstacle obstacle_of(const char *path, int scripts, int envs)
{
	struct obstacle obstacle, secure;
	struct program program;
	struct script script;

	if (!open_program(path, &program))
		return unseen_obstacle(path, errno);
	if (is_elf(&program)) {
		obstacle = elf_obstacle(&program);
		/* A traced program gains no privileges. */
		secure = obstacle.what && !obstacle.traceable ? obstacle : secure_obstacle(path);
		if (secure.what && secure.what != obstacle.what) {
			free(obstacle.what);
			free(obstacle.advice);
			obstacle = secure;
		}
	} else if (read_script(&program, &script)) {
		obstacle = script_obstacle(&script, scripts + 1, envs);
	} else {
		obstacle = (struct obstacle){ 0 };
	}
	close(program.fd);
	return obstacle;
}

static bool gives_privileges(const char *path)
{
	struct stat status;

	/* What is not there is not started. */
	if (stat(path, &status))
		return errno != ENOENT && errno != ENOTDIR;
	return status.st_mode & S_ISUID ||
	       ((status.st_mode & S_ISGID) && (status.st_mode & S_IXGRP)) ||
	       getxattr(path, "security.capability", NULL, 0) >= 0;
}

bool may_gain_privileges(const char *root, const char *path)
{
	char *file = formatted("%s", path);
	bool gives = false, follows = true;

	for (int scripts = 0; scripts <= SCRIPTS_MAX && follows && !gives; scripts++) {
		struct program program;
		struct script script;

		gives = gives_privileges(file);
		follows = open_program(file, &program);
		free(file);
		file = NULL;
		if (!follows)
			break;
		follows = read_script(&program, &script);
		close(program.fd);
		if (follows)
			file = formatted("%s%s", root, script.interpreter);
	}
	free(file);
	return gives;
}

struct obstacle preload_obstacle(const char *path)
{
	const struct obstacle obstacle = own_obstacle();

	return obstacle.what ? obstacle : obstacle_of(path, 0, 0);
}
