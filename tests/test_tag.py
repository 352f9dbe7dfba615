"""Tokens with a tag each: read as at CoNLL, learnt, scored by entity, looked at; chains against all their paths."""

import gzip
import itertools
import json
import os
import random
from pathlib import Path

import pytest
import torch
from seqeval.metrics.sequence_labeling import f1_score, get_entities, precision_score, recall_score

import regard
from regard.api import Run, propose
from regard.cli.main import main
from regard.data.fields import TextField
from regard.data.rows import TextRows
from regard.data.tagged import Tagged, read_tagged, words_of
from regard.data.tokenisers import Vocabulary
from regard.errors import DataError, InputError, RunError, SettingsError
from regard.layers.crf import Chain
from regard.metrics.entities import entities, entity_scores, marks_entities
from regard.models.encoder_only import AlignedDecoderPart
from regard.models.recurrent_encoder import RecurrentEncoderPart
from regard.models.tag_heads import ChainedTagHead, SeparateTagHead
from regard.padded import Padded
from regard.recipes import named_recipe
from regard.settings import override
from regard.tasks.tag import Tagged as TaggedAnswer
from small_models import model_of, with_garbage

NAMES = "Anna Boris Chen Dora Emil".split()
PLACES = ["Rome", "New York", "Hong Kong", "Oslo"]
VERBS = "saw left likes Rome".split()  # one of them is a place elsewhere
SMALL = ["model.width=32", "training.steps=120", "training.evaluate_every=60", "training.precision=fp32"]


def sentence(draw: random.Random) -> list[tuple[str, str]]:
    """Somebody does something somewhere; what follows "in" is a place, whatever it is called."""
    place = draw.choice(PLACES).split()
    tags = [f"{mark}-LOC" for mark in ("B", "I")[: len(place)]]
    verb = draw.choice(VERBS)
    return [(draw.choice(NAMES), "B-PER"), (verb, "O"), ("in", "O"), *zip(place, tags, strict=True), (".", "O")]


def write(path: Path, sentences: list[list[tuple[str, str]]], join: str = " ") -> str:
    text = "\n".join("".join(f"{token}{join}{tag}\n" for token, tag in one) for one in sentences)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def sentences(number: int, seed: int) -> list[list[tuple[str, str]]]:
    draw = random.Random(seed)
    return [[(str(place), "O"), *sentence(draw)] for place in range(number)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A plain file is all that is given."""
    folder = tmp_path_factory.mktemp("tag")
    return regard.train(write(folder / "names.conll", sentences(300, 1)), out=folder / "run", settings=SMALL)


def test_a_plain_file_is_learnt(run: Run) -> None:
    recipe = run.predictor.recipe
    assert (recipe.task.kind, recipe.task.head.kind, recipe.data.kind) == ("tag", "crf", "tagged")
    assert run.scores["entity_f1"] == run.scores["token_accuracy"] == 100
    assert run.trained.baseline["entity_f1"] < 100  # a word is not always what it mostly is
    assert "frequent tags" in (run.path / "README.md").read_text()
    assert "实体 F1" in (run.path / "report.html").read_text()


def test_answers_are_tags_beside_their_tokens(run: Run) -> None:
    [answer, blank] = run.predictor.predict(["7 Chen  Rome in New York .", " "])
    assert isinstance(answer, TaggedAnswer) and -0.1 < answer.score <= 0
    assert answer.text == "O B-PER O O B-LOC I-LOC O"
    tokens = ["7", "Chen", "Rome", "in", "New", "York", "."]
    assert answer.to_json() == {"tags": answer.text.split(), "tokens": tokens, "score": answer.score}
    assert blank.to_json() == {"tags": [], "tokens": [], "score": 0.0}


def test_the_run_is_found_again_and_used(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "more.conll.gz", sentences(30, 3), "\t_\t")
    assert main(["evaluate", str(run.path), data, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 30 and found["scores"]["entity_f1"] == 100 > found["baseline"]["entity_f1"]
    (tmp_path / "text").write_text("1 Anna left in Oslo .\n\n")
    assert main(["predict", str(run.path), str(tmp_path / "text")]) == 0
    assert capsys.readouterr().out == "O B-PER O O B-LOC O\n\n"


def test_each_tag_is_of_what_its_token_looked_at(run: Run) -> None:
    maps = run.predictor.inspect("1 Anna left in Oslo .")
    assert maps.word_map("decoder/cross").shape == (4, 6, 7)  # one of the words is the end
    assert [word.text for word in maps.words["target"]] == "O B-PER O O B-LOC O".split()


def test_without_attention_the_pages_say_so(tmp_path: Path) -> None:
    train = write(tmp_path / "train.conll", sentences(40, 1))
    changes = [*SMALL, "model.decoder.attention=null", "training.steps=2"]
    made = regard.train(train, out=tmp_path / "run", settings=changes)
    maps = made.predictor.inspect("1 Anna left in Oslo .", "O B-PER O O B-LOC O")
    assert maps.maps == {} and maps.alignment() == []
    for page in (maps.to_html(), (made.path / "report.html").read_text()):
        assert "no attention to look at" in page


def test_tags_look_at_tokens(tmp_path: Path) -> None:
    train = write(tmp_path / "train.conll", sentences(40, 1))
    changes = [*SMALL, "model.kind=transformer", "model.encoder.heads=2", "model.encoder.layers=2", "training.steps=2"]
    made = regard.train(train, out=tmp_path / "run", settings=[*changes, "model.decoder={kind: aligned}"])
    maps = made.predictor.inspect("1 Anna left in Zanzibar .", "O B-PER O O B-LOC O")
    assert set(maps.maps) == {"tags/0/cross", "tags/1/cross", "cross/average"}
    assert maps.word_map("tags/1/cross").shape == (2, 6, 7)  # one of the words is the end
    assert [tag for _, tag in maps.alignment()] == "O B-PER O O B-LOC O".split()
    with pytest.raises(DataError, match="6 tokens and 1 tags"):
        made.predictor.inspect("1 Anna left in Oslo .", "O")


def test_other_decoders_are_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "train.conll", sentences(40, 1))
    with pytest.raises(SettingsError, match="cannot read its answer off a decoder of kind 'rnn'") as caught:
        propose(train, out=tmp_path / "run", settings=["model.decoder.kind=rnn"])
    assert caught.value.hint == "set model.decoder.kind=aligned"


def test_columns_are_not_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no columns to name"):
        propose(write(tmp_path / "train.conll", sentences(40, 1)), source="word")


@pytest.mark.parametrize("name", ["labels.json", "frequent_tags.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"O": "many"}', '{"O": 99}', '{"in": 1.0}'])
def test_damaged_files_are_named(run: Run, tmp_path: Path, name: str, content: str) -> None:
    for file in run.path.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(run.path)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.relative_to(run.path)).write_bytes(file.read_bytes())
    (tmp_path / "fields" / name).write_text(content)
    with pytest.raises(RunError):
        regard.load(tmp_path, "cpu")


def test_files_are_read_as_at_conll(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("-DOCSTART- -X- O\n\nAnna NNP B-PER\nsleeps VBZ O\n\n\n. . O")
    rows = [{"source": "Anna sleeps", "target": "B-PER O"}, {"source": ".", "target": "O"}]
    assert read_tagged([str(tmp_path / "a.conll")]) == rows
    (tmp_path / "b.tsv").write_text("Anna\t\tB-PER\r\n\u3000\tO\r\n\r\n")
    assert read_tagged([str(tmp_path / "b.tsv")]) == [{"source": "Anna \u3000", "target": "B-PER O"}]
    assert words_of("Anna \u3000") == ["Anna", "\u3000"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Anna O\nin\n", "a.conll:2: no tag after 'in'"),
        ("New York\tO\n", "a blank in 'New York'"),
        ("\n", "no sentence"),
    ],
)
def test_files_that_are_not_tagged(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.conll").write_text(text)
    with pytest.raises(DataError) as caught:
        read_tagged([str(tmp_path / "a.conll")])
    assert message in str(caught.value)


def test_no_sentence_is_on_two_sides(tmp_path: Path) -> None:
    made = sentences(40, 1)
    train, dev = write(tmp_path / "train", [*made, made[0], made[2]]), write(tmp_path / "dev", made[:2])
    corpus = Tagged(train=(train,), dev=(dev,)).load()
    assert (len(corpus.train), len(corpus.dev), dict(corpus.dropped)) == (38, 2, {"duplicate": 2, "also in dev": 2})
    held = Tagged(train=(train,)).load()
    assert len(held.train) + len(held.dev) == 40 and len(held.dev) >= 1
    strange = write(tmp_path / "test", [[("Anna", "B-PRE")]])
    with pytest.raises(DataError, match="tag 'B-PRE' was not seen in training") as caught:
        Tagged(train=(train,), test=(strange,)).load()
    assert (caught.value.where, caught.value.hint) == (strange, "did you mean 'B-PER'?")


STRANGE = "a \u3000 龘 ▁ e\u0301 \u0301 👨‍👩‍👧 高兴 <s> x-1 </s>"


@pytest.mark.parametrize("kind", ["subwords", "merges", "characters"])
def test_every_token_begins_one_piece(kind: str, tmp_path: Path) -> None:
    train = TextRows.of([{"source": "高 兴 a b", "target": "B I O O"}, {"source": "兴 b c", "target": "O O O"}] * 9)
    recipe = override(named_recipe("ner-zh", str(tmp_path)), ["task.head.kind=tags", "model.width=8"])
    task = recipe.task.learn(train, Vocabulary(kind=kind, size=400))
    assert isinstance(task.field, TextField)
    steps = task.field.steps(task.source({"source": STRANGE}))
    assert sum(step.startswith("▁") for step in steps) == len(STRANGE.split(" "))
    assert task.row("高兴啊") == {"source": "高 兴 啊"}  # training has a token for each character
    assert task.row({"source": "高兴", "target": "O"})["source"] == "高兴"
    with pytest.raises(DataError, match="2 tokens and 1 tags"):
        task.row({"source": "高 兴", "target": "O"}, ("source", "target"))


# Entities, against the package that counts as conlleval does.

SCHEMES = ["BIO", "IO", "BIOES", "BIOE"]


@pytest.mark.parametrize("letters", SCHEMES)
def test_entities_are_those_of_seqeval(letters: str) -> None:
    draw = random.Random(letters)
    tags = ["O", *(f"{letter}-{kind}" for letter in letters if letter != "O" for kind in ("PER", "LOC"))]
    lengths = [draw.randint(1, 12) for _ in range(200)]
    found, wanted = ([draw.choices(tags, k=length) for length in lengths] for _ in range(2))
    for row in found:
        assert [(one.kind, one.begin, one.end - 1) for one in entities(row)] == get_entities(row)
    scores = entity_scores(found, wanted)
    peers = precision_score(wanted, found), recall_score(wanted, found), f1_score(wanted, found)
    assert scores == pytest.approx([100 * peer for peer in peers])
    middle = [[tag.replace("I-", "M-") for tag in row] for row in found]
    assert [entities(row) for row in middle] == [entities(row) for row in found]


def test_tags_that_mark_entities() -> None:
    assert [tuple(one) for one in entities("B M E S S".split())] == [("", 0, 3), ("", 3, 4), ("", 4, 5)]
    assert [tuple(one) for one in entities("PER PER O LOC".split())] == [("PER", 0, 2), ("LOC", 3, 4)]
    assert marks_entities(["O", "PER"]) and marks_entities("BMES") and not marks_entities(["NN", "VB", "I-X"])
    assert entity_scores([["O"]], [["O"]]) == (0, 0, 0)


# Chains, against all paths one by one.


def drawn_chain(labels: int = 3) -> tuple[Chain, Padded]:
    chain = Chain(labels)
    for weight in chain.parameters():
        torch.nn.init.normal_(weight)
    return chain, Padded(torch.randn(3, 4, labels), torch.tensor([4, 1, 3]))


def path_score(chain: Chain, emitted: torch.Tensor, path: tuple[int, ...]) -> float:
    total = chain.first[path[0]] + chain.last[path[-1]] + sum(emitted[at, tag] for at, tag in enumerate(path))
    return float(total + sum(chain.transitions[one, other] for one, other in itertools.pairwise(path)))


@pytest.mark.usefixtures("double_precision")
@torch.no_grad()
def test_a_chain_is_the_sum_over_all_its_paths() -> None:
    chain, emissions = drawn_chain()
    padded = Padded(torch.nn.functional.pad(emissions.values, (0, 0, 0, 2), value=7.0), emissions.lengths)
    paths = torch.randint(3, (3, 6))
    likelihoods = chain.log_likelihood(padded, paths)
    best, scores = chain.best(padded)
    for row, length in enumerate(emissions.lengths.tolist()):
        every = [*itertools.product(range(3), repeat=length)]
        of_paths = torch.tensor([path_score(chain, emissions.values[row], path) for path in every])
        own = every.index(tuple(paths[row, :length].tolist()))
        assert float(likelihoods[row]) == pytest.approx(float(of_paths.log_softmax(0)[own]))
        assert every[int(of_paths.argmax())] == tuple(best[row, :length].tolist())
        assert float(scores[row]) == pytest.approx(float(of_paths.max()))


BEGINS = torch.tensor([False, False, False, False] + [True, True, False] * 3)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("head", [SeparateTagHead, ChainedTagHead])
@torch.no_grad()
def test_a_row_is_tagged_alike_in_any_batch(head) -> None:
    encoder = RecurrentEncoderPart(cell="lstm")
    model = model_of(encoder, AlignedDecoderPart(), lambda _, widths: head(5, widths.output, BEGINS)).eval()
    source = Padded(torch.randint(4, 13, (4, 7)), torch.tensor([7, 1, 5, 2]))
    source.values[1] = 3  # begins no token at all
    targets = torch.randint(5, (4, 7))

    def found(source: Padded) -> tuple[Padded, torch.Tensor, float]:
        memory = model.encode(source)
        decoded, _ = model.advance(source, memory, model.start(memory, len(source.lengths)))
        tags, scores = model.head.best(decoded, memory.head)
        wanted = Padded(targets[: len(source.lengths), : tags.values.shape[1]], tags.lengths)
        return tags, scores, float(model.head.loss(decoded, wanted, memory.head).total)

    tags, scores, loss = found(source)
    assert torch.equal(tags.lengths, (BEGINS[source.values] & source.mask).sum(1))
    wider, same_scores, same_loss = found(with_garbage(source))
    assert torch.equal(wider.values[wider.mask], tags.values[tags.mask])
    assert torch.allclose(same_scores, scores) and same_loss == pytest.approx(loss)
    alone, own_scores, _ = found(Padded(source.values[:1], source.lengths[:1]))
    assert torch.equal(alone.values[0], tags.values[0, : len(alone.values[0])])
    assert torch.allclose(own_scores, scores[:1])


def test_real_resumes_are_read() -> None:
    folder = Path(os.environ.get("REGARD_DATA", "")) / "sequence_labelling" / "resume-ner-zh"
    if not folder.is_dir():
        pytest.skip("set REGARD_DATA to a folder that holds sequence_labelling/resume-ner-zh")
    corpus = named_recipe("ner-zh", str(folder)).data.load()
    assert [len(side) for side in (corpus.train, corpus.dev, corpus.test)] == [3798, 463, 477]
    assert sum(len(entities(row["target"].split())) for row in corpus.test) == 1630
