"""The student of Q-BERT: a fine-tuned model itself, which rounds its weights and activations as a scheme says."""

from __future__ import annotations

from typing import Any, Self

from torch import nn

from bench.core.errors import ModelError
from bench.models import load
from bench.models.attention import layers_of
from bench.models.outputs import reads
from papers.qbert.quantize import RANGES, quantize
from papers.qbert.scheme import Scheme


@load.register
class QuantizedModel(nn.Module):
    """Another model, made to round as a scheme says; saved, it holds the float weights and the ranges of activations.

    It takes what the other model takes and answers what that answers.
    """

    def __init__(self, model: nn.Module, scheme: Scheme):
        super().__init__()
        self.reads = reads(model)
        self.model, self.scheme = quantize(model, scheme), scheme

    @property
    def hands_to(self) -> nn.Module:
        """The model inside, which reads what this one is given."""
        return self.model

    @property
    def config(self) -> Any:
        """The config of the model inside."""
        return self.model.config

    def forward(self, input_ids: Any, *others: Any, **named: Any) -> Any:
        return self.model(input_ids, *others, **named)

    def saved_config(self) -> dict[str, Any]:
        return {"scheme": self.scheme.model_dump(mode="json"), "model": load.described(self.model)}

    @classmethod
    def from_saved(cls, config: dict[str, Any]) -> Self:
        """Raises: ModelError for a config without a scheme and a model, or a model of an unknown architecture."""
        missing = {"scheme", "model"} - config.keys()
        if missing:
            raise ModelError("the config is not that of a quantised model", found=f"no {', '.join(sorted(missing))}",
                             expected="a scheme and a model", fix="make the model with from_float")  # fmt: skip
        return cls(load.made(config["model"]), Scheme.model_validate(config["scheme"]))


@layers_of.register
def _(model: QuantizedModel) -> nn.ModuleList:
    return layers_of(model.model)


def from_float(model: nn.Module, scheme: Scheme) -> QuantizedModel:
    """A quantised twin with a copy of a model's weights, and of its ranges of activations where it is quantised itself.

    Activations that came without a range have none until the twin trains.
    Raises: SpecError where the scheme does not fit the model; ModelError where the model has nothing to quantise.
    """
    inner = model.model if isinstance(model, QuantizedModel) else model
    state = inner.state_dict()
    plain = load.made(load.described(inner))
    plain.load_state_dict({name: tensor for name, tensor in state.items() if not name.endswith(RANGES)})
    made = QuantizedModel(plain, scheme)
    made.model.load_state_dict({name: tensor for name, tensor in state.items() if name.endswith(RANGES)}, strict=False)
    return made.train(model.training)
