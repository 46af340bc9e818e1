// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a VMM does with the BARs of a PCI device, without the guest: maps them around the MSI-X
 * table, gives them to the IOMMU, takes them out for a reset of the device and puts them back.
 *
 *	cc vmm.c $(pkg-config --cflags --libs alignmap) -o vmm && ./vmm 0000:65:00.0
 *
 * It resets the device, which must be bound to vfio-pci.
 */
#include <alignmap-vfio.h>
#include <endian.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef VFIO_DEVICE_BIND_IOMMUFD /* headers of Linux 6.6 and newer */
#include <linux/iommufd.h>
#endif

#define BARS (VFIO_PCI_BAR5_REGION_INDEX + 1)

struct bar {
	struct alignmap_vfio_region *region;
	uint64_t guest;	 /* where a guest has it, and so the IOMMU */
	uint64_t length; /* there */
};

static const char *bdf;
static int device, iommu, group = -1;
static uint32_t ioas; /* the IOMMU's address space; 0 stands for that of the group's container */

static void must(int result, const char *what)
{
	if (result < 0)
		err(1, "%s: %s", bdf, what);
}

static int open_path(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(1, "%s: cannot open %s (%s)", bdf, path,
		    errno == EBUSY    ? "end the program that has it open"
		    : errno == ENOENT ? "bind the device to vfio-pci, as by driverctl"
				      : "be root, or get permission");
	return fd;
}

static void open_group(void)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char link[300], target[300] = "", path[300];

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	must((int)readlink(link, target, sizeof(target) - 1),
	     "has no IOMMU group (turn the IOMMU on in the firmware; Intel's also by "
	     "intel_iommu=on)");
	snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(target, '/'));
	group = open_path(path);
	must(ioctl(group, VFIO_GROUP_GET_STATUS, &status), "its group has no status (see dmesg)");
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		errx(1, "%s: group not viable (bind all of %s/devices to vfio-pci)", bdf, link);
	iommu = open_path("/dev/vfio/vfio");
	must(ioctl(group, VFIO_GROUP_SET_CONTAINER, &iommu), "no container (see dmesg)");
	must(ioctl(iommu, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU),
	     "no IOMMU (modprobe vfio_iommu_type1; see dmesg)");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);
	must(device, "is not in its group (bind it to vfio-pci)");
	printf("%s by %s\n", bdf, path);
}

#ifdef VFIO_DEVICE_BIND_IOMMUFD
static int open_cdev(void)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct iommu_ioas_alloc space = { .size = sizeof(space) };
	char path[300];
	glob_t found;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev/vfio*", bdf);
	if (glob(path, 0, NULL, &found))
		return 0;
	snprintf(path, sizeof(path), "/dev/vfio/devices%s", strrchr(found.gl_pathv[0], '/'));
	globfree(&found);
	/* Kernels built without cdevs have that folder too. */
	if (access(path, F_OK))
		return 0;
	device = open_path(path);
	iommu = open_path("/dev/iommu");
	bind.iommufd = iommu;
	must(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind),
	     "cannot be bound to /dev/iommu (end what has its group open)");
	must(ioctl(iommu, IOMMU_IOAS_ALLOC, &space), "no address space (see dmesg)");
	attach.pt_id = ioas = space.out_ioas_id;
	must(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
	     "cannot be attached to an address space (see dmesg)");
	printf("%s by %s\n", bdf, path);
	return 1;
}

static int cdev_map(const struct alignmap_vfio_area *area, uint64_t iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA |
			 (area->prot & PROT_READ ? IOMMU_IOAS_MAP_READABLE : 0U) |
			 (area->prot & PROT_WRITE ? IOMMU_IOAS_MAP_WRITEABLE : 0U),
		.ioas_id = ioas,
		.user_va = (uintptr_t)area->address,
		.length = area->length,
		.iova = iova,
	};

	return ioctl(iommu, IOMMU_IOAS_MAP, &map);
}

static int cdev_unmap(const struct bar *bar)
{
	struct iommu_ioas_unmap unmap = { sizeof(unmap), ioas, bar->guest, bar->length };

	return ioctl(iommu, IOMMU_IOAS_UNMAP, &unmap);
}
#else
#define open_cdev() 0
#define cdev_map(area, iova) (-1)
#define cdev_unmap(bar) (-1)
#endif

static int dma_map(const struct alignmap_vfio_area *area, uint64_t iova)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = (area->prot & PROT_READ ? VFIO_DMA_MAP_FLAG_READ : 0U) |
			 (area->prot & PROT_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0U),
		.vaddr = (uintptr_t)area->address,
		.iova = iova,
		.size = area->length,
	};

	return ioas ? cdev_map(area, iova) : ioctl(iommu, VFIO_IOMMU_MAP_DMA, &map);
}

/*
 * All areas of a BAR at once: neither kind minds the holes. The kernel writes into the argument how
 * much that was, so it is made anew each time.
 */
static int dma_unmap(const struct bar *bar)
{
	struct vfio_iommu_type1_dma_unmap unmap = { sizeof(unmap), 0, bar->guest, bar->length };
	int result = ioas ? cdev_unmap(bar) : ioctl(iommu, VFIO_IOMMU_UNMAP_DMA, &unmap);

	/* ENOENT: all of it was refused. */
	return result && errno != ENOENT ? -1 : 0;
}

/* MSI-X table and PBA of a BAR are to trap: who writes the table says where interrupts go. */
static size_t find_holes(unsigned int bar, struct alignmap_vfio_hole holes[2])
{
	struct vfio_region_info region = { sizeof(region), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	unsigned char config[256 + PCI_CAP_MSIX_SIZEOF] = { 0 };
	uint32_t at, vectors, place[2], left = 48; /* capabilities at most: the list may loop */
	size_t count = 0;

	must(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region), "no configuration (is it PCI?)");
	must(pread(device, config, 256, (off_t)region.offset) == 256 ? 0 : -1,
	     "cannot read its configuration (see dmesg)");
	at = config[PCI_STATUS] & PCI_STATUS_CAP_LIST ? config[PCI_CAPABILITY_LIST] & ~3U : 0;
	while (at && config[at] != PCI_CAP_ID_MSIX)
		at = left-- ? config[at + PCI_CAP_LIST_NEXT] & ~3U : 0;
	if (!at)
		return 0;
	vectors = config[at + PCI_MSIX_FLAGS] | (uint32_t)config[at + PCI_MSIX_FLAGS + 1] << 8;
	vectors = (vectors & PCI_MSIX_FLAGS_QSIZE) + 1;
	memcpy(place, config + at + PCI_MSIX_TABLE, sizeof(place));
	for (int i = 0; i < 2; i++)
		if ((le32toh(place[i]) & PCI_MSIX_TABLE_BIR) == bar)
			holes[count++] = (struct alignmap_vfio_hole){
				.offset = le32toh(place[i]) & PCI_MSIX_TABLE_OFFSET,
				.length = i ? (vectors + 63) / 64 * 8
					    : vectors * PCI_MSIX_ENTRY_SIZE,
			};
	return count;
}

static size_t map_bars(struct bar bars[BARS])
{
	uint64_t guest = 64ULL << 30;
	size_t count = 0;

	for (unsigned int i = 0; i < BARS; i++) {
		struct alignmap_vfio_hole holes[2];
		struct alignmap_vfio_options options = { .size = sizeof(options), .holes = holes };
		struct bar *bar = &bars[count];

		options.hole_count = find_holes(i, holes);
		bar->region = alignmap_vfio_map(device, i, &options);
		if (!bar->region && errno == ENODEV)
			continue; /* not there, or I/O ports */
		if (!bar->region)
			err(1, "%s: cannot map BAR %u (ENOMEM: raise ulimit -v)", bdf, i);
		/* A BAR lies at a multiple of its length; one may be smaller than a page. */
		bar->length = ((bar->region->length - 1) | 0xffff) + 1;
		bar->guest = (guest + bar->length - 1) & -bar->length;
		guest = bar->guest + bar->length;
		count++;
	}
	return count;
}

/*
 * Gives a BAR to the IOMMU and prints the faults that the kernel took for it beside the leaves that
 * it takes at best. iommufd refuses device memory (EFAULT; since Linux 6.19 it takes a dma-buf
 * instead): then other devices cannot reach it, and the guest's first accesses take the faults.
 * None is made here for a count: reading a device's registers can change them.
 */
static void give(const struct bar *bar)
{
	struct alignmap_leaves leaves;
	struct alignmap_plan plan;
	struct rusage before, after;

	must(alignmap_host_leaves(ALIGNMAP_VFIO, &leaves), "no leaf sizes (report it)");
	for (size_t i = 0; i < bar->region->area_count; i++) {
		const struct alignmap_vfio_area *area = &bar->region->areas[i];
		int refused;

		getrusage(RUSAGE_SELF, &before);
		refused = dma_map(area, bar->guest + area->offset);
		must(refused && errno != EFAULT ? -1 : 0, "no DMA to a BAR (see dmesg)");
		getrusage(RUSAGE_SELF, &after);
		printf("BAR %u + %#" PRIx64 ": %p, length %#zx, IOVA %#" PRIx64 ", leaves",
		       bar->region->index, area->offset, area->address, area->length,
		       bar->guest + area->offset);
		must(alignmap_plan(&leaves, area->length, bar->region->offset + area->offset,
				   &plan),
		     "no plan (report it)");
		for (unsigned int j = 0; j < leaves.count; j++)
			if (plan.count[j])
				printf(" %zu*%zu KiB", plan.count[j], leaves.size[j] >> 10);
		if (refused)
			printf(", not for DMA\n");
		else
			printf(", faults %ld\n", after.ru_minflt - before.ru_minflt);
	}
}

static void reset(void)
{
	struct vfio_device_info about = { .argsz = sizeof(about) };
	unsigned int can;

	must(ioctl(device, VFIO_DEVICE_GET_INFO, &about), "cannot be asked (see dmesg)");
	can = about.flags & VFIO_DEVICE_FLAGS_RESET;
	must(can ? ioctl(device, VFIO_DEVICE_RESET) : 0, "cannot be reset (see dmesg)");
	printf("%s has %s reset\n", bdf, can ? "been" : "no");
}

int main(int argc, char **argv)
{
	struct bar bars[BARS];
	char path[300];
	size_t count;

	if (argc != 2)
		errx(2, "usage: vmm BDF, as lspci -D prints it: 0000:65:00.0");
	bdf = argv[1];
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", bdf);
	must(access(path, F_OK), "no such device (name it as lspci -D does: 0000:65:00.0)");
	if (!open_cdev())
		open_group();

	count = map_bars(bars);
	for (size_t i = 0; i < count; i++)
		give(&bars[i]);

	/* Nothing reaches a BAR that is disabled, and it comes back at the same addresses. */
	for (size_t i = 0; i < count; i++) {
		must(dma_unmap(&bars[i]), "a BAR stays in the IOMMU (see dmesg)");
		must(alignmap_vfio_disable(bars[i].region), "a BAR stays (raise vm.max_map_count)");
	}
	reset();
	for (size_t i = 0; i < count; i++) {
		must(alignmap_vfio_enable(bars[i].region), "a BAR is out (raise vm.max_map_count)");
		give(&bars[i]);
	}

	for (size_t i = 0; i < count; i++) {
		must(dma_unmap(&bars[i]), "a BAR stays in the IOMMU (see dmesg)");
		must(alignmap_vfio_unmap(bars[i].region), "a BAR stays (raise vm.max_map_count)");
	}
	close(device);
	if (group >= 0)
		close(group);
	close(iommu);
	return 0;
}
