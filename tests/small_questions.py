"""Small questions: where someone is, while others are elsewhere."""

import json
import random
from pathlib import Path
from typing import Any

PEOPLE, PLACES = "Mary John Anna Paul Lena Omar".split(), "garden kitchen office cellar attic hall".split()

SMALL = [
    "model.width=48",
    "vocabulary.size=400",
    "training.steps=150",
    "training.evaluate_every=50",
    "training.precision=fp32",
    "batching.tokens=1024",
]


def questions(number: int, seed: int) -> list[dict[str, Any]]:
    """With the place as the answer, and where it stands."""
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        people, places = draw.sample(PEOPLE, 3), draw.sample(PLACES, 3)
        said = [f"{person} is in the {place}." for person, place in zip(people, places, strict=True)]
        asked = draw.randrange(3)
        passage = " ".join(said)
        start = passage.index(places[asked])
        found.append(
            {
                "question": f"Where is {people[asked]}?",
                "context": passage,
                "answers": [places[asked]],
                "starts": [start],
            }
        )
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


PASSAGE = "John is in the  garden. Mary is in the attic."

ROWS = [
    {"source": "Where is John?", "passage": PASSAGE, "target": "garden", "start": "16", "others": ""},
    {"source": "Where is Mary?", "passage": PASSAGE, "target": "attic", "start": "39", "others": "the attic"},
]
