/* SPDX-License-Identifier: Apache-2.0 */
/* What the test firmware needs from the place it runs on: files, a clock, the stack, a way out. */
#ifndef MIDGE_PORT_H
#define MIDGE_PORT_H

#include <stddef.h>
#include <stdint.h>

struct port_cost {
  uint64_t ticks;       /* between call and return; 0 where nothing counts */
  uint32_t empty_ticks; /* what the same measurement reads around nothing */
  uint32_t stack_bytes; /* high-water mark below the caller; 0 where unknown */
  int overflow;         /* the last word of the stack was overwritten */
};

/* Start the clock; call once, first. */
void port_init(void);
/* A handle, or -1. Files live in the directory the program was started in. */
int port_open(const char *name, int for_writing);
/* Bytes read: fewer than asked only at the end of the file. */
size_t port_read(int handle, void *bytes, size_t count);
/* 0, or -1 when not everything was written. */
int port_write(int handle, const void *bytes, size_t count);
void port_close(int handle);
/* Monotonic; the unit is the board's (Board.ticks_per_instruction on the Python side). */
uint64_t port_ticks(void);
/* Call run(arena) and say what it cost. */
int port_measure(int (*run)(void *arena), void *arena, struct port_cost *cost);
void port_exit(int code);

#endif
