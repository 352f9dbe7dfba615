"""Named recipes: Python functions that return a Recipe, each a value that can be saved, shown and changed."""

from collections.abc import Callable
from pathlib import Path

from regard.errors import InputError, did_you_mean
from regard.recipe import Recipe
from regard.recipes.babi import babi
from regard.recipes.cmrc import cmrc
from regard.recipes.dates import dates
from regard.recipes.digit_strips import digit_strips
from regard.recipes.etth1 import etth1
from regard.recipes.g2p import g2p
from regard.recipes.multi30k import multi30k
from regard.recipes.ner_zh import ner_zh
from regard.recipes.shakespeare import shakespeare
from regard.recipes.spoken_digits import spoken_digits
from regard.recipes.sst2 import sentiment

WITHOUT_DATA: dict[str, Callable[[], Recipe]] = {"dates": dates}
WITH_DATA: dict[str, Callable[[Path], Recipe]] = {
    **multi30k(),
    **babi(),
    **sentiment(),
    **spoken_digits(),
    "cmrc": cmrc,
    "digit-strips": digit_strips,
    "etth1": etth1,
    "g2p": g2p,
    "ner-zh": ner_zh,
    "shakespeare": shakespeare,
}


def named_recipe(name: str, data: str | None) -> Recipe:
    """The recipe of that name, on the data of a folder if it needs one.

    Raises:
        InputError: there is no such recipe, or its data folder is missing or not needed.
    """
    if name in WITHOUT_DATA:
        if data:
            raise InputError(f"recipe '{name}' makes its own data", hint="leave --data out")
        return WITHOUT_DATA[name]()
    if name not in WITH_DATA:
        raise InputError(f"no recipe '{name}'", hint=did_you_mean(name, [*WITH_DATA, *WITHOUT_DATA]))
    if not data:
        raise InputError(f"recipe '{name}' needs its data folder", hint=f"regard train --recipe {name} --data DIR")
    return WITH_DATA[name](Path(data))
