"""Q-BERT on models that are no BERT: what of them is rounded, that they train, are saved, packed and sensed."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import DistilBertConfig, DistilBertForQuestionAnswering, DistilBertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from bench.core.errors import ModelError, SpecError
from bench.models import load
from bench.models.outputs import forward, inputs
from bench.train.losses import supervised
from papers.mobilebert.heads import MobileBertClassifier
from papers.mobilebert.student import Architecture
from papers.qbert import packed, shapes
from papers.qbert.hessian import top_eigenvalues
from papers.qbert.quantize import QuantizedLSTM, layers, quantize, quantized_weights
from papers.qbert.rounding import MovingRange, Rounding
from papers.qbert.scheme import Scheme
from papers.qbert.sizes import module_bytes
from papers.qbert.student import QuantizedModel, from_float


class Tiny(nn.Module):
    """A classifier of 2 classes and 30 words of width 6 that says itself how it is saved."""

    def __init__(self, config: dict[str, int]):
        super().__init__()
        self.sizes, self.word_embeddings = config, nn.Embedding(30, 6)

    def saved_config(self) -> dict[str, Any]:
        return {"sizes": self.sizes}

    @classmethod
    def from_saved(cls, config: dict[str, Any]) -> Self:
        return cls(config["sizes"])

    def answer(self, states: Tensor) -> SequenceClassifierOutput:
        classifier: Any = self.classifier
        return SequenceClassifierOutput(logits=classifier(states))


@load.register
class TinyLstm(Tiny):
    """The maximum over the tokens of an LSTM of two directions."""

    def __init__(self, config: dict[str, int]):
        super().__init__(config)
        self.lstm = nn.LSTM(6, config["hidden"], config["levels"], batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * config["hidden"], 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        lengths = attention_mask.sum(1).cpu()
        words = pack_padded_sequence(self.word_embeddings(input_ids), lengths, batch_first=True, enforce_sorted=False)
        return self.answer(pad_packed_sequence(self.lstm(words)[0], batch_first=True, padding_value=-9.0)[0].amax(1))


@load.register
class TinyCnn(Tiny):
    """The maximum over convolutions of two widths, and a hidden layer."""

    def __init__(self, config: dict[str, int]):
        super().__init__(config)
        self.convolutions = nn.ModuleList(nn.Conv1d(6, config["filters"], width, padding=2) for width in (2, 3))
        self.hidden = nn.Linear(2 * config["filters"], 4)
        self.classifier = nn.Linear(4, 2)

    def forward(self, input_ids: Tensor) -> SequenceClassifierOutput:
        words = self.word_embeddings(input_ids).transpose(1, 2)
        highest = torch.cat([convolution(words).amax(2) for convolution in self.convolutions], 1)
        return self.answer(torch.tanh(self.hidden(highest)))


DISTIL = {"vocab_size": 30, "n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 20}
MOBILE = Architecture(
    vocab_size=30, max_position_embeddings=20, embedding_size=8, num_hidden_layers=1, hidden_size=16,
    intra_bottleneck_size=8, num_attention_heads=2, num_feedforward_networks=1, intermediate_size=16,
)  # fmt: skip
MODELS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: TinyLstm({"hidden": 5, "levels": 2}),
    "cnn": lambda: TinyCnn({"filters": 8}),
    "distilbert": lambda: DistilBertForSequenceClassification(DistilBertConfig(**DISTIL)),
    "spans": lambda: DistilBertForQuestionAnswering(DistilBertConfig(**DISTIL)),
    "mobilebert": lambda: MobileBertClassifier(MOBILE),
}
LAYERS = {"lstm": 1, "cnn": 3, "distilbert": 2, "spans": 2, "mobilebert": 9}


def make(name: str) -> nn.Module:
    """One of the models with weights that matter."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    return model.eval()


def batch() -> dict[str, Tensor]:
    ids = torch.randint(1, 30, (4, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 4:] = mask[2, 2:] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids),
            "labels": torch.tensor([0, 1, 1, 0])}  # fmt: skip


def scheme(name: str, **changes: Any) -> Scheme:
    return Scheme(**{"layers": (3,) * LAYERS[name]} | changes)


def student(name: str, **changes: Any) -> QuantizedModel:
    """A quantised twin that has seen a batch."""
    model = from_float(make(name), scheme(name, **changes)).train()
    with torch.no_grad():
        forward(model, batch())
    return model.eval()


def answers(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return forward(model, batch()).logits


# What is rounded


def test_parts_of_a_distilbert() -> None:
    model = student("distilbert").model
    found = {name.removeprefix("distilbert.") for name in quantized_weights(model)}
    parts = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2")
    wanted = {f"transformer.layer.{i}.{part}.weight" for i in range(2) for part in parts}
    assert found == wanted | {f"embeddings.{table}_embeddings.weight" for table in ("word", "position")}
    ranges = {name.split(".")[-2] for name, module in model.named_modules() if isinstance(module, MovingRange)}
    assert ranges == {"q_lin", "k_lin", "v_lin", "lin1"}
    own = scheme("distilbert", layers=(2, 5), word=4, position=6)
    bits = {n.split(".")[-2]: r.bits for n, (_, r) in quantized_weights(quantize(make("distilbert"), own)).items()
            if "layer.0" not in n}  # fmt: skip
    assert bits["word_embeddings"] == 4 and bits["position_embeddings"] == 6 and bits["q_lin"] == bits["lin2"] == 5


def test_parts_of_models_without_an_encoder() -> None:
    found = quantized_weights(quantize(make("lstm"), scheme("lstm", groups=128)))
    names = {
        f"lstm.weight_{kind}_l{level}{way}" for kind in ("ih", "hh") for level in (0, 1) for way in ("", "_reverse")
    }
    assert set(found) == names | {"word_embeddings.weight"}
    assert {name: r.groups for name, (_, r) in found.items()} == dict.fromkeys(names, 4) | {"word_embeddings.weight": 2}
    model = make("cnn")
    assert [type(layer).__name__ for layer in layers(model)] == ["Conv1d", "Conv1d", "Linear"]
    found = quantized_weights(quantize(model, scheme("cnn", layers=(2, 3, 4), groups=4)))
    assert {name: (r.bits, r.groups) for name, (_, r) in found.items()} == {
        "word_embeddings.weight": (8, 2), "convolutions.0.weight": (2, 4), "convolutions.1.weight": (3, 4),
        "hidden.weight": (4, 4),
    }  # fmt: skip
    ranges = [name for name, module in model.named_modules() if isinstance(module, MovingRange)]
    assert ranges == ["convolutions.0.output", "convolutions.1.output", "hidden.output"]
    assert type(model.classifier) is nn.Linear


@pytest.mark.parametrize("name", MODELS)
def test_it_answers_as_the_model_with_rounded_weights(name: str) -> None:
    """From the first pass on, and after a move or a copy."""
    plain = make(name)
    twin = from_float(plain, scheme(name, activations=32))
    with torch.no_grad():
        for weight, (values, rounding) in quantized_weights(twin.model).items():
            plain.get_parameter(weight).copy_(rounding(values))
    want = answers(plain)
    assert float((want - answers(make(name))).abs().max()) > 1e-3
    for model in (twin, twin, copy.deepcopy(twin), twin.to(torch.float64).to(torch.float32)):
        assert torch.allclose(answers(model), want, atol=1e-6)
    assert not [key for key in twin.model.state_dict() if key not in plain.state_dict()]


def test_a_convolution_in_groups_by_hand() -> None:
    weight = torch.tensor([[[0.0, 8.0]], [[1.0, 3.0]], [[0.0, 0.4]], [[0.6, 1.0]]])
    rounding = Rounding(bits=1, groups=8, axis="output").fitted(weight)
    assert rounding.groups == 4 and torch.equal(rounding(weight), weight)
    two = Rounding(bits=1, groups=2, axis="output")(weight)
    assert two.flatten().tolist() == [0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    by_input = Rounding(bits=1, groups=2, axis="input")(weight)
    assert by_input[:, 0, 0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert by_input[:, 0, 1].tolist() == [8.0, *[pytest.approx(0.4)] * 3]


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("name", ["lstm", "cnn"])
def test_every_parameter_learns(name: str, axis: str) -> None:
    model = student(name, axis=axis).train()
    with torch.no_grad():
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    supervised("label")(model, batch())["task"].backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    optimizer.step()
    optimizer.zero_grad()
    assert all(not torch.equal(tensor, before[key]) for key, tensor in model.named_parameters())
    assert not torch.equal(answers(student(name, axis=axis)), answers(model.eval())), "the new weights are used"


def test_an_lstm_without_packing_has_the_gradient_of_its_rounded_weights() -> None:
    lstm = nn.LSTM(3, 4, batch_first=True)
    quantized = QuantizedLSTM(lstm, Rounding(3, 4, "output"), None)
    plain, x = copy.deepcopy(lstm), torch.randn(2, 5, 3)
    with torch.no_grad():
        for name, rounding in quantized.roundings.items():
            getattr(plain, name).copy_(rounding(getattr(lstm, name)))
    for module in (quantized, plain):
        out, (state, _) = module(x)
        (out.square().sum() + state.sum()).backward()
    assert dict(quantized.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    for name, parameter in quantized.named_parameters():
        assert torch.allclose(parameter.grad, plain.get_parameter(name).grad, atol=1e-6), name  # pyright: ignore


# Saved and packed


@pytest.mark.parametrize("name", MODELS)
def test_it_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model = student(name)
    load.save(model, tmp_path / "saved")
    again = load.load_saved(tmp_path / "saved").eval()
    assert isinstance(again, QuantizedModel) and again.scheme == model.scheme
    assert type(again.model) is type(model.model) and set(inputs(again, batch())) == set(inputs(model.model, batch()))
    assert torch.equal(answers(again), answers(model)) and load.is_saved_in(model, tmp_path / "saved")
    assert torch.equal(answers(from_float(model, model.scheme)), answers(model)), "ranges go with it"


@pytest.mark.parametrize("changes", [{}, {"axis": "input"}, {"activations": 32}, {"zero": "rounded", "groups": 1}])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_packed(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model = student(name, **changes)
    found = packed.export(model.model, model.scheme, tmp_path)
    assert found == packed.size(tmp_path) and found.formula == module_bytes(make(name), model.scheme)
    again = packed.load(tmp_path)
    assert type(again) is type(model.model) and torch.equal(answers(again), answers(model))
    plain = packed.load_plain(tmp_path)
    assert plain.state_dict().keys() == make(name).state_dict().keys()
    assert float((answers(plain) - answers(model)).abs().max()) < 0.2


def test_bytes_of_a_packed_lstm_by_hand(tmp_path: Path) -> None:
    model = student("lstm")
    found = packed.export(model.model, model.scheme, tmp_path)
    sizes = [20 * 6, 20 * 5, 20 * 10, 20 * 5]  # weights of a direction: of the inputs and of its own state, two levels
    assert found.codes == sum(2 * -(-size * 3 // 8) for size in sizes) + 30 * 6
    assert found.ranges == 4 * (2 * (8 * 4 + 2) + 2)
    assert found.floats == 4 * (2 * 4 * 20 + 2 * 10 + 2)
    assert found.formula == -(-(2 * (sum(sizes) + 4 * 20)) * 3 // 8) + 30 * 6


def test_in_a_new_process_the_papers_class_must_be_imported_first(tmp_path: Path) -> None:
    model = student("lstm")
    packed.export(model.model, model.scheme, tmp_path)
    load.save(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["QuantizedModel"]
    code = "import sys; from pathlib import Path\n" \
           "from bench.models import load; from bench.core.errors import ModelError\n" \
           "def told(read):\n" \
           "    try: read(Path(sys.argv[1]))\n" \
           "    except ModelError as error: print(error)\n" \
           "told(load.load_saved)\n" \
           "from papers.qbert import packed, student\n" \
           "told(load.load_saved); told(packed.load)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    first, *others = done.stdout.splitlines()
    assert "found QuantizedModel" in first and first.endswith(
        "import papers.qbert.student of the paper that defines it first"
    )
    assert len(others) == 2 and all("found TinyLstm" in line and f"import {__name__}" in line for line in others)


# Sensitivity


def lstm_by_hand(model: TinyLstm, parts: dict[str, Tensor], rows: dict[str, Tensor]) -> Tensor:
    """The logits of the tiny LSTM, of one level, from its parameters, step by step."""
    words, out = model.word_embeddings.weight[rows["input_ids"]], []
    for row, length in zip(words, rows["attention_mask"].sum(1).tolist(), strict=True):
        ways = []
        for end, order in (("", range(length)), ("_reverse", reversed(range(length)))):
            weight, own, bias, more = (
                parts[f"{kind}_l0{end}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = c = torch.zeros(own.shape[1], dtype=words.dtype)
            states: dict[int, Tensor] = {}
            for t in order:
                i, f, g, o = (weight @ row[t] + bias + own @ h + more).chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                states[t] = h = o.sigmoid() * c.tanh()
            ways.append(torch.stack([states[t] for t in range(length)]).amax(0))
        out.append(torch.cat(ways))
    return model.classifier(torch.stack(out))


def test_the_hessian_of_an_lstm_against_the_dense_one() -> None:
    torch.manual_seed(0)
    model = TinyLstm({"hidden": 3, "levels": 1})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.6)
    rows = batch()
    exact = copy.deepcopy(model).double()
    parts = {name: p.detach() for name, p in exact.lstm.named_parameters()}
    assert torch.allclose(lstm_by_hand(exact, parts, rows), exact(rows["input_ids"], rows["attention_mask"]).logits)

    def value(flat: Tensor) -> Tensor:
        pieces = flat.split([p.numel() for p in parts.values()])
        named = {name: piece.view_as(p) for (name, p), piece in zip(parts.items(), pieces, strict=True)}
        return F.cross_entropy(lstm_by_hand(exact, named, rows), rows["labels"])

    dense: Any = torch.autograd.functional.hessian(value, torch.cat([p.reshape(-1) for p in parts.values()]))
    values = np.linalg.eigvalsh(dense.numpy())
    want = values[np.abs(values).argmax()]
    enabled = torch.backends.mkldnn.enabled
    found = top_eigenvalues(model.train(), supervised("label"), [rows], tolerance=1e-5, max_steps=150)
    assert list(found) == [0] and found[0].converged and found[0].value == pytest.approx(want, rel=1e-3)
    assert model.training and torch.backends.mkldnn.enabled == enabled


@pytest.mark.parametrize("name", ["cnn", "distilbert"])
def test_other_models_have_a_sensitivity_too(name: str) -> None:
    found = top_eigenvalues(make(name), supervised("label"), [batch()])
    assert list(found) == list(range(LAYERS[name])) and all(one.converged and one.value for one in found.values())


# Sizes at paper size, and what is refused


def test_shapes_of_stacks() -> None:
    with torch.device("meta"):
        distil = DistilBertForSequenceClassification(DistilBertConfig())
        lstm = TinyLstm({"hidden": 5, "levels": 1})
    layer, tables = 7_087_872, (30522 + 512) * 768
    assert shapes.packed("qbert-w4", distil) == {"packed": 6 * layer // 2 + tables}
    assert shapes.packed("qbert-mp23", distil) == {"packed": 3 * layer * 5 // 8 + tables}
    assert shapes.packed("qbert-w4-e4", distil) == {"packed": 6 * layer // 2 + tables // 2}
    one = 2 * (20 * 6 + 20 * 5 + 2 * 20)
    assert shapes.packed("qbert-w2", lstm) == {"packed": one // 4 + 30 * 6}
    with pytest.raises(SpecError, match="a mixture takes two layers or more"):
        shapes.packed("qbert-mp23", lstm)


def test_what_cannot_be_quantised_is_one_clear_line() -> None:
    with pytest.raises(ModelError, match="the model has no layers to quantise; found Linear"):
        quantize(nn.Linear(2, 2), Scheme(layers=(4,)))
    with pytest.raises(SpecError, match="found bits of 2 layers; expected 1 layers"):
        from_float(make("lstm"), Scheme(layers=(4, 4)))
    model = make("lstm")
    model.lstm = QuantizedLSTM(model.lstm, Rounding(3, 1, "output"), None)  # pyright: ignore
    with pytest.raises(ModelError, match=r"in lstm; found QuantizedLSTM; expected a plain Linear or Conv1d or LSTM"):
        quantize(model, Scheme(layers=(4,)))
    with pytest.raises(AssertionError, match="cannot save a Sequential"):
        from_float(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), Scheme(layers=(4,)))
