/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest firmware that uses a library: what it costs in flash is what the library costs a product. */
#include "midge_model.h"

static uint8_t arena[MODEL_ARENA_BYTES] __attribute__((aligned(MODEL_ARENA_ALIGN)));

int main(void) {
  /* Volatile: the result is used, so nothing of the library can be dropped. */
  static volatile int result;
  for (;;) {
    for (uint32_t i = 0; i < MODEL_INPUT_COUNT; i++) {
      *(volatile uint8_t *)model_input(arena, i) = (uint8_t)result;
    }
    result = model_run(arena);
    for (uint32_t i = 0; i < MODEL_OUTPUT_COUNT; i++) {
      result += *(const volatile uint8_t *)model_output(arena, i);
    }
  }
}
