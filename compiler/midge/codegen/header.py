# SPDX-License-Identifier: Apache-2.0
"""NAME.h, the library's interface, and NAME_internal.h, what its sources share."""

from __future__ import annotations

import re
from collections.abc import Sequence

from midge.codegen.kernels import LICENCE
from midge.codegen.manifest import digest
from midge.codegen.names import c_float, c_string, comment, plain_text
from midge.codegen.weights import declaration
from midge.ir import DType, TensorType
from midge.program import Port, Program

_INTEGERS = (DType.S8, DType.U8, DType.S16)


def quantized(kind: TensorType) -> bool:
    """Whether a port gets a quantize or dequantize helper: small integers with one scale."""
    return kind.dtype in _INTEGERS and kind.quant is not None and kind.quant.axis is None


def public_header(program: Program) -> str:
    """NAME.h."""
    name, upper = program.name, program.name.upper()
    blocks = [
        f"{LICENCE}\n" + comment([f"{name}: a neural network as a C library. Model {plain_text(program.digest)}."]) + f"\n#ifndef {upper}_H\n#define {upper}_H",
        "#include <stdint.h>",
        f"/* Activations, scratch, inputs and outputs; the library has no other memory. */\n#define {upper}_ARENA_BYTES {program.arena_nbytes}u\n"
        f"#define {upper}_ARENA_ALIGN {program.arena_align}u",
        *(
            f"/* Bytes of the library's own in {memory.name}; see {upper}_{memory.name.upper()}_SECTION. With them only one instance runs at a time. */\n"
            f"#define {upper}_{memory.name.upper()}_BYTES {memory.nbytes}u"
            for memory in program.memories
        ),
        f"#define {upper}_MODEL_DIGEST {c_string(program.digest)}",
        f"#define {upper}_INPUT_COUNT {len(program.inputs)}u\n#define {upper}_OUTPUT_COUNT {len(program.outputs)}u",
        *(_port_macros(port, f"{upper}_INPUT_{i}") for i, port in enumerate(program.inputs)),
        *(_port_macros(port, f"{upper}_OUTPUT_{i}") for i, port in enumerate(program.outputs)),
        f"#define {upper}_OK 0\n#define {upper}_ERROR_ARENA (-1) /* the arena is NULL or not aligned */" + _part_macros(program),
        '#ifdef __cplusplus\nextern "C" {\n#endif',
        *_prototypes(program),
        *_helpers(program),
        "#ifdef __cplusplus\n}\n#endif",
        "#endif",
    ]
    return "\n\n".join(blocks) + "\n"


def _port_macros(port: Port, stem: str) -> str:
    kind = port.type
    lines = [
        comment([f"{plain_text(port.name)}: {plain_text(str(kind))}{_LAYOUT if port.nhwc else ''}"]),
        f"#define {stem}_BYTES {kind.nbytes}u",
        f"#define {stem}_SHAPE {{{', '.join(map(str, kind.shape or (1,)))}}}",
    ]
    if kind.quant is not None and kind.quant.axis is None:
        point = kind.quant.z
        lines += [f"#define {stem}_SCALE {c_float(kind.quant.s)}", f"#define {stem}_ZERO_POINT {f'({point})' if point < 0 else point}"]
    return "\n".join(lines)


_LAYOUT = "; NHWC, the channels of a pixel together, where the model has NCHW"


def streams(program: Program) -> bool:
    """Whether rows of input are pushed."""
    return program.streams


def sink_element(program: Program) -> str:
    """The C type of what is handed out: the elements of the outputs, or void if they differ."""
    kinds = {port.type.dtype.c for port in program.outputs}
    return kinds.pop() if len(kinds) == 1 else "void"


def _part_macros(program: Program) -> str:
    """What a library that runs in parts defines beyond others."""
    name, upper, text = program.name, program.name.upper(), ""
    if program.state_offset >= 0:
        text += f"\n#define {upper}_ERROR_ORDER (-2) /* the functions were called out of order, or the arena was written to */"
    if program.streams:
        text += f"\n#define {upper}_ERROR_ROWS (-3) /* more rows of input than the model has, or fewer when it was to finish */"
    if program.hands_out:
        text += f"\n#define {upper}_ERROR_OUTPUT (-4) /* rows of output were not taken: the function for them is NULL, or did not return 0 */"
    if program.streams:
        text += "\n\n/* Input 0 comes in rows. */\n" + _row_macros(program, program.inputs[0], f"{upper}_INPUT_0")
    if program.hands_out:
        rows = "\n".join(_row_macros(program, port, f"{upper}_OUTPUT_{i}") for i, port in enumerate(program.outputs))
        text += f"\n\n/* Outputs are handed out in rows. */\n{rows}\n\n{_HAND_OUT.replace('ELEMENT', sink_element(program)).replace('NAME', name)}"
    return text


def _row_macros(program: Program, port: Port, stem: str) -> str:
    buffer = program.buffer(port.buffer)
    return f"#define {stem}_ROWS {buffer.rows}u\n#define {stem}_ROW_BYTES {buffer.row_nbytes}u"


def _prototypes(program: Program) -> list[str]:
    name, blocks = program.name, []
    inputs = [] if program.streams else [f"{port.type.dtype.c} *{name}_input_{i}(void *arena);" for i, port in enumerate(program.inputs)]
    outputs = [] if program.hands_out else [f"const {port.type.dtype.c} *{name}_output_{i}(const void *arena);" for i, port in enumerate(program.outputs)]
    if inputs:
        blocks.append("/* Where to write an input. A run consumes it. */\n" + "\n".join(inputs))
    if outputs:
        blocks.append("/* Where to read an output after a run; it stays until an input is written. */\n" + "\n".join(outputs))
    text = "One inference. Returns 0 or a negative error code. Re-entrant: any number of instances, one arena each."
    sink = f", {name}_output_rows *take, void *context" if program.hands_out else ""
    if program.streams:
        words = {"NAME": name, "UPPER": name.upper(), "ELEMENT": program.inputs[0].type.dtype.c, "SINK": sink}
        return [*blocks, re.sub("|".join(words), lambda word: words[word[0]], _STREAM_PROTOTYPES)]
    run = comment([text]) + f"\nint {name}_run(void *arena{sink});"
    return [*blocks, _STEP_PROTOTYPES.replace("NAME", name).replace("SINK", sink), run] if program.state_offset >= 0 else [*blocks, run]


def _helpers(program: Program) -> list[str]:
    """Inline conversions between real numbers and quantized ports."""
    name, upper, blocks = program.name, program.name.upper(), []
    inputs = [(i, port.type) for i, port in enumerate(program.inputs) if quantized(port.type)]
    if inputs:
        blocks.append(_QUANTIZE.format(name=name))
    for i, kind in inputs:
        c, stem = kind.dtype.c, f"{upper}_INPUT_{i}"
        bounds = f"{c.removesuffix('_t').upper()}_MIN" if kind.dtype is not DType.U8 else "0", f"{c.removesuffix('_t').upper()}_MAX"
        blocks.append(
            f"static inline {c} {name}_quantize_input_{i}(float value) {{\n"
            f"  return ({c}){name}_quantize_value(value, {stem}_SCALE, {stem}_ZERO_POINT, {', '.join(bounds)});\n}}"
        )
    for i, port in enumerate(program.outputs):
        if quantized(port.type):
            stem = f"{upper}_OUTPUT_{i}"
            blocks.append(
                f"static inline float {name}_dequantize_output_{i}({port.type.dtype.c} value) {{\n"
                f"  return {stem}_SCALE * (float)(value - {stem}_ZERO_POINT);\n}}"
            )
    return blocks


_STREAM_PROTOTYPES = """\
/* One inference, while its input arrives: begin, push rows of UPPER_INPUT_0_ROW_BYTES bytes as they come, any number at a time, and finish. begin and push_rows
 * return how many more rows are wanted, finish 0, all of them a negative error code if called out of order. Any number of instances, one arena each. */
int NAME_begin(void *arena);
int NAME_push_rows(void *arena, const ELEMENT *rows, unsigned countSINK);
int NAME_finish(void *arenaSINK);"""

_STEP_PROTOTYPES = """\
/* One inference in parts, for loops that have other work: begin once the input is written, then step until nothing is left. Both return how many steps are
 * left or a negative error code; `budget` is the most steps to run now. */
int NAME_begin(void *arena);
int NAME_step(void *arena, unsigned budgetSINK);"""

_HAND_OUT = """\
/* A function of yours that takes rows of output as soon as they are complete: `count` rows from row `first` on, one behind the other, of output number
 * `output`; `context` is what you gave. The rows of an output come in their order, each once. They are there until the function returns: copy or use them. It
 * returns 0, or anything else to end the run. It must not call the library with the same arena. */
typedef int NAME_output_rows(void *context, unsigned output, const ELEMENT *rows, unsigned first, unsigned count);"""

_QUANTIZE = """\
/* value / scale + zero_point, rounded to nearest with ties to even and limited to [low, high]; what is not a number counts as 0. */
static inline int32_t {name}_quantize_value(float value, float scale, int32_t zero_point, int32_t low, int32_t high) {{
  float scaled = value / scale;
  if (scaled >= (float)(high - zero_point)) {{
    return high;
  }}
  if (!(scaled > (float)(low - zero_point))) {{
    return scaled <= (float)(low - zero_point) ? low : zero_point;
  }}
  int32_t whole = (int32_t)scaled;
  float rest = scaled - (float)whole;
  int32_t odd = whole % 2 != 0;
  int32_t up = (rest > 0.5f) | (odd & (rest == 0.5f)), down = (rest < -0.5f) | (odd & (rest == -0.5f));
  return whole + up - down + zero_point;
}}"""


def internal_header(program: Program, runs: Sequence[Program] = ()) -> str:
    """NAME_internal.h: hooks, places for code and constants, and the constants' declarations. runs: the Programs of several models, if not this one."""
    name, upper = program.name, program.name.upper()
    externs = "\n".join(f"extern {declaration(program, constant)};" for constant in program.constants.values())
    parts = [_magic(each) for each in runs or (program,) if each.state_offset >= 0]
    parts += [_sections(each) for each in runs or (program,) if each.memories]
    blocks = [f"{LICENCE}\n#ifndef {upper}_INTERNAL_H\n#define {upper}_INTERNAL_H", "#include <stdint.h>", _MACROS.replace("NAME", upper), *parts]
    if externs:
        blocks.append(f"/* Constants, defined in {name}_weights.c. */\n{externs}")
    return "\n\n".join([*blocks, "#endif"]) + "\n"


def _sections(program: Program) -> str:
    """Where what lies in memories beside the arena goes."""
    names = [f"{program.name}_{memory.name}{kind}".upper() for memory in program.memories for kind in ("", "_weights")]
    macros = "\n".join(f"#ifndef {name}_SECTION\n#define {name}_SECTION\n#endif" for name in names)
    return f'/* Memories beside the arena: its rows and scratch, and constants, for instance __attribute__((section(".dtcm"))). */\n{macros}'


def _magic(program: Program) -> str:
    value = int(digest(f"{program.digest} {len(program.steps)}".encode())[:8], 16)
    return f"/* Marks what is kept between calls as this library's. */\n#define {program.name.upper()}_MAGIC 0x{value:08X}u"


_MACROS = """\
/* Called around each layer: its number, a row of its output, where that lies and its bytes. Define them to trace or to profile. */
#ifndef MIDGE_HOOK_BEGIN
#define MIDGE_HOOK_BEGIN(layer) ((void)0)
#endif
#ifndef MIDGE_HOOK_END
#define MIDGE_HOOK_END(layer, row, ptr, nbytes) ((void)0)
#endif

/* Where functions and constants go, for instance __attribute__((section(".itcm"))). */
#ifndef NAME_CODE_SECTION
#define NAME_CODE_SECTION
#endif
#ifndef NAME_WEIGHTS_SECTION
#define NAME_WEIGHTS_SECTION
#endif

/* Constants of bytes start at a multiple of 4, where the compiler can be told so. */
#ifndef NAME_ALIGN4
#if defined(__GNUC__) || defined(__clang__)
#define NAME_ALIGN4 __attribute__((aligned(4)))
#elif defined(__ICCARM__)
#define NAME_ALIGN4 _Pragma("data_alignment=4")
#else
#define NAME_ALIGN4
#endif
#endif"""
