/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a library on every sample of input.bin, writes output.bin and result.bin. The same source serves the host and the boards, which
 * differ in port.h only.
 *
 * Built plain it measures instructions and stack of sample 0; with MIDGE_PROFILE the instructions of each layer of sample 0; with
 * MIDGE_TRACE every layer's output goes to layers.bin, with MIDGE_CONSTANTS a CRC-32 of each constant to constants.bin. File formats:
 * midge/run/firmware.py.
 */
#include <string.h>

#include "midge_model.h"
#include "port.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum status { STATUS_OK, STATUS_RUN, STATUS_GUARD_BEFORE, STATUS_GUARD_AFTER, STATUS_STACK, STATUS_FILE };
enum { RESULT_MAGIC = 0x6567646D, GUARD_BYTE = 0xC9, CALIBRATION_PAIRS = 64 };
#define GUARD_BYTES (MODEL_ARENA_ALIGN > 64u ? MODEL_ARENA_ALIGN : 64u)

struct result {
  uint32_t magic, status, sample;
  int32_t code;
  uint32_t ticks[2], empty_ticks, stack_bytes;
  uint32_t layers, calibration_pairs, calibration_ticks;
};

struct layer_cost {
  uint32_t ticks[2], ends;
};

static uint8_t memory[GUARD_BYTES + MODEL_ARENA_BYTES + GUARD_BYTES] __attribute__((aligned(MODEL_ARENA_ALIGN)));
static struct result result = {.magic = RESULT_MAGIC};

#if defined(MIDGE_PROFILE)
#include "midge_hooks.h"

/* The last entry calibrates. */
static uint64_t layer_ticks[MODEL_LAYER_COUNT + 1u];
static uint32_t layer_ends[MODEL_LAYER_COUNT + 1u];
static struct layer_cost costs[MODEL_LAYER_COUNT + 1u];
static uint64_t last_ticks;

void midge_hook_begin(uint32_t layer) {
  (void)layer;
  last_ticks = port_ticks();
}

/* An END without its own BEGIN (the next row of the same layer) counts from the END before it. */
void midge_hook_end(uint32_t layer, uint32_t row, const void *bytes, size_t count) {
  (void)row;
  (void)bytes;
  (void)count;
  if (layer <= MODEL_LAYER_COUNT) {
    layer_ticks[layer] += port_ticks() - last_ticks;
    layer_ends[layer]++;
  }
  last_ticks = port_ticks();
}

static void calibrate_hooks(void) {
  for (uint32_t i = 0; i < CALIBRATION_PAIRS; i++) {
    MIDGE_HOOK_BEGIN(MODEL_LAYER_COUNT);
    MIDGE_HOOK_END(MODEL_LAYER_COUNT, i, memory, i);
  }
  result.calibration_pairs = CALIBRATION_PAIRS;
  result.calibration_ticks = (uint32_t)layer_ticks[MODEL_LAYER_COUNT];
}

/* After sample 0 the sums are put aside; later samples run for their outputs only. */
static void keep_layers(void) {
  for (uint32_t i = 0; i < MODEL_LAYER_COUNT; i++) {
    costs[i] = (struct layer_cost){{(uint32_t)layer_ticks[i], (uint32_t)(layer_ticks[i] >> 32)}, layer_ends[i]};
  }
  result.layers = MODEL_LAYER_COUNT;
}
#elif defined(MIDGE_TRACE)
#include "midge_hooks.h"

static int trace_file;
static int trace_failed;

void midge_hook_begin(uint32_t layer) { (void)layer; }

void midge_hook_end(uint32_t layer, uint32_t row, const void *bytes, size_t count) {
  const uint32_t record[4] = {result.sample, layer, row, (uint32_t)count};
  trace_failed |= port_write(trace_file, record, sizeof record);
  trace_failed |= port_write(trace_file, bytes, count);
}
#endif

/* Whatever the last run left must not help this one: every byte of the arena is unpredictable before each sample. */
static void fill_arena(uint8_t *arena, uint32_t sample) {
  uint32_t state = 0x9E3779B9u + sample * 0x85EBCA6Bu;
  for (uint32_t i = 0; i < MODEL_ARENA_BYTES; i++) {
    state = state * 1664525u + 1013904223u;
    arena[i] = (uint8_t)(state >> 24);
  }
}

static void set_guards(void) {
  memset(memory, GUARD_BYTE, GUARD_BYTES);
  memset(memory + GUARD_BYTES + MODEL_ARENA_BYTES, GUARD_BYTE, GUARD_BYTES);
#ifdef HAVE_ASAN
  /* Stricter than looking afterwards: the first access, a read included, stops the program with its place. */
  __asan_poison_memory_region(memory, GUARD_BYTES);
  __asan_poison_memory_region(memory + GUARD_BYTES + MODEL_ARENA_BYTES, GUARD_BYTES);
#endif
}

static enum status check_guards(void) {
#ifndef HAVE_ASAN
  const uint8_t *after = memory + GUARD_BYTES + MODEL_ARENA_BYTES;
  for (uint32_t i = 0; i < GUARD_BYTES; i++) {
    if (memory[i] != GUARD_BYTE) {
      return STATUS_GUARD_BEFORE;
    }
    if (after[i] != GUARD_BYTE) {
      return STATUS_GUARD_AFTER;
    }
  }
#endif
  return STATUS_OK;
}

/* 1 when all inputs of a sample were read, 0 at the end of the file. Without inputs there is one sample. */
static int read_inputs(int file, uint8_t *arena, uint32_t sample) {
  if (MODEL_INPUT_COUNT == 0) {
    return sample == 0;
  }
  for (uint32_t i = 0; i < MODEL_INPUT_COUNT; i++) {
    if (port_read(file, model_input(arena, i), model_input_bytes(i)) != model_input_bytes(i)) {
      return 0;
    }
  }
  return 1;
}

static enum status run_sample(uint8_t *arena) {
  struct port_cost cost;
  int code = port_measure(model_run, arena, &cost);
  if (result.sample == 0) {
    result.ticks[0] = (uint32_t)cost.ticks;
    result.ticks[1] = (uint32_t)(cost.ticks >> 32);
    result.empty_ticks = cost.empty_ticks;
    result.stack_bytes = cost.stack_bytes;
#ifdef MIDGE_PROFILE
    keep_layers();
#endif
  }
  result.code = code;
  if (code != 0) {
    return STATUS_RUN;
  }
  return cost.overflow ? STATUS_STACK : check_guards();
}

static enum status run_all(void) {
  uint8_t *arena = memory + GUARD_BYTES;
  int input = port_open("input.bin", 0);
  int output = port_open("output.bin", 1);
  if (input < 0 || output < 0) {
    return STATUS_FILE;
  }
  for (;; result.sample++) {
    fill_arena(arena, result.sample);
    if (!read_inputs(input, arena, result.sample)) {
      break;
    }
    enum status status = run_sample(arena);
    for (uint32_t i = 0; status == STATUS_OK && i < MODEL_OUTPUT_COUNT; i++) {
      status = port_write(output, model_output(arena, i), model_output_bytes(i)) == 0 ? STATUS_OK : STATUS_FILE;
    }
    if (status != STATUS_OK) {
      return status;
    }
  }
  port_close(input);
  port_close(output);
  return STATUS_OK;
}

#ifdef MIDGE_CONSTANTS
/* As the constants lie in this program, after all runs. */
static enum status sum_constants(void) {
  int file = port_open("constants.bin", 1), failed = file < 0;
  uint32_t crc = 0;
  for (uint32_t i = 0; !failed && model_constant_crc32(i, &crc); i++) {
    failed = port_write(file, &crc, sizeof crc) != 0;
  }
  if (file >= 0) {
    port_close(file);
  }
  return failed ? STATUS_FILE : STATUS_OK;
}
#endif

int main(void) {
  port_init();
  set_guards();
#if defined(MIDGE_PROFILE)
  calibrate_hooks();
#elif defined(MIDGE_TRACE)
  trace_file = port_open("layers.bin", 1);
#endif
  enum status status = run_all();
#if defined(MIDGE_TRACE)
  port_close(trace_file);
  if (status == STATUS_OK && trace_failed) {
    status = STATUS_FILE;
  }
#endif
#if defined(MIDGE_CONSTANTS)
  if (status == STATUS_OK) {
    status = sum_constants();
  }
#endif
  result.status = (uint32_t)status;
  int file = port_open("result.bin", 1);
  (void)port_write(file, &result, sizeof result);
#if defined(MIDGE_PROFILE)
  (void)port_write(file, costs, result.layers * sizeof costs[0]);
#endif
  port_close(file);
  port_exit(status == STATUS_OK ? 0 : 1);
  return 0;
}
