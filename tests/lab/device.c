// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
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

struct alignmap_leaves leaves;

void die(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	fflush(stdout);
	va_start(arguments, format);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, format, arguments);
	fprintf(stderr, ": %s\n", strerror(error));
	va_end(arguments);
	exit(1);
}

size_t base_page(void)
{
	return leaves.size[leaves.count - 1];
}

size_t page_align(size_t length)
{
	return (length + base_page() - 1) & ~(base_page() - 1);
}

static int open_group(const char *bdf)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char link[PATH_MAX], target[PATH_MAX], path[64];
	ssize_t length;
	int group;

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0)
		die("%s", link);
	target[length] = '\0';
	snprintf(path, sizeof(path), "/dev/vfio/%.32s", strrchr(target, '/') + 1);
	group = open(path, O_RDWR | O_CLOEXEC);
	if (group < 0 || ioctl(group, VFIO_GROUP_GET_STATUS, &status) < 0)
		die("%s", path);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		errno = EBUSY;
		die("%s: not every device of the group is bound to vfio-pci", path);
	}
	return group;
}

void device_open(struct device *device, const char *bdf)
{
	int group = open_group(bdf);

	if (alignmap_host_leaves(ALIGNMAP_VFIO, &leaves) < 0)
		die("alignmap_host_leaves");
	device->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (device->container < 0)
		die("/dev/vfio/vfio");
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &device->container) < 0)
		die("VFIO_GROUP_SET_CONTAINER");
	if (ioctl(device->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		die("VFIO_SET_IOMMU");
	device->fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (device->fd < 0)
		die("VFIO_GROUP_GET_DEVICE_FD of %s", bdf);
}

bool device_region(const struct device *device, unsigned int index, struct vfio_region_info *region)
{
	*region = (struct vfio_region_info){ .argsz = sizeof(*region), .index = index };
	return ioctl(device->fd, VFIO_DEVICE_GET_REGION_INFO, region) == 0;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* ru_minflt counts the faults that the kernel takes on the process's behalf in the ioctl. */
struct dma_map device_map_for_dma(const struct device *device, void *address, size_t length,
				  uint64_t offset)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)address,
		.iova = (64ULL << 30) + offset,
		.size = page_align(length),
	};
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap) };
	struct rusage before, after;
	struct dma_map result;
	double start;

	getrusage(RUSAGE_SELF, &before);
	start = now();
	if (ioctl(device->container, VFIO_IOMMU_MAP_DMA, &map) < 0)
		die("VFIO_IOMMU_MAP_DMA of %#zx bytes at %#" PRIx64, length, offset);
	result.seconds = now() - start;
	getrusage(RUSAGE_SELF, &after);
	result.faults = (size_t)(after.ru_minflt - before.ru_minflt);

	unmap.iova = map.iova;
	unmap.size = map.size;
	if (ioctl(device->container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0)
		die("VFIO_IOMMU_UNMAP_DMA");
	return result;
}

size_t entries_at(uintptr_t address, uint64_t offset, size_t length)
{
	uint64_t end = offset + page_align(length);
	size_t entries = 0, leaf;
	unsigned int i;

	for (; offset < end; entries++, address += leaf, offset += leaf) {
		/* The base page, the last, always fits. */
		for (i = 0; i < leaves.count - 1; i++)
			if (!((address | offset) & (leaves.size[i] - 1)) &&
			    end - offset >= leaves.size[i])
				break;
		leaf = leaves.size[i];
	}
	return entries;
}
