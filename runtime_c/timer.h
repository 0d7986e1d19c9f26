/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clocks that count emulated instructions (qemu -icount shift=6: 64 ns each). One of TIMER_CMSDK, TIMER_SSE, TIMER_NRF51 is defined, and
 * TIMER_BASE.
 *
 * A 32-bit timer wraps after 2.7 to 4.2 thousand million instructions, which a large network passes; so a second, prescaled one supplies
 * the upper bits. All inline: a call between painting the stack and running the library would show up as stack of the library.
 */
#ifndef MIDGE_TIMER_H
#define MIDGE_TIMER_H

#include <stdint.h>

#define TIMER_REG(offset) (*(volatile uint32_t *)((uintptr_t)(TIMER_BASE) + (offset)))

/* The 64-bit count nearest to the coarse one whose low word is the fine one; both must have started within 2^31 ticks of each other. */
static inline uint64_t timer_join(uint64_t coarse, uint32_t fine) { return coarse + (uint64_t)(int64_t)(int32_t)(fine - (uint32_t)coarse); }

#if defined(TIMER_CMSDK)
/* CMSDK APB timer 0, counting down, and the dual timer 0x2000 above it, divided by 256. */
static inline void timer_init(void) {
  TIMER_REG(0x08u) = 0xFFFFFFFFu;   /* RELOAD */
  TIMER_REG(0x04u) = 0xFFFFFFFFu;   /* VALUE */
  TIMER_REG(0x2000u) = 0xFFFFFFFFu; /* TIMER1LOAD */
  TIMER_REG(0x00u) = 1u;            /* CTRL: enable */
  TIMER_REG(0x2008u) = 0x8Au;       /* TIMER1CONTROL: enable, free-running, divided by 256, 32 bits */
}

static inline uint64_t timer_ticks(void) {
  uint32_t fine = 0xFFFFFFFFu - TIMER_REG(0x04u);
  uint64_t coarse = (uint64_t)(0xFFFFFFFFu - TIMER_REG(0x2004u)) << 8;
  return timer_join(coarse, fine);
}
#elif defined(TIMER_SSE)
/* The 64-bit system counter of an SSE-300, control frame. */
static inline void timer_init(void) { TIMER_REG(0x00u) = 1u; /* CNTCR: enable */ }

static inline uint64_t timer_ticks(void) {
  uint32_t high, low;
  do {
    high = TIMER_REG(0x0Cu);
    low = TIMER_REG(0x08u);
  } while (high != TIMER_REG(0x0Cu));
  return ((uint64_t)high << 32) | low;
}
#elif defined(TIMER_NRF51)
/* TIMER0 at 16 MHz and TIMER1 (0x1000 above it) divided by 2^9; a timer is read by capturing it. */
static inline void timer_init(void) {
  TIMER_REG(0x0508u) = 3u; /* BITMODE: 32 bits */
  TIMER_REG(0x1508u) = 3u;
  TIMER_REG(0x0510u) = 0u; /* PRESCALER */
  TIMER_REG(0x1510u) = 9u;
  TIMER_REG(0x0000u) = 1u; /* TASKS_START */
  TIMER_REG(0x1000u) = 1u;
}

static inline uint64_t timer_ticks(void) {
  TIMER_REG(0x0040u) = 1u; /* TASKS_CAPTURE[0] */
  uint32_t fine = TIMER_REG(0x0540u);
  TIMER_REG(0x1040u) = 1u;
  uint64_t coarse = (uint64_t)TIMER_REG(0x1540u) << 9;
  return timer_join(coarse, fine);
}
#else
#error "define TIMER_CMSDK, TIMER_SSE or TIMER_NRF51"
#endif

#endif
