// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A VMM in small that knows nothing of libalignmap: maps a device's BAR 2, maps that for DMA, and
 * where there is KVM runs a guest that has it, too.
 *
 *	monitor BDF [BYTES]
 *
 *	BYTES	of the BAR, if not all of it
 *
 * Prints the address, the faults and seconds of VFIO_IOMMU_MAP_DMA, and how many of its threads are
 * traced and how many have a seccomp filter: when the BAR is mapped, and while the guest runs; and
 * how often KVM_RUN was interrupted. The exit status is 42, which the guest says, or 0 without KVM.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../tools/device.h"

enum { WORD = 42, SECONDS = 120 };

static struct device device;
static size_t length;
static volatile unsigned char *bar;

static void *map(size_t bytes, uint64_t offset)
{
	void *address =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, device.fd, (off_t)offset);

	if (address == MAP_FAILED)
		err(1, "mmap of %zu bytes", bytes);
	return address;
}

static struct dma_map map_for_dma(void *address, size_t bytes)
{
	struct dma_map dma;
	char *why = device_map_for_dma(&device, address, bytes, 0, &dma);

	if (why)
		errx(1, "%s", why);
	return dma;
}

static void map_bar(const char *bdf, const char *bytes)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *why = device_open(&device, bdf);
	struct bar region;
	struct dma_map dma;

	if (why)
		errx(1, "%s: %s", bdf, why);
	region = device_bar(&device, 2);
	length = bytes ? strtoull(bytes, NULL, 0) : region.length;
	if (length < page || length > region.length)
		errx(1, "%s: BAR 2 has %" PRIu64 " bytes", bdf, region.length);
	/* Not to be counted: the first pages of what measures, and the device's first fault. */
	for (int i = 0; i < 2; i++) {
		void *warm = map(page, region.offset);

		map_for_dma(warm, page);
		munmap(warm, page);
	}
	bar = map(length, region.offset);
	dma = map_for_dma((void *)bar, length);
	printf("address=%p faults=%zu seconds=%.6f ", (void *)bar, dma.faults, dma.seconds);
}

static int field_of(const char *thread, const char *field)
{
	char path[64], line[256];
	int value = -1;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", thread);
	status = fopen(path, "re");
	if (!status)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), status))
		if (strncmp(line, field, strlen(field)) == 0)
			value = atoi(line + strlen(field));
	fclose(status);
	if (value < 0)
		errx(1, "%s has no %s", path, field);
	return value;
}

/* How many threads are traced, and how many have a seccomp filter. */
static void tell_threads(const char *when)
{
	DIR *folder = opendir("/proc/self/task");
	const struct dirent *thread;
	int traced = 0, filtered = 0;

	if (!folder)
		err(1, "/proc/self/task");
	while ((thread = readdir(folder))) {
		if (thread->d_name[0] == '.')
			continue;
		traced += field_of(thread->d_name, "TracerPid:") != 0;
		filtered += field_of(thread->d_name, "Seccomp:") != 0;
	}
	closedir(folder);
	printf("%s=%d,%d ", when, traced, filtered);
}

/* Where the guest has the BAR: as congruent as can be. */
#define BAR_AT (1ull << 30)

static int ask(int fd, unsigned long request, void *argument, const char *name)
{
	const int result = ioctl(fd, request, argument);

	if (result < 0)
		err(1, "%s", name);
	return result;
}
#define ASK(fd, request, argument) ask(fd, request, (void *)(uintptr_t)(argument), #request)

static struct {
	int vcpu;
	struct kvm_run *run;
	unsigned int interrupted; /* how often KVM_RUN was */
} guest;

/*
 * Of a machine: what the guest does, at 0. It writes 1 to the BAR's first byte, waits until there
 * is something in the second, and says that to this program. How a vCPU is made ready for it, and
 * what it has said; NULL where the guest has ended otherwise.
 */
#if defined(__x86_64__)

static const unsigned char code[] = {
	0xc6, 0x06, 0x00, 0x00, 0x01, /* movb $1, 0 */
	0xa0, 0x01, 0x00,	      /* 1: movb 1, %al */
	0x84, 0xc0,		      /* testb %al, %al */
	0x74, 0xf9,		      /* jz 1b */
	0xe6, 0x10,		      /* outb %al, $0x10 */
};

/* In real mode, with the BAR for its data. */
static void prepare_vcpu(int vm)
{
	struct kvm_regs registers = { .rflags = 2 };
	struct kvm_sregs special;

	(void)vm;
	ASK(guest.vcpu, KVM_GET_SREGS, &special);
	special.cs.base = special.cs.selector = 0;
	special.ds.base = BAR_AT;
	ASK(guest.vcpu, KVM_SET_SREGS, &special);
	ASK(guest.vcpu, KVM_SET_REGS, &registers);
}

static const unsigned char *said_by_guest(void)
{
	if (guest.run->exit_reason != KVM_EXIT_IO)
		return NULL;
	return (unsigned char *)guest.run + guest.run->io.data_offset;
}

#elif defined(__aarch64__)

static const uint32_t code[] = {
	0x52800021, /* mov w1, #1 */
	0x39000001, /* strb w1, [x0] */
	0x39400401, /* 1: ldrb w1, [x0, #1] */
	0x34ffffe1, /* cbz w1, 1b */
	0x39000041, /* strb w1, [x2] */
};

static void set_register(uint64_t number, uint64_t value)
{
	struct kvm_one_reg one = {
		.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | number,
		.addr = (uintptr_t)&value,
	};

	ASK(guest.vcpu, KVM_SET_ONE_REG, &one);
}

static void prepare_vcpu(int vm)
{
	struct kvm_vcpu_init init;

	ASK(vm, KVM_ARM_PREFERRED_TARGET, &init);
	ASK(guest.vcpu, KVM_ARM_VCPU_INIT, &init);
	set_register(KVM_REG_ARM_CORE_REG(regs.regs[0]), BAR_AT);
	set_register(KVM_REG_ARM_CORE_REG(regs.regs[2]), BAR_AT / 2);
	set_register(KVM_REG_ARM_CORE_REG(regs.pc), 0);
}

static const unsigned char *said_by_guest(void)
{
	return guest.run->exit_reason == KVM_EXIT_MMIO ? guest.run->mmio.data : NULL;
}

#endif

static void give_memory(int vm, unsigned int slot, uint64_t at, void *address, size_t bytes)
{
	struct kvm_userspace_memory_region memory = {
		.slot = slot,
		.guest_phys_addr = at,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)address,
	};

	ASK(vm, KVM_SET_USER_MEMORY_REGION, &memory);
}

static void make_guest(int kvm)
{
	const int vm = ASK(kvm, KVM_CREATE_VM, 0);
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *memory;

	memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	memcpy(memory, code, sizeof(code));
	give_memory(vm, 0, 0, memory, page);
	give_memory(vm, 1, BAR_AT, (void *)bar, length);
	guest.vcpu = ASK(vm, KVM_CREATE_VCPU, 0);
	guest.run = mmap(NULL, (size_t)ASK(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
			 MAP_SHARED, guest.vcpu, 0);
	if (guest.run == MAP_FAILED)
		err(1, "mmap of a vCPU");
	prepare_vcpu(vm);
}

static void *run_guest(void *unused)
{
	(void)unused;
	while (ioctl(guest.vcpu, KVM_RUN, 0) < 0) {
		if (errno != EINTR)
			err(1, "KVM_RUN");
		guest.interrupted++;
	}
	return NULL;
}

/* Looks at this process while the guest runs. Returns what that says. */
static int run(void)
{
	const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	const unsigned char *said;
	pthread_t thread;

	if (kvm < 0 && errno == ENOENT)
		return 0;
	if (kvm < 0)
		err(1, "/dev/kvm");
	make_guest(kvm);
	bar[0] = bar[1] = 0;
	if (pthread_create(&thread, NULL, run_guest, NULL))
		errx(1, "pthread_create");
	alarm(SECONDS);
	while (!bar[0])
		usleep(1000);
	tell_threads("guest_runs");
	bar[1] = WORD;
	pthread_join(thread, NULL);
	printf("interrupted=%u ", guest.interrupted);
	said = said_by_guest();
	if (!said)
		errx(1, "the guest has ended with %u", guest.run->exit_reason);
	return *said;
}

int main(int argc, char **argv)
{
	int said;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: monitor BDF [BYTES]\n");
		return 2;
	}
	map_bar(argv[1], argv[2]);
	tell_threads("mapped");
	said = run();
	putchar('\n');
	return said;
}
