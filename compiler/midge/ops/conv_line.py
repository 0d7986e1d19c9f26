# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution along one axis on the DSP extension: windows 1xk, row by row, and windows kx1 of a tensor one pixel wide: blocks of rows that may
lie anywhere, or, if the window is dilated, all rows one behind the other, which so are the pixels of one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midge.microkernels.depthwise_line import MOST_TAPS, Line
from midge.microkernels.line_column import OUTPUTS
from midge.ops.conv_depthwise import refuses_channels
from midge.ops.conv_dsp import DSP, gemm_of
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

LINE = Kernel("midge_depthwise_line_dsp_s8", "depthwise_line_dsp", features=DSP)
COLUMN = Kernel("midge_depthwise_column_dsp_s8", "depthwise_line_dsp", features=DSP, shares_taps=True)
FEWEST = 4  # outputs of a line that pay for the strip


def column(layer: ConvLayer) -> bool:
    """Whether the window slides over rows of one pixel."""
    return layer.weights.shape[2] == 1 and layer.op.hwc(layer.types[0])[1] == layer.out.hwc[1] == 1 and layer.op.pads[1] == 0


def lies(layer: ConvLayer) -> bool:
    """Whether a column is read as one line."""
    return column(layer) and (layer.op.dilations[0] > 1 or layer.whole)


def upright(layer: ConvLayer) -> dict[str, int]:
    """What of midge_conv2d_params is different for a column that is read as one row."""
    op, taps = layer.op, layer.weights.shape[1]
    size = {"in_width": op.hwc(layer.types[0])[0], "out_width": layer.out.hwc[0], "kernel_height": 1, "kernel_width": taps}
    return size | {"stride": op.strides[0], "dilation": op.dilations[0], "pad": op.pads[0]}


def line_of(layer: ConvLayer) -> Line:
    """The layer's integers and how its lines are walked."""
    params = layer.params | (upright(layer) if column(layer) else {})
    return Line(gemm_of(layer), params["out_width"], params["stride"], params["dilation"], layer.numerics, column(layer) and not lies(layer))


def pack(layer: ConvLayer) -> dict[str, Packed]:
    """midge_depthwise_line_constants."""
    line = line_of(layer)
    return {"stream": line.stream(), "column" if line.column else "line": line.routine()}


def refuses_line(layer: ConvLayer) -> str:
    """Why lines do not serve a layer, '' if they do."""
    return "a column of rows" if column(layer) and not lies(layer) else refuses(layer)


def refuses_column(layer: ConvLayer) -> str:
    """Why rows of one pixel do not serve a layer, '' if they do."""
    return refuses(layer) if column(layer) and not lies(layer) else "not a column of single pixels, undilated"


def refuses(layer: ConvLayer) -> str:
    """What both ask."""
    reason = refuses_channels(layer)
    if reason:
        return reason
    if not column(layer) and layer.weights.shape[1] > 1:
        return "neither a window in width nor a column of single pixels"
    line = line_of(layer)
    if not 2 <= line.taps <= MOST_TAPS:
        return f"{line.taps} taps, 2 to {MOST_TAPS} are offered"
    if line.stride > 2 or (line.stride > 1 and line.dilation > 1):
        return f"stride {line.stride}" + (", dilated" if line.dilation > 1 else "")
    if line.outputs < FEWEST * line.dilation:
        return f"{line.outputs} outputs in a line"
    return line.gemm.refuses()


def scratch(layer: ConvLayer) -> int:
    return line_of(layer).scratch


def most(layer: ConvLayer) -> int:
    """Output rows of a column that a call computes at most."""
    return line_of(layer).most


def units(layer: ConvLayer) -> tuple[int, ...]:
    """Call.units of a column: bytes of its strip for one block of rows, for two..."""
    line = line_of(layer)
    return tuple(line.strip(outputs) for outputs in range(OUTPUTS, line.most + 1, OUTPUTS))


VARIANTS = (Variant(COLUMN, pack, refuses_column, scratch, OUTPUTS), Variant(LINE, pack, refuses_line, scratch))
