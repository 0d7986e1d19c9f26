# SPDX-License-Identifier: Apache-2.0
"""CMake: a project that builds, installs and exports midge::NAME, a toolchain file for the target; and the ESP-IDF component, which is CMake too.

Source: cmake-packages(7), cmake-toolchains(7); ESP-IDF programming guide, "Build System" and idf_component.yml.
"""

from __future__ import annotations

from midge.package.board import LINK_FLAGS, board_files, emulator
from midge.package.example import main_files
from midge.package.outline import HASH, Outline, merge


def cmake_files(outline: Outline) -> dict[str, str]:
    """CMakeLists.txt, cmake/ and examples/cmake/."""
    files = {
        **_lists(outline),
        f"cmake/{outline.name}-config.cmake.in": HASH + outline.fill(_CONFIG),
        "examples/cmake/CMakeLists.txt": HASH + outline.fill(_EXAMPLE, board=outline.fill(_USE_BOARD) if outline.board else ""),
    }
    if outline.board is not None:
        files["examples/qemu/CMakeLists.txt"] = HASH + outline.fill(_BOARD, link=" ".join(LINK_FLAGS))
    if outline.target.prefix:
        files[toolchain_path(outline)] = HASH + outline.fill(_TOOLCHAIN) + _emulator(outline)
    return merge([files, main_files(outline), board_files(outline)])


def _emulator(outline: Outline) -> str:
    """What of a toolchain file says how programs are run."""
    if outline.board is None:
        return ""
    return f"# Runs programs of custom targets and tests.\nset(CMAKE_CROSSCOMPILING_EMULATOR {emulator(outline, '').rstrip()})\n"


def toolchain_path(outline: Outline) -> str:
    """The toolchain file of the target."""
    return f"cmake/{outline.target.name}.cmake"


def esp_idf_files(outline: Outline) -> dict[str, str]:
    """The component: CMakeLists.txt, idf_component.yml, and examples/esp-idf."""
    folder = "examples/esp-idf"
    files = {
        **_lists(outline),
        "idf_component.yml": HASH + outline.fill(_IDF),
        f"{folder}/CMakeLists.txt": HASH + outline.fill(_IDF_PROJECT),
        f"{folder}/main/CMakeLists.txt": HASH + 'idf_component_register(SRCS "../../main.c")\n',
        f"{folder}/main/idf_component.yml": HASH + outline.fill(_IDF_USE),
    }
    return merge([files, main_files(outline)])


def _lists(outline: Outline) -> dict[str, str]:
    """CMakeLists.txt, the same whichever of the two packages asks for it."""
    sources = outline.fill("set(<<name>>_sources\n<<list>>)\n", list=outline.source_list("  {}"))
    text = HASH + outline.fill(_HEAD) + "\n" + sources
    if "esp-idf" in outline.packages:
        text += "\n" + outline.fill(_COMPONENT)
    if "cmake" in outline.packages:
        text += "\n" + outline.fill(_PROJECT, board=outline.fill(_ADD_BOARD) if outline.board else "", bench=outline.fill(_BENCH))
    return {"CMakeLists.txt": text}


_HEAD = """\
# <<summary>>.
cmake_minimum_required(VERSION 3.16)
"""

_COMPONENT = """\
if(ESP_PLATFORM)
  idf_component_register(SRCS ${<<name>>_sources} INCLUDE_DIRS src)
  target_compile_options(${COMPONENT_LIB} PRIVATE -O2)
  return()
endif()
"""

_PROJECT = """\
project(<<name>> VERSION <<version>> LANGUAGES C)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(<<name>>_top_level OFF)
if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  set(<<name>>_top_level ON)
endif()
option(<<NAME>>_EXAMPLE "Build the example of <<name>>" ${<<name>>_top_level})
option(<<NAME>>_INSTALL "Install <<name>>" ${<<name>>_top_level})

add_library(midge_<<name>> STATIC ${<<name>>_sources})
add_library(midge::<<name>> ALIAS midge_<<name>>)
set_target_properties(midge_<<name>> PROPERTIES OUTPUT_NAME <<name>> EXPORT_NAME <<name>>)
target_compile_features(midge_<<name>> PUBLIC c_std_99)
target_include_directories(midge_<<name>> PUBLIC
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/src>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/<<name>>>)
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(midge_<<name>> PRIVATE -ffunction-sections -fdata-sections)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES AND NOT CMAKE_C_FLAGS MATCHES "-O")
    target_compile_options(midge_<<name>> PRIVATE -O2)
  endif()
endif()

<<board>>if(<<NAME>>_EXAMPLE)
  add_subdirectory(examples/cmake)
endif()

<<bench>>
if(<<NAME>>_INSTALL)
  set(<<name>>_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/<<name>>)
  install(TARGETS midge_<<name>> EXPORT <<name>>-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(FILES src/<<name>>.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/<<name>>)
  install(EXPORT <<name>>-targets NAMESPACE midge:: DESTINATION ${<<name>>_config_dir})
  configure_package_config_file(cmake/<<name>>-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/<<name>>-config.cmake
    INSTALL_DESTINATION ${<<name>>_config_dir})
  write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/<<name>>-config-version.cmake COMPATIBILITY SameMajorVersion)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/<<name>>-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/<<name>>-config-version.cmake
    DESTINATION ${<<name>>_config_dir})
endif()
"""

_ADD_BOARD = """\
if(CMAKE_SYSTEM_NAME STREQUAL "Generic")
  add_subdirectory(examples/qemu)
endif()

"""

_BENCH = """\
# The test bench of `midge compile --golden`: ctest runs it.
if(<<name>>_top_level AND EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/test/CMakeLists.txt)
  if(NOT CMAKE_CROSSCOMPILING OR TARGET midge::<<name>>_qemu)
    enable_testing()
    add_subdirectory(test)
    if(TARGET midge::<<name>>_qemu)
      target_link_libraries(<<name>>_golden PRIVATE midge::<<name>>_qemu)
    endif()
  endif()
endif()
"""

_CONFIG = """\
@PACKAGE_INIT@

include("${CMAKE_CURRENT_LIST_DIR}/<<name>>-targets.cmake")
check_required_components(<<name>>)
"""

_TOOLCHAIN = """\
# Cross compilation for <<target>>: cmake -B build-<<target>> -DCMAKE_TOOLCHAIN_FILE=<this file>
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR <<cpu>>)
set(CMAKE_C_COMPILER <<prefix>>gcc)
set(CMAKE_CXX_COMPILER <<prefix>>g++)
set(CMAKE_ASM_COMPILER <<prefix>>gcc)
set(CMAKE_C_FLAGS_INIT "<<flags>>")
set(CMAKE_CXX_FLAGS_INIT "<<flags>>")
set(CMAKE_ASM_FLAGS_INIT "<<flags>>")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,--gc-sections")
# A program links only with start-up code, which is the project's.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
"""

_EXAMPLE = """\
# Uses <<name>>: as part of its own project, as an installed package, or from the folder it lies in.
cmake_minimum_required(VERSION 3.16)
project(<<name>>_example LANGUAGES C)

if(NOT TARGET midge::<<name>>)
  find_package(<<name>> CONFIG QUIET)
endif()
if(NOT TARGET midge::<<name>>)
  add_subdirectory(../.. <<name>>)
endif()

<<board>>if(CMAKE_SYSTEM_NAME STREQUAL "Generic" AND NOT TARGET midge::<<name>>_qemu)
  message(STATUS "<<name>>: nothing here starts a program without an operating system, so the example is left out")
  return()
endif()
add_executable(<<name>>_example ../main.c)
target_link_libraries(<<name>>_example PRIVATE midge::<<name>>)
if(TARGET midge::<<name>>_qemu)
  target_link_libraries(<<name>>_example PRIVATE midge::<<name>>_qemu)
  set_target_properties(<<name>>_example PROPERTIES SUFFIX .elf)
endif()
# On a target, the toolchain file says which emulator runs it.
add_custom_target(run_<<name>>_example COMMAND <<name>>_example USES_TERMINAL)

set(<<name>>_golden ${CMAKE_CURRENT_SOURCE_DIR}/../../test/golden_data.c)
if(EXISTS ${<<name>>_golden})
  target_sources(<<name>>_example PRIVATE ${<<name>>_golden})
  target_compile_definitions(<<name>>_example PRIVATE <<NAME>>_GOLDEN)
endif()
"""

_USE_BOARD = """\
if(CMAKE_SYSTEM_NAME STREQUAL "Generic" AND NOT TARGET midge::<<name>>_qemu)
  add_subdirectory(../qemu qemu)
endif()
"""

_BOARD = """\
# What a program needs to start and to print on the emulated board; link midge::<<name>>_qemu to it.
add_library(midge_<<name>>_qemu INTERFACE)
add_library(midge::<<name>>_qemu ALIAS midge_<<name>>_qemu)
target_sources(midge_<<name>>_qemu INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/startup.c)
target_link_options(midge_<<name>>_qemu INTERFACE <<link>> -T${CMAKE_CURRENT_SOURCE_DIR}/board.ld)
set_target_properties(midge_<<name>>_qemu PROPERTIES INTERFACE_LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/board.ld)
"""

_IDF = """\
version: "<<version>>"
description: "<<summary>>"
url: "https://example.com/<<slug>>"
license: "<<licence>>"
dependencies:
  idf: ">=5.0"
"""

_IDF_PROJECT = """\
cmake_minimum_required(VERSION 3.16)
include($ENV{IDF_PATH}/tools/cmake/project.cmake)
project(<<name>>_example)
"""

_IDF_USE = """\
dependencies:
  <<slug>>:
    version: "*"
    path: "../../.."
"""
