"""Attention on a CPU beside what else there is: time, peak memory and the kernel that ran.

Contenders take turns within a case; medians over rounds are printed, and ours to the best peer's. Queries, keys and
values are (batch, length, heads, width) seen as (batch, heads, length, width), as projections leave them; so is the
gradient that comes back; a single query looks into a contiguous cache. Forward alone keeps nothing for a gradient.
Patterns and masks are made beforehand. Memory is the most that torch held at once beyond its inputs and those, by its
profiler's record of every allocation. The peers:

* SDPA: `F.scaled_dot_product_attention`, with `is_causal`, otherwise with a dense boolean mask
* explicit: product, mask, softmax, dropout, product, as everyone writes it
* x-transformers: its `Attend`, with ``flash=True`` where it can
* entmax: explicit with that package's `entmax15`, which sorts all keys, or only the best 512 (``k``) where it may
* nn.MultiheadAttention, in brackets and not in the ratio, since it cannot be had without its projections

A peer that would take more than 5 s or 6 GB, judged by a smaller length of its own, is skipped.

    python benchmarks/attention.py [--rows plain causal ...]
"""

import argparse
import time
from itertools import accumulate
from typing import NamedTuple

import torch
from attention_rows import OURS, PRECISIONS, ROWS, UNFAIR, Call, Case
from side_by_side import Contender, compare, describe_machine
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from regard.attention import Attended

LONGEST, LARGEST = 5.0, 6e9
"""Seconds and bytes beyond which a peer is skipped."""

SECONDS, FEWEST, MOST = 1.0, 3, 15
"""About how long the rounds of a case may take, and how many there are."""

HEAD = """
| case | regard, ms | why | peers, ms | MB, regard | MB, best peer | ours / best peer |
|---|---|---|---|---|---|---|"""


class Cost(NamedTuple):
    seconds: float = 0.0
    bytes: float = 0.0

    @property
    def ms(self) -> str:
        return _digits(self.seconds * 1e3)

    @property
    def mb(self) -> str:
        return _digits(self.bytes / 2**20)


class Bench:
    """Measures cases, and remembers what contenders cost at smaller lengths."""

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], tuple[int, Cost]] = {}

    def line(self, case: Case) -> str:
        """A case as a row of the table."""
        torch.manual_seed(1)
        calls = case.contenders(case.sizes)
        expected = {name: self._expected(case, name) for name in calls if name != OURS}
        skipped = {name: cost for name, cost in expected.items() if cost.seconds > LONGEST or cost.bytes > LARGEST}
        costs = _costs({name: call for name, call in calls.items() if name not in skipped}, case)
        self.known |= {_key(case, name): (case.sizes.pairs, cost) for name, cost in costs.items()}
        mine, best = costs.pop(OURS), min((cost for name, cost in costs.items() if name != UNFAIR), default=Cost())
        ratio = f"{mine.seconds / best.seconds:.2f}" if best.seconds else ""
        cells = case.name, mine.ms, _why(calls[OURS], case), _told(costs, skipped), mine.mb, best.mb, ratio
        return f"| {' | '.join(cells)} |"

    def _expected(self, case: Case, name: str) -> Cost:
        """The cost by a smaller length, if it grows with the pairs of query and key."""
        pairs, cost = self.known.get(_key(case, name), (1, Cost()))
        return Cost(*(case.sizes.pairs / pairs * one for one in cost))


def _key(case: Case, name: str) -> tuple[object, ...]:
    return case.row, case.precision, case.backward, name


def _costs(calls: dict[str, Call], case: Case) -> dict[str, Cost]:
    given, gradient = _inputs(case)
    runs = {name: _contender(call, case.backward, given, gradient) for name, call in calls.items()}
    first = {name: _first_cost(run) for name, run in runs.items()}
    rounds = int(SECONDS / sum(cost.seconds for cost in first.values()))
    rates = compare(runs, min(max(rounds, FEWEST), MOST))
    return {name: Cost(1 / rate, first[name].bytes) for name, rate in rates.items()}


def _inputs(case: Case) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values, and a gradient of the output."""
    batch, heads, kv_heads, queries, keys, width = case.sizes
    asking, asked = (batch, queries, heads, width), (batch, keys, kv_heads, width)
    drawn = [torch.randn(shape, dtype=PRECISIONS[case.precision]) for shape in (asking, asked, asked, asking)]
    drawn = [one.transpose(1, 2).contiguous() if queries == 1 else one.transpose(1, 2) for one in drawn]
    return [one.requires_grad_(case.backward) for one in drawn[:3]], drawn[3]


def _contender(call: Call, backward: bool, given: list[Tensor], gradient: Tensor) -> Contender:
    def run() -> int:
        with torch.set_grad_enabled(backward):
            found = call(*given)
        if backward:
            (found.out if isinstance(found, Attended) else found).backward(gradient)
            for one in given:
                one.grad = None
        return 1

    return run


def _first_cost(run: Contender) -> Cost:
    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
        spent = time.perf_counter() - began
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return Cost(spent, max(accumulate(changes), default=0))


def _why(call: Call, case: Case) -> str:
    found = call(*_inputs(case)[0])
    return found.why if isinstance(found, Attended) else ""


def _told(costs: dict[str, Cost], skipped: dict[str, Cost]) -> str:
    """The peers, the fastest first."""
    ordered = sorted(costs.items(), key=lambda item: item[1].seconds)
    told = [f"({name} {cost.ms})" if name == UNFAIR else f"{name} {cost.ms}" for name, cost in ordered]
    return "; ".join(told + [f"{name} skipped: about {cost.ms}, {cost.mb} MB" for name, cost in skipped.items()])


def _digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS])
    options = parser.parse_args()
    torch.set_num_threads(2)
    describe_machine()
    print(HEAD)
    bench = Bench()
    for row in options.rows:
        for case in ROWS[row]():
            print(bench.line(case), flush=True)


if __name__ == "__main__":
    main()
