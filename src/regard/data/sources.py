"""Where rows come from: what the ``data`` of a recipe may be."""

from typing import Annotated

from pydantic import Field

from regard.data.babi import Babi
from regard.data.dates import Dates
from regard.data.digit_strips import DigitStrips
from regard.data.pairs import Files
from regard.data.pronunciations import Pronunciations
from regard.data.questions import Questions
from regard.data.series_files import SeriesFiles
from regard.data.speech import SpokenDigits
from regard.data.tagged import Tagged
from regard.data.text import Text

DataPart = Annotated[
    Babi | Questions | Files | Dates | DigitStrips | Pronunciations | SpokenDigits | Tagged | Text | SeriesFiles,
    Field(discriminator="kind"),
]
