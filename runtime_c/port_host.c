/* SPDX-License-Identifier: Apache-2.0 */
/* The port layer on a hosted system: stdio, no clock worth reporting, no view of the stack. */
#include <stdio.h>
#include <stdlib.h>

#include "port.h"

enum { MAX_FILES = 8 };
static FILE *files[MAX_FILES];

void port_init(void) {}

int port_open(const char *name, int for_writing) {
  for (int i = 0; i < MAX_FILES; i++) {
    if (files[i] == NULL) {
      files[i] = fopen(name, for_writing ? "wb" : "rb");
      return files[i] == NULL ? -1 : i;
    }
  }
  return -1;
}

size_t port_read(int handle, void *bytes, size_t count) { return fread(bytes, 1, count, files[handle]); }

int port_write(int handle, const void *bytes, size_t count) { return fwrite(bytes, 1, count, files[handle]) == count ? 0 : -1; }

void port_close(int handle) {
  (void)fclose(files[handle]);
  files[handle] = NULL;
}

uint64_t port_ticks(void) { return 0; }

int port_measure(int (*run)(void *arena), void *arena, struct port_cost *cost) {
  *cost = (struct port_cost){0};
  return run(arena);
}

void port_exit(int code) { exit(code); }
