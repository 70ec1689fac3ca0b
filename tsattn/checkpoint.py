"""Read and write trained networks: a recipe in plain data, the weights, and what the data was.

Two forms hold the same three things: a training run's `.ckpt` (one file, written by Lightning with optimiser state)
and an exported folder (`config.json` + `model.safetensors`). Both load without unpickling code, and only classes of
ours, or of modules that the caller has imported already, are built from a file (`tsattn.trust`). Nothing is built
before its shapes were compared with those in the file, and no weight is taken that is not a finite number.
"""

import contextlib
import hashlib
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from tsattn import documents, files, trust
from tsattn.contracts import Network, SignalSpec, TableSpec
from tsattn.files import refuse_existing, write_atomically

FORMAT = 1  # raised when an older tsattn could misread what a newer one wrote
KEY = "tsattn"  # our entry in a Lightning checkpoint
LARGEST_CONFIG = 16 * 2**20  # bytes
LARGEST_ARGUMENT = 2**20  # of a network whose weights are smaller than that
MODULES_PER_TENSOR = 50  # activations, dropout, containers
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
    network_class = trust.imported(recipe["class_path"], "The checkpoint", trust.NETWORKS)
    if not (isinstance(network_class, type) and issubclass(network_class, Network)):
        raise ValueError(
            f"The checkpoint asks for {recipe['class_path']}, which is not a network of tsattn's contracts."
        )
    return network_class


def build_like(recipe: dict[str, Any], weights: dict[str, torch.Tensor], source: Any) -> Network:
    """Make the network of a recipe with the weights of a file, after finding out without memory that they fit.

    Args:
        recipe: As in `build`.
        weights: Of the file.
        source: The file, for messages.

    Raises:
        ValueError: If the recipe asks for more than the weights are, or a weight is missing, misshapen or no number.
    """
    check_recipe(recipe, source, largest_argument(weights))
    with torch.device("meta"), _no_larger_than(len(weights), source):
        shapes = build(recipe)
    check_weights(shapes, weights, source)
    network = build(recipe)
    network.load_state_dict(weights)
    return network


def largest_argument(weights: dict[str, torch.Tensor]) -> int:
    """Return the largest whole number that a recipe may have beside these weights."""
    return max(LARGEST_ARGUMENT, sum(tensor.numel() for tensor in weights.values()))


def check_recipe(recipe: Any, source: Any, largest: int = LARGEST_ARGUMENT) -> None:
    """Refuse a recipe whose numbers are not finite or absurdly large, or that is not plain data.

    Args:
        recipe: As in `build`.
        source: The file, for messages.
        largest: Of whole numbers.

    Raises:
        ValueError: Naming the argument.
    """
    if not isinstance(recipe, dict):
        raise ValueError(f"{source} is damaged: its recipe of the network is not a table.")
    documents.refuse_bloat(recipe, source)
    stack: list[tuple[str, Any]] = [("network", recipe)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, dict):
            stack += [(str(key), inside) for key, inside in value.items()]
        elif isinstance(value, (list, tuple)):
            stack += [(name, inside) for inside in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{source} is damaged: {name} is {value}, expected a finite number.")
        elif isinstance(value, int) and abs(value) > largest:
            raise ValueError(
                f"{source} is damaged: {name} is {value:,}, expected at most {largest:,} for weights of this size."
            )
        elif not isinstance(value, (str, int, float, type(None))):
            raise ValueError(f"{source} is damaged: {name} is a {type(value).__name__}, expected plain data.")


@contextlib.contextmanager
def _no_larger_than(tensors: int, source: Any) -> Iterator[None]:
    """Stop the making of a network that has far more parts than there are weights for it."""
    from torch.nn.modules.module import register_module_module_registration_hook as on_module

    made, most = 0, MODULES_PER_TENSOR * (tensors + 10)

    def count(*about: Any) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise ValueError(
                f"{source} is damaged: its recipe describes a network of more than {most:,} parts, and there are "
                f"{tensors:,} weights."
            )

    handle = on_module(count)
    try:
        yield
    finally:
        handle.remove()


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
    found = class_of(entry["network"])
    if not issubclass(found, kind):
        raise ValueError(
            f"{path} holds {found.__name__}, expected a {kind.__name__} (`tsattn forecast` takes forecasters, "
            "`tsattn detect` seizure detectors)."
        )
    network: Any = build_like(entry["network"], weights, path)
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
    if not (path.is_dir() or path.is_file()):
        raise ValueError(f"{path} is a {files.kind_of(path.resolve())}, expected a checkpoint.")
    if path.is_dir() and not (path / "config.json").exists() and (path / "best.ckpt").exists():
        path = path / "best.ckpt"  # a run folder
    if path.is_dir():
        entry, weights = _read_folder(path)
    else:
        state = read_lightning(path)
        entry, prefix = state[KEY], "network."
        weights = {k.removeprefix(prefix): v for k, v in state["state_dict"].items() if k.startswith(prefix)}
    check_recipe(entry["network"], path, largest_argument(weights))
    return entry, weights


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
    _refuse_packed(path)
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
    _check_entry(state[KEY], path)
    check_values(state["state_dict"], path)
    return state


def _refuse_packed(path: str | Path) -> None:
    """Refuse a file whose parts become larger when they are read, which those of torch do not."""
    with zipfile.ZipFile(path) as archive:
        whole = sum(part.file_size for part in archive.infolist())
    if whole > Path(path).stat().st_size:
        raise ValueError(f"{path} is damaged or packed: it would become {whole:,} bytes. Checkpoints are not packed.")


def _check_entry(entry: Any, path: Any) -> None:
    """Refuse what a checkpoint says of itself if it is of another kind, or of a later format."""
    if not isinstance(entry, dict) or not isinstance(entry.get("network"), dict):
        raise ValueError(f"{path} is not a tsattn checkpoint: it has no `network`.")
    if not isinstance(entry.get("format", 1), int) or not isinstance(entry.get("about", {}), dict):
        raise ValueError(f"{path} is damaged: its format is not a number, or what it says of itself is not a table.")
    if entry.get("format", 1) > FORMAT:
        raise ValueError(f"{path} has format {entry['format']}, this tsattn reads up to {FORMAT}: install a newer one.")
    documents.refuse_bloat(entry, path)


def check_values(weights: Any, source: Any) -> None:
    """Refuse weights that are not tensors of finite numbers: one of them makes every answer meaningless.

    Args:
        weights: Of a file, by name.
        source: The file, for messages.

    Raises:
        ValueError: Naming tensor and file.
    """
    if not isinstance(weights, dict):
        raise ValueError(
            f"{source} is damaged: its weights are a {type(weights).__name__}, expected names and tensors."
        )
    for name, tensor in weights.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{source} is damaged: {name} is a {type(tensor).__name__}, expected a tensor.")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
            kind = str(tensor.dtype if tensor.layout == torch.strided else tensor.layout).removeprefix("torch.")
            raise ValueError(f"{source}: {name} is {kind}, expected plain real numbers.")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{source} is damaged: {name} has {tensor.numel():,} values, and the file fewer.")
        if tensor.is_floating_point() and not _finite(tensor):
            raise ValueError(
                f"{source}: {name} holds values that are not finite numbers (NaN or infinite): it is damaged, or its "
                "training failed. Take another checkpoint."
            )


def _finite(tensor: torch.Tensor) -> bool:
    """Return whether all values are finite."""
    values = tensor.float() if tensor.element_size() == 1 else tensor  # torch asks no 8-bit numbers
    return bool(torch.isfinite(values).all())


def check_weights(network: torch.nn.Module, weights: dict[str, torch.Tensor], source: Any) -> None:
    """Refuse weights that do not fit a network, which may be without memory (on "meta").

    Raises:
        ValueError: If a key is missing or unexpected, a shape or kind of number differs, or a value is not finite,
            also after rounding to the network's own type.
    """
    check_values(weights, source)
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
    check_types(network, weights, source)


def check_types(network: torch.nn.Module, weights: dict[str, torch.Tensor], source: Any) -> None:
    """Refuse weights of another type than a network's own: whole, true-or-false or too large numbers for real ones.

    Raises:
        ValueError: Naming tensor and source.
    """
    for name, own in network.state_dict().items():
        if name not in weights:
            continue
        there, here = (str(tensor.dtype).removeprefix("torch.") for tensor in (weights[name], own))
        if not _takes(own.dtype, weights[name].dtype):
            raise ValueError(f"{source}: {name} is {there}, expected {here}.")
        if there != here and own.is_floating_point() and not _finite(weights[name].to(own.dtype)):
            raise ValueError(f"{source}: {name} holds numbers that are too large for {here}.")


def _takes(own: torch.dtype, given: torch.dtype) -> bool:
    """Return whether numbers of one type may take the place of another's: real ones may, of any length."""
    return own == given or (own.is_floating_point and given.is_floating_point)


def load_strictly(network: Network, weights: dict[str, torch.Tensor], source: Any) -> None:
    """Load weights; a key that is missing, unexpected or misshapen, or a value that is not finite, is an error.

    Raises:
        ValueError: As `check_weights`.
    """
    check_weights(network, weights, source)
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
    """Return what a checkpoint says of its network, without reading its weights; see `read`.

    That the recipe fits the weights is found out by `load` only: build nothing of it.
    """
    path = Path(path)
    if path.is_dir() or not path.is_file() or not zipfile.is_zipfile(path):
        return read(path)[0]
    with contextlib.suppress(Exception):  # `read` says what is wrong
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if isinstance(state, dict) and isinstance(state.get(KEY), dict) and state[KEY]["format"] <= FORMAT:
            _check_entry(state[KEY], path)
            check_recipe(state[KEY]["network"], path, largest_argument(state["state_dict"]))
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
    entry = documents.read_json(config, largest=LARGEST_CONFIG)
    if not isinstance(entry, dict) or not isinstance(entry.get("network"), dict):
        raise ValueError(f"{config} is not a tsattn config: it has no `network`.")
    _check_entry(entry, folder)
    weights_file = folder / "model.safetensors"
    if not weights_file.is_file():
        raise ValueError(f"{folder} is incomplete: it has no file model.safetensors.")
    try:
        weights = load_file(weights_file)
    except (SafetensorError, ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"{weights_file} is damaged: {problem}") from problem
    check_values(weights, weights_file)
    return entry, weights
