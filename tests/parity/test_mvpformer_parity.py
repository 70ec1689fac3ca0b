"""Our MVPFormer against recorded outputs, losses and gradients of the authors' code and of braindecode's port.

Fixtures: `manifest.json` under TSATTN_SHARED/parity/mvpformer; random weights, synthetic inputs, the manifest's
tolerances.
"""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support import SHARED
from torch import Tensor, nn

from tsattn.convert import convert, read_state
from tsattn.layers.classifier import SegmentClassifier
from tsattn.layers.lora import adapters
from tsattn.layers.wavelet import WaveletEncoder, coefficient_count, wavelet_transform
from tsattn.models.mvpformer import MVPFormer
from tsattn.tasks.contrastive import contrast
from tsattn.tasks.optim import warmup_cosine
from tsattn.tasks.pretrain import similarity

FOLDER = SHARED / "parity" / "mvpformer"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no fixtures in {FOLDER}: set TSATTN_SHARED")
MANIFEST: dict[str, Any] = (
    json.loads((FOLDER / "manifest.json").read_text()) if FOLDER.is_dir() else {"fixtures": {}, "lr_schedule_1e-4": {}}
)
FIXTURES = MANIFEST["fixtures"]
WAVES = sorted(name for name in FIXTURES if name.startswith("wave_"))
GENERATIVE = sorted(name for name in FIXTURES if name.startswith("generative_"))
CLASSIFICATION = sorted(name for name in FIXTURES if name.startswith("classification_"))
# The models that were recorded; no key tells.
SCRIPT = {"sfreq": 512.0, "window": 10, "activation": "silu", "global_attention": True}
PORTS = sorted(path.stem for path in (FOLDER / "braindecode").glob("*.safetensors"))


def test_the_fixtures_this_file_was_written_for_are_there():
    assert (len(WAVES), len(GENERATIVE), len(CLASSIFICATION), len(PORTS)) == (5, 2, 2, 2)


def arrays(name: str) -> dict[str, Tensor]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def close(found: Tensor, expected: Tensor, atol: float, what: str = "") -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=0, atol=atol, msg=lambda m: f"{what}: {m}")


def authors_name(theirs: str) -> str:
    """Our name of the module behind one of the authors' names, without what stands around the network."""
    ours = re.sub(r"^(mvpformer|genie)\.", "", theirs)
    ours = re.sub(r"^h\.(\d+)\.ln_1", r"layers.\1.norm", ours)
    ours = re.sub(r"^h\.(\d+)\.attn\.", r"layers.\1.attention.", ours)
    ours = re.sub(r"^h\.(\d+)\.mlp\.(\w+)_proj", r"layers.\1.feedforward.\2", ours)
    for a, b in (
        ("q_attn", "query"), ("position_net", "time_key"), ("channel_net", "channel_key"), ("c_proj", "out"),
        ("ln_f", "norm"), ("positional_embedding.weight", "time_table"), ("channel_embedding.weight", "channel_table"),
        ("head.head", "head"), ("encoder.ln", "encoder.norm"), ("encoder.proj", "encoder.out"),
    ):  # fmt: skip
        ours = ours.replace(a, b)
    return ours


def gradient(grads: dict[str, Tensor | None], theirs: str) -> Tensor:
    """The gradient of one of the authors' parameters, put together from ours."""
    name = authors_name(theirs)
    if name.endswith("attn_bias"):
        return torch.cat(
            [grads[name.replace("attn_bias", f"{x}_bias")].flatten() for x in ("content", "time", "channel")]
        )
    if "c_attn.lora_A" in name:  # shared by the maps that it stands for
        found = [grads.get(name.replace("c_attn", x)) for x in ("key", "value")]
        return sum(x for x in found if x is not None)
    if "c_attn" in name:
        found = [grads.get(name.replace("c_attn", x)) for x in ("key", "value")]
        return torch.cat([x for x in found if x is not None])
    return grads[name]


# -------------------------------------------------------------------------------------------------------- encoder
@pytest.mark.parametrize("name", WAVES)
def test_the_encoder_equals_the_authors(name: str):
    recorded, config = arrays(name), FIXTURES[name]["config"]
    x = recorded["x"]
    assert coefficient_count(config["size_input"]) == config["dwt_size"]
    atol = 2e-5 * float(recorded["coeffs"].abs().max())
    close(wavelet_transform(x), recorded["coeffs"], atol)
    close(wavelet_transform(x.double()), recorded["coeffs"].double(), atol)
    encoder = WaveletEncoder(config["size_input"], config["size_output"])
    encoder.load_state_dict({"norm.weight": recorded["param.ln.weight"], "out.weight": recorded["param.proj.weight"]})
    close(encoder(x), recorded["out"], 2e-5)


# ----------------------------------------------------------------------------------------------- generative model
def generative(name: str) -> tuple[MVPFormer, dict[str, Tensor], float]:
    recorded, entry = arrays(name), FIXTURES[name]
    state = {key.removeprefix("sd."): value for key, value in recorded.items() if key.startswith("sd.")}
    converted = convert("mvpformer", state, heads=entry["config"]["H"], segments=entry["config"]["T"], **SCRIPT)
    assert isinstance(converted.network, MVPFormer)
    dropped = {entry.key for entry in converted.report if entry.fate == "dropped"}
    assert dropped == {k for k in state if re.search(r"seizure_embeddings|ln_2|time_bias|masked_bias", k)}
    return converted.network, recorded, entry["suggested_atol_fp32"]


@pytest.mark.parametrize("name", GENERATIVE)
def test_every_hidden_state_and_prediction_equals_the_authors(name: str):
    network, recorded, atol = generative(name)
    tokens = network.encode(recorded["x"])
    close(tokens, recorded["embeddings"], atol)
    close(tokens, recorded["hidden_0"], atol)
    first = network.layers[0](tokens, network.time_table, network.channel_table, None, None)
    close(first, recorded["hidden_1"], atol)
    hidden = network(recorded["x"])
    close(hidden, recorded["last_hidden_state"], atol)
    close(network.mix_last(tokens), recorded["last_hidden_state"][:, -1], atol)
    close(network.predict_next(hidden), recorded["head_out"], atol)


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("name", GENERATIVE)
def test_the_contrastive_loss_and_all_gradients_equal_the_authors(name: str, pieces: bool, monkeypatch):
    if pieces:
        monkeypatch.setattr("tsattn.tasks.contrastive.AT_ONCE", 20_000)
    network, recorded, atol = generative(name)
    tokens = network.encode(recorded["x"])
    prediction = network.predict_next(network.mix(tokens))
    found = contrast(prediction, tokens, recorded["neg_index"].long(), FIXTURES[name]["config"]["temp"])
    finite = recorded["logits"].isfinite()
    assert int((~finite).sum()) == FIXTURES[name]["config"]["masked_logits"]
    assert torch.equal(found.logits.isfinite(), finite)
    close(found.logits[finite], recorded["logits"][finite], 10 * atol)  # cosines, divided by a temperature of 0.1
    close(found.loss, recorded["loss"], atol)
    assert float(found.accuracy) == pytest.approx(float(recorded["acc"]), abs=1e-6)
    found.loss.backward()
    grads = {key: p.grad for key, p in network.named_parameters()}
    checked = [key.removeprefix("grad.") for key in recorded if key.startswith("grad.")]
    for key in checked:
        close(gradient(grads, key), recorded[f"grad.{key}"], atol, key)
    assert len(checked) == FIXTURES[name]["config"]["L"] * 10 + 6


@pytest.mark.parametrize("name", GENERATIVE)
def test_the_similarities_of_one_and_two_steps_equal_the_authors(name: str):
    network, recorded, atol = generative(name)
    tokens = network.encode(recorded["x"])
    prediction = network.predict_next(network.mix(tokens))
    close(similarity(prediction, tokens, 1).mean(-1), recorded["sim_onestep"], atol)
    close(similarity(prediction, tokens, 2).mean(-1), recorded["sim_twostep"], atol)


# -------------------------------------------------------------------------------------------------- classification
def classifier(name: str, **given: Any) -> tuple[SegmentClassifier, dict[str, Tensor], float]:
    entry = FIXTURES[name]
    base, head = (read_state(FOLDER / entry[f"{which}_file"]) for which in ("base", "head"))
    config = entry["config"]
    network = convert("mvpformer", base, head=head, heads=config["H"], segments=config["T"], **SCRIPT, **given).network
    assert isinstance(network, SegmentClassifier)
    return network, arrays(name), entry["suggested_atol_fp32"]


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classes_equal_the_authors_with_adapters_apart_and_merged(name: str):
    network, recorded, atol = classifier(name)
    logits = network(recorded["x"])
    close(logits, recorded["logits_train_mode"], atol)
    tokens = network.network.encode(recorded["x"])
    close(network.network.mix(tokens), recorded["last_hidden_state"], atol)
    close(network.network.mix_last(tokens).mean(1), recorded["pooled"], atol)
    merged = network.merged()
    assert not list(adapters(merged))
    close(merged(recorded["x"]), recorded["logits"], atol)
    first = merged.network.layers[0].attention
    close(first.query.weight, recorded["merged.h0.q_attn.weight"], 1e-6)
    both = torch.cat([first.key.weight, first.value.weight])
    close(both, recorded["merged.h0.c_attn.weight"], 1e-6)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_the_loss_and_the_gradients_of_adapters_and_head_equal_the_authors(name: str):
    network, recorded, atol = classifier(name)
    for module in network.modules():
        if isinstance(module, nn.Linear) and hasattr(module, "lora_A"):
            module.requires_grad_(True)
    loss = F.cross_entropy(network(recorded["x"]), recorded["y"])
    close(loss, recorded["loss"], atol)
    loss.backward()
    grads = {key.removeprefix("network."): p.grad for key, p in network.named_parameters() if "network.head" not in key}
    trained = FIXTURES[name]["trainable"]
    for key in trained:
        close(gradient(grads, key), recorded[f"grad.{key}"], atol, key)
    assert len(trained) == 4 * FIXTURES[name]["config"]["L"] + 1


def test_only_what_the_authors_train_is_trained_with_adapters():
    network, _, _ = classifier(CLASSIFICATION[0])
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    kinds = {re.sub(r"^network\.layers\.\d+\.", "", name) for name in trained}
    assert kinds == {
        "head.weight", "attention.query.lora_A", "attention.query.lora_B", "attention.value.lora_A",
        "attention.value.lora_B",
    }  # fmt: skip


def test_one_file_with_weights_and_adapters_is_refused_until_somebody_says_whether_they_are_merged():
    entry = FIXTURES["classification_lora"]
    base, head = (read_state(FOLDER / entry[f"{which}_file"]) for which in ("base", "head"))
    recorded, atol = arrays("classification_lora"), entry["suggested_atol_fp32"]
    one = {**base, **head}
    given = {"heads": 4, "segments": 13, **SCRIPT}
    with pytest.raises(ValueError, match=r"weights and adapters .*merged=True or merged=False"):
        convert("mvpformer", one, **given)
    close(convert("mvpformer", one, merged=False, **given).network(recorded["x"]), recorded["logits"], atol)
    for i in range(entry["config"]["L"]):  # what loralib's eval() does to the weights
        attn = f"mvpformer.h.{i}.attn"
        one[f"{attn}.q_attn.weight"] = one[f"{attn}.q_attn.weight"] + 2 * (
            one[f"{attn}.q_attn.lora_B"] @ one[f"{attn}.q_attn.lora_A"]
        )
        weight = one[f"{attn}.c_attn.weight"].clone()
        weight[16:] += 2 * one[f"{attn}.c_attn.lora_B"] @ one[f"{attn}.c_attn.lora_A"]
        one[f"{attn}.c_attn.weight"] = weight
    close(convert("mvpformer", one, merged=True, **given).network(recorded["x"]), recorded["logits"], atol)


@pytest.mark.parametrize("name", PORTS)
def test_braindecodes_port_gives_the_same_classes(name: str):
    entry = json.loads((FOLDER / "braindecode" / f"{name}.json").read_text())["config"]
    with np.load(FOLDER / "braindecode" / f"{name}.npz") as file:
        x, logits, features = (torch.from_numpy(file[key]) for key in ("input", "logits", "features"))
    state = load_file(FOLDER / "braindecode" / f"{name}.safetensors")
    given = {"sfreq": entry["sfreq"], "segment_seconds": entry["segment_len"] / entry["sfreq"], "segments": entry["T"]}
    network = convert("braindecode", state, heads=entry["n_heads"], **{**SCRIPT, **given}).network
    assert isinstance(network, SegmentClassifier)
    signal = x.unflatten(-1, (entry["T"], -1)).transpose(1, 2)  # (batch, segment, channel, time)
    close(network(signal), logits, 1e-4)
    close(network.network.mix_last(network.network.encode(signal)).mean(1), features, 1e-4)


# -------------------------------------------------------------------------------------------------------- sizes, rate
@pytest.mark.parametrize(
    ("size", "arguments"), [("S", {}), ("M", {"d_model": 2048, "layers": 24, "heads": 16, "kv_heads": 8, "d_ff": 5632})]
)
def test_sizes_s_and_m_have_the_authors_parameters(size: str, arguments: dict[str, int]):
    with torch.device("meta"):
        network = MVPFormer(**arguments)
    d_model, layers = network.d_model, len(network.layers)
    count = sum(p.numel() for p in network.parameters()) + 3 * 2560 + layers * d_model  # seizure_embeddings and ln_2
    assert count == {"S": 74_184_498, "M": 1_243_336_754}[size]


@pytest.mark.parametrize("schedule", sorted(MANIFEST["lr_schedule_1e-4"]))
def test_the_learning_rate_equals_the_authors_up_to_the_last_step_and_stays_0_after_it(schedule: str):
    warmup, total = (int(x) for x in re.findall(r"\d+", schedule))
    recorded = MANIFEST["lr_schedule_1e-4"][schedule]
    for step, lr in recorded.items():
        expected = lr if int(step) <= total else 0.0
        assert 1e-4 * warmup_cosine(int(step), warmup, total) == pytest.approx(expected, rel=1e-6, abs=1e-15)
