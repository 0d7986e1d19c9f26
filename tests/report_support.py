# SPDX-License-Identifier: Apache-2.0
"""What the tests of reports share: a page that is read, and a network with a branch."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cli_support import run
from onnx import TensorProto, helper, numpy_helper

import midge
from midge.report.accuracy import compare
from midge.report.facts import Facts, gather
from midge.report.make import choose_samples
from midge.report.measure import Measured

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Elements and attributes of a page; open elements must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def residual(path: Path, name: str = "block") -> Path:
    """A float network with a branch, an Add, and a view: x -> conv -> (conv, itself) -> add -> pool -> flatten -> dense."""
    random = np.random.default_rng(4)
    held = {"w0": random.normal(0, 0.3, (8, 3, 3, 3)), "w1": random.normal(0, 0.2, (8, 8, 3, 3)), "w2": random.normal(0, 0.3, (8, 5))}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name=f"{name}/first", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name=f"{name}/relu"),
        helper.make_node("Conv", ["b", "w1"], ["c"], name=f"{name}/second", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Add", ["b", "c"], ["d"], name=f"{name}/add"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name=f"{name}/pool"),
        helper.make_node("Flatten", ["e"], ["f"], name=f"{name}/flatten"),
        helper.make_node("MatMul", ["f", "w2"], ["y"], name=f"{name}/dense"),
    ]
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)] for n, shape in (("x", (1, 3, 16, 16)), ("y", (1, 5)))]
    graph = helper.make_graph(nodes, "residual", *ports, [numpy_helper.from_array(data.astype(np.float32), n) for n, data in held.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def samples_of(folder: Path) -> Path:
    """Twelve samples for that network, as samples.npy."""
    np.save(folder / "samples.npy", np.random.default_rng(5).normal(0, 1, (12, 3, 16, 16)).astype(np.float32))
    return folder / "samples.npy"


def written(place: Path, target: str) -> Path:
    """`place` with the model r.onnx, samples.npy, and `lib`: compiled with a report."""
    options = ("--calibration", samples_of(place), "--target", target, "--name", "net", "--report")
    result = run("compile", residual(place / "r.onnx"), "-o", place / "lib", *options)
    assert result.exit_code == 0, result.output
    return place


def facts_of(library: midge.Library, measured: Measured | None = None) -> Facts:
    """The Facts of a library that nothing was run of, unless `measured` says so."""
    samples, what = choose_samples(library.graph, None, None)
    return gather(library.graph, library.program, compare(library.graph, samples[:2], what), measured or Measured())


def read_json(path: Path) -> dict[str, Any]:
    loaded = json.loads(path.read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded
