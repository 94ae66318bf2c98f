"""Options on what a run prints."""

from __future__ import annotations

from dataclasses import dataclass

from camcli.cli.options import flag, grouped, quiet_option, rare, record


@dataclass(frozen=True)
class ShowOptions:
    """The options that decide what a run prints."""

    fail_fast: bool = False
    json: bool = False
    preview: bool = False
    quiet: bool = False


show_options = record(
    ShowOptions,
    "show",
    grouped(
        "Output",
        flag("--json", "Print each manifest row when it is done."),
        flag("--preview", "Draw the overlays in the terminal, on standard error."),
        quiet_option,
        rare(flag("--fail-fast", "Stop at the first image that fails.")),
    ),
)
"""What a run prints, as `show`."""
