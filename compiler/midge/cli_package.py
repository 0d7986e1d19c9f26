# SPDX-License-Identifier: Apache-2.0
"""The command line's part in packages: the option of `midge compile`, what it prints about them, and `midge lint-flags`."""

from __future__ import annotations

import shlex

import click

from midge.cli_common import JSON, print_json
from midge.targets import TARGETS, get_target

FOUND = 1
"""Exit code of lint-flags if it has something to say."""


def _parse_packages(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Known names, each once."""
    if not values:
        return ()
    from midge.package import check_formats

    return check_formats(values)


PACKAGE = click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="cmake|make|meson|rust|platformio|esp-idf|zephyr|cmsis-pack|arduino|bazel",
    callback=_parse_packages,
    help="Add the files of a build system and an example; may be given several times.",
)


def package_lines(packages: tuple[str, ...], output: str) -> list[str]:
    """What `midge compile` says about packages: where to read on, and how far midge's own tests go with each."""
    from midge.package import FORMATS

    return [f"    {name}: {output}/examples/{name}/README.md ({FORMATS[name].proof})" for name in packages]


# No -h: it would be found inside flags such as -mthumb.
@click.command("lint-flags", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--target", type=click.Choice(list(TARGETS)), default="cortex-m4", show_default=True, help="What the library was compiled for.")
@JSON
def lint_flags(flags: tuple[str, ...], target: str, as_json: bool) -> None:
    """Say what is doubtful about the compiler and linker FLAGS of a project that uses a library; exit code 1 if anything is.

    \b
    midge lint-flags --target cortex-m4 -O2 -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -ffunction-sections -fdata-sections -Wl,--gc-sections
    """
    from midge.package.flags import lint_flags as find

    warnings = find([flag for text in flags for flag in shlex.split(text)], get_target(target))
    if as_json:
        print_json({"target": target, "warnings": warnings})
    else:
        for warning in warnings:
            click.echo(f"warning: {warning}")
    if warnings:
        raise click.exceptions.Exit(FOUND)
