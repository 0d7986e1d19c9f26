/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the Pico SDK's header: the functions that board_pico.c uses. */
#ifndef PICO_STDLIB_H
#define PICO_STDLIB_H

#include <stdbool.h>
#include <stdint.h>

bool stdio_init_all(void);
int getchar_timeout_us(uint32_t timeout_us);
int putchar_raw(int c);

#endif
