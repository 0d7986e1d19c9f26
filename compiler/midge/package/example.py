# SPDX-License-Identifier: Apache-2.0
"""The example application of the packages: examples/main.c, which needs a C library and nothing else, and the Arduino sketch."""

from __future__ import annotations

from dataclasses import dataclass

from midge.codegen.header import sink_element
from midge.ir import DType
from midge.package.outline import SLASH, Outline, scaled
from midge.program import Port

MAIN = "examples/main.c"
SHOWN = 32
"""How many elements of an output the example prints."""


@dataclass(frozen=True)
class Printer:
    """The statements that print an output: before its elements, for an element ({} is the expression), after them."""

    head: str
    whole: tuple[str, ...]
    real: tuple[str, ...]
    end: str


_PRINTF = Printer('printf("output {}:");', ('printf(" %ld", (long){});',), ('printf(" %g", (double){});',), 'printf("\\n");')
_SERIAL = Printer(
    'Serial.print("output {}:");',
    ("Serial.print(' ');", "Serial.print((long){});"),
    ("Serial.print(' ');", "Serial.print({});"),
    "Serial.println();",
)


def main_files(outline: Outline) -> dict[str, str]:
    """examples/main.c."""
    shown = _prints(outline, _PRINTF, "  ") or "  /* It has no outputs. */"
    blocks = [
        SLASH + outline.fill("/* Runs <<name>> once and prints what comes out: on zeros, or on the first sample of test/ if that is linked. */"),
        "#include <stdint.h>\n#include <stdio.h>\n#include <string.h>",
        f'#include "{outline.name}.h"',
        _ALIGNED,
        outline.fill("static ALIGNED(<<NAME>>_ARENA_ALIGN) int8_t arena[<<NAME>>_ARENA_BYTES];"),
        *_row(outline),
        *_take(outline),
        outline.fill(_GOLDEN),
        _infer(outline, golden=True),
        outline.fill(_REPORT, shown=shown),
        _ENTRY,
    ]
    return {MAIN: "\n\n".join(blocks) + "\n"}


def sketch(outline: Outline) -> str:
    """The Arduino sketch: the same in C++, printed by Serial."""
    blocks = [
        SLASH + outline.fill("/* Runs <<name>> every second on an input of zeros and prints what comes out. */"),
        f"#include <{outline.name}.h>",
        outline.fill("static __attribute__((aligned(<<NAME>>_ARENA_ALIGN))) int8_t arena[<<NAME>>_ARENA_BYTES];"),
        *_row(outline),
        *_take(outline),
        _infer(outline),
        "void setup() {\n  Serial.begin(115200);\n}",
        outline.fill(_LOOP, shown=_prints(outline, _SERIAL, "    ")),
    ]
    return "\n\n".join(blocks) + "\n"


def _row(outline: Outline) -> list[str]:
    """What a streamed run needs beside the arena: one row of input."""
    if not outline.streams:
        return []
    return [outline.fill(_ROW, element=outline.program.inputs[0].type.dtype.c)]


def _take(outline: Outline) -> list[str]:
    """The function that takes rows of output, where the library hands them out."""
    if not outline.hands_out:
        return []
    arrays, cases = [], []
    for i, port in enumerate(outline.program.outputs):
        words = {"i": str(i), "element": port.type.dtype.c}
        arrays.append(outline.fill("static <<element>> output_<<i>>[SHOWN];", **words))
        cases.append(outline.fill(_TAKE_CASE, **words))
    return [outline.fill(_TAKE, arrays="\n".join(arrays), cases="\n".join(cases), element=sink_element(outline.program), shown=str(SHOWN))]


def _infer(outline: Outline, golden: bool = False) -> str:
    """One inference, in the way the library offers: on zeros or, with `golden`, on what test/ holds if that is linked."""
    if outline.streams:
        row = _fill("row", outline.fill("<<NAME>>_INPUT_0_ROW_BYTES"), _zero(outline, 0, outline.program.inputs[0]))
        parts = {"start": outline.fill(_FIRST_ROW), "next": outline.fill(_NEXT_ROW)} if golden else {"start": "", "next": ""}
        body = outline.fill(_STREAMED, fill=row, **parts)
    else:
        lines, before = [], ""
        for i, port in enumerate(outline.program.inputs):
            array, nbytes = f"input_{i}", f"{outline.name.upper()}_INPUT_{i}_BYTES"
            lines.append(f"  {port.type.dtype.c} *{array} = {outline.name}_{array}(arena);")
            zeros = _fill(array, nbytes, _zero(outline, i, port))
            lines.append(outline.fill(_EITHER, copy=f"  memcpy({array}, golden_inputs{before}, {nbytes});", zeros=zeros) if golden else zeros)
            before += f" + {nbytes}"
        body = "\n".join([*lines, outline.fill(_STEPPED if outline.stepwise else "  return <<name>>_run(arena<<sink>>);")])
    return f"/* One inference; 0 or an error code of the library. */\nstatic int infer(void) {{\n{body}\n}}"


def _fill(array: str, nbytes: str, value: str) -> str:
    return f"  for (unsigned i = 0; i < {nbytes} / sizeof {array}[0]; ++i) {{\n    {array}[i] = {value};\n  }}"


def _zero(outline: Outline, index: int, port: Port) -> str:
    """The integer that stands for the number 0."""
    return f"{outline.name.upper()}_INPUT_{index}_ZERO_POINT" if scaled(port) else "0"


def _prints(outline: Outline, printer: Printer, indent: str) -> str:
    """Statements that print every output."""
    lines = []
    for i, port in enumerate(outline.program.outputs):
        count = f"{outline.name.upper()}_OUTPUT_{i}_BYTES / sizeof output_{i}[0]"
        each = printer.real if port.type.dtype is DType.F32 else printer.whole
        lines += [] if outline.hands_out else [f"const {port.type.dtype.c} *output_{i} = {outline.name}_output_{i}(arena);"]
        lines += [
            printer.head.format(i),
            f"for (unsigned i = 0; i < {count} && i < {SHOWN}; ++i) {{",
            *(f"  {text.format(f'output_{i}[i]')}" for text in each),
            "}",
            printer.end,
        ]
    return "\n".join(indent + line for line in lines)


_ALIGNED = """\
#if defined(__GNUC__) || defined(__clang__) || defined(__ICCARM__)
#define ALIGNED(n) __attribute__((aligned(n)))
#else
#define ALIGNED(n) _Alignas(n)
#endif"""

_ROW = """\
/* One row of input, as a camera or microphone delivers it. */
static <<element>> row[<<NAME>>_INPUT_0_ROW_BYTES / sizeof(<<element>>)];"""

_TAKE = """\
/* Takes rows of output as they come: here the first elements are kept; a display or a radio would use all of them at once. */
#define SHOWN <<shown>>u
<<arrays>>
static int take(void *context, unsigned output, const <<element>> *rows, unsigned first, unsigned count) {
  (void)context;
<<cases>>
  return 0;
}"""

_TAKE_CASE = """\
  if (output == <<i>>u) {
    const unsigned row = <<NAME>>_OUTPUT_<<i>>_ROW_BYTES / sizeof output_<<i>>[0];
    for (unsigned i = 0; i < count * row && first * row + i < SHOWN; ++i) {
      output_<<i>>[first * row + i] = ((const <<element>> *)rows)[i];
    }
  }"""

_GOLDEN = """\
#ifdef <<NAME>>_GOLDEN /* test/golden_data.c is linked: its first sample takes the place of zeros. */
extern const uint8_t golden_inputs[];
#endif"""

_EITHER = """\
#ifdef <<NAME>>_GOLDEN
<<copy>>
#else
<<zeros>>
#endif"""

_FIRST_ROW = """\
#ifdef <<NAME>>_GOLDEN
  const uint8_t *next = golden_inputs;
#endif
"""

_NEXT_ROW = """\
#ifdef <<NAME>>_GOLDEN
    memcpy(row, next, <<NAME>>_INPUT_0_ROW_BYTES);
    next += <<NAME>>_INPUT_0_ROW_BYTES;
#endif
"""

_STREAMED = """\
<<fill>>
<<start>>  int wanted = <<name>>_begin(arena);
  while (wanted > 0) {
<<next>>    wanted = <<name>>_push_rows(arena, row, 1<<sink>>);
  }
  return wanted < 0 ? wanted : <<name>>_finish(arena<<sink>>);"""

_STEPPED = """\
  int left = <<name>>_begin(arena);
  while (left > 0) {
    left = <<name>>_step(arena, 1<<sink>>); /* other work of the loop goes here */
  }
  return left;"""

_REPORT = """\
static int report(void) {
  int error = infer();
  if (error != 0) {
    printf("<<name>>: error %d\\n", error);
    return 1;
  }
<<shown>>
  return 0;
}"""

_ENTRY = """\
#ifdef ESP_PLATFORM
void app_main(void);

void app_main(void) { (void)report(); }
#else
int main(void) { return report(); }
#endif"""

_LOOP = """\
void loop() {
  int error = infer();
  if (error != 0) {
    Serial.print("error ");
    Serial.println(error);
  } else {
<<shown>>
  }
  delay(1000);
}"""
