"""A recipe names a task, a model, data and how to train, as plain data; everything a run did is in its saved recipe."""

from pydantic import Field, model_validator

from regard.data.batching import Batching
from regard.data.corpus import Corpus
from regard.data.series_files import SeriesFiles
from regard.data.sources import DataPart
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.errors import SettingsError
from regard.models.model import ModelSettings
from regard.settings import Settings
from regard.tasks.forecast import ForecastSettings
from regard.tasks.generate import GenerateSettings
from regard.tasks.task import NeedsDecoder
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

    def corpus(self) -> Corpus:
        """All rows; of series, windows that are as long as the task looks back and ahead.

        Raises:
            DataError: a file cannot be read, or what is left cannot be learnt from.
            SettingsError: the task is no forecast, and the data are series.
        """
        if not isinstance(self.data, SeriesFiles):
            return self.data.load()
        if not isinstance(self.task, ForecastSettings):
            hint = "set task.kind=forecast"
            raise SettingsError(f"series are there to forecast, not to {self.task.kind}", where="task.kind", hint=hint)
        return self.data.load(self.task.input, self.task.horizon)

    @model_validator(mode="after")
    def _only_what_is_generated_has_other_pieces(self) -> "Recipe":
        if self.vocabulary.sampling and self.task.kind != "generate":
            found = f"a task to {self.task.kind} has the same pieces each time"
            raise SettingsError(found, where="vocabulary.sampling", hint="leave vocabulary.sampling out")
        return self

    @model_validator(mode="after")
    def _decoder_gives_what_the_task_reads(self) -> "Recipe":
        kind = self.model.decoder.kind
        if isinstance(self.task, NeedsDecoder) and kind not in self.task.decoders:
            found = f"task '{self.task.kind}' cannot read its answer off a decoder of kind '{kind}'"
            hint = f"set model.decoder.kind={' or '.join(self.task.decoders)}"
            raise SettingsError(found, where="model.decoder.kind", hint=hint)
        return self
