/* SPDX-License-Identifier: Apache-2.0 */
/* Included before every source of a library whose layers are to be watched; bench_main.c has the functions. */
#ifndef MIDGE_HOOKS_H
#define MIDGE_HOOKS_H

#include <stddef.h>
#include <stdint.h>

void midge_hook_begin(uint32_t layer);
void midge_hook_end(uint32_t layer, uint32_t row, const void *bytes, size_t count);

#define MIDGE_HOOK_BEGIN(layer) midge_hook_begin((uint32_t)(layer))
#define MIDGE_HOOK_END(layer, row, ptr, nbytes) midge_hook_end((uint32_t)(layer), (uint32_t)(row), (ptr), (size_t)(nbytes))

#endif
