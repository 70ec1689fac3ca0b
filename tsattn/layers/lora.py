"""Low-rank adapters (LoRA): train a small addition to frozen linear maps, merge it into them, or keep it in a file.

Hu et al. (2022), arXiv:2106.09685. Ours; an adapter's folder has the form of Hugging Face's peft, which reads it.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tsattn import checkpoint
from tsattn.documents import read_json
from tsattn.files import refuse_existing, write_atomically

PEFT_PREFIX = "base_model.model."
PLAIN_BEGINS = (None, True, False, "gaussian")  # other ways to begin change the weights under the adapters, too
OTHER_KINDS = (  # entries of peft's configuration that make the sum another one than LoRALinear's
    "use_dora", "use_rslora", "use_qalora", "use_bdlora", "lora_bias", "rank_pattern", "alpha_pattern",
    "layer_replication", "target_parameters", "trainable_token_indices", "alora_invocation_tokens", "arrow_config",
    "kasa_config", "monteclora_config", "velora_config", "fan_in_fan_out",
)  # fmt: skip


class LoRALinear(nn.Linear):
    """A linear map `W x` with a low-rank addition: `W x + (alpha / rank) B A x`. B begins at 0, so nothing changes.

    Args:
        base: The map; its parameters become this one's.
        rank: Rows of A and columns of B.
        alpha: Scale of the addition, times rank.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.rank, self.alpha = rank, alpha
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, tokens: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Map tokens."""
        addition = F.linear(F.linear(tokens, self.lora_A), self.lora_B)
        return F.linear(tokens, self.weight, self.bias) + addition * (self.alpha / self.rank)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the plain map that does the same, with a weight of its own."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        plain.weight = nn.Parameter(self.weight + (self.alpha / self.rank) * self.lora_B @ self.lora_A)
        plain.bias = self.bias
        return plain

    def extra_repr(self) -> str:
        """Say what the parameters do not."""
        return f"{super().extra_repr()}, rank={self.rank}, alpha={self.alpha:g}"


def add_adapters(network: nn.Module, targets: Sequence[str], rank: int = 8, alpha: float = 16.0) -> None:
    """Give every linear map of some names an adapter, in place, and freeze everything else.

    Args:
        network: Holds the maps.
        targets: Their names, or ends of them: "query", "value", "attention.out", ...
        rank: Of the adapters.
        alpha: Their scale, times rank.

    Raises:
        ValueError: If the rank has no sense, no map has one of the names, or one has an adapter already.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}, expected at least 1.")
    linear = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    if any(isinstance(module, LoRALinear) for module in linear.values()):
        raise ValueError("The network has adapters already: merge them first.")
    chosen: set[str] = set()
    for target in targets:
        called = {name for name in linear if f".{name}".endswith(f".{target}")}
        if not called:
            ends = sorted({name.rpartition(".")[2] for name in linear})
            raise ValueError(f"No linear map is called {target!r}, expected some of {', '.join(ends)}.")
        chosen |= called
    network.requires_grad_(False)
    for name in sorted(chosen):
        network.set_submodule(name, LoRALinear(linear[name], rank, alpha))


def adapters(network: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """Return the maps with an adapter, by name."""
    return ((name, module) for name, module in network.named_modules() if isinstance(module, LoRALinear))


def merge_adapters(network: nn.Module) -> None:
    """Add every adapter into its map, in place; the adapters are gone then."""
    for name, module in list(adapters(network)):
        network.set_submodule(name, module.merged())


def save_adapters(
    folder: str | Path, network: nn.Module, *, also: Sequence[str] = (), overwrite: bool = False, **about: Any
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, as peft does.

    Args:
        folder: Made if it is not there.
        network: With adapters of one rank and alpha.
        also: Modules that were trained in full and are saved whole ("head"): peft's `modules_to_save`. As it has it,
            every module whose name ends so is meant.
        overwrite: Write over files that are there.
        about: Plain data for the entry "tsattn" of the configuration, which peft passes over.

    Raises:
        FileExistsError: If one of the files is there and `overwrite` is False.
        ValueError: If the network has no adapters, or no such module with weights.
    """
    from safetensors.torch import save

    folder, found = Path(folder), dict(adapters(network))
    if not found:
        raise ValueError("The network has no adapters to save.")
    whole: dict[str, Tensor] = {}
    for end in also:
        names = _ending(network, end)
        if not names or any(f"{adapted}.".startswith(f"{name}.") for adapted in found for name in names):
            raise ValueError(f"also has {end!r}, expected names of modules that have weights and no adapters.")
        for name in names:
            whole |= network.get_submodule(name).state_dict(prefix=f"{name}.")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        refuse_existing(folder / name, overwrite)
    first = next(iter(found.values()))
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": first.rank,
        "lora_alpha": first.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(found),
        "modules_to_save": list(also) or None,
        "inference_mode": True,
        "tsattn": about,
    }
    kept = {
        f"{name}.lora_{kind}.weight": getattr(module, f"lora_{kind}") for name, module in found.items() for kind in "AB"
    }
    written = {f"{PEFT_PREFIX}{name}": tensor.detach().cpu().contiguous() for name, tensor in (kept | whole).items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "adapter_model.safetensors", lambda file: file.write(save(written)))
    write_atomically(folder / "adapter_config.json", lambda file: file.write(json.dumps(config, indent=2).encode()))


def load_adapters(folder: str | Path, network: nn.Module) -> dict[str, Any]:
    """Put the adapters of a folder on a network without any, in place, and return what was said about them.

    Modules that the folder holds whole (`also` of `save_adapters`) take its weights. If something does not fit, the
    network stays as it was.

    Args:
        folder: Of `save_adapters`, or of peft with plain LoRA.
        network: That they were trained on.

    Raises:
        FileNotFoundError: If the folder has no adapters.
        ValueError: If they are not LoRA, or do not fit the network.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}, expected a folder of adapters as peft writes it.")
    try:
        config = read_json(folder / "adapter_config.json")
        weights = load_file(folder / "adapter_model.safetensors")
        kind, rank, alpha = config["peft_type"], int(config["r"]), float(config["lora_alpha"])
        if rank < 1 or not math.isfinite(alpha):
            raise ValueError(f"r is {rank} and lora_alpha is {alpha:g}, expected 1 or more and a finite number")
    except Exception as problem:  # safetensors and json raise several kinds for damaged files
        raise ValueError(f"{folder} is damaged or no folder of adapters: {problem}") from problem
    other = [name for name in OTHER_KINDS if config.get(name)]
    other += ["bias"] if config.get("bias", "none") != "none" else []
    other += ["init_lora_weights"] if config.get("init_lora_weights") not in PLAIN_BEGINS else []
    if kind != "LORA" or other:
        raise ValueError(
            f"{folder} holds adapters of another kind than plain LoRA, which is what is read here: "
            f"{f'{other[0]} is {config[other[0]]!r}' if other else f'peft_type is {kind!r}'}."
        )
    checkpoint.check_values(weights, folder / "adapter_model.safetensors")
    for key, value in weights.items():
        if not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise ValueError(f"{folder / 'adapter_model.safetensors'}: {key} is {kind}, expected real numbers.")
    weights = {key.removeprefix(PEFT_PREFIX): value for key, value in weights.items()}
    modules = dict(network.named_modules())
    adapted: dict[str, LoRALinear] = {}
    for name in sorted({key.rpartition(".lora_")[0] for key in weights if ".lora_" in key}):
        module = modules.get(name)
        down, up = (weights.pop(f"{name}.lora_{kind}.weight", None) for kind in "AB")
        if not isinstance(module, nn.Linear) or isinstance(module, LoRALinear) or down is None or up is None:
            raise ValueError(f"{folder} has an adapter for {name!r}, which the network has no free linear map for.")
        wanted = (rank, module.in_features), (module.out_features, rank)
        if (tuple(down.shape), tuple(up.shape)) != wanted:
            raise ValueError(
                f"{folder}: the adapter of {name!r} is {tuple(down.shape)} and {tuple(up.shape)}, expected {wanted}."
            )
        adapted[name] = LoRALinear(module, rank, alpha)
        adapted[name].lora_A.data.copy_(down)
        adapted[name].lora_B.data.copy_(up)
    if not adapted:
        raise ValueError(f"{folder} has no adapters in adapter_model.safetensors, expected lora_A and lora_B weights.")
    whole = _whole(folder, network, config.get("modules_to_save") or [], weights)
    for name, one in adapted.items():
        network.set_submodule(name, one)
    with torch.no_grad():
        for own, value in whole:
            own.copy_(value)
    return dict(config.get("tsattn") or {})


def _ending(network: nn.Module, end: str) -> list[str]:
    """Return the names of modules with weights that end so, by letters, as peft looks for them."""
    return [name for name, module in network.named_modules() if end and name.endswith(end) and module.state_dict()]


def _whole(folder: Path, network: nn.Module, ends: Sequence[str], weights: dict[str, Tensor]) -> list[Any]:
    """Return pairs of a network's tensor and what it becomes, of modules that were saved whole.

    Args:
        folder: For messages.
        network: That they are for.
        ends: Ends of the modules' names.
        weights: What a folder holds beside adapters, by full name.
    """
    pairs, read = [], set()
    for end in ends:
        there = [name for name in _ending(network, end) if any(key.startswith(f"{name}.") for key in weights)]
        if not there:
            raise ValueError(f"{folder} says that it holds {end!r} whole, and has no weights of it for this network.")
        for name in there:
            for key, own in network.get_submodule(name).state_dict(prefix=f"{name}.").items():
                if key not in weights or weights[key].shape != own.shape:
                    found = tuple(weights[key].shape) if key in weights else "missing"
                    raise ValueError(f"{folder}: {key} is {found}, expected {tuple(own.shape)}.")
                pairs.append((own, weights[key]))
                read.add(key)
    if unread := sorted(set(weights) - read):
        raise ValueError(
            f"{folder} holds {unread[0]}, which is neither an adapter's nor of a module that the configuration names "
            "in modules_to_save."
        )
    return pairs


def norms(network: nn.Module) -> list[float]:
    """Return the norm of each weight but the adapters', by which a network is known again, also after rounding."""
    weights = {name: p for name, p in network.state_dict().items() if ".lora_" not in f".{name}"}
    return [float(weights[name].double().norm()) for name in sorted(weights)]
