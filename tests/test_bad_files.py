# SPDX-License-Identifier: Apache-2.0
"""Files that are damaged, missing or reach out of their folder: a message, or a correct import, never another exception."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_models import net, node, varied_net
from support import SHARED

from midge.errors import ImportFailed, Unsupported, UsageError
from midge.importers.onnx import load

GOOD = varied_net().SerializeToString()


def survives(source: Any) -> None:
    """A Graph or a message for people, nothing else."""
    try:
        load(source)
    except (ImportFailed, Unsupported, UsageError) as error:
        message = str(error)
    else:
        message = "imported"
    assert message


@pytest.mark.parametrize("keep", [1, 7, 20, len(GOOD) // 2, len(GOOD) - 1])
def test_truncated(keep: int) -> None:
    with pytest.raises(ImportFailed, match="truncated"):
        load(GOOD[:keep])


def test_no_such_file_folder_and_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "none.onnx")
    with pytest.raises(UsageError, match="not a file"):
        load(tmp_path)
    with pytest.raises(UsageError):
        load("a\0b.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ImportFailed, match=r"empty\.onnx: the file is empty"):
        load(tmp_path / "empty.onnx")
    (tmp_path / "text.onnx").write_text("# not a model\n" * 20)
    with pytest.raises(ImportFailed, match="not an ONNX"):
        load(str(tmp_path / "text.onnx"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    survives(data)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 7)), min_size=1, max_size=3))
def test_flipped_bits(flips: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, bit in flips:
        data[place] ^= 1 << bit
    survives(bytes(data))


@pytest.mark.parametrize("name", ["trained/digits_mlp_ortq_qop_u8.onnx", "zoo/mww_vad_stateful_qdq.onnx", "mlperf_tiny/kws_ref_model_fp32.onnx"])
def test_flipped_bytes_of_real_models(name: str) -> None:
    path = SHARED / "models" / name
    if not path.exists():
        pytest.skip(f"the model collection beside the checkout has no {name}")
    data, rng = path.read_bytes(), random.Random(0)
    structure = [i for i in range(len(data)) if data[i : i + 24].isascii()] or [0]
    for _ in range(25):
        broken = bytearray(data)
        broken[rng.choice(structure)] = rng.randrange(256)
        survives(bytes(broken))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_odd_attributes_and_inputs(data: st.DataObject) -> None:
    """Well-formed protobufs whose numbers and wiring make no sense."""
    proto = onnx.ModelProto.FromString(GOOD)
    for _ in range(data.draw(st.integers(1, 2))):
        at = proto.graph.node[data.draw(st.integers(0, len(proto.graph.node) - 1))]
        choice = data.draw(st.integers(0, 4))
        if choice == 0 and at.attribute:
            attribute = at.attribute[data.draw(st.integers(0, len(at.attribute) - 1))]
            attribute.ints[:] = data.draw(st.lists(st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 2**31, 2**63 - 1]), max_size=5))
        elif choice == 1 and at.input:
            at.input[data.draw(st.integers(0, len(at.input) - 1))] = data.draw(st.sampled_from(["", "x", "w", "s", "z", "shape", "y", "m", "nothing"]))
        elif choice == 2:
            at.op_type = data.draw(
                st.sampled_from(["Add", "Gemm", "MatMul", "Concat", "Softmax", "Transpose", "Clip", "AveragePool", "QLinearConv", "Unsqueeze"])
            )
        elif choice == 3:
            at.attribute.append(
                helper.make_attribute(data.draw(st.sampled_from(["axis", "perm", "group", "dilations", "auto_pad"])), data.draw(st.integers(-9, 9)))
            )
        else:
            dims = data.draw(st.lists(st.sampled_from([-1, 0, 1, 3, 8, 2**31, 2**62]), max_size=5))
            proto.graph.initializer[data.draw(st.integers(0, 3))].dims[:] = dims
    survives(proto)


def external(location: str, **more: str) -> onnx.ModelProto:
    proto = net([node("Add", ["x", "c"], ["y"])], {"c": np.ones(4, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=text)
    return proto


def test_external_data(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "net.onnx"
    secret, inside = tmp_path / "secret.bin", folder / "weights.bin"
    secret.write_bytes(bytes(64))
    inside.write_bytes(b"head" + np.arange(4, dtype="<f4").tobytes())
    (folder / "link.bin").symlink_to(secret)
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    path.write_bytes(external("weights.bin", offset="4", length="16").SerializeToString())
    graph = load(path)
    constant = next(held.data for held in graph.values.values() if held.data is not None)
    np.testing.assert_array_equal(constant.reshape(-1), [0, 1, 2, 3])
    for location in ("../secret.bin", str(secret), "link.bin", "sub/../../secret.bin"):
        path.write_bytes(external(location).SerializeToString())
        with pytest.raises(ImportFailed, match="outside the model's folder"):
            load(path)
    for proto, message in [
        (external("none.bin"), "missing or shorter than 16 bytes"),
        (external("loop.bin"), "missing or shorter|cannot be read"),
        (external("weights.bin", offset="8"), "missing or shorter than 24 bytes"),
        (external("weights.bin", offset="-4"), "is not 16 bytes of a file"),
        (external("weights.bin", length="1" * 5000), "is not 16 bytes of a file"),
        (external("a\0b"), "is not 16 bytes of a file"),
        (external("."), "missing or shorter"),
    ]:
        path.write_bytes(proto.SerializeToString())
        with pytest.raises(ImportFailed, match=message):
            load(path)
    with pytest.raises(ImportFailed, match="given without a path"):
        load(external("weights.bin").SerializeToString())
