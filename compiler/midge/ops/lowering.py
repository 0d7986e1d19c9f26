# SPDX-License-Identifier: Apache-2.0
"""What an operator's `lower` writes to: a Program being built, with constants packed and shared, and kernels chosen by what they accept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from midge.costs import Costs, Shape
from midge.errors import IRError
from midge.ir import Array, DType, Graph, Node
from midge.program import Buffer, Call, Constant, Contract, Kernel, Layer, Operand, Program, Routine, Window

Packed = Array | Routine
SLOWER = 1.3  # times the instructions of the cheapest kernel that one without its scratch may take
SPENDING = "spending"  # the objective while bytes that dead channels saved are spent


def _never_refuses(geometry: Any) -> str:
    return ""


def _no_scratch(geometry: Any) -> int:
    return 0


@dataclass(frozen=True)
class Variant:
    """One row of an operator's KERNELS table, best first. `refuses` gives the reason why a geometry is not served, '' if it is;
    `pack` makes the constants of the kernel's struct from it, routines included; `scratch` is in bytes; `block` is how many rows one call
    may compute; `spends` marks a variant that stores more bytes of weights than the model has, for `--optimize speed` only; `bulky` one whose code
    is much as well, which is not taken for bytes of weights that dead channels saved either; `narrow` one that stores two weights a byte in a kernel that
    others store differently."""

    kernel: Kernel
    pack: Callable[..., Mapping[str, Packed]]
    refuses: Callable[[Any], str] = _never_refuses
    scratch: Callable[[Any], int] = _no_scratch
    block: int = 1
    spends: bool = False
    bulky: bool = False
    narrow: bool = False

    @property
    def name(self) -> str:
        """What tables and messages call it: the kernel without its prefix, `+` if it spends flash, `-` if it is narrow."""
        return self.kernel.symbol.removeprefix("midge_") + ("+" if self.spends else "-" if self.narrow else "")


@dataclass(frozen=True)
class Options:
    """What a layer could be lowered to: accepted variants, the geometry they were offered, its shape in the table of costs, and the one taken."""

    accepted: tuple[Variant, ...]
    geometry: Any
    shape: Shape
    taken: Variant


@dataclass
class Lowering:
    """Graph values to buffers, nodes to calls. `views` maps a value to the value whose buffer it shares."""

    graph: Graph
    program: Program
    features: frozenset[str] = frozenset()
    optimize: str = "balanced"
    costs: Costs = field(default_factory=Costs)
    prefer: str = ""  # a variant to take wherever it is accepted, by name
    choices: dict[int, str] = field(default_factory=dict)  # layer -> variant decided beforehand
    room: dict[str, int] | None = None  # value -> bytes of scratch a kernel may use
    least_scratch: bool = False  # see midge.lower.Choice
    whole: bool = False  # likewise
    narrow: bool = False  # likewise
    options: dict[int, Options] = field(default_factory=dict)  # layer -> what was offered, where the table of costs has shapes for it
    refusals: list[str] = field(default_factory=list)  # since the last call was appended
    views: dict[str, str] = field(default_factory=dict)
    pad_rows: dict[int, int] = field(default_factory=dict)  # zero_point -> longest row in bytes
    layer: int = 0
    total: int = 0  # see midge.ops.conv_planar.common_total
    routines: list[tuple[dict[str, str], str, Routine]] = field(default_factory=list)  # symbols of a call, the member that is a routine
    value: str = ""  # that is computed
    values: list[str] = field(default_factory=list)  # by layer, as layers were numbered when they were lowered
    by_content: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def choose(self, variants: tuple[Variant, ...], geometry: Any, shape: Shape | None = None) -> Variant:
        """The variant to take: of those whose features the target has and that accept the geometry, the cheapest by `costs` for `shape`; without
        figures the first. Why others were not taken goes to the call."""
        self.refusals, accepted = [], []
        for variant in variants:
            reason = self.refusal(variant, geometry)
            if reason:
                self.refusals.append(f"{variant.name}: {reason}")
            else:
                accepted.append(variant)
        if not accepted:
            raise IRError(f"no kernel serves {geometry}")
        wanted = [variant for variant in accepted if variant.name == self.prefer]
        taken = wanted[0] if wanted else self._cheapest(accepted, shape)
        if self.least_scratch and shape is not None:
            taken = self._leanest(accepted, geometry, shape, taken)
        if shape is not None:
            self.options[self.layer] = Options(tuple(accepted), geometry, shape, taken)
        return taken

    def refusal(self, variant: Variant, geometry: Any) -> str:
        """Why a variant may not serve a geometry here, '' if it may."""
        missing = variant.kernel.features - self.features
        if missing:
            return f"needs {', '.join(sorted(missing))}"
        if variant.spends and self.optimize not in ("speed", SPENDING):
            return "stores more bytes of weights than the model has"
        if variant.bulky and self.optimize != "speed":
            return "costs more code than the weights of dead channels make up for"
        if variant.kernel.features and self.optimize == "size":
            return "costs more code than the portable kernel"
        reason = variant.refuses(geometry)
        if reason or self.room is None or not variant.kernel.features:
            return reason
        needed, free = variant.scratch(geometry), self.room.get(self.value, 0)
        return f"needs {needed} bytes of scratch, {free} are free without a larger arena" if needed > free else ""

    def _cheapest(self, accepted: list[Variant], shape: Shape | None) -> Variant:
        chosen = self.choices.get(self.layer)
        if chosen is not None:
            return next((variant for variant in accepted if variant.name == chosen), accepted[0])  # a neighbour's choice may have changed the layout
        found = [self.costs.estimate(variant.name, shape) for variant in accepted] if shape else []
        if any(estimate is None for estimate in found) or not found:
            return accepted[0]
        counts = [estimate.instructions for estimate in found if estimate is not None]
        best = int(np.argmin(counts))
        self.refusals += [f"{v.name}: about {count:,} instructions" for v, count in zip(accepted, counts, strict=True) if v is not accepted[best]]
        return accepted[best]

    def _leanest(self, accepted: list[Variant], geometry: Any, shape: Shape, cheapest: Variant) -> Variant:
        """Of `cheapest` and what is not much slower, the variant with the least scratch."""
        limit = self.costs.estimate(cheapest.name, shape)
        found = cheapest
        for variant in accepted:
            estimate = self.costs.estimate(variant.name, shape)
            close = limit is not None and estimate is not None and estimate.instructions <= SLOWER * limit.instructions
            if close and variant.kernel.features and variant.scratch(geometry) < found.scratch(geometry):
                found = variant
        return found

    def alias(self, value: str, source: str) -> None:
        """`value` is the same bytes as `source` (a reshape): no call, no buffer."""
        self.views[value] = self.root(source)

    def root(self, value: str) -> str:
        return self.views.get(value, value)

    def buffer(self, value: str) -> Buffer:
        """The buffer of a value, made on first use."""
        name = self.root(value)
        if name not in self.program.buffers:
            kind = self.graph.type(name)
            height, width, channels = kind.hwc
            self.program.buffers[name] = Buffer(name, kind, height, width * channels * kind.dtype.nbytes)
        return self.program.buffers[name]

    def constant(self, stem: str, data: Array) -> str:
        """A constant under a fresh symbol; identical bytes of one type are stored once."""
        data = np.ascontiguousarray(data)
        key = (str(data.dtype), data.tobytes())
        if key not in self.by_content:
            symbol, suffix = stem, 1
            while symbol in self.program.constants:
                symbol, suffix = f"{stem}_{suffix}", suffix + 1
            self.program.constants[symbol] = Constant(symbol, DType.of(data.dtype), data)
            self.by_content[key] = symbol
        return self.by_content[key]

    def pad_row(self, zero_point: int, nbytes: int) -> str:
        """The constant row of `zero_point` that stands for padding: one per zero_point, as long as the longest row that asks."""
        self.pad_rows[zero_point] = max(nbytes, self.pad_rows.get(zero_point, 0))
        return f"pad_row_{'m' if zero_point < 0 else ''}{abs(zero_point)}"

    def finish_pad_rows(self) -> None:
        """Called once at the end of lowering."""
        for zero_point, nbytes in sorted(self.pad_rows.items()):
            symbol = self.pad_row(zero_point, 0)
            self.program.constants[symbol] = Constant(symbol, DType.S8, np.full(nbytes, zero_point, np.int8))

    def operand(self, value: str, window: Window | None = None, *, flat: bool = False) -> Operand:
        """Read a value: row by row through `window`, by default row y for output row y; `flat` reads the whole tensor as one row.

        A constant value becomes a constant of the program (int8 or int32 rows). Padding rows are the zero_point of the value.
        """
        kind = self.graph.type(value)  # of the view, not of the buffer: a reshaped value has other rows
        height, width, channels = kind.hwc
        nbytes = width * channels * kind.dtype.nbytes
        window = window or Window(1 if flat else height)
        row_nbytes = height * nbytes if flat else nbytes
        if self.graph.is_constant(value):
            data = self.graph.data(value)
            assert data is not None
            return Operand("", window, row_nbytes, constant=self.constant(self.stem("operand"), data))
        pad = self.pad_row(kind.q.z, row_nbytes) if window.may_pad else None
        return Operand(self.buffer(value).name, window, row_nbytes, pad_row=pad)

    def stem(self, field_name: str) -> str:
        """Name for a constant of the current layer."""
        return f"layer{self.layer}_{field_name}"

    def call(
        self,
        node: Node,
        kernel: Kernel,
        params: Mapping[str, int],
        inputs: list[Operand],
        constants: Mapping[str, Packed | str],
        *,
        output: str | None = None,
        flat: bool = False,
        rows: int | None = None,
        first_row: int = 0,
        scratch_nbytes: int = 0,
        in_place: int | None = None,
        block: int = 1,
        least: int = 1,
        splits: tuple[str, ...] = (),
        units: tuple[int, ...] = (),
    ) -> None:
        """Append a Call that writes `output` (default: the node's first), all rows of it by default, as one row if `flat`.

        `splits`: the params that count what is in the one row of a flat call, if it may as well run row by row.
        For a REDUCE kernel `rows` counts the input rows that are added. Constants given as arrays are stored and shared; strings are
        symbols already stored.
        """
        buffer = self.buffer(output or node.outputs[0])
        self.program.calls.append(
            Call(
                self.layer,
                node.name,
                kernel,
                {name: int(value) for name, value in params.items()},
                tuple(inputs),
                self.symbols(constants),
                buffer.name,
                1 if flat else buffer.rows if rows is None else rows,
                buffer.nbytes if flat else buffer.row_nbytes,
                first_row,
                scratch_nbytes,
                in_place,
                block,
                least,
                splits,
                (self.graph.type(node.inputs[0]) if kernel.contract is Contract.REDUCE else buffer.type).hwc[0] if splits else 1,
                tuple(self.refusals),
                units=units,
            )
        )
        self.refusals = []

    def symbols(self, constants: Mapping[str, Packed | str]) -> dict[str, str]:
        """What the members of a constants struct point to."""
        symbols = {name: self.symbol(name, data) for name, data in constants.items()}
        self.routines += [(symbols, name, data) for name, data in constants.items() if isinstance(data, Routine)]
        return symbols

    def share_routines(self) -> None:
        """Called once at the end of lowering: calls take a routine that other calls have, where it is as fast; what nobody calls is left out."""
        known = self.program.routines
        for symbols, name, routine in self.routines:
            symbols[name] = next((other for other in routine.others if other in known), routine.symbol)
        used = {symbols[name] for symbols, name, _ in self.routines}
        self.program.routines = {symbol: routine for symbol, routine in known.items() if symbol in used}

    def symbol(self, name: str, packed: Packed | str) -> str:
        """What a member of a constants struct points to: a symbol already stored, an array or a routine."""
        if isinstance(packed, str):
            return packed
        if isinstance(packed, Routine):
            self.program.routines[packed.symbol] = packed
            return packed.symbol
        return self.constant(self.stem(name), packed)

    def finish_layer(self, node: Node, value: str, macs: int, text: str) -> None:
        """Record that the calls since the last layer computed `value` of `node`."""
        self.program.layers.append(Layer(self.layer, node.name, node.op.kind, value, self.buffer(value).name, node.origin, macs, text))
        self.layer += 1
