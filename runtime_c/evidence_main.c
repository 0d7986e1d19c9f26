/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a library on every sample of input.bin on the host, for tools that watch it: gcov, and valgrind with MIDGE_UNDEFINED, which marks every
 * byte of every input and of every layer's output as undefined, so that memcheck reports each jump that depends on one. Calls that must be refused come first.
 */
#include <stdio.h>
#include <string.h>

#include "midge_model.h"

#ifdef MIDGE_UNDEFINED
#include <valgrind/memcheck.h>

#include "midge_hooks.h"
#define FORGET(from, count) (void)VALGRIND_MAKE_MEM_UNDEFINED((from), (count))

void midge_hook_begin(uint32_t layer) { (void)layer; }

/* What a table gave is defined to memcheck, whatever the index was; so every layer's output is undefined again. */
void midge_hook_end(uint32_t layer, uint32_t row, const void *bytes, size_t count) {
  (void)layer;
  (void)row;
  FORGET(bytes, count);
}
#else
#define FORGET(from, count) (void)(from)
#endif

static uint8_t arena[MODEL_ARENA_BYTES] __attribute__((aligned(MODEL_ARENA_ALIGN)));

static int read_sample(FILE *file) {
  for (uint32_t i = 0; i < MODEL_INPUT_COUNT; i++) {
    void *place = model_input(arena, i);
    if (fread(place, 1, model_input_bytes(i), file) != model_input_bytes(i)) {
      return 0;
    }
    FORGET(place, model_input_bytes(i));
  }
  return MODEL_INPUT_COUNT > 0;
}

int main(void) {
  FILE *file = fopen("input.bin", "rb");
  if (file == NULL) {
    fputs("input.bin is not there\n", stderr);
    return 2;
  }
#ifndef MIDGE_UNDEFINED
  memset(arena, 0x5a, sizeof arena);
  int wrong = model_misuse(arena);
  volatile float converted = model_helpers();
  (void)converted;
  if (wrong != 0) {
    fprintf(stderr, "%d wrong calls were not refused\n", wrong);
    return 3;
  }
#endif
  unsigned samples = 0;
  for (memset(arena, 0xa5, sizeof arena); read_sample(file); memset(arena, 0xa5, sizeof arena), ++samples) {
    int code = model_run(arena);
    if (code != 0) {
      fprintf(stderr, "sample %u: the run returned %d\n", samples, code);
      return 1;
    }
  }
  (void)fclose(file);
  return samples > 0 || MODEL_INPUT_COUNT == 0 ? 0 : 4;
}
