"""The draft of a conversion: what is known of the model, and the edits collected so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import fx, nn

from coarsegrad.nn.edits import Edit, Exchange, Insert, NewForward
from coarsegrad.nn.flow import Flow
from coarsegrad.nn.plan import Change
from coarsegrad.nn.rewrite import Rewrite, generate
from coarsegrad.nn.trace import Place, Traced


@dataclass
class Draft:
    """A conversion in the making; nothing here touches the model."""

    model: nn.Module
    traced: Traced
    flow: Flow
    changes: list[Change] = field(default_factory=list)
    kept: list[Change] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    rewrites: dict[str, Rewrite] = field(default_factory=dict)

    def slots(self, module: nn.Module) -> list[tuple[nn.Module, str]]:
        """Return every (parent, key) under which the model holds ``module``."""
        return [
            (parent, key)
            for parent in self.model.modules()
            for key, child in parent._modules.items()
            if child is module
        ]

    def original(self, node: fx.Node) -> nn.Module:
        """Return the user's module that a node calls."""
        return self.model.get_submodule(str(node.target))

    def exchange(self, name: str, old: nn.Module, new: nn.Module) -> None:
        """Note that ``new`` takes the place of ``old`` everywhere."""
        self.edits.append(Exchange(self.slots(old), name, old, new))

    def slot_of(self, place: Place) -> tuple[nn.Sequential, str] | None:
        """Return the child of an ``nn.Sequential`` that runs at ``place``, or None elsewhere."""
        owner = self.model.get_submodule(place.owner)
        if isinstance(owner, nn.Sequential) and type(owner).forward is nn.Sequential.forward:
            return owner, list(owner._modules)[place.number]
        return None

    def remove(self, node: fx.Node) -> None:
        """Note that one use of an activation goes."""
        place = self.traced.place(node)
        slot = self.slot_of(place)
        if slot is None:
            self.rewrites.setdefault(place.owner, Rewrite()).removed.append(place.number)
            return
        name = f"{place.owner}.{slot[1]}".lstrip(".")
        old = self.original(node)
        self.edits.append(Exchange([slot], name, old, nn.Identity().train(old.training)))

    def insert_norm(self, node: fx.Node, norm: nn.Module, *, before: bool) -> str:
        """Note that ``norm`` comes right before or behind a layer's node; return its name."""
        place = self.traced.place(node)
        slot = self.slot_of(place)
        suffix = "input_norm" if before else "norm"
        if slot is not None:
            parent, neighbour = slot
            key = _free(f"{neighbour}_{suffix}", parent, {})
            name = f"{place.owner}.{key}".lstrip(".")
            self.edits.append(Insert(parent, name, key, neighbour, before, norm))
            return name
        rewrite = self.rewrites.setdefault(place.owner, Rewrite())
        path = str(node.target).removeprefix(f"{place.owner}.").replace(".", "_")
        owner = self.model.get_submodule(place.owner)
        key = _free(f"{path}_{suffix}", owner, rewrite.added)
        (rewrite.norms_before if before else rewrite.norms_behind)[place.number] = key
        rewrite.added[key] = norm
        return f"{place.owner}.{key}".lstrip(".")

    def generate_forwards(self) -> None:
        """Generate the forwards that have to change, and note them.

        Raises:
            ConvertError: one cannot be generated.
        """
        for owner, rewrite in self.rewrites.items():
            module = self.model.get_submodule(owner)
            frames = [frame for frame in self.traced.frames if frame.owner == owner]
            made = generate(module, self.traced.root.get_submodule(owner), frames, rewrite)
            self.edits.append(NewForward(module, owner, made, rewrite.added))
            parts = [f"norms called: {len(rewrite.added)}"] * bool(rewrite.added)
            parts += [f"activations removed: {len(rewrite.removed)}"] * bool(rewrite.removed)
            title = owner or type(module).__name__
            self.changes.append(Change(title, "forward", "generated forward", ", ".join(parts)))


def _free(key: str, parent: nn.Module, taken: dict[str, nn.Module]) -> str:
    """Return ``key``, or the first of ``key_2``, ``key_3`` ... that nothing has yet."""
    name, count = key, 1
    while hasattr(parent, name) or name in taken:
        count += 1
        name = f"{key}_{count}"
    return name
