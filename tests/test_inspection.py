"""Words out of pieces, alignments out of maps, and pages that hold nothing but what they were given."""

import base64
import hashlib
import json
import sys
from html.parser import HTMLParser

import pytest
import torch

from regard.errors import InputError
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.inspection.page import attention_page, fill
from regard.inspection.report import Group, Report, Sample, training_report
from regard.pieces import merge_words

ATTACK = "</script><script>alert(1)</script>"


class Elements(HTMLParser):
    """Start tags with their attributes, and the text inside every script."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def texts(pieces):
    return [word.text for word in merge_words(pieces)]


def small_maps() -> AttentionMaps:
    """Two layers of one head over 'A dog s' -> 'Ein Hund e', source tag and ends included."""
    first = torch.tensor(
        [[0.0, 0.8, 0.1, 0.0, 0.1], [0.5, 0.0, 0.1, 0.2, 0.2], [0.0, 0.3, 0.0, 0.5, 0.2], [0, 0, 0, 0, 1]]
    )
    second = torch.tensor(
        [[0.2, 0.6, 0.1, 0.1, 0.0], [0.7, 0.1, 0.1, 0.1, 0.0], [0.0, 0.1, 0.5, 0.1, 0.3], [0, 0, 0, 0, 1]]
    )
    causal = torch.ones(2, 4, 4).tril() / torch.arange(1, 5)[:, None]
    return AttentionMaps.of(
        ["<2de>", "▁A", "▁dog", "s", "</s>"],
        ["▁Ein", "▁Hund", "e", "</s>"],
        {"decoder/0/cross": first[None], "decoder/1/cross": second[None], "decoder/0/self": causal},
    )


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["▁A", "▁dog", "s", ".", "</s>"], ["A", "dogs.", "</s>"]),
        (["<2de>", "▁", "▁", "A"], ["<2de>", "▁", "A"]),
        (["▁<", "s", ">", "▁x"], ["<s>", "x"]),
        (["▁", "<0xE5>", "<0xA4>", "<0xA9>", "<0xE6>", "<0xB0>", "<0x94>", "</s>"], ["天", "气", "</s>"]),
        (["▁caf", "<0xC3>", "<0xA9>", "s"], ["cafés"]),
        (["▁a", "<0xE5>", "<0xA4>", "▁b"], ["a\ufffd", "b"]),
        (["▁今天", "天气", "很好", "。", "OK", "吗"], ["今天", "天气", "很好", "。", "OK", "吗"]),
        (["▁", "2", "0", "2", "4", "年", "1", "月"], ["2024", "年", "1", "月"]),
        (["▁コンピュータ", "ー", "を"], ["コンピューター", "を"]),
        (["▁วัน", "ศุกร์", "ที", "่"], ["วัน", "ศุกร์", "ที่"]),
        (["▁2", "0", "2", "4", "-", "0", "1"], ["2024", "-", "01"]),
        (["▁let", "'", "s", "▁COVID", "-", "1"], ["let's", "COVID-1"]),
        (["▁الخم", "يس", "،", "▁٥"], ["الخميس،", "٥"]),
        (["▁सोम", "वा", "र", "▁जन", "वरी"], ["सोमवार", "जनवरी"]),
        ([], []),
    ],
)
def test_pieces_become_the_words_a_reader_sees(pieces, expected):
    words = merge_words(pieces)
    assert [word.text for word in words] == expected
    assert [place for word in words for place in word.pieces] == list(range(len(pieces)))


def test_letters_that_look_like_a_control_token_are_a_word_like_any_other():
    maps = AttentionMaps.of(["▁<", "s", ">", "</s>"], ["▁x", "</s>"], {"decoder/cross": torch.full((1, 2, 4), 0.25)})
    assert maps.alignment() == [("<s>", "x")]


def test_word_map_adds_over_key_pieces_and_averages_over_query_pieces():
    maps = small_maps()
    words = maps.word_map("decoder/0/cross")
    torch.testing.assert_close(words[0, 0], torch.tensor([0.0, 0.8, 0.1, 0.1]))
    torch.testing.assert_close(words[0, 1], torch.tensor([0.25, 0.15, 0.4, 0.2]))
    for name in maps.maps:
        torch.testing.assert_close(maps.word_map(name).sum(-1), torch.ones_like(maps.word_map(name).sum(-1)))


def test_decoder_self_attention_looks_at_the_target_one_step_late():
    pieces = [["▁Hund", "e", "</s>"]] * 2
    written = torch.tensor([[[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.3, 0.2]]])
    words = AttentionMaps.of(*pieces, {"decoder/0/self": written}).word_map("decoder/0/self")
    torch.testing.assert_close(words, torch.tensor([[[0.625, 0.375], [0.5, 0.5]]]))


def test_average_is_over_all_layers_and_heads_of_the_cross_attention():
    maps = small_maps()
    expected = (maps.maps["decoder/0/cross"] + maps.maps["decoder/1/cross"]) / 2
    torch.testing.assert_close(maps.maps["cross/average"], expected)
    three_heads = torch.stack([torch.eye(2), torch.eye(2), torch.ones(2, 2) / 2])
    assert AttentionMaps.of("ab", "cd", {"decoder/cross": three_heads}).maps["cross/average"].shape == (1, 2, 2)
    assert "cross/average" not in AttentionMaps.of("ab", [], {"encoder/0/self": torch.eye(2)[None]}).maps


def test_a_decoder_that_read_the_source_is_shown_as_if_an_encoder_had():
    whole = torch.arange(25.0).view(1, 5, 5)
    maps = on_axes({"decoder/0/self": whole}, source=2, target=3)
    assert maps["encoder/0/self"].tolist() == [[[0, 1], [5, 6]]]
    assert maps["decoder/0/cross"].tolist() == [[[10, 11], [15, 16], [20, 21]]]
    assert maps["decoder/0/self"].tolist() == [[[12, 13, 14], [17, 18, 19], [22, 23, 24]]]


def test_pooled_sources_are_looked_at_alike_by_every_step_and_sentences_have_no_axis():
    pooled, word = torch.tensor([[[0.1, 0.9], [1.0, 0.0]]]), torch.ones(1, 1, 2)
    maps = on_axes({"decoder/pool": pooled, "encoder/word": word, "decoder/0/cross": torch.ones(1, 3, 1)}, 2, 3)
    assert maps.keys() == {"decoder/pool"}
    torch.testing.assert_close(maps["decoder/pool"], torch.stack([pooled[0, 0], pooled[0, 1]])[:, None].expand(2, 3, 2))


def test_alignment_leaves_out_special_tokens_unless_there_is_nothing_else():
    maps = small_maps()
    assert int(maps.word_map("cross/average")[0, 1].argmax()) == 2
    assert maps.alignment() == [("A", "Ein"), ("dogs", "Hunde")]
    only_specials = AttentionMaps.of(["<2de>", "</s>"], ["▁Ja"], {"decoder/cross": torch.tensor([[[0.1, 0.9]]])})
    assert only_specials.alignment() == [("</s>", "Ja")]
    assert AttentionMaps.of(["▁A"], [], {"encoder/0/self": torch.ones(1, 1, 1)}).alignment() == []


def test_json_has_the_promised_keys_and_four_decimals():
    found = json.loads(json.dumps(small_maps().to_json()))
    assert list(found) == ["source", "target", "words", "maps", "alignment"]
    assert found["words"]["source"] == [["<2de>", [0]], ["A", [1]], ["dogs", [2, 3]], ["</s>", [4]]]
    assert found["alignment"] == [["A", "Ein"], ["dogs", "Hunde"]]
    assert found["maps"]["decoder/0/self"][1][2] == [0.3333, 0.3333, 0.3333, 0.0]
    assert found["maps"]["cross/average"][0][0] == [0.1, 0.7, 0.1, 0.05, 0.05]


@pytest.mark.parametrize("shape", [(1, 3, 2), (2, 3), (1, 2, 4)])
def test_a_map_of_another_shape_is_refused_by_name(shape):
    with pytest.raises(InputError, match=r"'decoder/0/cross' is .*, not \(heads, 2, 3\)"):
        AttentionMaps.of(["▁a", "▁b", "</s>"], ["▁c", "</s>"], {"decoder/0/cross": torch.ones(shape)})


def test_an_unknown_map_is_refused_with_the_nearest_known():
    with pytest.raises(InputError, match="did you mean 'decoder/0/cross'"):
        small_maps().word_map("decoder/0/crosss")


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install 'regard\[plots\]'"):
        small_maps().plot()


def embedded(page):
    [data] = [script for script in Elements(page).scripts if script.lstrip().startswith("[")]
    return json.loads(data)


def test_page_carries_pieces_words_and_weights_in_thousandths():
    [view] = embedded(small_maps().to_html())
    assert view["sides"]["source"]["words"][2] == {"text": "dogs", "pieces": [2, 3], "special": False}
    assert view["sides"]["written"]["pieces"] == ["<s>", "▁Ein", "▁Hund", "e"]
    by_name = {one["name"]: one for one in view["maps"]}
    assert by_name["decoder/0/cross"]["heads"][0][1] == [500, 0, 100, 200, 200]
    assert (by_name["decoder/0/self"]["queries"], by_name["decoder/0/self"]["keys"]) == ("target", "written")


def test_pages_refer_to_nothing_outside():
    for page in (attention_page([small_maps()] * 2, "two"), training_report(full_report())):
        assert "://" not in page
        assert not [tag for tag, _ in Elements(page).tags if tag in ("link", "img", "iframe", "base", "object", "a")]
        assert not [found for _, found in Elements(page).tags if {"src", "href"} & set(found)]


def test_text_with_markup_stays_text():
    attacked = AttentionMaps.of([f"▁{ATTACK}"], ["▁{{data}}"], {"decoder/cross": torch.ones(1, 1, 1)})
    page = attention_page([attacked], ATTACK)
    assert "<script>alert" not in page
    assert len(Elements(page).scripts) == 2
    [view] = embedded(page)
    assert view["sides"]["source"]["words"][0]["text"] == ATTACK
    assert view["sides"]["target"]["words"][0]["text"] == "{{data}}"


def test_the_policy_names_the_one_script_that_may_run():
    elements = Elements(small_maps().to_html())
    [policy] = [
        found["content"] for tag, found in elements.tags if found.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(elements.scripts[-1].encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )


def test_filling_reads_no_value_as_a_template():
    assert fill("{{one}} {{two}}", one="{{two}}", two="2") == "{{two}} 2"


def full_report(text: str = "5. Januar 2024") -> Report:
    sample: Sample = {
        "source": text,
        "tag": text,
        "reference": "2024-01-05",
        "prediction": text,
        "history": [(10, text)],
    }
    return Report(
        title=text,
        summary={text: text},
        data_note=text,
        curve=[{"step": 50, "loss": 4.0}, {"step": 100, "loss": float("nan")}, {"step": 100, "dev_bleu": 25.0}],
        scores={"bleu": 30.0, "exact_match": 1.0},
        baseline={"bleu": 2.5, "exact_match": 1.0},
        signatures={"bleu": text},
        groups={"low": Group(20.0, 7, text), "high": Group(90.0, 8)},
        samples=[sample, {"source": "a", "reference": "b", "prediction": "b"}],
        attention=[small_maps()],
        next_commands=[f"regard predict '{text}'"],
    )


def test_report_shows_what_it_was_given():
    page = training_report(full_report())
    assert page.index(">high<") < page.index(">low<")
    assert "30.0" in page
    assert page.count("no better than the baseline") == 1
    assert page.count('class="right"') == page.count('class="wrong"') == 1
    assert page.count("<polyline") == 2
    assert embedded(page)[0]["maps"][0]["name"] == "decoder/0/cross"


def test_report_of_errors_has_a_scale_of_their_own() -> None:
    curve = [{"step": 0, "loss": 1.0}, {"step": 10, "dev_mse": 0.8}, {"step": 20, "dev_mse": 0.4, "dev_mase": 0.9}]
    sample: Sample = {"source": "▁▂", "reference": "▃", "prediction": "▄"}
    page = training_report(
        Report("t", curve=curve, scores={"mse": 0.4, "mase": 0.9}, baseline={"mse": 0.5}, samples=[sample])
    )
    assert 'style="width:80.0%"' in page and 'style="width:100.0%"' in page and "differs" not in page
    lines = [found["points"] for tag, found in Elements(page).tags if tag == "polyline"]
    heights = [float(point.split(",")[1]) for point in lines[-1].split()]
    assert len(lines) == 2 and heights[0] < 0.7 * heights[1]


def test_report_draws_points_where_they_belong():
    page = training_report(Report("t", curve=[{"step": 0, "loss": 4.0}, {"step": 100, "loss": 0.0}]))
    [line] = [found["points"] for tag, found in Elements(page).tags if tag == "polyline"]
    [(left, top), (right, bottom)] = [tuple(map(float, point.split(","))) for point in line.split()]
    assert left < right
    assert top < bottom


def test_report_keeps_markup_as_text():
    page = training_report(full_report(ATTACK))
    assert "<script>alert" not in page
    assert len(Elements(page).scripts) == 2


def test_an_empty_answer_has_no_maps_of_its_own():
    seen = on_axes({"encoder/0/self": torch.ones(1, 3, 3) / 3, "decoder/cross": torch.ones(1, 0, 3)}, 3, 0)
    assert {name: tuple(weights.shape) for name, weights in seen.items()} == {"encoder/0/self": (1, 3, 3)}


def test_a_title_of_a_page_is_no_passage():
    page = attention_page([small_maps()], "word " * 1000)
    assert page.count("<h1") == 1 and 50 < len(page.partition("<h1")[2].partition("</h1>")[0]) < 150


def test_report_leaves_out_what_is_missing():
    page = training_report(Report("Only a title"))
    assert "Only a title" in page
    assert "<section" not in page
    assert Elements(page).scripts == []
    without_maps = training_report(Report("Only a title", attention=[AttentionMaps.of(["▁a"], ["▁b"], {})]))
    assert "no attention to look at" in without_maps and Elements(without_maps).scripts == []


@pytest.mark.parametrize(
    "curve",
    [
        [{"step": 0, "loss": 0.0}],
        [{"step": 5, "loss": -2.5}],
        [{"step": 1, "loss": 1e9}, {"step": 2_000_000, "loss": 1e-9}],
    ],
)
def test_any_curve_can_be_drawn(curve):
    assert "<polyline" in training_report(Report("t", curve=curve))
