/* SPDX-License-Identifier: 0BSD */
/*
 * A server that lets a computer run and examine a midge library on this board over a serial line; the protocol is in docs/hil.md.
 *
 * Compile it with midge_model.h, which says what the library is called, and compile the library's own sources with -include midge_hooks.h, so
 * that layers can be watched.
 *
 *   static int get(void) { return uart_has_byte() ? uart_read() : MIDGE_HIL_NOTHING; }
 *   static void put(uint8_t byte) { uart_write(byte); }
 *   ...
 *   static const struct midge_hil_port port = {get, put, NULL, 0};
 *   midge_hil_serve(&port);
 */
#ifndef HIL_SERVER_H
#define HIL_SERVER_H

#include <stdint.h>

/* Bytes of a tensor that one frame carries. The server keeps two frames in RAM. */
#ifndef MIDGE_HIL_PAYLOAD
#define MIDGE_HIL_PAYLOAD 256u
#endif

/* Bytes below the stack pointer that may be painted to see how much of the stack a run takes; they must belong to the stack. 0: not measured. */
#ifndef MIDGE_HIL_STACK_BYTES
#define MIDGE_HIL_STACK_BYTES 0u
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum { MIDGE_HIL_NOTHING = -1, MIDGE_HIL_CLOSED = -2 };

struct midge_hil_port {
  int (*get)(void);        /* the next byte, MIDGE_HIL_NOTHING if none has come, MIDGE_HIL_CLOSED if none will */
  void (*put)(uint8_t);    /* send a byte; may wait */
  uint32_t (*ticks)(void); /* a counter that goes up and wraps at 2^32, or NULL */
  uint32_t tick_hz;        /* how fast it goes; 0 if unknown */
};

/* Answer requests until the line is closed, on a board for ever. */
void midge_hil_serve(const struct midge_hil_port *port);

#ifdef __cplusplus
}
#endif

#endif
