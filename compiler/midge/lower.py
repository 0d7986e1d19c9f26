# SPDX-License-Identifier: Apache-2.0
"""Graph + Target -> Program: every node becomes kernel calls on buffers, every constant is packed, the arena is planned and certified."""

from __future__ import annotations

import midge.ops  # noqa: F401  (registers every operator)
from midge.errors import IRError, Unsupported
from midge.ir import DType, Graph, TensorType
from midge.ops.lowering import Lowering
from midge.program import Buffer, Port, Program
from midge.targets import Target

INTEGER = (DType.S8, DType.U8)


def lower(graph: Graph, target: Target, name: str, digest: str, optimize: str = "balanced") -> Program:
    """The Program of a canonical, fully quantized Graph, not yet placed (see midge.schedule.place).

    Raises: Unsupported listing what no kernel serves, IRError if the Graph breaks its rules.
    """
    program = Program(name, graph.numerics, target.name, digest, optimize)
    ctx = Lowering(graph, program, target.features, optimize)
    for value in graph.inputs:
        ctx.buffer(value)
    refused: list[str] = []
    for node, types, out in graph.walk():
        first = len(program.calls)
        try:
            node.op.lower(ctx, node)  # type: ignore[attr-defined]
        except Unsupported as error:
            refused.append(f"{node.op.kind.lower()} '{node.name}': {error}")
            continue
        if len(program.calls) > first:
            ctx.finish_layer(node, node.outputs[0], node.op.macs(types, out), describe(node.op.kind, types, out))
    if refused:
        raise Unsupported("\n".join(refused))
    ctx.finish_pad_rows()
    program.inputs = [_port(ctx, graph, value, value) for value in graph.inputs]
    program.outputs = [_port(ctx, graph, value, public) for value, public in zip(graph.outputs, output_names(graph), strict=True)]
    _outputs_are_distinct(program)
    return program


def output_names(graph: Graph) -> list[str]:
    """Names of the outputs as the model declared them."""
    return graph.output_names or list(graph.outputs)


def _port(ctx: Lowering, graph: Graph, value: str, public: str) -> Port:
    kind = graph.type(value)
    return Port(public, ctx.buffer(value).name, kind, graph.model_types.get(public, kind))


def _outputs_are_distinct(program: Program) -> None:
    used = [port.buffer for port in program.inputs + program.outputs]
    if len(set(used)) != len(used):
        raise IRError(f"ports share buffers: {used}; the edges pass must copy them apart")


def buffer_bytes(buffer: Buffer) -> int:
    """Bytes of a buffer rounded up to its alignment."""
    return -(-buffer.nbytes // buffer.align) * buffer.align


def describe(kind: str, types: list[TensorType], out: list[TensorType]) -> str:
    """One line for people: 'Conv2D s8[1,49,10,1] -> s8[1,25,5,64]'."""

    def short(t: TensorType) -> str:
        return f"{t.dtype.value}[{','.join(map(str, t.shape))}]"

    return f"{kind} {short(types[0])} -> {', '.join(short(t) for t in out)}"
