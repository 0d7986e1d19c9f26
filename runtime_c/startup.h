/* SPDX-License-Identifier: Apache-2.0 */
/* Names shared by the start-up code and the firmware that may replace parts of it. */
#ifndef MIDGE_STARTUP_H
#define MIDGE_STARTUP_H

#include <stdint.h>

/* Ends of the stack, from the linker script. */
extern uint32_t midge_stack_limit[];
extern uint32_t midge_stack_top[];

int main(void);
void midge_reset(void);
/* Called with the exception number and the stacked r0-r3, r12, lr, pc, xpsr. The default waits for ever. */
void midge_fault(uint32_t exception, const uint32_t *frame);
/* Called with what main returned. The default waits for ever. */
void midge_exit(int code);

#endif
