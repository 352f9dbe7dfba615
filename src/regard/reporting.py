"""The report a run ends with: its curve, scores, samples and what the model looked at, as one page."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from regard.data.corpus import Corpus, Row
from regard.inspection.report import Report, training_report
from regard.predictor import Answer, Predictor
from regard.runs import RunFolder
from regard.training.loop import read_journal
from regard.training.run import SAMPLES, Trained
