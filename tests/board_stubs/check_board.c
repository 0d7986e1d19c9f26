/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a board.c on variables that stand in for its registers. Exit code: the number of the first expectation that failed. */
#include BOARD_HEADER

#include "board.h"
#include "hil_server.h"

STUB_OBJECTS
DWT_Type stub_dwt = {0, 99};
CoreDebug_Type stub_debug;
uint32_t SystemCoreClock;

void SystemCoreClockUpdate(void) { SystemCoreClock = 4000000u; }

int main(void) {
  STUB_PREPARE();
  board_init();
  if (!(STUB_RIGHT)) {
    return 1;
  }
  if (stub_debug.DEMCR != 1u << 24 || stub_dwt.CTRL != 1u || board_ticks() != 0) {
    return 2;
  }
  STUB_READY();
  if (board_get() != MIDGE_HIL_NOTHING) {
    return 3;
  }
  STUB_RECEIVE(0x1E5u);
  if (board_get() != 0xE5) {
    return 4;
  }
  STUB_READY();
  board_put(0xA7);
  if (STUB_SENT != 0xA7u) {
    return 5;
  }
  return board_hertz() == 4000000u || board_hertz() == 64000000u ? 0 : 6;
}
