"""All verbs: what the ``task`` of a recipe may be."""

from typing import Annotated

from pydantic import Field

from regard.tasks.classify import ClassifySettings
from regard.tasks.generate import GenerateSettings

TaskPart = Annotated[GenerateSettings | ClassifySettings, Field(discriminator="kind")]
