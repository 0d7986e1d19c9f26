/* SPDX-License-Identifier: Apache-2.0 */
/* Vector table and reset for any Cortex-M: no interrupts are used, every exception is a fault. */
#include "startup.h"

extern uint32_t midge_data_load[];
extern uint32_t midge_data_start[];
extern uint32_t midge_data_end[];
extern uint32_t midge_bss_start[];
extern uint32_t midge_bss_end[];

typedef void (*handler)(void);

struct vectors {
  uint32_t *stack;
  handler handlers[15];
};

void midge_exception(void);

__attribute__((weak)) void midge_fault(uint32_t exception, const uint32_t *frame) {
  (void)exception;
  (void)frame;
  for (;;) {
  }
}

__attribute__((weak)) void midge_exit(int code) {
  (void)code;
  for (;;) {
  }
}

/* The handler runs on a fresh stack: the old one may be what overflowed. Thumb-1 only, so that an M0 runs it too. */
__attribute__((naked)) void midge_exception(void) {
  __asm__ volatile(
      "mrs r0, ipsr\n"
      "mov r1, sp\n"
      "ldr r2, =midge_stack_top\n"
      "mov sp, r2\n"
      "bl midge_fault\n"
      ".ltorg\n");
}

void midge_reset(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  /* Coprocessors 10 and 11 (FPU, and the vector registers it shares) are off after reset; CPACR is not in ARMv6-M. */
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
  __asm__ volatile("dsb\n isb" ::: "memory");
#endif
  /* Volatile: loops as they stand. Compilers would make calls of memcpy and memset, which are larger. */
  const uint32_t *from = midge_data_load;
  for (volatile uint32_t *to = midge_data_start; to < midge_data_end; to++) {
    *to = *from++;
  }
  for (volatile uint32_t *to = midge_bss_start; to < midge_bss_end; to++) {
    *to = 0;
  }
  midge_exit(main());
  for (;;) {
  }
}

#define FAULT midge_exception
extern const struct vectors midge_vectors;
__attribute__((section(".vectors"), used))
const struct vectors midge_vectors = {midge_stack_top, {midge_reset, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT, 0, 0, 0, FAULT, FAULT, 0, FAULT, FAULT}};
