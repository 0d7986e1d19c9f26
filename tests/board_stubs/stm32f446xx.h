/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for ST's header: the registers that board_nucleo_f446re.c uses, under their names. */
#ifndef STM32F446XX_H
#define STM32F446XX_H

#include "core_stub.h"

typedef struct {
  volatile uint32_t AHB1ENR, APB1ENR;
} RCC_TypeDef;

typedef struct {
  volatile uint32_t MODER, AFR[2];
} GPIO_TypeDef;

typedef struct {
  volatile uint32_t SR, DR, BRR, CR1;
} USART_TypeDef;

extern RCC_TypeDef stub_rcc;
extern GPIO_TypeDef stub_gpio;
extern USART_TypeDef stub_uart;

#define RCC (&stub_rcc)
#define GPIOA (&stub_gpio)
#define USART2 (&stub_uart)
#define RCC_AHB1ENR_GPIOAEN 1u
#define RCC_APB1ENR_USART2EN (1u << 17)
#define USART_CR1_UE (1u << 13)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_SR_RXNE (1u << 5)
#define USART_SR_TXE (1u << 7)

#ifdef STUB_CHECK
#define STUB_OBJECTS      \
  RCC_TypeDef stub_rcc;   \
  GPIO_TypeDef stub_gpio; \
  USART_TypeDef stub_uart;
#define STUB_READY() (stub_uart.SR = USART_SR_TXE)
#define STUB_RECEIVE(byte) (stub_uart.DR = (byte), stub_uart.SR |= USART_SR_RXNE)
#define STUB_SENT stub_uart.DR
/* Pins 2 and 3 of port A: alternate function (2), number 7; 4 MHz / 115200 is 35. */
#define STUB_RIGHT (stub_uart.BRR == 35u && stub_uart.CR1 == 0x200Cu && stub_gpio.MODER == 0xFFFFFFAFu && stub_gpio.AFR[0] == 0xFFFF77FFu)
#define STUB_PREPARE() (stub_gpio.MODER = stub_gpio.AFR[0] = 0xFFFFFFFFu)
#endif

#endif
