"""Similarity to a reference image: the cosine of the pooled embeddings of both.

The embedding is what the last linear map of a classifier reads, such as the mean of its last map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from camcli.capture.endings import last_values
from camcli.capture.hooks import borrowed
from camcli.capture.readers import Reader
from camcli.capture.targets import Target, own_logits
from camcli.models.head import CosineHead
from camcli.models.precision import at_least_float32

LIKE = "like:"
"""The beginning of a target that names a reference image."""
_READERS = (nn.Linear, nn.Conv2d, CosineHead)


class Embedded(NamedTuple):
    """A network's `own` output, and the pooled embedding (N,D) that it was made of."""

    own: Any
    embedding: Tensor

    @property
    def logits(self) -> Tensor:
        """The values of classes in the output, (N,K)."""
        return own_logits(self.own)


@dataclass(frozen=True, eq=False)
class LikeTarget(Target):
    """The cosine of the pooled embeddings of each image and of `reference`.

    `reference` is an image as `explain` takes it: a path, a PIL image, an array, or a tensor
    (1,C,H,W). `explain` adds its `embedding` (D,) and `reader`, the path of the part that reads
    embeddings. `content` is a digest of the image's bytes.

    The gradient takes the length of the image's embedding as constant. Without this it would be
    orthogonal to the embedding, and zero for the reference itself. If the embedding is the mean of
    a layer, a map of that layer (`hirescam`, or `gradcam` before its ReLU) then splits the cosine
    into parts that add up to it (Stylianou et al. 2019, arXiv:1901.00536, sec. 3.1).
    """

    spec: str
    reference: Any
    reader: str = ""
    embedding: Tensor | None = None
    content: str = ""
    raw: ClassVar[bool] = True
    embeds: ClassVar[bool] = True

    def resolve(self, output: Any) -> Sequence[Target]:
        if self.embedding is None:
            raise TypeError(f"target '{self.spec}' has no embedding yet: expected explain()")
        return (self,)

    def score(self, output: Embedded) -> Tensor:
        assert self.embedding is not None
        found = at_least_float32(output.embedding)
        length = found.detach().norm(dim=1).clamp(min=torch.finfo(found.dtype).tiny)
        direction = self.embedding.to(found)
        cosine: Tensor = (found @ direction) / (length * direction.norm())
        return cosine


def find_embedding(
    module: nn.Module, reader: Reader, inputs: tuple[Any, ...]
) -> tuple[str, Tensor] | None:
    """Return the path of the part that reads pooled embeddings, and the one of an image, (D,).

    `inputs` are the network's arguments.

    It is the last linear map, whose output, or its mean over the places of a map, are the class
    scores. None if the network has none.
    """
    calls: dict[str, tuple[Any, Any]] = {}

    def keep(path: str, _part: nn.Module, arguments: Any, output: Any) -> None:
        calls.pop(path, None)
        calls[path] = arguments[0], output

    with ExitStack() as stack, borrowed(module), torch.no_grad():
        for path, part in module.named_modules():
            if isinstance(part, _READERS):
                handle = part.register_forward_hook(partial(keep, path))
                stack.callback(handle.remove)
        values = own_logits(last_values(reader.run(module, lambda: module(*inputs))))
    for path, (given, gave) in reversed(calls.items()):
        if _gives(gave, values) and (found := _pooled(given)) is not None:
            return path, found[0]
    return None


@contextmanager
def embedding_outputs(module: nn.Module, targets: Sequence[Target]) -> Iterator[None]:
    """Let the passes of a network inside give Embedded if a target needs it."""
    paths = [target.reader for target in targets if isinstance(target, LikeTarget)]
    given: list[Tensor] = []

    def keep(_part: nn.Module, arguments: Any, _output: Any) -> None:
        given[:] = arguments[:1]

    def give(_module: nn.Module, _arguments: Any, output: Any) -> Embedded:
        found = _pooled(given.pop())
        assert found is not None
        return Embedded(output, found)

    with ExitStack() as stack:
        if paths:
            for part, hook in ((module.get_submodule(paths[0]), keep), (module, give)):
                stack.callback(part.register_forward_hook(hook).remove)
        yield


def _pooled(given: Any) -> Tensor | None:
    """Return embeddings (N,D), of a map (N,D,h,w) its means; None for anything else."""
    if not isinstance(given, Tensor) or given.ndim not in (2, 4):
        return None
    return given if given.ndim == 2 else given.mean((2, 3))


def _gives(output: Any, values: Tensor) -> bool:
    """Return whether an output, or its mean over places before or after a ReLU, are the values."""
    if not isinstance(output, Tensor) or output.shape[:2] != values.shape:
        return False
    if output.ndim == 2:
        return _close(output, values)
    maps = output, output.relu()
    return output.ndim == 4 and any(_close(one.mean((2, 3)), values) for one in maps)


def _close(found: Tensor, values: Tensor) -> bool:
    tolerance = max(1e-3, 8 * torch.finfo(values.dtype).eps)
    return bool((found - values).abs().max() <= tolerance * values.abs().max())
