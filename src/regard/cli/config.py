"""``regard config``."""

from pathlib import Path

import click

from regard.cli.common import emit, output_options


@click.command()
@click.argument("run")
@click.option("--data", "data_folder", help="Data folder of a named recipe.")
@output_options
def command(run: str, data_folder: str | None, as_json: bool, quiet: bool) -> None:
    """RUN is a run folder, the name of a recipe, or a YAML file. Every setting can be given to train with --set."""
    from regard.recipe import Recipe
    from regard.recipes import named_recipe
    from regard.run_folder import RunFolder
    from regard.settings import load, to_yaml

    if Path(run).is_dir():
        recipe = RunFolder(run).recipe()
    elif run.endswith((".yaml", ".yml")):
        recipe = load(Recipe, Path(run))
    else:
        recipe = named_recipe(run, data_folder)
    if as_json:
        emit(recipe.model_dump(mode="json"))
    else:
        print(to_yaml(recipe), end="")
