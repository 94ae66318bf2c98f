"""Class maps: from the labels of annotations to the model's classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from camcli.errors import AnnotationError
from camcli.runs.class_map import class_finder

CLASSES = ("tabby", "tiger cat", "crane", "golden retriever", "beagle", "crane")


def test_labels_are_class_names_or_lines_of_a_file(tmp_path: Path) -> None:
    by_name = class_finder(None, CLASSES, len(CLASSES))
    assert by_name("Tiger_Cat") == {1}
    assert by_name("crane") == {2, 5}, "two classes have this name"
    assert by_name("person") == frozenset()
    message = r"label 16 is a number, not a name: expected --class-map.* '16: 151"
    with pytest.raises(AnnotationError, match=message):
        by_name("16")
    with pytest.raises(AnnotationError, match="the model has no class names"):
        class_finder(None, None, 1000)
    file = tmp_path / "classes.txt"
    file.write_text("# COCO\n\n16: 3 - 4  # dogs\ncat: tabby, Tiger_Cat\ncat: 2-2\n17: 0\n")
    by_file = class_finder(file, CLASSES, len(CLASSES))
    assert by_file("16") == {3, 4}
    assert by_file("Cat") == {0, 1, 2}
    assert by_file("17") == {0}
    assert class_finder(file, CLASSES, None)("17") == {0}
    assert by_file("18") == by_file("tabby") == frozenset(), "a file replaces the names"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("dog", "'dog': expected LABEL: CLASS, CLASS"),
        (": 1", "expected LABEL: CLASS, CLASS"),
        ("dog: # none", "'dog:': expected LABEL: CLASS, CLASS"),
        ("dog: beagel", "unknown target 'beagel': did you mean 'beagle'"),
        ("dog: crane", "names 2 classes: give one of the indices 2, 5"),
        ("dog: 4-9", "expected a class index from 0 to 5"),
        ("dog: 4-3", "range 4-3: expected the lower index first"),
        ("dog: 6", "target 6: expected a class index from 0 to 5"),
        ("dog: pred", "'pred': expected a class name, an index or a range as 151-268"),
        ("dog: not:beagle", "'not:beagle': expected a class name, an index or a range"),
        ("dog: 1,,2", "nothing between two commas"),
    ],
)
def test_wrong_lines_of_a_class_map(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "classes.txt").write_text("cat: 0\n" + line)
    with pytest.raises(AnnotationError) as raised:
        class_finder(tmp_path / "classes.txt", CLASSES, len(CLASSES))
    assert str(raised.value).startswith(f"{tmp_path}/classes.txt, line 2: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
