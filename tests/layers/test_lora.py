"""Low-rank adapters: they change nothing at first, alone are trained, merge exactly, and live in peft's files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tsattn.layers.classifier import SegmentClassifier
from tsattn.layers.lora import LoRALinear, adapters, add_adapters, load_adapters, merge_adapters, save_adapters
from tsattn.models.mvpformer import MVPFormer


class Two(nn.Module):
    """Two blocks of two maps, one with a bias, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"query": nn.Linear(5, 5), "out": nn.Linear(5, 5)}) for _ in range(2))
        self.head = nn.Linear(5, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = tokens + block["out"](block["query"](tokens).tanh())
        return self.head(tokens)


def two(seed: int = 0) -> Two:
    torch.manual_seed(seed)
    return Two()


def trained(seed: int = 1, targets: tuple[str, ...] = ("query", "out"), rank: int = 2) -> Two:
    network = two(0)
    add_adapters(network, targets, rank, alpha=3.0)
    generator = torch.Generator().manual_seed(seed)
    for _, module in adapters(network):
        module.lora_B.data.normal_(generator=generator)
    return network


TOKENS = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))


def test_fresh_adapters_change_nothing():
    plain, expected = two(), two()(TOKENS)
    add_adapters(plain, ["query", "head"], rank=3)
    assert torch.equal(plain(TOKENS), expected)
    assert all(module.lora_A.any() for _, module in adapters(plain))  # else nothing could ever be learned


def test_the_addition_is_alpha_over_rank_times_b_a():
    base = nn.Linear(5, 4)
    adapted = LoRALinear(base, rank=2, alpha=6.0)
    adapted.lora_B.data.normal_()
    weight = base.weight + 3 * adapted.lora_B @ adapted.lora_A
    torch.testing.assert_close(adapted(TOKENS), TOKENS @ weight.T + base.bias)


def test_merged_adapters_give_the_same_up_to_rounding():
    network = trained()
    expected = network(TOKENS)
    assert (expected - two()(TOKENS)).abs().max() > 0.1
    untouched = two().head.weight
    merge_adapters(network)
    assert not list(adapters(network))
    assert [name for name, _ in network.named_parameters()] == [name for name, _ in two().named_parameters()]
    torch.testing.assert_close(network(TOKENS), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(network.head.weight, untouched)


def test_a_merged_map_does_not_share_its_weight():
    adapted = LoRALinear(nn.Linear(5, 4), rank=1, alpha=1.0)
    plain = adapted.merged()
    plain.weight.data.add_(1)
    torch.testing.assert_close(adapted.weight + 1, plain.weight)


def test_only_adapters_are_trained_and_the_rest_stays_bit_for_bit():
    network = two()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    add_adapters(network, ["query"], rank=2)
    training = {name for name, p in network.named_parameters() if p.requires_grad}
    assert training == {f"blocks.{i}.query.lora_{kind}" for i in range(2) for kind in "AB"}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(TOKENS).square().sum().backward()
        optimizer.step()
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(after[name].any() for name in training)


def test_a_target_is_a_name_or_the_whole_end_of_one():
    network = two()
    add_adapters(network, ["1.query", "head"])
    assert [name for name, _ in adapters(network)] == ["blocks.1.query", "head"]
    with pytest.raises(ValueError, match=r"No linear map is called 'uery', expected some of head, out, query"):
        add_adapters(two(), ["uery"])


def test_refused_targets_leave_the_network_as_it_was():
    network = two()
    with pytest.raises(ValueError, match="No linear map is called 'keys'"):
        add_adapters(network, ["query", "keys"])
    assert not list(adapters(network))
    assert all(p.requires_grad for p in network.parameters())


def test_adapters_on_adapters_and_rank_0_are_refused():
    with pytest.raises(ValueError, match="has adapters already: merge them first"):
        add_adapters(trained(), ["head"])
    with pytest.raises(ValueError, match="rank is 0, expected at least 1"):
        add_adapters(two(), ["query"], rank=0)


# Files -----------------------------------------------------------------------------------------------------------


def test_saved_adapters_load_onto_the_same_network_exactly(tmp_path: Path):
    network = trained()
    save_adapters(tmp_path / "new", network, data="abc")
    again = two()
    assert load_adapters(tmp_path / "new", again) == {"data": "abc"}
    assert torch.equal(again(TOKENS), network(TOKENS))
    assert {(module.rank, module.alpha) for _, module in adapters(again)} == {(2, 3.0)}


def test_a_file_holds_adapters_alone_under_pefts_names(tmp_path: Path):
    save_adapters(tmp_path, trained(targets=("query",)))
    expected = {f"base_model.model.blocks.{i}.query.lora_{kind}.weight" for i in range(2) for kind in "AB"}
    assert set(load_file(tmp_path / "adapter_model.safetensors")) == expected


def test_files_are_not_written_over_unless_asked(tmp_path: Path):
    save_adapters(tmp_path, trained(1))
    with pytest.raises(FileExistsError):
        save_adapters(tmp_path, trained(2))
    save_adapters(tmp_path, trained(2), overwrite=True)
    again = two()
    load_adapters(tmp_path, again)
    assert torch.equal(again(TOKENS), trained(2)(TOKENS))


def test_nothing_to_save_and_nothing_to_load_are_said(tmp_path: Path):
    with pytest.raises(ValueError, match="has no adapters to save"):
        save_adapters(tmp_path, two())
    with pytest.raises(FileNotFoundError, match=r"has no adapter_config\.json, expected a folder of adapters"):
        load_adapters(tmp_path, two())
    save_adapters(tmp_path, trained())
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no adapter_model\.safetensors"):
        load_adapters(tmp_path, two())


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_damaged_files_are_refused(name: str, tmp_path: Path):
    save_adapters(tmp_path, trained())
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged or no folder of adapters"):
        load_adapters(tmp_path, two())


def configured(folder: Path, **changes: Any) -> Path:
    save_adapters(folder, trained(), also=["head"])
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True}, {"use_rslora": True}, {"bias": "all"}, {"lora_bias": True}, {"peft_type": "IA3"},
        {"alpha_pattern": {"out": 8}}, {"rank_pattern": {"out": 8}}, {"init_lora_weights": "pissa"},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_other_kinds_of_adapters_are_refused_by_the_word_that_makes_them_so(changes: dict[str, Any], tmp_path: Path):
    (name,) = changes
    with pytest.raises(ValueError, match=f"another kind than plain LoRA.*{name} is "):
        load_adapters(configured(tmp_path, **changes), two())


def test_a_configuration_with_no_rank_is_damaged(tmp_path: Path):
    with pytest.raises(ValueError, match="is damaged or no folder of adapters"):
        load_adapters(configured(tmp_path, r=None), two())


def test_adapters_of_another_network_are_refused_and_leave_it_as_it_was(tmp_path: Path):
    save_adapters(tmp_path, trained())
    wide = two()
    wide.blocks[1]["query"] = nn.Linear(6, 5)
    with pytest.raises(
        ValueError, match=r"blocks\.1\.query' is \(2, 5\) and \(5, 2\), expected \(\(2, 6\), \(5, 2\)\)"
    ):
        load_adapters(tmp_path, wide)
    assert not list(adapters(wide))
    with pytest.raises(ValueError, match=r"adapter for 'blocks\.0\.out', which the network has no free linear map"):
        load_adapters(tmp_path, nn.Sequential(nn.Linear(5, 5)))
    with pytest.raises(ValueError, match="no free linear map"):
        load_adapters(tmp_path, trained())


def rewritten(folder: Path, change: Any) -> Path:
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    return folder


def test_an_adapter_without_its_other_half_or_with_more_than_it_is_refused(tmp_path: Path):
    prefix = "base_model.model."
    save_adapters(tmp_path, trained())
    half = f"{prefix}blocks.0.query.lora_B.weight"
    rewritten(tmp_path, lambda weights: {key: value for key, value in weights.items() if key != half})
    with pytest.raises(ValueError, match=r"an adapter for 'blocks\.0\.query'"):
        load_adapters(tmp_path, two())
    for extra in ("blocks.0.query.lora_B.bias", "blocks.0.query.weight"):
        save_adapters(tmp_path, trained(), overwrite=True)
        rewritten(tmp_path, lambda weights, extra=extra: weights | {prefix + extra: torch.zeros(5)})
        with pytest.raises(ValueError, match=f"holds {extra}, which is neither"):
            load_adapters(tmp_path, two())


# Modules that are saved whole ------------------------------------------------------------------------------------


def classifier(lora_rank: int, seed: int = 0) -> SegmentClassifier:
    torch.manual_seed(seed)
    sizes = dict(sfreq=32.0, segment_seconds=1.0, segments=3, d_model=8, layers=2, heads=2, kv_heads=1, d_ff=8)
    network = MVPFormer(**sizes, positions=4, max_channels=4)
    return SegmentClassifier(network, pooling="attentive", lora_rank=lora_rank)


def taught(network: SegmentClassifier) -> SegmentClassifier:
    generator = torch.Generator().manual_seed(3)
    for p in network.parameters():
        if p.requires_grad:
            p.data.normal_(std=0.3, generator=generator)
    return network


SIGNAL = torch.randn(2, 3, 4, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def carried(tmp_path: Path) -> tuple[Path, Tensor]:
    """A folder with adapters, head and pool of a classifier, and its logits."""
    source = taught(classifier(2))
    save_adapters(tmp_path / "adapters", source, also=["head", "pool"], note=1)
    return tmp_path / "adapters", source(SIGNAL).detach()


def test_a_classifiers_head_and_pool_travel_with_its_adapters(carried: tuple[Path, Tensor]):
    folder, expected = carried
    assert json.loads((folder / "adapter_config.json").read_text())["modules_to_save"] == ["head", "pool"]
    kept = load_file(folder / "adapter_model.safetensors")
    assert {f"base_model.model.{name}" for name in ("head.weight", "pool.queries", "pool.out.weight")} <= set(kept)
    assert "base_model.model.network.head.weight" in kept  # of pre-training; peft wants all that is called head
    again = classifier(0, seed=0)
    assert load_adapters(folder, again) == {"note": 1}
    assert torch.equal(again(SIGNAL), expected)
    torch.testing.assert_close(again.merged()(SIGNAL), expected)


def test_whole_modules_that_are_not_there_or_hold_adapters_are_refused():
    for name in ("tail", "", "network", "network.layers.0.attention.query"):
        with pytest.raises(ValueError, match=f"also has '{name}', expected names of modules that have weights and no"):
            save_adapters("nowhere", classifier(2), also=[name])
    assert not Path("nowhere").exists()


def test_whole_modules_that_do_not_fit_leave_the_network_as_it_was(carried: tuple[Path, Tensor]):
    folder, _ = carried
    plain = SegmentClassifier(classifier(0).network, pooling="mean")
    with pytest.raises(ValueError, match="says that it holds 'pool' whole"):
        load_adapters(folder, plain)
    more = SegmentClassifier(classifier(0).network, outputs=3, pooling="attentive")
    with pytest.raises(ValueError, match=r"head\.weight is \(2, 8\), expected \(3, 8\)"):
        load_adapters(folder, more)
    assert not list(adapters(plain))
    assert not list(adapters(more))
    rewritten(folder, lambda weights: {k: v for k, v in weights.items() if not k.endswith("pool.key.weight")})
    with pytest.raises(ValueError, match=r"pool\.key\.weight is missing, expected \(8, 8\)"):
        load_adapters(folder, classifier(0))


# Hugging Face's peft ---------------------------------------------------------------------------------------------


def test_peft_reads_our_folder_and_we_read_pefts(carried: tuple[Path, Tensor], tmp_path: Path):
    peft = pytest.importorskip("peft", reason="peft is not installed (pip install peft): reading its files unchecked")
    folder, expected = carried
    with pytest.warns(UserWarning, match="Unexpected keyword arguments"):  # our own entry
        theirs = peft.PeftModel.from_pretrained(classifier(0), str(folder)).eval()
    torch.testing.assert_close(theirs(SIGNAL), expected, rtol=0, atol=1e-6)

    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["query", "value"], modules_to_save=["head", "pool"])
    made = peft.get_peft_model(classifier(0), config)
    taught(made)
    made.save_pretrained(str(tmp_path / "theirs"))
    ours = classifier(0)
    load_adapters(tmp_path / "theirs", ours)
    torch.testing.assert_close(ours(SIGNAL), made.eval()(SIGNAL), rtol=0, atol=1e-6)
