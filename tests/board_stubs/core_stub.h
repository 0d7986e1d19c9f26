/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a core that a chip's header brings, as plain variables: enough to compile a board.c and to look at what it did. */
#ifndef CORE_STUB_H
#define CORE_STUB_H

#include <stdint.h>

typedef struct {
  volatile uint32_t CTRL, CYCCNT;
} DWT_Type;

typedef struct {
  volatile uint32_t DEMCR;
} CoreDebug_Type;

extern DWT_Type stub_dwt;
extern CoreDebug_Type stub_debug;
extern uint32_t SystemCoreClock;
void SystemCoreClockUpdate(void);

#define DWT (&stub_dwt)
#define CoreDebug (&stub_debug)
#define CoreDebug_DEMCR_TRCENA_Msk (1u << 24)
#define DWT_CTRL_CYCCNTENA_Msk 1u

#endif
