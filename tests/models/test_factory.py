"""Networks of a user's own code: `MODULE:FUNCTION`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from camcli import explain, load
from camcli.engine.catalogue import list_layers
from camcli.errors import ModelError
from tests.support.command import Run, refused
from tests.support.networks import save_weights

OWN = """
from torch import nn

def small(num_classes=3):
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, num_classes))

class Pool(nn.AdaptiveAvgPool2d):
    def __init__(self):
        super().__init__(2)

def needs(argument): ...
def needs_it(argument, word=""): return small(argument)
def nothing(): ...
three = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Write a module with a unique name into the working directory; return the name."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    (tmp_path / f"broken_{name}.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield name
    assert sys.path == before
    sys.modules.pop(name, None)


def test_a_factory_is_called(own: str, tmp_path: Path) -> None:
    model = load(f"{own}:small")
    assert (model.num_classes, model.weights) == (3, f"from {own}:small")
    assert explain(model, torch.rand(1, 3, 20, 20), "cam", 2).maps.shape == (1, 18, 18)
    same, other = load(f"{own}:small"), load(f"{own}:small", seed=1)
    weights = [m.module.state_dict()["0.weight"] for m in (model, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert load(f"{own}:Pool").num_classes is None
    assert [layer.path for layer in list_layers(f"{own}:small")] == ["0", "1"]
    assert list_layers(f"{own}:Pool") == []  # a network without parameters


def test_weights_set_the_classes_of_a_factory(own: str, tmp_path: Path) -> None:
    seven = nn.Sequential(nn.Conv2d(3, 4, 3), *([nn.Identity()] * 3), nn.Linear(4, 7))
    file = save_weights(seven.state_dict(), tmp_path / "seven.pth")
    (tmp_path / "names.txt").write_text("\n".join("abcdefg"))
    model = load(f"{own}:small", file, labels=tmp_path / "names.txt")
    assert model.class_names == tuple("abcdefg")
    assert torch.equal(model.module.state_dict()["4.weight"], seven[4].weight)
    assert model.weights_hash
    wrong = save_weights({"0.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(ModelError, match=rf"do not fit {own}:small: 0.weight is \(1,\), expected"):
        load(f"{own}:small", wrong)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{own}:big", "there is no 'big' in {own}"),
        ("{own}:three", "expected a function or a class, got int"),
        ("{own}:nothing", "expected an nn.Module, got NoneType"),
        ("{own}:needs", "it cannot be called .*argument"),
        ("no_such_package.nets:small", "cannot import 'no_such_package.nets'"),
        ("broken_{own}:small", "cannot import 'broken_{own}'"),
        (":small", "cannot import ''"),
        ("no_such/nets.py:small", r"cannot import 'no_such/nets.py' \(.*No such file"),
        ("broken_{own}.py:small", r"cannot import 'broken_{own}.py' \("),
        ("{own}.py:big", "there is no 'big' in {own}.py"),
        ("{own}:", "there is no '' in {own}"),
    ],
)
def test_an_invalid_factory_is_one_line(own: str, name: str, message: str) -> None:
    name = name.format(own=own)
    with pytest.raises(ModelError, match=f"^model '{name}': {message.format(own=own)}") as error:
        load(name)
    assert "\n" not in str(error.value)


def test_a_file_is_a_factory(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the file is searched while it is imported."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / f"parts_{own}.py").write_text("WIDTH = 6\n")
    file = tmp_path / "sub" / "nets.py"
    file.write_text(f"from parts_{own} import WIDTH\n{OWN.replace('(3, 4, 3)', '(3, WIDTH, 3)')}")
    file.write_text(file.read_text().replace("nn.Linear(4,", "nn.Linear(WIDTH,"))
    for name in (f"{file}:small", "sub/nets.py:small"):
        model = load(name)
        assert (model.num_classes, model.name) == (3, name)
        assert model.module[0].weight.shape[0] == 6
    assert "nets" not in sys.modules
    assert str(tmp_path / "sub") not in sys.path
    del sys.modules[f"parts_{own}"]


def test_arguments_are_passed_to_a_factory(own: str, tmp_path: Path) -> None:
    model = load(f"{own}:small", arguments={"num_classes": 4})
    assert (model.num_classes, model.name) == (4, f"{own}:small(num_classes=4)")
    assert load(f"{own}:needs_it", arguments={"argument": 2}).num_classes == 2
    with pytest.raises(ModelError, match=r"it cannot be called .*unexpected keyword"):
        load(f"{own}:small", arguments={"depth": 4})
    seven = nn.Sequential(nn.Conv2d(3, 4, 3), *([nn.Identity()] * 3), nn.Linear(4, 7))
    file = save_weights(seven.state_dict(), tmp_path / "seven.pth")
    with pytest.raises(ModelError, match=r"do not fit .*: 4.weight is \(7, 4\), expected \(4, 4\)"):
        load(f"{own}:small", file, arguments={"num_classes": 4})


def test_arguments_on_the_command_line(own: str, run: Run, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--model-arg", "argument=6", "--model-arg", "word=a=b")
    command = ("explain", photo, "--model", f"{own}:needs_it", "--output", out)
    found = run(*command, *arguments, "--layer", "0")
    assert found.exit_code == 0, found.stderr_bytes
    record = json.loads((out / "run.json").read_text())
    assert record["model"] == f"{own}:needs_it(argument=6, word='a=b')"
    listed = run("layers", f"{own}:needs_it", "--model-arg", "argument=6", "--json")
    assert [json.loads(row)["path"] for row in listed.stdout_bytes.splitlines()] == ["0", "1"]
    message = r"^model 'mini' takes no arguments \(--model-arg\): only timm:NAME.*:factory$"
    with pytest.raises(ModelError, match=message):
        load("mini", arguments={"a": 1})
    for text in ("x", "=1", "a b=1"):
        assert f"'{text}': expected KEY=VALUE" in refused(run(*command, "--model-arg", text))
