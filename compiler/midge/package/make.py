# SPDX-License-Identifier: Apache-2.0
"""Make, Meson and Bazel.

Source: GNU make manual; Meson reference manual; Bazel C/C++ rules and external modules.
"""

from __future__ import annotations

from midge.package.board import LINK_FLAGS, board_files, emulator
from midge.package.example import main_files
from midge.package.outline import HASH, Outline, merge


def make_files(outline: Outline) -> dict[str, str]:
    """Makefile, which builds for the host and for the target."""
    sources = " \\\n".join(f"  src/{name}" for name in outline.sources)
    text = HASH + outline.fill(_MAKEFILE, sources=sources)
    if outline.target.prefix:
        text += "\n" + outline.fill(_CROSS)
    if outline.board is not None:
        text += "\n" + outline.fill(_EMULATE, link=" ".join(LINK_FLAGS), run=emulator(outline, "$<"))
    return merge([{"Makefile": text}, main_files(outline), board_files(outline)])


def meson_files(outline: Outline) -> dict[str, str]:
    """meson.build, a cross file for the target, and the example."""
    files = {
        "meson.build": HASH + outline.fill(_MESON, sources=outline.source_list("  '{}',")),
        "meson_options.txt": HASH + "option('example', type: 'boolean', value: true, description: 'Build the example')\n",
        "examples/meson/meson.build": HASH + outline.fill(_MESON_EXAMPLE),
    }
    if outline.target.prefix:
        flags = ", ".join(f"'{flag}'" for flag in outline.target.flags)
        family = "arm" if outline.target.prefix.startswith("arm") else "riscv32"
        files[f"meson/{outline.target.name}.ini"] = HASH + outline.fill(_MESON_CROSS, flag_list=flags, family=family)
    return merge([files, main_files(outline)])


def bazel_files(outline: Outline) -> dict[str, str]:
    """MODULE.bazel, BUILD.bazel and the example."""
    sources = outline.source_list('        "{}",')
    private = "\n".join(f'        "src/{name}",' for name in outline.headers if name != f"{outline.name}.h")
    files = {
        "MODULE.bazel": HASH + outline.fill(_MODULE),
        "BUILD.bazel": HASH + outline.fill(_BUILD, sources=f"{sources}\n{private}" if private else sources),
        "examples/BUILD.bazel": HASH + outline.fill(_BUILD_EXAMPLE),
    }
    return merge([files, main_files(outline)])


_MAKEFILE = """\
# <<summary>>.
#   make               the library and the example for this machine, in build-make/host
#   make run           the example, run here
#   make cross         the library for <<target>>, in build-make/<<target>>
#   make emulate       the example, run on an emulated <<target>>
CC ?= cc
AR ?= ar
CFLAGS ?= -O2
LIBRARY_FLAGS := -std=c99 -ffunction-sections -fdata-sections -Isrc
SOURCES := \\
<<sources>>
HEADERS := $(wildcard src/*.h)
# The test bench of `midge compile --golden`: the example takes its first sample.
GOLDEN := $(wildcard test/golden_data.c)
EXAMPLE_FLAGS := $(if $(GOLDEN),-D<<NAME>>_GOLDEN)
HOST_OBJECTS := $(SOURCES:src/%.c=build-make/host/%.o)

.PHONY: all run clean cross emulate
all: build-make/host/<<name>>_example

run: build-make/host/<<name>>_example
	$<

clean:
	rm -rf build-make

build-make/host/%.o: src/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LIBRARY_FLAGS) -c $< -o $@

build-make/host/lib<<name>>.a: $(HOST_OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

build-make/host/<<name>>_example: examples/main.c $(GOLDEN) build-make/host/lib<<name>>.a
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LIBRARY_FLAGS) $(EXAMPLE_FLAGS) $(LDFLAGS) $^ -o $@
"""

_CROSS = """\
PREFIX ?= <<prefix>>
TARGET_FLAGS ?= <<flags>>
TARGET_OBJECTS := $(SOURCES:src/%.c=build-make/<<target>>/%.o)

cross: build-make/<<target>>/lib<<name>>.a

build-make/<<target>>/%.o: src/%.c $(HEADERS)
	@mkdir -p $(@D)
	$(PREFIX)gcc $(CPPFLAGS) $(CFLAGS) $(TARGET_FLAGS) $(LIBRARY_FLAGS) -c $< -o $@

build-make/<<target>>/lib<<name>>.a: $(TARGET_OBJECTS)
	rm -f $@
	$(PREFIX)ar rcs $@ $^
"""

_EMULATE = """\
emulate: build-make/<<target>>/<<name>>_example.elf
	<<run>>

build-make/<<target>>/<<name>>_example.elf: examples/main.c examples/qemu/startup.c $(GOLDEN) build-make/<<target>>/lib<<name>>.a examples/qemu/board.ld
	$(PREFIX)gcc $(CPPFLAGS) $(CFLAGS) $(TARGET_FLAGS) $(LIBRARY_FLAGS) $(EXAMPLE_FLAGS) <<link>> -Texamples/qemu/board.ld $(filter-out %.ld,$^) -o $@
"""

_MESON = """\
# <<summary>>.
project('<<name>>', 'c', version: '<<version>>', license: '<<licence>>', meson_version: '>=0.56.0',
  default_options: ['c_std=c99', 'buildtype=debugoptimized'])

<<name>>_lib = static_library('midge_<<name>>',
<<sources>>
  include_directories: 'src',
  c_args: meson.get_compiler('c').get_supported_arguments('-ffunction-sections', '-fdata-sections'),
  install: true)
install_headers('src/<<name>>.h', subdir: '<<name>>')

<<name>>_dep = declare_dependency(link_with: <<name>>_lib, include_directories: 'src')
meson.override_dependency('<<name>>', <<name>>_dep)

if get_option('example') and not meson.is_subproject() and not meson.is_cross_build()
  subdir('examples/meson')
endif
"""

_MESON_EXAMPLE = """\
<<name>>_sources = ['../main.c']
<<name>>_args = []
if import('fs').exists('../../test/golden_data.c')
  <<name>>_sources += '../../test/golden_data.c'
  <<name>>_args += '-D<<NAME>>_GOLDEN'
endif
<<name>>_example = executable('<<name>>_example', <<name>>_sources, c_args: <<name>>_args, dependencies: <<name>>_dep)
test('example', <<name>>_example)
"""

_MESON_CROSS = """\
# meson setup build-meson-<<target>> --cross-file meson/<<target>>.ini
[binaries]
c = '<<prefix>>gcc'
ar = '<<prefix>>ar'
strip = '<<prefix>>strip'

[built-in options]
c_args = [<<flag_list>>]
c_link_args = [<<flag_list>>, '-Wl,--gc-sections']

[properties]
needs_exe_wrapper = true
skip_sanity_check = true

[host_machine]
system = 'none'
cpu_family = '<<family>>'
cpu = '<<cpu>>'
endian = 'little'
"""

_MODULE = """\
module(name = "<<slug>>", version = "<<version>>")

bazel_dep(name = "rules_cc", version = "0.0.17")
"""

_BUILD = """\
load("@rules_cc//cc:defs.bzl", "cc_library")

cc_library(
    name = "<<name>>",
    srcs = [
<<sources>>
    ],
    hdrs = ["src/<<name>>.h"],
    copts = ["-std=c99", "-O2", "-ffunction-sections", "-fdata-sections"],
    includes = ["src"],
    visibility = ["//visibility:public"],
)
"""

_BUILD_EXAMPLE = """\
load("@rules_cc//cc:defs.bzl", "cc_binary")

cc_binary(
    name = "<<name>>_example",
    srcs = ["main.c"],
    deps = ["//:<<name>>"],
)
"""
