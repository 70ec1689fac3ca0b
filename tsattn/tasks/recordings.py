"""What both recording tasks ask of their data: the contract of a checkpoint, and the masks of a batch."""

from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from tsattn.contracts import RecordingBatch, SegmentNetwork, SignalSpec
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.preparation.preset import differences
from tsattn.tasks.task import of_processes

Contract = Literal["keep", "adopt"]


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
            f"The recordings break the checkpoint's contract: {'; '.join(different)}. Prepare them as it says, or take "
            'their way from now on by contract="adopt" (on the command line --model.contract adopt).'
        )
    return data


def gathered(columns: list[Tensor]) -> list[Tensor]:
    """Return columns of all processes, one after the other, on the CPU."""
    every = of_processes([column.detach().cpu() for column in columns])
    return [torch.cat(parts) for parts in zip(*every, strict=True)]
