// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A stand-in, made up because no kernel of the lab has a VFIO cdev: preloaded under examples/vmm.c
 * it plays /dev/vfio/devices/vfioN and /dev/iommu, out of memfds, as far as that program asks.
 *
 * The folder MADE_UP stands for the root of what is below /sys/bus/pci and of /dev: a file in there
 * decides what exists. What is asked of the devices goes to the file "log" in it. What no kernel
 * would answer is refused, so that the order of calls is proved; what is mapped is read in
 * /proc/self/maps. A group can be opened, and is not viable.
 *
 * It wants the headers of Linux 6.6 or newer (tests/lab/fetch headers).
 *
 * MADE_UP_DMA=1     the IOMMU takes device memory, and touches it; without, EFAULT as Linux says
 * MADE_UP_LOOP=1    the list of capabilities has no MSI-X and loops
 * MADE_UP_RESET=0   the device cannot be reset
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPACE = 7, ENTRIES = 64 };

int access(const char *path, int mode);
int close(int fd);
int glob(const char *pattern, int flags, int (*failed)(const char *, int), glob_t *found);
int ioctl(int fd, unsigned long command, ...);
int open(const char *path, int flags, ...);
ssize_t readlink(const char *restrict path, char *restrict target, size_t room);

static int device = -1, iommu = -1, group = -1;
static bool bound, allocated, attached;
static uint64_t held_before;
static struct {
	uint64_t iova;
	uint64_t length;
} entries[ENTRIES];
static unsigned int entry_count;

static bool asked(const char *name, char what)
{
	const char *value = getenv(name);

	return value && value[0] == what;
}

__attribute__((format(printf, 1, 2))) static void record(const char *format, ...)
{
	char path[PATH_MAX];
	va_list arguments;
	FILE *file;

	snprintf(path, sizeof(path), "%s/log", getenv("MADE_UP"));
	file = fopen(path, "a");
	if (!file)
		abort();
	va_start(arguments, format);
	vfprintf(file, format, arguments);
	va_end(arguments);
	fputc('\n', file);
	fclose(file);
}

static const char *redirect(const char *path, char elsewhere[PATH_MAX])
{
	if (strncmp(path, "/sys/bus/pci/", 13) && strncmp(path, "/dev/vfio", 9) &&
	    strcmp(path, "/dev/iommu"))
		return path;
	snprintf(elsewhere, PATH_MAX, "%s%s", getenv("MADE_UP"), path);
	return elsewhere;
}

/* What the process has mapped of the device, and what it holds without access, in bytes. */
struct mapped {
	uint64_t device;
	uint64_t held;
	uint64_t offset; /* of the address that was asked about, in the device */
	uint64_t rest;	 /* of its mapping */
	char rights[5];
};

static struct mapped look(uint64_t address)
{
	struct mapped mapped = { .rest = 0 };
	char line[PATH_MAX + 100], rights[5];
	uint64_t start, end, offset, inode;
	FILE *file = fopen("/proc/self/maps", "r");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %" SCNu64, &start,
			   &end, rights, &offset, &inode) != 5)
			abort();
		if (strstr(line, "/memfd:made-up-device")) {
			mapped.device += end - start;
			if (address >= start && address < end) {
				mapped.offset = offset + address - start;
				mapped.rest = end - address;
				memcpy(mapped.rights, rights, sizeof(rights));
			}
		} else if (!inode && strcmp(rights, "---p") == 0) {
			mapped.held += end - start;
		}
	}
	fclose(file);
	return mapped;
}

/* PCI's is little-endian, as are the hosts that this runs on. */
static void write_config(uint64_t offset, uint32_t value, size_t length)
{
	if (pwrite(device, &value, length,
		   (off_t)(((uint64_t)VFIO_PCI_CONFIG_REGION_INDEX << 40) + offset)) !=
	    (ssize_t)length)
		abort();
}

/* 257 vectors: two pages of MSI-X table at 0x3000 of BAR 0, a page of PBA at 0x301000. */
static void make_device(void)
{
	const bool loop = asked("MADE_UP_LOOP", '1');

	device = memfd_create("made-up-device", MFD_CLOEXEC);
	if (device < 0 || ftruncate(device, (off_t)VFIO_PCI_NUM_REGIONS << 40))
		abort();
	write_config(PCI_STATUS, PCI_STATUS_CAP_LIST, 2);
	write_config(PCI_CAPABILITY_LIST, 0x40, 1);
	write_config(0x40, PCI_CAP_ID_PM | (loop ? 0x40 : 0x60) << 8, 2);
	write_config(0x60, PCI_CAP_ID_MSIX | (257 - 1) << 16, 4);
	write_config(0x60 + PCI_MSIX_TABLE, 0x3000 | 0, 4);
	write_config(0x60 + PCI_MSIX_PBA, 0x301000 | 0, 4);
	held_before = look(0).held;
}

/* BAR 0 with MSI-X, BAR 2 with holes of the kernel's own, I/O ports, a read-only BAR of 256 bytes.
 */
static int region_info(struct vfio_region_info *region)
{
	static const struct vfio_region_info_cap_sparse_mmap sparse = {
		.header = { VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0 },
		.nr_areas = 3,
	};
	static const struct vfio_region_sparse_mmap_area areas[] = {
		{ 0xfff000, 0x1000 },
		{ 0, 0x201000 },
		{ 0x400000, 0x200000 },
	};
	static const uint64_t lengths[] = { 4 << 20, 0, 16 << 20, 0, 0x40, 0x100, 0, 256 };
	const uint32_t memory = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_MMAP;
	const uint32_t room = region->argsz;

	if (room < sizeof(*region) || region->index >= sizeof(lengths) / sizeof(lengths[0])) {
		errno = EINVAL;
		return -1;
	}
	region->argsz = sizeof(*region);
	region->size = lengths[region->index];
	region->offset = (uint64_t)region->index << 40;
	region->cap_offset = 0;
	region->flags = region->size ? VFIO_REGION_INFO_FLAG_READ : 0;
	if (region->index == 5)
		region->flags = memory;
	else if (region->index == 0 || region->index == 2)
		region->flags = memory | VFIO_REGION_INFO_FLAG_WRITE;
	if (region->index == 2) {
		region->flags |= VFIO_REGION_INFO_FLAG_CAPS;
		region->argsz += sizeof(sparse) + sizeof(areas);
		if (room >= region->argsz) {
			region->cap_offset = sizeof(*region);
			memcpy(region + 1, &sparse, sizeof(sparse));
			memcpy((char *)(region + 1) + sizeof(sparse), areas, sizeof(areas));
		}
	}
	return 0;
}

static int map(const struct iommu_ioas_map *request)
{
	const struct mapped mapped = look(request->user_va);
	struct rusage before, after;

	if (!allocated || request->size != sizeof(*request) || request->ioas_id != SPACE ||
	    !(request->flags & IOMMU_IOAS_MAP_FIXED_IOVA) || !mapped.rest ||
	    request->length > mapped.rest || entry_count == ENTRIES) {
		record("a wrong map");
		errno = EINVAL;
		return -1;
	}
	getrusage(RUSAGE_SELF, &before);
	for (uint64_t i = 0; asked("MADE_UP_DMA", '1') && i < request->length; i += 4096)
		(void)*(volatile char *)(uintptr_t)(request->user_va + i);
	getrusage(RUSAGE_SELF, &after);
	record("map region %" PRIu64 " offset %#" PRIx64 " length %#" PRIx64
	       " %s%s %s iova %#" PRIx64 " away %#" PRIx64 " faults %ld",
	       (uint64_t)(mapped.offset >> 40), (uint64_t)(mapped.offset & ((1ULL << 40) - 1)),
	       (uint64_t)request->length, request->flags & IOMMU_IOAS_MAP_READABLE ? "r" : "-",
	       request->flags & IOMMU_IOAS_MAP_WRITEABLE ? "w" : "-", mapped.rights,
	       (uint64_t)request->iova,
	       (uint64_t)((request->user_va - mapped.offset) & ((2 << 20) - 1)),
	       after.ru_minflt - before.ru_minflt);
	if (!asked("MADE_UP_DMA", '1')) {
		errno = EFAULT;
		return -1;
	}
	entries[entry_count].iova = request->iova;
	entries[entry_count++].length = request->length;
	return 0;
}

static int unmap(struct iommu_ioas_unmap *request)
{
	unsigned int kept = 0, gone;

	for (unsigned int i = 0; i < entry_count; i++)
		if (entries[i].iova < request->iova ||
		    entries[i].iova + entries[i].length > request->iova + request->length)
			entries[kept++] = entries[i];
	gone = entry_count - kept;
	entry_count = kept;
	record("unmap iova %#" PRIx64 " length %#" PRIx64 ": %u", (uint64_t)request->iova,
	       (uint64_t)request->length, gone);
	if (gone)
		return 0;
	errno = ENOENT;
	return -1;
}

static int iommu_ioctl(unsigned long command, void *argument)
{
	switch (command) {
	case IOMMU_IOAS_ALLOC:
		record("alloc");
		((struct iommu_ioas_alloc *)argument)->out_ioas_id = SPACE;
		allocated = true;
		return 0;
	case IOMMU_IOAS_MAP:
		return map(argument);
	case IOMMU_IOAS_UNMAP:
		return unmap(argument);
	}
	errno = ENOTTY;
	return -1;
}

static int bind(const struct vfio_device_bind_iommufd *request)
{
	if (bound || request->argsz < sizeof(*request) || request->flags ||
	    request->iommufd != iommu) {
		errno = EINVAL;
		return -1;
	}
	record("bind");
	bound = true;
	return 0;
}

static int attach(const struct vfio_device_attach_iommufd_pt *request)
{
	if (request->argsz < sizeof(*request) || request->flags || !allocated ||
	    request->pt_id != SPACE) {
		errno = EINVAL;
		return -1;
	}
	record("attach");
	attached = true;
	return 0;
}

static int device_ioctl(unsigned long command, void *argument)
{
	struct vfio_device_info *about = argument;
	struct mapped mapped;

	if (command == VFIO_DEVICE_BIND_IOMMUFD)
		return bind(argument);
	/* So does Linux until then. */
	if (!bound) {
		errno = EINVAL;
		return -1;
	}
	switch (command) {
	case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
		return attach(argument);
	case VFIO_DEVICE_GET_REGION_INFO:
		return region_info(argument);
	case VFIO_DEVICE_GET_INFO:
		about->flags = VFIO_DEVICE_FLAGS_PCI;
		if (!asked("MADE_UP_RESET", '0'))
			about->flags |= VFIO_DEVICE_FLAGS_RESET;
		return 0;
	case VFIO_DEVICE_RESET:
		mapped = look(0);
		record("reset%s, mapped %#" PRIx64 ", held %#" PRIx64 ", iommu %u",
		       attached ? "" : " without an attachment", mapped.device,
		       mapped.held - held_before, entry_count);
		return 0;
	}
	errno = ENOTTY;
	return -1;
}

int ioctl(int fd, unsigned long command, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (fd >= 0 && fd == device)
		return device_ioctl(command, argument);
	if (fd >= 0 && fd == iommu)
		return iommu_ioctl(command, argument);
	if (fd >= 0 && fd == group && command == VFIO_GROUP_GET_STATUS) {
		((struct vfio_group_status *)argument)->flags = 0;
		return 0;
	}
	return (int)syscall(SYS_ioctl, fd, command, argument);
}

int open(const char *path, int flags, ...)
{
	char elsewhere[PATH_MAX];
	const char *name = redirect(path, elsewhere);
	va_list arguments;
	int mode, fd;

	va_start(arguments, flags);
	mode = flags & O_CREAT ? va_arg(arguments, int) : 0;
	va_end(arguments);
	fd = (int)syscall(SYS_openat, AT_FDCWD, name, flags, mode);
	if (fd < 0 || name == path)
		return fd;
	record("open %s", path);
	if (strncmp(path, "/dev/vfio/devices/", 18) == 0) {
		syscall(SYS_close, fd);
		make_device();
		return device;
	}
	if (strcmp(path, "/dev/iommu") == 0)
		iommu = fd;
	else
		group = fd;
	return fd;
}

int close(int fd)
{
	struct mapped mapped;

	if (fd >= 0 && fd == device) {
		mapped = look(0);
		record("close device, mapped %#" PRIx64 ", held %#" PRIx64 ", iommu %u",
		       mapped.device, mapped.held - held_before, entry_count);
		device = -1;
	} else if (fd >= 0 && fd == iommu) {
		record("close iommu");
		iommu = -1;
	}
	return (int)syscall(SYS_close, fd);
}

int access(const char *path, int mode)
{
	char elsewhere[PATH_MAX];

	return (int)syscall(SYS_faccessat, AT_FDCWD, redirect(path, elsewhere), mode);
}

ssize_t readlink(const char *restrict path, char *restrict target, size_t room)
{
	char elsewhere[PATH_MAX];

	return syscall(SYS_readlinkat, AT_FDCWD, redirect(path, elsewhere), target, room);
}

int glob(const char *pattern, int flags, int (*failed)(const char *, int), glob_t *found)
{
	int (*next)(const char *, int, int (*)(const char *, int), glob_t *) =
		dlsym(RTLD_NEXT, "glob");
	char elsewhere[PATH_MAX];

	return next(redirect(pattern, elsewhere), flags, failed, found);
}
