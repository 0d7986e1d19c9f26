/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for Nordic's header: the registers that board_nrf52840_dk.c uses, under their names. */
#ifndef NRF52840_H
#define NRF52840_H

#include "core_stub.h"

typedef struct {
  volatile uint32_t OUTSET, DIRSET, PIN_CNF[32];
} NRF_GPIO_Type;

typedef struct {
  volatile uint32_t TASKS_STARTRX, TASKS_STARTTX, EVENTS_RXDRDY, EVENTS_TXDRDY, ENABLE, RXD, TXD, BAUDRATE;
  struct {
    volatile uint32_t RTS, TXD, CTS, RXD;
  } PSEL;
} NRF_UART_Type;

extern NRF_GPIO_Type stub_gpio;
extern NRF_UART_Type stub_uart;

#define NRF_P0 (&stub_gpio)
#define NRF_UART0 (&stub_uart)

#ifdef STUB_CHECK
#define STUB_OBJECTS       \
  NRF_GPIO_Type stub_gpio; \
  NRF_UART_Type stub_uart;
#define STUB_READY() (stub_uart.EVENTS_TXDRDY = 1)
#define STUB_RECEIVE(byte) (stub_uart.RXD = (byte), stub_uart.EVENTS_RXDRDY = 1)
#define STUB_SENT stub_uart.TXD
#define STUB_RIGHT                                                                                                                                       \
  (stub_uart.PSEL.TXD == 6u && stub_uart.PSEL.RXD == 8u && stub_uart.ENABLE == 4u && stub_uart.BAUDRATE == 0x01D7E000u && stub_gpio.DIRSET == 1u << 6 && \
   stub_gpio.PIN_CNF[8] == 0 && stub_uart.TASKS_STARTRX && stub_uart.TASKS_STARTTX)
#define STUB_PREPARE() (stub_gpio.PIN_CNF[8] = 2u)
#endif

#endif
