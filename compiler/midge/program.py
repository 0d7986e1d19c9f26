# SPDX-License-Identifier: Apache-2.0
"""The Program: how it is computed. Kernel calls in order, on placed buffers.

A Call produces rows of one buffer. Which input rows an output row needs is data (a Window), so that a scheduler can run any order of
rows without knowing the kernel. All kernels have one signature:

    void k(const params *, const T *const *in_rows, const constants *, T *const *out_rows, unsigned rows, void *scratch)

`in_rows` holds, for each output row, the rows of input 0 tap by tap, then those of input 1, and so on (but see Kernel.shares_taps); a row of padding is a
pointer to constant zero points. A params struct has int32_t fields only and a constants struct pointers only, in the order of the dicts here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from midge.buffers import Buffer as Buffer
from midge.buffers import Piece as Piece
from midge.buffers import planar_order as planar_order
from midge.errors import IRError
from midge.ir import Array, DType, TensorType

ARRIVAL, HAND_OUT = -1, -2  # instead of a call in a Step


class Contract(Enum):
    """How a kernel is driven. ROWS: once per output row. REDUCE: `_init`, then `_add` for every input row, then `_finish`."""

    ROWS = "rows"
    REDUCE = "reduce"


@dataclass(frozen=True)
class Kernel:
    """One implementation in kernels/: its C symbol, its family (header and source) and what it needs of a target."""

    symbol: str
    family: str
    profiled: bool = False  # has a `_tflite` twin for double rounding
    contract: Contract = Contract.ROWS
    features: frozenset[str] = frozenset()
    shares_taps: bool = False  # a block's in_rows hold each input row once, from the first tap of its first output row to the last tap of its last

    def symbols(self, numerics: str) -> tuple[str, ...]:
        """The C functions a Call needs."""
        name = self.symbol + ("_tflite" if self.profiled and numerics == "tflite" else "")
        if self.contract is Contract.REDUCE:
            return (f"{name}_init", f"{name}_add", f"{name}_finish")
        return (name,)


@dataclass(frozen=True)
class Window:
    """Input row of tap k for output row y: y * stride + k * dilation - pad; outside [0, height) it is padding.

    With `up` > 1 the input row is floor(y / up) instead (nearest upsampling by a whole factor).
    """

    height: int
    taps: int = 1
    stride: int = 1
    dilation: int = 1
    pad: int = 0
    up: int = 1
    rows_out: int | None = None  # number of output rows; needed where padding may be met

    def rows(self, y: int) -> list[int]:
        """Input row per tap, -1 for padding."""
        found = [y // self.up if self.up > 1 else y * self.stride + k * self.dilation - self.pad for k in range(self.taps)]
        return [row if 0 <= row < self.height else -1 for row in found]

    @property
    def may_pad(self) -> bool:
        """Whether an output row may need a row of padding."""
        return self.rows_out is not None and any(row < 0 for y in range(self.rows_out) for row in self.rows(y))


@dataclass(frozen=True)
class Memory:
    """A memory beside the arena, as an array of the library: its size, the bytes of it in use, whether it is fast and may take constants."""

    name: str
    capacity: int
    fast: bool = False
    weights: bool = False
    nbytes: int = 0


@dataclass(frozen=True)
class Constant:
    """Packed constant data: C symbol, element type and bytes."""

    symbol: str
    dtype: DType
    data: Array


@dataclass(frozen=True)
class Routine:
    """A generated inner loop: assembly for one shape, and the portable function of kernels/ that does the same on the same packed stream.

    Its address is a member of a constants struct. `lines` are the body of a naked function; `stack_nbytes` is what it pushes. `others` are routines that do
    the same as fast for the call that has it, best first: if one is in the Program anyway, it is called instead.
    """

    symbol: str
    twin: str
    family: str
    lines: tuple[str, ...]
    stack_nbytes: int
    feature: str = "dsp"  # what the assembly needs of the target
    others: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Operand:
    """A buffer read through a Window. `pad_row` is the constant that stands for a row of padding; `rows` and `row_nbytes` the view the Call takes."""

    buffer: str  # '' if the operand is a constant of the program
    window: Window
    row_nbytes: int
    pad_row: str | None = None
    constant: str | None = None
    offset: int = 0  # bytes from the start of the buffer to row 0: a plane of an NCHW tensor is an operand of its own


@dataclass(frozen=True)
class Call:
    """One kernel producing `rows` rows of `output`, from row `first_row` on."""

    layer: int
    name: str
    kernel: Kernel
    params: dict[str, int]
    inputs: tuple[Operand, ...]
    constants: dict[str, str]
    output: str
    rows: int
    row_nbytes: int
    first_row: int = 0
    scratch_nbytes: int = 0
    in_place: int | None = None  # index of the input whose buffer may become the output's, because each element is read before it is written
    block: int = 1  # output rows that one call of the kernel may compute
    least: int = 1  # of them that a step should, because fewer cost nearly as much
    splits: tuple[str, ...] = ()  # params that count what is in a row: a call that takes whole tensors as one row may be split into rows by them
    split_rows: int = 1  # into how many
    refused: tuple[str, ...] = ()  # better kernels and why each was not taken
    copies: str = ""  # why a call that only moves bytes is needed, if it could have been a view
    units: tuple[int, ...] = ()  # of a kernel that computes a few rows at once, and more such units in less time each: scratch for one, two... up to `block`


@dataclass(frozen=True)
class Step:
    """`count` rows of a call from row `first` on, of its output or, for REDUCE, of its input. Call ARRIVAL is the arrival of input rows, HAND_OUT - n
    the moment when the caller is given rows of output n. Scratch of the call lies at `scratch` meanwhile; that of a REDUCE call stays there from its
    first step to its last."""

    call: int
    first: int
    count: int
    scratch: int = -1

    @property
    def output(self) -> int:
        """Which output is handed out, -1 where none is."""
        return HAND_OUT - self.call if self.call <= HAND_OUT else -1


@dataclass(frozen=True)
class Layer:
    """What verify and reports call one step: a Graph node as it was lowered."""

    index: int
    name: str
    kind: str
    value: str  # the Graph value it computes
    buffer: str
    origin: tuple[str, ...]
    macs: int
    text: str  # one line for people: types in and out


@dataclass
class Port:
    """An input or output of the library. `buffer` holds it; `type` is what the caller sees."""

    name: str
    buffer: str
    type: TensorType
    model_type: TensorType
    nhwc: bool = False  # where the model has NCHW


@dataclass
class Program:
    """Everything an executor or emitter needs; no Graph behind it."""

    name: str
    numerics: str
    target: str
    digest: str
    optimize: str = "balanced"
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    routines: dict[str, Routine] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    arena_nbytes: int = 0
    arena_align: int = 16
    lower_bound: int = 0
    peak_step: int = -1  # at which the most bytes are alive
    state_offset: int = -1  # of what is kept between calls that each run a part; -1 if the library runs in one go
    steps: list[Step] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    scratch_memory: str = ""
    constant_memory: dict[str, str] = field(default_factory=dict)  # symbol -> memory, of constants that are not where the others are
    shared: str = ""  # prefix of kernels and constants where several Programs share them
    warnings: list[str] = field(default_factory=list)
    request: dict[str, int | bool | str | None] = field(default_factory=dict)  # what was asked of kernels and schedule, so that a folder can be compiled again

    def buffer(self, name: str) -> Buffer:
        if name not in self.buffers:
            raise IRError(f"no buffer named {name!r}")
        return self.buffers[name]

    def settle_views(self) -> None:
        """Where the rows of views lie, from the places of what they show."""
        for view in self.buffers.values():
            if view.pieces:
                first = [next(view.owners(row * view.row_nbytes, 1)) for row in range(view.rows)]
                shown = [(self.buffers[piece.buffer], *divmod(piece.start, self.buffers[piece.buffer].row_nbytes)) for piece in first]
                view.offsets = tuple(buffer.offsets[row] + at for buffer, row, at in shown)
                view.memory = shown[0][0].memory

    @property
    def prefix(self) -> str:
        """Of the C names of kernels and constants; what is the Program's alone starts with its name."""
        return self.shared or self.name

    @property
    def streams(self) -> bool:
        """Whether rows of input 0 are pushed into a run."""
        return any(step.call == ARRIVAL for step in self.steps)

    @property
    def hands_out(self) -> bool:
        """Whether rows of the outputs are handed out in a run, and never all there."""
        return any(step.call <= HAND_OUT for step in self.steps)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_nbytes(self) -> int:
        return sum(constant.data.nbytes for constant in self.constants.values())
