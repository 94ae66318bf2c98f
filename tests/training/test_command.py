"""`camcli train` from the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from camcli.cli.train import train
from camcli.models.torchvision_networks import initialise_torchvision
from camcli.training.distillation import TRAINABLE_METHODS
from tests.support.command import Run, stderr
from tests.support.training import COLOURS, write_model_folder


def test_trained_folder_is_a_model_for_explain(folder: Path, tmp_path: Path, run: Run) -> None:
    output, image = tmp_path / "model", folder / "red" / "00.png"
    sizes = ("--image-size", "33:1,35", "--epochs", 1, "--batch-size", 32)
    how = ("--device", "cpu", "--precision", "bf16", "--output", output)
    found = run("train", folder, "--val", 0.2, "--test", folder, *sizes, *how)
    assert found.exit_code == 0
    (line,) = stderr(found).splitlines()  # no progress bar without a terminal
    assert line.startswith("model -> ")
    *epochs, final = [json.loads(line) for line in found.stdout_bytes.splitlines()]
    assert [(record["epoch"], record["size"]) for record in epochs] == [(1, 33), (2, 35)]
    assert 0 <= final["test"][folder.name] <= 1
    card = json.loads((output / "model.json").read_text())
    assert card["architecture"] == "squeezenet1_1"
    assert card["classes"] == list(COLOURS) == (output / "labels.txt").read_text().split()
    assert card["accuracy"]["test"] == final["test"]
    assert str(tmp_path) not in (output / "model.json").read_text()
    weights = load_file(output / "weights.safetensors")
    assert (
        weights.keys()
        == initialise_torchvision("squeezenet1_1", card["classes"]).module.state_dict().keys()
    )
    assert {w.dtype for w in weights.values() if w.ndim > 1} == {torch.float16}
    heat = tmp_path / "heat"
    assert (
        run("explain", image, "--model", output, "--target", "red", "--output", heat).exit_code == 0
    )
    assert (heat / "00.gradcam.red.png").exists()


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys, click; from camcli.cli import camcli\n"
        "for words in (['--help'], ['train', '--help-all']):\n"
        "    try: camcli.main(words, standalone_mode=False)\n"
        "    except click.exceptions.Exit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--kd-temperature" in done.stdout


def test_explain_method_offers_the_trainable_methods() -> None:
    (option,) = [p for p in train.params if p.name == "explain_method"]
    assert set(option.type.choices) == set(TRAINABLE_METHODS)


@pytest.fixture
def paths(folder: Path, tmp_path: Path) -> dict[str, Path]:
    """Usable and unusable data and teachers by name."""
    (tmp_path / "one").mkdir()
    shutil.copytree(folder / "red", tmp_path / "one" / "red")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("not a zip")
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / "red" / "99.png").write_bytes(b"not an image")
    shutil.copytree(folder / "red", tmp_path / "other" / "purple")
    write_model_folder(tmp_path / "pets", ["cat", "dog"])
    write_model_folder(tmp_path / "grey", list(COLOURS), mean=(0.5, 0.5, 0.5))
    return {path.name: path for path in tmp_path.iterdir()} | {"good": folder, "tmp": tmp_path}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/missing"], "missing': No such file"),
        (["{empty}"], "no images in"),
        (["{text.zip}"], "expected a folder or a zip"),
        (["{broken}"], "broken/red/99.png: not an image"),
        (["{one}"], "only one class, 'red'"),
        (["{good}", "--val", "0"], "no images to validate on"),
        (["{good}", "--val", "{other}"], "has the class 'purple': expected blue, green, red"),
        (["{good}", "--model", "squeezenet1_9"], "unknown model 'squeezenet1_9'"),
        (["{good}", "--weights", "{tmp}/missing.pth"], "missing.pth': no such file"),
        (["{good}", "--image-size", "64x10"], "expected PX or PX:EPOCHS"),
        (["{good}", "--image-size", "8"], "squeezenet1_1 does not accept images of 8 pixels"),
        (["{good}", "--teacher", "{pets}"], "has 2 classes"),
        (["{good}", "--teacher", "{grey}"], "mean (0.5, 0.5, 0.5) and std (0.229, 0.224, 0.225)"),
        (["{good}", "--teacher", "{one}"], "no model.json in it"),
        (["{good}", "--explain-method", "cam"], "unknown method 'cam'"),
    ],
)
def test_unusable_input_gives_a_one_line_error(
    arguments: list[str], message: str, paths: dict[str, Path], run: Run
) -> None:
    given = [fill(argument, paths) for argument in arguments]
    found = run("train", *given, "--device", "cpu", "--output", paths["tmp"] / "out")
    error = stderr(found)
    assert found.exit_code == 2
    assert message in error
    assert len(error.splitlines()) == 1


def fill(argument: str, paths: dict[str, Path]) -> str:
    """Replace `{name}` by the path of that name."""
    for name, path in paths.items():
        argument = argument.replace("{" + name + "}", str(path))
    return argument
