"""All verbs: what the ``task`` of a recipe may be."""

from typing import Annotated

from pydantic import Field

from regard.tasks.classify import ClassifySettings
from regard.tasks.extract import ExtractSettings
from regard.tasks.forecast import ForecastSettings
from regard.tasks.generate import GenerateSettings
from regard.tasks.language import ContinueSettings
from regard.tasks.tag import TagSettings
from regard.tasks.transcribe import TranscribeSettings

TaskPart = Annotated[
    GenerateSettings
    | ClassifySettings
    | ExtractSettings
    | ContinueSettings
    | TranscribeSettings
    | TagSettings
    | ForecastSettings,
    Field(discriminator="kind"),
]
