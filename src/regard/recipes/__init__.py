"""Named recipes: Python functions that return a Recipe, each a value that can be saved, shown and changed."""

from collections.abc import Callable
from pathlib import Path

from regard.errors import InputError, did_you_mean
from regard.recipe import Recipe
from regard.recipes.dates import dates
from regard.recipes.multi30k import multi30k

WITHOUT_DATA: dict[str, Callable[[], Recipe]] = {"dates": dates}
WITH_DATA: dict[str, Callable[[Path], Recipe]] = multi30k()


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
