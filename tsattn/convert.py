"""Our networks from the authors' checkpoints: one door for iTransformer, PatchTST, TimeXer, Gateformer and MVPFormer.

Key names stand beside each model (`from_authors`); this file only finds the model, builds it, and loads strictly.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tsattn import checkpoint
from tsattn.contracts import Network
from tsattn.layers.convert import Conversion, Report

MODELS = {  # source: class
    "itransformer": "tsattn.models.itransformer.ITransformer",
    "patchtst": "tsattn.models.patchtst.PatchTSTOfficial",
    "timexer": "tsattn.models.timexer.TimeXer",
    "gateformer": "tsattn.models.gateformer.Gateformer",
    "mvpformer": "tsattn.models.mvpformer.MVPFormer",
    "braindecode": "tsattn.models.mvpformer.MVPFormer",
}
TSLIB_MODELS = {  # a key that only this one has: class
    "en_embedding.glb_token": "tsattn.models.timexer.TimeXer",
    "patch_embedding.value_embedding.weight": "tsattn.models.patchtst.PatchTST",
    "enc_embedding.value_embedding.weight": "tsattn.models.itransformer.ITransformer",
}


@dataclass(frozen=True)
class Converted:
    """A network with the authors' weights, in evaluation mode, and what became of every key.

    Attributes:
        network: Ours.
        report: One entry per foreign key; `print(report)` shows a table.
    """

    network: Network
    report: Report


def convert(source: str, state: dict[str, Tensor], **given: Any) -> Converted:
    """Build our network from an authors' state dict.

    Args:
        source: "itransformer", "patchtst", "timexer", "gateformer" or "mvpformer" (the papers' repositories), "tslib"
            (Time-Series-Library, whose three models are told apart by their keys), or "braindecode" (its MVPFormer).
        state: The state dict as the authors saved it.
        **given: Arguments by our names that no shape tells, such as `heads`; see `from_authors` of each model.

    Raises:
        ValueError: If the source is unknown, something was not given or contradicts a shape, or a key is missing or
            unknown.
    """
    conversion = translate(source, state, **given)
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


def translate(source: str, state: dict[str, Tensor], **given: Any) -> Conversion:
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
    known = [*inspect.signature(model.__init__).parameters][1:] + [*inspect.signature(model.from_authors).parameters][
        2:
    ]
    known = [name for name in known if name != "given"]
    if wrong := [key for key in given if key not in known]:
        raise ValueError(f"{name} has no argument {wrong[0]!r}, expected some of {', '.join(known)}.")
    return model.from_authors(state, source, **given)


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
