"""Words and how they are pronounced: pairs of a spelling and its phones, separated by blanks, in many languages."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from regard.data.corpus import Corpus
from regard.data.pairs import Files
from regard.errors import DataError, did_you_mean
from regard.settings import Settings


class Pronunciations(Settings):
    """A language of SIGMORPHON 2021, task 1 (Ashby et al. 2021): ``LANGUAGE_train.tsv``, ``_dev`` and ``_test``."""

    kind: Literal["pronunciations"] = "pronunciations"
    folder: str = Field(description="with the files, or with folders of them")
    language: str = Field(default="eng_us", description="as in the names of its files, such as fre")

    def load(self) -> Corpus:
        """All rows of the official splits.

        Raises:
            DataError: there are no files of that language, or they cannot be read.
        """
        train = self._train_file()
        part = {name: (str(train.with_name(f"{self.language}_{name}.tsv")),) for name in ("train", "dev", "test")}
        return Files(source="1", target="2", **part).load()

    def _train_file(self) -> Path:
        found = sorted(Path(self.folder).rglob("*_train.tsv"))
        languages = {path.name.removesuffix("_train.tsv"): path for path in found}
        if self.language not in languages:
            hint = did_you_mean(self.language, languages) if languages else "give the folder of the task with --data"
            raise DataError(f"no {self.language}_train.tsv here or below", where=self.folder, hint=hint)
        return languages[self.language]
