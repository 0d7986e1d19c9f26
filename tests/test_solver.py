# SPDX-License-Identifier: Apache-2.0
"""Row schedules: the solver against every possible order of small problems, its bound, its placement, and the validator against planted faults."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from random_problems import least_peak, random_problem

from midge.errors import IRError
from midge.schedule.bound import lower_bound
from midge.schedule.lifetimes import Item, Rect
from midge.schedule.placement import Placer, grids
from midge.schedule.problem import Object, Problem, Solution, Task
from midge.schedule.search import Searcher
from midge.schedule.solve import solve
from midge.schedule.tables import make_tables
from midge.schedule.validate import validate


@pytest.mark.parametrize("part", range(8))
def test_the_peak_is_the_least_of_all_orders(part: int) -> None:
    for seed in range(part * 50, part * 50 + 50):
        problem = random_problem(seed)
        solution = solve(problem)
        validate(problem, solution)
        assert (solution.peak, solution.bound) == (least_peak(problem),) * 2, f"seed {seed}"


def test_cuts_alone_bound_the_peak_and_mostly_reach_it() -> None:
    tight = 0
    for seed in range(150):
        problem = random_problem(seed)
        tables = make_tables(problem)
        searcher = Searcher(tables, 1000, None)
        bound, every = lower_bound(tables, np.full(tables.tasks, 1 << 30), searcher.floor, tables.tasks + 1)
        assert every and bound * tables.unit <= least_peak(problem), f"seed {seed}"
        tight += bound * tables.unit == least_peak(problem)
    assert tight > 100


def test_a_capped_search_still_gives_a_sound_order_and_bound() -> None:
    capped = 0
    for seed in range(400):
        problem = random_problem(seed)
        solution = solve(problem, states=1)
        validate(problem, solution)
        assert solution.bound <= least_peak(problem) <= solution.peak
        capped += any("states" in note for note in solution.notes)
    assert capped > 5


def pyramid(height: int, layers: int, sizes: list[int], residual: int = 0) -> Problem:
    """Convolutions of three rows, halving the height at times, over rows that come one by one; the last is reduced to one object.

    residual: every so many layers a pair of layers of one height ends in adding what went in, in place.
    """
    objects, chains = [Object(sizes[0]) for _ in range(height)], []
    source = list(range(height))
    chains.append(tuple(Task((), (o,)) for o in source))
    for layer in range(1, layers + 1):
        adds = residual and layer % residual == 0
        stride = 1 if adds or layer % 7 or len(source) < 8 else 2
        out = list(range(len(objects), len(objects) + len(source) // stride))
        objects += [Object(sizes[layer % len(sizes)]) for _ in out]
        chains.append(tuple(Task(tuple(source[max(0, y * stride - 1) : y * stride + 2]), (o,)) for y, o in enumerate(out)))
        if adds:
            total = list(range(len(objects), len(objects) + len(out)))
            objects += [Object(objects[source[0]].nbytes) for _ in out]
            chains.append(tuple(Task((source[y], out[y]), (o,), in_place=(o, source[y])) for y, o in enumerate(total)))
            out = total
        source = out
    result = len(objects)
    chains.append(tuple(Task((row, result) if y else (row,), (result,)) for y, row in enumerate(source)))
    return Problem((*objects, Object(64)), tuple(chains), (), (result,))


def test_three_layers_of_three_rows_hold_three_rows_each() -> None:
    solution = solve(pyramid(12, 3, [100]))
    validate(pyramid(12, 3, [100]), solution)
    # Eight rows: two kept of each of three layers, the third of the one being read, and the one being written. And the result.
    assert solution.peak == solution.bound == solution.arena == 800 + 64


def test_the_same_problem_has_one_solution() -> None:
    for seed in (3, 14, 27):
        assert solve(random_problem(seed)) == solve(random_problem(seed))
    assert solve(pyramid(10, 6, [40, 24, 52])) == solve(pyramid(10, 6, [40, 24, 52]))


def test_a_budget_is_kept_and_ends_the_search() -> None:
    problem = pyramid(16, 10, [96, 40, 64], residual=3)
    least = solve(problem)
    loose = solve(problem, budget=2 * least.arena)
    validate(problem, loose)
    assert loose.arena <= 2 * least.arena and loose.bound <= least.peak


def test_two_thousand_tasks_are_scheduled_under_the_caps() -> None:
    problem = pyramid(112, 46, [1200, 7200, 7200, 2400], residual=4)
    assert 2000 <= problem.tasks <= 2600
    told: list[tuple[int, int, int, int]] = []
    solution = solve(problem, states=20_000, progress=lambda *numbers: told.append(numbers))
    validate(problem, solution)
    assert solution.arena <= 1.12 * solution.bound
    assert all(states <= cap == 20_000 and bound <= best for states, cap, bound, best in told)


def test_nothing_to_do_takes_nothing() -> None:
    solution = solve(Problem((), ()))
    validate(Problem((), ()), solution)
    assert (solution.arena, solution.peak, solution.bound, solution.order) == (0, 0, 0, ())


def test_rows_of_a_group_give_way_one_by_one() -> None:
    rows = [Object(10, align=4 if y == 0 else 1, group=5, at=10 * y) for y in range(8)]
    outs = [Object(9, align=4) for _ in range(8)]
    tasks = tuple(Task((y,), (8 + y,), scratch=6) for y in range(8))
    problem = Problem((*rows, *outs), (tasks,), initial=tuple(range(8)), final=tuple(range(8, 16)))
    solution = solve(problem)
    validate(problem, solution)
    assert {solution.addresses[y] - 10 * y for y in range(8)} == {solution.addresses[0]}
    assert solution.arena == solution.peak == 112  # at the last step eight new rows of 12, two units of the last old one, and 8 of scratch


def test_a_trial_gives_a_schedule_within_its_budget_or_says_that_it_has_none() -> None:
    problem = pyramid(12, 6, [40, 24, 52])
    least = solve(problem)
    found = solve(problem, budget=2 * least.arena, quick=True)
    validate(problem, found)
    assert found.arena <= 2 * least.arena
    none = solve(problem, budget=least.bound - 4, quick=True)
    assert least.bound - 4 < none.bound <= least.bound and none.arena > least.arena and not none.order


def test_sizes_that_divide_each_other_make_grids() -> None:
    items = [Item(4, [Rect(0, 1, 0, nbytes)]) for nbytes in (384, 768, 768, 96, 10)]
    found = {tuple(align.tolist()) for align in grids(items, 4)}
    assert (384, 384, 384, 4, 4) in found and (96, 96, 96, 96, 4) in found
    assert all(nbytes % align == 0 for aligns in found for nbytes, align in zip((384, 768, 768, 96), aligns, strict=False))


@pytest.mark.parametrize("seed", range(20))
def test_what_was_tried_most_is_placed_soundly(seed: int) -> None:
    dice = random.Random(seed)
    rects = [(first := dice.randrange(40), first + dice.randrange(1, 9), 4 * dice.choice((8, 16, 24, 5))) for _ in range(60)]
    items = [Item(4, [Rect(first, last, 0, nbytes)]) for first, last, nbytes in rects]
    peak = max(sum(nbytes for first, last, nbytes in rects if first <= step <= last) for step in range(50))
    placer = Placer(items, peak, 4)
    placer.thorough(2_000_000)
    spots = list(zip(rects, placer.best.addresses.tolist(), strict=True))
    for i, ((first, last, nbytes), at) in enumerate(spots):
        assert 0 <= at <= placer.best.arena - nbytes
        for (begin, end, others), other in spots[:i]:
            assert last < begin or end < first or at + nbytes <= other or other + others <= at
    assert peak <= placer.best.arena <= 1.2 * peak


BROKEN: list[tuple[str, Problem]] = [
    ("wait for each other", Problem((Object(4), Object(4)), ((Task((1,), (0,)),), (Task((0,), (1,)),)), (), (0,))),
    ("nothing writes", Problem((Object(4), Object(4)), ((Task((0,), (1,)),),))),
    ("nothing writes", Problem((Object(4), Object(4)), ((Task((), (1,)),),), (), (0,))),
    ("before its own chain", Problem((Object(4), Object(4)), ((Task((0,), (1,)), Task((), (0,))),))),
    ("do not exist", Problem((Object(4),), ((Task((), (1,)),),))),
    ("has nbytes", Problem((Object(-4),), ((Task((), (0,)),),))),
    ("not a multiple", Problem((Object(4, 4, group=0, at=2),), ((Task((), (0,)),),))),
    ("in_place", Problem((Object(4), Object(4)), ((Task((), (0,)), Task((), (1,), in_place=(1, 0))),))),
    ("negative scratch", Problem((Object(4),), ((Task((), (0,), scratch=-1),),))),
]


@pytest.mark.parametrize(("words", "problem"), BROKEN, ids=[str(i) for i in range(len(BROKEN))])
def test_a_broken_problem_is_refused(words: str, problem: Problem) -> None:
    with pytest.raises(IRError, match=words):
        solve(problem)


def lives(problem: Problem, order: tuple[int, ...]) -> dict[int, set[int]]:
    """The steps, from -1, at which each object lives."""
    done, steps = [0] * len(problem.chains), []
    for c in order:
        steps.append(problem.chains[c][done[c]])
        done[c] += 1
    found: dict[int, set[int]] = {}
    for o in range(len(problem.objects)):
        used = [-1] * (o in problem.initial) + [i for i, t in enumerate(steps) if o in t.reads + t.writes] + [len(steps)] * (o in problem.final)
        if used:
            found[o] = set(range(min(used), max(used) + 1))
    return found


def overlapped(problem: Problem, solution: Solution, dice: random.Random) -> Solution | None:
    """An object moved onto another that lives beside it for more than the one step of an exchange in place."""
    alive = lives(problem, solution.order)
    pairs = [(a, b) for a in alive for b in alive if a != b and len(alive[a] & alive[b]) > 1 and problem.objects[a].nbytes and problem.objects[b].nbytes]
    pairs = [(a, b) for a, b in pairs if problem.objects[a].group < 0 or problem.objects[a].group != problem.objects[b].group]
    if not pairs:
        return None
    a, b = dice.choice(pairs)
    addresses = list(solution.addresses)
    addresses[a] = addresses[b]
    return replace(solution, addresses=tuple(addresses), arena=solution.arena + 1000)


def too_early(problem: Problem, solution: Solution, dice: random.Random) -> Solution | None:
    """A step moved to just before the first step of another chain that writes what it reads."""
    done, steps = [0] * len(problem.chains), []
    for c in solution.order:
        steps.append(problem.chains[c][done[c]])
        done[c] += 1
    wanted = [set(task.reads) - set(task.writes) for task in steps]
    apart = [(i, j) for j in range(len(steps)) for i in range(j) if solution.order[i] != solution.order[j]]
    pairs = [(i, j) for i, j in apart if set(steps[i].writes) & wanted[j]]
    if not pairs:
        return None
    writer, reader = dice.choice(pairs)
    order = list(solution.order)
    earlier = [c for c in order[writer:reader] if c == order[reader]]  # its chain's steps between go along
    rest = [c for c in order[writer:reader] if c != order[reader]]
    order[writer : reader + 1] = [*earlier, order[reader], *rest]
    return replace(solution, order=tuple(order))


def misaligned(problem: Problem, solution: Solution, dice: random.Random) -> Solution | None:
    movable = [o for o in lives(problem, solution.order) if problem.objects[o].align > 1]
    if not movable:
        return None
    o, addresses = dice.choice(movable), list(solution.addresses)
    addresses[o] += 1
    return replace(solution, addresses=tuple(addresses), arena=solution.arena + 1)


def torn(problem: Problem, solution: Solution, dice: random.Random) -> Solution | None:
    """A member of a group moved far away from the others."""
    members = [o for o, item in enumerate(problem.objects) if item.group >= 0]
    if len(members) < 2:
        return None
    o, addresses = dice.choice(members), list(solution.addresses)
    addresses[o] += 4096
    return replace(solution, addresses=tuple(addresses), arena=solution.arena + 8192)


def outside(problem: Problem, solution: Solution, dice: random.Random) -> Solution | None:
    movable = [o for o in lives(problem, solution.order) if problem.objects[o].group < 0 and problem.objects[o].nbytes]
    if not movable:
        return None
    o, addresses = dice.choice(movable), list(solution.addresses)
    addresses[o] = -(-solution.arena // 16) * 16
    return replace(solution, addresses=tuple(addresses))


def scratch_lost(problem: Problem, solution: Solution, dice: random.Random) -> Solution | None:
    """Scratch put onto what its step writes."""
    done, found = [0] * len(problem.chains), []
    for index, c in enumerate(solution.order):
        task = problem.chains[c][done[c]]
        done[c] += 1
        found += [(index, o) for o in task.writes if task.scratch]
    if not found:
        return None
    index, o = dice.choice(found)
    scratch = list(solution.scratch)
    scratch[index] = solution.addresses[o]
    return replace(solution, scratch=tuple(scratch), arena=solution.arena + 1000)


def misjudged(problem: Problem, solution: Solution, dice: random.Random) -> Solution | None:
    wrong = [{"peak": solution.peak + 4}, {"peak": solution.peak - 1}, {"bound": solution.peak + 1}, {"order": solution.order[:-1]}]
    wrong += [{"order": (*solution.order, 0)}, {"arena": solution.peak - 1}, {"addresses": solution.addresses[1:]}, {"scratch": solution.scratch[1:]}]
    return replace(solution, **dice.choice(wrong))  # type: ignore[arg-type]


MUTATIONS: list[Callable[[Problem, Solution, random.Random], Solution | None]] = [
    overlapped, too_early, misaligned, torn, outside, scratch_lost, misjudged]  # fmt: skip


@pytest.mark.parametrize("mutate", MUTATIONS, ids=[m.__name__ for m in MUTATIONS])
def test_the_validator_catches_planted_faults(mutate: Callable[[Problem, Solution, random.Random], Solution | None]) -> None:
    planted = 0
    for seed in range(300):
        problem, dice = random_problem(seed), random.Random(seed)
        solution = solve(problem)
        broken = mutate(problem, solution, dice)
        if broken is None:
            continue
        with pytest.raises(IRError):
            validate(problem, broken)
        planted += 1
        if planted == 40:
            return
    assert planted >= 30
