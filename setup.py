# SPDX-License-Identifier: Apache-2.0
"""Build of the Cython-wrapped kernels and of the schedule search; everything else is said in pyproject.toml.

The kernels' extensions are optional: without a C compiler midge still imports and inspects models. Row schedules need theirs.
"""

from pathlib import Path

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:  # a plain metadata query without the build requirements
    cythonize = None

C_FLAGS = ["-std=c99", "-O2"]


def extensions() -> list[Extension]:
    found = []
    for source in sorted(Path("kernels").glob("_*.pyx")):
        family = source.stem.lstrip("_")
        c_file = Path("kernels") / f"{family}.c"
        sources = [str(source)] + ([str(c_file)] if c_file.exists() else [])
        depends = [str(path) for path in sorted(Path("kernels").glob("*.h"))]
        found.append(Extension(f"midge.kernels._{family}", sources, include_dirs=["kernels"], depends=depends, extra_compile_args=C_FLAGS, optional=True))
    return found


def search_extensions() -> list[Extension]:
    found = []
    for source in sorted(Path("compiler/midge/schedule").glob("_*.pyx")):
        depends = [str(path) for path in sorted(source.parent.glob("*.pxi"))]
        found.append(Extension(f"midge.schedule.{source.stem}", [str(source)], depends=depends, extra_compile_args=C_FLAGS, optional=True))
    return found


packages = ["midge"] + [
    f"midge.{path.parent.relative_to('compiler/midge').as_posix().replace('/', '.')}" for path in sorted(Path("compiler/midge").glob("*/__init__.py"))
]

setup(
    packages=[*packages, "midge.kernels", "midge.runtime_c"],
    package_dir={"": "compiler", "midge.kernels": "kernels", "midge.runtime_c": "runtime_c"},
    package_data={
        "midge": ["py.typed", "costs/*.csv"],
        "midge.schedule": ["*.pyx", "*.pxi", "*.pyi"],
        "midge.kernels": ["*.h", "*.c", "*.pyi", "*.pyx", "*.pxi", "arch/*.h"],
        "midge.runtime_c": ["*"],
    },
    exclude_package_data={"midge.kernels": ["_*.c"]},
    ext_modules=cythonize(extensions(), quiet=True) + cythonize(search_extensions(), quiet=True, build_dir="build/cython") if cythonize else [],
)
