"""Tables with a time column: stamps of many forms, faults that are mended or refused, windows, scales and errors."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error

from regard.data.recognition import recognise
from regard.data.scaling import Scale, season_of
from regard.data.series import Borders, Series, Windows, cut_windows
from regard.data.series_files import SeriesFiles, read_series
from regard.data.tables import read_table
from regard.data.times import Clock, Stamps, read_times
from regard.errors import DataError
from regard.metrics.series import mae, mase, mse, quantile_loss, smape
from regard.models.model import ModelSettings
from regard.proposals import propose_windows
from regard.recipe import Recipe
from regard.tasks.forecast import ForecastSettings

LINEAR = ModelSettings.model_validate({"kind": "linear"})
HOURS = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(60)]


def table(path: Path, rows: list[tuple], header: str = "time,load,heat") -> str:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def hourly(number: int = 60) -> list[tuple]:
    return [(f"{time:%Y-%m-%d %H:%M}", place % 24, 1000 + place**0.5) for place, time in enumerate(HOURS[:number])]


def seconds(*cells: str) -> list[int]:
    return read_times(cells, "file", range(1, len(cells) + 1)).seconds.tolist()


def unix(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("2024-01-31", (2024, 1, 31)),
        ("2024/1/31 7:05", (2024, 1, 31, 7, 5)),
        ("2024-01-31T07:05:09", (2024, 1, 31, 7, 5, 9)),
        ("2024-01-31T07:05:09.250Z", (2024, 1, 31, 7, 5, 9)),
        ("2024-01-31 07:05:09+02:00", (2024, 1, 31, 5, 5, 9)),
        ("2024-01-31 07:05-0330", (2024, 1, 31, 10, 35)),
        ("2024-01-31 07:05:09+02", (2024, 1, 31, 5, 5, 9)),
        ("31.01.2024 07:05", (2024, 1, 31, 7, 5)),
        ("31/1/2024", (2024, 1, 31)),
        ("1/31/2024 12:05 AM", (2024, 1, 31, 0, 5)),
        ("1/31/2024 1:05 pm", (2024, 1, 31, 13, 5)),
        ("2024-07", (2024, 7, 1)),
        ("2024 Q3", (2024, 7, 1)),
        ("Q3 2024", (2024, 7, 1)),
        ("2024年1月31日", (2024, 1, 31)),
        ("2024年1月31日 7:05", (2024, 1, 31, 7, 5)),
        ("2024年1月31日7时5分", (2024, 1, 31, 7, 5)),
        ("2024年7月", (2024, 7, 1)),
        ("20240131T070509Z", (2024, 1, 31, 7, 5, 9)),
        ("20240131T0705", (2024, 1, 31, 7, 5)),
        ("202401", (2024, 1, 1)),
        ("2024-W05", (2024, 1, 29)),
        ("2024-W05-3", (2024, 1, 31)),
        ("2024-01-30 24:00", (2024, 1, 31)),
        ("Wed, 31 Jan 2024 07:05:09 GMT", (2024, 1, 31, 7, 5, 9)),
        ("Jul 4 2024", (2024, 7, 4)),
        ("July 2024", (2024, 7, 1)),
        ("4-Jul-2024", (2024, 7, 4)),
        ("2024", (2024, 1, 1)),
        ("20240704", (2024, 7, 4)),
    ],
)
def test_time_stamps_of_any_usual_form(cell: str, wanted: tuple[int, ...]) -> None:
    assert seconds(cell) == [unix(*wanted)]


def test_seconds_and_milliseconds_since_1970() -> None:
    assert seconds("1704067200", "1704070800") == [unix(2024, 1, 1), unix(2024, 1, 1, 1)]
    assert seconds("1704067200000") == [unix(2024, 1, 1)]


def test_a_column_says_whether_days_come_first() -> None:
    assert seconds("05/06/2024", "13/06/2024")[0] == unix(2024, 6, 5)
    assert seconds("05/06/2024", "05/13/2024")[0] == unix(2024, 5, 6)
    assert seconds("05.06.2024", "06.06.2024")[0] == unix(2024, 6, 5)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["05/06/2024", "06/06/2024"], "cannot be told apart"),
        (["13/06/2024", "06/13/2024"], "change places"),
        (["2024-01-01 00:00Z", "2024-01-01 01:00"], "some have none"),
        (["2024-01-01", "soon"], "row 2: 'soon' is no time"),
        (["2024-01-01", "2024-02-30"], "row 2: '2024-02-30'"),
        (["2024-01-01", "13:00"], "no time like '2024-01-01'"),
    ],
)
def test_stamps_that_cannot_be_read(cells: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_times(cells, "file", range(1, len(cells) + 1))


@pytest.mark.parametrize(
    ("cells", "step", "after"),
    [
        (["2024-01-01 00:15", "2024-01-01 00:45", "2024-01-01 01:15"], "30 minutes", "2024-01-01 01:45"),
        (["2024-01-01", "2024-01-02", "2024-01-03"], "day", "2024-01-04"),
        (["2024-01-01", "2024-01-08", "2024-01-15"], "7 days", "2024-01-22"),
        (["2023-11", "2023-12", "2024-01"], "month", "2024-02"),
        (["2023-11-30", "2023-12-31", "2024-01-31"], "month", "2024-02"),
        (["2023 Q3", "2023 Q4", "2024 Q1"], "3 months", "2024-04"),
        (["2022", "2023", "2024"], "12 months", "2025-01"),
        (["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10"], "working day", "2024-01-11"),
        (["2024-01-01T00:00Z", "2024-01-01T01:00Z", "2024-01-01T02:00Z"], "hour", "2024-01-01 03:00Z"),
    ],
)
def test_a_clock_goes_on(cells: list[str], step: str, after: str) -> None:
    stamps = read_times(cells, "file", range(1, len(cells) + 1))
    clock = Clock.of(stamps)
    places, beside = clock.places(stamps.seconds)
    assert clock.describe() == step and np.diff(places).tolist() == [1] * (len(cells) - 1) and not beside.any()
    assert clock.names(places[-1:] + 1) == [after]


def test_a_table_in_any_order_with_holes(tmp_path: Path) -> None:
    rows = hourly()
    mixed = [*rows[30:], *rows[:30], (rows[3][0], rows[3][1] + 2, rows[3][2])]
    del mixed[5:7]  # hours 35 and 36
    mixed[0] = (mixed[0][0], "", mixed[0][2])
    [series], notes = read_series([table(tmp_path / "a.csv", mixed)])
    assert series.variables == ("load", "heat") and len(series) == 60 and series.times[0] == "2024-01-01 00:00"
    wanted = np.array([row[1:] for row in rows], float)
    wanted[3, 0] += 1  # the mean of both
    for place in (30, 35, 36):
        wanted[place] = [np.nan if place != 30 else wanted[30, 0], wanted[place, 1]]
    inside = [place for place in range(60) if place not in (35, 36)]
    assert series.values[inside] == pytest.approx(wanted[inside])
    between = [series.values[34] + (series.values[37] - series.values[34]) * share / 3 for share in (1, 2)]
    assert series.values[35:37] == pytest.approx(np.array(between))
    told = " ".join(notes)
    assert "2 steps that were missing (summer time begins so): filled in a straight line, the first at " in told
    assert "the first at 2024-01-02 11:00 of 'a'" in told
    assert "1 single values that were missing: filled in a straight line, the first at 2024-01-02 06:00 of 'a'" in told
    assert "1 rows at a time that was there before (summer time ends so): their mean was taken, the first at " in told
    assert "the first at 2024-01-01 03:00 of 'a'" in told and "sorted, the first at 2024-01-01 00:00 of 'a'" in told


def test_the_hours_of_summer_time(tmp_path: Path) -> None:
    """Without a zone one hour is missing in spring and one is there twice in autumn; with it nothing is."""
    local = [f"2024-03-31 {hour:02}:00" for hour in (0, 1, 3, 4, 5)]
    [spring], notes = read_series(
        [table(tmp_path / "a.csv", [(one, place**2, 0.5 * place) for place, one in enumerate(local)])]
    )
    assert spring.values[:, 0].tolist() == [0, 1, 2.5, 4, 9, 16] and "1 steps that were missing" in " ".join(notes)
    zoned = [f"2024-03-31T{hour:02}:00+0{zone}:00" for hour, zone in ((0, 1), (1, 1), (3, 2), (4, 2))]
    [utc], notes = read_series(
        [table(tmp_path / "b.csv", [(one, place**2, 0.5 * place) for place, one in enumerate(zoned)])]
    )
    assert len(utc) == 4 and len(notes) == 1 and utc.times[0] == "2024-03-30 23:00Z"
    twice = [(f"2024-10-27 0{hour}:00", value, 1) for hour, value in ((0, 1), (1, 2), (2, 3), (2, 5), (3, 6), (4, 7))]
    [autumn], notes = read_series(
        [table(tmp_path / "c.csv", [*twice, *((f"2024-10-27 {hour:02}:00", hour, 1) for hour in range(5, 18))])]
    )
    assert autumn.values[:5, 0].tolist() == [1, 2, 4, 6, 7] and "at a time that was there before" in notes[1]


def test_several_series_by_a_key(tmp_path: Path) -> None:
    rows = [
        (name, time, base + place)
        for name, base in (("a", 0), ("b", 50))
        for place, (time, *_) in enumerate(hourly(40))
    ]
    path = table(tmp_path / "a.csv", rows, "shop,time,sales")
    series, notes = read_series([path])
    assert [(one.name, len(one), one.values[0, 0]) for one in series] == [("a", 40, 0), ("b", 40, 50)]
    assert "2 of them by 'shop'" in notes[0] and recognise(read_table([Path(path)])) == "forecast"
    corpus = SeriesFiles(train=(path,)).load(4, 3)
    assert len(corpus.train) == 2 * (28 - 4 - 3 + 1) and len(corpus.test) == 2 * (8 - 3 + 1)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda row, place: (row[0], "inf" if place == 7 else row[1], row[2]), "column 'load', row 8: 'inf'"),
        (lambda row, place: (row[0], "nan", row[2]), "column 'load' has no number"),
        (lambda row, place: (row[0], 5, row[2]), "column 'load' never changes"),
        (lambda row, place: (row[0], "high" if place == 7 else row[1], row[2]), "'high' is no finite number"),
        (lambda row, place: (row[0].replace(":00", ":20") if place == 9 else row[0], *row[1:]), "1 times lie between"),
    ],
)
def test_columns_that_cannot_be_learnt_from(tmp_path: Path, spoil, told: str) -> None:
    rows = [spoil(row, place) for place, row in enumerate(hourly())]
    with pytest.raises(DataError, match=told):
        SeriesFiles(train=(table(tmp_path / "a.csv", rows),)).load(4, 2)


def test_commas_between_thousands_and_before_decimals(tmp_path: Path) -> None:
    rows = hourly()
    rows[3], rows[4] = (rows[3][0], '"1,234.5"', 1), (rows[4][0], '"-12,345"', 1)
    [one], _ = read_series([table(tmp_path / "a.csv", rows)])
    assert one.values[3:5, 0].tolist() == [1234.5, -12345]
    with pytest.raises(DataError, match="row 1: '0,5' is no finite number") as caught:
        read_series([table(tmp_path / "b.csv", [(time, f'"{place},5"', 1) for place, (time, *_) in enumerate(rows)])])
    assert "write a point" in str(caught.value.hint)


def test_rows_of_another_width_are_told(tmp_path: Path) -> None:
    rows = hourly()
    rows[5] = (*rows[5], "more")
    _, notes = read_series([table(tmp_path / "a.csv", rows)])
    assert notes[1:] == [
        "1 rows left out: wrong number of columns",
        "1 steps that were missing (summer time begins so): filled in a straight line, "
        "the first at 2024-01-01 05:00 of 'a'",
    ]


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row of numbers"):
        read_series([table(tmp_path / "a.csv", [], "date,score")])


def test_faults_name_the_row_of_the_file(tmp_path: Path) -> None:
    """Rows of another width and blank lines count."""
    rows = hourly()
    rows[5], rows[20] = (*rows[5], "more"), (rows[20][0], "high", 1)
    with pytest.raises(DataError, match="row 21: 'high'"):
        read_series([table(tmp_path / "a.csv", rows)])
    rows[20] = ("noon", 1, 1)
    with pytest.raises(DataError, match="row 21: 'noon'"):
        read_series([table(tmp_path / "a.csv", rows)], time="time")


def test_a_series_without_a_number_in_a_column_is_named(tmp_path: Path) -> None:
    rows = [(shop, time, "" if shop == "b" else place) for shop in "ab" for place, (time, *_) in enumerate(hourly(40))]
    with pytest.raises(DataError, match="series 'b' has no number in column 'sales'"):
        read_series([table(tmp_path / "a.csv", rows, "shop,time,sales")])


def test_several_series_need_a_key(tmp_path: Path) -> None:
    rows = [(time, shop, shop * 100 + place) for place, (time, *_) in enumerate(hourly(40)) for shop in (1, 2, 3)]
    path = table(tmp_path / "a.csv", rows, "time,shop,sales")
    with pytest.raises(DataError, match="80 of 120 rows are at a time that was there before") as caught:
        read_series([path], target="sales")
    assert "--tag" in str(caught.value.hint)
    assert [one.name for one in read_series([path], key="shop", target="sales")[0]] == ["1", "2", "3"]


def test_days_are_not_taken_for_months(tmp_path: Path) -> None:
    rows = [("a", f"20{year}-{month:02}-01", month) for year in (20, 21, 22, 23) for month in range(1, 13)]
    rows += [("b", f"2023-01-{day:02}", day) for day in range(1, 31)]
    with pytest.raises(DataError, match="series 'b' has a step every month, but 29 times lie between"):
        read_series([table(tmp_path / "a.csv", rows, "shop,time,sales")])


def test_names_above_times_of_any_form(tmp_path: Path) -> None:
    for cells in (["01/31/2024", "02/29/2024"], ["2024 Q1", "2024 Q2"], ["Jan 2024", "Feb 2024"]):
        rows = [(cell, "" if place == 1 else place) for place, cell in enumerate(cells * 3)]
        found = read_table([Path(table(tmp_path / "a.csv", rows, "day,sales"))])
        assert found.named and len(found.rows) == 6


def test_texts_at_times_are_no_series(tmp_path: Path) -> None:
    rows = [(f"2024-01-{day:02}", f"text number {day} of some", day % 2) for day in range(1, 29)]
    assert recognise(read_table([Path(table(tmp_path / "a.csv", rows, "date,text,label"))])) != "forecast"


def test_a_proposed_window_fits(tmp_path: Path) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for steps in (73, 84, 90):
        rows = [(f"{start + timedelta(days=day):%Y-%m-%d}", day % 5 + day / 7) for day in range(steps)]
        files = SeriesFiles(train=(table(tmp_path / f"{steps}.csv", rows, "date,sales"),))
        recipe, _ = propose_windows(Recipe(data=files, task=ForecastSettings(horizon=24), model=LINEAR))
        assert len(files.load(recipe.task.input, 24).train)


def test_a_series_that_is_too_short(tmp_path: Path) -> None:
    files = SeriesFiles(train=(table(tmp_path / "a.csv", hourly(20)),))
    with pytest.raises(DataError, match="longest series has 20 steps: too few to look back 12 and ahead 4"):
        files.load(12, 4)
    sparse = [(f"2024-01-01 0{minute // 60}:{minute % 60:02}", minute, minute**2) for minute in (0, 1, 2, 60, 120, 200)]
    with pytest.raises(DataError, match="has 6 of 201 steps, one every minute"):
        read_series([table(tmp_path / "b.csv", sparse)])
    with pytest.raises(DataError, match="no column 'cold'") as caught:
        read_series([table(tmp_path / "c.csv", hourly())], target="cold")
    assert "load" in str(caught.value.hint)


def line(steps: int, name: str = "a") -> Series:
    clock = Clock(unit="second", step=3600, phase=0)
    return Series(name, ("x",), clock, 10, np.arange(steps, dtype=float)[:, None])


def test_windows_are_every_piece_of_every_part() -> None:
    (train, dev, test), short = cut_windows([line(50), line(9, "b")], Borders(30, 40, 50), 5, 3)
    assert short == ["b"]
    for rows, first, last in ((train, 0, 30), (dev, 25, 40), (test, 35, 50)):
        wanted = [(start, start + 5) for start in range(first, last - 8 + 1)]
        assert [(row["source"].values[0, 0], row["target"].values[0, 0]) for row in rows] == wanted
    row = dev[0]
    assert row["source"].times[0] == "1970-01-02 11:00" and row["source"].times_after(1) == row["target"].times[:1]
    assert train.digest() != Windows(train.parts, 5, 2).digest()


def test_scales_of_any_size() -> None:
    draw = np.random.default_rng(1)
    values = np.stack([1e12 + draw.normal(size=400), 1e-12 * draw.normal(size=400)], 1)
    series = Series("a", ("huge", "tiny"), Clock(unit="second", step=3600, phase=0), 0, values)
    scale = Scale.learn(Windows([series], 10, 5))
    scaled = scale.apply(values)
    assert scaled.mean(0) == pytest.approx([0, 0], abs=1e-3) and scaled.std(0) == pytest.approx([1, 1])
    assert np.abs(scale.undo(scaled) / values - 1).max() < 1e-9
    again = Scale.model_validate_json(scale.files["series.json"])
    assert again == scale


def test_seasons_are_found_in_changes() -> None:
    draw, hours = np.random.default_rng(1), Clock(unit="second", step=3600, phase=0)
    daily = np.sin(np.arange(600) * np.pi / 12)[:, None] + 0.1 * draw.normal(size=(600, 1))
    assert season_of([daily], hours, 200) == 24 and season_of([daily], hours, 20) == 1
    assert season_of([draw.normal(size=(600, 1)).cumsum(0)], hours, 200) == 1


def test_errors_are_their_formulas() -> None:
    draw = np.random.default_rng(1)
    found, wanted = draw.normal(size=(2, 6, 5, 3))
    assert mse(found, wanted) == pytest.approx(mean_squared_error(wanted.ravel(), found.ravel()))
    assert mae(found, wanted) == pytest.approx(mean_absolute_error(wanted.ravel(), found.ravel()))
    pairs = [*zip(found.ravel(), wanted.ravel(), strict=True)]
    assert smape(found, wanted) == pytest.approx(200 * np.mean([abs(a - b) / (abs(a) + abs(b)) for a, b in pairs]))
    assert smape(np.zeros((1, 1, 1)), np.zeros((1, 1, 1))) == 0
    naive = np.array([1.0, 2.0, 4.0])
    by_variable = [np.abs(found[..., at] - wanted[..., at]).mean() / naive[at] for at in range(3)]
    assert mase(found, wanted, naive) == pytest.approx(np.mean(by_variable))
    several = np.stack([found, found + 0.3], -1)
    peer = [mean_pinball_loss(wanted.ravel(), several[..., at].ravel(), alpha=q) for at, q in enumerate((0.2, 0.7))]
    assert quantile_loss(several, wanted, (0.2, 0.7)) == pytest.approx(np.mean(peer))


def test_etth1_is_cut_as_papers_do() -> None:
    folder = Path(os.environ.get("REGARD_DATA", "")) / "time_series" / "ett"
    if not os.environ.get("REGARD_DATA") or not folder.exists():
        pytest.skip("REGARD_DATA names no folder with time_series/ett")
    from regard.recipes.etth1 import etth1

    corpus = etth1(folder).corpus()
    assert [len(rows) for rows in corpus[:3]] == [8449, 2785, 2785]
    scale = Scale.learn(corpus.train)
    assert scale.season == 24 and scale.apply(corpus.train.parts[0].values).std(0) == pytest.approx(np.ones(7))


def test_stamps_keep_their_order() -> None:
    stamps = Stamps(np.array([0, 3600, 7200]), False)
    assert Clock.of(stamps).names(np.array([0, 2])) == ["1970-01-01 00:00", "1970-01-01 02:00"]
    with pytest.raises(DataError, match="2 times: too few"):
        Clock.of(Stamps(np.array([0, 3600]), False))
