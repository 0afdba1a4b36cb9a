"""What every optimizer here shares: groups, state, checkpoints, and the choice of a path.

A rule states its defaults, its state and its arithmetic; this file runs it tensor by tensor, in
lists (``foreach``), traced by ``torch.compile``, or in one native pass (``fused``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from coarsegrad.optim import checks, fused, records
from coarsegrad.optim.paths import FOREACH, SINGLE, TRACED, Ops

FLAGS: dict[str, Any] = {
    "foreach": None, "maximize": False, "capturable": False, "fused": None, "diagnostics": False,
}  # fmt: skip


@dataclass
class Batch:
    """The tensors of one group that step together; entry i of every list is one parameter's.

    Attributes:
        group: the hyper-parameters.
        params: the parameters.
        grads: their gradients, never written.
        state: name -> state tensors; a name that this group does not use is missing.
    """

    group: dict[str, Any]
    params: list[Tensor]
    grads: list[Tensor]
    state: dict[str, list[Tensor]]

    def take(self, which: list[int]) -> Batch:
        """Return the batch of some of the parameters."""
        return Batch(
            self.group,
            [self.params[i] for i in which],
            [self.grads[i] for i in which],
            {name: [column[i] for i in which] for name, column in self.state.items()},
        )


class Rule(torch.optim.Optimizer):
    """Abstract: an optimizer whose arithmetic is written once, against ``Ops``.

    A subclass gives ``_check``, ``_columns``, ``_new_state`` and ``_eager``, and ``_fused`` and
    ``_observe`` if it has them. Everything that ``step`` needs is in groups and state: copies,
    pickles and groups added later just work.
    """

    #: Whether weights are +-1 and steps are flips, so that averages of weights mean nothing.
    flips: ClassVar[bool] = False

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        defaults = {**FLAGS, **defaults}
        self._check(defaults)
        super().__init__(params, defaults)

    def bounds_latents(self, group: dict[str, Any]) -> bool:
        """Return whether every step leaves a group's weights in a box, or at -1 and +1.

        ``inspect.check`` asks any optimizer that has this method; torch's own have none.
        """
        return self.flips or (group.get("box") is not None and group.get("binary", True))

    def _check(self, group: dict[str, Any]) -> None:
        """Raise ValueError for the first hyper-parameter out of range."""
        raise NotImplementedError

    def _columns(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of the state tensors besides ``step``."""
        raise NotImplementedError

    def _new_state(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """Return the state tensors besides ``step`` at their start: zeros unless overridden."""
        return {name: zeros(parameter) for name in self._columns(group)}

    def _eager(self, ops: Ops, batch: Batch, shared: Any) -> None:
        """Update parameters and state; ``batch.params`` have the dtype of the state."""
        raise NotImplementedError

    def _fused(self, batch: Batch, shared: Any, record: list[Tensor] | None) -> bool:
        """Do the step in one native pass and return True, or False if there is none."""
        return False

    def _shared(self, batches: list[Batch]) -> Any:
        """Return what a step needs to know of all gradients at once."""
        return None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, checking its options as ``__init__`` checks the defaults."""
        self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; its tensors keep their dtype, so that resuming is bit-exact.

        torch casts every state tensor but ``step`` to its parameter's dtype.
        """
        super().load_state_dict(state_dict)
        keep_dtypes(self, state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; return the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        batches = [self._batch(group) for group in self.param_groups]
        shared = self._shared(batches)
        for batch in batches:
            if batch.params:
                self._step_batch(batch, shared)
        return loss

    def _batch(self, group: dict[str, Any]) -> Batch:
        names = ("step", *self._columns(group))
        params: list[Tensor] = []
        grads: list[Tensor] = []
        columns: list[list[Tensor]] = [[] for _ in names]
        self._init_group(group, params, grads, *columns)
        return Batch(group, params, grads, dict(zip(names, columns, strict=True)))

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        *columns: list[Tensor],
    ) -> None:
        """Fill the lists, making missing state; torch.compile runs this by name, untraced."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse or grad.is_complex():
                kind = "sparse" if grad.is_sparse else "complex"
                raise RuntimeError(f"{type(self).__name__} does not support {kind} gradients")
            params.append(p)
            grads.append(grad)
        names = ("step", *self._columns(group))
        needed, kept = frozenset(names), self.state
        states = [kept[p] for p in params]
        for p, state in zip(params, states, strict=True):
            # A group edited between steps may want more than it has: momentum, say.
            if not state.keys() >= needed:
                made = {"step": _counter(p, group), **self._new_state(p, group)}
                state.update({name: x for name, x in made.items() if name not in state})
        for name, column in zip(names, columns, strict=True):
            column.extend([state[name] for state in states])

    def _step_batch(self, batch: Batch, shared: Any) -> None:
        group = batch.group
        if torch.compiler.is_compiling() or group["capturable"]:
            self._run(TRACED, batch, shared)
        elif group["foreach"] or (group["foreach"] is None and batch.params[0].is_cuda):
            for part in _alike(batch):
                self._run(FOREACH, part, shared)
        else:
            left = batch if group["fused"] is False else self._native(batch, shared)
            if left.params:
                self._run(SINGLE, left, shared)

    def _native(self, batch: Batch, shared: Any) -> Batch:
        """Step what the native module can step; return the rest."""
        fit = fused.fitting(batch.params, batch.grads, batch.state)
        if not fit:
            return batch
        inside = batch if len(fit) == len(batch.params) else batch.take(fit)
        record = self._records(inside)
        if not self._fused(inside, shared, record):
            return batch
        chosen = set(fit)
        return batch.take([i for i in range(len(batch.params)) if i not in chosen])

    def _run(self, ops: Ops, batch: Batch, shared: Any) -> None:
        group = batch.group
        record = self._records(batch)
        if record is not None and ops is TRACED:
            raise RuntimeError("diagnostics cannot be traced; set the group's diagnostics to False")
        steps = batch.state["step"]
        torch._foreach_add_(steps, 1)
        dtypes = [working_dtype(p) for p in batch.params]
        params = [p.to(dtype) for p, dtype in zip(batch.params, dtypes, strict=True)]
        grads = [g.to(dtype) for g, dtype in zip(batch.grads, dtypes, strict=True)]
        if group["maximize"]:
            grads = [-g for g in grads]
        work = Batch(group, params, grads, batch.state)
        watch = None if record is None else records.Watch(work)
        self._eager(ops, work, shared)
        for p, w in zip(batch.params, params, strict=True):
            if p is not w:
                p.copy_(w)
        if record is not None and watch is not None:
            watch.write(record, work, self._limits)

    def _limits(self, batch: Batch, i: int, watch: records.Watch) -> records.Limits:
        """Return what a record tells of parameter i besides its flips."""
        return records.Limits()

    def _records(self, batch: Batch) -> list[Tensor] | None:
        if not batch.group["diagnostics"]:
            return None
        # Of use to people only, so not a part of the state: a copy or a resumed run begins anew.
        kept = self.__dict__.setdefault("_kept_records", {})
        for i, p in enumerate(batch.params):
            if p not in kept:
                bounds = batch.state.get("bounds")
                kept[p] = records.blank(bounds[i][0].numel() if bounds else 1)
        return [kept[p] for p in batch.params]

    def diagnostics(self) -> dict[str, dict[str, float]]:
        """Return what the last step did, by parameter name and in ``"total"``.

        Keys, where they apply: ``rho``, the relative quantization error; ``at_lower`` and
        ``at_upper``, shares of elements at the bounds c_l and c_u (or at the rate's bounds);
        ``flips``, share of weights whose sign changed; ``upsilon_negative``, share with
        sqrt(v_t)/eta_t below its value one step before. ``total`` weighs by elements.

        Raises:
            RuntimeError: no group has ``diagnostics=True``, or no step was done.
        """
        return records.summary(self.param_groups, self.__dict__.get("_kept_records", {}))


def working_dtype(parameter: Tensor) -> torch.dtype:
    """Return the dtype a parameter is updated in: float32 for 16-bit floats, else its own."""
    return torch.float32 if parameter.dtype in (torch.float16, torch.bfloat16) else parameter.dtype


def zeros(parameter: Tensor) -> Tensor:
    """Return zeros of the parameter's shape and strides, in its working dtype."""
    return torch.zeros_like(
        parameter, dtype=working_dtype(parameter), memory_format=torch.preserve_format
    )


def number(value: Any, ops: Ops) -> Any:
    """Return a hyper-parameter as a float, or as it is where the path is traced."""
    return value if ops.name == "traced" or not isinstance(value, Tensor) else value.item()


def counts(ops: Ops, batch: Batch) -> list[Any]:
    """Return each parameter's step count t: floats, or 0-d float64 tensors where traced."""
    if ops.name == "traced":
        return [step.double() for step in batch.state["step"]]
    return [step.item() for step in batch.state["step"]]


def _counter(parameter: Tensor, group: dict[str, Any]) -> Tensor:
    dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    device = parameter.device if group["capturable"] else torch.device("cpu")
    return torch.zeros((), dtype=dtype, device=device)


def keep_dtypes(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Put the tensors of a loaded state back in the dtype they were saved in, as copies.

    torch shares ``step`` with the state dict: two optimizers that load one would count together.
    """
    ids = [i for group in state_dict["param_groups"] for i in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, parameter in zip(ids, parameters, strict=True):
        loaded = optimizer.state[parameter] if i in state_dict["state"] else {}
        for key, value in state_dict["state"].get(i, {}).items():
            if isinstance(value, Tensor):
                step = key == "step"
                loaded[key] = loaded[key].clone() if step else _as_laid_out(value, parameter)


def _as_laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    value = value.to(parameter.device, copy=True)
    if value.shape == parameter.shape and value.stride() != parameter.stride():
        value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value


def _alike(batch: Batch) -> list[Batch]:
    parts: dict[Any, list[int]] = {}
    for i, (p, g) in enumerate(zip(batch.params, batch.grads, strict=True)):
        parts.setdefault((p.device, p.dtype, g.dtype), []).append(i)
    return [batch.take(which) for which in parts.values()]


__all__ = ["FLAGS", "Batch", "Rule", "checks", "counts", "number", "working_dtype", "zeros"]
