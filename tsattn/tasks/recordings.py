"""What both recording tasks share: the contract with their data, whom they were trained on, masks, the optimiser."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from tsattn import messages
from tsattn.contracts import RecordingBatch, SegmentNetwork, SignalSpec
from tsattn.recordings.domain import merged
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.preparation.preset import differences
from tsattn.tasks.optim import Decay, adamw, decay_groups
from tsattn.tasks.task import Task, of_processes

Contract = Literal["keep", "adopt"]
CARRIED = ("postprocessing", "fitted", "pretrained_on", "trained_on", "validated_on")  # from one training to the next


class RecordingTask(Task):
    """Base of the tasks on recordings; arguments as in `PretrainTask`.

    A subclass has `body`, and `learn_of` for whom it is trained on.

    Attributes:
        past: What the checkpoint that this run starts from says of its data.
        own_settings: Names of the task's arguments that must not change when a run goes on.
    """

    weights_option = "checkpoint"
    rate_by_step = True
    own_settings: ClassVar[tuple[str, ...]] = ()
    spec: SignalSpec | None

    def __init__(self, lr: float, warmup: float, weight_decay: float, decay: Decay, contract: Contract) -> None:
        super().__init__(lr)
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is {warmup:g}, expected a share of the steps, 0 or more and below 1.")
        self.warmup, self.weight_decay, self.decay, self.contract = warmup, weight_decay, decay, contract
        self.past: SignalSpec | None = None

    @property
    def body(self) -> SegmentNetwork:
        """The network that reads recordings."""
        raise NotImplementedError

    @property
    def has_data(self) -> bool:
        """Whether a `RecordingDataModule` gives the batches, which knows the recordings; plain loaders do not."""
        return isinstance(getattr(self.trainer, "datamodule", None), RecordingDataModule)

    @property
    def data(self) -> RecordingDataModule:
        """The recordings."""
        data: RecordingDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    def check_options(self, data: RecordingDataModule) -> None:
        """Refuse what was asked of the data and this task cannot take; no recording is opened for it.

        Raises:
            ValueError: Naming the option.
        """

    def prepare_data(self) -> None:
        """Check the options before recordings are opened: Lightning calls this first."""
        if self.has_data:
            self.check_options(self.data)

    def setup(self, stage: str) -> None:
        """Compare the data with the network and with the contract, and take down whom it is trained on.

        Of batches from plain loaders nothing is known to compare.
        """
        if not self.has_data:
            self.spec = self.spec or self.past
            return
        self.check_options(self.data)
        check_geometry(self.body, self.data)
        self.settings = self.settings_with(self.data)
        before = self.spec or self.past
        agreed = agree(before, self.data.spec, self.contract if stage == "fit" else "keep")
        carried = {} if before is None else {name: getattr(before, name) for name in CARRIED}
        self.spec = replace(agreed, **carried)
        if before is not None and (stage != "fit" or before.trained_on):  # what a detector has learned of, it keeps
            domain = before.domain
            if domain and agreed.domain and stage == "fit":
                domain = merged(domain, agreed.domain)
            self.spec = replace(self.spec, domain=domain)
        if stage == "fit":
            self.spec = self.learn_of(self.spec, subjects(self.data, "train"), subjects(self.data, "val"))

    def learn_of(self, spec: SignalSpec, train: tuple[str, ...], val: tuple[str, ...]) -> SignalSpec:
        """Return the specification with the subjects of this training in it."""
        raise NotImplementedError

    def expect_same_data(self, before: SignalSpec) -> None:
        """Raise ValueError if a run that goes on had recordings that were prepared in another way."""
        assert self.spec is not None
        agree(before, self.spec, "keep")

    def settings_with(self, data: Any) -> dict[str, Any]:
        """Return what must not change when a run goes on, of the task and of the data."""
        plain = {name: getattr(self, name) for name in (*self.own_settings, "lr", "warmup", "weight_decay", "decay")}
        names = ("batch_size", "seed", "balance", "windows_per_epoch", "near_seconds", "more_channels")
        plain |= {name: getattr(data, name) for name in names}
        plain |= {"label": data.labelling.rule, "gaps": data.windowing.gaps, "stride": data.windowing.stride_seconds}
        plain |= {f"{part}_subjects": list(subjects(data, part)) for part in ("train", "val")}
        return plain | self.settings_of_trainer(length=True) | {"processes": self.trainer.world_size}

    def configure_optimizers(self) -> Any:
        """Return AdamW, with a warm-up and half a cosine, step by step."""
        total = int(self.trainer.estimated_stepping_batches)
        groups = decay_groups(self.network, self.weight_decay, self.decay)
        fused = not str(self.trainer.precision).endswith("mixed")  # Lightning clips no gradients of a fused one then
        return adamw(groups, self.lr, round(self.warmup * total), total, fused=fused)


def masks(
    batch: RecordingBatch,
) -> tuple[Bool[Tensor, "batch channel"] | None, Bool[Tensor, "batch segment channel"] | None]:
    """Return the channel mask and the observed segments; None where nothing is masked, which is faster."""
    channels = None if bool(batch.channel_mask.all()) else batch.channel_mask
    missing = batch.channel_mask[:, None] & ~batch.observed
    return channels, batch.observed if bool(missing.any()) else None


def real_tokens(batch: RecordingBatch) -> Bool[Tensor, "batch segment channel"]:
    """Return which tokens of a batch stand for something that was recorded."""
    return batch.observed & batch.channel_mask[:, None]


def subjects(data: RecordingDataModule, part: str) -> tuple[str, ...]:
    """Return the pseudonyms of the subjects of a part."""
    spans = [span.recording for span in data.audited.spans if span.part == part]
    return tuple(sorted({item.subject for item in data.recordings if item.id in spans}))


def check_geometry(network: SegmentNetwork, data: RecordingDataModule) -> None:
    """Raise ValueError if windows are not as long, or not at the rate, that the network was made for."""
    own = {"sfreq": network.sfreq, "segment_seconds": network.segment_seconds, "segments": network.segments}
    there = {
        "sfreq": data.sfreq,
        "segment_seconds": data.windowing.segment_seconds,
        "segments": data.windowing.segments,
    }
    different = [f"{name} is {there[name]:g} in the data and {own[name]:g} in the network" for name in own
                 if abs(there[name] - own[name]) > 1e-9]  # fmt: skip
    if different:
        raise ValueError(
            f"The network and the data do not fit: {'; '.join(different)}. Recordings are brought to a rate by "
            f"`tsattn recordings prepare --sfreq {own['sfreq']:g}`."
        )


def agree(spec: SignalSpec | None, data: SignalSpec, contract: Contract = "keep") -> SignalSpec:
    """Return the contract for a network that is to be trained on some data.

    Args:
        spec: Of the checkpoint that it starts from; None for a network without a past.
        data: Of the data.
        contract: "keep" refuses data that were prepared in another way than the checkpoint's; "adopt" takes the
            data's way from now on.

    Raises:
        ValueError: Naming every difference.
    """
    if contract not in ("keep", "adopt"):
        raise ValueError(f"contract is {contract!r}, expected keep or adopt.")
    different = [] if spec is None else differences(spec.preparation, data.preparation)
    if different and contract == "keep":
        raise ValueError(
            f"The recordings break the checkpoint's contract: {'; '.join(different)}. Prepare them as it says"
            + (
                f", or take their way from now on by `{messages.option('contract', 'adopt')}`."
                if messages.has("contract")
                else "."
            )
        )
    return data


def gathered(columns: list[Tensor]) -> list[Tensor]:
    """Return columns of all processes, one after the other, on the CPU."""
    every = of_processes([column.detach().cpu() for column in columns])
    return [torch.cat(parts) for parts in zip(*every, strict=True)]
