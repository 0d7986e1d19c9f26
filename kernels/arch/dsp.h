/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary of the Armv7E-M DSP extension, each word with a plain C body, so that the same sources run on any host. */
#ifndef MIDGE_ARCH_DSP_H
#define MIDGE_ARCH_DSP_H

#include <stdint.h>
#include <string.h>

/* Whether generated assembly may stand in for its twin in C: GNU syntax, Thumb-2, DSP extension. */
#if defined(__GNUC__) && defined(__thumb2__) && defined(__ARM_FEATURE_DSP)
#define MIDGE_HAVE_ASM 1
#else
#define MIDGE_HAVE_ASM 0
#endif

/* The routine to call: `fast` is generated assembly, `twin` the function of the same meaning in C. */
#if MIDGE_HAVE_ASM
#define MIDGE_ROUTINE(fast, twin) fast
#else
#define MIDGE_ROUTINE(fast, twin) twin
#endif

/* A 32-bit word from any address; one load where the core allows it. */
static inline uint32_t midge_load32(const void *from) {
  uint32_t word;
  memcpy(&word, from, sizeof word);
  return word;
}

static inline void midge_store32(void *to, uint32_t word) { memcpy(to, &word, sizeof word); }

/* Low and high half of a pair of int16. */
static inline int32_t midge_low16(int32_t pair) { return (int16_t)((uint32_t)pair & 0xffffu); }

static inline int32_t midge_high16(int32_t pair) { return (int16_t)((uint32_t)pair >> 16); }

/* SXTB16: bytes 0 and 2 of four, sign-extended into a pair of int16; with `odd`, bytes 1 and 3. */
#if MIDGE_HAVE_ASM
static inline uint32_t midge_sxtb16(uint32_t bytes) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(bytes));
  return pair;
}

static inline uint32_t midge_sxtb16_odd(uint32_t bytes) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(bytes));
  return pair;
}
#else
static inline uint32_t midge_sxtb16(uint32_t bytes) {
  return ((uint32_t)(int32_t)(int8_t)(bytes & 0xffu) & 0xffffu) | (uint32_t)(int32_t)(int8_t)((bytes >> 16) & 0xffu) << 16;
}

static inline uint32_t midge_sxtb16_odd(uint32_t bytes) { return midge_sxtb16(bytes >> 8); }
#endif

/* SXTAB16: added to a pair of int16, each modulo 2^16; with `odd`, bytes 1 and 3. */
#if MIDGE_HAVE_ASM
static inline uint32_t midge_sxtab16(uint32_t pair, uint32_t bytes) {
  uint32_t sum;
  __asm__("sxtab16 %0, %1, %2" : "=r"(sum) : "r"(pair), "r"(bytes));
  return sum;
}

static inline uint32_t midge_sxtab16_odd(uint32_t pair, uint32_t bytes) {
  uint32_t sum;
  __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(sum) : "r"(pair), "r"(bytes));
  return sum;
}
#else
static inline uint32_t midge_sxtab16(uint32_t pair, uint32_t bytes) {
  uint32_t wide = midge_sxtb16(bytes);
  return ((pair + wide) & 0xffffu) | ((pair & 0xffff0000u) + (wide & 0xffff0000u));
}

static inline uint32_t midge_sxtab16_odd(uint32_t pair, uint32_t bytes) { return midge_sxtab16(pair, bytes >> 8); }
#endif

/* SSUB8, SEL: the larger of each of four int8. */
#if MIDGE_HAVE_ASM
static inline uint32_t midge_max8(uint32_t a, uint32_t b) {
  uint32_t larger;
  __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(larger) : "r"(a), "r"(b));
  return larger;
}
#else
static inline uint32_t midge_max8(uint32_t a, uint32_t b) {
  uint32_t larger = 0;
  for (int shift = 0; shift < 32; shift += 8) {
    uint32_t x = (a >> shift) & 0xffu, y = (b >> shift) & 0xffu;
    larger |= ((x ^ 0x80u) > (y ^ 0x80u) ? x : y) << shift;
  }
  return larger;
}
#endif

/* SSAT #8: limited to int8. */
#if defined(__GNUC__) && defined(__thumb2__)
static inline int32_t midge_saturate8(int32_t value) {
  int32_t limited;
  __asm__("ssat %0, #8, %1" : "=r"(limited) : "r"(value) : "cc");
  return limited;
}
#else
static inline int32_t midge_saturate8(int32_t value) { return value < -128 ? -128 : value > 127 ? 127 : value; }
#endif

/* Four int8 limited to those of `low` and `high`: SSUB8 says which are not below, SEL takes. */
#if MIDGE_HAVE_ASM
static inline uint32_t midge_clamp8x4(uint32_t bytes, uint32_t low, uint32_t high) {
  uint32_t scratch;
  __asm__("ssub8 %1, %0, %2\n\tsel %0, %0, %2\n\tssub8 %1, %3, %0\n\tsel %0, %0, %3" : "+r"(bytes), "=&r"(scratch) : "r"(low), "r"(high) : "cc");
  return bytes;
}
#else
static inline uint32_t midge_clamp8x4(uint32_t bytes, uint32_t low, uint32_t high) {
  uint32_t limited = 0;
  for (int shift = 0; shift < 32; shift += 8) {
    int8_t value = (int8_t)(bytes >> shift), least = (int8_t)low, most = (int8_t)high;
    limited |= (uint32_t)(uint8_t)(value < least ? least : value > most ? most : value) << shift;
  }
  return limited;
}
#endif

/* SMLAD: acc + low * low + high * high, modulo 2^32. */
static inline int32_t midge_smlad(int32_t a, int32_t b, int32_t acc) {
  uint32_t products = (uint32_t)(midge_low16(a) * midge_low16(b)) + (uint32_t)(midge_high16(a) * midge_high16(b));
  return (int32_t)((uint32_t)acc + products);
}

#endif
