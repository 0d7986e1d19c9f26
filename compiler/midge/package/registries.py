# SPDX-License-Identifier: Apache-2.0
"""Zephyr module, CMSIS-Pack with csolution, Arduino and PlatformIO libraries.

Source: Zephyr "Modules" and "West manifests"; Open-CMSIS-Pack PDSC format and CSolution project format; Arduino library specification;
PlatformIO library.json.
"""

from __future__ import annotations

import json

from midge.package.example import main_files, sketch
from midge.package.outline import HASH, VERSION, Outline, merge

DEVICES = {f"cortex-m{core}": f"ARMCM{core.upper()}" for core in ("0", "3", "4", "7", "33", "55", "85")} | {"cortex-m0plus": "ARMCM0P"}
"""Arm's generic devices in the pack ARM::Cortex_DFP, by target."""
VENDOR = "midge"


def zephyr_files(outline: Outline) -> dict[str, str]:
    """A module, a manifest for west, and an application."""
    folder = "examples/zephyr"
    files = {
        "zephyr/module.yml": HASH + outline.fill(_MODULE),
        "zephyr/CMakeLists.txt": HASH + outline.fill(_MODULE_CMAKE, sources=outline.source_list("    ../{}")),
        "zephyr/Kconfig": HASH + outline.fill(_KCONFIG),
        "west.yml": HASH + outline.fill(_WEST),
        f"{folder}/CMakeLists.txt": HASH + outline.fill(_APP),
        f"{folder}/prj.conf": HASH + outline.fill("CONFIG_MIDGE_<<NAME>>=y\nCONFIG_MAIN_STACK_SIZE=8192\n"),
        f"{folder}/sample.yaml": HASH + outline.fill(_SAMPLE),
    }
    return merge([files, main_files(outline)])


def cmsis_files(outline: Outline) -> dict[str, str]:
    """The pack's description, and a csolution that uses it."""
    folder = "examples/cmsis-pack"
    sources = outline.source_list('        <file category="source" name="{}"/>')
    files = {
        f"{VENDOR}.{outline.name}.pdsc": outline.fill(_PDSC, sources=sources, vendor=VENDOR),
        f"{folder}/{outline.name}.csolution.yml": HASH + outline.fill(_CSOLUTION, vendor=VENDOR, device=DEVICES.get(outline.target.name, "ARMCM4")),
        f"{folder}/{outline.name}.cproject.yml": HASH + outline.fill(_CPROJECT, vendor=VENDOR),
    }
    return merge([files, main_files(outline)])


def arduino_files(outline: Outline) -> dict[str, str]:
    """library.properties and a sketch; src/ is where Arduino looks for sources."""
    return {"library.properties": HASH + outline.fill(_PROPERTIES), "examples/arduino/arduino.ino": sketch(outline)}


def platformio_files(outline: Outline) -> dict[str, str]:
    """library.json and a project that uses it. No field `license`: PlatformIO looks it up on the network, and packs nothing without; LICENSE is there."""
    library = {
        "name": outline.slug,
        "version": VERSION,
        "description": outline.summary,
        "keywords": ["tinyml", "neural network", "inference"],
        "authors": [{"name": "midge"}],
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{outline.name}.h",
        "build": {"srcDir": "src", "includeDir": "src"},
        "examples": [{"name": "example", "base": "examples", "files": ["main.c"]}],
    }
    files = {"library.json": json.dumps(library, indent=2) + "\n", "examples/platformio/platformio.ini": HASH.replace("#", ";", 1) + outline.fill(_PLATFORMIO)}
    return merge([files, main_files(outline)])


_MODULE = """\
name: <<slug>>
build:
  cmake: zephyr
  kconfig: zephyr/Kconfig
"""

_MODULE_CMAKE = """\
if(CONFIG_MIDGE_<<NAME>>)
  zephyr_include_directories(../src)
  zephyr_library_named(midge_<<name>>)
  zephyr_library_compile_options(-O2)
  zephyr_library_sources(
<<sources>>
  )
endif()
"""

_KCONFIG = """\
config MIDGE_<<NAME>>
\tbool "Neural network <<name>>"
\thelp
\t  Builds the neural network <<name>>, <<weights>> bytes of weights.
\t  The application gives it an arena of <<arena>> bytes.
"""

_WEST = """\
# Makes a workspace of its own: west init -l <this folder> && west update
manifest:
  remotes:
    - name: zephyrproject-rtos
      url-base: https://github.com/zephyrproject-rtos
  projects:
    - name: zephyr
      remote: zephyrproject-rtos
      revision: v3.7.0
      import: true
  self:
    path: <<name>>
"""

_APP = """\
cmake_minimum_required(VERSION 3.20)
find_package(Zephyr REQUIRED HINTS $ENV{ZEPHYR_BASE})
project(<<name>>_example LANGUAGES C)
target_sources(app PRIVATE ../main.c)
"""

_SAMPLE = """\
sample:
  name: <<name>>
  description: <<summary>>
tests:
  sample.midge.<<name>>:
    harness: console
    harness_config:
      type: one_line
      regex:
        - "output 0:"
"""

_PDSC = """\
<?xml version="1.0" encoding="UTF-8"?>
<!-- SPDX-License-Identifier: <<licence>> -->
<package schemaVersion="1.7.7" xmlns:xs="http://www.w3.org/2001/XMLSchema-instance" xs:noNamespaceSchemaLocation="PACK.xsd">
  <vendor><<vendor>></vendor>
  <name><<name>></name>
  <description><<summary>></description>
  <url></url>
  <license>LICENSE</license>
  <releases>
    <release version="<<version>>">First version.</release>
  </releases>
  <keywords>
    <keyword>neural network</keyword>
  </keywords>
  <components>
    <component Cclass="Machine Learning" Cgroup="Model" Csub="<<name>>" Cversion="<<version>>">
      <description><<summary>></description>
      <files>
        <file category="doc" name="README.md"/>
        <file category="header" name="src/<<name>>.h"/>
<<sources>>
      </files>
    </component>
  </components>
</package>
"""

_CSOLUTION = """\
solution:
  created-for: CMSIS-Toolbox@2.6.0
  compiler: GCC
  packs:
    - pack: ARM::CMSIS
    - pack: ARM::Cortex_DFP
    - pack: <<vendor>>::<<name>>
      path: ../..
  target-types:
    - type: <<target>>
      device: ARM::<<device>>
  build-types:
    - type: Release
      optimize: speed
      debug: off
  projects:
    - project: <<name>>.cproject.yml
"""

_CPROJECT = """\
project:
  groups:
    - group: Application
      files:
        - file: ../main.c
  components:
    - component: ARM::CMSIS:CORE
    - component: ARM::Device:Startup&C Startup
    - component: <<vendor>>::Machine Learning:Model:<<name>>
"""

_PROPERTIES = """\
name=<<slug>>
version=<<version>>
author=midge
maintainer=midge
sentence=<<summary>>.
paragraph=<<macs>> multiply-accumulates a run, <<weights>> bytes of weights, an arena of <<arena>> bytes.
category=Data Processing
url=https://example.com/<<slug>>
architectures=*
includes=<<name>>.h
"""

_PLATFORMIO = """\
[platformio]
src_dir = ..

[env:example]
platform = native
build_src_filter = -<*> +<main.c>
lib_deps = symlink://../..
"""
