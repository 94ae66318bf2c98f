"""Errors for a model folder whose card was damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from camcli.errors import CamcliError
from camcli.models.load import load
from tests.support.training import write_model_folder


def test_damaged_card_gives_a_one_line_error(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model", ["a", "b"])
    assert load(str(folder)).class_names == ("a", "b")
    with pytest.raises(CamcliError, match="comes with its weights: leave them on DEFAULT"):
        load(str(folder), "none")
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"architecture": str(folder)}))
    with pytest.raises(CamcliError, match="unknown architecture"):
        load(str(folder))
    (folder / "model.json").write_text('{"architecture": "squeezenet1_1"}')
    with pytest.raises(CamcliError, match=r"model\.json is not readable") as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)
