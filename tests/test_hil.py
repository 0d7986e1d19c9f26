# SPDX-License-Identifier: Apache-2.0
"""Verification over a serial line: against a server on this computer and against firmware on QEMU's UART, with good cables and bad ones."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import SHOWN, assert_fails, needs_gcc, qdq_model, run, run_json
from hil_support import STRICT, Cable, build_server, flip_weight
from hypothesis import given
from hypothesis import strategies as st
from serial import SerialException

from midge.codegen.manifest import load_manifest
from midge.codegen.reference import load_reference
from midge.errors import UsageError, VerifyFailed
from midge.run import line as line_module
from midge.run.line import Line, parse_place
from midge.run.protocol import Done, Hello, Op, Row, decode_cobs, encode_cobs, frame, parse_event, parse_reply
from midge.run.samples import random_samples
from midge.run.serial import RealTime
from midge.run.verify import verify
from midge.targets import get_target
from midge.toolchain import compile_objects, runtime_dir

pytestmark = needs_gcc
needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None, reason="needs arm-none-eabi-gcc and qemu-system-arm"
)
ON_QEMU = ("qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hil")
    assert run("compile", qdq_model(folder / "small.onnx"), "-o", folder / "lib", "--name", "kws").exit_code == 0
    return folder / "lib"


@pytest.fixture(scope="module")
def server(library: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return build_server(library, tmp_path_factory.mktemp("server"))


@given(st.binary(max_size=600) | st.lists(st.sampled_from([b"\0", b"a" * 253, b"b" * 254, b"c" * 255])).map(b"".join))
def test_cobs_is_undone(data: bytes) -> None:
    encoded = encode_cobs(data)
    assert 0 not in encoded
    assert decode_cobs(encoded) == data


@given(st.binary(min_size=1, max_size=40), st.data())
def test_damaged_frames_are_seen(data: bytes, draw: st.DataObject) -> None:
    sent = frame(7, 9, Op.WRITE, data)[1:-1]
    reply = parse_reply(sent)
    assert reply is not None and (reply.session, reply.sequence, reply.status, reply.data) == (7, 9, Op.WRITE, data)
    at = draw.draw(st.integers(0, len(sent) - 1))
    changed = draw.draw(st.sampled_from([sent[:at] + sent[at + 1 :], sent[: at + 1] + sent[at:], sent[:at] + bytes([sent[at] ^ 4]) + sent[at + 1 :]]))
    if changed != sent:
        assert parse_reply(changed) is None


def test_what_a_board_says_is_checked() -> None:
    assert parse_event(b"".join(n.to_bytes(4, "little") for n in (0, 0xFFFFFFFF, 2, 5, 6))) == Done(-1, 2, 5, 6)
    assert parse_event(b"".join(n.to_bytes(4, "little") for n in (1, 2, 3, 4, 0)) + b"rows") == Row(2, 3, 4, 0, b"rows")
    for wrong in (b"", b"\2" + bytes(19)):
        with pytest.raises(ValueError, match="event"):
            parse_event(wrong)
    with pytest.raises(ValueError, match="version 1 of the protocol, this midge version 2: build its firmware"):
        Hello.parse(b"\1\0\0\0")
    with pytest.raises(ValueError, match="cut short"):
        Hello.parse(b"\2\0\0\0" + bytes(28) + b"name")


def test_places() -> None:
    assert parse_place("serial:/dev/ttyACM0") == ("/dev/ttyACM0", 115200)
    assert parse_place("serial:COM3:921600") == ("COM3", 921600)
    assert parse_place("serial:socket://localhost:7000") == ("socket://localhost:7000", 115200)
    with pytest.raises(UsageError, match="wanted serial:PORT"):
        parse_place("serial:")
    assert_fails(run("verify", "x", "--on", "serial:/dev/nowhere"), 2)
    assert "wanted host, qemu, or serial:PORT" in run("verify", "x", "--on", "usb").stderr


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
def test_server_is_small_and_strict(library: Path, tmp_path: Path, compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    runtime = runtime_dir()
    assert len((runtime / "hil_server.c").read_text().splitlines()) < 300
    build_server(library, tmp_path)
    for name in ("cortex-m0", "cortex-m4") if compiler.startswith("arm") else ("host",):
        flags = [*STRICT, *(["-DMIDGE_HIL_STACK_BYTES=1024u"] if name != "host" else [])]
        compile_objects([runtime / "hil_server.c"], tmp_path / name, get_target(name), includes=(library / "src", tmp_path), extra=flags, cc=compiler)


def test_every_layer_comes_over_the_line(library: Path, server: list[str]) -> None:
    with Cable(server) as cable:
        found = run_json("verify", library, "--on", cable.place, "--samples", "2")
        shown = run("verify", library, "--on", f"{cable.place}:9600", "--no-layers").stdout
    host = run_json("verify", library, "--samples", "2")
    assert found["exact"] and found["bytes_compared"] == host["bytes_compared"]
    assert {line["state"] for line in found["layers"]} == {"exact"} and all(line["ticks"] is not None for line in found["layers"])
    assert found["board"]["line"]["resent"] == 0 and found["board"]["hello"]["name"] == "kws"
    assert "outputs only" in shown and "not compared" in shown and "exact" not in shown


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bad_cable_changes_nothing(library: Path, server: list[str], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "_FIRST_WAIT", 0.02)
    graph = load_reference(library)
    with Cable(server, faults=0.003, seed=seed) as cable:
        found = verify(library, random_samples(graph, 2), on=f"{cable.place}:1000000")
    assert found.exact and found.layers == found.layer_count == len(load_manifest(library)["layers"])
    assert min(cable.injected.values()) > 0
    assert found.board is not None and found.board.traffic.resent > 0 and found.board.traffic.restarts == 0


def test_a_board_that_is_reset_begins_the_sample_again(library: Path, server: list[str]) -> None:
    graph = load_reference(library)
    with Cable(server, reset_after=900) as cable:
        found = verify(library, random_samples(graph, 2), on=cable.place)
    assert found.exact and found.board is not None and found.board.traffic.restarts == 1


def test_a_cable_that_is_pulled_and_put_back(library: Path, server: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The device goes away in the middle, is absent for a while, and the session goes on where it was."""
    opened, right = [], Line._open

    class Pulled:
        def __init__(self, port: Any) -> None:
            self.port, self.left = port, 10

        def __getattr__(self, name: str) -> Any:
            return getattr(self.port, name)

        def write(self, data: bytes) -> int | None:
            self.left -= 1
            if self.left == 0:
                raise SerialException("gone")
            return int(self.port.write(data))

    def open_again(self: Line) -> Any:
        opened.append(self.port)
        if len(opened) == 2:
            raise SerialException("still gone")
        return Pulled(right(self)) if len(opened) == 1 else right(self)

    monkeypatch.setattr(Line, "_open", open_again)
    with Cable(server) as cable:
        found = verify(library, random_samples(load_reference(library), 1), on=cable.place)
    assert found.exact and len(opened) == 3
    assert found.board is not None and found.board.traffic.restarts == 0 and found.board.traffic.resent == 1


def test_a_session_that_breaks_off_leaves_the_board_ready(library: Path, server: list[str]) -> None:
    graph = load_reference(library)
    with Cable(server) as cable:
        with Line(*parse_place(cable.place)) as one:
            hello = one.hello()
            assert isinstance(parse_event(one.request(Op.RUN, 1, 0, 99)), Row)  # in the middle of a run
            assert hello.layers == len(load_manifest(library)["layers"])
        assert verify(library, random_samples(graph, 1), on=cable.place).exact


def test_the_board_refuses_what_is_out_of_range(library: Path, server: list[str]) -> None:
    with Cable(server) as cable, Line(*parse_place(cable.place)) as one:
        one.hello()
        for op, words, data in (
            (Op.WRITE, (0, 190), b"abc"),
            (Op.WRITE, (1, 0), b"a"),
            (Op.WRITE, (0, 0xFFFFFFFF), b"ab"),
            (Op.READ, (0, 0, 65), b""),
            (Op.READ, (0, 0xFFFFFFF0, 32), b""),
            (Op.NEXT, (), b""),
            (Op.RUN, (0,), b""),
        ):
            with pytest.raises(VerifyFailed, match=f"refused {op.name}"):
                one.request(op, *words, data=data)
        assert one.request(Op.READ, 0, 0, 4) is not None


def test_noise_does_no_harm(library: Path, tmp_path: Path) -> None:
    """Requests with any arguments, cut short or too long, and plain noise, under sanitizers; then the board still answers."""
    noise = np.random.default_rng(5)
    sent = [frame(5, 1, Op.HELLO, b"")]
    for sequence in range(2, 400):
        words = noise.choice([0, 1, 2, 3, 191, 192, 0x7FFFFFFF, 0xFFFFFFFF], noise.integers(0, 5)).astype("<u4").tobytes()
        body = bytes([5, sequence % 256, int(noise.integers(0, 9))]) + words + noise.bytes(int(noise.integers(0, 250)))
        sent.append(b"\0" + encode_cobs(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0")
        sent.append(noise.bytes(int(noise.integers(0, 1000))) if sequence % 7 == 0 else b"")
    sent.append(frame(6, 1, Op.HELLO, b""))
    command = build_server(library, tmp_path, checks=("-fsanitize=address,undefined", "-fno-sanitize-recover=all"))
    done = subprocess.run(command, input=b"".join(sent), capture_output=True, timeout=60, check=False, env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 0, done.stderr.decode()
    replies = [reply for reply in map(parse_reply, filter(None, done.stdout.split(b"\0"))) if reply is not None]
    assert len(replies) > 300 and {reply.status for reply in replies} == {0, 2, 3}
    assert replies[-1].session == 6 and Hello.parse(replies[-1].data).name == "kws"


def test_nothing_is_verified_that_was_not_compared(library: Path, server: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cable(build_server(library, tmp_path / "plain", hooks=False)) as cable:
        result = run("verify", library, "--on", cable.place)
        assert result.exit_code == 5 and "layers did not show" in result.stderr and not result.stdout
        found = run_json("verify", library, "--on", cable.place, "--no-layers")
        assert found["exact"] and {line["state"] for line in found["layers"]} == {"not compared"}
    assert run("compile", qdq_model(tmp_path / "m.onnx"), "-o", tmp_path / "other", "--numerics", "tflite").exit_code == 0
    monkeypatch.setattr(line_module, "_GREETING", 0.5)
    with Cable(server) as cable:
        assert_fails(run("verify", tmp_path / "other", "--on", cable.place), 2, "the board has 'kws'", "put this library on the board")
    with Cable(server, mute=True) as cable:
        assert_fails(run("verify", library, "--on", cable.place), 5, "no answer within")


def test_failures_on_the_board_are_named(library: Path, tmp_path: Path) -> None:
    for number, (statement, message) in enumerate({"return -7;": "returned -7", "base[KWS_ARENA_BYTES] = 1;": "past the end of its arena"}.items()):
        broken = tmp_path / str(number)
        shutil.copytree(library, broken)
        source = broken / "src" / "kws.c"
        text = source.read_text()
        source.write_text(text.replace("return KWS_OK;", f"{statement} return KWS_OK;"))
        with Cable(build_server(broken, tmp_path / f"server{number}")) as cable:
            result = run("verify", library, "--on", cable.place)
        assert result.exit_code == 5 and message in result.stderr and not result.stdout


@pytest.mark.parametrize("place", ["host", "serial", pytest.param("qemu", marks=needs_arm)])
def test_a_flipped_weight_is_found_and_the_layer_named(library: Path, tmp_path: Path, place: str) -> None:
    flipped = flip_weight(library, tmp_path / "flipped")
    if place == "serial":
        with Cable(build_server(flipped, tmp_path / "server")) as cable:
            result = run("verify", library, "--on", cable.place)
    else:
        result = run("verify", flipped, "--on", place, "--samples", "1")
    assert result.exit_code == 5 and "differs" in result.stdout and "not equal" in result.stdout
    assert f"'{SHOWN}' (Conv2D), sample 0" in result.stderr


def test_outputs_alone_say_so_when_they_differ(library: Path, tmp_path: Path) -> None:
    flipped = flip_weight(library, tmp_path / "flipped")
    result = run("verify", flipped, "--no-layers")
    assert result.exit_code == 5 and "use --layers to find the first layer that does" in result.stderr
    assert "exact" not in result.stdout and "not compared" in result.stdout


def test_real_time(library: Path, server: list[str]) -> None:
    with Cable(server) as cable:
        found = run_json("verify", library, "--on", cable.place, "--real-time", "50", "--samples", "20")
        hurried = run_json("verify", library, "--on", cable.place, "--real-time", "100000", "--samples", "20")
        shown = run("verify", library, "--on", cable.place, "--real-time", "50", "--samples", "5").stdout
    assert found["exact"] and found["samples"] == 20 and len(found["real_time"]["latency"]) == 20
    assert 0 <= found["real_time"]["load"] < found["real_time"]["line_load"]
    assert hurried["real_time"]["missed"] == 20
    assert "deadlines missed" in shown and "outputs only" in shown
    assert_fails(run("verify", library, "--real-time", "5"), 2, "use --on serial:PORT")


def test_real_time_figures() -> None:
    timing = RealTime(10.0, (0.0, 0.02), (0.03, 0.12), (0.01, 0.03))
    assert timing.missed == 1 and timing.load is not None
    np.testing.assert_allclose([timing.jitter, timing.load, timing.line_load], [0.09, 0.2, 0.65])


@needs_arm
def test_firmware_on_the_emulated_uart(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project that midge board writes, as it is, on QEMU: through a bad cable, and with a weight flipped in its flash."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    monkeypatch.setattr(line_module, "_FIRST_WAIT", 0.1)
    for name, flip in (("right", False), ("wrong", True)):
        project = tmp_path / name
        assert run("board", "mps2-an386", "-o", project, library).exit_code == 0
        if flip:
            shutil.rmtree(project / "model")
            flip_weight(library, project / "model")
        make(project)
        with Cable([*ON_QEMU, str(project / "build" / "firmware.elf")], faults=0.0 if flip else 0.002) as cable:
            result = run("verify", library, "--on", f"{cable.place}:1000000", "--samples", "1")
        if flip:
            assert result.exit_code == 5 and f"'{SHOWN}' (Conv2D), sample 0" in result.stderr
        else:
            assert result.exit_code == 0, result.output
            assert "all equal" in result.stdout and "bytes of stack" in result.stdout and sum(cable.injected.values()) > 0


def make(project: Path) -> None:
    done = subprocess.run(["make", "-s", "-C", str(project)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
