/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the Pico SDK's header. */
#ifndef HARDWARE_CLOCKS_H
#define HARDWARE_CLOCKS_H

#include <stdint.h>

enum clock_index { clk_sys = 5 };
uint32_t clock_get_hz(enum clock_index clock);

#endif
