"""Q-BERT's packed file: the same answers from it, its bytes by hand, and every kind of damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from bench.core.errors import BenchError, ModelError, SpecError
from papers.qbert.packed import FILE, PackedSize, export, load, pack, size, stream_bytes, unpack
from papers.qbert.quantize import QuantizedLinear, quantize
from papers.qbert.scheme import Scheme
from papers.qbert.sizes import module_bytes
from papers.qbert.student import from_float

SCHEME = Scheme(layers=(2, 3), groups=4, embedding_groups=4)
SHAPE: dict[str, int] = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 20, "num_labels": 3,
}  # fmt: skip
QUERY = "bert.encoder.layer.0.attention.self.query.weight"
IDS = torch.arange(5, 35).view(3, 10)


def student(scheme: Scheme = SCHEME) -> BertForSequenceClassification:
    """A quantised BERT that has seen a batch."""
    torch.manual_seed(0)
    config = BertConfig(**SHAPE, initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model: Any = from_float(BertForSequenceClassification(config), scheme).model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
        model(IDS)
    return model.eval()


@pytest.mark.parametrize("changes", [
    {}, {"layers": (8, 1)}, {"layers": (4, 32)}, {"zero": "rounded"}, {"axis": "input"}, {"activations": 32},
    {"word": 4, "position": 32, "token_type": 1}, {"range": "percentile", "tail": 5.0}, {"groups": 1},
    {"layers": (5, 6)}, {"layers": (7, 7), "groups": 16, "embedding_groups": 16},
])  # fmt: skip
def test_the_packed_model_answers_as_the_quantised_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    scheme = SCHEME.model_copy(update=changes)
    model = student(scheme)
    assert export(model, scheme, tmp_path) == size(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded) is BertForSequenceClassification and not loaded.training
    with torch.no_grad():
        want, got = model(IDS).logits, loaded(IDS).logits
    assert torch.equal(want, got)
    names = set(loaded.state_dict())
    plain = set(BertForSequenceClassification(loaded.config).state_dict())
    assert plain <= names and len(names - plain) == (0 if scheme.activations == 32 else 2 * 4 * 2)
    assert sum(isinstance(module, QuantizedLinear) for module in loaded.modules()) in (0, 12)
    if scheme.layers[0] != 32:
        assert len(loaded.state_dict()[QUERY].unique()) <= scheme.groups * 2 ** scheme.layers[0]


def test_a_model_quantised_in_place_exports_too(tmp_path: Path) -> None:
    model = quantize(BertForSequenceClassification(BertConfig(**SHAPE)), SCHEME)
    with pytest.raises(ModelError, match="the activations have no range yet"):
        export(model, SCHEME, tmp_path)
    model.train()(IDS)
    export(model, SCHEME, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


# Bytes


def test_one_model_is_one_file(tmp_path: Path) -> None:
    model, files = student(), []
    for number in range(6):  # safetensors writes metadata in a random order
        export(model, SCHEME, tmp_path / str(number))
        files.append((tmp_path / str(number) / FILE).read_bytes())
    assert len(set(files)) == 1 and load(tmp_path / "0") is not None


def test_bytes_by_hand(tmp_path: Path) -> None:
    found = export(student(), SCHEME, tmp_path)
    layer, tables = 4 * 16 * 16 + 2 * 16 * 32, (50 + 20 + 2) * 16
    assert found.codes == layer * 2 // 8 + layer * 3 // 8 + tables
    assert found.ranges == 4 * 2 * (2 * 6 * 4 + 3 * 4 + 2 * 4)
    assert found.floats == 4 * (2 * (5 * 16 + 32 + 4 * 16) + 2 * 16 + 16 * 16 + 16 + 3 * 16 + 3)
    whole = layer + 5 * 16 + 32 + 4 * 16
    assert found.formula == whole * 5 // 8 + tables
    header = found.file - found.codes - found.ranges - found.floats
    assert found.file == (tmp_path / FILE).stat().st_size and 0 < header < 20_000


def test_the_formula_is_the_papers() -> None:
    with torch.device("meta"):
        base, mib = BertForSequenceClassification(BertConfig()), 2**20
    sizes = {bits: module_bytes(base, Scheme(layers=(bits,) * 12)) / mib for bits in (8, 4, 3, 2)}
    assert sizes == pytest.approx({8: 103.85, 4: 63.29, 3: 53.15, 2: 43.01}, abs=0.01)
    mixed = Scheme(layers=(3, 2) * 6)
    assert module_bytes(base, mixed) / mib == pytest.approx(48.08, abs=0.01)
    assert module_bytes(base, mixed.model_copy(update={"word": 4})) == module_bytes(base, mixed) - 30522 * 384


@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=40))
def test_codes_come_back_from_their_bits(bits: int, values: list[int]) -> None:
    codes = np.array(values, np.uint8) >> (8 - bits)
    stream = pack(codes, bits)
    assert len(stream) == stream_bytes(len(values), bits) == -(-len(values) * bits // 8)
    assert unpack(stream, bits, len(values)).tolist() == codes.tolist()


def test_a_stream_by_hand() -> None:
    assert pack(np.array([5, 0, 7, 1], np.uint8), 3).tolist() == [0b10100011, 0b10010000]
    assert unpack(np.array([0b10100011, 0b10010000], np.uint8), 3, 4).tolist() == [5, 0, 7, 1]
    with pytest.raises(ModelError, match="packed codes have a wrong size"):
        unpack(np.zeros(3, np.uint8), 3, 4)
    for bits in (0, 9, 16):
        with pytest.raises(SpecError, match="so many bits cannot be quantised to"):
            pack(np.zeros(3, np.uint8), bits)
    with pytest.raises(SpecError, match="floats are not packed"):
        pack(np.zeros(3, np.uint8), 32)
    with pytest.raises(SpecError, match="floats are not packed"):
        unpack(np.zeros(12, np.uint8), 32, 3)


# Bad input


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    export(student(), SCHEME, folder)
    return folder


@pytest.fixture
def damaged(packed: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the packed file whose tensors and metadata were changed."""

    def make(change: Callable[[dict[str, Tensor], dict[str, str]], object]) -> Path:
        with safe_open(packed / FILE, framework="pt") as file:
            metadata = dict(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        change(tensors, metadata)
        save_file(tensors, tmp_path / FILE, metadata=metadata)
        return tmp_path

    return make


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        load(folder)
    message = str(error.value)
    assert "\n" not in message and "next:" in message
    return message


def test_what_is_missing_or_misshapen_is_named(damaged: Callable[..., Path]) -> None:
    assert f"found no {QUERY}.scale" in refused(damaged(lambda t, m: t.pop(f"{QUERY}.scale")))
    assert f"found no {QUERY}.zero" in refused(damaged(lambda t, m: t.pop(f"{QUERY}.zero")))
    assert "found no classifier.bias" in refused(damaged(lambda t, m: t.pop("classifier.bias")))
    message = refused(damaged(lambda t, m: t.update({f"{QUERY}.scale": torch.ones(5)})))
    assert f"{QUERY}.scale as torch.float32 [5] in place of torch.float32 [4]" in message
    message = refused(damaged(lambda t, m: t.update({f"{QUERY}.codes": t[f"{QUERY}.codes"][:-1].clone()})))
    assert "[63] in place of torch.uint8 [64]" in message
    assert "extra as torch.float32 [1]" in refused(damaged(lambda t, m: t.update({"extra": torch.ones(1)})))


def test_what_was_changed_is_noticed(damaged: Callable[..., Path]) -> None:
    message = refused(damaged(lambda t, m: t[f"{QUERY}.scale"].mul_(2)))
    assert "the packed file was changed after it was written" in message
    assert "was changed" in refused(damaged(lambda t, m: m.update(sha256="0" * 64)))
    assert "was changed" in refused(damaged(lambda t, m: m.pop("sha256")))
    assert "is not a packed Q-BERT; in" in refused(damaged(lambda t, m: m.update(format="other")))
    assert "is not a packed Q-BERT; in" in refused(damaged(lambda t, m: m.update(format="qbert-packed-1")))
    assert "says nothing readable" in refused(damaged(lambda t, m: m.pop("scheme")))
    assert "says nothing readable" in refused(damaged(lambda t, m: m.pop("architecture")))
    message = refused(damaged(lambda t, m: m.update(architecture="NoSuchModel")))
    assert "the architecture is not known; found NoSuchModel" in message
    assert "says nothing readable" in refused(damaged(lambda t, m: m.update(config="{")))
    assert "says nothing readable" in refused(damaged(lambda t, m: m.update(scheme='{"layers": "many"}')))


@pytest.mark.parametrize(
    "change",
    [{"num_attention_heads": 0}, {"vocab_size": -50}, {"vocab_size": []}, {"hidden_size": -8}],
)
def test_a_config_that_no_model_has_is_refused(damaged: Callable[..., Path], change: dict[str, Any]) -> None:
    def alter(_: dict[str, Tensor], metadata: dict[str, str]) -> None:
        metadata["config"] = json.dumps(json.loads(metadata["config"]) | change)

    assert "says nothing readable" in refused(damaged(alter))


def test_bits_and_groups_in_a_file_are_checked(damaged: Callable[..., Path]) -> None:
    def with_scheme(**changes: Any) -> Path:
        text = SCHEME.model_copy(update=changes).model_dump_json()
        return damaged(lambda t, m: m.update(scheme=text))

    # 8 groups are another file, of 8 ranges: what a number of groups means for a matrix is settled by its rows (D9).
    for changes, part in (({"layers": (9, 3)}, "found 9"), ({"groups": 8}, "in place of torch.float32 [8]"),
                          ({"layers": (2, 3, 4)}, "bits of 3 layers"), ({"word": 0}, "found 0")):  # fmt: skip
        with pytest.raises(BenchError) as error:
            load(with_scheme(**changes))
        assert part in str(error.value) and "\n" not in str(error.value)


def test_no_flipped_byte_goes_unnoticed(packed: Path, tmp_path: Path) -> None:
    whole, rng = (packed / FILE).read_bytes(), np.random.default_rng(0)
    want, noticed = load(packed).state_dict(), 0
    places = [*rng.integers(0, len(whole), 60).tolist(), *range(0, 8), len(whole) - 1]
    for place in places:
        bytes_ = bytearray(whole)
        bytes_[place] ^= int(rng.integers(1, 256))
        (tmp_path / FILE).write_bytes(bytes_)
        try:
            got = load(tmp_path).state_dict()
        except BenchError as error:
            assert "\n" not in str(error)
            noticed += 1
        else:
            assert all(torch.equal(got[name], tensor) for name, tensor in want.items()), place
    assert noticed >= len(places) - 3


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_cut_file_is_refused(packed: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / FILE).write_bytes((packed / FILE).read_bytes()[:kept])
    assert "the packed file cannot be read" in refused(tmp_path)


def test_what_cannot_be_exported(packed: Path, tmp_path: Path) -> None:
    assert "there is no packed model" in refused(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="the model is not quantised as the scheme says"):
        export(BertForSequenceClassification(BertConfig(**SHAPE)), SCHEME, tmp_path)
    with pytest.raises(ModelError, match=r"in place of torch\.uint8"):
        export(student(), SCHEME.model_copy(update={"layers": (4, 3)}), tmp_path)
    model = student()
    with torch.no_grad():
        model.classifier.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="the weights are not finite"):
        export(model, SCHEME, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="the packed model cannot be written"):
        export(student(), SCHEME, tmp_path / "file")
    assert not (tmp_path / FILE).exists() and isinstance(size(packed), PackedSize)
