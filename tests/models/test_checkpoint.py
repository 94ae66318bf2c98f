"""Files that training programs write: wrappers, prefixes, foreign objects, hostile pickles."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from camcli import load
from camcli.errors import CamcliWarning, ModelError
from camcli.models.checkpoint import read_checkpoint
from camcli.models.unpickle import _Unpickler
from tests.support.networks import GapNet, save_weights

NET = "tests.support.networks:GapNet"


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return dict(GapNet().state_dict())


def check(file: Path, state: Mapping[str, Tensor], name: str = NET) -> None:
    """Check that a network has the tensors of a state dict after loading a file."""
    found = load(name, file).module.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "model.", "backbone.", "model._orig_mod.", "net.encoder.0."],
)
@pytest.mark.parametrize(
    "wrappers", [[], ["state_dict"], ["model"], ["net"], ["ema", "state_dict"], ["ema", "module"]]
)
def test_wrappers_and_prefixes(
    prefix: str, wrappers: list[str], state: dict[str, Tensor], tmp_path: Path
) -> None:
    content: dict[str, Any] = {f"{prefix}{key}": value for key, value in state.items()}
    for wrapper in reversed(wrappers):
        content = {wrapper: content, "epoch": 3}
    torch.save(content, tmp_path / "w.pt")
    check(tmp_path / "w.pt", state)


def test_an_averaged_model(state: dict[str, Tensor], tmp_path: Path) -> None:
    net = GapNet()
    net.load_state_dict(state)
    averaged = torch.optim.swa_utils.AveragedModel(net)
    check(save_weights(averaged.state_dict(), tmp_path / "swa.pth"), state)


def test_averages_are_used_if_nothing_else_is_there(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    other = {key: value + 1 for key, value in state.items()}
    torch.save({"model_ema": other, "model": state}, tmp_path / "both.pth")
    with pytest.warns(CamcliWarning, match=r"both.pth': model is used, and not model_ema, which"):
        check(tmp_path / "both.pth", state)


class Config(dict):  # type: ignore[type-arg]
    """A mapping with attributes, as configurations often are."""


class Hostile:
    """An object that calls a function when it is unpickled without restrictions."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Stateful:
    """An object whose state is set by its own code, which makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["file"].touch()


class Iterated(list):  # type: ignore[type-arg]
    """A list whose items are added by its own code, which makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        super().__init__([file])

    def append(self, item: Any) -> None:
        item.touch()

    def extend(self, items: Any) -> None:
        for item in items:
            item.touch()


def foreign() -> dict[str, Any]:
    """Return objects as a Lightning checkpoint has them."""
    return {
        "hyper_parameters": argparse.Namespace(lr=0.1, path=Path("x"), net=nn.Linear(2, 2)),
        "config": Config(a=1, b=[Config(c=2)]),
        "callbacks": {"best": defaultdict(list, {"a": [1]}), "kinds": {int, Config}},
        "loops": OrderedDict(a=frozenset({1, 2}), b=complex(1, 2), c=b"bytes", d=bytearray(3)),
        "function": foreign,
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_foreign_objects_are_ignored(
    protocol: int, zipped: bool, state: dict[str, Tensor], tmp_path: Path
) -> None:
    content = {"state_dict": {f"net.{key}": value for key, value in state.items()}, **foreign()}
    file = tmp_path / "last.ckpt"
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    check(file, state)
    if protocol == 2:
        with pytest.raises(pickle.UnpicklingError):
            torch.load(file, weights_only=True)  # which is why there is another unpickler


def test_parameters_and_views_are_read(tmp_path: Path) -> None:
    both = torch.arange(12.0).reshape(3, 4)
    content = {
        "a": nn.Parameter(both.T),
        "b": both[1:, ::2],
        "c": torch.tensor(3),
        "d": both.half(),
    }
    torch.save({"state_dict": content, **foreign()}, tmp_path / "w.ckpt")
    found, _ = read_checkpoint(tmp_path / "w.ckpt")
    assert all(torch.equal(found[key], content[key]) for key in content)
    assert not any(value.requires_grad for value in found.values())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_no_code_in_a_file_is_run(
    protocol: int, zipped: bool, state: dict[str, Tensor], tmp_path: Path
) -> None:
    made = [tmp_path / f"made{i}" for i in range(6)]
    hostile = [
        Hostile(os.system, f"touch {made[0]}"),
        Hostile(eval, f"__import__('pathlib').Path({str(made[1])!r}).touch()"),
        {"deep": [Hostile(os.mkdir, str(made[2]))]},
        Stateful(made[3]),
        Hostile(getattr, Hostile(__import__, "os"), "getcwd"),
        Iterated(made[4]),
        Hostile(torch.load, str(made[5])),
        Hostile(torch._utils._rebuild_tensor_v2, Hostile(os.mkdir, str(made[5]))),
    ]
    for i, content in enumerate([{"state_dict": state, "rest": hostile}, {"rest": hostile}]):
        file = tmp_path / f"w{i}.ckpt"
        torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    check(tmp_path / "w0.ckpt", state)
    with pytest.raises(ModelError, match="expected a state_dict"):
        read_checkpoint(tmp_path / "w1.ckpt")
    assert not any(each.exists() for each in made)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(hostile))
    with pytest.raises(ModelError, match="not readable"):
        read_checkpoint(tmp_path / "plain.pth")
    assert not any(each.exists() for each in made)


def test_a_file_cannot_change_the_functions_that_are_called() -> None:
    """A pickle that pushes a function and sets its attributes: GLOBAL, state, BUILD."""
    raw = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x04\x00\x00\x00evilK\x01s\x86b."
    assert _Unpickler(io.BytesIO(raw)).load() is torch._utils._rebuild_tensor_v2
    assert not hasattr(torch._utils._rebuild_tensor_v2, "evil")
    pickle.loads(raw)  # noqa: S301 - the ordinary unpickler does what this test looks for
    assert hasattr(torch._utils._rebuild_tensor_v2, "evil")
    del torch._utils._rebuild_tensor_v2.evil


def test_whole_modules_and_programs_are_refused(tmp_path: Path) -> None:
    way_out = r"save the network's state_dict\(\), or give its code as --model file.py:factory$"
    net = GapNet()
    torch.save(net, tmp_path / "whole.pth")
    torch.save({"model": net, "epoch": 3}, tmp_path / "nested.pth")
    for name in ("whole.pth", "nested.pth"):
        with pytest.raises(ModelError, match=rf"an object of .*GapNet, not tensors: {way_out}"):
            load(NET, tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated
        program = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    program.save(str(tmp_path / "script.pt"))
    with pytest.raises(ModelError, match=rf"is a TorchScript program, not tensors: {way_out}"):
        load(NET, tmp_path / "script.pt")


def test_a_head_with_dropout(tmp_path: Path) -> None:
    net = load("resnet18", "none").module
    net.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, 7))
    with pytest.warns(CamcliWarning, match=r"w.pth': fc.1 is loaded as fc; layers without weights"):
        model = load("resnet18", save_weights(net.state_dict(), tmp_path / "w.pth"))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model.module(images), net.eval()(images))
    assert model.num_classes == 7


def test_a_head_of_two_layers_does_not_fit(tmp_path: Path) -> None:
    net = load("resnet18", "none").module
    net.fc = nn.Sequential(nn.Linear(512, 9), nn.ReLU(), nn.Linear(9, 7))
    with pytest.raises(ModelError, match=r"do not fit resnet18: no fc\.weight"):
        load("resnet18", save_weights(net.state_dict(), tmp_path / "w.pth"))


def test_the_message_shows_the_keys_of_both(tmp_path: Path) -> None:
    file = save_weights({f"enc.{i}.w": torch.zeros(1) for i in range(4)}, tmp_path / "w.pth")
    message = (
        r"its first keys: enc.0.w, enc.1.w, enc.2.w, ...; those of .*GapNet: trunk.0.weight, "
        r"trunk.0.bias, last.0.weight, ...$"
    )
    with pytest.raises(ModelError, match=message):
        load(NET, file)


def test_weights_from_python(state: dict[str, Tensor]) -> None:
    names = {"a": 1, "b": 0, "c": 2, "d": 4, "e": 3}
    model = load(NET, state, labels=names)
    assert (model.weights, model.weights_hash) == ("given", None)
    assert model.class_names == ("b", "a", "c", "e", "d")
    assert torch.equal(model.module.state_dict()["fc.bias"], state["fc.bias"])
    assert load(NET, state, labels={i: n for n, i in names.items()}).class_names == (
        model.class_names
    )
    assert load(NET, state, labels=list("abcde")).class_names == tuple("abcde")
    twin = load("resnet18", "none", seed=4).module.state_dict()
    found = load("resnet18", {f"module.{k}": v for k, v in twin.items()}).module.state_dict()
    assert torch.equal(found["fc.weight"], twin["fc.weight"])
    with pytest.raises(ModelError, match="expected a state_dict"):
        load("resnet18", {"fc.weight": [1.0]})  # type: ignore[dict-item]


def test_names_of_imagenet(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = GapNet(1000).state_dict()
    (tmp_path / "net.py").write_text(
        "from tests.support.networks import GapNet\ndef net(): return GapNet(1000)\n"
    )
    model = load(f"{tmp_path}/net.py:net", state, labels="imagenet")
    assert model.class_names == load("mini").class_names
    with pytest.raises(ModelError, match="'imagenet': 1000 names, the model has 5 classes"):
        load(NET, labels="imagenet")


@pytest.mark.parametrize(
    ("key", "content", "names"),
    [
        ("class_to_idx", {"b": 1, "a": 0, "c": 2, "d": 3, "e": 4}, "abcde"),
        ("idx_to_class", dict(enumerate("abcde")), "abcde"),
        ("classes", list("abcde"), "abcde"),
        ("classes", list("abcd"), None),
        ("classes", 5, None),
        ("classes", "abcde", None),
    ],
)
def test_names_in_a_checkpoint(
    key: str, content: Any, names: str | None, state: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "w.ckpt"
    torch.save({"state_dict": state, key: content, **foreign()}, file)
    assert load(NET, file).class_names == (names and tuple(names))
    assert load(NET, file, labels=list("vwxyz")).class_names == tuple("vwxyz")
    resnet = load("resnet18", "none").module.state_dict()
    resnet["fc.weight"], resnet["fc.bias"] = torch.zeros(5, 512), torch.zeros(5)
    torch.save({"model": resnet, key: content}, file)
    assert load("resnet18", file).class_names == (names and tuple(names))
