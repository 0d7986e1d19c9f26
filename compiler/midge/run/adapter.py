# SPDX-License-Identifier: Apache-2.0
"""C between the test firmware, which has whole inputs and outputs, and libraries that take or give them in rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midge.ir import DType

STREAMED_INPUT = """\
static int32_t model_rows[(UPPER_INPUT_0_ROWS * UPPER_INPUT_0_ROW_BYTES + 3u) / 4u];

static inline void *model_input(void *arena, uint32_t index) {
    (void)arena;
    (void)index;
    return model_rows;
}
"""

STREAMED_RUN = """\
    int left = NAME_begin(arena);
    for (unsigned row = 0, count = 1; left > 0; row += count, count = count % 3u + 1u) {
        count = count < (unsigned)left ? count : (unsigned)left;
        left = NAME_push_rows(arena, (const void *)((const char *)model_rows + row * UPPER_INPUT_0_ROW_BYTES), countSINK);
    }
    return left < 0 ? left : NAME_finish(arenaSINK);"""


def handed_out(manifest: Mapping[str, Any], upper: str) -> str:
    """Where rows of output are gathered, checking that they come in their order and with the context that was given; and model_output."""
    outputs, element = manifest["outputs"], _element(manifest)
    arrays = "".join(f"static int32_t model_output_{i}[({upper}_OUTPUT_{i}_BYTES + 3u) / 4u];\n" for i in range(len(outputs)))
    cases = "".join(
        f"    case {i}:\n        target = (char *)model_output_{i} + first * {upper}_OUTPUT_{i}_ROW_BYTES;\n"
        f"        nbytes = count * {upper}_OUTPUT_{i}_ROW_BYTES;\n        break;\n"
        for i in range(len(outputs))
    )
    found = _HANDED_OUT.replace("ELEMENT", element).replace("COUNT", str(len(outputs))).replace("CASES\n", cases)
    pick = "".join(f"    case {i}:\n        return model_output_{i};\n" for i in range(len(outputs)))
    pick = f"    (void)arena;\n    switch (index) {{\n{pick}    default:\n        return (void *)0;\n    }}\n"
    return f"{arrays}{found}\nstatic inline const void *model_output(const void *arena, uint32_t index) {{\n{pick}}}\n"


_HANDED_OUT = """\
static unsigned model_next[COUNT];

static inline int model_take(void *context, unsigned output, const ELEMENT *rows, unsigned first, unsigned count) {
    const char *source = (const void *)rows;
    char *target = (void *)0;
    unsigned nbytes = 0;
    switch (output) {
CASES
    default:
        return 1;
    }
    if (context != model_next || first != model_next[output]) {
        return 1;
    }
    model_next[output] += count;
    for (unsigned i = 0; i < nbytes; ++i) {
        target[i] = source[i];
    }
    return 0;
}
"""


def _element(manifest: Mapping[str, Any]) -> str:
    """The C type of what is handed out."""
    types = {str(port["dtype"]) for port in manifest["outputs"]}
    return DType(types.pop()).c if len(types) == 1 else "void"


def handed_out_refusal(manifest: Mapping[str, Any]) -> str:
    """model_refuse, which takes rows of all outputs but the one whose number `context` points to."""
    return _REFUSE.replace("ELEMENT", _element(manifest))


_REFUSE = """\
static unsigned model_nobody = 0xFFFFFFFFu;

static inline int model_refuse(void *context, unsigned output, const ELEMENT *rows, unsigned first, unsigned count) {
    (void)rows;
    (void)first;
    (void)count;
    return output == *(const unsigned *)context;
}
"""
