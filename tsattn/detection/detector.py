"""A trained seizure detector and what it must know of its recordings: a recording in, events and probabilities out.

Research software: nothing it returns may guide the care of a patient.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from huggingface_hub import ModelHubMixin

import tsattn
from tsattn import checkpoint, files
from tsattn.contracts import NOTICE, SignalSpec
from tsattn.detection.streaming import Grid, make_grid, stream
from tsattn.events.detect import PostProcessing
from tsattn.layers.classifier import SegmentClassifier
from tsattn.layers.lora import load_adapters, norms
from tsattn.recordings.domain import unlike
from tsattn.recordings.preparation.preset import Preset, differences
from tsattn.recordings.preparation.view import prepared_view
from tsattn.recordings.readers import Reading
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.windows.channel_choice import choose_channels, describe_choice
from tsattn.recordings.windows.places import Windowing, read_window

if TYPE_CHECKING:
    from tsattn.detection.explain import Explanation

log = logging.getLogger(__name__)
doubts = logging.getLogger(f"{__name__}.unlike_training")
SAVE_SECONDS = 30.0  # between two savings of what is done
PLAIN = PostProcessing()  # where none was fitted
Progress = Callable[[float, float], None]


@dataclass(frozen=True, eq=False)
class Detection:
    """What a detector says of a recording; `events, probability = detection` takes it apart.

    Attributes:
        events: Table of events: onset and duration in seconds from the recording's start, confidence.
        probability: Of each window, by the seconds at which it begins; NaN where there is no answer. It speaks of the
            window's last segment: the coordinate `spoken_of` is where that begins. Attributes: `offset` and `span` say
            the same, `hop` is the step, `threshold` the one that was used.
        recording: As it was read: prepared.
        provenance: Where this comes from, in plain data.
        readings: Channels of each reading, as places in the recording's table.
    """

    events: pd.DataFrame
    probability: xr.DataArray
    recording: Recording
    provenance: dict[str, Any] = field(default_factory=dict)
    readings: tuple[tuple[int, ...], ...] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.events, self.probability))


class Detector(ModelHubMixin):
    """A seizure detector.

    Args:
        network: With a head, in evaluation mode.
        spec: The contract with its recordings.
        about: Versions, checksums and the like.
    """

    def __init__(self, network: SegmentClassifier, spec: SignalSpec, about: dict[str, Any] | None = None) -> None:
        self.network = network.eval()
        self.spec = spec
        self.about = about or {}

    # ---- load and save

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, path: str | Path, *, adapter: str | Path | None = None, offline: bool = True, **hub: Any
    ) -> "Detector":
        """Load a run's `.ckpt` or an exported folder; or, unless `offline`, what stands on the Hugging Face hub.

        Args:
            path: File or folder; with `offline=False` also "owner/name".
            adapter: Folder of adapters for one patient, which are added into the network.
            offline: Whether only this machine is looked at.
            hub: Of `huggingface_hub.ModelHubMixin.from_pretrained`: revision, token, cache_dir, ...

        Raises:
            FileNotFoundError: If there is nothing at `path`.
            ValueError: If it is damaged, holds no seizure detector, or has no contract.
        """
        if not offline and not Path(path).exists():
            found = cls._from_pretrained(model_id=str(path), **hub)
            return found if adapter is None else found.with_adapter(adapter)
        loaded = checkpoint.load(path, SegmentClassifier)
        if loaded.spec is None:
            raise ValueError(f"{path} does not say what recordings its network was trained on: fine-tune it first.")
        made = cls(loaded.network, loaded.spec, {**loaded.about, "checkpoint": checkpoint.digest(path)})
        return made if adapter is None else made.with_adapter(adapter)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **hub: Any) -> "Detector":
        """Fetch an exported folder from the hub: weights and configuration, nothing that runs."""
        return cls.from_pretrained(checkpoint.from_hub(model_id, **hub))

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False, **hub: Any) -> None:  # type: ignore[override]
        """Write `config.json`, `model.safetensors` and, if there is none, a README.md for the hub; each whole, or not.

        Args:
            folder: Made if it is not there.
            overwrite: Write over files that are there.
            hub: What `push_to_hub` passes on, which is not needed.

        Raises:
            FileExistsError: If one of the files is there and `overwrite` is False.
        """
        checkpoint.export(folder, self.network, self.spec, self.about, overwrite=overwrite)
        if not (Path(folder) / "README.md").exists():
            self.generate_model_card().save(Path(folder) / "README.md")

    def with_adapter(self, folder: str | Path) -> "Detector":
        """Return a detector with adapters added in, and with their post-processing; this one is used up.

        Args:
            folder: Of `tsattn export --form adapter`, or of peft.

        Raises:
            ValueError: If they were trained on another network.
        """
        network = self.network.merged()
        own = norms(network.network)
        told = load_adapters(folder, network)
        if told.get("base") is not None and not np.allclose(told["base"], own, rtol=1e-4):
            raise ValueError(
                f"{Path(folder).name} was trained on another network than this detector's: load it onto the checkpoint "
                f"that it was trained from ({told.get('started_from', {}).get('file', 'not known')})."
            )
        spec = SignalSpec.from_dict(told["signal"]) if told.get("signal") else self.spec
        weights = checkpoint.digest(Path(folder) / "adapter_model.safetensors")
        return Detector(network.merged(), spec, {**self.about, "adapter": weights})

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        """Return what `save_pretrained` writes as README.md, and the hub shows."""
        from huggingface_hub import ModelCard

        network = self.network.network
        return ModelCard(
            f"---\nlibrary_name: tsattn\ntags: [ieeg, seizure-detection]\n---\n\n# Seizure detector\n\n**{NOTICE}**\n\n"
            f"{type(network).__name__}: windows of {network.segments} x {network.segment_seconds:g} s at "
            f"{network.sfreq:g} Hz, in microvolts. Load it by `tsattn.Detector.from_pretrained`. The contract with its "
            "recordings and how it was trained stand in config.json.\n"
        )

    def to(self, device: str | torch.device) -> "Detector":
        """Move the network, and return this."""
        self.network.to(device)
        return self

    # ---- detect

    @property
    def postprocessing(self) -> PostProcessing:
        """From probabilities to events, as fitted; threshold 0.5 and nothing else where none was fitted."""
        found = self.spec.postprocessing
        return PLAIN if found is None else PostProcessing.from_dict(found)

    def detect(
        self,
        recording: str | Path | Recording | xr.DataArray | Any,
        *,
        postprocessing: PostProcessing | None = None,
        more_channels: str | None = None,
        stride: int = 1,
        partial: Path | None = None,
        keep_partial: bool = False,
        progress: Progress | None = None,
        strict: bool = False,
        **options: Any,
    ) -> Detection:
        """Find the seizures of a recording.

        It is prepared as the training recordings were (resampled, filtered, re-referenced) while it is read. Started in
        several processes (torch.distributed), each takes a share of the windows, and all return the whole.

        Args:
            recording: A file or folder, a `Recording` (raw, or of a store), a labelled array (channel, time), or an
                `mne.io.Raw`.
            postprocessing: In the place of the fitted one.
            more_channels: What is done with more channels than the network has room for; None: as in training.
            stride: Segments from one window to the next.
            partial: A file in which what is done is kept, so that the same call goes on after an interruption.
            keep_partial: Whether that file is left for the caller to remove, when what is returned is safe.
            progress: Called with the seconds that are done and all of them.
            strict: Refuse a recording that is unlike those of the training (other types of channels, rate, montage or
                number of channels), instead of a warning and a word in `provenance["unlike_training"]`.
            options: Of `tsattn.recordings.readers.open_recordings`: unit, type, signals, ...

        Raises:
            ValueError: If an answer is not finite where something was recorded. If the recording breaks the contract in
                a way that no step mends: too short, prepared otherwise, all channels bad, more channels than there is
                room for and no policy; or, if `strict`, if it is unlike those of the training.
        """
        raw = as_recording(recording, **options)
        item, steps = self.prepared(raw)
        strange = unlike(item, self.spec.domain)
        if strange and strict:
            raise ValueError(f"{item.id} is unlike the recordings of the detector's training. {' '.join(strange)}")
        for sentence in strange:
            doubts.warning("%s: %s", item.id, sentence)
        policy: Any = more_channels or self.spec.more_channels
        readings = choose_channels(item, self.network.network.max_channels, policy)
        grid = make_grid(self.network, item, stride)
        started = time.perf_counter()
        values = self._probabilities(item, grid, readings, partial, keep_partial, progress)
        setting = postprocessing or self.postprocessing
        network = self.network.network
        offset = network.window_seconds - network.segment_seconds
        where = {"span": network.segment_seconds, "offset": offset, "hop": grid.hop}
        probability = xr.DataArray(
            values,
            dims="time",
            coords={
                "time": ("time", grid.begin, {"units": "s", "long_name": "begin of the window"}),
                "spoken_of": ("time", grid.begin + offset, {"units": "s", "long_name": "from the recording's start"}),
            },
            attrs={**where, "threshold": setting.threshold, "smoothing": setting.smoothing, "recording": item.id},
            name="seizure_probability",
        )
        events = setting(probability, duration=item.duration, **where)
        provenance = {
            "recording": {"id": item.id, "subject": item.subject, "duration_s": item.duration, "sfreq": item.sfreq},
            "preparation": steps,
            "channels": describe_choice(item, readings, policy),
            "detector": self.about,
            "geometry": {"segments": grid.segments, "segment_seconds": grid.segment_seconds, "stride": grid.stride},
            "gaps": self.spec.gaps,
            "subject_seen": self.seen(item.subject),
            "postprocessing": setting.to_dict(),
            "postprocessing_fitted_on": list(self.spec.validated_on) if postprocessing is None else "given by hand",
            "fitted": self.spec.fitted if postprocessing is None else None,
            "training": self.spec.domain or "not known",
            "unlike_training": strange,
            "notes": [*strange, *(note.text for note in item.notes)],
            "seconds": round(time.perf_counter() - started, 1),
            "versions": {"tsattn": tsattn.__version__, "torch": str(torch.__version__)},
        }
        return Detection(events, probability, item, provenance, tuple(map(tuple, readings)))

    def seen(self, subject: str) -> str:
        """Return a sentence on what the detector has seen of a subject; "" if nothing."""
        for how, those in (("trained", self.spec.trained_on), ("validated", self.spec.validated_on)):
            if subject in those:
                return f"The detector was {how} on {subject}: what it finds here says nothing of other people."
        return ""

    def prepared(self, recording: Recording) -> tuple[Recording, dict[str, Any]]:
        """Return a recording prepared as the contract says, without bad channels, and what was done.

        Raises:
            ValueError: If it was prepared in another way before, or all of its channels are bad.
        """
        contract = self.spec.preparation
        before = recording.about.get("provenance", {}).get("preset")
        if before is not None:
            different = differences(contract, before)
            if different:
                raise ValueError(
                    f"{recording.id} breaks the detector's contract: {'; '.join(different)}. Give the recording as it "
                    "was recorded, or prepare it as the contract says."
                )
            done: dict[str, Any] = {"prepared_before": before}
        elif not contract:
            done = {"none": "how the training recordings were prepared is not known; read as it is"}
        else:
            recording = prepared_view(recording, Preset.from_json(contract))
            done = {"steps": recording.about["provenance"]["steps"]}
        if (recording.channels["status"] == "bad").all():
            raise ValueError(f"{recording.id}: all {len(recording.names)} channels are bad, expected a good one.")
        return recording.pick(bads=False), done

    def explain(self, detection: Detection, time: float, *, occlusion: bool = False) -> "Explanation":
        """Say what the answer for one moment rests on: attention by channel and segment, and what each term does.

        Of a recording in several readings, each gets its share, and probabilities are their means.

        Args:
            detection: Of this detector.
            time: Seconds from the recording's start; the window whose last segment holds it is explained.
            occlusion: Whether the network is also asked without each channel.

        Raises:
            ValueError: If no window speaks of that moment, or its answer is not known.
        """
        from tsattn.detection.explain import explain_window, joined

        item, network, probability = detection.recording, self.network.network, detection.probability
        from_, known = probability["spoken_of"].values, probability.notnull().values
        speaks = np.flatnonzero((from_ <= time + 1e-6) & (time < from_ + network.segment_seconds - 1e-6) & known)
        if not len(speaks):
            raise ValueError(
                f"No window of {item.id} has an answer for {time:g} s; there are some from {from_[known].min():g} to "
                f"{from_[known].max() + network.segment_seconds:g} s."
                if known.any()
                else f"No window of {item.id} has an answer."
            )
        begin = float(probability["time"].values[speaks[0]])
        windowing = Windowing(network.segments, network.segment_seconds)
        device = next(self.network.parameters()).device
        found = []
        for channels in detection.readings:
            signal, observed = read_window(item, round(begin * item.sfreq), windowing, list(channels))
            with torch.no_grad():
                tokens = network.encode(torch.from_numpy(signal[None]).to(device))
            seen = torch.from_numpy(observed[None]).to(device)
            found.append(
                explain_window(
                    self.network,
                    tokens,
                    [item.names[i] for i in channels],
                    begin=begin,
                    observed=None if bool(seen.all()) else seen,
                    occlusion=occlusion,
                )
            )
        return joined(found)

    def _probabilities(
        self,
        item: Recording,
        grid: Grid,
        readings: Sequence[Sequence[int]],
        partial: Path | None,
        keep_partial: bool,
        progress: Progress | None,
    ) -> np.ndarray:
        """Return all probabilities; this process computes its share."""
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        world = torch.distributed.get_world_size() if distributed else 1
        share = -(-grid.count // world)
        first, stop = min(rank * share, grid.count), min((rank + 1) * share, grid.count)
        values = np.full(stop - first, np.nan)
        key = "" if partial is None else self._key(item, grid, readings, (first, stop))
        if partial is not None and world > 1:
            partial = partial.with_name(f"{partial.name}.{rank}")
        done = _resume(partial, key, values)
        saved = time.monotonic()
        for window, found in stream(self.network, item, grid, readings, self.spec.gaps, first + done, stop):
            values[window - first : window - first + len(found)] = found
            done = window - first + len(found)
            if progress is not None:
                progress((first + done) * grid.hop, grid.count * grid.hop)
            if partial is not None and time.monotonic() - saved > SAVE_SECONDS:
                _save(partial, key, values[:done])
                saved = time.monotonic()
        if partial is not None and (keep_partial or world > 1):
            _save(partial, key, values)  # the others, or the caller, may be interrupted
        every: list[Any] = [values] * world
        if world > 1:
            torch.distributed.all_gather_object(every, values)
        if partial is not None and not keep_partial:
            partial.unlink(missing_ok=True)
        return np.concatenate(every)

    def _key(self, item: Recording, grid: Grid, readings: Any, share: tuple[int, int]) -> str:
        """Return a hash of what probabilities depend on; of the samples, three windows and the state of the files."""
        state = [(path.stat().st_size, path.stat().st_mtime_ns) for path in item.files if path.exists()]
        length = grid.segments * grid.samples
        places = {0, (item.n_samples - length) // 2, item.n_samples - length}
        seen = [hashlib.sha256(item.read(at, at + length).tobytes()).hexdigest() for at in sorted(places)]
        weights = self.about.get("checkpoint") or _weights(self.network)
        about = [weights, self.about.get("adapter"), self.spec.to_dict(), item.id, item.duration]
        text = json.dumps([about, state, seen, repr(grid), readings, share, tsattn.__version__], default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def as_recording(recording: Any, **reading: Any) -> Recording:
    """Return a `Recording` of whatever holds one."""
    if isinstance(recording, str | Path):
        known = {field.name for field in fields(Reading)}
        if unknown := sorted(set(reading) - known):
            raise ValueError(
                f"There is no option {unknown[0]!r} of reading, expected some of {', '.join(sorted(known))}."
            )
        return Recording.open(recording, **reading)
    if reading:
        raise ValueError(
            f"{', '.join(reading)} is for files. A labelled array says its rate and unit in attrs['sfreq'] and "
            "attrs['unit'], with the dimensions channel and time."
        )
    if isinstance(recording, Recording):
        return recording
    if isinstance(recording, xr.DataArray):
        if set(recording.dims) != {"channel", "time"}:
            raise ValueError(
                f"The array has the dimensions {', '.join(map(str, recording.dims))}, expected channel, time."
            )
        return from_array(recording)
    if hasattr(recording, "get_data") and hasattr(recording, "info"):
        from tsattn.recordings.mne_object import from_mne

        return from_mne(recording)
    raise ValueError(
        f"recording is a {type(recording).__name__}, expected a path, a Recording, a labelled array or an mne Raw."
    )


def _resume(partial: Path | None, key: str, values: np.ndarray) -> int:
    """Fill in what an interrupted call had done, and return how many windows that are."""
    if partial is None or not partial.is_file():
        return 0
    try:
        with partial.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            before, found = str(file["key"]), file["probability"]
    except Exception:  # numpy and zipfile raise half a dozen kinds for damaged files
        before, found = "", values[:0]
    if before != key or len(found) > len(values):
        log.warning("What is kept of an interrupted call is of another recording, detector or setting: begun anew.")
        return 0
    values[: len(found)] = found
    return len(found)


def _weights(network: SegmentClassifier) -> str:
    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _save(partial: Path, key: str, values: np.ndarray) -> None:
    files.write_atomically(partial, lambda file: np.savez(file, key=key, probability=values))
