/* SPDX-License-Identifier: 0BSD */
/* Included before every source of the library, so that its layers are compared, too. */
#ifndef GOLDEN_HOOKS_H
#define GOLDEN_HOOKS_H

#include <stddef.h>
#include <stdint.h>

void golden_row(uint32_t layer, uint32_t row, const void *bytes, size_t count);

#define MIDGE_HOOK_END(layer, row, ptr, nbytes) golden_row((uint32_t)(layer), (uint32_t)(row), (ptr), (size_t)(nbytes))

#endif
