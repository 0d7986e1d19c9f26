/* SPDX-License-Identifier: 0BSD */
/* Nucleo-F446RE: USART2 on PA2 (out) and PA3 (in), which the ST-LINK shows as a virtual COM port. The clock is what SystemInit leaves: the same for
 * core and peripherals. */
#include "board.h"
#include "hil_server.h"
#include "stm32f446xx.h"

enum { BAUD = 115200, PIN_OUT = 2, PIN_IN = 3, ALTERNATE_FUNCTION = 7 };

void board_init(void) {
  SystemCoreClockUpdate();
  RCC->AHB1ENR |= RCC_AHB1ENR_GPIOAEN;
  RCC->APB1ENR |= RCC_APB1ENR_USART2EN;
  (void)RCC->APB1ENR;
  GPIOA->AFR[0] = (GPIOA->AFR[0] & ~(0xFFu << 4 * PIN_OUT)) | (uint32_t)(ALTERNATE_FUNCTION << 4 * PIN_OUT) | (uint32_t)(ALTERNATE_FUNCTION << 4 * PIN_IN);
  GPIOA->MODER = (GPIOA->MODER & ~(0xFu << 2 * PIN_OUT)) | 0xAu << 2 * PIN_OUT;
  USART2->BRR = (SystemCoreClock + BAUD / 2) / BAUD;
  USART2->CR1 = USART_CR1_TE | USART_CR1_RE | USART_CR1_UE;
  CoreDebug->DEMCR |= CoreDebug_DEMCR_TRCENA_Msk;
  DWT->CYCCNT = 0;
  DWT->CTRL |= DWT_CTRL_CYCCNTENA_Msk;
}

/* Reading the status and then the data also clears an overrun; the protocol copes with the byte lost. */
int board_get(void) { return USART2->SR & USART_SR_RXNE ? (int)(USART2->DR & 0xFFu) : MIDGE_HIL_NOTHING; }

void board_put(uint8_t byte) {
  while (!(USART2->SR & USART_SR_TXE)) {
  }
  USART2->DR = byte;
}

uint32_t board_ticks(void) { return DWT->CYCCNT; }

uint32_t board_hertz(void) { return SystemCoreClock; }
