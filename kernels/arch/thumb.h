/* SPDX-License-Identifier: Apache-2.0 */
/* Where generated assembly without the DSP extension may stand in for its twins in C: GNU syntax, and Thumb-2 (Armv7-M) or Thumb-1 (Armv6-M). */
#ifndef MIDGE_ARCH_THUMB_H
#define MIDGE_ARCH_THUMB_H

#if defined(__GNUC__) && defined(__thumb2__) && __ARM_ARCH >= 7
#define MIDGE_HAVE_THUMB2 1
#else
#define MIDGE_HAVE_THUMB2 0
#endif

#if defined(__GNUC__) && defined(__thumb__) && __ARM_ARCH >= 6
#define MIDGE_HAVE_THUMB1 1
#else
#define MIDGE_HAVE_THUMB1 0
#endif

#if MIDGE_HAVE_THUMB2
#define MIDGE_THUMB2_ROUTINE(fast, twin) fast
#else
#define MIDGE_THUMB2_ROUTINE(fast, twin) twin
#endif

#if MIDGE_HAVE_THUMB1
#define MIDGE_THUMB1_ROUTINE(fast, twin) fast
#else
#define MIDGE_THUMB1_ROUTINE(fast, twin) twin
#endif

#endif
