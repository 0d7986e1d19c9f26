/* SPDX-License-Identifier: Apache-2.0 */
#include "clamp.h"

#include <string.h>

#include "arch/dsp.h"
#include "fixedpoint.h"

void midge_clamp_s8(const midge_clamp_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                    void *scratch) {
  uint32_t low = ((uint32_t)params->low & 0xffu) * 0x01010101u, high = ((uint32_t)params->high & 0xffu) * 0x01010101u;
  (void)constants;
  (void)scratch;
  for (; rows > 0; --rows, ++in_rows, ++out_rows) {
    const int8_t *in = *in_rows, *end = in + params->count;
    int8_t *out = *out_rows;
    for (; end - in >= 4; in += 4, out += 4) {
      uint32_t word = midge_clamp8x4(midge_load32(in), low, high);
      memcpy(out, &word, sizeof word);
    }
    for (; in != end; ++in, ++out) {
      *out = (int8_t)midge_clamp(*in, params->low, params->high);
    }
  }
}
