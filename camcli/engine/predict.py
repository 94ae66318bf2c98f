"""Classes and their probabilities for a batch, without maps."""

from __future__ import annotations

from contextlib import closing

from torch import Tensor, nn

from camcli.capture.evidence import Observation
from camcli.capture.forward import Pass, Watch
from camcli.capture.hooks import borrowed
from camcli.capture.readers import reader_of
from camcli.capture.target_parser import parse_target
from camcli.capture.targets import TargetLike
from camcli.engine.inputs import Inputs, Region, prepare_inputs, regions_of
from camcli.models.model import Model


def probabilities(
    model: Model | nn.Module, inputs: Inputs, *, region: Region | None = None
) -> Tensor | None:
    """Return the probability of every class for a batch, (N,K); None for a regression.

    They follow from the scores by the model's activation. For a segmentation network they are means
    over the pixels of `region`, for a detection network the scores of the classes' best boxes.
    `inputs` and `region` are as for `explain`.
    """
    model = model if isinstance(model, Model) else Model(model)
    batch, _ = prepare_inputs(model, inputs)
    watch = Watch(model.module, reader=reader_of(model, regions_of(region, batch)))
    with borrowed(model.module):
        return Pass(watch, batch).probabilities


def ranking(
    model: Model, inputs: Inputs, *, region: Region | None = None
) -> tuple[Tensor, Tensor] | None:
    """Return numbers of all classes (N,K), highest for the best one, whose probability is (N,).

    They equal those of an Explanation. None for a regression.
    """
    batch, _ = prepare_inputs(model, inputs)
    watch = Watch(model.module, reader=reader_of(model, regions_of(region, batch)))
    with borrowed(model.module):
        run = Pass(watch, batch)
        return None if run.confidence is None else (run.ranking, run.confidence)


def class_and_probability(
    model: Model | nn.Module, inputs: Inputs, target: TargetLike = "pred"
) -> tuple[Tensor, Tensor]:
    """Return the class that a target selects for each image (N,), and its probability (N,).

    They equal those of an Explanation and cost one forward pass. Raises TypeError for a target that
    is not a class with a probability.
    """
    model = model if isinstance(model, Model) else Model(model)
    parsed = parse_target(target, model.class_names, model.num_classes)
    watch = Watch(model.module, reader=reader_of(model))
    with borrowed(model.module):
        run = Pass(watch, prepare_inputs(model, inputs)[0])
        with closing(Observation(run, [parsed])) as observation:
            (scored,) = observation.scored
            if scored.target.classes is None or scored.probability is None:
                raise TypeError(f"target '{parsed.spec}' has no probability: expected a class")
            return scored.target.classes, scored.probability
