/* SPDX-License-Identifier: 0BSD */
#include "hil_server.h"

#include <string.h>

#include "midge_hooks.h"
#include "midge_model.h"

enum { VERSION = 2, HEAD_BYTES = 3, CRC_BYTES = 4, WORDS_BYTES = 20, GUARD_BYTE = 0xC9, EVENT_DONE = 0, EVENT_ROW = 1 };
enum op { OP_HELLO = 1, OP_FILL, OP_WRITE, OP_RUN, OP_NEXT, OP_READ, OP_TICKS, OP_CONSTANT };
enum status { STATUS_OK, STATUS_SESSION, STATUS_REQUEST, STATUS_RANGE };
enum mode { MODE_PLAIN, MODE_WATCH, MODE_PROFILE };

#define BODY_BYTES (HEAD_BYTES + WORDS_BYTES + MIDGE_HIL_PAYLOAD + CRC_BYTES)
#define FRAME_BYTES (BODY_BYTES + BODY_BYTES / 254u + 1u)
#define GUARD_BYTES (MODEL_ARENA_ALIGN > 64u ? MODEL_ARENA_ALIGN : 64u)
#define PAINT 0xA5C3965Au
#define HELLO_BYTES 32u
/* The greeting is one reply: where this has no size, raise MIDGE_HIL_PAYLOAD. */
typedef char greeting_fits[HELLO_BYTES + sizeof MODEL_NAME + sizeof MODEL_DIGEST <= WORDS_BYTES + MIDGE_HIL_PAYLOAD ? 1 : -1];

static uint8_t memory[GUARD_BYTES + MODEL_ARENA_BYTES + GUARD_BYTES] __attribute__((aligned(MODEL_ARENA_ALIGN)));
static uint8_t *const arena = memory + GUARD_BYTES;

static struct {
  const struct midge_hil_port *port;
  uint8_t request[FRAME_BYTES]; /* as it comes; once whole, decoded in place */
  size_t received, request_bytes;
  uint8_t reply[BODY_BYTES]; /* kept until the next request, to be sent again */
  size_t reply_bytes;
  uint8_t session, sequence; /* of the request answered last or being answered; session 0: none since power-up */
  int waiting;               /* a request is in `request` and was not looked at yet */
  enum mode mode;
  uint32_t first, last; /* layers to watch */
  uint32_t ticks, empty_ticks, stack_bytes;
  uint32_t begin, layer_ticks[MODEL_LAYER_COUNT + 1u];
} hil;

static uint32_t load(const uint8_t *bytes, unsigned count) {
  uint32_t value = 0;
  while (count-- > 0) {
    value = value << 8 | bytes[count];
  }
  return value;
}

static size_t store(uint8_t *bytes, uint32_t value, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    bytes[i] = (uint8_t)(value >> (8u * i));
  }
  return count;
}

/* A body, its CRC behind it, as COBS: each block is preceded by its length + 1, blocks end where a zero was, and a zero ends the frame. */
static void send(uint8_t *body, size_t count) {
  count += store(body + count, model_crc32(body, count), CRC_BYTES);
  hil.port->put(0);
  for (size_t i = 0, n;; i += n < 254u ? n + 1u : n) { /* a full block stands for no zero */
    for (n = 0; i + n < count && n < 254u && body[i + n] != 0;) {
      n++;
    }
    hil.port->put((uint8_t)(n + 1u));
    for (size_t k = 0; k < n; k++) {
      hil.port->put(body[i + k]);
    }
    if (i + n == count) {
      break;
    }
  }
  hil.port->put(0);
}

/* Undo COBS and check the CRC: the bytes of the body, 0 if it is damaged. */
static size_t unframe(uint8_t *bytes, size_t count) {
  size_t to = 0;
  for (size_t from = 0; from < count;) {
    unsigned code = bytes[from++];
    if (from + code - 1u > count) {
      return 0;
    }
    for (unsigned k = 1; k < code; k++) {
      bytes[to++] = bytes[from++];
    }
    if (code != 255u && from < count) {
      bytes[to++] = 0;
    }
  }
  return to >= HEAD_BYTES + CRC_BYTES && load(bytes + to - CRC_BYTES, CRC_BYTES) == model_crc32(bytes, to - CRC_BYTES) ? to - CRC_BYTES : 0;
}

static void reply(void) { send(hil.reply, hil.reply_bytes); }

/* One frame that is whole, or 0 if the line was closed. What is damaged is dropped: the host asks again. */
static int receive(void) {
  for (int byte; (byte = hil.port->get()) != MIDGE_HIL_CLOSED;) {
    if (byte > 0) {
      hil.received %= FRAME_BYTES; /* what is too long is noise */
      hil.request[hil.received++] = (uint8_t)byte;
    } else if (byte == 0) {
      hil.request_bytes = unframe(hil.request, hil.received);
      hil.received = 0;
      if (hil.request_bytes != 0) {
        return 1;
      }
    }
  }
  return 0;
}

/* Wait for a request that was not answered yet; 0 if the line was closed. One that comes again is answered as before, without being carried out again. */
static int next_request(void) {
  while (receive()) {
    const uint8_t *head = hil.request;
    uint8_t ahead = (uint8_t)(head[1] - hil.sequence);
    if (head[2] == OP_HELLO ? head[0] != hil.session || ahead != 0 : head[0] == hil.session && ahead == 1) {
      hil.session = head[0];
      hil.sequence = head[1];
      return 1;
    }
    if (head[0] != hil.session) { /* the board was switched off in between; the reply kept is not to be lost */
      uint8_t refusal[HEAD_BYTES + CRC_BYTES] = {head[0], head[1], STATUS_SESSION};
      send(refusal, HEAD_BYTES);
    } else if (ahead == 0) {
      reply();
    }
  }
  return 0;
}

static void begin_reply(enum status status) {
  hil.reply_bytes = store(hil.reply, hil.session | (uint32_t)hil.sequence << 8 | (uint32_t)status << 16, HEAD_BYTES);
}

static void add_bytes(const void *bytes, size_t count) {
  memcpy(hil.reply + hil.reply_bytes, bytes, count);
  hil.reply_bytes += count;
}

static void add_words(const uint32_t *words, size_t count) {
  for (size_t i = 0; i < count; i++) {
    hil.reply_bytes += store(hil.reply + hil.reply_bytes, words[i], 4);
  }
}

static uint32_t now(void) { return hil.port->ticks != NULL ? hil.port->ticks() : 0; }

/* In the middle of a run: hand over a row piece by piece. A request for anything but the next piece lets the run go on unwatched. */
static void show_row(uint32_t layer, uint32_t row, const uint8_t *bytes, size_t count) {
  for (size_t offset = 0; offset < count && hil.mode == MODE_WATCH;) {
    size_t part = count - offset < MIDGE_HIL_PAYLOAD ? count - offset : MIDGE_HIL_PAYLOAD;
    begin_reply(STATUS_OK);
    add_words((const uint32_t[]){EVENT_ROW, layer, row, (uint32_t)count, (uint32_t)offset}, 5);
    add_bytes(bytes + offset, part);
    reply();
    offset += part;
    hil.waiting = next_request();
    hil.mode = hil.waiting && hil.request[2] == OP_NEXT ? MODE_WATCH : MODE_PLAIN;
    hil.waiting = hil.waiting && hil.mode == MODE_PLAIN;
  }
}

void midge_hook_begin(uint32_t layer) {
  (void)layer;
  if (hil.mode == MODE_PROFILE) {
    hil.begin = now();
  }
}

/* An END without its own BEGIN (the next row of the same layer) counts from the END before it. */
void midge_hook_end(uint32_t layer, uint32_t row, const void *bytes, size_t count) {
  if (hil.mode == MODE_PROFILE && layer < MODEL_LAYER_COUNT) {
    hil.layer_ticks[layer] += now() - hil.begin - hil.empty_ticks;
    hil.begin = now();
  } else if (hil.mode == MODE_WATCH && layer >= hil.first && layer <= hil.last) {
    show_row(layer, row, bytes, count);
  }
}

/* Run, count and look how deep the stack went. Nothing but the library is called between painting and looking. */
static __attribute__((noinline)) int measure(void) {
  uint32_t start = now();
  volatile uint32_t *word, *top = &start;
#if MIDGE_HIL_STACK_BYTES > 0
  __asm__ volatile("mov %0, sp" : "=r"(top));
#endif
  volatile uint32_t *const bottom = top - MIDGE_HIL_STACK_BYTES / 4u;
  hil.empty_ticks = now() - start;
  for (word = bottom; word < top; word++) {
    *word = PAINT;
  }
  start = now();
  int code = model_run(arena);
  hil.ticks = now() - start - hil.empty_ticks;
  for (word = bottom; word < top && *word == PAINT;) {
    word++;
  }
  hil.stack_bytes = (uint32_t)((uintptr_t)top - (uintptr_t)word);
  return code;
}

static void run(uint32_t mode, uint32_t first, uint32_t last) {
  uint32_t broken = 0; /* 1: written to before the arena, 2: behind it */
  memset(memory, GUARD_BYTE, GUARD_BYTES);
  memset(arena + MODEL_ARENA_BYTES, GUARD_BYTE, GUARD_BYTES);
  memset(hil.layer_ticks, 0, sizeof hil.layer_ticks);
  hil.mode = mode == MODE_WATCH ? MODE_WATCH : mode == MODE_PROFILE ? MODE_PROFILE : MODE_PLAIN;
  hil.first = first;
  hil.last = last;
  int code = measure();
  hil.mode = MODE_PLAIN;
  for (size_t i = 0; i < GUARD_BYTES; i++) {
    broken |= (uint32_t)(memory[i] != GUARD_BYTE) | (uint32_t)(arena[MODEL_ARENA_BYTES + i] != GUARD_BYTE) << 1;
  }
  begin_reply(STATUS_OK);
  add_words((const uint32_t[]){EVENT_DONE, (uint32_t)code, broken, hil.ticks, hil.stack_bytes}, 5);
}

/* Whatever the last run left must not help the next one. */
static void fill(uint32_t state) {
  for (size_t i = 0; i < MODEL_ARENA_BYTES; i++) {
    state = state * 1664525u + 1013904223u;
    arena[i] = (uint8_t)(state >> 24);
  }
}

static void hello(void) {
  uint32_t counts = hil.port->ticks != NULL, hertz = counts ? hil.port->tick_hz : 0;
  const uint32_t sizes[] = {VERSION, MIDGE_HIL_PAYLOAD, MODEL_ARENA_BYTES, MODEL_LAYER_COUNT, counts, hertz, MIDGE_HIL_STACK_BYTES, MODEL_CONSTANT_COUNT};
  add_words(sizes, HELLO_BYTES / 4u);
  add_bytes(MODEL_NAME, sizeof MODEL_NAME);
  add_bytes(MODEL_DIGEST, sizeof MODEL_DIGEST);
}

/* Write or read bytes of an input or an output. */
static enum status transfer(uint8_t *tensor, size_t nbytes, size_t offset, size_t count, const uint8_t *from) {
  if (tensor == NULL || count > MIDGE_HIL_PAYLOAD || offset > nbytes || count > nbytes - offset) {
    return STATUS_RANGE;
  }
  if (from != NULL) {
    memcpy(tensor + offset, from, count);
  } else {
    add_bytes(tensor + offset, count);
  }
  return STATUS_OK;
}

/* Carry out a request; its arguments are words, for WRITE the bytes follow. */
static enum status answer(const uint8_t *body, size_t count) {
  static const uint8_t least[] = {[OP_FILL] = 1, [OP_WRITE] = 2, [OP_RUN] = 3, [OP_READ] = 3, [OP_TICKS] = 1, [OP_CONSTANT] = 1};
  unsigned op = body[2], words = op <= OP_CONSTANT ? least[op] : 0;
  const uint8_t *bytes = body + HEAD_BYTES + 4u * words;
  if (op < OP_HELLO || op > OP_CONSTANT || op == OP_NEXT || bytes > body + count) {
    return STATUS_REQUEST;
  }
  uint32_t a = load(body + HEAD_BYTES, 4), b = load(body + HEAD_BYTES + 4, 4), c = load(body + HEAD_BYTES + 8, 4);
  if (op == OP_HELLO) {
    hello();
  } else if (op == OP_FILL) {
    fill(a);
  } else if (op == OP_WRITE) {
    return transfer(model_input(arena, a), model_input_bytes(a), b, (size_t)(body + count - bytes), bytes);
  } else if (op == OP_READ) {
    return transfer((uint8_t *)(uintptr_t)model_output(arena, a), model_output_bytes(a), b, c, NULL);
  } else if (op == OP_RUN) {
    run(a, b, c);
  } else if (op == OP_CONSTANT) {
    uint32_t crc = 0;
    if (!model_constant_crc32(a, &crc)) {
      return STATUS_RANGE;
    }
    add_words(&crc, 1);
  } else {
    uint32_t left = a < MODEL_LAYER_COUNT ? MODEL_LAYER_COUNT - a : 0;
    add_words(hil.layer_ticks + MODEL_LAYER_COUNT - left, left < MIDGE_HIL_PAYLOAD / 4u ? left : MIDGE_HIL_PAYLOAD / 4u);
  }
  return STATUS_OK;
}

void midge_hil_serve(const struct midge_hil_port *port) {
  memset(&hil, 0, sizeof hil);
  hil.port = port;
  while (hil.waiting || next_request()) {
    hil.waiting = 0;
    begin_reply(STATUS_OK);
    enum status status = answer(hil.request, hil.request_bytes);
    if (status != STATUS_OK) {
      begin_reply(status);
    }
    if (!hil.waiting) { /* else a run was left for another request */
      reply();
    }
  }
}
