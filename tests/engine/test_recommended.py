"""`auto` is the method that is recommended for the layer: of tokens, or of a map."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from camcli import Model, explain
from camcli.engine.explain import recommended
from camcli.engine.recommended import FOR_MAPS, FOR_OBJECTS, FOR_TOKENS
from camcli.images.preprocess import Preset
from camcli.methods.registry import METHODS
from tests.support.command import Run, refused, stderr, stdout
from tests.support.files import make_photo
from tests.support.networks import GapNet


def small_vit(blocks: int = 2) -> Model:
    vit = VisionTransformer(32, 8, blocks, 2, 16, 32, num_classes=3)
    nn.init.normal_(vit.heads.head.weight)  # torchvision's is zero
    return Model(vit.eval(), preset=Preset(32, 32))


def shallow_vit() -> Model:
    """Return a network of one block, which LeGrad refuses."""
    return small_vit(blocks=1)


MAPS, (TOKENS, OTHER_TOKENS) = FOR_MAPS[0], FOR_TOKENS
NETWORKS = {TOKENS: small_vit, OTHER_TOKENS: shallow_vit, MAPS: lambda: Model(GapNet())}


@pytest.mark.parametrize("method", NETWORKS)
def test_tokens_and_maps_have_a_method_of_their_own(method: str) -> None:
    assert {*FOR_MAPS, *FOR_OBJECTS, *FOR_TOKENS} <= METHODS.keys()
    model = NETWORKS[method]()
    images = torch.randn(2, 3, 32, 32)
    assert recommended(model, (images,)).method == method
    shown = explain(model, images, "auto")
    assert shown.method == method
    assert torch.equal(shown.maps, explain(model, images, method).maps)


def test_the_layer_decides_and_not_the_network() -> None:
    vit, images = small_vit(), (torch.randn(1, 3, 32, 32),)
    assert recommended(vit, images, "conv_proj").method == MAPS
    assert recommended(vit, images, "encoder.layers.encoder_layer_0").method == TOKENS


def test_the_command_says_which_method_it_is(run: Run, tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "photo.png")
    command = ("explain", photo, "--method", "auto", "--output", tmp_path / "out")
    found = run(*command, "--method", "gradcam++")
    assert f"Note: --method auto is {MAPS}, for the maps of layer" in stderr(found)
    assert (tmp_path / "out" / f"photo.{MAPS}.png").exists()
    assert "--method auto" not in stderr(run(*command, "--quiet", "--skip-existing"))
    message = refused(run(*command, "--dry-run"))
    assert message == "--dry-run: the files of --method auto depend on the network"


def test_an_evaluation_names_the_method(run: Run, tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "photo.png")
    found = run("evaluate", photo, "--method", "auto", "--metric", "complexity")
    assert f"--method auto is {MAPS}" in stderr(found)
    assert MAPS in stdout(found)
