/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What tracing needs to know of a machine: how a thread that is stopped at a system call is given
 * another first argument, gets its own back, and makes the call once more. All return whether the
 * kernel has done so, and whoever is killed before or behind one request leaves a whole state.
 */
#ifndef REGISTERS_H
#define REGISTERS_H

#include <elf.h>
#include <linux/audit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>

#if defined(__x86_64__) && defined(__LP64__)

#define CAN_TRACE true
#define NATIVE_CALLS AUDIT_ARCH_X86_64

static inline bool set_first_argument(pid_t thread, uint64_t value)
{
	return ptrace(PTRACE_POKEUSER, thread, offsetof(struct user, regs.rdi), value) == 0;
}

/* At its exit: programs may count on the register being as it was. */
static inline bool restore_first_argument(pid_t thread, uint64_t value)
{
	return set_first_argument(thread, value);
}

/* At its exit: back to the instruction, of two bytes. */
static inline bool make_again(pid_t thread, uint64_t number, uint64_t value)
{
	struct user_regs_struct registers;

	if (ptrace(PTRACE_GETREGS, thread, 0, &registers))
		return false;
	registers.rip -= 2;
	registers.rax = number;
	registers.rdi = value;
	return ptrace(PTRACE_SETREGS, thread, 0, &registers) == 0;
}

#elif defined(__aarch64__) && defined(__LP64__)

#define CAN_TRACE true
#define NATIVE_CALLS AUDIT_ARCH_AARCH64

/* Moves the thread back by so many bytes, too. */
static inline bool set_registers(pid_t thread, uint64_t back, uint64_t value)
{
	struct user_regs_struct registers;
	struct iovec all = { &registers, sizeof(registers) };

	if (ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &all))
		return false;
	registers.pc -= back;
	registers.regs[0] = value;
	return ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &all) == 0;
}

static inline bool set_first_argument(pid_t thread, uint64_t value)
{
	return set_registers(thread, 0, value);
}

/* It is the result's register, too. */
static inline bool restore_first_argument(pid_t thread, uint64_t value)
{
	(void)thread;
	(void)value;
	return true;
}

/* The call's number has a register of its own, which is as it was. */
static inline bool make_again(pid_t thread, uint64_t number, uint64_t value)
{
	(void)number;
	return set_registers(thread, 4, value);
}

#else

#define CAN_TRACE false
#define NATIVE_CALLS 0

static inline bool set_first_argument(pid_t thread, uint64_t value)
{
	(void)thread;
	(void)value;
	return false;
}

static inline bool restore_first_argument(pid_t thread, uint64_t value)
{
	return set_first_argument(thread, value);
}

static inline bool make_again(pid_t thread, uint64_t number, uint64_t value)
{
	(void)number;
	return set_first_argument(thread, value);
}

#endif

#endif /* REGISTERS_H */
