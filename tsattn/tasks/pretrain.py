"""Pre-training on recordings without labels: predict the next segment's token (Carzaniga et al., 2025).

Ours; the objective is in `contrastive.py`. The authors' validation cannot run; ours scores the same objective with
negatives that are the same in every epoch, and similarities beside those of a prediction that nothing changes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchmetrics import MeanMetric

from tsattn import checkpoint as files
from tsattn.contracts import RecordingBatch, SegmentNetwork, SignalSpec
from tsattn.recordings.places import revealed
from tsattn.tasks.contrastive import Contrast, Objective, contrast, draw_corrected, draw_reference
from tsattn.tasks.optim import Decay
from tsattn.tasks.recordings import Contract, RecordingTask, masks, real_tokens

VALIDATION_SEED = 20_250_620
STEPS = (1, 2)  # segments ahead, of the similarities


class PretrainTask(RecordingTask):
    """Train a recording network to tell the next segment from others.

    Args:
        network: What is trained, with a head for pre-training.
        objective: "corrected": negatives are all recorded segments of the batch, so of other subjects where there are
            some. "reference": as the authors draw them, without the last row; needs two rows, so that a last batch of
            one is drawn as "corrected".
        negatives: Of each token.
        temperature: Of the cosine.
        lr: Largest learning rate.
        warmup: Share of the steps in which it rises.
        weight_decay: Of AdamW.
        decay: "matrices": of linear maps only. "all": as the authors' optimiser has it, norms and tables, too.
        checkpoint: Start from these weights: an exported folder, or a `.ckpt` of a run.
        contract: "keep" refuses recordings that were prepared in another way than the checkpoint's; "adopt" takes
            theirs.

    Raises:
        ValueError: If a number is out of range, or the checkpoint does not fit the network.
    """

    shown = ("val_loss", "val_accuracy", "val_cosine_1", "val_persistence_1", "val_cosine_2", "val_persistence_2")
    own_settings = ("objective", "negatives", "temperature")
    network: SegmentNetwork

    def __init__(
        self,
        network: SegmentNetwork,
        objective: Objective = "corrected",
        negatives: int = 30,
        temperature: float = 0.1,
        lr: float = 1e-4,
        warmup: float = 0.1,
        weight_decay: float = 0.01,
        decay: Decay = "matrices",
        checkpoint: Path | None = None,
        contract: Contract = "keep",
    ) -> None:
        super().__init__(lr, warmup, weight_decay, decay, contract)
        if objective not in ("corrected", "reference"):
            raise ValueError(f"objective is {objective!r}, expected corrected or reference.")
        if negatives < 1:
            raise ValueError(f"negatives is {negatives}, expected at least 1.")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature:g}, expected above 0.")
        self.network = network.train()
        self.objective, self.negatives, self.temperature = objective, negatives, temperature
        if checkpoint is not None:
            checkpoint = revealed(checkpoint)
            self.past = self.load_weights(checkpoint)
            self.about["started_from"] = files.digest(checkpoint)
        self.scores: dict[str, MeanMetric] = {}

    @property
    def body(self) -> SegmentNetwork:
        """The network."""
        return self.network

    def setup(self, stage: str) -> None:
        """Compare the data with the network, the contract and the objective."""
        super().setup(stage)
        if not self.has_data:
            return
        sizes = self.data.batch_size, self.data.eval_batch_size or self.data.batch_size
        if self.objective == "reference" and min(sizes) < 2:
            raise ValueError(
                f"objective='reference' takes negatives from all rows but the last, and batches have {min(sizes)}: "
                "pass objective='corrected', or batch_size 2 or more."
            )

    def learn_of(self, spec: SignalSpec, train: tuple[str, ...], val: tuple[str, ...]) -> SignalSpec:
        """Return the specification with this training's subjects among those of pre-training."""
        return replace(spec, pretrained_on=tuple(sorted({*spec.pretrained_on, *train})))

    # ---- the loops

    def forward(
        self, batch: RecordingBatch
    ) -> tuple[Float[Tensor, "batch segment channel d_model"], Float[Tensor, "batch segment channel d_model"]]:
        """Return the predictions of the segments after each one, and the tokens."""
        channel_mask, observed = masks(batch)
        tokens = self.network.encode(batch.signal)
        return self.network.predict_next(self.network.mix(tokens, channel_mask, observed)), tokens

    def compare(
        self, prediction: Tensor, tokens: Tensor, real: Tensor, generator: torch.Generator | None = None
    ) -> Contrast:
        """Return loss and accuracy of a batch; padded channels and gaps are neither asked for nor drawn."""
        if self.objective == "reference" and len(tokens) > 1:  # an epoch's rest may be one row: it asks itself
            shape = (tokens.shape[0], tokens.shape[1], tokens.shape[2])
            drawn = draw_reference(shape, self.negatives, tokens.device, generator)
        else:
            drawn = draw_corrected(real, self.negatives, generator)
        return contrast(prediction, tokens, drawn, self.temperature, real)

    def training_step(self, batch: RecordingBatch, index: int) -> Tensor:
        """Return the loss."""
        prediction, tokens = self(batch)
        return self.count(self.compare(prediction, tokens, real_tokens(batch)).loss)

    def on_validation_epoch_start(self) -> None:
        """Start the scores."""
        self.scores = {name: MeanMetric().to(self.device) for name in self.shown}

    def validation_step(self, batch: RecordingBatch, index: int) -> None:
        """Add one batch."""
        prediction, tokens = self(batch)
        real = real_tokens(batch)
        generator = torch.Generator(tokens.device).manual_seed(VALIDATION_SEED + index)
        found = self.compare(prediction, tokens, real, generator)
        rows = found.counted.sum()
        self.scores["val_loss"].update(found.loss, rows)
        self.scores["val_accuracy"].update(found.accuracy, rows)
        for steps in STEPS:
            both = real[:, steps:] & real[:, :-steps]
            for name, vectors in (("cosine", prediction), ("persistence", tokens)):
                self.scores[f"val_{name}_{steps}"].update(similarity(vectors, tokens, steps)[both])

    def on_validation_epoch_end(self) -> None:
        """Log the scores: mean loss, retrieval accuracy, similarities one and two segments ahead."""
        self.log_dict({name: score.compute() for name, score in self.scores.items()}, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Start the scores."""
        self.on_validation_epoch_start()

    def test_step(self, batch: RecordingBatch, index: int) -> None:
        """Add one batch."""
        self.validation_step(batch, index)

    def report(self) -> dict[str, Any]:
        """Return the scores of the last validation or test by name."""
        return {name.removeprefix("val_"): float(score.compute()) for name, score in self.scores.items()}


def similarity(
    prediction: Float[Tensor, "batch segment channel d_model"],
    tokens: Float[Tensor, "batch segment channel d_model"],
    steps: int,
) -> Float[Tensor, "batch pair channel"]:
    """Return the cosine between what is predicted at a segment and the token some segments later."""
    return F.cosine_similarity(prediction[:, :-steps], tokens[:, steps:], dim=-1, eps=1e-8)
