"""Error of a run on each bAbI task, and whether the sentence it points at is one that leads to the answer.

python benchmarks/babi.py RUN --data DIR [--questions 1000]
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

import regard
from regard.pieces import is_special
from regard.predictor import Predictor
from regard.tasks.extract import POINTER


class Question(NamedTuple):
    """A question, the sentences before it, its answer, and which of them support it."""

    text: str
    sentences: list[str]
    answer: str
    support: set[int]

    @property
    def row(self) -> dict[str, str]:
        return {"question": self.text, "passage": " ".join(self.sentences)}


def read(path: Path) -> Iterator[Question]:
    sentences: list[str] = []
    numbers: list[int] = []
    for line in path.read_text().splitlines():
        number, text = line.split(" ", 1)
        if number == "1":
            sentences, numbers = [], []
        question, *rest = text.split("\t")
        if rest:
            support = {numbers.index(int(one)) for one in rest[1].split()}
            yield Question(question.strip(), [*sentences], rest[0], support)
        else:
            sentences.append(text.strip())
            numbers.append(int(number))


def points_at_support(model: Predictor, question: Question) -> bool:
    """Whether the sentence with most of the pointer's weight supports the answer."""
    maps = model.inspect(question.row)
    words, special = maps.words["source"], [is_special(word, maps.source) for word in maps.words["source"]]
    weights = maps.word_map(POINTER)[0].sum(0).tolist()
    shares = torch.zeros(len(question.sentences))
    sentence = 0
    for place in range(special.index(True) + 1, len(words)):  # after the end of the question
        if not special[place]:
            shares[sentence] += weights[place]
            sentence += words[place].text.endswith(".")
    return int(shares.argmax()) in question.support


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=1000, help="of each task, at most")
    parser.add_argument("--looks", type=int, default=100, help="of which so many are looked into")
    asked = parser.parse_args()
    model = regard.load(asked.run)
    print(
        "| task | questions | error | points at a sentence that supports it | of all sentences |\n|---|---|---|---|---|"
    )
    for task in model.recipe.data.tasks:
        [path] = (asked.data / "en").glob(f"qa{task}_*_test.txt")
        found = [one for one in read(path) if re.search(rf"\b{re.escape(one.answer)}\b", one.row["passage"])][
            : asked.questions
        ]
        answers = model.predict([one.row for one in found])
        errors = sum(answer.text != one.answer for answer, one in zip(answers, found, strict=True))
        seen = found[: asked.looks]
        pointed = sum(points_at_support(model, one) for one in seen) / len(seen)
        chance = sum(len(one.support) / len(one.sentences) for one in seen) / len(seen)
        print(f"| {task} | {len(found)} | {errors / len(found):.1%} | {pointed:.0%} | {chance:.0%} |", flush=True)


if __name__ == "__main__":
    main()
