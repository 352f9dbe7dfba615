"""Settings and errors: what is refused, and in which words."""

from typing import Annotated, Literal

import pydantic
import pytest
from pydantic import Field

from regard.attention.positions import Rotary
from regard.decoding.search import Search
from regard.errors import RegardError, SettingsError, StoppedError, did_you_mean
from regard.models.model import ModelSettings
from regard.settings import Settings, load, override, parse, parse_yaml, to_yaml


class Small(Settings):
    kind: Literal["small"] = "small"
    size: int = Field(default=1, ge=1)


class Large(Settings):
    kind: Literal["large"] = "large"
    size: int = 10
    depth: int = 2


class Whole(Settings):
    rate: float = 1e-3
    word: str = "yes"
    part: Annotated[Small | Large, Field(discriminator="kind")] = Small()

    @pydantic.model_validator(mode="after")
    def _word_is_short(self) -> "Whole":
        if len(self.word) > 5:
            raise ValueError(f"word '{self.word}' is longer than 5")
        return self


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        ({"rat": 1}, "no setting 'rat'", "did you mean 'rate'?"),
        ({"zzz": 1}, "no setting 'zzz'", "known: part, rate, word"),
        ({"part": {"kind": "large", "dept": 3}}, "no setting 'part.dept'", "did you mean 'depth'?"),
        ({"part": {"kind": "small", "depth": 3}}, "no setting 'part.depth'", "known: kind, size"),
        (
            {"part": {"kind": "small", "size": 0}},
            "'part.size': input should be greater than or equal to 1, found 0",
            None,
        ),
        (
            {"rate": "fast"},
            "'rate': input should be a valid number, unable to parse string as a number, found 'fast'",
            None,
        ),
        ({"rate": float("nan")}, "'rate': input should be a finite number, found nan", None),
        ({"word": "longer"}, "word 'longer' is longer than 5", None),
    ],
)
def test_settings_that_are_refused(data, message, hint):
    with pytest.raises(SettingsError) as caught:
        parse(Whole, data, "a.yaml")
    assert (caught.value.message, caught.value.hint, caught.value.where) == (message, hint, "a.yaml")


def test_unknown_kind():
    with pytest.raises(SettingsError, match=r"'part.kind': no kind 'medium'\n  known: large, small"):
        parse(Whole, {"part": {"kind": "medium"}}, "a.yaml")


def test_settings_are_frozen():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Whole().rate = 2.0


def test_override():
    assert override(Whole(), ["rate=1e-4", "part.kind=large", "part.depth=3", "word=no"]) == Whole(
        rate=1e-4, part=Large(depth=3), word="no"
    )


def test_setting_a_kind_resets_its_siblings():
    assert override(Whole(part=Small(size=5)), ["part.kind=large"]).part == Large(size=10)
    assert override(Whole(part=Large(size=5)), ["part.kind=large"]).part == Large(size=5)  # it is that kind


@pytest.mark.parametrize(
    ("assignment", "where", "hint"),
    [
        ("rate", "--set rate", "write --set rate=VALUE"),
        ("prt.size=3", "--set prt.size", "did you mean 'part'?"),
        ("part.depth=3", "--set part.depth", "known: kind, size"),
        ("rate=[", "--set rate", "only names and plain values: no !tags, no *aliases, no name twice"),
    ],
)
def test_overrides_that_are_refused(assignment, where, hint):
    with pytest.raises(SettingsError) as caught:
        override(Whole(), [assignment])
    assert (caught.value.where, caught.value.hint) == (where, hint)


def test_yaml_is_plain():
    words = ["no", "on", "1_0", "0x10", "12:30", "2025-04-03", ".nan", "1e"]
    assert parse_yaml(f"[{', '.join(words)}]", "here") == words
    numbers = parse_yaml("[1e-4, -.5, 1., 010, +7, 0]", "here")
    assert numbers == [1e-4, -0.5, 1.0, 10, 7, 0]
    assert [type(number) for number in numbers] == [float] * 3 + [int] * 3
    assert parse_yaml("{a: true, b: [~, null, {c: }]}", "here") == {"a": True, "b": [None, None, {"c": None}]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("!!python/object/apply:os.system ['true']", "python/object"),
        ("!!python/name:os.system", "python/name"),
        ("a: [", "flow"),
        ("[" * 5000, "recursion"),
        ("--- 1\n--- 2", "single document"),
        ("!!bool maybe", "not plain YAML"),
        ("!!timestamp x", "not plain YAML"),
        ("!!float ''", "not plain YAML"),
    ],
)
def test_yaml_that_is_refused(text, reason):
    with pytest.raises(SettingsError, match=reason) as caught:
        parse_yaml(text, "a.yaml")
    assert caught.value.where == "a.yaml"


def test_settings_survive_the_file(tmp_path):
    settings = Whole(rate=1e-7, word="no", part=Large(size=3))
    (tmp_path / "a.yaml").write_text(to_yaml(settings), "utf-8")
    assert load(Whole, tmp_path / "a.yaml") == settings


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (ModelSettings, {"width": 6}, "encoder: width 6 does not split into 4 heads of even width"),
        (
            ModelSettings,
            {"width": 24, "decoder": {"heads": 5}},
            "decoder: width 24 does not split into 5 heads of even width",
        ),
        (ModelSettings, {"width": 5, "kind": "rnn"}, "encoder: width 5 must be even: each direction gets half"),
        (Search, {"beam": 2, "n_best": 3}, "n_best 3 needs a beam at least as wide, not 2"),
        (Search, {"max_length": 3, "min_length": 4}, "max_length 3 is below min_length 4"),
    ],
)
def test_settings_that_contradict_each_other(kind, data, message):
    with pytest.raises(SettingsError) as caught:
        parse(kind, data, "a.yaml")
    assert str(caught.value) == f"a.yaml: {message}"


def test_both_sides_follow_the_kind():
    settings = parse(ModelSettings, {"kind": "rnn", "encoder": {"kind": "transformer"}}, "a.yaml")
    assert (settings.encoder.kind, settings.decoder.kind) == ("transformer", "rnn")
    assert settings.describe() == "4-layer Transformer encoder, GRU with additive attention decoder, width 256"


@pytest.mark.parametrize(("tokens", "width", "layers"), [(1_999_999, 128, 4), (2_000_000, 256, 4), (10**12, 512, 6)])
def test_sizes(tokens, width, layers):
    sized = ModelSettings.model_validate({"decoder": {"positions": {"kind": "rotary"}}}).sized_for(tokens)
    assert (sized.width, sized.encoder.layers, sized.decoder.layers) == (width, layers, layers)
    assert sized.decoder.positions == Rotary()
    assert ModelSettings.model_validate(sized.model_dump()) == sized


def test_an_error_says_where_and_what_to_do():
    error = RegardError("no rows", where="a.tsv:3", hint="add some")
    assert str(error) == "a.tsv:3: no rows\n  add some"
    assert error.to_json() == {"error": {"message": "no rows", "where": "a.tsv:3", "hint": "add some"}}
    assert did_you_mean("stpes", ["seed", "steps"]) == "did you mean 'steps'?"
    assert did_you_mean("?", map(str, range(100, 200))).endswith("118, 119, ...")


def test_stopped_has_the_exit_status_of_its_signal():
    assert [(StoppedError(number, "").exit_status, StoppedError(number, "").signal_name) for number in (2, 15)] == [
        (130, "SIGINT"),
        (143, "SIGTERM"),
    ]


@pytest.mark.parametrize(
    "assignments",
    [
        ["width=300", "encoder.heads=6", "decoder.heads=6"],
        ["encoder.heads=6", "decoder.heads=6", "width=300"],
        ["embedding.output=64", "embedding.tied=sides"],
    ],
)
def test_what_fits_in_the_end_can_be_set_in_any_order(assignments):
    assert override(ModelSettings.model_validate({}), assignments)


def test_the_first_setting_that_does_not_fit_is_named():
    with pytest.raises(SettingsError, match="--set width: encoder: width 300 does not split into 4 heads"):
        override(ModelSettings.model_validate({}), ["width=300", "dropout=0.2"])


def test_what_is_null_is_set_whole():
    settings = ModelSettings.model_validate({"kind": "seq2seq"})
    with pytest.raises(
        SettingsError, match=r"'decoder.attention' is null\n  set it whole: decoder.attention={where: ...}"
    ):
        override(settings, ["decoder.attention.where={kind: causal}"])


def test_positions_without_effect_are_refused():
    mixers = [{"kind": "non_causal"}]
    unused = [{"kind": "non_causal"}, {"kind": "attention"}]
    summed = {"kind": "sum", "of": [{"kind": "rotary"}, {"kind": "alibi"}]}
    for side, settings in (
        ("encoder", {"mixers": mixers}),
        ("encoder", {"mixers": unused, "layers": 1}),
        ("encoder", {"mixers": mixers, "positions": summed}),
        ("decoder", {"mixers": [{"kind": "linear"}]}),
    ):
        with pytest.raises(SettingsError, match=f"{side}: rotary positions act in self-attention, and no layer has"):
            parse(ModelSettings, {"kind": "transformer_today", side: settings}, "a.yaml")
