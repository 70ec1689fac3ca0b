"""Our networks from the authors' checkpoints: one door for iTransformer, PatchTST, TimeXer, Gateformer and MVPFormer.

Key names stand beside each model (`from_authors`); this file only finds the model, builds it, and loads strictly.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tsattn import checkpoint, documents
from tsattn.contracts import Network
from tsattn.layers.convert import Conversion, Report
from tsattn.messages import on_command_line

MODELS = {  # source: class
    "itransformer": "tsattn.models.itransformer.ITransformer",
    "patchtst": "tsattn.models.patchtst.PatchTSTOfficial",
    "timexer": "tsattn.models.timexer.TimeXer",
    "gateformer": "tsattn.models.gateformer.Gateformer",
    "mvpformer": "tsattn.models.mvpformer.MVPFormer",
    "braindecode": "tsattn.models.mvpformer.MVPFormer",
}
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "checkpoint.pth")
TSLIB_MODELS = {  # a key that only this one has: class
    "en_embedding.glb_token": "tsattn.models.timexer.TimeXer",
    "patch_embedding.value_embedding.weight": "tsattn.models.patchtst.PatchTST",
    "enc_embedding.value_embedding.weight": "tsattn.models.itransformer.ITransformer",
}
# What becomes of each argument of our networks. "shape": the tensors tell it. "given": no tensor does and the forecast
# depends on it, so it is given by the user or by the authors' configuration, else refused. "training": only training
# reads it. "ours": the authors have no such thing, and its default is what they do.
TOLD: dict[str, dict[str, str]] = {
    "tsattn.models.itransformer.ITransformer": {
        "context": "shape", "horizon": "shape", "d_model": "shape", "layers": "shape", "d_ff": "shape",
        "heads": "given", "activation": "given", "normalize": "given", "dropout": "training",
        "future_covariates": "ours", "known_rows": "ours", "outputs": "ours",
    },
    "tsattn.models.patchtst.PatchTST": {
        "horizon": "shape", "d_model": "shape", "layers": "shape", "d_ff": "shape", "patch": "shape",
        "context": "given", "heads": "given", "stride": "given", "activation": "given", "dropout": "training",
        "outputs": "ours",
    },
    "tsattn.models.patchtst.PatchTSTOfficial": {
        "horizon": "shape", "d_model": "shape", "heads": "shape", "layers": "shape", "d_ff": "shape",
        "patch": "shape", "affine": "shape", "individual": "shape", "decomposition": "shape", "variates": "shape",
        "pad_end": "shape", "context": "given", "stride": "given", "revin": "given", "subtract_last": "given",
        "kernel_size": "given", "dropout": "training", "head_dropout": "training", "outputs": "ours",
    },
    "tsattn.models.timexer.TimeXer": {
        "context": "shape", "horizon": "shape", "d_model": "shape", "layers": "shape", "d_ff": "shape",
        "patch": "shape", "variates": "shape", "heads": "given", "features": "given", "normalize": "given",
        "activation": "given", "dropout": "training", "targets": "ours", "future_covariates": "ours",
        "known_rows": "ours", "outputs": "ours",
    },
    "tsattn.models.gateformer.Gateformer": {
        "context": "shape", "horizon": "shape", "d_model": "shape", "layers": "shape", "d_ff": "shape",
        "patch": "shape", "heads": "given", "stride": "given", "dropout": "training", "outputs": "ours",
    },
    "tsattn.models.mvpformer.MVPFormer": {
        "d_model": "shape", "layers": "shape", "kv_heads": "shape", "d_ff": "shape", "positions": "shape",
        "max_channels": "shape", "generative": "shape", "heads": "given", "segments": "given", "sfreq": "given",
        "segment_seconds": "given", "window": "given", "dropout": "training", "residual_dropout": "training",
        "index": "ours", "checkpointing": "ours", "level_power": "ours",
    },
}  # fmt: skip


def _lower(value: Any) -> Any:
    """Return the name of an activation: "torch.nn.modules.activation.SiLU" is "silu"."""
    return str(value).rpartition(".")[2].strip("'>").lower()


def _flag(value: Any) -> Any:
    return bool(value) if value in (0, 1) else value


Renamed = Mapping[str, tuple[str, Callable[[Any], Any]]]
_SAME: Callable[[Any], Any] = lambda value: value  # noqa: E731
_SCRIPTS: Renamed = {  # names of Time-Series-Library and of the papers' scripts: ours, and how it is spelled
    "seq_len": ("context", _SAME), "pred_len": ("horizon", _SAME), "d_model": ("d_model", _SAME),
    "n_heads": ("heads", _SAME), "e_layers": ("layers", _SAME), "d_ff": ("d_ff", _SAME), "dropout": ("dropout", _SAME),
    "activation": ("activation", _lower), "use_norm": ("normalize", _flag), "features": ("features", _SAME),
    "patch_len": ("patch", _SAME), "stride": ("stride", _SAME), "kernel_size": ("kernel_size", _SAME),
    "revin": ("revin", _flag), "subtract_last": ("subtract_last", _flag), "affine": ("affine", _flag),
    "individual": ("individual", _flag), "decomposition": ("decomposition", _flag),
    "head_dropout": ("head_dropout", _SAME),
}  # fmt: skip
_BRAINDECODE: Renamed = {
    "sfreq": ("sfreq", float), "segment_seconds": ("segment_seconds", float), "d_model": ("d_model", _SAME),
    "n_layers": ("layers", _SAME), "n_heads": ("heads", _SAME), "n_head_kv": ("kv_heads", _SAME),
    "d_inner": ("d_ff", _SAME), "local_window": ("window", _SAME), "global_att": ("global_attention", _flag),
    "max_segments": ("positions", _SAME), "max_channels": ("max_channels", _SAME),
    "activation": ("activation", _lower),
}  # fmt: skip
_BRAINDECODE_REST = {  # of braindecode's configuration: read in `_of_braindecode`, or of no effect on the classes
    "n_outputs", "n_chans", "chs_info", "n_times", "input_window_seconds", "drop_prob", "pooling", "model_class",
}  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """A network with the authors' weights, in evaluation mode, and what became of every key.

    Attributes:
        network: Ours.
        report: One entry per foreign key; `print(report)` shows a table.
    """

    network: Network
    report: Report


def convert(
    source: str, state: dict[str, Tensor], *, config: Mapping[str, Any] | None = None, **given: Any
) -> Converted:
    """Build our network from an authors' state dict.

    Args:
        source: "itransformer", "patchtst", "timexer", "gateformer" or "mvpformer" (the papers' repositories), "tslib"
            (Time-Series-Library, whose three models are told apart by their keys), or "braindecode" (its MVPFormer).
        state: The state dict as the authors saved it.
        config: The authors' own settings by their names, as `read_config` returns them; tells what shapes do not.
        **given: Arguments by our names that neither shapes nor `config` tell, such as `heads`; see `from_authors` of
            each model.

    Raises:
        ValueError: If the source is unknown, something was not given or contradicts a shape, or a key is missing or
            unknown.
    """
    conversion = translate(source, state, config=config, **given)
    network = checkpoint.build({"class_path": conversion.class_path, "init_args": conversion.init_args})
    name = type(network).__name__
    absent = sorted(set(network.state_dict()) - set(conversion.state) - set(conversion.fresh))
    checkpoint.check_values(conversion.state, f"The weights of {source}")
    checkpoint.check_types(network, conversion.state, f"The weights of {source}")
    try:
        network.load_state_dict(conversion.state, strict=not conversion.fresh)
        if absent:
            raise RuntimeError(f"missing {absent[0]}")
    except RuntimeError as problem:
        raise ValueError(
            f"The weights do not fit {name}({', '.join(f'{k}={v!r}' for k, v in conversion.init_args.items())}); "
            f"check what was given by hand: {', '.join(f'{k}={v!r}' for k, v in given.items())}."
        ) from problem
    return Converted(network.eval(), conversion.report)


def translate(
    source: str, state: dict[str, Tensor], *, config: Mapping[str, Any] | None = None, **given: Any
) -> Conversion:
    """Return the arguments and the state dict of our network without building it; arguments as for `convert`."""
    if source == "tslib":
        keys = {key.removeprefix("module.") for key in state}
        found = [path for key, path in TSLIB_MODELS.items() if key in keys]
        if not found:
            raise ValueError(
                f"tslib: {len(state)} keys, none of {', '.join(TSLIB_MODELS)}; "
                "expected a state dict of iTransformer, PatchTST or TimeXer."
            )
        path = found[0]
    elif source in MODELS:
        path = MODELS[source]
    else:
        raise ValueError(f'source is "{source}", expected one of {", ".join(MODELS)}, tslib.')
    model: Any = checkpoint.class_of({"class_path": path, "init_args": {}})
    name = model.__name__
    known = [*TOLD[path]]
    if path == MODELS["mvpformer"]:
        known += ["activation", "global_attention"]
        known += [x for x in inspect.signature(model.from_authors).parameters if x not in ("state", "source", "given")]
    if wrong := [key for key in given if key not in known]:
        raise ValueError(f"{name} has no argument {wrong[0]!r}, expected some of {', '.join(known)}.")
    told = settings_of(source, config or {}, known)
    for key in told.keys() & given.keys():
        if told[key] != given[key]:
            raise ValueError(f"{source}: {key}={given[key]!r} given, and {told[key]!r} in the authors' configuration.")
    return model.from_authors(state, source, **told, **{key: given[key] for key in given if key not in told})


def settings_of(source: str, config: Mapping[str, Any], known: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what an authors' configuration says, by our names.

    Args:
        source: As in `convert`.
        config: By their names.
        known: Our names that are wanted; None for all.

    Raises:
        ValueError: If it asks for something that our network does not do.
    """
    if source == "braindecode" and config:
        told = _of_braindecode(config)
    else:
        told = {ours: spelled(config[name]) for name, (ours, spelled) in _SCRIPTS.items() if name in config}
        task = config.get("task_name", "long_term_forecast")
        if task not in ("long_term_forecast", "short_term_forecast"):
            raise ValueError(f"{source}: task_name is {task!r} in the configuration, expected a forecast.")
        if source in ("gateformer", "tslib") and told.get("normalize") is False and "normalize" not in (known or ()):
            raise ValueError(f"{source}: use_norm is off in the configuration, and ours always normalises.")
    return {name: value for name, value in told.items() if known is None or name in known}


def _of_braindecode(config: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [n for n in config if n not in _BRAINDECODE and n not in _BRAINDECODE_REST and not n.startswith("_")]
    if unknown := [name for name in unknown if not name.endswith("version")]:
        raise ValueError(
            f"braindecode: its configuration has {', '.join(map(repr, unknown[:5]))}, and this tsattn does not know "
            "whether the classes depend on it. Leave the configuration out "
            f"({'--config none' if on_command_line() else 'config=None'}) and give the settings by hand."
        )
    if (pooling := config.get("pooling", "mean")) != "mean":
        raise ValueError(f"braindecode: pooling is {pooling!r}, and ours is the mean over channels only.")
    told = {
        ours: spelled(config[name]) for name, (ours, spelled) in _BRAINDECODE.items() if config.get(name) is not None
    }
    samples = config.get("n_times")
    if samples is None and config.get("input_window_seconds") is not None and "sfreq" in told:
        samples = round(config["input_window_seconds"] * told["sfreq"])
    if samples is not None and {"sfreq", "segment_seconds"} <= told.keys():
        segment = round(told["sfreq"] * told["segment_seconds"])
        if segment < 1 or samples % segment:
            raise ValueError(f"braindecode: {samples} samples are not whole segments of {segment}, as ours are.")
        told["segments"] = samples // segment
    return told


def read_config(path: str | Path) -> dict[str, Any]:
    """Read the authors' settings: a table of names and values, in JSON or YAML.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file, expected the authors' settings (config.json, or .yaml).")
    found = documents.read_yaml(path) if path.suffix in (".yaml", ".yml") else documents.read_json(path)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path} holds no table of settings, expected names and values.")
    return found


def find_config(weights: str | Path) -> Path | None:
    """Return the `config.json` beside a file of weights, or None; one that tsattn wrote is not the authors'."""
    path = Path(weights).parent / "config.json"
    if not path.is_file() or {"network", "format"} <= read_config(path).keys():
        return None
    return path


def find_weights(path: str | Path) -> Path:
    """Return the file of weights: `path`, or the one in it if it is a folder.

    Raises:
        ValueError: If a folder holds none, or several.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    there = [path / name for name in WEIGHTS if (path / name).is_file()]
    there = there or sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".pth", ".pt", ".bin"))
    if len(there) != 1:
        found = ", ".join(file.name for file in there) or "none"
        raise ValueError(
            f"{path} is a folder with {len(there)} files of weights ({found}), expected one: name the file."
        )
    return there[0]


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict that authors saved, on the CPU, running no code from the file.

    Args:
        path: A .safetensors file, or one of torch.save; a state dict inside another under "state_dict" is found.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If what the file holds is no state dict, or a value in it is not a finite number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file, expected an authors' state dict (.pth, .pt or .safetensors).")
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch and safetensors raise a dozen kinds for damaged files
        reason = str(problem).partition("\n")[0]
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is cut short, or holds more than tensors ({reason})."
        ) from problem
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"{path} holds {type(content).__name__} with more than tensors, expected a state dict (names to tensors)."
        )
    checkpoint.check_values(content, path)
    return dict(content)
