"""ETTh1 (Zhou et al. 2021, arXiv 2012.07436): seven loads and temperatures of a transformer, hour by hour.

The protocol of later papers: 12, 4 and 4 months of 30 days, values scaled by the training part, 96 hours of the past,
errors over all windows of the test part. ``--set task.horizon=96|192|336|720``, ``--set model.kind=linear|patch|rnn``;
the linear model learns at ``--set training.optimisation.learning_rate=0.003``, the recurrent one is quick enough with
``--set model.width=32``.
"""

from pathlib import Path

from regard.data.batching import Batching
from regard.data.series_files import SeriesFiles
from regard.decoding.search import Search
from regard.recipe import Recipe
from regard.tasks.forecast import ForecastSettings
from regard.training.loop import Training
from regard.training.optimisation import Optimisation

MONTH = 30 * 24


def etth1(data: Path) -> Recipe:
    """iTransformer, small and for few epochs: these series are soon learnt by heart."""
    return Recipe(
        task=ForecastSettings(input=96, horizon=96),
        data=SeriesFiles(train=(str(data / "ETTh1.csv.gz"),), borders=(12 * MONTH, 16 * MONTH, 20 * MONTH)),
        model={"kind": "inverted"},
        batching=Batching(tokens=6144),
        training=Training(
            steps=1500,
            evaluate_every=150,
            checkpoint_every=500,
            patience=4,
            dev_rows=4 * MONTH,
            optimisation=Optimisation(learning_rate=5e-4, warmup=50, schedule="cosine", ema_decay=0.99),
        ),
        search=Search(),
    )
