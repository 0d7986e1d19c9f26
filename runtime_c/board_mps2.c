/* SPDX-License-Identifier: 0BSD */
/* MPS2 with AN386 as QEMU emulates it: UART 0, and timer 0 at 25 MHz for a counter. */
#include "board.h"
#include "hil_server.h"
#include "startup.h"
#include "timer.h"

#define UART(offset) (*(volatile uint32_t *)(uintptr_t)(0x40004000u + (offset)))
#define UART_DATA UART(0x00u)
#define UART_STATE UART(0x04u)
#define UART_CTRL UART(0x08u)
#define UART_BAUDDIV UART(0x10u)

enum { HERTZ = 25000000, BAUD = 115200, OUT_FULL = 1, IN_FULL = 2, ENABLE = 3 };

void board_init(void) {
  UART_BAUDDIV = HERTZ / BAUD;
  UART_CTRL = ENABLE;
  timer_init();
}

int board_get(void) { return UART_STATE & IN_FULL ? (int)(UART_DATA & 0xFFu) : MIDGE_HIL_NOTHING; }

void board_put(uint8_t byte) {
  while (UART_STATE & OUT_FULL) {
  }
  UART_DATA = byte;
}

uint32_t board_ticks(void) { return (uint32_t)timer_ticks(); }

uint32_t board_hertz(void) { return HERTZ; }
