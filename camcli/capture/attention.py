"""Find the attention of a forward pass, and compute it with explicit weights.

Transformers compute attention by a fused function, which keeps no weights, or by a softmax whose
result multiplies the values. Letters: N images, H heads, Q tokens that attend to T tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from camcli.models.precision import at_least_float32

Use: TypeAlias = Callable[[Tensor], Tensor]
"""From the weights of an attention, (N,H,Q,T) or (NH,Q,T), to those that the network goes on with.
"""

_PRODUCTS = frozenset({"matmul", "bmm", "einsum"})
_PASSED_ON = frozenset({"dropout", "to", "type", "type_as", "contiguous"})
"""Functions that weights go through between the softmax and the product with the values."""

_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)
_UNUSUAL = (
    *("bias_k", "bias_v", "add_zero_attn", "attn_mask", "key_padding_mask"),
    *("static_k", "static_v"),
)
"""Arguments of `multi_head_attention_forward` whose effect is not computed here."""


class AttentionMode(TorchFunctionMode):
    """A mode that computes attention explicitly, and passes the weights of each through `use`.

    The network itself is not changed: after the pass, it computes its fused attention again.
    `only_signals` leaves attention as it is where no tensor has a graph.
    """

    def __init__(self, use: Use, *, only_signals: bool = False) -> None:
        super().__init__()
        self._use = use
        self._only_signals = only_signals
        self._pending: dict[int, Tensor] = {}
        self._hidden: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._only_signals and not any(x.requires_grad for x in args if isinstance(x, Tensor)):
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attended(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        if func is F.multi_head_attention_forward:
            given = _arguments(args, kwargs)
            if given.query.ndim == 3 and not any(_is_given(given, name) for name in _UNUSUAL):
                return self._multi_head(given)
            self._hidden.append(name)
        if name in _PRODUCTS:
            args = tuple(map(self._used, args))
        result = func(*args, **kwargs)
        passed_on = args and name in _PASSED_ON and self._pending.pop(id(args[0]), None) is not None
        if passed_on or (name.endswith("softmax") and _may_be_weights(result, *args[1:], **kwargs)):
            self._pending[id(result)] = result
        return result

    def hidden(self, tokens: int) -> list[str]:
        """Return what hides attention to T tokens: functions, and softmaxes of another use."""
        unused = (x for x in self._pending.values() if x.shape[-1] == tokens)
        return self._hidden + [f"a softmax of shape {tuple(x.shape)}" for x in unused]

    def _used(self, x: Any) -> Any:
        """Return a factor of a product, through `use` if it is the weights of an attention."""
        return x if self._pending.pop(id(x), None) is None else self._use(x)

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **more: Any) -> Any:
        """Return what `scaled_dot_product_attention` does in evaluation mode, (...,Q,C)."""
        if more.pop("enable_gqa", False):
            groups = query.shape[-3] // key.shape[-3]
            key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
        return self._use(_weights(query, key, *args, **more)) @ value

    def _multi_head(self, given: SimpleNamespace) -> tuple[Tensor, Tensor | None]:
        """Return what `multi_head_attention_forward` does, for inputs (Q,N,C) and (T,N,C)."""
        of_each = given.q_proj_weight, given.k_proj_weight, given.v_proj_weight
        weights = of_each if given.use_separate_proj_weight else given.in_proj_weight.chunk(3)
        biases = [None] * 3 if given.in_proj_bias is None else given.in_proj_bias.chunk(3)
        inputs = given.query, given.key, given.value
        projected = (F.linear(*each) for each in zip(inputs, weights, biases, strict=True))
        by_head = (x.view(*x.shape[:2], given.num_heads, -1).permute(1, 2, 0, 3) for x in projected)
        query, key, value = by_head  # each (N,H,T,C/H)
        used = self._use(_weights(query, key))
        joined = (used @ value).permute(2, 0, 1, 3).flatten(2)
        shown = used.mean(1) if given.average_attn_weights else used
        result = F.linear(joined, given.out_proj_weight, given.out_proj_bias)
        return result, shown if given.need_weights else None


def _weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return the weights (...,Q,T) of `scaled_dot_product_attention` for these arguments."""
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return at_least_float32(scores).softmax(-1).to(query.dtype)


def _may_be_weights(result: Tensor, dim: int | None = None, *_: Any, **kwargs: Any) -> bool:
    """Return whether the result of a softmax may be the weights of an attention."""
    return result.ndim in (3, 4) and dim in (-1, result.ndim - 1)


def _arguments(args: Any, kwargs: dict[str, Any]) -> SimpleNamespace:
    bound = _MULTI_HEAD.bind(*args, **kwargs)
    bound.apply_defaults()
    return SimpleNamespace(**bound.arguments)


def _is_given(arguments: SimpleNamespace, name: str) -> bool:
    value = getattr(arguments, name)
    return value is not None and value is not False
