/* SPDX-License-Identifier: 0BSD */
/* Serves `midge verify --on serial:PORT` for ever. */
#include "board.h"
#include "hil_server.h"

int main(void) {
  board_init();
  const struct midge_hil_port port = {board_get, board_put, board_ticks, board_hertz()};
  midge_hil_serve(&port);
  return 0;
}
