// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Processes, their mounts and their VFIO devices, in trees for proc and sysfs that are made up
 * ("root" below) in the shape of what the lab's kernels show: a device's descriptor points to
 * "anon_inode:[vfio-device]", here a file of that name, so that all have one inode, as there.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "process.h"
#include "tree.h"

#define M ((size_t)1 << 20)
#define BAR(number) ((uint64_t)(number) << 40)
#define DEVICE_LINK "anon_inode:[vfio-device]"

static char root[] = "/tmp/alignmap-process-XXXXXX";
static char proc[64], sys[64];

static void append(const char *top, const char *path, const char *text)
{
	FILE *file = fopen(place(top, path), "a");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void link_to(const char *top, const char *path, const char *target)
{
	assert_int_equal(symlink(target, place(top, path)), 0);
}

static void write_status(int pid, const char *state, int tgid, const char *rest)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "%d/status", pid);
	snprintf(text, sizeof(text), "Name:\tx\nState:\t%s\nTgid:\t%d\nPid:\t%d\nPPid:\t7\n%s",
		 state, tgid, pid, rest);
	write_file(proc, path, text);
}

#define LIVE "Uid:\t0\t0\t0\t0\nVmSize:\t    9 kB\nTHP_enabled:\t1\n"

static void write_process(int pid, const char *comm, const char *program)
{
	char path[64];

	write_status(pid, "S (sleeping)", pid, LIVE);
	snprintf(path, sizeof(path), "%d/comm", pid);
	write_file(proc, path, comm);
	if (!program)
		return;
	snprintf(path, sizeof(path), "%d/exe", pid);
	link_to(proc, path, program);
}

static void opened(struct process *process, int pid)
{
	char *why = process_open(process, proc, pid);

	if (why)
		fail_msg("%d: %s", pid, why);
}

static void assert_why(int pid, const char *part)
{
	struct process process;
	char *why = process_open(&process, proc, pid);

	assert_non_null(why);
	if (!strstr(why, part))
		fail_msg("'%s' is not in: %s", part, why);
	free(why);
}

static void a_process_is_called_as_its_program(void **state)
{
	struct process process;

	(void)state;
	write_process(9000001, "qemu-system-x86\n", "/usr/bin/qemu-system-x86_64 (deleted)");
	opened(&process, 9000001);
	assert_string_equal(process.name, "qemu-system-x86_64");
	assert_false(process.thp_disabled);
	assert_false(process_has_ended(&process));
	process_close(&process);

	write_process(9000002, "odd name\n", NULL);
	write_status(9000002, "S (sleeping)", 9000002, "VmSize:\t9 kB\nTHP_enabled:\t0\n");
	opened(&process, 9000002);
	assert_string_equal(process.name, "odd name");
	assert_true(process.thp_disabled);
	process_close(&process);
}

static void what_has_no_mappings_says_why(void **state)
{
	(void)state;
	write_status(9000011, "Z (zombie)", 9000011, "");
	write_status(9000012, "I (idle)", 9000012, "Kthread:\t1\n");
	write_status(9000013, "S (sleeping)", 9000001, LIVE);
	write_file(proc, "9000014/comm", "ended\n");
	write_status(9000015, "R (running)", 9000015, "Kthread:\t0\n");
	write_file(proc, "9000016/status", "State:\tI (idle)\nTgid:\t9000016\nPPid:\t2\n");
	assert_why(9000011, "process 7, its parent");
	assert_why(9000012, "kernel");
	assert_why(9000016, "kernel");
	assert_why(9000015, "ending");
	assert_why(9000013, "alignmap inspect 9000001");
	assert_why(9000014, "no such process");
	assert_why(0x7ffffffe, "no such process");
}

static void a_process_that_ends_is_noticed(void **state)
{
	struct process process;
	bool has_smaps;
	struct maps maps;
	char *why;

	(void)state;
	write_process(9000021, "x\n", NULL);
	write_file(proc, "9000021/smaps", "7f0000000000-7f0000200000 rw-p 00000000 00:00 0 \n");
	opened(&process, 9000021);
	why = process_maps(&process, &maps, &has_smaps);
	assert_null(why);
	assert_true(has_smaps);
	assert_int_equal(maps.count, 1);
	maps_free(&maps);

	/* Its mappings are still read in part, but it has none any more. */
	write_status(9000021, "Z (zombie)", 9000021, "");
	assert_true(process_has_ended(&process));
	why = process_maps(&process, &maps, &has_smaps);
	assert_non_null(why);
	assert_non_null(strstr(why, "ended"));
	free(why);
	maps_free(&maps);
	process_close(&process);
}

static void maps_stand_in_for_smaps(void **state)
{
	struct process process;
	bool has_smaps;
	struct maps maps;

	(void)state;
	write_process(9000031, "x\n", NULL);
	write_file(proc, "9000031/maps", "7f0000000000-7f0000200000 rw-p 00000000 00:00 0 \n");
	opened(&process, 9000031);
	assert_null(process_maps(&process, &maps, &has_smaps));
	assert_false(has_smaps);
	assert_int_equal(maps.count, 1);
	maps_free(&maps);
	process_close(&process);
}

static void processes_are_found_by_their_names(void **state)
{
	static const char arguments[] = "/usr/bin/firecracker-longer\0--id\0\0x\0";
	struct found *found;

	(void)state;
	write_process(9000041, "vmm\n", "/usr/bin/cloud-hypervisor");
	write_process(9000042, "worker\n", "/usr/sbin/vmm");
	write_process(9000043, "vmm-else\n", NULL);
	/* The kernel's name is cut, and the program's file is another user's. */
	write_process(9000044, "firecracker-lon\n", NULL);
	write_bytes(proc, "9000044/cmdline", arguments, sizeof(arguments) - 1);
	write_file(proc, "notes/comm", "vmm\n");

	assert_int_equal(processes_called(proc, "vmm", &found), 2);
	assert_int_equal(found[0].pid, 9000041);
	assert_int_equal(found[1].pid, 9000042);
	found_free(found, 2);
	assert_int_equal(processes_called(proc, "cloud-hypervisor", &found), 1);
	found_free(found, 1);
	assert_int_equal(processes_called(proc, "firecracker-longer", &found), 1);
	assert_string_equal(found[0].command, "/usr/bin/firecracker-longer --id  x");
	found_free(found, 1);
	assert_int_equal(processes_called(proc, "firecracker-long", &found), 0);
	found_free(found, 0);
	assert_int_equal(processes_called("/nowhere", "vmm", &found), 0);
	found_free(found, 0);
}

static void those_that_live_come_before_zombies(void **state)
{
	struct found *found;

	(void)state;
	write_file(proc, "9000051/comm", "both\n");
	write_status(9000051, "Z (zombie)", 9000051, "");
	assert_int_equal(processes_called(proc, "both", &found), 1);
	assert_int_equal(found[0].pid, 9000051);
	found_free(found, 1);
	write_process(9000052, "both\n", NULL);
	assert_int_equal(processes_called(proc, "both", &found), 1);
	assert_int_equal(found[0].pid, 9000052);
	found_free(found, 1);
}

static void mounts_are_read_and_odd_lines_passed_by(void **state)
{
	static const char text[] =
		"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
		"30 25 0:27 / /dev/shm rw,relatime shared:3 master:1 - tmpfs tmpfs rw,huge=always\n"
		"31 25 0:28 /with\\040space /mnt/with\\040space rw - tmpfs none rw\n"
		"32 25 0:29 / /cut rw,relatime - tmpfs\n"
		"nonsense\n"
		"33 25 0x:29 / /odd rw,relatime - tmpfs none rw\n"
		"34 25 0:30 / - rw\n"
		"\n"
		"35 25 99999999999999999999:30 / /odd rw,relatime - tmpfs none rw\n";
	struct process process;
	struct mounts mounts;

	(void)state;
	write_process(9000061, "x\n", NULL);
	write_file(proc, "9000061/mountinfo", text);
	opened(&process, 9000061);
	process_mounts(&process, &mounts);
	assert_int_equal(mounts.count, 3);
	assert_int_equal(mounts.mounts[0].major, 254);
	assert_string_equal(mounts.mounts[0].type, "ext4");
	assert_int_equal(mounts.mounts[1].minor, 27);
	assert_string_equal(mounts.mounts[1].point, "/dev/shm");
	assert_string_equal(mounts.mounts[1].options, "rw,huge=always");
	assert_string_equal(mounts.mounts[2].point, "/mnt/with\\040space");
	mounts_free(&mounts);
	process_close(&process);
}

/* A PCI device with a BAR 2 of that length. */
static void make_device(const char *name, uint64_t length, const char *driver)
{
	char path[256], text[512];

	snprintf(path, sizeof(path), "bus/pci/devices/%s/resource", name);
	snprintf(text, sizeof(text),
		 "0x00000000febfd000 0x00000000febfd0ff 0x0000000000040200\n"
		 "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
		 "0x%016llx 0x%016llx 0x000000000014220c\n"
		 "0x0000000000000000 0x0000000000000000 0x0000000000000000\n",
		 1ULL << 40, (1ULL << 40) + length - 1);
	write_file(sys, path, text);
	snprintf(path, sizeof(path), "bus/pci/devices/%s/driver", name);
	snprintf(text, sizeof(text), "../../../bus/pci/drivers/%s", driver);
	link_to(sys, path, text);
}

static void put_into_group(const char *name, int group)
{
	char path[256], target[256];

	snprintf(path, sizeof(path), "kernel/iommu_groups/%d/devices/%s", group, name);
	snprintf(target, sizeof(target), "../../../../bus/pci/devices/%s", name);
	link_to(sys, path, target);
}

static void open_group(int pid, int fd, const char *group)
{
	char path[64];

	snprintf(path, sizeof(path), "%d/fd/%d", pid, fd);
	link_to(proc, path, group);
}

/* With fdinfo as Linux 7.3 has it, or without the line where @syspath is NULL. */
static void open_device(int pid, int fd, const char *syspath)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "%d/fd/" DEVICE_LINK, pid);
	write_file(proc, path, "");
	snprintf(path, sizeof(path), "%d/fd/%d", pid, fd);
	link_to(proc, path, DEVICE_LINK);
	snprintf(path, sizeof(path), "%d/fdinfo/%d", pid, fd);
	snprintf(text, sizeof(text), "pos:\t0\nflags:\t02000002\nmnt_id:\t21\nino:\t66\n%s%s%s",
		 syspath ? "vfio-device-syspath: " : "", syspath ? syspath : "",
		 syspath ? "\n" : "");
	write_file(proc, path, text);
}

static void assert_devices(int pid, const char *name, uint64_t offset, size_t length,
			   const char *expected)
{
	struct mapping mapping = {
		.address = 0x7f0000000000, .length = length, .offset = offset, .name = (char *)name
	};
	struct vfio_devices devices;
	struct process process;
	char path[128], names[256] = "";
	struct stat file;

	snprintf(path, sizeof(path), "%s/%d/fd/" DEVICE_LINK, proc, pid);
	if (stat(path, &file) == 0) {
		mapping.major = major(file.st_dev);
		mapping.minor = minor(file.st_dev);
		mapping.inode = file.st_ino;
	}
	opened(&process, pid);
	process_vfio_devices(&process, sys, &mapping, &devices);
	for (size_t i = 0; i < devices.count; i++) {
		strcat(names, i ? " " : "");
		strcat(names, devices.names[i]);
	}
	assert_string_equal(names, expected);
	vfio_devices_free(&devices);
	process_close(&process);
}

static void the_descriptors_name_the_devices(void **state)
{
	(void)state;
	write_process(9000071, "vmm\n", NULL);
	make_device("0000:00:09.0", 64 * M, "vfio-pci");
	put_into_group("0000:00:09.0", 9);
	open_group(9000071, 8, "/dev/vfio/9");
	open_device(9000071, 9, "/sys/devices/pci0000:00/0000:00:02.0");
	assert_devices(9000071, DEVICE_LINK, BAR(2), 2 * M, "0000:00:02.0");
	open_device(9000071, 10, "/sys/devices/pci0000:00/0000:00:03.0");
	open_device(9000071, 11, "/sys/devices/pci0000:00/0000:00:03.0");
	assert_devices(9000071, DEVICE_LINK, BAR(2), 2 * M, "0000:00:02.0 0000:00:03.0");
}

static void a_bar_that_is_too_short_or_missing_rules_a_device_out(void **state)
{
	(void)state;
	make_device("0000:01:00.0", 64 * M, "vfio-pci");
	make_device("0000:02:00.0", 32 * M, "vfio-pci");
	write_process(9000081, "vmm\n", NULL);
	open_device(9000081, 9, "/sys/devices/pci0000:00/0000:01:00.0");
	open_device(9000081, 10, "/sys/devices/pci0000:00/0000:02:00.0");
	assert_devices(9000081, DEVICE_LINK, BAR(2), 32 * M, "0000:01:00.0 0000:02:00.0");
	assert_devices(9000081, DEVICE_LINK, BAR(2), 64 * M, "0000:01:00.0");
	assert_devices(9000081, DEVICE_LINK, BAR(2) + 16 * M, 32 * M, "0000:01:00.0");
	/* None has such a BAR: a driver must have made it up. */
	assert_devices(9000081, DEVICE_LINK, BAR(1), 2 * M, "0000:01:00.0 0000:02:00.0");
	/* In sysfs, what comes behind the ROM are no regions of VFIO's. */
	append(sys, "bus/pci/devices/0000:01:00.0/resource",
	       "0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n0x1000000 0x1ffffff 0\n");
	append(sys, "bus/pci/devices/0000:02:00.0/resource",
	       "0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n");
	assert_devices(9000081, DEVICE_LINK, BAR(9), 2 * M, "0000:01:00.0 0000:02:00.0");
}

static void without_syspath_the_groups_name_the_devices(void **state)
{
	(void)state;
	make_device("0000:03:00.0", 64 * M, "vfio-pci");
	make_device("0000:03:00.1", 2 * M, "mlx5_vfio_pci");
	make_device("0000:03:00.2", 64 * M, "xhci_hcd");
	make_device("0000:04:00.0", 64 * M, "vfio-pci");
	put_into_group("0000:03:00.0", 3);
	put_into_group("0000:03:00.1", 3);
	put_into_group("0000:03:00.2", 3);
	put_into_group("0000:04:00.0", 4);
	write_process(9000091, "vmm\n", NULL);
	open_group(9000091, 8, "/dev/vfio/vfio");
	open_group(9000091, 9, "/dev/vfio/3");
	open_device(9000091, 10, NULL);
	assert_devices(9000091, DEVICE_LINK, BAR(2), 2 * M, "0000:03:00.0 0000:03:00.1");
	assert_devices(9000091, DEVICE_LINK, BAR(2), 4 * M, "0000:03:00.0");
	open_group(9000091, 11, "/dev/vfio/noiommu-4");
	assert_devices(9000091, DEVICE_LINK, BAR(2), 4 * M, "0000:03:00.0 0000:04:00.0");
}

static void a_device_whose_descriptor_was_closed_is_one_of_the_groups(void **state)
{
	(void)state;
	make_device("0000:05:00.0", 64 * M, "vfio-pci");
	put_into_group("0000:05:00.0", 5);
	write_process(9000101, "vmm\n", NULL);
	open_group(9000101, 9, "/dev/vfio/5");
	assert_devices(9000101, DEVICE_LINK, BAR(2), 4 * M, "0000:05:00.0");
}

static void a_cdev_names_its_device(void **state)
{
	(void)state;
	write_process(9000111, "vmm\n", NULL);
	link_to(sys, "class/vfio-dev/vfio0/device", "../../../0000:06:00.0");
	assert_devices(9000111, "/dev/vfio/devices/vfio0", BAR(0), 4 * M, "0000:06:00.0");
	assert_devices(9000111, "/dev/vfio/devices/vfio0 (deleted)", BAR(0), 4 * M, "0000:06:00.0");
	assert_devices(9000111, "/dev/vfio/devices/vfio1", BAR(0), 4 * M, "");
	assert_devices(9000111, "/dev/vfio/devices/", BAR(0), 4 * M, "");
	assert_devices(9000111, "/dev/vfio/devices/../../x", BAR(0), 4 * M, "");
}

static void where_nothing_is_said_no_device_is_named(void **state)
{
	(void)state;
	write_process(9000121, "vmm\n", NULL);
	assert_devices(9000121, DEVICE_LINK, BAR(2), 4 * M, "");
	open_group(9000121, 9, "/dev/vfio/77");
	open_group(9000121, 10, "/dev/vfio/../3");
	open_device(9000121, 11, "");
	assert_devices(9000121, DEVICE_LINK, BAR(2), 4 * M, "");
}

static int make_root(void **state)
{
	(void)state;
	if (!mkdtemp(root))
		return -1;
	snprintf(proc, sizeof(proc), "%s/made-up-proc", root);
	snprintf(sys, sizeof(sys), "%s/made-up-sys", root);
	return 0;
}

static int remove_root(void **state)
{
	(void)state;
	return remove_tree(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_is_called_as_its_program),
		cmocka_unit_test(what_has_no_mappings_says_why),
		cmocka_unit_test(a_process_that_ends_is_noticed),
		cmocka_unit_test(maps_stand_in_for_smaps),
		cmocka_unit_test(processes_are_found_by_their_names),
		cmocka_unit_test(those_that_live_come_before_zombies),
		cmocka_unit_test(mounts_are_read_and_odd_lines_passed_by),
		cmocka_unit_test(the_descriptors_name_the_devices),
		cmocka_unit_test(a_bar_that_is_too_short_or_missing_rules_a_device_out),
		cmocka_unit_test(without_syspath_the_groups_name_the_devices),
		cmocka_unit_test(a_device_whose_descriptor_was_closed_is_one_of_the_groups),
		cmocka_unit_test(a_cdev_names_its_device),
		cmocka_unit_test(where_nothing_is_said_no_device_is_named),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
