# SPDX-License-Identifier: Apache-2.0
"""Start-up code and a linker script for the emulated board of a target, so that the example runs under QEMU and prints there."""

from __future__ import annotations

from midge.package.outline import SLASH, Outline

FOLDER = "examples/qemu"
STARTUP, SCRIPT = f"{FOLDER}/startup.c", f"{FOLDER}/board.ld"


def board_files(outline: Outline) -> dict[str, str]:
    """examples/qemu/startup.c and board.ld; nothing if nothing emulates the target."""
    board = outline.board
    if board is None:
        return {}
    memories = board.memories
    lines = [f"  {m.name} : ORIGIN = {m.origin:#010x}, LENGTH = {m.nbytes // 1024}K" for m in memories]
    regions = {"code": memories[0].name, "const": memories[-2].name, "ram": memories[-1].name}
    script = outline.fill(_SCRIPT, board=board.name, memories="\n".join(lines), **regions)
    return {STARTUP: SLASH + outline.fill(_STARTUP, board=board.name), SCRIPT: SLASH + script}


def emulator(outline: Outline, image: str) -> str:
    """The command that runs an image on the emulated board."""
    return outline.fill(f"qemu-system-arm <<qemu>> -nographic -semihosting-config enable=on,target=native -kernel {image}")


LINK_FLAGS = ("-nostartfiles", "--specs=rdimon.specs", "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments")
"""rdimon is newlib's port to semihosting: printf and exit go to whoever runs the image."""

_STARTUP = """\
/* Reset of the emulated board <<board>>: variables are set up, then main runs; printf and exit go through semihosting. */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t image_data[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
void initialise_monitor_handles(void);
int main(void);
void reset(void);

static __attribute__((noinline, noreturn)) void start(void) {
  const uint32_t *from = image_data;
  for (uint32_t *to = data_start; to < data_end; ++to) {
    *to = *from++;
  }
  for (uint32_t *to = bss_start; to < bss_end; ++to) {
    *to = 0;
  }
  initialise_monitor_handles();
  exit(main());
}

void reset(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  /* Coprocessors 10 and 11, the floating-point unit and the vector registers it shares, are off after reset. */
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
  __asm__ volatile("dsb\\n isb" ::: "memory");
#endif
  start();
}

static void fault(void) { exit(70); }

struct vectors {
  uint32_t *stack;
  void (*handlers[15])(void);
};

__attribute__((section(".vectors"), used)) static const struct vectors vectors = {
    stack_top, {reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault}};
"""

_SCRIPT = """\
/* Memories of <<board>>. */
MEMORY
{
<<memories>>
}
ENTRY(reset)
SECTIONS
{
  .text : { KEEP(*(.vectors)) *(.text .text.*) . = ALIGN(4); } ><<code>>
  .ARM.exidx : { *(.ARM.exidx* .gnu.linkonce.armexidx.*) } ><<code>>
  .rodata : { . = ALIGN(16); *(.rodata .rodata.*) . = ALIGN(4); } ><<const>>
  .data : { . = ALIGN(4); data_start = .; *(.data .data.*) . = ALIGN(4); data_end = .; } ><<ram>> AT><<const>>
  image_data = LOADADDR(.data);
  .bss (NOLOAD) : { . = ALIGN(16); bss_start = .; *(.bss .bss.* COMMON) . = ALIGN(8); bss_end = .; } ><<ram>>
  end = .;
  stack_top = ORIGIN(<<ram>>) + LENGTH(<<ram>>);
  /DISCARD/ : { *(.ARM.extab*) }
}
"""
