/* SPDX-License-Identifier: Apache-2.0 */
/* The port layer on an emulated Cortex-M: files through Arm semihosting, the clock of timer.h, the stack from the linker script. */
#include "port.h"
#include "startup.h"
#include "timer.h"

/* Semihosting for AArch32, operations and reasons: "Semihosting for AArch32 and AArch64", 2.0. */
enum { SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { MODE_READ_BINARY = 1, MODE_WRITE_BINARY = 5 };
#define APPLICATION_EXIT 0x20026u
#define FAULT_EXIT_CODE 70
#define PAINT 0xA5C3965Au

static uint32_t semihost(uint32_t operation, const void *block) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = block;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void port_init(void) { timer_init(); }

int port_open(const char *name, int for_writing) {
  uint32_t length = 0;
  while (name[length] != 0) {
    length++;
  }
  const uint32_t block[3] = {(uint32_t)(uintptr_t)name, for_writing ? MODE_WRITE_BINARY : MODE_READ_BINARY, length};
  return (int)semihost(SYS_OPEN, block);
}

size_t port_read(int handle, void *bytes, size_t count) {
  /* The answer is the number of bytes NOT read. */
  const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)bytes, (uint32_t)count};
  return count == 0 ? 0 : count - semihost(SYS_READ, block);
}

int port_write(int handle, const void *bytes, size_t count) {
  const uint32_t block[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)bytes, (uint32_t)count};
  return count == 0 || semihost(SYS_WRITE, block) == 0 ? 0 : -1;
}

void port_close(int handle) {
  const uint32_t block[1] = {(uint32_t)handle};
  (void)semihost(SYS_CLOSE, block);
}

uint64_t port_ticks(void) { return timer_ticks(); }

/* Nothing but `run` may be called between painting and looking, or its frame would be counted too: timer_ticks is inline. */
__attribute__((noinline)) int port_measure(int (*run)(void *arena), void *arena, struct port_cost *cost) {
  volatile uint32_t *stack;
  uint64_t before = timer_ticks();
  cost->empty_ticks = (uint32_t)(timer_ticks() - before);
  __asm__ volatile("mov %0, sp" : "=r"(stack));
  for (volatile uint32_t *word = midge_stack_limit; word < stack; word++) {
    *word = PAINT;
  }
  before = timer_ticks();
  int result = run(arena);
  cost->ticks = timer_ticks() - before;
  volatile uint32_t *word = midge_stack_limit;
  while (word < stack && *word == PAINT) {
    word++;
  }
  cost->stack_bytes = (uint32_t)((uintptr_t)stack - (uintptr_t)word);
  cost->overflow = word == midge_stack_limit;
  return result;
}

void port_exit(int code) {
  const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)code};
  (void)semihost(SYS_EXIT_EXTENDED, block);
  for (;;) {
  }
}

void midge_exit(int code) { port_exit(code); }

/* Leaves the exception number, pc, lr and the fault status registers in fault.bin. */
void midge_fault(uint32_t exception, const uint32_t *frame) {
  uint32_t record[6] = {exception, 0, 0, 0, 0, 0};
  int in_stack = frame >= midge_stack_limit && frame + 8 <= midge_stack_top;
  if (in_stack) {
    record[1] = frame[6];
    record[2] = frame[5];
  }
  record[3] = !in_stack;
#if __ARM_ARCH >= 7
  record[4] = *(volatile uint32_t *)0xE000ED28u; /* CFSR */
  record[5] = *(volatile uint32_t *)0xE000ED38u; /* BFAR */
#endif
  int file = port_open("fault.bin", 1);
  (void)port_write(file, record, sizeof record);
  port_close(file);
  port_exit(FAULT_EXIT_CODE);
}
