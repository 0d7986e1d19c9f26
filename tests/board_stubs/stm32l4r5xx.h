/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for ST's header: the registers that board_nucleo_l4r5zi.c uses, under their names. */
#ifndef STM32L4R5XX_H
#define STM32L4R5XX_H

#include "core_stub.h"

typedef struct {
  volatile uint32_t AHB2ENR, APB1ENR1, APB1ENR2;
} RCC_TypeDef;

typedef struct {
  volatile uint32_t CR1, CR2;
} PWR_TypeDef;

typedef struct {
  volatile uint32_t MODER, AFR[2];
} GPIO_TypeDef;

typedef struct {
  volatile uint32_t CR1, BRR, ISR, ICR, RDR, TDR;
} USART_TypeDef;

extern RCC_TypeDef stub_rcc;
extern PWR_TypeDef stub_pwr;
extern GPIO_TypeDef stub_gpio;
extern USART_TypeDef stub_uart;

#define RCC (&stub_rcc)
#define PWR (&stub_pwr)
#define GPIOG (&stub_gpio)
#define LPUART1 (&stub_uart)
#define RCC_APB1ENR1_PWREN (1u << 28)
#define RCC_AHB2ENR_GPIOGEN (1u << 6)
#define RCC_APB1ENR2_LPUART1EN 1u
#define PWR_CR2_IOSV (1u << 9)
#define USART_CR1_UE 1u
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_ISR_ORE (1u << 3)
#define USART_ISR_RXNE (1u << 5)
#define USART_ISR_TXE (1u << 7)
#define USART_ICR_ORECF (1u << 3)

#ifdef STUB_CHECK
#define STUB_OBJECTS      \
  RCC_TypeDef stub_rcc;   \
  PWR_TypeDef stub_pwr;   \
  GPIO_TypeDef stub_gpio; \
  USART_TypeDef stub_uart;
#define STUB_READY() (stub_uart.ISR = USART_ISR_TXE)
#define STUB_RECEIVE(byte) (stub_uart.RDR = (byte), stub_uart.ISR |= USART_ISR_RXNE)
#define STUB_SENT stub_uart.TDR
/* Pins 7 and 8 of port G: alternate function (2), number 8; 256 * 4 MHz / 115200 is 8889. */
#define STUB_RIGHT                                                                                                                                           \
  (stub_uart.BRR == 8889u && stub_uart.CR1 == 13u && stub_gpio.MODER == 0xFFFEBFFFu && stub_gpio.AFR[0] == 0x8FFFFFFFu && stub_gpio.AFR[1] == 0xFFFFFFF8u && \
   stub_pwr.CR2 == PWR_CR2_IOSV)
#define STUB_PREPARE() (stub_gpio.MODER = stub_gpio.AFR[0] = stub_gpio.AFR[1] = 0xFFFFFFFFu)
#endif

#endif
