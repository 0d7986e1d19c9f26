# SPDX-License-Identifier: Apache-2.0
"""The example application of the packages: examples/main.c, which needs a C library and nothing else, and the Arduino sketch."""

from __future__ import annotations

from midge.ir import DType
from midge.package.outline import SLASH, Outline
from midge.program import Port

MAIN = "examples/main.c"
SHOWN = 32
"""How many elements of an output the example prints."""


def main_files(outline: Outline) -> dict[str, str]:
    """examples/main.c."""
    blocks = [
        SLASH + outline.fill("/* Runs <<name>> once on an input of zeros and prints what comes out. */"),
        "#include <stdint.h>\n#include <stdio.h>",
        f'#include "{outline.name}.h"',
        _ALIGNED,
        _arena(outline),
        *_buffers(outline),
        _infer(outline),
        outline.fill(_REPORT, shown="\n".join(_print(outline, i, port) for i, port in enumerate(outline.program.outputs)) or "  /* It has no outputs. */"),
        _ENTRY,
    ]
    return {MAIN: "\n\n".join(blocks) + "\n"}


def sketch(outline: Outline) -> str:
    """The Arduino sketch: the same in C++, printed by Serial."""
    printed = "\n".join(_print(outline, i, port, 'Serial.print("{}");', "Serial.print({}); Serial.print(' ');", "Serial.println();") for i, port in _outputs(outline))
    blocks = [
        SLASH + outline.fill("/* Runs <<name>> every second on an input of zeros and prints what comes out. */"),
        f"#include <{outline.name}.h>",
        _arena(outline).replace("ALIGNED(", "__attribute__((aligned(").replace("ALIGN)", "ALIGN)))"),
        *_buffers(outline),
        _infer(outline),
        "void setup() {\n  Serial.begin(115200);\n}",
        f"void loop() {{\n  int error = infer();\n  if (error != 0) {{\n    Serial.print(\"error \");\n    Serial.println(error);\n  }} else {{\n{_indent(printed)}\n  }}\n  delay(1000);\n}}",
    ]
    return "\n\n".join(blocks) + "\n"


def _outputs(outline: Outline) -> list[tuple[int, Port]]:
    return list(enumerate(outline.program.outputs))


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def _arena(outline: Outline) -> str:
    return outline.fill("static ALIGNED(<<NAME>>_ARENA_ALIGN) int8_t arena[<<NAME>>_ARENA_BYTES];")


def _buffers(outline: Outline) -> list[str]:
    """What a streamed run needs beside the arena: one row of input."""
    if not outline.streams:
        return []
    element = outline.program.inputs[0].type.dtype.c
    return [outline.fill("/* One row of input, as a camera or microphone delivers it. */\nstatic <<element>> row[<<NAME>>_INPUT_0_ROW_BYTES / sizeof(<<element>>)];", element=element)]


def _infer(outline: Outline) -> str:
    """One inference on zeros, in the way the library offers."""
    head = "/* One inference; 0 or an error code of the library. */\nstatic int infer(void) {\n"
    if outline.streams:
        return head + outline.fill(_STREAMED, zero=_zero(outline, 0), NAME_0=f"{outline.name.upper()}_INPUT_0", fill=_fill("row", f"{outline.name.upper()}_INPUT_0_ROW_BYTES", _zero(outline, 0)))
    lines = []
    for i, port in enumerate(outline.program.inputs):
        lines.append(f"  {port.type.dtype.c} *input_{i} = {outline.name}_input_{i}(arena);")
        lines.append(_fill(f"input_{i}", f"{outline.name.upper()}_INPUT_{i}_BYTES", _zero(outline, i)))
    run = _STEPPED if outline.stepwise else "  return <<name>>_run(arena);\n}"
    return head + "\n".join([*lines, outline.fill(run)])


def _fill(array: str, nbytes: str, value: str) -> str:
    return f"  for (unsigned i = 0; i < {nbytes} / sizeof {array}[0]; ++i) {{\n    {array}[i] = {value};\n  }}"


def _zero(outline: Outline, index: int) -> str:
    """The integer that stands for the number 0."""
    kind = outline.program.inputs[index].type
    has = kind.quant is not None and kind.quant.axis is None
    return f"{outline.name.upper()}_INPUT_{index}_ZERO_POINT" if has else "0"


def _print(
    outline: Outline, index: int, port: Port, head: str = 'printf("{}");', each: str = 'printf(" <<format>>", ({})<<cast>>);', end: str = 'printf("\\n");'
) -> str:
    kind, stem = port.type.dtype, f"{outline.name.upper()}_OUTPUT_{index}"
    count = f"{stem}_BYTES / sizeof output_{index}[0]"
    element = f"output_{index}[i]"
    if "<<format>>" in each:
        form, cast = ("%g", "double") if kind is DType.F32 else ("%ld", "long")
        shown = f'printf(" {form}", ({cast}){element});'
    else:
        shown = each.format(f"(long){element}" if kind is not DType.F32 else element)
    return "\n".join(
        [
            f"  const {kind.c} *output_{index} = {outline.name}_output_{index}(arena);",
            f"  {head.format(f'output {index}:')}",
            f"  for (unsigned i = 0; i < {count} && i < {SHOWN}; ++i) {{",
            f"    {shown}",
            "  }",
            f"  {end}",
        ]
    )


_ALIGNED = """\
#if defined(__GNUC__) || defined(__clang__) || defined(__ICCARM__)
#define ALIGNED(n) __attribute__((aligned(n)))
#else
#define ALIGNED(n) _Alignas(n)
#endif"""

_STREAMED = """\
  int wanted = <<name>>_begin(arena);
<<fill>>
  while (wanted > 0) {
    wanted = <<name>>_push_rows(arena, row, 1);
  }
  return wanted < 0 ? wanted : <<name>>_finish(arena);
}"""

_STEPPED = """\
  int left = <<name>>_begin(arena);
  while (left > 0) {
    left = <<name>>_step(arena, 1); /* other work of the loop goes here */
  }
  return left;
}"""

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
