"""Scores against the formulas of their papers, one number at a time, and against themselves as dot products."""

import math
from collections.abc import Callable

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from regard.attention import attend
from regard.attention.location import LocalMonotonic, LocalPredictive, Location, LocationSensitive, Mixture
from regard.attention.monotonic import Monotonic
from regard.attention.parts import ScorePart
from regard.attention.relative import Shaw, TransformerXL
from regard.attention.scores import (
    Additive,
    Concat,
    Cosine,
    Distance,
    Dot,
    General,
    Places,
    ScaledDot,
    Score,
)

BATCH, QUERIES, KEYS, WIDTH = 2, 3, 5, 4

ByHand = Callable[[torch.Tensor, torch.Tensor, int, int, int], float]
"""The score of a query and a key of one head, at two positions."""


@pytest.fixture(autouse=True)
def _seeded_and_double():
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def randomised(score: Score) -> Score:
    """Every parameter drawn anew, also those that begin at zero."""
    for parameter in score.parameters() if isinstance(score, nn.Module) else ():
        nn.init.normal_(parameter)
    return score


def inputs(heads: int, key_width: int = WIDTH, kv_heads: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(BATCH, heads, QUERIES, WIDTH), torch.randn(BATCH, kv_heads or heads, KEYS, key_width)


PLACES = {
    "last": Places(torch.tensor([[2, 3, 4]]), torch.arange(5)[None], None),
    "rows": Places(torch.tensor([[7, 8, 9], [3, 1, 2]]), torch.tensor([[5, 6, 7, 8, 9], [4, 0, 1, 2, 3]]), None),
    "beams": Places(torch.tensor([[6, 6, 6], [2, 2, 2]]), torch.arange(2, 7)[None], None),
}
each_place = pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)


def by_hand(formula: ByHand, queries: torch.Tensor, keys: torch.Tensor, places: Places) -> torch.Tensor:
    at, keys_at = (one.expand(BATCH, -1).tolist() for one in places[:2])
    return torch.tensor(
        [
            [
                [
                    [formula(queries[b, h, i], keys[b, h, j], h, at[b][i], keys_at[b][j]) for j in range(KEYS)]
                    for i in range(QUERIES)
                ]
                for h in range(queries.shape[1])
            ]
            for b in range(BATCH)
        ]
    )


def product(one: torch.Tensor, other: torch.Tensor) -> float:
    return math.fsum(a * b for a, b in zip(one.tolist(), other.tolist(), strict=True))


def applied(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return torch.tensor([product(row, vector) for row in matrix])


def length(vector: torch.Tensor) -> float:
    return math.sqrt(product(vector, vector))


def tanh(vector: torch.Tensor) -> torch.Tensor:
    return torch.tensor([math.tanh(number) for number in vector.tolist()])


def general(score: General) -> ByHand:
    return lambda q, k, h, i, j: product(q, applied(score.matrix[h % len(score.matrix)], k))


def cosine(score: Cosine) -> ByHand:
    return lambda q, k, h, i, j: score.temperature[h % len(score.temperature)].item() * product(q, k) / length(
        q
    ) / length(k)  # fmt: skip


def direction_of(score: Additive, head: int) -> torch.Tensor:
    return score.direction.view(score.heads, -1)[head % score.heads]


def additive(score: Additive) -> ByHand:
    def formula(q: torch.Tensor, k: torch.Tensor, h: int, i: int, j: int) -> float:
        direction = direction_of(score, h)
        if score.length is None:
            return product(direction, tanh(q + k))
        return score.length.item() / length(direction) * product(direction, tanh(q + k + score.shift))

    return formula


def concat(score: Concat) -> ByHand:
    matrix = torch.cat([score.query.weight, score.key.weight], dim=1)
    return lambda q, k, h, i, j: product(direction_of(score.additive, h), tanh(applied(matrix, torch.cat([q, k]))))


def shaw(score: Shaw) -> ByHand:
    def formula(q: torch.Tensor, k: torch.Tensor, h: int, i: int, j: int) -> float:
        clipped = max(-score.reach, min(score.reach, j - i))
        return product(q, k + score.offsets[clipped + score.reach]) / math.sqrt(WIDTH)

    return formula


def transformer_xl(score: TransformerXL) -> ByHand:
    """The four terms of the paper's section 3.3."""
    width = score.model_width

    def formula(q: torch.Tensor, k: torch.Tensor, h: int, i: int, j: int) -> float:
        angles = [(i - j) / 10000 ** (2 * (n // 2) / width) for n in range(width)]
        sinusoid = torch.tensor([math.cos(a) if n % 2 else math.sin(a) for n, a in enumerate(angles)])
        distance = applied(score.distance.weight[h * WIDTH : (h + 1) * WIDTH], sinusoid)
        content, position = score.content_bias[h, 0], score.position_bias[h, 0]
        terms = product(q, k), product(q, distance), product(content, k), product(position, distance)
        return sum(terms) / math.sqrt(WIDTH)

    return formula


def distance(q: torch.Tensor, k: torch.Tensor, h: int, i: int, j: int) -> float:
    return -product(q - k, q - k) / 2 / math.sqrt(WIDTH)


CASES: dict[str, tuple[Callable[[], Score], Callable[[Score], ByHand], int, int]] = {
    "dot": (Dot, lambda score: lambda q, k, *_: product(q, k), 3, WIDTH),
    "scaled dot": (ScaledDot, lambda score: lambda q, k, *_: product(q, k) / math.sqrt(WIDTH), 3, WIDTH),
    "distance": (Distance, lambda score: distance, 3, WIDTH),
    "general": (lambda: General(WIDTH, 3, key_width=6), general, 3, 6),
    "general, one matrix": (lambda: General(WIDTH), general, 2, WIDTH),
    "cosine": (lambda: Cosine(3), cosine, 3, WIDTH),
    "cosine, one temperature": (Cosine, cosine, 2, WIDTH),
    "additive": (lambda: Additive(WIDTH, 3), additive, 3, WIDTH),
    "additive, one direction": (lambda: Additive(WIDTH), additive, 2, WIDTH),
    "additive, normalised": (lambda: Additive(WIDTH, 3, normalised=True), additive, 3, WIDTH),
    "concat": (lambda: Concat(WIDTH, 3, key_width=6, hidden=7), concat, 3, 6),
    "concat, one head": (lambda: Concat(WIDTH), concat, 1, WIDTH),
    "location": (
        lambda: Location(WIDTH, positions=10),
        lambda score: lambda q, k, h, i, j: product(score.weight.weight[j], q),
        2,
        WIDTH,
    ),
    "shaw": (lambda: Shaw(WIDTH, reach=2), shaw, 3, WIDTH),
    "shaw, wide": (lambda: Shaw(WIDTH, reach=20), shaw, 1, WIDTH),
    "transformer xl": (lambda: TransformerXL(WIDTH, heads=3), transformer_xl, 3, WIDTH),
    "transformer xl, model width": (lambda: TransformerXL(WIDTH, 2, model_width=6), transformer_xl, 2, WIDTH),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_case
@each_place
def test_scores_are_their_formulas(case, places):
    build, formula, heads, key_width = case
    score, (queries, keys) = randomised(build()), inputs(heads, key_width)
    found = score(queries, score.keys(keys), places)
    with torch.no_grad():
        expected = by_hand(formula(score), queries, keys, places)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@each_case
def test_gradients_of_scores(case):
    build, _, heads, key_width = case
    score, (queries, keys) = randomised(build()), inputs(heads, key_width)
    parameters = [*score.parameters()] if isinstance(score, nn.Module) else []

    def function(queries: torch.Tensor, keys: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return score(queries, score.keys(keys), PLACES["rows"])

    assert torch.autograd.gradcheck(
        function, (queries.requires_grad_(), keys.requires_grad_(), *parameters), fast_mode=True
    )


LIFTS = ["dot", "scaled dot", "distance", "general", "general, one matrix", "cosine", "cosine, one temperature"]


@pytest.mark.parametrize("kv_heads", [1, 3])
@pytest.mark.parametrize("name", LIFTS)
def test_lifts_are_the_score(name, kv_heads):
    build, _, _, key_width = CASES[name]
    heads = {"general": 3, "cosine": 3}.get(name, 6)
    score, (queries, keys) = randomised(build()), inputs(heads, key_width, kv_heads)
    expected = score(queries, keys.repeat_interleave(heads // kv_heads, dim=1), PLACES["last"])
    lift = score.lift(queries, keys)
    assert lift.queries.shape[:-1] == queries.shape[:-1] and lift.keys.shape[:-1] == keys.shape[:-1]
    row = torch.zeros(1) if lift.row is None else lift.row[..., None]
    found = lift.scale * lift.queries @ lift.keys.repeat_interleave(heads // kv_heads, dim=1).mT + row
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", [name for name in CASES if name not in LIFTS])
def test_what_is_no_dot_product_does_not_lift(name):
    build, _, heads, key_width = CASES[name]
    assert build().lift(*inputs(heads, key_width)) is None


@each_place
def test_transformer_xl_makes_one_feature_for_each_distance(places):
    score, made = TransformerXL(WIDTH, heads=2), []
    score.distance.register_forward_hook(lambda module, given, out: made.append(len(out)))
    score(*inputs(2), places)
    assert made == [len(torch.arange(places.distances.min(), places.distances.max() + 1))]


def test_an_angle_of_a_vector_without_length():
    queries, keys = inputs(1)
    keys[:, :, 0] = 0
    score = Cosine()
    assert score(queries, keys, PLACES["last"])[..., 0].eq(0).all() and score.lift(queries, keys).keys.isfinite().all()


def window_keep(axes: str) -> torch.Tensor:
    """Which keys may be seen: by every query and key, by row, or all of them said once."""
    shape = {"pairs": (BATCH, 1, QUERIES, KEYS), "rows": (BATCH, 1, 1, KEYS), "once": (1, 1, 1, 1)}[axes]
    keep = torch.rand(shape) < 0.7
    return torch.ones_like(keep) if axes == "once" else keep


@each_place
def test_local_monotonic_looks_around_its_own_position(places):
    score, (queries, keys) = LocalMonotonic(ScaledDot(), back=1), inputs(2)
    found = score(queries, keys, places)
    inside = by_hand(lambda q, k, h, i, j: abs(i - j) <= 1, queries, keys, places)
    assert torch.equal(found[inside], ScaledDot()(queries, keys, places)[inside])
    assert found.softmax(-1)[inside.any(-1)][~inside[inside.any(-1)]].eq(0).all()
    assert torch.equal(score.gain(queries, places), inside.to(queries.dtype))


def test_a_window_without_keys_gets_nothing():
    score, (queries, keys) = LocalMonotonic(ScaledDot(), back=1), inputs(2)
    places = Places(torch.tensor([[4, 5, 90]]), torch.arange(5)[None], None)
    queries.requires_grad_()
    weights = score(queries, keys, places).softmax(-1) * score.gain(queries, places)
    torch.testing.assert_close(weights.sum(-1), torch.tensor([1.0, 1.0, 0.0]).expand(BATCH, 2, QUERIES))
    weights.sum().backward()
    assert queries.grad.isfinite().all()


@pytest.mark.parametrize("axes", ["none", "pairs", "rows", "once"])
def test_local_predictive_is_the_paper(axes):
    score = randomised(LocalPredictive(WIDTH, General(WIDTH), back=3))
    (queries, keys), keep = inputs(2), None if axes == "none" else window_keep(axes)
    places = Places(PLACES["last"].at, PLACES["last"].keys_at, keep)
    seen = torch.ones(BATCH, 1, QUERIES, KEYS) if keep is None else keep.expand(BATCH, 1, QUERIES, KEYS)
    found, gain = score(queries, keys, places), score.gain(queries, places)
    general_score = score.score(queries, keys, places)
    for b in range(BATCH):
        for h in range(2):
            for i in range(QUERIES):
                bent = tanh(applied(score.inner.weight, queries[b, h, i]))
                size = sum(seen[b, 0, i].tolist())
                centre = size / (1 + math.exp(-product(score.outer.weight[0], bent)))
                for j in range(KEYS):
                    inside = abs(j - centre) <= 3
                    expected = math.exp(-((j - centre) ** 2) / (2 * 1.5**2)) if inside else 0.0
                    assert gain[b, h, i, j].item() == pytest.approx(expected, abs=1e-12)
                    assert (found[b, h, i, j] == general_score[b, h, i, j]).item() == inside


def test_gains_multiply_the_weights_of_norms_that_keep_a_state():
    score, norm = randomised(LocalPredictive(WIDTH, General(WIDTH), back=3)), Monotonic(2, noise=0.0).double()
    queries, keys = inputs(2)
    attended = attend(queries, keys, keys, score=score, norm=norm)
    at, keys_at = torch.arange(KEYS - QUERIES, KEYS)[None], torch.arange(KEYS)[None]
    state = norm.begin(queries[:, :, :1] @ keys.mT)
    for step in range(QUERIES):
        places, query = Places(at[:, step : step + 1], keys_at, None), queries[:, :, step : step + 1]
        weights, state = norm.step(score(query, keys, places), None, state)
        expected = weights * score.gain(query, places)
        torch.testing.assert_close(attended.weights.dense()[:, :, step : step + 1], expected)


def test_gradients_of_local_predictive():
    score, (queries, keys) = randomised(LocalPredictive(WIDTH, Dot(), back=3)), inputs(1)

    def function(queries: torch.Tensor, keys: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        places = PLACES["last"]
        return score(queries, keys, places).softmax(-1) * score.gain(queries, places)

    given = queries.requires_grad_(), keys.requires_grad_(), *score.parameters()
    assert torch.autograd.gradcheck(function, given, fast_mode=True)


def test_local_scores_know_what_their_score_does_to_keys():
    inner = Concat(WIDTH, key_width=6)
    keys = torch.randn(BATCH, 1, KEYS, 6)
    assert torch.equal(LocalMonotonic(inner, back=2).keys(keys), inner.keys(keys))


def weights_of(scores: torch.Tensor) -> torch.Tensor:
    return scores.softmax(-1)


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("heads", [1, 2])
def test_location_sensitive_filters_what_was_looked_at(heads, cumulative):
    score = randomised(LocationSensitive(WIDTH, heads, filters=3, kernel=5, cumulative=cumulative))
    keys, places = torch.randn(BATCH, heads, KEYS, WIDTH), PLACES["beams"]
    state = None
    remembered = torch.zeros(BATCH, heads, QUERIES, KEYS)
    for _ in range(3):
        queries = torch.randn(BATCH, heads, QUERIES, WIDTH)
        state = score.begin(queries, keys) if state is None else state
        found, carried = score.step(queries, keys, places, state)
        with torch.no_grad():
            expected = located_by_hand(score, queries, keys, remembered)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
        state = score.after(carried, weights_of(found))
        remembered = weights_of(expected) + (remembered if cumulative else 0)
        torch.testing.assert_close(state, remembered, atol=1e-12, rtol=0)


def located_by_hand(score, queries, keys, remembered) -> torch.Tensor:
    """v . tanh(q + k_j + U f_j), where f_j = F * weights at j."""
    taps, reach = score.filters.weight[:, 0], score.filters.weight.shape[-1] // 2
    out = torch.zeros(*queries.shape[:-1], KEYS)
    for b, h, i, j in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
        around = torch.tensor(
            [remembered[b, h, i, at].item() if 0 <= at < KEYS else 0.0 for at in range(j - reach, j + reach + 1)]
        )
        features = applied(score.location.weight, applied(taps, around))
        out[b, h, i, j] = product(direction_of(score.additive, h), tanh(queries[b, h, i] + keys[b, h, j] + features))
    return out


def softplus(number: float) -> float:
    return math.log1p(math.exp(number))


def mixed_by_hand(original: bool, numbers: list[float], means: list[float], at: int) -> tuple[float, list[float]]:
    """The weight of a key at a position, and the means after the step (Graves 2013; Battenberg 2020, version 2)."""
    count = len(means)
    shares, widths, steps = numbers[:count], numbers[count : 2 * count], numbers[2 * count :]
    if original:
        means = [mean + math.exp(step) for mean, step in zip(means, steps, strict=True)]
        parts = zip(shares, widths, means, strict=True)
        return sum(math.exp(a) * math.exp(-math.exp(b) * (mean - at) ** 2) for a, b, mean in parts), means
    means = [mean + softplus(step) for mean, step in zip(means, steps, strict=True)]
    total, weight = sum(map(math.exp, shares)), 0.0
    for share, width, mean in zip(shares, widths, means, strict=True):
        deviation = softplus(width)
        density = math.exp(-((at - mean) ** 2) / (2 * deviation**2)) / math.sqrt(2 * math.pi * deviation**2)
        weight += math.exp(share) / total * density
    return weight, means


@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("where", ["last", "rows"])
def test_mixtures_are_the_papers_and_move_on(original, where):
    score, places = randomised(Mixture(WIDTH, components=3, original=original)), PLACES[where]
    keys, keys_at = torch.randn(BATCH, 2, KEYS, WIDTH), places.keys_at.expand(BATCH, -1).tolist()
    state, means = None, {}
    for _ in range(3):
        queries = torch.randn(BATCH, 2, QUERIES, WIDTH)
        state = score.begin(queries, keys) if state is None else state
        found, carried = score.step(queries, keys, places, state)
        state = score.after(carried, found.exp())
        numbers = score.parameters_of(queries).tolist()
        for b, h, i in torch.cartesian_prod(*map(torch.arange, (BATCH, 2, QUERIES))).tolist():
            before = means.get((b, h, i), [0.0] * 3)
            for j in range(KEYS):
                weight, means[b, h, i] = mixed_by_hand(original, numbers[b][h][i], before, keys_at[b][j])
                assert found[b, h, i, j].item() == pytest.approx(math.log(weight), abs=1e-10, rel=1e-12)
            assert state[b, h, i].tolist() == pytest.approx(means[b, h, i], abs=1e-12)
            assert all(after > earlier for after, earlier in zip(means[b, h, i], before, strict=True))


def test_a_normalised_mixture_sums_to_one_over_all_positions():
    score = Mixture(WIDTH, components=2)
    nn.init.constant_(score.parameters_of.bias, 3.0)  # means of about 3 and deviations of about 3
    queries, keys = torch.randn(1, 1, 1, WIDTH), torch.randn(1, 1, 81, WIDTH)
    places = Places(torch.tensor([[0]]), torch.arange(-40, 41)[None], None)
    scores, _ = score.step(queries, keys, places, score.begin(queries, keys))
    assert scores.exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_a_mixture_far_from_every_key_is_finite():
    score = Mixture(WIDTH, components=2, original=True).float()
    queries, keys = torch.randn(1, 1, 1, WIDTH).float(), torch.randn(1, 1, 3, WIDTH).float()
    places = Places(torch.tensor([[0]]), torch.tensor([[0, 1000, 100000]]), None)
    scores, _ = score.step(queries, keys, places, score.begin(queries, keys))
    assert scores.isfinite().all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: LocationSensitive(WIDTH, 2, filters=3, kernel=3),
        lambda: Mixture(WIDTH, components=2),
        lambda: Mixture(WIDTH, components=2, original=True),
    ],
    ids=["location sensitive", "mixture", "original mixture"],
)
def test_gradients_of_two_steps(build):
    score, (queries, keys) = randomised(build()), inputs(2)

    def function(queries: torch.Tensor, keys: torch.Tensor, state: torch.Tensor, *_: torch.Tensor):
        first, carried = score.step(queries, keys, PLACES["last"], state)
        return score.step(queries.flip(2), keys, PLACES["last"], score.after(carried, weights_of(first)))

    state = torch.rand_like(score.begin(queries, keys))
    given = [one.requires_grad_() for one in (queries, keys, state)]
    assert torch.autograd.gradcheck(function, (*given, *score.parameters()), fast_mode=True)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "dot"},
        {"kind": "scaled_dot"},
        {"kind": "distance"},
        {"kind": "general"},
        {"kind": "cosine", "temperature": 4.0},
        {"kind": "additive", "normalised": True},
        {"kind": "concat"},
        {"kind": "shaw", "reach": 3},
        {"kind": "transformer_xl"},
    ],
)
def test_settings_go_there_and_back_and_build(given):
    adapter = TypeAdapter(ScorePart)
    part = adapter.validate_python(given)
    assert adapter.validate_python(adapter.dump_python(part, mode="json")) == part
    score, (queries, keys) = part.build(WIDTH, 2), inputs(2)
    assert score(queries, score.keys(keys), PLACES["last"]).shape == (BATCH, 2, QUERIES, KEYS)
