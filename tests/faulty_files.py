"""Data files with something wrong, or only strange, in them, by name."""

import gzip
import io
import json
import os
import tarfile
from typing import Any

import numpy as np

PAIRS = [(f"{number} apples", f"{number} Äpfel") for number in range(40)]
STRANGE = [
    "<s> </s> <pad> <unk> <2de> <0x41>",
    '=HYPERLINK("x") @SUM(A1) +1 -1',
    "naïve café Ångström e\u0301 ㎏ ﬁ",
    "👩‍👩‍👧 🇫🇷 1️⃣ family",
    "مرحبا \u202eבעברית\u202c",
    "zero\u200bwidth \u2060join",
    "раураl paypal",
    'a "quote',
    "line\u2028sep\u2029par\x85nel\x0bvt\x0cff\x1crs",
    "car\rriage",
    "हिन्दी 漢字 𓀀",
    "one▁two ▁ three",
]


def tsv(rows: list[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


def tagged(tags: list[str]) -> str:
    return tsv([("source", "target", "lang"), *((*pair, tag) for pair, tag in zip(PAIRS, tags, strict=False))])


class Canary:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("canary",)


def object_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Canary()], dtype=object), allow_pickle=True)
    return stream.getvalue()


def archive_that_climbs() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../canary"))
    return stream.getvalue()


GOOD = tsv(PAIRS).encode()
HEADED = [("source", "target"), *PAIRS]
FILES = {
    "good.tsv": GOOD,
    "strange.tsv": tsv([*PAIRS, *((f"{text} {place}", text) for place, text in enumerate(STRANGE))]).encode(),
    "empty.tsv": b"",
    "empty.tsv.gz": gzip.compress(b""),
    "blank_lines.tsv": b" \n\n   \n",
    "utf16_without_mark.tsv": tsv(PAIRS).encode("utf-16-le"),
    "latin1.tsv": b"a\tb\n" * 6 + "c\tÄpfel\n".encode("latin-1"),
    "nul.tsv": GOOD + b"a\tb\0c\n",
    "short.en": b"one\ntwo\n",
    "long.de": b"eins\nzwei\ndrei\n",
    "one_column.tsv": b"one\ntwo\n",
    "three_columns.tsv": tsv([(*pair, "more") for pair in PAIRS]).encode(),
    "open_quote.csv": b'a,b\nc,"d\ne,f\n',
    "cut.tsv.gz": gzip.compress(GOOD)[:-9],
    "bomb.tsv.gz": gzip.compress(b"a\t" + b"b" * 4_000_000),
    "climbs.tar.gz": archive_that_climbs(),
    "objects.npy": object_array(),
    "nan.jsonl": b'{"source": "a", "target": NaN}\n' * 9,
    "nested.jsonl": b"[" * 10_000,
    "not_lines.json": json.dumps([{"source": "a", "target": "b"}], indent=1).encode(),
    "one_pair.tsv": b"one\teins\n",
    "one_pair_often.tsv": b"one\teins\n" * 9,
    "no_words.tsv": "…\tx\n!\t?\n🙂\tx\n".encode(),
    "one_answer.tsv": tsv([(source, "same") for source, _ in PAIRS]).encode(),
    "python.yaml": b"!!python/object/apply:os.mkdir [canary]\n",
    "bomb.yaml": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "twice.yaml": b"data: {kind: files, train: [good.tsv]}\ntraining: {steps: 5}\ntraining: {seed: 3}\n",
    "norwegian.csv": "".join(f"{one},{other}\n" for one, other in [("en", "no"), *PAIRS]).encode(),
    "plain.yaml": b"data: {kind: files, train: [norwegian.csv], source: no, target: en}\n"
    b"training: {optimisation: {learning_rate: 1e-4}}\n",
    "figures.jsonl": "".join(json.dumps({"08": one, "1e4": other}) + "\n" for one, other in PAIRS).encode(),
    "tagged.tsv": tagged(["de", "fr"] * 20).encode(),
    "other_tag.tsv": b"source\ttarget\tlang\n50 apples\t50 pere\tit\n",
    "no_tag.tsv": b"source\ttarget\n50 apples\t50 Birnen\n",
    "mark.tsv": b"\xef\xbb\xbf" + tsv(HEADED).encode(),
    "utf16.tsv": tsv(HEADED).encode("utf-16"),
    "line_ends.tsv": tsv(HEADED).replace("\n", "\r\n").encode(),
    "in_fields.csv": "".join(f'"{one}\r\nx\u2028y\rz","{other}\n"\r\n' for one, other in PAIRS).encode(),
    "unknown_header.tsv": tsv([("Englisch", "Deutsch"), *PAIRS]).encode(),
    "duplicates.tsv": GOOD * 2,
    "formulas.csv": "".join(f"=A{one}+1,@{one}-{other}\n" for one, other in PAIRS).encode(),
    "quotes.tsv": tsv([(f'"{one}', f'{other}""') for one, other in PAIRS]).encode(),
    "too_long.tsv": GOOD + b"a" * 2001 + b"\tb\n",
    "some_bad.jsonl": "".join(json.dumps({"source": one, "target": other}) + "\n" for one, other in PAIRS).encode()
    + b'{"source": NaN, "target": "b"}\n{"source": "a", "source": "c", "target": "b"}\n'
    + b"[" * 10_000,
    "some_dev.tsv": tsv([(one.upper(), other) for one, other in PAIRS[:10]]).encode(),
    "long_dev.tsv": tsv([*((one.upper(), other) for one, other in PAIRS[:10]), ("a" * 2001, "b")]).encode(),
    "only_long.tsv": ("a" * 2001 + "\tb\n").encode(),
    "returns.csv": "".join(f"{one}\rx,{other}\n" for one, other in PAIRS).encode(),
    "optional.jsonl": b'{"source": "a", "target": "b", "note": "c"}\n'
    + "".join(json.dumps({"source": one, "target": other}) + "\n" for one, other in PAIRS).encode(),
    "rare_tag.tsv": tagged(["it" if one in (5, 7, 18, 20, 24) else "de" for one in range(40)]).encode(),
}
