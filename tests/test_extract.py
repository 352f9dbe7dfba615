"""Questions about passages: learnt, answered with spans, scored beside the sliding window, looked at."""

import json
from pathlib import Path

import pytest
import torch

import regard
from regard.api import Run
from regard.cli.main import main
from regard.data.questions import question_row
from regard.data.rows import TextRows
from regard.data.tokenisers import END, Vocabulary
from regard.decoding.search import Search
from regard.errors import DataError, RunError, SettingsError
from regard.layers.segments import SegmentedEmbedding, segments_of
from regard.models.model import ModelSettings, build_model
from regard.models.parts import Decoded, Widths
from regard.models.pointer_head import PointerHead, PointerMemory, best_spans
from regard.padded import pad
from regard.tasks.extract import Extracted, ExtractSettings
from regard.tasks.passages import cut, cut_to_answer, windows_of
from regard.tasks.task import Batch
from small_questions import PASSAGE, PEOPLE, ROWS, SMALL, questions, write


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("extract")
    train, dev = write(folder / "train.jsonl", questions(600, 1)), write(folder / "dev.jsonl", questions(60, 2))
    return regard.train(train, dev=dev, out=folder / "run", settings=SMALL, device="cpu")


def test_a_plain_file_of_questions_is_learnt(run: Run) -> None:
    assert run.predictor.recipe.task.kind == "extract" and run.predictor.recipe.data.kind == "questions"
    assert run.scores["exact_match"] > 95 and run.scores["f1"] > 95
    assert run.scores["f1"] > run.trained.baseline["f1"] + 20
    assert "sliding window" in (run.path / "README.md").read_text() and "F1" in (run.path / "report.html").read_text()


def test_answers_say_which_characters_they_are(run: Run) -> None:
    [answer] = run.predictor.predict([{"source": "Where is John?", "passage": PASSAGE}])
    assert isinstance(answer, Extracted) and answer.text == "garden" == PASSAGE[slice(*answer.span)]
    told = answer.to_json()
    assert told["span"] == [16, 22] and told["score"] == answer.score <= 0
    texts = [answer.text, *(other["text"] for other in told["alternatives"])]
    assert len({*texts}) == len(texts) > 1 and {*told["alternatives"][0]} == {"text", "span", "score"}
    assert all(PASSAGE[slice(*other.span)] == other.text for other in answer.alternatives)


def test_every_form_of_a_row(run: Run) -> None:
    given = [
        {"question": "Where is John?", "context": PASSAGE},
        f"Where is John?\t{PASSAGE}",
        json.dumps({"question": "Where is John?", "passage": PASSAGE}),
        "",
        {"source": "Where is John?", "passage": " "},
    ]
    assert [one.text for one in run.predictor.predict(given)] == ["garden"] * 3 + ["", ""]
    with pytest.raises(DataError, match="'source' and 'passage'"):
        run.predictor.predict(["Where is John?"])
    with pytest.raises(DataError, match="'source' and 'passage'"):
        run.predictor.predict([{"source": "Where is John?", "tag": "en"}])
    with pytest.raises(DataError, match="no beginning"):
        run.predictor.predict(given[:1], prefixes=["gar"])


def test_an_answer_in_two_places_is_one(run: Run) -> None:
    passage = "Mary is in the attic. John is in the garden. Anna is in the garden."
    [answer] = run.predictor.predict([{"source": "Where is John?", "passage": passage}])
    assert answer.span == (37, 43) and "garden" not in [other.text for other in answer.alternatives]


def test_long_passages_are_read_in_parts(run: Run) -> None:
    others = " ".join(f"{person} is in the hall." for person in PEOPLE if person != "John")
    passage = f"{others} " * 40 + PASSAGE + f" {others}" * 40
    [answer] = run.predictor.predict([{"source": "Where is John?", "passage": passage}])
    assert answer.text == "garden" and answer.span[0] == passage.index("garden")
    maps = answer.attention
    assert len(maps.source) <= run.predictor.recipe.task.window and {*answer.tokens} <= {*maps.source}


def test_what_decided_is_seen(run: Run) -> None:
    maps = run.predictor.inspect(f"Where is John?\t{PASSAGE}")
    pooled = maps.word_map("cross/average")[0]
    assert pooled.shape == (2, len(maps.words["source"])) and torch.allclose(pooled.sum(-1), torch.ones(2), atol=1e-4)
    assert [word.text for word in maps.words["target"]] == ["start", "end"] and "garden" in maps.to_html()
    [pointed], question = maps.word_map("head/pointer"), 4  # words, the last of which is the end
    assert torch.allclose(pointed.sum(-1), torch.ones(2), atol=1e-4) and not pointed[:, :question].any()
    assert [maps.words["source"][place].text for place in pointed.argmax(-1)] == ["garden.", "garden."]


def test_the_run_is_found_again(run: Run) -> None:
    again = regard.load(run.path, "cpu")
    rows = [{**question_row(one), "target": one["answers"][0]} for one in questions(20, 3)]
    assert again.predict(rows) == run.predictor.predict(rows)
    found = again.evaluate(rows)
    assert found.scores.values["exact_match"] > 90 and found.scores.signatures["f1"] == "f1|rules:squad1.1"


def test_questions_from_the_command_line(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text(f"Where is John?\t{PASSAGE}\n\n" + json.dumps({"question": "Where is Mary?", "context": PASSAGE}))
    assert main(["predict", str(run.path), str(lines), "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["text"], one["span"]) for one in told] == [("garden", [16, 22]), ("", [0, 0]), ("attic", [39, 44])]
    assert main(["evaluate", str(run.path), write(tmp_path / "rows.jsonl", questions(20, 4))]) == 0
    assert "sliding window" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["sliding_window.json", "vocabulary.model"])
@pytest.mark.parametrize("content", ["", "[]", "-1", "9" * 900])
def test_damaged_files_are_named(run: Run, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "fields").mkdir()
    (tmp_path / "recipe.yaml").write_bytes((run.path / "recipe.yaml").read_bytes())
    for file in (run.path / "fields").iterdir():
        (tmp_path / "fields" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "fields" / name).write_text(content)
    with pytest.raises(RunError) as caught:
        regard.load(tmp_path, "cpu")
    assert name in str(caught.value)


WIDTHS = Widths(8, 8, 6, 10)


def pointed() -> tuple[PointerHead, Decoded, PointerMemory]:
    torch.manual_seed(1)
    head = PointerHead(WIDTHS)
    allowed = torch.tensor([[0, 0, 1, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0, 0]]).bool()
    memory = PointerMemory(head.keys(torch.randn(2, 7, 10)).unflatten(-1, (2, 10)), allowed)
    return head, Decoded(torch.randn(2, 2, 6)), memory


def test_pointing_is_equation_three() -> None:
    head, decoded, memory = pointed()
    log_probs = head.scores(decoded, memory).log_softmax(-1)
    for row in range(2):
        for step in range(2):
            query = head.queries.weight[10 * step : 10 * step + 10] @ decoded.features[row, step]
            scores = torch.stack([head.values[step] @ torch.tanh(key + query) for key in memory.keys[row, :, step]])
            wanted = scores[memory.allowed[row]].log_softmax(-1)
            assert torch.allclose(log_probs[row, step, memory.allowed[row]], wanted, atol=1e-6)
    assert bool((log_probs.exp()[~memory.allowed[:, None].expand(-1, 2, -1)] == 0).all())


def test_the_loss_sums_over_right_spans() -> None:
    head, decoded, memory = pointed()
    probs = head.scores(decoded, memory).softmax(-1).detach()
    loss = head.loss(decoded, pad([[2, 3, 5, 5], [1, 2]]), memory)
    two = probs[0, 0, 2] * probs[0, 1, 3] + probs[0, 0, 5] * probs[0, 1, 5]
    wanted = -two.log() - (probs[1, 0, 1] * probs[1, 1, 2]).log()
    assert loss.count == 2 and float(loss.total.detach()) == pytest.approx(float(wanted), rel=1e-5)
    loss.total.backward()
    assert all(weight.grad is not None and bool(weight.grad.isfinite().all()) for weight in head.parameters())


@pytest.mark.parametrize("longest", [1, 3, 20])
def test_the_best_spans_are_found_exactly(longest: int) -> None:
    scores = torch.randn(4, 2, 9, generator=torch.Generator().manual_seed(1))
    values, firsts, lasts = best_spans(scores, longest, 5)
    for row in range(4):
        pairs = {
            (first, last): float(scores[row, 0, first] + scores[row, 1, last])
            for first in range(9)
            for last in range(first, min(first + longest, 9))
        }
        ranked = sorted(pairs, key=lambda pair: -pairs[pair])[:5]
        assert list(zip(firsts[row].tolist(), lasts[row].tolist(), strict=True)) == ranked
        assert values[row].tolist() == pytest.approx([pairs[pair] for pair in ranked])


def test_pointing_needs_a_state_for_each_token() -> None:
    hierarchical = ModelSettings.model_validate(
        {"width": 8, "encoder": {"kind": "hierarchical"}, "decoder": {"kind": "pool"}}
    )
    model = build_model(
        hierarchical, 4, lambda _, widths: PointerHead(widths), lambda width: SegmentedEmbedding(9, width, END)
    )
    with pytest.raises(SettingsError, match="state for each source token"):
        model.encode(pad([[5, END, 6, END]]))
    with pytest.raises(SettingsError, match="no encoder"):
        PointerHead(WIDTHS._replace(memory=0))


def test_segments_and_equal_tokens_are_told_apart() -> None:
    ids = pad([[5, 6, END, 6, 7, 5, 6, END], [5, END, 5, END]])
    assert segments_of(ids.values, END).tolist() == [[0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2, 2, 2]]
    embedding = SegmentedEmbedding(9, 4, END)
    kinds = embedding(ids).values - embedding.tokens(ids).values
    numbers = torch.cdist(kinds, embedding.kinds.expand(2, -1, -1)).argmin(-1)
    assert numbers[0].tolist() == [0, 0, 0, 2, 1, 3, 3, 1] and numbers[1, :4].tolist() == [0, 0, 2, 1]


def test_windows_cover_every_short_span() -> None:
    ids = [5, 6, END, *range(10, 47), END]
    windows = windows_of(ids, 14)
    for length in range(1, 6):
        for first in range(3, len(ids) - length):
            assert any(first in one.steps and first + length - 1 in one.steps for one in windows)
    assert all(len(one.ids) <= 14 and one.ids[:3] == ids[:3] and one.ids[-1] == END for one in windows)
    assert all(one.ids[3:-1] == [ids[step] for step in one.steps] for one in windows)
    parts = cut(pad([ids, [5, END, 7, END]]), 14)
    assert parts.owners == [0] * len(windows) + [1] and parts.offsets[-1] == 0


def test_training_reads_the_part_with_the_answer() -> None:
    ids = [5, END, *range(10, 90), END]
    batch = Batch(pad([ids, [5, END, 7, END]]), pad([[60, 61, 70, 70], [2, 2]]))
    found = cut_to_answer(batch, 24)
    assert found.source.values.shape[1] <= 24 and found.source.values[:, 0].tolist() == [5, 5]
    assert [int(found.source.values[0, step]) for step in found.target.values[0]] == [
        ids[60],
        ids[61],
        ids[70],
        ids[70],
    ]
    assert found.target.values[1, :2].tolist() == [2, 2]
    assert cut_to_answer(batch, 100) is batch


@pytest.mark.parametrize("kind", ["transformer", "rnn", "convolutional"])
def test_padding_and_company_change_no_answer(kind: str) -> None:
    task = ExtractSettings(longest=5).learn(TextRows.of(ROWS), Vocabulary(size=300))
    settings = ModelSettings.model_validate({"kind": kind, "width": 16, "dropout": 0.0})
    torch.manual_seed(1)
    model = build_model(settings, task.vocabulary, task.head, task.source_builder).double().eval()
    sources = [task.source({**row, "passage": row["passage"] * times}) for row in ROWS for times in (1, 3)]
    with torch.inference_mode():
        together = task.predict(model, pad(sources), Search())
        alone = [task.predict(model, pad([source]), Search())[0] for source in sources]
    assert [one.ids for one in together] == [one.ids for one in alone]
    assert [one.score for one in together] == pytest.approx([one.score for one in alone], rel=1e-4)
