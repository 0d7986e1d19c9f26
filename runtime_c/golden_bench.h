/* SPDX-License-Identifier: 0BSD */
/* A test of a midge library on whatever this runs on: stored inputs, the outputs and the layers that the model gives for them. */
#ifndef GOLDEN_BENCH_H
#define GOLDEN_BENCH_H

#include <stdint.h>

/* A layer's name; `slots` of them remember rows, from `first_slot` on, where a row is shown more than once before it is complete. compared: 0 if rows
 * show before they are complete and never again. */
struct golden_layer {
  const char *name;
  uint16_t first_slot, slots;
  int compared;
};

/* In golden_data.c. Inputs and outputs of a sample follow one another; a sum for each layer of each sample. */
extern const uint32_t golden_samples, golden_layers;
extern const uint8_t golden_inputs[], golden_outputs[];
extern const struct golden_layer golden_layer_table[];
extern const uint32_t golden_sums[];

struct golden_result {
  uint32_t sample, layer; /* of the first difference; layer golden_layers + i is output i */
  uint32_t layers;        /* how many were compared in each sample; 0 if the library was built without golden_hooks.h */
  int code;               /* what the library returned, if not 0 */
};

enum golden_status { GOLDEN_SAME, GOLDEN_DIFFERS, GOLDEN_FAILED };

/* Run all samples, up to the first difference or failure. */
enum golden_status golden_run(struct golden_result *result);

#endif
