# SPDX-License-Identifier: Apache-2.0
"""SHA-256 digests of all files, versions of the tools, and a software bill of materials in CycloneDX's JSON.

No dates and no paths of this machine: the same library gives the same file.

Source: CycloneDX specification 1.5 (ECMA-424), JSON representation.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from midge.codegen.manifest import MANIFEST, changed_files, midge_version
from midge.errors import ToolMissing
from midge.evidence.part import FAILED, PASSED, Part, Subject, Table, json_text, version_of
from midge.toolchain import find_tool

KEY, TITLE, SBOM, SUMS = "digests", "Digests and bill of materials", "sbom.cdx.json", "sha256sums.txt"
SPEC = "1.5"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:midge:evidence")
ABOUT = (
    "SHA-256 of every file of the library, compared with its manifest; the tools' versions; and a CycloneDX bill of materials of model, emitted sources, "
    "midge and the compiler. `sha256sum -c sha256sums.txt` in the library's folder checks the digests."
)
TOOLS = ("gcc", "gcov", "valgrind", "cppcheck", "qemu-system-arm")


def prove(subject: Subject) -> Part:
    """FAILED if a file is not as midge wrote it."""
    digests = {path: hashlib.sha256((subject.directory / path).read_bytes()).hexdigest() for path in library_files(subject)}
    changed, tools = changed_files(subject.directory), tool_versions(subject)
    bill = bill_of_materials(subject, digests, tools)
    says = f"{len(digests)} files" + (f"; not as midge wrote them: {', '.join(changed)}" if changed else ", all as midge wrote them")
    tables = (
        Table("files", ("file", "SHA-256"), tuple(digests.items())),
        Table("tools", ("tool", "version"), tuple(tools.items())),
    )
    files = {SBOM: json_text(bill), SUMS: "".join(f"{digest}  {path}\n" for path, digest in digests.items())}
    return Part(KEY, TITLE, FAILED if changed else PASSED, says, ABOUT, "", tables, files, {"files": len(digests), "changed": changed, "tools": tools})


def library_files(subject: Subject) -> list[str]:
    """Paths of the library's files that are there, its manifest included, sorted."""
    listed = {str(entry["path"]) for entry in subject.manifest["files"]} | {MANIFEST}
    return sorted(path for path in listed if (subject.directory / path).is_file())


def tool_versions(subject: Subject) -> dict[str, str]:
    """What each tool says of itself; those that are missing say so."""
    found = {"midge": midge_version()}
    names = dict.fromkeys([*((f"{subject.target.prefix}gcc",) if subject.target.prefix else ()), *TOOLS])
    for name in names:
        try:
            found[name] = version_of(find_tool(name))
        except ToolMissing:
            found[name] = "not installed"
    return found


def bill_of_materials(subject: Subject, digests: dict[str, str], tools: dict[str, str]) -> dict[str, Any]:
    """The CycloneDX document."""
    manifest, name = subject.manifest, subject.name
    version = str(manifest["model_digest"])[:12]
    whole = hashlib.sha256("".join(f"{path} {digest}\n" for path, digest in digests.items()).encode()).hexdigest()
    library = {"type": "library", "bom-ref": f"library:{name}", "name": name, "version": version, "licenses": [_licence("0BSD")], "hashes": _sha256(whole)}
    model = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{name}",
        "name": f"{name} (integer graph)",
        "version": version,
        "hashes": _sha256(str(manifest["model_digest"])),
        "properties": [{"name": f"midge:{key}", "value": str(manifest[key])} for key in ("target", "numerics", "arena_bytes", "weights_bytes", "macs")],
    }
    files = [{"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": _sha256(digest)} for path, digest in digests.items()]
    midge = {"type": "application", "bom-ref": "tool:midge", "name": "midge", "version": str(manifest["midge"]), "licenses": [_licence("Apache-2.0")]}
    compiler = f"{subject.target.prefix}gcc"
    makers = [midge]
    if tools.get(compiler, "not installed") != "not installed":
        makers.append({"type": "application", "bom-ref": f"tool:{compiler}", "name": compiler, "version": tools[compiler]})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, whole)}",
        "version": 1,
        "metadata": {"tools": {"components": makers}, "component": library},
        "components": [model, *files],
        "dependencies": [
            {"ref": library["bom-ref"], "dependsOn": [str(model["bom-ref"]), *(str(file["bom-ref"]) for file in files)]},
            *({"ref": str(item["bom-ref"]), "dependsOn": list[str]()} for item in (model, *files)),
        ],
    }


def _sha256(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _licence(name: str) -> dict[str, Any]:
    return {"license": {"id": name}}
