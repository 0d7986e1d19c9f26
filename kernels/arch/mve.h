/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary of the M-profile vector extension (Helium), each word with a plain C body, so that the same sources run on any host. */
#ifndef MIDGE_ARCH_MVE_H
#define MIDGE_ARCH_MVE_H

#include <stdint.h>
#include <string.h>

/* Whether generated vector assembly may stand in for its twin in C: GNU syntax, integer vectors. */
#if defined(__GNUC__) && defined(__thumb2__) && defined(__ARM_FEATURE_MVE)
#define MIDGE_HAVE_MVE 1
#else
#define MIDGE_HAVE_MVE 0
#endif

/* The routine to call: `fast` is generated assembly, `twin` the function of the same meaning in C. */
#if MIDGE_HAVE_MVE
#define MIDGE_MVE_ROUTINE(fast, twin) fast
#else
#define MIDGE_MVE_ROUTINE(fast, twin) twin
#endif

/* Copy `nbytes` bytes, 16 at a time; returns the end of `to`. */
#if MIDGE_HAVE_MVE
static inline int8_t *midge_copy(int8_t *to, const int8_t *from, int32_t nbytes) {
  int8_t *end = to + nbytes;
  __asm__ volatile(
      "wlstp.8 lr, %2, 2f\n"
      "1: vldrb.u8 q0, [%1], #16\n"
      "vstrb.8 q0, [%0], #16\n"
      "letp lr, 1b\n"
      "2:"
      : "+r"(to), "+r"(from)
      : "r"(nbytes)
      : "q0", "lr", "memory");
  return end;
}
#else
static inline int8_t *midge_copy(int8_t *to, const int8_t *from, int32_t nbytes) {
  memcpy(to, from, (size_t)nbytes);
  return to + nbytes;
}
#endif

/* Fill `nbytes` bytes with one value; returns the end of `to`. */
#if MIDGE_HAVE_MVE
static inline int8_t *midge_fill(int8_t *to, int8_t value, int32_t nbytes) {
  int8_t *end = to + nbytes;
  __asm__ volatile(
      "vdup.8 q0, %1\n"
      "wlstp.8 lr, %2, 2f\n"
      "1: vstrb.8 q0, [%0], #16\n"
      "letp lr, 1b\n"
      "2:"
      : "+r"(to)
      : "r"(value), "r"(nbytes)
      : "q0", "lr", "memory");
  return end;
}
#else
static inline int8_t *midge_fill(int8_t *to, int8_t value, int32_t nbytes) {
  memset(to, value, (size_t)nbytes);
  return to + nbytes;
}
#endif

/* out[i] = clamp((a[i] * a_factor + b[i] * b_factor + offset) >> shift) for `count` elements; 0 < shift < 32, act_min <= act_max. */
#if MIDGE_HAVE_MVE
static inline void midge_scaled_sum(const int8_t *a, const int8_t *b, int8_t *out, int32_t count, const int32_t factors[6]) {
  int32_t shift = -factors[3];
  __asm__ volatile(
      "ldr lr, [%[factors]]\n"
      "vdup.32 q2, lr\n"
      "ldr lr, [%[factors], #16]\n"
      "vdup.32 q3, lr\n"
      "ldr lr, [%[factors], #20]\n"
      "vdup.32 q4, lr\n"
      "wlstp.32 lr, %[count], 2f\n"
      "ldr %[count], [%[factors], #4]\n"
      "ldr %[factors], [%[factors], #8]\n"
      "1: vldrb.s32 q0, [%[a]], #4\n"
      "vldrb.s32 q1, [%[b]], #4\n"
      "vmlas.s32 q0, q2, %[factors]\n"
      "vmla.s32 q0, q1, %[count]\n"
      "vshl.s32 q0, %[shift]\n"
      "vmax.s32 q0, q0, q3\n"
      "vmin.s32 q0, q0, q4\n"
      "vstrb.32 q0, [%[out]], #4\n"
      "letp lr, 1b\n"
      "2:"
      : [a] "+l"(a), [b] "+l"(b), [out] "+l"(out), [count] "+r"(count), [factors] "+r"(factors)
      : [shift] "r"(shift)
      : "q0", "q1", "q2", "q3", "q4", "lr", "memory");
}
#else
static inline void midge_scaled_sum(const int8_t *a, const int8_t *b, int8_t *out, int32_t count, const int32_t factors[6]) {
  for (int32_t i = 0; i < count; ++i) {
    int32_t value = (a[i] * factors[0] + b[i] * factors[1] + factors[2]) >> factors[3];
    out[i] = (int8_t)(value < factors[4] ? factors[4] : value > factors[5] ? factors[5] : value);
  }
}
#endif

/* sums[i] += the sum over x < pixels of in[x * step + i], for `count` channels, 8 at most; pixels is 1 to 255, so that 16 bits hold a sum. */
#if MIDGE_HAVE_MVE
static inline void midge_accumulate(int32_t *sums, const int8_t *in, int32_t step, int32_t count, int32_t pixels) {
  int16_t words[8], *word = words;
  __asm__ volatile(
      "vmov.i32 q1, #0\n"
      "vctp.16 %[count]\n"
      "dls lr, %[pixels]\n"
      "1: vpst\n"
      "vldrbt.s16 q0, [%[in]]\n"
      "vadd.i16 q1, q1, q0\n"
      "add %[in], %[in], %[step]\n"
      "le lr, 1b\n"
      "vstrh.16 q1, [%[word]]\n"
      "dlstp.32 lr, %[count]\n"
      "1: vldrh.s32 q0, [%[word]], #8\n"
      "vldrw.u32 q1, [%[sums]]\n"
      "vadd.i32 q1, q1, q0\n"
      "vstrw.32 q1, [%[sums]], #16\n"
      "letp lr, 1b"
      : [sums] "+l"(sums), [in] "+l"(in), [word] "+l"(word)
      : [step] "r"(step), [count] "r"(count), [pixels] "r"(pixels)
      : "q0", "q1", "lr", "memory");
}
#else
static inline void midge_accumulate(int32_t *sums, const int8_t *in, int32_t step, int32_t count, int32_t pixels) {
  for (int32_t x = 0; x < pixels; ++x, in += step) {
    for (int32_t i = 0; i < count; ++i) {
      sums[i] += in[i];
    }
  }
}
#endif

/* Copy `nbytes` bytes from `offset` in each of `count` rows, one after another. Up to 16 bytes after them may be written. */
#if MIDGE_HAVE_MVE
static inline void midge_gather(int8_t *to, const int8_t *const *rows, int32_t count, int32_t offset, int32_t nbytes) {
  const int8_t *from;
  if (nbytes > 16) {
    for (const int8_t *const *end = rows + count; rows != end; ++rows) {
      to = midge_copy(to, *rows + offset, nbytes);
    }
    return;
  }
  __asm__ volatile(
      "vctp.8 %[nbytes]\n"
      "dls lr, %[count]\n"
      "1: ldr %[from], [%[rows]], #4\n"
      "add %[from], %[from], %[offset]\n"
      "vpst\n"
      "vldrbt.u8 q0, [%[from]]\n"
      "vstrb.8 q0, [%[to]]\n"
      "add %[to], %[to], %[nbytes]\n"
      "le lr, 1b"
      : [to] "+r"(to), [rows] "+r"(rows), [from] "=&r"(from)
      : [count] "r"(count), [offset] "r"(offset), [nbytes] "r"(nbytes)
      : "q0", "lr", "memory");
}
#else
static inline void midge_gather(int8_t *to, const int8_t *const *rows, int32_t count, int32_t offset, int32_t nbytes) {
  for (const int8_t *const *end = rows + count; rows != end; ++rows) {
    to = midge_copy(to, *rows + offset, nbytes);
  }
}
#endif

/* Copy runs of bytes to where they belong: byte i of 16 goes to to[places[i]]. `turns` times 16 bytes are copied, from then moves on by `step` and to by
 * `jump`; `rest` bytes, 16 or fewer, are copied after them. */
#if MIDGE_HAVE_MVE
static inline void midge_spread(int8_t *to, const int8_t *from, const uint8_t *places, int32_t step, int32_t jump, int32_t turns, int32_t rest) {
  __asm__ volatile(
      "vldrb.u8 q1, [%[places]]\n"
      "wls lr, %[turns], 2f\n"
      "1: vldrb.u8 q0, [%[from]]\n"
      "vstrb.8 q0, [%[to], q1]\n"
      "add %[from], %[from], %[step]\n"
      "add %[to], %[to], %[jump]\n"
      "le lr, 1b\n"
      "2: vctp.8 %[rest]\n"
      "vpstt\n"
      "vldrbt.u8 q0, [%[from]]\n"
      "vstrbt.8 q0, [%[to], q1]"
      : [to] "+r"(to), [from] "+r"(from)
      : [places] "r"(places), [step] "r"(step), [jump] "r"(jump), [turns] "r"(turns), [rest] "r"(rest)
      : "q0", "q1", "lr", "memory");
}
#else
static inline void midge_spread(int8_t *to, const int8_t *from, const uint8_t *places, int32_t step, int32_t jump, int32_t turns, int32_t rest) {
  for (; turns >= 0; --turns, from += step, to += jump) {
    for (int32_t i = 0; i < (turns > 0 ? 16 : rest); ++i) {
      to[places[i]] = from[i];
    }
  }
}
#endif

#endif
