"""Peak memory of training on corpora of growing size: synthetic pairs, encoded once into memory-mapped files.

The model is the same for all, as planning would take a larger one for more text. Each size runs in a process of its
own, twice: the first encodes, the second finds the encoded corpus. Mapped pages of files are shared and can be dropped
at any time, so what is told is the most memory of the process's own (anonymous).

    python benchmarks/memory.py [--rows 200000 2000000 20000000] [--folder DIR]
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = 200
WORDS = 20_000
SETTINGS = ["vocabulary.size=4000", "model.width=128", "batching.tokens=2048", f"training.steps={STEPS}"]
SETTINGS += [f"model.{side}.{name}" for side in ("encoder", "decoder") for name in ("layers=2", "feedforward=256")]
SETTINGS += ["training.evaluate_every=100", "training.precision=fp32", "training.dev_rows=20"]
CHILD = """
import sys, threading, time
import regard
from regard.data import corpus
corpus.LARGE = 0
own = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
most = [0]
def watch():
    while True:
        most[0] = max(most[0], own())
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
regard.train(sys.argv[1], out=sys.argv[2], settings=sys.argv[3:])
print(most[0])
"""


def write_pairs(path: Path, rows: int) -> None:
    """Sentences of 5 to 15 made-up words, Zipf-like, and the same words reversed."""
    draw = random.Random(1)
    words = ["".join(draw.choices("bcdfglmnprst", k=1) + draw.choices("aeiou", k=1)) * draw.randint(1, 3) + str(n)
             for n in range(WORDS)]  # fmt: skip
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(rows):
            chosen = [words[int(WORDS ** draw.random()) - 1] for _ in range(draw.randint(5, 15))]
            stream.write(f"{' '.join(chosen)}\t{' '.join(chosen[::-1])}\n")


def own_memory(data: Path, out: Path) -> tuple[float, float]:
    """The most memory of its own that a training process held, in MB, and its minutes."""
    began = time.perf_counter()
    environment = os.environ | {"REGARD_CACHE": str(data.parent / "cache")}
    words = [sys.executable, "-c", CHILD, str(data), str(out), *SETTINGS]
    ran = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return int(ran.stdout.split()[-1]) / 1024, (time.perf_counter() - began) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 2_000_000, 20_000_000])
    parser.add_argument("--folder", type=Path, help="where there is room: 8 GB for 20 million pairs")
    options = parser.parse_args()
    print(f"{'rows':>12} {'file MB':>9} {'encoding':>22} {'encoded before':>22}")
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            data = Path(folder) / "pairs.tsv"
            write_pairs(data, rows)
            told = [own_memory(data, Path(folder) / f"run{turn}") for turn in range(2)]
            size = data.stat().st_size / 2**20
            print(f"{rows:12,} {size:9,.0f}" + "".join(f"  {most:8,.0f} MB {spent:6.1f} min" for most, spent in told))


if __name__ == "__main__":
    main()
