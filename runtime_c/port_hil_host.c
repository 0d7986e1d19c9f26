/* SPDX-License-Identifier: Apache-2.0 */
/* The verification server as a program of a hosted system: the serial line is its standard input and output. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <time.h>
#include <unistd.h>

#include "hil_server.h"

static int get(void) {
  uint8_t byte;
  return read(STDIN_FILENO, &byte, 1) == 1 ? byte : MIDGE_HIL_CLOSED;
}

static void put(uint8_t byte) {
  if (write(STDOUT_FILENO, &byte, 1) != 1) {
    _exit(1);
  }
}

static uint32_t ticks(void) {
  struct timespec time;
  (void)clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint32_t)((uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u);
}

int main(void) {
  static const struct midge_hil_port port = {get, put, ticks, 1000000u};
  midge_hil_serve(&port);
  return 0;
}
