"""When the search for the eigenvalue of largest magnitude may stop: nothing larger can be hidden, at either end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.core.errors import SpecError
from papers.qbert.hessian import BlockProducts
from papers.qbert.lanczos import MISSED, Lanczos
from tests.papers.test_qbert_hessian import LOSS, batch, bert


def search(eigenvalues: np.ndarray, seed: int, steps: int = 80, tolerance: float = 0.01) -> tuple[float, bool]:
    matrix = torch.as_tensor(eigenvalues, dtype=torch.float32)
    lanczos = Lanczos(torch.randn(len(matrix), generator=torch.Generator().manual_seed(seed)))
    for _ in range(steps):
        lanczos.advance(matrix * lanczos.vector)
        if lanczos.found(1, tolerance):
            return float(lanczos.ritz()[0][0]), True
    return float(lanczos.ritz()[0][0]), False


TIED = {
    "both ends": lambda rng: np.r_[1.0, -0.98, rng.normal(0, 0.1, 198)],
    "a cluster below": lambda rng: np.r_[1.0, -0.985, -0.98, -0.97, 0.96, rng.normal(0, 0.2, 195)],
    "a decoy": lambda rng: np.r_[1.0, 0.9, -0.6, rng.normal(0, 0.2, 197)],
    "far off": lambda rng: np.r_[1.0, -rng.uniform(0.7, 0.99, 3), rng.uniform(-0.6, 0.8, 196)],
}


@pytest.mark.parametrize("kind", TIED)
def test_what_is_called_found_is_the_largest_with_its_sign(kind: str) -> None:
    found = [search(TIED[kind](np.random.default_rng(seed)), seed) for seed in range(150)]
    assert sum(done for _, done in found) == 150
    assert all(value == pytest.approx(1.0, rel=0.01) for value, _ in found)


def test_a_start_that_hides_the_largest_is_waited_for() -> None:
    """The start holds a hundredth of its usual share: the others look finished long before."""
    values = torch.cat([torch.tensor([1.0, -0.6]), torch.linspace(-0.05, 0.05, 98)])
    start = torch.ones(100)
    start[0] = 1e-2
    lanczos, early = Lanczos(start), 0
    while not lanczos.found(1, 0.01) if lanczos.diagonal else True:
        lanczos.advance(values * lanczos.vector)
        ritz, _, bounds, _ = lanczos.ritz()
        early += bool(bounds[0] < 0.01 * abs(ritz[0]) and abs(ritz[0]) < 0.99)
    assert early >= 1, "by its error bound alone the search would have ended at another value"
    assert lanczos.ritz()[0][0] == pytest.approx(1.0, rel=0.01)


def test_the_chance_is_the_share_of_starts_that_hide_it() -> None:
    """One product with the unit matrix and a far value: by hand, held = 1 / sqrt(1 + ((mu - a) / b)^2)."""
    lanczos = Lanczos(torch.tensor([1.0, 1.0]))
    lanczos.advance(torch.tensor([2.0, 0.0]) / 2**0.5)  # diag(2, 0): a = 1, b = 1
    assert lanczos.chance_of_missing(4.0) == pytest.approx((1 / 10**0.5) * (4 / np.pi) ** 0.5, rel=1e-5)
    assert 0 < MISSED < 0.01 and lanczos.chance_of_missing(1.0) == 1.0


def test_products_asked_for_other_layers_later() -> None:
    model = bert().eval()
    model.set_attn_implementation("eager")
    blocks = {i: list(layer.parameters()) for i, layer in enumerate(model.bert.encoder.layer)}
    vectors = {i: torch.ones(sum(p.numel() for p in own)) for i, own in blocks.items()}
    whole = BlockProducts(model, LOSS, [batch(4)], blocks)(vectors)
    one = BlockProducts(model, LOSS, [batch(4)], blocks)
    for layers in ([0], [2, 0], [1]):
        for layer, product in one({layer: vectors[layer] for layer in layers}).items():
            assert torch.allclose(product, whole[layer], rtol=1e-4, atol=1e-6)
    with pytest.raises(SpecError, match=r"no block of this layer; found \[7\]; expected some of \[0, 1, 2\]"):
        one({7: vectors[0]})
