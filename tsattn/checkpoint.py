"""Read and write trained networks: a recipe in plain data, the weights, and what the data was.

Two forms hold the same three things: a training run's `.ckpt` (one file, written by Lightning with optimiser state)
and an exported folder (`config.json` + `model.safetensors`). Both load without unpickling code, and only classes of
ours, or of modules that the caller has imported already, are built from a file.
"""

import contextlib
import hashlib
import importlib
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from tsattn.contracts import Network, SignalSpec, TableSpec
from tsattn.files import refuse_existing, write_atomically

FORMAT = 1  # raised when an older tsattn could misread what a newer one wrote
KEY = "tsattn"  # our entry in a Lightning checkpoint
N = TypeVar("N", bound=Network)


@dataclass(frozen=True)
class Loaded(Generic[N]):
    """What a checkpoint holds.

    Attributes:
        network: In eval mode, on the CPU.
        spec: The data it was trained on, of the network's `spec_type`; None if that is not known.
        about: Versions, data fingerprint and the like, as written.
    """

    network: N
    spec: Any
    about: dict[str, Any]


def build(recipe: dict[str, Any]) -> Network:
    """Make the network that a recipe describes, with fresh weights.

    Args:
        recipe: `{"class_path": ..., "init_args": {...}}`, as in `Network.recipe`; may be nested.

    Raises:
        ValueError: If the class is not a `Network` or lives in a module that nobody asked for.
    """
    network_class = class_of(recipe)
    arguments: dict[str, Any] = {
        name: build(value) if isinstance(value, dict) and "class_path" in value else value
        for name, value in recipe["init_args"].items()
    }
    try:
        return network_class(**arguments)
    except TypeError as problem:
        name = network_class.__name__
        raise ValueError(f"The checkpoint's recipe does not fit this tsattn's {name}: {problem}.") from problem


def class_of(recipe: dict[str, Any]) -> type[Network]:
    """Return the class of the network that a recipe describes.

    Raises:
        ValueError: As `build`.
    """
    if not (isinstance(recipe.get("class_path"), str) and isinstance(recipe.get("init_args"), dict)):
        raise ValueError("The checkpoint's recipe of the network is damaged: it has no class_path or no init_args.")
    class_path = recipe["class_path"]
    module_name, _, class_name = class_path.rpartition(".")
    if module_name.partition(".")[0] != "tsattn" and module_name not in sys.modules:
        raise ValueError(
            f"The checkpoint asks for {class_path}, which is not part of tsattn. If you trust it, "
            f"run `import {module_name}` first."
        )
    try:
        network_class = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as problem:
        raise ValueError(f"The checkpoint asks for {class_path}, which this tsattn does not have.") from problem
    if not (isinstance(network_class, type) and issubclass(network_class, Network)):
        raise ValueError(f"The checkpoint asks for {class_path}, which is not a network of tsattn's contracts.")
    return network_class


def load(path: str | Path, kind: type[N] = Network) -> Loaded[N]:  # type: ignore[assignment]
    """Read a `.ckpt` of a training run or an exported folder.

    Args:
        path: File or folder.
        kind: What the network has to be; `Network` takes any.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If the file is cut short, is not a tsattn checkpoint, its weights do not fit its recipe, or its
            network is of another kind.
    """
    entry, weights = read(path)
    network = build(entry["network"])
    if not isinstance(network, kind):
        raise ValueError(
            f"{path} holds {type(network).__name__}, expected a {kind.__name__} (`tsattn forecast` takes forecasters, "
            "`tsattn detect` seizure detectors)."
        )
    load_strictly(network, weights, path)
    spec = entry.get("spec")
    try:
        known = network.spec_type.from_dict(spec) if spec else None
    except (TypeError, ValueError, AttributeError, KeyError) as problem:
        raise ValueError(f"{path} is damaged: what it says of the data cannot be read ({problem}).") from problem
    return Loaded(network.eval(), known, entry.get("about", {}))


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what a checkpoint says of its network, and the network's weights; builds nothing.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is cut short or not ours.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No checkpoint at {path}. Trained runs keep theirs in runs/<run>/best.ckpt.")
    if path.is_dir() and not (path / "config.json").exists() and (path / "best.ckpt").exists():
        path = path / "best.ckpt"  # a run folder
    if path.is_dir():
        return _read_folder(path)
    state = read_lightning(path)
    prefix = "network."
    weights = {k.removeprefix(prefix): v for k, v in state["state_dict"].items() if k.startswith(prefix)}
    return state[KEY], weights


def read_lightning(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return the whole content of a `.ckpt`, refusing what is cut short or not ours.

    Raises:
        ValueError: One sentence that says which of the two it is.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} ({Path(path).stat().st_size} bytes) is cut short or not a checkpoint. Take another file of the "
            "run (best.ckpt, last.ckpt), or `tsattn import-checkpoint` for the authors' weights."
        )
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as problem:
        reason = str(problem).split("\n", 1)[0]
        raise ValueError(f"{path} cannot be read safely as a checkpoint: {reason}") from problem
    if not (isinstance(state, dict) and isinstance(state.get(KEY), dict) and "state_dict" in state):
        raise ValueError(
            f"{path} is not a tsattn checkpoint (it has no `{KEY}` entry). Weights of a model's authors are read by "
            "`tsattn import-checkpoint --from ... FILE --out DIR`."
        )
    _check_format(state[KEY], path)
    return state


def _check_format(entry: dict[str, Any], path: Any) -> None:
    if not isinstance(entry.get("format", 1), int) or not isinstance(entry.get("about", {}), dict):
        raise ValueError(f"{path} is damaged: its format is no number, or what it says of itself no table.")
    if entry.get("format", 1) > FORMAT:
        raise ValueError(f"{path} has format {entry['format']}, this tsattn reads up to {FORMAT}: install a newer one.")


def load_strictly(network: Network, weights: dict[str, torch.Tensor], source: Any) -> None:
    """Load weights; any missing, unexpected or misshapen key is an error that names the first ones.

    Raises:
        ValueError: If the keys or shapes differ.
    """
    own = network.state_dict()
    problems = [f"missing {k}" for k in own if k not in weights] + [f"unexpected {k}" for k in weights if k not in own]
    problems += [
        f"{k} is {tuple(weights[k].shape)}, expected {tuple(own[k].shape)}"
        for k in own
        if k in weights and weights[k].shape != own[k].shape
    ]
    if problems:
        raise ValueError(
            f"The weights of {source} do not fit {type(network).__name__}: {'; '.join(problems[:3])}"
            f"{f' and {len(problems) - 3} more' if len(problems) > 3 else ''}."
        )
    network.load_state_dict(weights)


def export(
    folder: str | Path,
    network: Network,
    spec: TableSpec | SignalSpec | None = None,
    about: dict[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write `config.json` and `model.safetensors`.

    Raises:
        FileExistsError: If one of the two is there already and `overwrite` is False.
    """
    from safetensors.torch import save

    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        refuse_existing(folder / name, overwrite)
    entry = make_entry(network, spec, about)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(folder / "model.safetensors", lambda file: file.write(save(weights)))
    write_atomically(folder / "config.json", lambda file: file.write(json.dumps(entry, indent=2).encode()))


def read_entry(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint says of its network, without reading its weights; see `read`."""
    path = Path(path)
    if path.is_dir() or not zipfile.is_zipfile(path):
        return read(path)[0]
    with contextlib.suppress(Exception):  # `read` says what is wrong
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if isinstance(state, dict) and isinstance(state.get(KEY), dict) and state[KEY]["format"] <= FORMAT:
            return dict(state[KEY])
    return read(path)[0]


def from_hub(model_id: str, **hub: Any) -> Path:
    """Fetch an exported folder from the Hugging Face hub, weights and configuration alone; return where it lies.

    Args:
        model_id: "owner/name".
        **hub: Of `huggingface_hub.snapshot_download`: revision, token, cache_dir, ...; what else is given is left out.
    """
    from huggingface_hub import snapshot_download

    names = ("revision", "cache_dir", "token", "force_download", "local_files_only")
    wanted = {name: hub[name] for name in names if name in hub}
    return Path(snapshot_download(model_id, allow_patterns=["config.json", "model.safetensors"], **wanted))


def digest(path: str | Path) -> dict[str, Any]:
    """Return name and SHA-256 of a checkpoint's file (of the weights, of an exported folder), for provenance."""
    path = Path(path)
    if path.is_dir():
        path = next((path / n for n in ("model.safetensors", "best.ckpt") if (path / n).exists()), path / "config.json")
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def make_entry(
    network: Network, spec: TableSpec | SignalSpec | None, about: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return what both forms of a checkpoint store beside the weights, in plain data."""
    return {
        "format": FORMAT,
        "network": network.recipe,
        "spec": spec.to_dict() if spec else None,
        "about": about or {},
    }


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = folder / "config.json"
    if not config.exists():
        raise ValueError(f"{folder} has no config.json, so it is not an exported network.")
    try:
        entry = json.loads(config.read_text())
        weights = load_file(folder / "model.safetensors")
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError, FileNotFoundError) as problem:
        raise ValueError(f"{folder} is incomplete or damaged: {problem}") from problem
    if not isinstance(entry, dict) or not isinstance(entry.get("network"), dict):
        raise ValueError(f"{config} is not a tsattn config: it has no `network`.")
    _check_format(entry, folder)
    return entry, weights
