/* SPDX-License-Identifier: 0BSD */
#include "golden_bench.h"

#include <string.h>

#include "golden_hooks.h"
#include "golden_size.h"
#include "midge_model.h"

static uint8_t arena[MODEL_ARENA_BYTES] __attribute__((aligned(MODEL_ARENA_ALIGN)));
static uint32_t sums[GOLDEN_LAYERS + 1u], slots[GOLDEN_SLOTS + 1u], seen[GOLDEN_LAYERS + 1u];

static uint32_t crc32(uint32_t crc, const uint8_t *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) {
      crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
  }
  return crc;
}

/* A row counts by the CRC-32 of its number and its bytes; a layer by the sum of its rows, which come in any order. */
void golden_row(uint32_t layer, uint32_t row, const void *bytes, size_t count) {
  if (layer >= GOLDEN_LAYERS || count == 0) {
    return;
  }
  const uint8_t number[4] = {(uint8_t)row, (uint8_t)(row >> 8), (uint8_t)(row >> 16), (uint8_t)(row >> 24)};
  uint32_t crc = ~crc32(crc32(0xFFFFFFFFu, number, sizeof number), bytes, count);
  const struct golden_layer *about = &golden_layer_table[layer];
  if (row < about->slots) {
    sums[layer] -= slots[about->first_slot + row];
    slots[about->first_slot + row] = crc;
  }
  sums[layer] += crc;
  seen[layer] = 1;
}

/* Whatever the last sample left must not help this one. */
static void forget(uint32_t sample) {
  uint32_t state = 0x9E3779B9u + sample * 0x85EBCA6Bu;
  for (size_t i = 0; i < sizeof arena; i++) {
    state = state * 1664525u + 1013904223u;
    arena[i] = (uint8_t)(state >> 24);
  }
  memset(sums, 0, sizeof sums);
  memset(slots, 0, sizeof slots);
  memset(seen, 0, sizeof seen);
}

static enum golden_status compare(struct golden_result *result, const uint8_t *outputs) {
  uint32_t watched = 0;
  for (uint32_t layer = 0; layer < golden_layers; layer++) {
    watched |= seen[layer];
  }
  result->layers = 0;
  for (result->layer = 0; result->layer < golden_layers; result->layer++) {
    uint32_t layer = result->layer;
    if (watched && golden_layer_table[layer].compared) {
      result->layers++;
      if (!seen[layer] || sums[layer] != golden_sums[result->sample * golden_layers + layer]) {
        return GOLDEN_DIFFERS;
      }
    }
  }
  for (uint32_t i = 0; i < MODEL_OUTPUT_COUNT; i++, result->layer++) {
    if (memcmp(model_output(arena, i), outputs, model_output_bytes(i)) != 0) {
      return GOLDEN_DIFFERS;
    }
    outputs += model_output_bytes(i);
  }
  return GOLDEN_SAME;
}

enum golden_status golden_run(struct golden_result *result) {
  const uint8_t *inputs = golden_inputs, *outputs = golden_outputs;
  memset(result, 0, sizeof *result);
  for (; result->sample < golden_samples; result->sample++) {
    forget(result->sample);
    for (uint32_t i = 0; i < MODEL_INPUT_COUNT; i++) {
      memcpy(model_input(arena, i), inputs, model_input_bytes(i));
      inputs += model_input_bytes(i);
    }
    result->code = model_run(arena);
    enum golden_status status = result->code != 0 ? GOLDEN_FAILED : compare(result, outputs);
    if (status != GOLDEN_SAME) {
      return status;
    }
    for (uint32_t i = 0; i < MODEL_OUTPUT_COUNT; i++) {
      outputs += model_output_bytes(i);
    }
  }
  return GOLDEN_SAME;
}
