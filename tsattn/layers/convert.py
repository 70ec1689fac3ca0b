"""Taking an authors' state dict apart: every key is read, dropped with a reason, or reported as missing.

Ours. The key names of each source stand beside its model, in `from_authors`; `tsattn.convert` is the door.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tsattn.layers.patch import patch_count
from tsattn.messages import on_command_line

POSITION_TOLERANCE = 1e-5  # two float32 evaluations of the same sinusoid, position below 1000


@dataclass(frozen=True)
class KeyReport:
    """What became of one foreign key.

    Attributes:
        key: Name in the authors' state dict, without a prefix that was stripped.
        fate: "used", "dropped" (then `detail` says why), or "missing" (and the caller allowed it).
        detail: Our names for it and whether its shape changed, or the reason.
    """

    key: str
    fate: Literal["used", "dropped", "missing"]
    detail: str


class Report(list[KeyReport]):
    """The fate of every foreign key, in the order of the state dict; as text, one line each and a sum."""

    def __str__(self) -> str:
        width = max((len(entry.key) for entry in self), default=0)
        lines = [f"{entry.fate:7}  {entry.key:{width}}  {entry.detail}" for entry in self]
        used, dropped, missing = (sum(entry.fate == fate for entry in self) for fate in ("used", "dropped", "missing"))
        return "\n".join([*lines, f"{used + dropped} keys: {used} used, {dropped} dropped, {missing} missing"])


@dataclass(frozen=True)
class Conversion:
    """Arguments and weights of our network, made from an authors' state dict.

    Attributes:
        class_path: Our class.
        init_args: Arguments from which to build it.
        state: Its state dict; loads strictly, but for `fresh`.
        report: The fate of every foreign key.
        fresh: Our names of tensors that stay as they were initialised, as the caller allowed.
    """

    class_path: str
    init_args: dict[str, Any]
    state: dict[str, Tensor]
    report: Report
    fresh: tuple[str, ...] = ()


def _ways(absent: list[str]) -> str:
    options = " ".join(f"--given.{name} ..." for name in absent)
    arguments = ", ".join(f"{name}=..." for name in absent)
    return f"pass {options}" if on_command_line() else f"pass {arguments} (on the command line {options})"


class Foreign:
    """An authors' state dict, read key by key.

    Args:
        state: As the authors saved it. A prefix "module." on every key (nn.DataParallel) is stripped.
        source: Name used in messages.
        given: What the caller said of the network, by our argument names.
        allow: Foreign keys that may be missing, or that may be there without a place.
    """

    def __init__(self, state: dict[str, Tensor], source: str, given: dict[str, Any], allow: Sequence[str] = ()) -> None:
        self.source = source
        parallel = bool(state) and all(key.startswith("module.") for key in state)
        self.state = {key.removeprefix("module."): value for key, value in state.items()} if parallel else dict(state)
        self.prefix = ' (prefix "module." stripped)' if parallel else ""
        self.ours: dict[str, Tensor] = {}
        self.report: dict[str, KeyReport] = {}
        self.missing: list[str] = []
        self.fresh: list[str] = []
        self.given = dict(given)
        self.allow = set(allow)

    def __contains__(self, key: str) -> bool:
        return key in self.state

    def count(self, pattern: str) -> int:
        """Return one more than the largest number that stands for `{}` in keys that begin with the pattern."""
        found = (re.match(re.escape(pattern).replace(r"\{\}", r"(\d+)"), key) for key in self.state)
        return max((int(match[1]) for match in found if match), default=-1) + 1

    def size(self, key: str, axis: int) -> int:
        """Return one axis of a tensor.

        Raises:
            ValueError: If the key is not there: without it nothing can be inferred.
        """
        if key not in self.state:
            raise ValueError(
                f'{self.source}: no key "{key}" among {len(self.state)}, expected a state dict of {self.source}.'
            )
        return self.state[key].shape[axis]

    def need(self, *names: str) -> None:
        """Refuse to guess what shapes do not tell.

        Raises:
            ValueError: If one of the names was not given.
        """
        absent = [name for name in names if name not in self.given]
        if absent:
            raise ValueError(
                f"{self.source}: {', '.join(absent)} not given, and no shape in the state dict tells. The authors' "
                f"script or config.json of this checkpoint does; {_ways(absent)}."
            )

    def only(self, **values: Any) -> None:
        """Take out of what was given what ours can be in one way only, and no shape tells of theirs.

        Raises:
            ValueError: If one of them was not given, or is another.
        """
        self.need(*values)
        for name, value in values.items():
            if self.given[name] != value:
                raise ValueError(
                    f"{self.source}: {name}={self.given[name]!r}, and this network has {name}={value!r} only: with "
                    "these weights it would compute something else."
                )
            del self.given[name]

    def agree(self, **inferred: Any) -> dict[str, Any]:
        """Return the arguments: what shapes told and what was given.

        Raises:
            ValueError: If the two contradict each other.
        """
        for name, value in inferred.items():
            if name in self.given and self.given[name] != value:
                raise ValueError(f"{self.source}: {name}={self.given[name]} given, expected {value} from the shapes.")
        return {**inferred, **self.given}

    def use(self, ours: str, keys: str | Sequence[str], change: Callable[..., Tensor] | None = None) -> None:
        """Make our tensor `ours` of the foreign `keys`: the one, `change` of them, or their concatenation."""
        keys = [keys] if isinstance(keys, str) else list(keys)
        absent = [key for key in keys if key not in self.state]
        if absent and self.allow.issuperset(absent):
            for key in absent:
                self.report[key] = KeyReport(key, "missing", f"{ours} stays as it was initialised, as allowed")
            self.fresh.append(ours)
            return
        self.missing += absent
        if absent:
            return
        tensors = [self.state[key] for key in keys]
        made = (change(*tensors) if change else torch.cat(tensors)).clone()
        self.ours[ours] = made
        for key in keys:
            before = f"{self.report[key].detail.removesuffix(self.prefix)}, " if key in self.report else ""
            shape = tuple(self.state[key].shape)
            reshaped = f" {shape} -> {tuple(made.shape)}" if len(keys) == 1 and shape != made.shape else ""
            self.report[key] = KeyReport(key, "used", f"{before}{ours}{reshaped}{self.prefix}")

    def linear(self, ours: str, keys: str | Sequence[str]) -> None:
        """Make a linear map of one foreign map (or of several, stacked); a trailing convolution axis of 1 goes."""
        keys = [keys] if isinstance(keys, str) else list(keys)
        self.use(f"{ours}.weight", [f"{k}.weight" for k in keys], lambda *w: torch.cat([x.flatten(1) for x in w]))
        self.use(f"{ours}.bias", [f"{k}.bias" for k in keys])

    def same(self, ours: str, theirs: str, names: Iterable[str] = ("weight", "bias")) -> None:
        """Take several tensors of one module as they are."""
        for name in names:
            self.use(f"{ours}.{name}", f"{theirs}.{name}", lambda x: x)

    def drop(self, key: str, why: str) -> None:
        """Leave a key behind, if it is there."""
        if key in self.state:
            self.report[key] = KeyReport(key, "dropped", why + self.prefix)

    def drop_positions(self, key: str, ours: Tensor) -> None:
        """Leave sinusoids behind, after comparing them with ours.

        Raises:
            ValueError: If they are others.
        """
        if key not in self.state:
            return
        theirs = self.state[key].reshape(-1, self.state[key].shape[-1])[: len(ours)]
        if theirs.shape != ours[: len(theirs)].shape or not torch.allclose(
            theirs.float(), ours[: len(theirs)], rtol=0, atol=POSITION_TOLERANCE
        ):
            raise ValueError(
                f'{self.source}: "{key}" holds other positions than sinusoids, expected those that we recompute.'
            )
        self.drop(key, "sinusoids, recomputed; equal to ours")

    def patches_fit(self, count: int, context: int, patch: int, stride: int, pad: int) -> None:
        """Compare the number of patches that the head reads with the arithmetic.

        Raises:
            ValueError: If they differ.
        """
        expected = patch_count(context, patch, stride, pad)
        if count != expected:
            raise ValueError(
                f"{self.source}: the head reads {count} patches, expected {expected} from context={context}, "
                f"patch={patch}, stride={stride} and {pad} steps of padding. Give the script's context and stride."
            )

    def post_norm_layer(self, ours: str, theirs: str) -> None:
        """Take one `EncoderLayer`, under the names that iTransformer and Time-Series-Library share."""
        self.linear(f"{ours}.attention.qkv", [f"{theirs}.attention.{x}_projection" for x in ("query", "key", "value")])
        self.linear(f"{ours}.attention.out", f"{theirs}.attention.out_projection")
        self.linear(f"{ours}.feedforward.up", f"{theirs}.conv1")
        self.linear(f"{ours}.feedforward.down", f"{theirs}.conv2")
        self.same(f"{ours}.norm1", f"{theirs}.norm1")
        self.same(f"{ours}.norm2", f"{theirs}.norm2")

    def flatten_head(self, ours: str, theirs: str, d_model: int) -> None:
        """Take a flatten head: theirs reads all tokens of a dimension, then the next one; ours a token at a time."""
        self.use(
            f"{ours}.weight", f"{theirs}.weight", lambda w: w.unflatten(1, (d_model, -1)).transpose(1, 2).flatten(1)
        )
        self.same(ours, theirs, ["bias"])

    def finish(self, class_path: str, init_args: dict[str, Any]) -> Conversion:
        """Return the result.

        Raises:
            ValueError: If keys are missing, or if some were neither used nor dropped.
        """
        for key in self.state:
            if key not in self.report and key in self.allow:
                self.drop(key, "has no place here, as allowed")
        if self.missing:
            names = list(dict.fromkeys(self.missing))
            raise ValueError(f"{self.source}: {len(names)} keys missing: {', '.join(names)}.")
        unknown = [key for key in self.state if key not in self.report]
        if unknown:
            raise ValueError(
                f"{self.source}: {len(unknown)} unknown keys: {', '.join(unknown)}; expected every key to have a place."
            )
        named = [*self.state, *(key for key in self.report if key not in self.state)]
        return Conversion(class_path, init_args, self.ours, Report(self.report[k] for k in named), tuple(self.fresh))
