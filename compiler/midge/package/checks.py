# SPDX-License-Identifier: Apache-2.0
"""Rules of package formats, written from their public specifications: what is held against them is "structure checked", not accepted by the tool itself.

Every rule takes the files (relative path -> text) and returns what is wrong.

Source: Arduino library specification 2.2; PDSC format of Open-CMSIS-Pack; CSolution project format; Zephyr modules and Kconfig; Bazel concepts;
PlatformIO library.json; ESP-IDF component manifest; cmake-language(7).
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from collections.abc import Callable, Mapping
from xml.etree import ElementTree

from midge.errors import UsageError
from midge.package.yaml import read_yaml

Files = Mapping[str, str]
Rule = Callable[[Files], list[str]]

_NAMED = re.compile(r"(?<![\w$%*>}-])((?:[\w.-]+/)*[\w.-]+\.(?:c|h|ld|rs|pdsc|md|yml|in))(?![\w*])")
_OPTIONAL = {"test/golden_data.c", "../../test/golden_data.c", "test/CMakeLists.txt"}
"""Named under a condition that they are there."""
_PREFIX = re.compile(r"\$\{(?:CMAKE_CURRENT_SOURCE_DIR|\w+_board)\}/|-T")
_PDSC = ("vendor", "name", "description", "url", "releases/release", "components/component")
_CSOLUTION = {
    ".csolution.yml": ("solution.target-types.*.type", "solution.projects.*.project"),
    ".cproject.yml": ("project.groups.*.files.*.file", "project.components.*.component"),
}
_SEMVER = re.compile(r"\d+\.\d+\.\d+(?:[-+][\w.+-]+)?\Z")
_CATEGORIES = {
    "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage", "Data Processing", "Other",
}  # fmt: skip


def check_package(name: str, files: Files) -> list[str]:
    """What is wrong with one package among the files of a library; nothing if it keeps to the rules of its format."""
    return [problem for rule in RULES[name] for problem in rule(files)]


def names_exist(*paths: str) -> Rule:
    """Every file that these name is there, beside them or where the format looks for it."""

    def rule(files: Files) -> list[str]:
        problems = []
        for path in paths:
            if path not in files:
                problems.append(f"{path} is missing")
                continue
            folder = posixpath.dirname(path)
            for named in _NAMED.findall(_PREFIX.sub("", _code(files[path]))):
                places = [posixpath.normpath(posixpath.join(base, named)) for base in (folder, "", "src", "examples", "examples/qemu")]
                if named not in _OPTIONAL and not any(place in files for place in places):
                    problems.append(f"{path} names {named}, which is not there")
        return problems

    return rule


def _code(text: str) -> str:
    """A text without the comments of its first lines and lines that are comments."""
    return "\n".join(line for line in text.split("\n") if not re.match(r"\s*(#|//|/\*|;|<!--)", line))


def lists_sources(path: str) -> Rule:
    """A file names every source, and none twice."""

    def rule(files: Files) -> list[str]:
        words = re.findall(r"src/[\w.-]+\.c\b", files.get(path, ""))
        wanted = [name for name in files if re.match(r"src/[^/]+\.c\Z", name)]
        missing = [f"{path} does not list {name}" for name in wanted if words.count(name) == 0]
        return missing + [f"{path} lists {name} twice" for name in wanted if words.count(name) > 1]

    return rule


def balanced(path: str) -> Rule:
    """CMake: blocks are closed in the order they were opened, brackets and quotes are paired."""

    def rule(files: Files) -> list[str]:
        text = re.sub(r"#[^\n]*", "", files.get(path, ""))
        open_blocks: list[str] = []
        for word, arguments in re.findall(r"^\s*(\w+)\s*\(([^\n]*)", text, re.M):
            closes = word.removeprefix("end") if word.startswith("end") else None
            if word in ("if", "foreach", "function", "macro", "while"):
                open_blocks.append(word)
            elif closes and (not open_blocks or open_blocks.pop() != closes):
                return [f"{path}: {word}({arguments} closes nothing"]
        problems = [f"{path}: {word} is not closed" for word in open_blocks]
        if text.count("(") != text.count(")") or text.count('"') % 2:
            problems.append(f"{path}: brackets or quotes are not paired")
        return problems

    return rule


def subdirectories(files: Files) -> list[str]:
    """Every folder that CMake adds has a CMakeLists.txt."""
    problems = []
    for path, text in files.items():
        if posixpath.basename(path) == "CMakeLists.txt" and path.startswith(("CMakeLists", "examples/cmake/")):
            for folder in re.findall(r"add_subdirectory\(([^\s)]+)", text):
                named = posixpath.normpath(posixpath.join(posixpath.dirname(path), folder, "CMakeLists.txt"))
                problems += [f"{path} adds {folder}, which has no CMakeLists.txt"] * (named not in {*files, *_OPTIONAL})
    return problems


def yaml_has(path: str, *keys: str) -> Rule:
    """A YAML file is well formed and has these entries, given as a.b.c; * stands for every item of a list."""

    def rule(files: Files) -> list[str]:
        try:
            body = read_yaml(files.get(path, ""))
        except UsageError as error:
            return [f"{path}: {error}"]
        return [f"{path}: has no {key}" for key in keys if not _has(body, key.split("."))]

    return rule


def _has(body: object, keys: list[str]) -> bool:
    if not keys:
        return body not in (None, "")
    if keys[0] == "*":
        return isinstance(body, list) and bool(body) and all(_has(item, keys[1:]) for item in body)
    return isinstance(body, dict) and keys[0] in body and _has(body[keys[0]], keys[1:])


def kconfig(files: Files) -> list[str]:
    """zephyr/Kconfig defines, once, the symbol that CMakeLists.txt and the application use; help texts are indented under a type."""
    text = files.get("zephyr/Kconfig", "")
    defined = re.findall(r"^config ([A-Z0-9_]+)\n\tbool \"[^\"]+\"$", text, re.M)
    used = set(re.findall(r"CONFIG_(MIDGE_\w+)", files.get("zephyr/CMakeLists.txt", "") + files.get("examples/zephyr/prj.conf", "")))
    return [] if len(defined) == 1 and used == set(defined) else [f"zephyr/Kconfig: defines {defined}, {sorted(used)} are used"]


def module(files: Files) -> list[str]:
    """zephyr/module.yml points to a folder with CMakeLists.txt and to a Kconfig."""
    found = dict(re.findall(r"^  (cmake|kconfig): (\S+)$", files.get("zephyr/module.yml", ""), re.M))
    wanted = [f"{found.get('cmake')}/CMakeLists.txt", found.get("kconfig", "")]
    return [f"zephyr/module.yml: {path} is not there" for path in wanted if path not in files]


def properties(files: Files) -> list[str]:
    """library.properties has what the specification asks for, and the header and sketch are there."""
    lines = [line.partition("=") for line in _code(files.get("library.properties", "")).splitlines() if line]
    held = {key: value for key, _, value in lines}
    wanted = ("name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures", "includes")
    problems = [f"library.properties: has no {key}" for key in wanted if not held.get(key)]
    if not re.match(r"[A-Za-z0-9][\w .-]{0,62}\Z", held.get("name", "")) or held.get("name", "").lower().startswith("arduino"):
        problems.append(f"library.properties: name '{held.get('name')}' is not allowed")
    if not _SEMVER.match(held.get("version", "")):
        problems.append("library.properties: version is not of the form 1.2.3")
    if held.get("category") not in _CATEGORIES:
        problems.append(f"library.properties: category '{held.get('category')}' is not known")
    problems += [f"library.properties: includes {name}, which is not there" for name in held.get("includes", "").split(",") if f"src/{name}" not in files]
    sketches = [path for path in files if path.endswith(".ino")]
    wrong = [path for path in sketches if posixpath.basename(posixpath.dirname(path)) + ".ino" != posixpath.basename(path) or not path.startswith("examples/")]
    return problems + [f"{path}: a sketch lies in examples/NAME/NAME.ino" for path in wrong] + ([] if sketches else ["there is no sketch"])


def pdsc(files: Files) -> list[str]:
    """VENDOR.NAME.pdsc is well formed and named after what it says; the elements the schema wants are there; files exist; sources are complete."""
    paths = [path for path in files if path.endswith(".pdsc")]
    if len(paths) != 1:
        return [f"one .pdsc is wanted, there are {len(paths)}"]
    try:
        root = ElementTree.fromstring(files[paths[0]])
    except ElementTree.ParseError as error:
        return [f"{paths[0]}: {error}"]
    problems = [f"{paths[0]}: has no {tag}" for tag in _PDSC if root.find(tag) is None]
    if f"{root.findtext('vendor')}.{root.findtext('name')}.pdsc" != paths[0]:
        problems.append(f"{paths[0]}: is not named after vendor and name")
    problems += [f"{paths[0]}: release '{r.get('version')}' is no version" for r in root.iter("release") if not _SEMVER.match(r.get("version", ""))]
    listed = [file.get("name", "") for file in root.iter("file")]
    problems += [f"{paths[0]}: {name} is not there" for name in [*listed, root.findtext("license", "LICENSE")] if name not in files]
    for component in root.iter("component"):
        problems += [f"{paths[0]}: a component has no {key}" for key in ("Cclass", "Cgroup", "Cversion") if not component.get(key)]
        problems += [f"{paths[0]}: a component has no description"] * (component.find("description") is None)
    return problems + lists_sources(paths[0])(files)


def starlark(path: str, *rules: str) -> Rule:
    """A Bazel file is Starlark (whose syntax is Python's), and calls these rules with a name."""

    def rule(files: Files) -> list[str]:
        try:
            tree = ast.parse(files.get(path, ""))
        except SyntaxError as error:
            return [f"{path}: {error.msg}"]
        calls = {call.func.id: call for call in ast.walk(tree) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
        missing = [f"{path}: does not call {name}" for name in rules if name not in calls]
        return missing + [f"{path}: {name} has no name" for name in rules if name in calls and "name" not in {k.arg for k in calls[name].keywords}]

    return rule


def library_json(files: Files) -> list[str]:
    """library.json is JSON with a name, a version and a header that is there."""
    try:
        body = json.loads(files.get("library.json", ""))
    except ValueError as error:
        return [f"library.json: {error}"]
    problems = [f"library.json: has no {key}" for key in ("name", "version", "description") if not body.get(key)]
    if not _SEMVER.match(str(body.get("version"))) or len(str(body.get("name"))) > 100:
        problems.append("library.json: version or name is not allowed")
    return problems + [f"library.json: {body.get('headers')} is not there"] * (f"src/{body.get('headers')}" not in files)


def _csolution(files: Files) -> list[str]:
    """The csolution and its project, whose names carry that of the library."""
    found = {path: keys for path in files for ending, keys in _CSOLUTION.items() if path.endswith(ending)}
    rules = [rule for path, keys in found.items() for rule in (names_exist(path), yaml_has(path, *keys))]
    return [problem for rule in rules for problem in rule(files)] + ([] if len(found) == 2 else ["a csolution and a cproject are wanted"])


_APP = "examples/main.c"
RULES: dict[str, tuple[Rule, ...]] = {
    "cmake": (
        lists_sources("CMakeLists.txt"), names_exist("CMakeLists.txt", "examples/cmake/CMakeLists.txt", _APP),
        balanced("CMakeLists.txt"), balanced("examples/cmake/CMakeLists.txt"), subdirectories,
    ),
    "make": (lists_sources("Makefile"), names_exist("Makefile", _APP)),
    "meson": (lists_sources("meson.build"), names_exist("meson.build", "examples/meson/meson.build", _APP)),
    "rust": (lists_sources("build.rs"), names_exist("Cargo.toml", "build.rs", "rust/lib.rs", "examples/rust/main.rs")),
    "platformio": (library_json, names_exist("examples/platformio/platformio.ini", _APP)),
    "esp-idf": (
        lists_sources("CMakeLists.txt"), balanced("CMakeLists.txt"), yaml_has("idf_component.yml", "version", "description", "dependencies.idf"),
        names_exist("examples/esp-idf/main/CMakeLists.txt", _APP),
    ),
    "zephyr": (
        lists_sources("zephyr/CMakeLists.txt"), balanced("zephyr/CMakeLists.txt"), balanced("examples/zephyr/CMakeLists.txt"), module, kconfig,
        yaml_has("zephyr/module.yml", "name", "build.cmake", "build.kconfig"), yaml_has("west.yml", "manifest.projects.*.revision", "manifest.self.path"),
        yaml_has("examples/zephyr/sample.yaml", "sample.name", "tests"), names_exist("zephyr/CMakeLists.txt", "examples/zephyr/CMakeLists.txt", _APP),
    ),
    "cmsis-pack": (pdsc, _csolution, names_exist(_APP)),
    "arduino": (properties, names_exist("examples/arduino/arduino.ino")),
    "bazel": (
        starlark("MODULE.bazel", "module", "bazel_dep"), starlark("BUILD.bazel", "cc_library"), starlark("examples/BUILD.bazel", "cc_binary"),
        lists_sources("BUILD.bazel"), names_exist("BUILD.bazel", "examples/BUILD.bazel", _APP),
    ),
}  # fmt: skip
"""What each package is held against."""
