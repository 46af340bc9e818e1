// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Everything that sysfs and /proc say may be missing, odd, or vanish meanwhile. */
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "formatted.h"

#define PCI_DEVICES "/sys/bus/pci/devices"
#define GIB (1ULL << 30)

/* The flags of a line of sysfs' "resource" file: include/linux/ioport.h of the kernel. */
#define RESOURCE_IO 0x100
#define RESOURCE_MEM 0x200

/* How its owner turns an IOMMU on; elsewhere Linux uses what the firmware tells of. */
#if defined(__x86_64__) || defined(__i386__)
#define TURN_ON "in the firmware and by intel_iommu=on (amd_iommu is on by default)"
#else
#define TURN_ON "in the firmware"
#endif

struct name {
	char text[NAME_MAX + 1];
};

/* The last component of what a symbolic link says; false if there is none. */
__attribute__((format(printf, 2, 3))) static bool link_name(struct name *name, const char *format,
							    ...)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *slash;
	va_list arguments;
	ssize_t length;

	va_start(arguments, format);
	vsnprintf(path, sizeof(path), format, arguments);
	va_end(arguments);
	length = readlink(path, target, sizeof(target) - 1);
	if (length <= 0)
		return false;
	target[length] = '\0';
	slash = strrchr(target, '/');
	snprintf(name->text, sizeof(name->text), "%.*s", NAME_MAX, slash ? slash + 1 : target);
	return name->text[0] != '\0';
}

/* The name of the first entry of a folder that begins with @prefix. */
static bool first_entry(struct name *name, const char *path, const char *prefix)
{
	DIR *folder = opendir(path);
	const struct dirent *entry;
	bool found = false;

	while (folder && !found && (entry = readdir(folder))) {
		found = strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
		if (found)
			snprintf(name->text, sizeof(name->text), "%s", entry->d_name);
	}
	if (folder)
		closedir(folder);
	return found;
}

bool device_name(struct device *device, const char *name)
{
	unsigned int domain = 0, bus, slot, function;
	int end = -1;

	/* A space or a sign, which %x takes, makes the name another than is expected. */
	if (name[strspn(name, "0123456789abcdefABCDEF:.")] == '\0') {
		sscanf(name, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end);
		if (end < 0) {
			domain = 0;
			sscanf(name, "%2x:%2x.%1x%n", &bus, &slot, &function, &end);
		}
	}
	if (end < 0 || name[end] || slot > 31 || function > 7)
		return false;
	snprintf(device->bdf, sizeof(device->bdf), "%04x:%02x:%02x.%x", domain, bus, slot,
		 function);
	return true;
}

char *device_find(struct device *device, const char *name)
{
	char path[64] = "";

	if (device_name(device, name))
		snprintf(path, sizeof(path), PCI_DEVICES "/%s", device->bdf);
	if (access(path, F_OK))
		return formatted("there is no such PCI device here; 'lspci -D' lists them");
	return NULL;
}

/* Variant drivers of vfio-pci, as mlx5_vfio_pci, are as good. */
static bool is_vfio(const struct name *driver)
{
	return strstr(driver->text, "vfio") != NULL;
}

/* NTBs and NVSwitches, which can be passed through, are bridges of the kind "other", 0680. */
static bool is_chipset(const struct device *device)
{
	unsigned int class = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/class", device->bdf);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%8x", &class) != 1)
		class = 0;
	if (file)
		fclose(file);
	return class >> 16 == 0x06 && (class >> 8 & 0xff) != 0x80;
}

static char *check_driver(const struct device *device, struct name *group)
{
	static const char remedy[] =
		"bind it to vfio-pci, which takes it from the host: driverctl set-override";
	struct name driver;

	if (is_chipset(device))
		return formatted("it is a bridge (PCI class 06), which cannot be passed through");
	if (!link_name(group, PCI_DEVICES "/%s/iommu_group", device->bdf) ||
	    group->text[strspn(group->text, "0123456789")])
		return formatted("it has no IOMMU group: turn the IOMMU on, " TURN_ON);
	if (!link_name(&driver, PCI_DEVICES "/%s/driver", device->bdf))
		return formatted("it is bound to no driver; %s %s vfio-pci", remedy, device->bdf);
	if (!is_vfio(&driver))
		return formatted("it is bound to the driver %s; %s %s vfio-pci", driver.text,
				 remedy, device->bdf);
	return NULL;
}

/* Whether a process has a file open whose name is one of the two. */
static bool holds(const char *pid, const char *group_path, const char *cdev_path)
{
	char folder[64], target[PATH_MAX];
	const struct dirent *entry;
	bool found = false;
	DIR *files;

	snprintf(folder, sizeof(folder), "/proc/%.20s/fd", pid);
	files = opendir(folder);
	while (files && !found && (entry = readdir(files))) {
		ssize_t length =
			readlinkat(dirfd(files), entry->d_name, target, sizeof(target) - 1);

		if (length <= 0)
			continue;
		target[length] = '\0';
		found = strcmp(target, group_path) == 0 || strcmp(target, cdev_path) == 0;
	}
	if (files)
		closedir(files);
	return found;
}

/* "qemu-system-x86 (PID 123)", or NULL where it cannot be seen. */
static char *find_holder(const struct device *device, const char *group_path)
{
	char path[PATH_MAX], cdev_path[PATH_MAX] = "", comm[32] = "";
	DIR *processes = opendir("/proc");
	const struct dirent *entry;
	struct name cdev;
	char *holder = NULL;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/vfio-dev", device->bdf);
	if (first_entry(&cdev, path, "vfio"))
		snprintf(cdev_path, sizeof(cdev_path), "/dev/vfio/devices/%s", cdev.text);
	while (processes && !holder && (entry = readdir(processes))) {
		FILE *file;

		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    !holds(entry->d_name, group_path, cdev_path))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/comm", entry->d_name);
		file = fopen(path, "re");
		if (!file || !fgets(comm, sizeof(comm), file))
			snprintf(comm, sizeof(comm), "a program");
		if (file)
			fclose(file);
		comm[strcspn(comm, "\n")] = '\0';
		/* Anybody may have put anything into it. */
		for (char *at = comm; *at; at++)
			if (*at < ' ' || *at > '~')
				*at = '?';
		holder = formatted("%s (PID %.20s)", comm, entry->d_name);
	}
	if (processes)
		closedir(processes);
	return holder;
}

static char *why_no_group(const struct device *device, const char *number, const char *path)
{
	char other[PATH_MAX];
	struct name cdev;
	char *holder, *why;

	switch (errno) {
	case EBUSY:
		holder = find_holder(device, path);
		why = formatted("its IOMMU group %s is in use by %s; end that first", number,
				holder ? holder : "a program that only root can see");
		free(holder);
		return why;
	case EACCES:
	case EPERM:
		return formatted("no permission to open %s: be root, or have its owner changed",
				 path);
	case ENOENT:
		snprintf(other, sizeof(other), "/dev/vfio/noiommu-%.20s", number);
		if (access(other, F_OK) == 0)
			return formatted(
				"VFIO has it without an IOMMU (%s), which maps nothing for "
				"DMA: turn the IOMMU on",
				other);
		snprintf(other, sizeof(other), PCI_DEVICES "/%s/vfio-dev", device->bdf);
		if (first_entry(&cdev, other, "vfio"))
			return formatted("there is only its cdev (%s) and no %s: iommufd refuses "
					 "BARs for DMA, so that their faults cannot be taken "
					 "without touching registers; that needs a kernel with "
					 "VFIO's groups (CONFIG_VFIO_GROUP)",
					 cdev.text, path);
		return formatted("there is no %s: is the module vfio loaded, and /dev that of the "
				 "host?",
				 path);
	default:
		return formatted("cannot open %s: %s", path, strerror(errno));
	}
}

/* The other devices of the group that have drivers which keep it from VFIO; NULL if none is seen.
 */
static char *find_others(const struct device *device)
{
	char path[PATH_MAX];
	const struct dirent *entry;
	char *others = NULL;
	struct name driver;
	DIR *folder;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/iommu_group/devices", device->bdf);
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		char *longer;

		if (strcmp(entry->d_name, device->bdf) == 0 ||
		    !link_name(&driver, "%s/%s/driver", path, entry->d_name) || is_vfio(&driver) ||
		    strcmp(driver.text, "pcieport") == 0 || strcmp(driver.text, "pci-stub") == 0)
			continue;
		longer = formatted("%s%s%s (%s)", others ? others : "", others ? ", " : "",
				   entry->d_name, driver.text);
		free(others);
		others = longer;
	}
	if (folder)
		closedir(folder);
	return others;
}

static char *open_group(struct device *device, const char *number)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char path[PATH_MAX], *others, *why;

	snprintf(path, sizeof(path), "/dev/vfio/%s", number);
	device->group = open(path, O_RDWR | O_CLOEXEC);
	if (device->group < 0)
		return why_no_group(device, number, path);
	if (ioctl(device->group, VFIO_GROUP_GET_STATUS, &status) < 0)
		return formatted("%s is no VFIO group: %s", path, strerror(errno));
	if (status.flags & VFIO_GROUP_FLAGS_VIABLE)
		return NULL;
	others = find_others(device);
	why = formatted(
		"others of its IOMMU group %s are not bound to vfio-pci: %s; bind them too, "
		"as by driverctl set-override",
		number, others ? others : "see dmesg");
	free(others);
	return why;
}

static char *open_container(struct device *device)
{
	device->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (device->container < 0)
		return formatted("cannot open /dev/vfio/vfio: %s%s", strerror(errno),
				 errno == EACCES ? "; be root, or have its owner changed"
						 : "; modprobe vfio");
	if (ioctl(device->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0)
		return formatted("VFIO has no IOMMU of type 1; modprobe vfio_iommu_type1");
	if (ioctl(device->group, VFIO_GROUP_SET_CONTAINER, &device->container) < 0)
		return formatted("its group takes no container: %s; dmesg may say why",
				 strerror(errno));
	if (ioctl(device->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		return formatted("the IOMMU refuses it: %s; dmesg says why (without interrupt "
				 "remapping, vfio_iommu_type1 wants allow_unsafe_interrupts=1)",
				 strerror(errno));
	return NULL;
}

char *device_open(struct device *device, const char *name)
{
	struct name group;
	char *why;

	*device = (struct device){ .fd = -1, .container = -1, .group = -1 };
	why = device_find(device, name);
	if (!why)
		why = check_driver(device, &group);
	if (!why)
		why = open_group(device, group.text);
	if (!why)
		why = open_container(device);
	if (!why) {
		device->fd = ioctl(device->group, VFIO_GROUP_GET_DEVICE_FD, device->bdf);
		if (device->fd < 0)
			why = formatted("VFIO cannot open it: %s; dmesg may say why",
					strerror(errno));
	}
	if (why)
		device_close(device);
	return why;
}

void device_close(struct device *device)
{
	if (device->fd >= 0)
		close(device->fd);
	if (device->group >= 0)
		close(device->group);
	if (device->container >= 0)
		close(device->container);
	device->fd = device->group = device->container = -1;
}

bool device_region(const struct device *device, unsigned int index, struct vfio_region_info *region)
{
	*region = (struct vfio_region_info){ .argsz = sizeof(*region), .index = index };
	return ioctl(device->fd, VFIO_DEVICE_GET_REGION_INFO, region) == 0;
}

struct bar device_bar(const struct device *device, unsigned int number)
{
	struct bar bar = { .number = number };
	struct vfio_region_info region;

	if (device_region(device, number, &region) && region.flags & VFIO_REGION_INFO_FLAG_MMAP) {
		bar.offset = region.offset;
		bar.length = region.size;
	}
	return bar;
}

struct bar device_longest_bar(const struct device *device)
{
	struct bar longest = { 0 };

	for (unsigned int number = 0; number < DEVICE_BARS; number++) {
		struct bar bar = device_bar(device, number);

		if (bar.length > longest.length)
			longest = bar;
	}
	return longest;
}

const char *device_bar_refusal(const struct device *device, unsigned int number)
{
	uint64_t flags = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/resource", device->bdf);
	file = fopen(path, "re");
	for (unsigned int line = 0; file && line <= number; line++)
		if (fscanf(file, "%*x %*x %" SCNx64, &flags) != 1)
			flags = 0;
	if (file)
		fclose(file);
	if (flags & RESOURCE_IO)
		return "has I/O ports, which are not mapped";
	if (flags & RESOURCE_MEM)
		return "is memory that vfio-pci does not let be mapped";
	return "is absent";
}

double device_clock(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* What VFIO_IOMMU_GET_INFO tells, with room for some hundred ranges. */
union iommu {
	struct vfio_iommu_type1_info head;
	struct vfio_info_cap_header align;
	char bytes[8192];
};

/* The ranges of IOVAs that the IOMMU takes; NULL where the kernel does not tell, before 5.4. */
static const struct vfio_iommu_type1_info_cap_iova_range *iova_ranges(const struct device *device,
								      union iommu *iommu)
{
	size_t steps = 16, room;

	memset(iommu, 0, sizeof(*iommu));
	iommu->head.argsz = sizeof(*iommu);
	if (ioctl(device->container, VFIO_IOMMU_GET_INFO, iommu) < 0 ||
	    !(iommu->head.flags & VFIO_IOMMU_INFO_CAPS))
		return NULL;
	for (size_t at = iommu->head.cap_offset; at && steps--;) {
		const struct vfio_iommu_type1_info_cap_iova_range *ranges =
			(const void *)(iommu->bytes + at);

		if (at % 8 || at > sizeof(*iommu) - sizeof(*ranges))
			return NULL;
		room = (sizeof(*iommu) - at - sizeof(*ranges)) / sizeof(ranges->iova_ranges[0]);
		if (ranges->header.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
			return ranges->nr_iovas <= room ? ranges : NULL;
		at = ranges->header.next;
	}
	return NULL;
}

/* From 64 GiB up if possible: a small IOMMU ends at 512 GiB, and lower there are holes. */
static bool find_iova(const struct device *device, uint64_t length, uint64_t phase, uint64_t *iova)
{
	static const uint64_t from[] = { 64 * GIB, 0 };
	const struct vfio_iommu_type1_info_cap_iova_range *ranges;
	union iommu iommu;

	ranges = iova_ranges(device, &iommu);
	*iova = from[0] + phase;
	for (size_t i = 0; ranges && i < sizeof(from) / sizeof(from[0]); i++)
		for (uint32_t j = 0; j < ranges->nr_iovas; j++) {
			const struct vfio_iova_range *range = &ranges->iova_ranges[j];
			uint64_t start = range->start > from[i] ? range->start : from[i];

			*iova = ((start + GIB - 1) & ~(GIB - 1)) + phase;
			if (*iova >= start && *iova <= range->end &&
			    range->end - *iova >= length - 1)
				return true;
		}
	return !ranges;
}

static char *why_no_dma(size_t length)
{
	if (errno == EFAULT)
		return formatted("this container refuses BARs for DMA, as iommufd's does: their "
				 "faults cannot be taken without touching registers; that needs "
				 "VFIO's own container (CONFIG_VFIO_CONTAINER, vfio_iommu_type1)");
	if (errno == ENOMEM || errno == EPERM)
		return formatted("VFIO_IOMMU_MAP_DMA of %zu bytes: %s; free memory, or raise the "
				 "limit of locked memory (ulimit -l)",
				 length, strerror(errno));
	return formatted("VFIO_IOMMU_MAP_DMA of %zu bytes: %s; dmesg may say why", length,
			 strerror(errno));
}

/* ru_minflt counts the faults that the kernel takes on the process's behalf in the ioctl. */
char *device_map_for_dma(const struct device *device, void *address, size_t length, uint64_t offset,
			 struct dma_map *dma)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)address,
		.size = length,
	};
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .size = length };
	struct rusage before, after;
	uint64_t iova;
	double start;

	if (!find_iova(device, length, offset & (GIB - 1), &iova))
		return formatted("the IOMMU has no range of %zu bytes for it; ask for less by "
				 "--length",
				 length);
	map.iova = unmap.iova = iova;
	getrusage(RUSAGE_SELF, &before);
	start = device_clock();
	if (ioctl(device->container, VFIO_IOMMU_MAP_DMA, &map) < 0)
		return why_no_dma(length);
	dma->seconds = device_clock() - start;
	getrusage(RUSAGE_SELF, &after);
	dma->faults = (size_t)(after.ru_minflt - before.ru_minflt);
	if (ioctl(device->container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0)
		return formatted("VFIO_IOMMU_UNMAP_DMA: %s; dmesg may say why", strerror(errno));
	return NULL;
}
