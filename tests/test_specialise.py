# SPDX-License-Identifier: Apache-2.0
"""Kernels cut to a library: decided branches go, what is left means the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midge.kernels import SOURCES

from midge.codegen.c_statements import Parser
from midge.codegen.c_syntax import NotUnderstood
from midge.codegen.facts import Fact, Fields, Range, Targets, combine, compare, join, numbers, tagged
from midge.codegen.sources import parse, read_source
from midge.codegen.specialise import Specialiser
from midge.codegen.tailor import Use, tailor
from midge.codegen.tidy import without_arguments, without_unused

COMPARISONS = {"<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__, "==": int.__eq__, "!=": int.__ne__}
ARITHMETIC = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__, "%": int.__mod__, "&": int.__and__, "|": int.__or__}


def rewritten(body: str, facts: dict[str, Fact], kinds: dict[str, str] | None = None) -> str:
    parameters = {"p": "const shape *", "n": "int32_t ", "x": "int32_t ", **(kinds or {})}
    return Specialiser(body, parameters, facts, {"ONCE": 0, "TWICE": 1}, frozenset(("shape",))).body()


SHAPE = Fields({"width": Range(8, 8), "pad": Range(0, 0), "channels": Range(16, 64, 16)})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{ return p->pad > 0 ? x : x + 1; }", "{ return x + 1; }"),
        ("{ return x >= 0 && x < p->width; }", "{ return x >= 0 && x < 8; }"),
        ("{ return p->pad > 0 || x < 3; }", "{ return x < 3; }"),
        ("{ return x * (p->width - 7) + p->pad; }", "{ return x; }"),
        ("{ return x - (p->pad - 5); }", "{ return x + 5; }"),
        ("{ return 3 * (p->width + x); }", "{ return 3 * (8 + x); }"),
        ("{ return p->channels & 15; }", "{ return 0; }"),
        ("{ return (p->channels & ~15) - x; }", "{ return p->channels - x; }"),
        ("{ return n == ONCE ? 1 : 2; }", "{ return 2; }"),
        ("{ return (int32_t)((uint32_t)x & ((1u << p->pad) - 1u)); }", "{ return 0; }"),
        ("{ return (uint32_t)x | (uint32_t)p->pad * 2u; }", "{ return (uint32_t)x | (uint32_t)0 * 2u; }"),
        ("{ return (uint32_t)x | (1u - n); }", "{ return (uint32_t)x; }"),
        ("{ return p->channels <= 64 ? x : 0; }", "{ return x; }"),
        ("{\n  if (p->pad != 0) {\n    x = 1;\n  }\n  return x;\n}", "{\n  return x;\n}"),
        ("{\n  if (p->pad == 0) {\n    x = 1; /* no pad */\n  } else {\n    x = 2;\n  }\n  return x;\n}", "{\n  x = 1; /* no pad */\n  return x;\n}"),
        (
            "{\n  if (x) {\n    x = 1;\n  } else if (p->pad == 0) {\n    x = 2;\n  }\n}",
            "{\n  if (x) {\n    x = 1;\n  } else {\n    x = 2;\n  }\n}",
        ),
        ("{\n  if (p->width > 4) {\n    return 1;\n  }\n  return 2;\n}", "{\n  return 1;\n}"),
        ("{\n  for (int32_t i = 0; i < p->width - 7; ++i) {\n    x += i + 2;\n  }\n  return x;\n}", "{\n  x += 2;\n  return x;\n}"),
        ("{\n  for (int32_t i = p->width; i < 8; ++i) {\n    x += i;\n  }\n  return x;\n}", "{\n  return x;\n}"),
        ("{\n  int32_t step = p->width * 2, at = x;\n  return at + step;\n}", "{\n  int32_t at = x;\n  return at + 16;\n}"),
        ("{\n  int32_t k = p->width;\n  k += x;\n  return k;\n}", "{\n  int32_t k = 8;\n  k += x;\n  return k;\n}"),
    ],
)
def test_what_is_decided_goes(before: str, after: str) -> None:
    assert rewritten(before, {"p": SHAPE, "n": Range(1, 1)}) == after


@pytest.mark.parametrize(
    "body",
    [
        "{\n  while (n > 0) {\n    --n;\n  }\n  return n;\n}",  # changed where it is read
        "{\n  for (int32_t i = 0; i < n; ++i) {\n    if (x < i) {\n      break;\n    }\n  }\n  return x;\n}",
        "{ return next(&n) + n; }",  # its address is taken
        "{ return next(x) || 0 > x; }",
    ],
)
def test_what_is_not_decided_stays(body: str) -> None:
    assert rewritten(body, {"n": Range(3, 3)}) == body.replace("i < n", "i < 3")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{ return -(-x); }", "{ return -(-x); }"),  # and not --x
        ("{ return x * (next(x) ? 1 : 1); }", "{ return x * (next(x) ? 1 : 1); }"),  # a number with effects
        ("{ return x - (next(x) ? -1 : -1); }", "{ return x - (next(x) ? -1 : -1); }"),
        ("{ return u * p->pad - 1 < 5; }", "{ return u * 0 - 1 < 5; }"),  # stays unsigned
        ("{ return (p->pad ? u : -1) < 5; }", "{ return (0 ? u : -1) < 5; }"),
        ("{ return (p->pad ? *data : -1) < 5; }", "{ return 1; }"),
        ("{ return (int64_t)x * n + (p->pad ? INT64_C(9) : 0); }", "{ return (int64_t)x * n; }"),
        ("{ return x + (p->pad ? INT64_C(9) : 0); }", "{ return x + (0 ? INT64_C(9) : 0); }"),
        ("{\n  if (x) for (int32_t i = 0; i < 1; ++i) {\n    x += i;\n    next(x);\n  }\n}", "{\n  if (x) { x += 0;\n  next(x); }\n}"),
        ("{\n  if (next(x)) while (p->pad) {\n    ++x;\n  }\n  return x;\n}", "{\n  if (next(x)) {}\n  return x;\n}"),
        ("{\n  for (int32_t i = next(x); p->pad; ++i) {\n    ++x;\n  }\n}", "{\n  { int32_t i = next(x); }\n}"),
    ],
)
def test_what_stays_means_the_same(before: str, after: str) -> None:
    assert rewritten(before, {"p": SHAPE}, {"u": "uint32_t ", "data": "const int8_t *"}) == after


@pytest.mark.parametrize(
    "head",
    [
        "int32_t i = 0; i < 1; ++i, k += 2) {\n    k += 5;",  # k is another one behind it
        "int32_t i = 0; i < 1; ++i, next(k)) {",
        "int32_t i = 0; i < 1; ++i, k += x++) {",
        "uint32_t i = 0; i < n; ++i) {",  # -1 is the largest number
        "int8_t i = 0; i < 1; ++i) {",
    ],
)
def test_loops_that_are_not_sure_to_turn_once_stay(head: str) -> None:
    body = f"{{\n  int32_t k = x;\n  for ({head}\n    x += k;\n  }}\n  return x;\n}}"
    assert rewritten(body, {"n": Range(-1, -1)}) == body.replace("< n", "< -1")


def test_numbers_are_those_of_their_own_type() -> None:
    """Bytes that are read as words are not the words."""
    facts = {"p": Fields({"data": numbers(np.array([1, 2, 3, 4], np.int8))})}
    assert rewritten("{\n  const int8_t *w = p->data;\n  return w[1];\n}", facts) == "{\n  const int8_t *w = p->data;\n  return 2;\n}"
    for kind in ("int32_t", "uint8_t"):
        body = f"{{\n  const {kind} *w = p->data;\n  return w[1];\n}}"
        assert rewritten(body, facts) == body
    assert numbers(np.array([1], np.int64)) is None


def test_loops_that_begin_or_step_with_effects_are_not_idle() -> None:
    for head in ("int32_t i = next(3); i < 3; ++i", "int32_t i = 0; i < 3; i += next(i)"):
        text = f"{{\n  for ({head}) {{}}\n}}"
        assert without_unused(text, frozenset()) == text
    assert without_unused("{\n  for (int32_t i = 0; i < 3; ++i) {}\n}", frozenset()) == "{\n}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{\n  int32_t a = x, b = 1;\n  b &= x;\n  b = 3;\n  return a;\n}", "{\n  int32_t a = x;\n  return a;\n}"),
        ("{\n  int32_t b = 1;\n  for (int i = 0; i < 4; ++i) {\n    b &= x;\n  }\n}", "{\n}"),
        ("{\n  x = next(x);\n}", "{\n  (void)next(x);\n}"),
        ("{\n  int32_t b = 1;\n  b = next(x);\n  return x;\n}", None),  # what it is given has effects
        ("{\n  int32_t b = 1;\n  b += b;\n  return x;\n}", None),
        ("{\n  int32_t b = 1;\n  b = 2;\n  return b;\n}", None),
        ("{\n  int32_t b[1];\n  b[0] = 2;\n  use(b);\n}", None),
        ("{\n  int32_t *b = p;\n  *b = 2;\n}", None),
        ("{\n  *x = next(x);\n}", None),
    ],
)
def test_what_nothing_reads_is_not_written(before: str, after: str | None) -> None:
    assert without_unused(before, frozenset()) == (before if after is None else after)


SHARED = "static int32_t scaled(int32_t x, int32_t by) {\n  return x * by;\n}"
TYPE = "typedef struct {\n  midge_routine *one;\n  midge_routine *two;\n} midge_constants;"
TWIN = "void midge_twin(int32_t x, int32_t *to) {\n  *to = scaled(x, 1);\n}"
KERNEL = "void midge_kernel(const midge_constants *c, int32_t *to) {\n  BODY\n  *to += scaled(4, 3);\n}"


@pytest.mark.parametrize(
    "body",
    [
        "midge_routine *routine = *to > 0 ? c->one : c->two;\n  routine(5, to);",
        "midge_routine *routine = c->one;\n  routine(5, to);",
        "c->one(5, to);",
        "midge_routine *all[2] = {c->one, c->two};\n  all[*to](5, to);",
        "switch (*to) {\n    case 0:\n      c->one(5, to);\n  }",  # is not understood
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_twins_are_called_by_whatever_calls_routines(body: str, known: bool) -> None:
    """What a twin calls is not cut to what others give it."""
    text = "\n\n".join((SHARED, "typedef void midge_routine(int32_t x, int32_t *to);", TYPE, TWIN, KERNEL.replace("BODY", body)))
    twin = Targets(frozenset(("midge_twin",)))
    uses = [Use("midge_kernel", (Fields({"one": twin, "two": twin} if known else {"two": twin}), None))]
    cut = "\n".join(item.text for item in tailor({"a.c": list(parse("a.c", text).items)}, uses, ())["a.c"])
    assert "by * 3" not in cut and "x * 3" not in cut
    assert re.search(r"scaled\(\w+, 1\)", cut) and "scaled(4, 3)" in cut


def test_two_functions_of_one_name_are_left_alone() -> None:
    own = "static int32_t own(void) {\n  return scaled(2, 1);\n}"
    kernel = "void midge_kernel(int32_t *to) {\n  *to = own() + scaled(4, 3);\n}"
    items = {path: list(parse(path, text).items) for path, text in {"a.c": f"{SHARED}\n\n{own}\n\n{kernel}", "b.c": own.replace("2", "7")}.items()}
    cut = "\n".join(item.text for item in tailor(items, [Use("midge_kernel", (None,))], ())["a.c"])
    assert "return x * by;" in cut and "scaled(2, 1)" in cut


def test_every_kernel_is_understood() -> None:
    """Functions outside the subset are left as they are, which must stay rare."""
    bad, count = [], 0
    for path in sorted(SOURCES.rglob("*.[ch]")):
        source = read_source(str(path.relative_to(SOURCES))) if not path.name.startswith("_") else None
        for item in source.items if source else ():
            if item.is_function:
                count += 1
                types = frozenset(re.findall(r"\b(\w+)\s+\**\w+\s*(?:=|;|\[)", item.text)) - {"return"}
                try:
                    Parser(item.text[item.text.index("{") :], types).statement()
                except NotUnderstood:
                    bad.append(next(iter(item.names)))
    assert count > 200 and len(bad) < 5, bad


VALUES = st.integers(-300, 300)


@given(st.lists(VALUES, min_size=1, max_size=4), st.lists(VALUES, min_size=1, max_size=4), st.booleans())
@settings(max_examples=300, deadline=None)
def test_ranges_hold_every_value(a: list[int], b: list[int], by_use: bool) -> None:
    """Whatever two sets of values are combined, the result lies within what is said of it."""
    one, other = (join_of([tagged(Range(v, v), i) if by_use else Range(v, v) for i, v in enumerate(values)]) for values in (a, b))
    pairs = list(zip(a, b, strict=False)) if by_use and len(a) == len(b) else [(x, y) for x in a for y in b]
    for x, y in pairs:
        for op, function in COMPARISONS.items():
            said = compare(op, one, other)
            assert said.low <= int(function(x, y)) <= said.high
        for op, function in ARITHMETIC.items():
            said_of = combine(op, one, other)
            if said_of is not None and not (op in "/%" and (x < 0 or y <= 0)):
                value = function(x, y)
                assert said_of.low <= value <= said_of.high and value % said_of.divisor == 0


def join_of(facts: list[Fact]) -> Range:
    found = facts[0]
    for fact in facts[1:]:
        found = join(found, fact)
    assert isinstance(found, Range)
    return found


def test_unsigned_arrays_say_nothing() -> None:
    assert numbers(np.array([1, 2], np.uint32)) is None
    known = numbers(np.array([-3, 9], np.int8))
    assert known is not None and known.at(Range(1, 1)) == Range(9, 9) and known.at(None) == Range(-3, 9)


needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc not installed")
NAMES = ("in_width", "in_channels", "out_width", "out_channels", "groups", "kernel_height", "kernel_width", "stride", "dilation", "pad")
NAMES += ("zero_point", "act_min", "act_max")


@needs_gcc
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_a_kernel_cut_to_its_shape_computes_the_same(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """conv2d as it is against conv2d cut to two random shapes."""
    shapes = [data.draw(conv_shapes()) for _ in range(2)]
    folder = tmp_path_factory.mktemp("cut")
    shaped = [Fields({name: Range(value, value) for name, value in zip(NAMES, shape, strict=True)}) for shape in shapes]
    uses = [Use("midge_conv2d_s8", (fields, None, None, None, Range(1, 1), None)) for fields in shaped]
    items = {path: list(source.items) for path in ("conv2d.h", "conv2d.c", "fixedpoint.h") if (source := read_source(path)) is not None}
    cut = tailor(items, uses, ())
    assert sum(len(item.text) for group in cut.values() for item in group) < sum(len(item.text) for group in items.values() for item in group)
    for name, chosen in (("whole", items), ("cut", cut)):
        text = "\n".join(item.text for path in ("fixedpoint.h", "conv2d.h", "conv2d.c") for item in chosen[path])
        (folder / f"{name}.c").write_text(f"#include <stdint.h>\n{text}\n{main(shapes)}", "utf-8")
    outputs = [run(folder, name) for name in ("whole", "cut")]
    assert outputs[0] == outputs[1] and outputs[0]


@st.composite
def conv_shapes(draw: st.DrawFn) -> tuple[int, ...]:
    kernel, stride, pad = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
    width, channels, out = draw(st.integers(4, 6)), draw(st.sampled_from((1, 3, 4))), draw(st.sampled_from((1, 4, 6)))
    return (width, channels, (width + 2 * pad - kernel) // stride + 1, out, 1, kernel, kernel, stride, 1, pad, draw(st.integers(-9, 9)), -128, 127)


def main(shapes: list[tuple[int, ...]]) -> str:
    """A program that runs a kernel on made-up rows, and prints what it gives."""
    calls = "".join(f"  run({', '.join(map(str, shape))});\n" for shape in shapes)
    members = ", ".join(f"int32_t {name}" for name in NAMES)
    return f"""
#include <stdio.h>
static int8_t data[4096], out[256];
static int32_t bias[8], multiplier[8];
static int8_t shift[8];
static void run({members}) {{
  midge_conv2d_params p = {{{", ".join(NAMES)}}};
  midge_conv2d_constants c = {{data + 1024, bias, multiplier, shift, data + 3000}};
  const int8_t *rows[3] = {{data, data + 100, data + 200}};
  int8_t *outs[1] = {{out}};
  for (int i = 0; i < 8; ++i) {{ bias[i] = 37 * i - 90; multiplier[i] = 1500000000 + i * 7000000; shift[i] = (int8_t)(-4 - i); }}
  for (int i = 0; i < 4096; ++i) {{ data[i] = (int8_t)(i * 57 + i / 11); }}
  midge_conv2d_s8(&p, rows, &c, outs, 1, 0);
  for (int i = 0; i < out_width * out_channels; ++i) {{ printf("%d ", out[i]); }}
  puts("");
}}
int main(void) {{
{calls}  return 0;
}}
"""


def run(folder: Path, name: str) -> str:
    built = subprocess.run(["gcc", "-std=c99", "-O1", "-Wall", "-Wextra", "-o", name, f"{name}.c"], cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return subprocess.run([f"./{name}"], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("gone", "after"),
    [({0}, "{ f(b, g(c, d)); }"), ({1}, "{ f(a, g(c, d)); }"), ({2}, "{ f(a, b); }"), ({0, 2}, "{ f(b); }"), ({1, 2}, "{ f(a); }"), ({0, 1, 2}, "{ f(); }")],
)
def test_arguments_that_nobody_takes_go(gone: set[int], after: str) -> None:
    assert without_arguments("{ f(a, b, g(c, d)); }", {"f": gone}, frozenset()) == after
