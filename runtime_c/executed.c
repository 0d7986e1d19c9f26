/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plugin for QEMU (TCG plugin API, version 1, or 2 from QEMU 9 on) that counts how often each straight run of instructions was executed, and
 * how often it was left by a jump. It knows nothing of instructions: midge/run/executed.py looks them up in the image.
 *
 *   -plugin executed.so,marks=FILE,out=FILE
 *
 * marks: lines "ADDRESS BUCKET", the address in hexadecimal. An instruction at such an address switches to that bucket before it is counted;
 * the first bucket is 0, which counts nothing. out: lines "START END BUCKET COUNT JUMPS", addresses in hexadecimal, END exclusive.
 *
 * The part of the API that is used is declared here, because distributions ship QEMU without its header.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*callback)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*callback)(unsigned cpu, void *data), int flags, void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*callback)(uint64_t id, void *data), void *data);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = API_VERSION;

enum { NO_MARK = -1, MAX_MARKS = 4096 };

struct mark {
  uint64_t address;
  int bucket;
};

/* Instructions that follow each other without a mark between them. */
struct run {
  uint64_t start, end;
  int mark;
  struct run *next;
  uint64_t *counts, *jumps; /* by bucket */
};

static struct mark marks[MAX_MARKS];
static size_t mark_count;
static int buckets = 1;
static const char *out_path;
static struct run *runs, *last;
static int bucket;

static int mark_at(uint64_t address) {
  for (size_t i = 0; i < mark_count; i++) {
    if (marks[i].address == address) {
      return marks[i].bucket;
    }
  }
  return NO_MARK;
}

static void *allocate(size_t count, size_t size) {
  void *bytes = calloc(count, size);
  if (bytes == NULL) {
    fputs("executed: out of memory\n", stderr);
    exit(1);
  }
  return bytes;
}

static void on_run(unsigned cpu, void *data) {
  (void)cpu;
  struct run *run = data;
  if (last != NULL && last->end != run->start) {
    last->jumps[bucket]++;
  }
  if (run->mark != NO_MARK) {
    bucket = run->mark;
  }
  run->counts[bucket]++;
  last = run;
}

static void on_translate(uint64_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  struct run *run = NULL;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    uint64_t address = qemu_plugin_insn_vaddr(insn);
    int mark = mark_at(address);
    if (run == NULL || mark != NO_MARK) {
      run = allocate(1, sizeof *run);
      *run = (struct run){address, address, mark, runs, allocate((size_t)buckets, 8), allocate((size_t)buckets, 8)};
      runs = run;
      qemu_plugin_register_vcpu_insn_exec_cb(insn, on_run, 0, run);
    }
    run->end = address + qemu_plugin_insn_size(insn);
  }
}

static void write_counts(uint64_t id, void *data) {
  (void)id;
  (void)data;
  FILE *out = fopen(out_path, "w");
  if (out == NULL) {
    perror(out_path);
    return;
  }
  for (struct run *run = runs; run != NULL; run = run->next) {
    for (int i = 1; i < buckets; i++) {
      if (run->counts[i] != 0) {
        fprintf(out, "%" PRIx64 " %" PRIx64 " %d %" PRIu64 " %" PRIu64 "\n", run->start, run->end, i, run->counts[i], run->jumps[i]);
      }
    }
  }
  fclose(out);
}

static int read_marks(const char *path) {
  FILE *file = fopen(path, "r");
  if (file == NULL) {
    perror(path);
    return 1;
  }
  struct mark mark;
  while (mark_count < MAX_MARKS && fscanf(file, "%" SCNx64 " %d", &mark.address, &mark.bucket) == 2) {
    marks[mark_count++] = mark;
    buckets = mark.bucket >= buckets ? mark.bucket + 1 : buckets;
  }
  fclose(file);
  return 0;
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    if (strncmp(argv[i], "marks=", 6) == 0 && read_marks(argv[i] + 6) != 0) {
      return 1;
    }
    if (strncmp(argv[i], "out=", 4) == 0) {
      out_path = strdup(argv[i] + 4);
    }
  }
  if (out_path == NULL || mark_count == 0) {
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
  qemu_plugin_register_atexit_cb(id, write_counts, NULL);
  return 0;
}
