"""Read the classes in a manifest row: the predicted one, the explained one, and who is right."""

from __future__ import annotations

from dataclasses import dataclass

from camcli.runs.manifest import Row


@dataclass(frozen=True)
class Label:
    """A class: its index, its name and its probability, as far as they are known."""

    index: int | None = None
    name: str | None = None
    probability: float | None = None

    @property
    def text(self) -> str:
        """The name, or the index if there is no name."""
        return self.name or f"class {self.index}"

    def __str__(self) -> str:
        share = "" if self.probability is None else f" {self.probability:.0%}"
        return self.text + share


def predicted(row: Row) -> Label | None:
    """Return the network's best class; None if the row has none.

    Rows of older folders have it only if it was explained, by the target `pred`.
    """
    found = _label(row, "predicted_index", "predicted_name", "confidence")
    return found or (explained(row) if row["target"] == "pred" else None)


def explained(row: Row) -> Label | None:
    """Return the class that was explained, or the text, which has no index."""
    return _label(row, "class_index", "class_name", "probability")


def same(a: Label | None, b: Label | None) -> bool | None:
    """Return whether two classes are the same; None if it is not known.

    Names decide if both have one, since networks may order their classes differently.
    """
    if a is None or b is None:
        return None
    if a.name is not None and b.name is not None:
        return a.name == b.name
    return None if a.index is None or b.index is None else a.index == b.index


def right(a: Row, b: Row) -> str | None:
    """Return which networks are right: `both`, `a`, `b` or `neither`; None without true classes."""
    names = {
        (True, True): "both",
        (True, False): "a",
        (False, True): "b",
        (False, False): "neither",
    }
    return names.get((a.get("correct"), b.get("correct")))  # type: ignore[arg-type]


def _label(row: Row, index: str, name: str, probability: str) -> Label | None:
    found = Label(row.get(index), row.get(name), row.get(probability))
    return None if found.index is None and found.name is None else found
