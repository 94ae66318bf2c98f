"""Completion in a shell: networks, layers, files, and what differs from click's own completion.

Nothing here imports torch. The script of `camcli completion` sets the variable VARIABLE and runs
the command for each completion.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from glob import escape, glob

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from camcli.errors import spelled
from camcli.models.known import layer_paths, torchvision_names
from camcli.models.sources import SOURCES, NetworkSource

VARIABLE = "_CAMCLI_COMPLETE"
"""The name that click gives the variable of the command `camcli`."""

_CURSOR = "\0"

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' type value files
    COMPREPLY=()
    while IFS=, read -r type value; do
        if [[ $type == plain ]]; then
            COMPREPLY+=("$value")
        elif [[ $type == dir ]]; then
            compopt +o bashdefault +o default -o dirnames
        elif (( ${#COMPREPLY[@]} )) && files=$(compgen -f -- "$2"); then
            compopt -o filenames
            COMPREPLY+=($files)
        fi
    done < <(COMP_LINE=${COMP_LINE:0:COMP_POINT} COMP_WORD=$2 \
%(complete_var)s=bash_complete "$1" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace
    fi
}
complete -o bashdefault -o default -o nosort -F %(complete_func)s %(prog_name)s
"""
"""Without any names, bash completes file names as it does without this script."""


def listed(names: Iterable[str], typed: str) -> list[CompletionItem[str]]:
    """Return the names that begin with the text after the last comma, as completions."""
    before, comma, last = typed.rpartition(",")
    return [CompletionItem(before + comma + name) for name in names if name.startswith(last)]


def model_completions(sources: Iterable[NetworkSource], typed: str) -> list[CompletionItem[str]]:
    """Return the names and prefixes of sources of networks, and files."""
    names: list[str] = []
    for source in sources:
        inside = typed.rpartition(",")[2].startswith(source.prefix)
        names += source.completions() if inside else [source.prefix]
    return [*listed(names, typed), CompletionItem(typed, type="file")]


def complete_model(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """Complete the name of a network of any source."""
    return model_completions(SOURCES, typed)


def complete_layer(
    context: click.Context, _: click.Parameter, typed: str
) -> list[CompletionItem[str]]:
    """Complete a layer of the networks that --model names on the command line."""
    given = context.params.get("model") or ()
    models = (given,) if isinstance(given, str) else given
    names = (spelled(model, torchvision_names()) for model in models)
    paths = (path for name in names for path in layer_paths(name))
    return listed(dict.fromkeys(["auto", *paths]), typed)


class _Completion(ShellComplete):
    """Completion with file names where there are no others, of whole words as `--model=NAME`."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        name, equals, _ = incomplete.partition("=")
        before = name + equals if equals and name.startswith("-") else ""
        files = CompletionItem(incomplete.removeprefix(before), type="file")
        found = super().get_completions(args, incomplete) or [files]
        for item in found:
            item.value = before + item.value
        return found


class _Bash(_Completion, BashComplete):
    """Completion in bash, which takes `:` and `=` as the ends of words; click does not join them.

    The shell replaces its own word only, so the text before it is cut off from completions.
    """

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        *args, last = split_arg_string(os.environ["COMP_LINE"] + _CURSOR)
        return args[1:], last.removesuffix(_CURSOR)

    def format_completion(self, item: CompletionItem[str]) -> str:
        before = self.get_completion_args()[1].removesuffix(os.environ["COMP_WORD"])
        return f"{item.type},{item.value.removeprefix(before)}"


class _Zsh(_Completion, ZshComplete):
    """Completion in zsh, without a space behind a prefix."""

    source_template = ZshComplete.source_template.replace(
        "compadd -U",
        """local -a end
        [[ ${#completions} == 1 && $completions == *: ]] && end=(-S "")
        compadd "${end[@]}" -U""",
    )


class _Fish(_Completion, FishComplete):
    """Completion in fish, of names with commas, and of files in `--option=FILE`."""

    source_template = FishComplete.source_template.replace("split", "split --max 1")

    def format_completion(self, item: CompletionItem[str]) -> str:
        before, equals, typed = item.value.partition("=")
        if item.type != "file" or not equals:
            return super().format_completion(item)
        paths = (f"{one}/" if os.path.isdir(one) else one for one in glob(f"{escape(typed)}*"))
        return "\n".join(f"plain,{before}={path}" for path in paths)


SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def prepare() -> None:
    """Make click use these completions, and print nothing else on the terminal."""
    for shell in SHELLS.values():
        add_completion_class(shell)
    if os.environ[VARIABLE].endswith("_complete"):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
