# SPDX-License-Identifier: Apache-2.0
"""What people read first: README.md and LICENSE of the folder, and one README for each package."""

from __future__ import annotations

from midge.package.board import emulator
from midge.package.outline import Outline

_SPDX = "<!-- SPDX-License-Identifier: 0BSD -->\n"


def common_files(outline: Outline, proofs: dict[str, str]) -> dict[str, str]:
    """README.md, which points to the packages' own, and LICENSE. `proofs`: how far midge's tests go with each package."""
    rows = "\n".join(f"| [{name}](examples/{name}/README.md) | {proofs[name]} |" for name in outline.packages)
    return {"README.md": _SPDX + outline.fill(_README, rows=rows, calls=_calls(outline)), "LICENSE": _LICENSE}


def _calls(outline: Outline) -> str:
    lines = outline.fill(_CALLS[outline.streams, outline.stepwise]).splitlines()
    return "\n".join([_TAKEN, *(line for line in lines if not line.startswith("read("))] if outline.hands_out else lines)


def readme(outline: Outline, package: str) -> dict[str, str]:
    """examples/PACKAGE/README.md."""
    text = _TEXTS[package]
    if package in _EMULATED and outline.target.prefix:
        text += "\n" + _EMULATED[package][0]
        if outline.board is not None:
            text += "\n" + _EMULATED[package][1]
    image = f"build-{outline.target.name}/examples/cmake/{outline.name}_example.elf"
    return {f"examples/{package}/README.md": _SPDX + outline.fill(text, run=emulator(outline, image) if outline.board else "")}


_README = """\
# <<name>>

<<summary>>, for <<target>>.

| | |
|---|---:|
| arena (all RAM it needs, stack apart) | <<arena>> bytes |
| weights | <<weights>> bytes |
| multiply-accumulates a run | <<macs>> |
| numerics | <<numerics>> |

`src/` is complete C99: any compiler builds it, for any core. Sources for a core with faster instructions fall back to plain C elsewhere, with the same results.

```c
<<calls>>
```

## Packages

| package | in midge's tests |
|---|---|
<<rows>>

`examples/main.c` runs the network once and prints what comes out: on zeros or, built by CMake, Make or Meson, on the first sample of `test/`
if the library carries one. `midge verify` compares this folder with the model, byte by byte.
Names of authors and addresses in the packages' files are placeholders: set them before you publish.
"""

_TAKEN = "/* take(context, output, rows, first, count) is a function of yours; it gets rows of output as soon as they are complete. */"
_CALLS = {
    (False, False): """\
memcpy(<<name>>_input_0(arena), samples, <<NAME>>_INPUT_0_BYTES);
int error = <<name>>_run(arena<<sink>>); /* 0, or a negative <<NAME>>_ERROR_x */
read(<<name>>_output_0(arena));""",
    (False, True): """\
memcpy(<<name>>_input_0(arena), samples, <<NAME>>_INPUT_0_BYTES);
int left = <<name>>_begin(arena); /* or a negative <<NAME>>_ERROR_x */
while (left > 0) { left = <<name>>_step(arena, 1<<sink>>); }
read(<<name>>_output_0(arena));""",
    (True, False): """\
int wanted = <<name>>_begin(arena); /* or a negative <<NAME>>_ERROR_x */
while (wanted > 0) { wanted = <<name>>_push_rows(arena, next_row(), 1<<sink>>); }
int error = <<name>>_finish(arena<<sink>>);
read(<<name>>_output_0(arena));""",
}
"""How a library is called, by whether its input is streamed and whether it runs in steps."""

_LICENSE = """\
SPDX-License-Identifier: 0BSD

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS
SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE
AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE
OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS
SOFTWARE.
"""

_EMULATED = {
    "cmake": (
        """\
For <<target>>, with the toolchain file that lies here:

    cmake -S . -B build-<<target>> -DCMAKE_TOOLCHAIN_FILE=cmake/<<target>>.cmake
    cmake --build build-<<target>>
""",
        """\
That builds the example for an emulated board, too, which runs with

    cmake --build build-<<target>> --target run_<<name>>_example

or, as QEMU sees it,

    <<run>>

A program of yours runs there if it links `midge::<<name>>_qemu` as well, which is start-up code, a linker script and semihosting.
""",
    ),
    "make": ("    make cross          # the library for <<target>>\n", "    make emulate        # the example on an emulated <<target>>\n"),
    "meson": ("For <<target>>:\n\n    meson setup build-meson-<<target>> --cross-file meson/<<target>>.ini && meson compile -C build-meson-<<target>>\n", ""),
}

_TEXTS = {
    "cmake": """\
# <<name>> with CMake

In the library's folder:

    cmake -S . -B build && cmake --build build && build/examples/cmake/<<name>>_example

In a project of yours, either as a folder of it,

    add_subdirectory(<<name>>)
    target_link_libraries(app PRIVATE midge::<<name>>)

or installed with `cmake --install build --prefix PLACE` and found by `-DCMAKE_PREFIX_PATH=PLACE`:

    find_package(<<name>> CONFIG REQUIRED)
    target_link_libraries(app PRIVATE midge::<<name>>)
""",
    "make": """\
# <<name>> with Make

In the library's folder; `CC`, `AR`, `CFLAGS` and `PREFIX` can be set. All is built in `build-make`, which `make clean` deletes.

    make                # library and example for this machine
    make run
""",
    "meson": """\
# <<name>> with Meson

    meson setup build-meson && meson compile -C build-meson && meson test -C build-meson

In a project of yours, put the folder at `subprojects/<<name>>`:

    dependency('<<name>>', fallback: ['<<name>>', '<<name>>_dep'])
""",
    "bazel": """\
# <<name>> with Bazel

    bazel run //examples:<<name>>_example

In a module of yours:

    bazel_dep(name = "<<slug>>", version = "<<version>>")
    local_path_override(module_name = "<<slug>>", path = "<<name>>")

and `deps = ["@<<slug>>//:<<name>>"]`.
""",
    "rust": """\
# <<name>> with Cargo

    cargo run --example run

`build.rs` calls `$CC` (cc, or <<prefix>>gcc for a target without an operating system) itself; there are no dependencies. In a crate of yours:

    [dependencies]
    <<slug>> = { path = "<<name>>" }

and `let mut net = <<crate>>::Model::new();`. The crate is `no_std`.
""",
    "zephyr": """\
# <<name>> with Zephyr

The folder is a Zephyr module. In a workspace you have:

    west build -b BOARD examples/zephyr -- -DZEPHYR_EXTRA_MODULES=$PWD

As a workspace of its own, `west.yml` fetches Zephyr:

    west init -l . && west update && west build -b BOARD examples/zephyr

In an application of yours, `CONFIG_MIDGE_<<NAME>>=y` builds the network.
""",
    "esp-idf": """\
# <<name>> with ESP-IDF

The folder is a component. The example:

    idf.py -C examples/esp-idf set-target esp32s3 build flash monitor

In a project of yours, copy the folder to `components/<<name>>` and add `REQUIRES <<name>>`.
""",
    "cmsis-pack": """\
# <<name>> as a CMSIS-Pack

`midge.<<name>>.pdsc` describes the pack; the example is a csolution that takes it from the folder:

    cbuild examples/cmsis-pack/<<name>>.csolution.yml

In a project of yours: the component `midge::Machine Learning:Model:<<name>>`. What printf writes goes where your project sends STDOUT.
""",
    "arduino": """\
# <<name>> with Arduino

Put the folder into `libraries` of your sketchbook. The sketch `File > Examples > <<slug>> > arduino` prints an inference a second, at 115,200 baud.
""",
    "platformio": """\
# <<name>> with PlatformIO

    pio run -d examples/platformio        # this machine; change `platform` for a board
    pio pkg pack .

In a project of yours: `lib_deps = symlink://PATH/TO/<<name>>`.
""",
}
