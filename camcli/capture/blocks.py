"""Another pass, which notes the attention of a transformer's blocks, and gradients at it.

Letters: N images, H heads, Q tokens that attend to T tokens, L blocks, C channels of the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import takewhile
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from camcli.capture.attention import AttentionMode
from camcli.capture.forward import Pass
from camcli.capture.hooks import Tap, borrowed, cloned, gradients
from camcli.capture.libra import Balanced
from camcli.errors import MethodError
from camcli.methods.backward import LIBRA

Score: TypeAlias = Callable[[Any, Tensor], Tensor]
"""From an output for images `which` (M,) of the batch to their scores (M,)."""


class Notes:
    """The weights of each attention in a pass, and the tokens that each module around one gives.

    `paths` are those of the modules that compute the attention. `tokens` (N,T,C) are by path. With
    `libra`, the pass has the backward rule of that name.
    """

    def __init__(self, *, libra: bool = False) -> None:
        self._libra = libra
        self.weights: list[Tensor] = []
        self.paths: list[str] = []
        self.tokens: dict[str, Tensor] = {}
        self.mode = AttentionMode(self._use)
        self._running: list[tuple[str, int]] = []

    def _use(self, weights: Tensor) -> Tensor:
        is_kept = weights.requires_grad and not self._libra
        self.weights.append(weights if is_kept else weights.detach().requires_grad_())
        self.paths.append(self._running[-1][0] if self._running else "")
        return self.weights[-1]

    def other(self, tokens: int, images: int) -> str:
        """Describe what is not attention among all T tokens of each image; empty if all of it is.

        The last attention may pool the tokens.
        """
        found = [*self.mode.hidden(tokens)]
        for i, (*outer, queries, given) in enumerate(x.shape for x in self.weights):
            of_images = outer[0] == images if len(outer) == 2 else outer[0] % images == 0
            pools = 0 < i == len(self.weights) - 1
            if given != tokens or not of_images or (queries != tokens and not pools):
                found.append(f"attention of shape {(*outer, queries, given)}")
        if len({*self.paths}) < len(self.paths):
            found.append("several attentions in one module")
        return next(iter(found), "" if self.weights else "none that can be seen")

    @contextmanager
    def taken(self, module: nn.Module) -> Iterator[None]:
        """Note the attention of a network in the pass inside."""
        parts = [
            (path, part)
            for path, part in module.named_modules()
            if not isinstance(part, torch.jit.ScriptModule)
        ]
        handles = [part.register_forward_pre_hook(self._entering(path)) for path, part in parts]
        handles += [part.register_forward_hook(self._leaving) for _, part in parts]
        try:
            with Balanced() if self._libra else nullcontext(), self.mode, torch.enable_grad():
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, path: str) -> Callable[[nn.Module, Any], None]:
        return lambda _part, _args: self._running.append((path, len(self.weights)))

    def _leaving(self, _part: nn.Module, _args: Any, output: Any) -> None:
        path, before = self._running.pop()
        found = output[0] if isinstance(output, tuple) else output
        if len(self.weights) > before and isinstance(found, Tensor) and found.ndim == 3:
            self.tokens[path] = found.clone()  # the network may change its own in place


class Attended:
    """Another pass over the images of a pass, with a graph from the attention weights on.

    `weights` are those of each attention in the order in which they run: (N,H,T,T), and (N,H,Q,T)
    for the last one if it pools the tokens. A pass of its own leaves other methods without its
    graph and its rounding. Raises MethodError for a network without attention among all tokens of
    the tapped layer.
    """

    def __init__(self, run: Pass, tap: Tap) -> None:
        self.run = run
        self.notes = Notes(libra=run.watch.backward == LIBRA)
        self.cells = _cells(tap)
        with self.notes.taken(run.watch.module):
            self.output = run.run(*cloned(run.inputs))
        _check(self.notes, tap, run.size)
        self.weights = self._by_head(self.notes.weights)

    @property
    def pools(self) -> bool:
        """Whether the last attention pools the tokens by queries that are no tokens."""
        return self.weights[-1].shape[2] != self.weights[-1].shape[3]

    def gradients(self, score: Score) -> tuple[Tensor, ...]:
        """Return the gradients of the images' scores at the weights, in their shapes."""
        return self._gradients(score, self.notes.weights)

    def reading(self, score: Score) -> Tensor:
        """Return the shares (N,Q) of the tokens of the last attention in those that a score reads.

        A score reads a token if it depends on what the token attends to.
        """
        (found,) = self._gradients(score, self.notes.weights[-1:])
        read = found.abs().amax((1, 3)).sign()
        return read / read.sum(1, keepdim=True).clamp(min=1)

    def block_gradients(self, score: Score) -> tuple[Tensor, ...]:
        """Return the gradient of each block's own score at its weights, L times (N,H,Q,T).

        A block's score is that of its tokens by the rest of the network behind the last block. If
        the score reads one token, such as the class token, the mean of a block's tokens takes its
        place. If the last attention pools the tokens, the gradients are those at its weights.
        """
        paths, outputs = self._blocks()
        tokens = torch.stack([x.detach() for x in outputs]).requires_grad_()
        alone = not self.pools and bool(((self.reading(score) > 0).sum(1) <= 1).all())
        read = tokens.mean(2, keepdim=True).expand_as(tokens) if alone else tokens
        scores, pooling = self._rest(paths[-1], torch.cat([read, tokens[-1:]]), score)
        if self.pools:
            (found,) = gradients(scores, [pooling], _WEIGHTS)
            return tuple(_by_head(found, scores.numel()).chunk(len(scores))[:-1])
        (slopes,) = gradients(scores[:-1], [tokens], _WEIGHTS)
        each = zip(outputs, self.notes.weights, slopes, strict=True)
        return self._by_head(
            torch.autograd.grad(x, at, slope, retain_graph=True)[0] for x, at, slope in each
        )

    def _blocks(self) -> tuple[list[str], list[Tensor]]:
        """Return the paths of the L blocks, and the tokens (N,T,C) that each gives."""
        paths = _block_paths(self.notes.paths[: len(self.weights) - self.pools])
        found = [self.notes.tokens[path] for path in paths if path in self.notes.tokens]
        if len({*paths}) < len(paths) or len(found) < max(2, len(paths)):
            raise _no_scores("has no list of several blocks with one attention each")
        return paths, found

    def _rest(self, block: str, tokens: Tensor, score: Score) -> tuple[Tensor, Tensor]:
        """Return the scores (R,N) of R sets of tokens (R,N,T,C) in the place of a block's output.

        The last set is that of the block itself, which shows whether the rest of the network needs
        more than tokens. Also return the weights of the last attention that runs.
        """
        run, (count, images) = self.run, tokens.shape[:2]
        if len(run.inputs) > 1:
            raise _no_scores("has other inputs beside the image")
        notes, every = (
            Notes(libra=run.watch.backward == LIBRA),
            torch.arange(images, device=tokens.device),
        )
        try:
            with _replaced(run.watch.module, block, tokens.flatten(0, 1)):
                with notes.taken(run.watch.module):
                    # Tokens of two images fit no other number, as a residual connection would need.
                    output = run.run(run.image[:1].repeat(2, 1, 1, 1))
                scores = score(output, every.repeat(count)).view(count, images)
        except (RuntimeError, IndexError) as error:
            raise _no_scores("reads more than the tokens of its last block") from error
        if not torch.allclose(scores[-1], score(self.output, every), rtol=1e-3, atol=1e-4):
            raise _no_scores("reads more than the tokens of its last block")
        return scores, notes.weights[-1]

    def _gradients(self, score: Score, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        every = torch.arange(self.run.size, device=weights[0].device)
        return self._by_head(gradients(score(self.output, every), weights, _WEIGHTS))

    def _by_head(self, weights: Iterable[Tensor]) -> tuple[Tensor, ...]:
        return tuple(_by_head(x, self.run.size) for x in weights)


_WEIGHTS = "the attention of its blocks"
_INSTEAD = "use gradcam or hirescam"


def _by_head(weights: Tensor, images: int) -> Tensor:
    """Return weights as (N,H,Q,T). Without an axis of heads, they are (NH,Q,T)."""
    return weights if weights.ndim == 4 else weights.view(images, -1, *weights.shape[1:])


def _cells(tap: Tap) -> Tensor:
    """Return the index of the token of each cell of a map, (h,w). Raises MethodError."""
    assert tap.output is not None
    shape = tap.output.shape
    if len(shape) != 3:
        raise MethodError(
            f"this method needs a layer of tokens (N,T,C) and attention among all of them; layer "
            f"'{tap.path}' gives {tuple(shape)}: {_INSTEAD}"
        )
    index = torch.arange(shape[1], device=tap.output.device)[None, :, None]
    return tap.layout.to_map(index.expand(1, *shape[1:]))[0, 0]


def _check(notes: Notes, tap: Tap, images: int) -> None:
    """Raise MethodError unless all attention is among all tokens of a tapped layer."""
    assert tap.output is not None
    tokens = tap.output.shape[1]
    if other := notes.other(tokens, images):
        raise MethodError(
            f"this method needs attention among all {tokens} tokens of layer '{tap.path}', and the "
            f"network has {other}: {_INSTEAD}"
        )


def has_attention(module: nn.Module, image: Tensor) -> bool:
    """Return whether the attention of a network is among all tokens of an image (1,C,H,W)."""
    notes = Notes()
    with borrowed(module), notes.taken(module):
        module(image)
    return bool(notes.weights) and not notes.other(notes.weights[0].shape[-1], 1)


def _block_paths(paths: Sequence[str]) -> list[str]:
    """Return the paths of the blocks around modules: the entries of the list that has them all."""
    parts = [path.split(".") for path in paths]
    levels = zip(*parts, strict=False)
    shared = len([*takewhile(lambda names: len({*names}) == 1, levels)])
    return [".".join(one[: shared + 1]) for one in parts]


@contextmanager
def _replaced(module: nn.Module, path: str, tokens: Tensor) -> Iterator[None]:
    """Replace the tokens that a layer gives in the passes inside."""

    def hook(_part: nn.Module, _args: Any, output: Any) -> Any:
        return (tokens, *output[1:]) if isinstance(output, tuple) else tokens

    handle = module.get_submodule(path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _no_scores(reason: str) -> MethodError:
    return MethodError(
        f"legrad needs the score of each block's own tokens, and this network {reason}: use gae"
    )
