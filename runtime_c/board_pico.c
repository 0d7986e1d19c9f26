/* SPDX-License-Identifier: 0BSD */
/* Raspberry Pi Pico and Pico 2: the serial line is a virtual COM port on the board's own USB socket. */
#include "board.h"
#include "hardware/clocks.h"
#include "hil_server.h"
#include "pico/stdlib.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#if __ARM_ARCH >= 7
#define DEMCR REGISTER(0xE000EDFCu)
#define DWT_CTRL REGISTER(0xE0001000u)
#define DWT_CYCCNT REGISTER(0xE0001004u)

static void start_counter(void) {
  DEMCR |= 1u << 24; /* TRCENA */
  DWT_CYCCNT = 0;
  DWT_CTRL |= 1u; /* CYCCNTENA */
}

uint32_t board_ticks(void) { return DWT_CYCCNT; }
#else
/* A Cortex-M0+ has no cycle counter but SysTick, which counts 24 bits down; its interrupt counts on. */
#define SYSTICK_CTRL REGISTER(0xE000E010u)
#define SYSTICK_LOAD REGISTER(0xE000E014u)
#define SYSTICK_VALUE REGISTER(0xE000E018u)
#define SYSTICK_BITS 24

static volatile uint32_t wraps;

void isr_systick(void);
void isr_systick(void) { wraps++; }

static void start_counter(void) {
  SYSTICK_LOAD = 0xFFFFFFu;
  SYSTICK_VALUE = 0;
  SYSTICK_CTRL = 7u; /* the core's clock, with interrupt, enabled */
}

uint32_t board_ticks(void) {
  uint32_t high, low;
  do {
    high = wraps;
    low = 0xFFFFFFu - SYSTICK_VALUE;
  } while (high != wraps);
  return high << SYSTICK_BITS | low;
}
#endif

void board_init(void) {
  stdio_init_all();
  start_counter();
}

int board_get(void) {
  int byte = getchar_timeout_us(0);
  return byte < 0 ? MIDGE_HIL_NOTHING : byte;
}

void board_put(uint8_t byte) { (void)putchar_raw(byte); }

uint32_t board_hertz(void) { return clock_get_hz(clk_sys); }
