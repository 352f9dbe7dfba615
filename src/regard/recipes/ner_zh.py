"""Named entities in Chinese résumés (Zhang and Yang 2018, arXiv 1805.02023), one character a token, tags BMES."""

from pathlib import Path

from regard.data.batching import Batching
from regard.data.tagged import Tagged
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.models.tag_heads import ChainedTagsPart
from regard.recipe import Recipe
from regard.tasks.tag import TagSettings
from regard.training.loop import Training
from regard.training.optimisation import Optimisation


def ner_zh(data: Path) -> Recipe:
    """A bidirectional LSTM over characters and a conditional random field (Lample et al. 2016, arXiv 1603.01360).

    Between them every character looks at the others (Luo et al. 2018, doi 10.1093/bioinformatics/btx761): on dev that
    scores as without, and there is something to look at.
    """
    decoder = {"kind": "aligned", "attention": {}}
    model = {"kind": "rnn", "dropout": 0.5, "encoder": {"cell": "lstm"}, "decoder": decoder}
    train, dev, test = (str(data / name) for name in ("train.char.bmes.gz", "dev.char.bmes", "test.char.bmes"))
    return Recipe(
        task=TagSettings(head=ChainedTagsPart()),
        data=Tagged(train=(train,), dev=(dev,), test=(test,)),
        vocabulary=Vocabulary(kind="merges", size=3000),
        model=model,
        batching=Batching(tokens=2048),
        training=Training(
            steps=1000, evaluate_every=100, optimisation=Optimisation(learning_rate=2e-3, warmup=100, schedule="cosine")
        ),
        search=Search(),
    )
