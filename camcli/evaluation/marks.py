"""The marks of methods that do not beat the baselines, and what they say. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

MARKS = {"fails": "!", "unsure": "~"}
"""The mark beside a mean, by its verdict."""


def mark_notes(verdicts: Collection[str | None], baselines: Sequence[str]) -> Iterator[str]:
    """Yield what each mark says that stands in a table with these verdicts."""
    if "fails" in verdicts:
        yield f"{MARKS['fails']} not better than a baseline ({' or '.join(baselines)})"
    if "unsure" in verdicts:
        note = "better than the baselines on average, but not significantly on these images"
        yield f"{MARKS['unsure']} {note}"
