/* SPDX-License-Identifier: 0BSD */
/* nRF52840-DK: UART0 on P0.06 (out) and P0.08 (in), which the J-Link on the board shows as a virtual COM port. The core runs at 64 MHz from reset. */
#include "board.h"
#include "hil_server.h"
#include "nrf52840.h"

enum { PIN_OUT = 6, PIN_IN = 8, BAUD_115200 = 0x01D7E000, ENABLE_UART = 4, CORE_HERTZ = 64000000 };

static int sending;

void board_init(void) {
  NRF_P0->OUTSET = 1u << PIN_OUT;
  NRF_P0->DIRSET = 1u << PIN_OUT;
  NRF_P0->PIN_CNF[PIN_IN] = 0; /* input, connected */
  NRF_UART0->PSEL.TXD = PIN_OUT;
  NRF_UART0->PSEL.RXD = PIN_IN;
  NRF_UART0->BAUDRATE = BAUD_115200;
  NRF_UART0->ENABLE = ENABLE_UART;
  NRF_UART0->TASKS_STARTRX = 1;
  NRF_UART0->TASKS_STARTTX = 1;
  sending = 0;
  CoreDebug->DEMCR |= CoreDebug_DEMCR_TRCENA_Msk;
  DWT->CYCCNT = 0;
  DWT->CTRL |= DWT_CTRL_CYCCNTENA_Msk;
}

int board_get(void) {
  if (!NRF_UART0->EVENTS_RXDRDY) {
    return MIDGE_HIL_NOTHING;
  }
  NRF_UART0->EVENTS_RXDRDY = 0; /* before the data are read: a byte may be waiting behind it */
  return (int)(NRF_UART0->RXD & 0xFFu);
}

void board_put(uint8_t byte) {
  while (sending && !NRF_UART0->EVENTS_TXDRDY) {
  }
  NRF_UART0->EVENTS_TXDRDY = 0;
  NRF_UART0->TXD = byte;
  sending = 1;
}

uint32_t board_ticks(void) { return DWT->CYCCNT; }

uint32_t board_hertz(void) { return CORE_HERTZ; }
