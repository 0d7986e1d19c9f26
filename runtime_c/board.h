/* SPDX-License-Identifier: 0BSD */
/* What a board gives the verification server. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Start the UART (115200 baud, 8 data bits, no parity, 1 stop bit) and the cycle counter. */
void board_init(void);
/* A byte that came, or MIDGE_HIL_NOTHING. */
int board_get(void);
/* Send a byte, once there is room. */
void board_put(uint8_t byte);
/* Cycles since board_init, modulo 2^32. */
uint32_t board_ticks(void);
/* Cycles a second. */
uint32_t board_hertz(void);

#endif
