"""Values of next-token laws, some rows at a time: the logits of a whole batch are never there at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ROWS = 128
"""The most rows in a block, twice as many in a type of half the size, whose products are faster: with fewer, reading
and writing the head takes longer than the product."""


@dataclass(frozen=True)
class Laws:
    """The next-token laws of a batch, not computed yet: ``states_BLD`` and the head that makes logits of them.

    Logits are ``states weight' + bias``, computed in ``dtype`` (None: as they are). Without ``weight_VD`` the states
    are the logits themselves. ``adds``: a backward pass adds the head's gradient to what ``weight_VD.grad`` holds, in
    place; only for ``backward``, where nothing but the sum is looked at.
    """

    states_BLD: Tensor
    weight_VD: Tensor | None = None
    bias_V: Tensor | None = None
    dtype: torch.dtype | None = None
    adds: bool = False

    @property
    def shape(self) -> torch.Size:
        """That of the logits, (B, L, V)."""
        vocabulary = self.states_BLD.shape[-1] if self.weight_VD is None else self.weight_VD.shape[0]
        return torch.Size((*self.states_BLD.shape[:-1], vocabulary))

    def dim(self) -> int:
        """That of the logits."""
        return self.states_BLD.dim()

    def cut(self, rows: slice, positions: slice) -> Laws:
        """Those of some rows and positions."""
        return replace(self, states_BLD=self.states_BLD[rows, positions])

    def detach(self) -> Laws:
        """The same as constants."""
        weight, bias = (None if t is None else t.detach() for t in (self.weight_VD, self.bias_V))
        return replace(self, states_BLD=self.states_BLD.detach(), weight_VD=weight, bias_V=bias)

    def logits(self) -> Tensor:
        """All of them, (B, L, V)."""
        return self._of(self.states_BLD)

    def __getitem__(self, places: tuple[Tensor, ...]) -> Tensor:
        """The logits at some places (examples, positions), in at least float32; shape (n, V)."""
        logits = self._of(self.states_BLD[places])
        return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()

    def ready(self) -> Laws:
        """With the head in the type that is computed in, so that it is turned to it once."""
        return replace(self, weight_VD=None if self.weight_VD is None else self.weight_VD.to(self.dtype))

    def _of(self, states: Tensor) -> Tensor:
        if self.weight_VD is None:
            return states
        dtype = self.dtype or self.weight_VD.dtype
        bias = None if self.bias_V is None else self.bias_V.to(dtype)
        return F.linear(states.to(dtype), self.weight_VD.to(dtype), bias)


def per_position(
    function: Callable[..., Tensor], laws: Laws | Tensor, mask_BL: Tensor, *others: Laws | Tensor
) -> Tensor:
    """``function`` of the law at each masked position, 0 elsewhere; shape (B, L).

    ``function`` takes logits (n, V) and what ``others`` have at the same positions, constants: logits of laws, values
    (n,) of tensors (B, L). Its value at a position depends on nothing else. What is kept for the backward pass are
    states and head, or the logits where these are given; all else is computed again, block by block. Where the head is
    not trained, the derivatives by the states are kept instead: they are as small, and nothing is computed twice.
    """
    laws = laws if isinstance(laws, Laws) else Laws(laws)
    places = mask_BL.nonzero(as_tuple=True)
    fixed = [(Laws(o) if isinstance(o, Tensor) and o.dim() == 3 else o).detach() for o in others]
    head = (laws.states_BLD, laws.weight_VD, laws.bias_V)
    values_N = _ByRows.apply(function, laws.dtype, laws.adds, places, fixed, *head)  # type: ignore[no-untyped-call]
    values_BL: Tensor = values_N.new_zeros(mask_BL.shape).index_put(places, values_N)
    return values_BL


class _ByRows(torch.autograd.Function):
    """The values at N places. Inputs without a gradient: the function, the head's type, the places, what is fixed."""

    @staticmethod
    def forward(ctx: Any, function: Any, dtype: Any, adds: bool, places: Any, others: Any, *head: Any) -> Tensor:
        laws = Laws(head[0], head[1], head[2], dtype).ready()
        needs_states, needs_weight, needs_bias = ctx.needs_input_grad[5:]
        ahead = needs_states and laws.weight_VD is not None and not (needs_weight or needs_bias)
        values, slopes = [], []
        for some in _blocks(places, laws):
            logits_nV, fixed = laws[some], [other[some] for other in others]
            if ahead:
                slope_nV, value_n = _slope(function, logits_nV, fixed, None)
                slopes.append(_times(slope_nV, laws))
                values.append(value_n)
            else:
                values.append(function(logits_nV, *fixed))
        ctx.function, ctx.dtype, ctx.adds, ctx.places, ctx.others = function, dtype, adds, places, others
        ctx.save_for_backward(*head, torch.cat(slopes) if slopes else None, None if slopes else laws.weight_VD)
        return torch.cat(values) if values else laws.states_BLD.new_zeros(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        *head, slopes_ND, ready_VD = ctx.saved_tensors
        laws, needs = Laws(head[0], ready_VD, head[2], ctx.dtype), list(ctx.needs_input_grad[5:])
        held = head[1].grad if ctx.adds and needs[1] and head[1].is_leaf else None
        needs[1] = needs[1] and held is None
        by_states, by_weight, by_bias = (torch.zeros_like(t) if n else None for t, n in zip(head, needs, strict=True))
        to_weight = by_weight if held is None else held
        if slopes_ND is not None:
            assert by_states is not None  # slopes are made where they are wanted
            by_states[ctx.places] = (grads[0].unsqueeze(1) * slopes_ND).to(by_states.dtype)
            return None, None, None, None, None, by_states, None, None
        for some, grad_n in zip(_blocks(ctx.places, laws), _blocks(grads, laws), strict=True):
            slope_nV, _ = _slope(ctx.function, laws[some], [other[some] for other in ctx.others], grad_n[0])
            if by_states is not None:
                by_states[some] = _times(slope_nV, laws).to(by_states.dtype)
            states_nD = laws.states_BLD[some]
            if to_weight is not None and laws.dtype is None:
                to_weight.addmm_(slope_nV.t(), states_nD)
            elif to_weight is not None:
                to_weight += slope_nV.t().to(laws.dtype) @ states_nD.to(laws.dtype)
            if by_bias is not None:
                by_bias += slope_nV.sum(dim=0)
        return None, None, None, None, None, by_states, by_weight, by_bias


def _slope(function: Any, logits_nV: Tensor, fixed: Any, grad_n: Tensor | None) -> tuple[Tensor, Tensor]:
    """The derivative of each value by its own logits, times ``grad_n`` where it is given; and the values."""
    with torch.enable_grad():
        value_n = function(logits_nV.requires_grad_(), *fixed)
    (slope_nV,) = torch.autograd.grad(value_n, logits_nV, torch.ones_like(value_n) if grad_n is None else grad_n)
    return slope_nV, value_n.detach()


def _times(slope_nV: Tensor, laws: Laws) -> Tensor:
    """Derivatives by logits as derivatives by states."""
    if laws.weight_VD is None:
        return slope_nV
    return slope_nV.to(laws.weight_VD.dtype) @ laws.weight_VD


def _blocks(tensors_N: tuple[Tensor, ...], laws: Laws) -> Iterator[tuple[Tensor, ...]]:
    """Parallel tensors in blocks of about one size."""
    rows = BLOCK_ROWS * (2 if laws.dtype is not None and laws.dtype.itemsize == 2 else 1)
    count = max(1, -(-len(tensors_N[0]) // rows))
    return zip(*(tensor.tensor_split(count) for tensor in tensors_N), strict=True)
