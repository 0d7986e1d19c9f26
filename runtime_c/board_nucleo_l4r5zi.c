/* SPDX-License-Identifier: 0BSD */
/* Nucleo-L4R5ZI: LPUART1 on PG7 (out) and PG8 (in), which the ST-LINK shows as a virtual COM port. The clock is what SystemInit leaves. */
#include "board.h"
#include "hil_server.h"
#include "stm32l4r5xx.h"

enum { BAUD = 115200, PIN_OUT = 7, PIN_IN = 8, ALTERNATE_FUNCTION = 8 };

void board_init(void) {
  SystemCoreClockUpdate();
  RCC->APB1ENR1 |= RCC_APB1ENR1_PWREN;
  RCC->AHB2ENR |= RCC_AHB2ENR_GPIOGEN;
  RCC->APB1ENR2 |= RCC_APB1ENR2_LPUART1EN;
  (void)RCC->APB1ENR2;
  PWR->CR2 |= PWR_CR2_IOSV; /* port G has a supply of its own */
  GPIOG->AFR[0] = (GPIOG->AFR[0] & ~(0xFu << 4 * PIN_OUT)) | (uint32_t)ALTERNATE_FUNCTION << 4 * PIN_OUT;
  GPIOG->AFR[1] = (GPIOG->AFR[1] & ~0xFu) | (uint32_t)ALTERNATE_FUNCTION; /* pin 8 */
  GPIOG->MODER = (GPIOG->MODER & ~(0xFu << 2 * PIN_OUT)) | 0xAu << 2 * PIN_OUT;
  LPUART1->BRR = (uint32_t)(((uint64_t)SystemCoreClock * 256u + BAUD / 2) / BAUD);
  LPUART1->CR1 = USART_CR1_TE | USART_CR1_RE | USART_CR1_UE;
  CoreDebug->DEMCR |= CoreDebug_DEMCR_TRCENA_Msk;
  DWT->CYCCNT = 0;
  DWT->CTRL |= DWT_CTRL_CYCCNTENA_Msk;
}

int board_get(void) {
  if (LPUART1->ISR & USART_ISR_ORE) {
    LPUART1->ICR = USART_ICR_ORECF; /* a byte was lost; the protocol copes */
  }
  return LPUART1->ISR & USART_ISR_RXNE ? (int)(LPUART1->RDR & 0xFFu) : MIDGE_HIL_NOTHING;
}

void board_put(uint8_t byte) {
  while (!(LPUART1->ISR & USART_ISR_TXE)) {
  }
  LPUART1->TDR = byte;
}

uint32_t board_ticks(void) { return DWT->CYCCNT; }

uint32_t board_hertz(void) { return SystemCoreClock; }
