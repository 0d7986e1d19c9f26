# SPDX-License-Identifier: Apache-2.0
"""The planner against the checker, and the checker against planted errors."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midge.errors import IRError
from midge.ir import DType, TensorType
from midge.program import Buffer, Call, Kernel, Operand, Port, Program, Window
from midge.schedule import certify, place
from midge.schedule.timeline import timeline

KERNEL = Kernel("midge_nothing", "nothing")


def make_program(seed: int, calls: int) -> Program:
    """A random chain of calls with branches, in-place candidates and scratch."""
    rng = random.Random(seed)
    program = Program("p", "onnx", "host", "")

    def buffer(name: str, nbytes: int) -> str:
        program.buffers[name] = Buffer(name, TensorType(DType.S8, (1, nbytes)), 1, nbytes, rng.choice([1, 4, 16]))
        return name

    inputs = [buffer(f"x{i}", rng.randint(1, 100)) for i in range(rng.randint(1, 3))]
    made = list(inputs)
    for index in range(calls):
        reads = rng.sample(made[-4:], min(len(made[-4:]), rng.randint(1, 2)))
        in_place = 0 if rng.random() < 0.5 else None
        nbytes = program.buffers[reads[0]].nbytes if in_place is not None else rng.randint(1, 100)
        name = buffer(f"b{index}", nbytes)
        operands = tuple(Operand(read, Window(1), program.buffers[read].row_nbytes) for read in reads)
        scratch = rng.choice([0, 0, 0, 12, 40])
        program.calls.append(Call(index, f"c{index}", KERNEL, {}, operands, {}, name, 1, nbytes, 0, scratch, in_place))
        made.append(name)
    program.inputs = [Port(n, n, program.buffers[n].type, program.buffers[n].type) for n in inputs]
    program.outputs = [Port(n, n, program.buffers[n].type, program.buffers[n].type) for n in {made[-1], rng.choice(made[len(inputs) :])}]
    return program


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_every_plan_is_certified_and_not_below_the_bound(seed, calls):
    program = place(make_program(seed, calls))
    assert program.arena_nbytes >= program.lower_bound


def overlaps(program: Program) -> bool:
    """Plain O(n^2) judgement over what lies where when, aware only of calls in place."""
    items = timeline(program)
    for i, a in enumerate(items):
        for b in items[:i]:
            first, second = sorted((a, b), key=lambda each: each.first)
            in_place = first.last == second.first >= 0 and first.offset == second.offset and program.calls[program.steps[first.last].call].in_place is not None
            if second.first <= first.last and not in_place and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes:
                return True
    return False


def test_two_hundred_planted_overlaps_are_caught():
    caught = tried = 0
    rng = random.Random(5)
    while tried < 200:
        program = place(make_program(rng.randint(0, 10**6), 8))
        name = rng.choice(list(program.buffers))
        program.buffers[name].put(16 * rng.randint(0, program.arena_nbytes // 16))
        if not overlaps(program):
            continue
        tried += 1
        with pytest.raises(IRError):
            certify(program)
        caught += 1
    assert caught == 200


def test_misaligned_and_outside_are_caught():
    program = place(make_program(3, 5))
    buffer = next(iter(program.buffers.values()))
    buffer.align = 4
    buffer.put(2)
    with pytest.raises(IRError, match="misaligned"):
        certify(program)
    buffer.put(program.arena_nbytes // 4 * 4)
    with pytest.raises(IRError, match="outside"):
        certify(program)


def test_scratch_never_meets_its_operands():
    program = place(make_program(11, 10))
    index = next((i for i, step in enumerate(program.steps) if program.calls[step.call].scratch_nbytes), None)
    if index is None:
        pytest.fail("the seed has no scratch; choose another")
    step = program.steps[index]
    program.steps[index] = replace(step, scratch=program.buffers[program.calls[step.call].output].offset)
    with pytest.raises(IRError, match="scratch"):
        certify(program)


def test_in_place_chain_costs_one_buffer():
    program = Program("p", "onnx", "host", "")
    for name in "abc":
        program.buffers[name] = Buffer(name, TensorType(DType.S8, (1, 64)), 1, 64)
    for index, (source, target) in enumerate(("ab", "bc")):
        program.calls.append(Call(index, target, KERNEL, {}, (Operand(source, Window(1), 64),), {}, target, 1, 64, in_place=0))
    program.inputs = [Port("a", "a", program.buffers["a"].type, program.buffers["a"].type)]
    program.outputs = [Port("c", "c", program.buffers["c"].type, program.buffers["c"].type)]
    assert place(program).arena_nbytes == 64
    assert program.lower_bound == 64
