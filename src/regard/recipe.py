"""A recipe names a task, a model, data and how to train, as plain data; everything a run did is in its saved recipe."""

from pydantic import Field

from regard.data.batching import Batching
from regard.data.sources import DataPart
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.models.model import ModelSettings
from regard.settings import Settings
from regard.tasks.generate import GenerateSettings
from regard.tasks.verbs import TaskPart
from regard.training.loop import Training


class Recipe(Settings):
    """All of a run."""

    task: TaskPart = GenerateSettings()
    data: DataPart
    vocabulary: Vocabulary = Vocabulary()
    model: ModelSettings = Field(default_factory=lambda: ModelSettings.model_validate({}))
    batching: Batching = Batching()
    training: Training = Training()
    search: Search = Search(beam=5)
