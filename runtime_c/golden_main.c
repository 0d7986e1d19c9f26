/* SPDX-License-Identifier: 0BSD */
/*
 * Exit code 0 if everything is as it should be; otherwise the number of the first layer that differs plus 1 (254 if that is too much, outputs count behind
 * the layers), or 255 if the library returned an error. With GOLDEN_QUIET nothing is printed, and no stdio is needed.
 */
#include "golden_bench.h"

#ifndef GOLDEN_QUIET
#include <stdio.h>
#endif

int main(void) {
  struct golden_result result;
  enum golden_status status = golden_run(&result);
#ifndef GOLDEN_QUIET
  if (status == GOLDEN_SAME) {
    printf("%lu samples: outputs and %lu of %lu layers are as they should be\n", (unsigned long)golden_samples, (unsigned long)result.layers,
           (unsigned long)golden_layers);
  } else if (status == GOLDEN_FAILED) {
    printf("sample %lu: the library returned %d\n", (unsigned long)result.sample, result.code);
  } else if (result.layer < golden_layers) {
    printf("sample %lu: layer %lu '%s' differs\n", (unsigned long)result.sample, (unsigned long)result.layer, golden_layer_table[result.layer].name);
  } else {
    printf("sample %lu: output %lu differs\n", (unsigned long)result.sample, (unsigned long)(result.layer - golden_layers));
  }
#endif
  if (status == GOLDEN_SAME) {
    return 0;
  }
  return status == GOLDEN_FAILED ? 255 : result.layer < 253u ? (int)result.layer + 1 : 254;
}
