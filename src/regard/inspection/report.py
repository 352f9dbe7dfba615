"""The page a training run ends with: what was learnt, from what, how well, and what the model looks at."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired, TypedDict

from regard.inspection.page import Viewable, attention_viewer, both, fill, page, template
from regard.metrics.names import is_better, metric
from regard.metrics.names import shown as score_shown

Point = tuple[float, float]

WIDTH, HEIGHT, LEFT, MARGIN, TOP, BOTTOM = 440, 270, 52, 20, 32, 46


class Group(NamedTuple):
    """How one part of the test rows, such as a language, was answered; ``note`` is its script or an example."""

    score: float
    rows: int
    note: str = ""


class Sample(TypedDict):
    """A test row and its answer; ``history`` holds (step, prediction) pairs from earlier in training."""

    source: str
    reference: str
    prediction: str
    tag: NotRequired[str]
    history: NotRequired[Sequence[tuple[int, str]]]


@dataclass(frozen=True)
class Report:
    """All that the page shows, as plain values; what is left empty is left out.

    ``curve`` takes the lines of ``metrics.jsonl``: ``step`` with ``loss``,
    ``dev_loss`` or the scores, each under its name or with ``dev_`` before it. ``data_note`` says what is real and what
    is generated.
    """

    title: str
    summary: Mapping[str, str] = field(default_factory=dict)
    data_note: str = ""
    curve: Sequence[Mapping[str, Any]] = ()
    loss_unit: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    baseline: Mapping[str, float] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    attention: Sequence[Viewable] = ()
    next_commands: Sequence[str] = ()


def training_report(report: Report) -> str:
    """One self-contained HTML page."""
    sections = [
        _summary(report),
        _section("Scores", "得分", _cards(_score(report, name) for name in report.scores)),
        _section("Learning", "学习过程", _charts(report)),
        _section("Scores by group", "分组得分", _groups(report.groups)),
        _section("Answers", "回答示例", _cards(_sample(one, _exact(report)) for one in report.samples)),
        _section("What the model looked at", "模型看了哪里", attention_viewer(report.attention)),
        _section("Try next", "接下来试试", "".join(f"<pre>{html.escape(line)}</pre>" for line in report.next_commands)),
    ]
    return page(report.title, fill(template("report"), sections="\n".join(filter(None, sections))))


def _section(english: str, chinese: str, inside: str) -> str:
    return f"<section><h2>{both(english, chinese)}</h2>{inside}</section>" if inside else ""


def _cards(cards: Iterable[str]) -> str:
    joined = "".join(cards)
    return f'<div class="cards">{joined}</div>' if joined else ""


def _text(text: str, kind: str = "", tag: str = "span") -> str:
    """Text of any language, safe and in its own direction."""
    return f'<{tag} class="{kind}" dir="auto">{html.escape(text)}</{tag}>'


def _summary(report: Report) -> str:
    facts = "".join(
        f"<div>{_text(name, tag='dt')}{_text(value, tag='dd')}</div>" for name, value in report.summary.items()
    )
    shown = f'<dl class="card facts">{facts}</dl>' if facts else ""
    return shown + (_text(report.data_note, "note", "p") if report.data_note else "")


def _score(report: Report, name: str) -> str:
    value, trivial = report.scores[name], report.baseline.get(name)
    shown = f"<h3>{_metric(name)}</h3><strong>{score_shown(name, value)}</strong>{_scaled_bar(name, value, trivial)}"
    if trivial is not None:
        shown += f"<div>{both('trivial baseline', '简单基线')} {score_shown(name, trivial)}</div>"
    if trivial is not None and not is_better(name, value, trivial):
        shown += f'<div class="warning">{both("no better than the baseline", "不比基线好")}</div>'
    if name in report.signatures:
        shown += _text(report.signatures[name], "signature", "code")
    return f'<div class="card score">{shown}</div>'


def _metric(name: str) -> str:
    return both(*metric(name)[:2])


def _scaled_bar(name: str, value: float, trivial: float | None) -> str:
    """Of shares as they are, of other scores the larger one fills the bar."""
    if metric(name).is_share:
        return _bar(value, trivial)
    largest = max(value, trivial or 0) or 1
    return _bar(100 * value / largest, trivial and 100 * trivial / largest)


def _bar(*values: float | None) -> str:
    fills = "".join(f'<i style="width:{min(max(value, 0), 100):.1f}%"></i>' for value in values if value is not None)
    return f'<span class="bar" aria-hidden="true">{fills}</span>'


def _groups(groups: Mapping[str, Group]) -> str:
    """Every group as a bar, the best first."""
    ordered = sorted(groups.items(), key=lambda item: (-item[1][0], item[0]))
    items = (
        f"<li>{_text(name, tag='b')}{_bar(score)}<span class='value'>{score:.1f}</span>"
        f"<small><bdi>{html.escape(note)}</bdi> n={rows}</small></li>"
        for name, (score, rows, note) in ordered
    )
    return f'<ol class="card groups">{"".join(items)}</ol>' if groups else ""


def _exact(report: Report) -> bool:
    """Whether answers can be right or wrong; numbers and free text cannot."""
    return any(metric(name).is_share for name in report.scores)


def _sample(sample: Sample, exact: bool) -> str:
    right = sample["prediction"] == sample["reference"]
    marked = _verdict("right", "✓ as expected", "✓ 正确") if right else _verdict("wrong", "✗ differs", "✗ 不同")
    verdict = marked if exact else ""
    tag = _text(sample["tag"], "tag") if "tag" in sample else ""
    expected = "" if right else f'<p class="soft">{both("expected", "应为")} {_text(sample["reference"])}</p>'
    answer = _text(sample["prediction"], "answer", "p")
    history = _history(sample.get("history", ()))
    return f'<div class="card sample">{verdict}{tag}{_text(sample["source"], tag="p")}{answer}{expected}{history}</div>'


def _verdict(kind: str, english: str, chinese: str) -> str:
    return f'<span class="{kind}">{both(english, chinese)}</span>'


def _history(history: Sequence[tuple[int, str]]) -> str:
    steps = "".join(f"<li><span>{step}</span>{_text(prediction)}</li>" for step, prediction in history)
    heading = both("how it learnt this", "学习的过程")
    return f'<details><summary>{heading}</summary><ol class="history">{steps}</ol></details>' if history else ""


def _charts(report: Report) -> str:
    losses = {
        both("training loss", "训练损失"): _points(report.curve, "loss"),
        both("dev loss", "验证损失"): _points(report.curve, "dev_loss"),
    }
    shares = [name for name in report.scores if metric(name).is_share]
    scores = {
        _metric(name): _points(report.curve, f"dev_{name}") or _points(report.curve, name)
        for name in shares or [*report.scores][:1]
    }
    unit = both(f"loss ({report.loss_unit})", f"损失（{report.loss_unit}）", "tspan")
    charts = _chart(losses, unit) + _chart(
        scores, both("score on dev rows", "验证集得分", "tspan"), 100.0 if shares else 0.0
    )
    return f'<div class="charts">{charts}</div>' if charts else ""


def _points(curve: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    return [(float(line["step"]), line[name]) for line in curve if math.isfinite(line.get(name, math.nan))]


def _chart(curves: Mapping[str, list[Point]], unit: str, highest: float = 0.0) -> str:
    """Curves by label over the steps, from 0 (or the lowest value below it), as an inline SVG with a key."""
    drawn = {label: points for label, points in curves.items() if points}
    if not drawn:
        return ""
    xs, ys = zip(*(point for points in drawn.values() for point in points), strict=True)
    frame = Frame(max(*xs, 1.0), min(*ys, 0.0), max(*ys, highest) or 1.0)
    lines = "".join(_line(frame, points, place) for place, points in enumerate(drawn.values()))
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{_axes(frame, unit)}{lines}</svg>'
    key = "".join(
        f'<span class="key c{place % 3}">{label} <b>{points[-1][1]:.4g}</b></span>'
        for place, (label, points) in enumerate(drawn.items())
    )
    return f'<figure class="card">{svg}<figcaption>{key}</figcaption></figure>'


class Frame(NamedTuple):
    """What the axes span: steps from 0 to ``last``, values from ``low`` to ``high``."""

    last: float
    low: float
    high: float

    def x(self, step: float) -> float:
        return LEFT + step / self.last * (WIDTH - LEFT - MARGIN)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - BOTTOM - TOP)


def _line(frame: Frame, points: Sequence[Point], place: int) -> str:
    path = " ".join(f"{frame.x(step):.1f},{frame.y(value):.1f}" for step, value in points)
    x, y = path.split()[-1].split(",")
    return f'<g class="c{place % 3}"><polyline points="{path}"/><circle cx="{x}" cy="{y}" r="3.5"/></g>'


def _axes(frame: Frame, unit: str) -> str:
    left, right, bottom = LEFT, WIDTH - MARGIN, HEIGHT - BOTTOM
    rows = "".join(
        f'<line x1="{left}" x2="{right}" y1="{frame.y(tick):.1f}" y2="{frame.y(tick):.1f}"/>'
        f'<text x="{left - 8}" y="{frame.y(tick) + 4:.1f}" text-anchor="end">{tick:,.10g}</text>'
        for tick in _ticks(frame.low, frame.high)
    )
    columns = "".join(
        f'<text x="{frame.x(tick):.1f}" y="{bottom + 20}" text-anchor="middle">{tick:,.10g}</text>'
        for tick in _ticks(0.0, frame.last)
    )
    steps = both("steps", "训练步数", "tspan")
    return f"""{rows}{columns}<text x="{left - 40}" y="14">{unit}</text>
<text x="{right}" y="{HEIGHT - 4}" text-anchor="end">{steps}</text>"""


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
