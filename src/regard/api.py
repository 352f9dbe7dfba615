"""``regard.train``: the same planner and the same folder as the command line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from regard.errors import RunError
from regard.planning import Plan, Request, begin, plan
from regard.predictor import Predictor, find_device, load
from regard.reporting import write_report
from regard.runs import RunFolder
from regard.settings import override
from regard.training.loop import Progress
from regard.training.run import Trained, train_run
from regard.training.watching import Quiet


@dataclass(frozen=True)
class Run:
    """A finished run: where it is, what it scored, and its model."""

    folder: RunFolder
    trained: Trained

    @property
    def scores(self) -> dict[str, float]:
        return self.trained.scores

    def load(self, device: str = "auto") -> Predictor:
        return load(self.folder.path, device)


def train(
    *data: str | Path,
    out: str | Path | None = None,
    dev: Sequence[str] = (),
    test: Sequence[str] = (),
    source: str | None = None,
    target: str | None = None,
    tag: str | None = None,
    recipe: str | None = None,
    data_folder: str | Path | None = None,
    time_limit: str | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    progress: Progress | None = None,
    announce: Callable[[Plan], None] | None = None,
) -> Run:
    """Train on pairs, or as a named recipe says; the same call goes on with a run that was stopped.

    Args:
        data: pairs.tsv, .csv or .jsonl, or two line-aligned files; any of them .gz.
        out: the run folder, ``runs/NAME`` by default.
        dev, test: files of the same form; without dev files some rows are held out.
        source, target, tag: which columns, where the file does not say.
        recipe: a named recipe or a YAML file, with ``data_folder`` for its data.
        time_limit: "90s", "30m" or "2h".
        settings: "path.to.setting=value".
        announce: called with the plan before training starts.

    Raises:
        RegardError: see regard.errors; what was refused leaves nothing behind.
    """
    request = Request(
        train=tuple(str(path) for path in data),
        dev=tuple(dev),
        test=tuple(test),
        source=source,
        target=target,
        tag=tag,
        recipe=recipe,
        data=str(data_folder) if data_folder else None,
        time_limit=time_limit,
        seed=seed,
        settings=tuple(settings),
    )
    folder = RunFolder(out or default_folder(request))
    where = find_device(device)
    planned = resume(folder, request) if folder.exists() else plan(request, where)
    if announce:
        announce(planned)
    trained = train_run(planned.recipe, planned.corpus, planned.field, folder, progress or Quiet(), where)
    folder.save_summary(trained.summary(folder))
    write_report(folder, planned.corpus, trained, where)
    return Run(folder, trained)


def default_folder(request: Request) -> Path:
    """``runs/`` and the recipe's name or the data file's."""
    name = request.recipe or (Path(request.train[0]).name if request.train else "run")
    return Path("runs") / Path(name).name.split(".")[0]


def resume(folder: RunFolder, request: Request) -> Plan:
    """The saved recipe of a run that has begun, if it is what was asked for.

    Raises:
        RunError: the folder holds another run, or other settings were asked for.
    """
    recipe = folder.recipe()
    asked = begin(request)
    if asked.data != recipe.data:
        hint = "repeat the command that made it, or choose another --out"
        raise RunError("the folder holds a run on other data", where=str(folder.path), hint=hint)
    settings = [*request.settings, *([f"training.seed={request.seed}"] if request.seed is not None else [])]
    changed = [one for one in settings if not one.partition("=")[0].endswith("kind") and override(recipe, [one]) != recipe]
    if changed:
        hint = "leave them out to go on as it began, or choose another --out"
        raise RunError(f"this run began with other settings than {', '.join(changed)}", where=str(folder.path), hint=hint)
    reasons = [("going on", f"with the recipe saved in {folder.recipe_file}")]
    return Plan(recipe, recipe.data.load(), folder.field(), reasons)
