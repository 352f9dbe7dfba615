"""Where rows come from: what the ``data`` of a recipe may be."""

from typing import Annotated

from pydantic import Field

from regard.data.corpus import Files
from regard.data.dates import Dates

DataPart = Annotated[Files | Dates, Field(discriminator="kind")]
