"""A detector that is small and untrained but far from indifferent, and recordings for it."""

from typing import Any

import numpy as np
import torch

from tsattn.contracts import SignalSpec
from tsattn.detection.detector import Detector
from tsattn.events.detect import PostProcessing
from tsattn.layers.classifier import SegmentClassifier
from tsattn.models.mvpformer import MVPFormer
from tsattn.recordings.preparation.preset import Preset, make_preset
from tsattn.recordings.recording import Recording, from_array

SFREQ = 32.0
SEGMENTS = 4
PRESET: Preset = make_preset("swec", sfreq=SFREQ, band=(0.5, 12.0))
FITTED = PostProcessing(smoothing=2.0, threshold=0.55, low=0.45, merge_gap=3.0, min_duration=2.0)


def classifier(*, lora_rank: int = 0, seed: int = 0, **changes: Any) -> SegmentClassifier:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = dict(d_model=16, layers=2, heads=2, kv_heads=1, d_ff=16, positions=8, max_channels=12)
    network = MVPFormer(sfreq=SFREQ, segment_seconds=1.0, segments=SEGMENTS, **(sizes | changes))
    made = SegmentClassifier(network, lora_rank=lora_rank)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "attention" in name or "table" in name or "lora" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        made.head.weight.mul_(6.0)
    return made.eval()


def detector(spec: dict[str, Any] | None = None, **network: Any) -> Detector:
    told = SignalSpec(PRESET.to_json(), postprocessing=FITTED.to_dict(), validated_on=("sub-v",), **(spec or {}))
    return Detector(classifier(**network), told, {"checkpoint": {"file": "none", "sha256": "0" * 64}})


def values(channels: int = 5, seconds: float = 60.0, sfreq: float = SFREQ, seed: int = 0) -> np.ndarray:
    """Noise, and rhythms that come and go, in microvolts."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sfreq)) / sfreq
    rhythm = np.where(time % 16 < 6, np.sin(2 * np.pi * 3 * time), 0)
    return 30 * rng.normal(size=(channels, len(time))) + 80 * rng.uniform(0.5, 1, (channels, 1)) * rhythm


def prepared(x: np.ndarray, **rest: Any) -> Recording:
    """A recording at the network's rate that says it is prepared as the detector wants it."""
    about = {"provenance": {"preset": PRESET.to_json()}}
    return from_array(x.astype(np.float32), SFREQ, about=about, **rest)
