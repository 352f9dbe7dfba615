"""``regard.train``: the same planner and the same folder as the command line."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.errors import RunError
from regard.memory import keep_freed_memory
from regard.planning import Plan, Request, assignments, begin, plan
from regard.predictor import Predictor, find_device, load
from regard.recipe import Recipe
from regard.reporting import next_commands, write_report
from regard.run_folder import RunFolder
from regard.runner import Trained, train_run
from regard.settings import is_set, override
from regard.training.loop import Progress
from regard.training.watching import Quiet


@dataclass(frozen=True)
class Run:
    """A finished run: where it is, what it scored, its model, and commands to try."""

    path: Path
    trained: Trained
    predictor: Predictor
    next_commands: list[str]

    @property
    def scores(self) -> dict[str, float]:
        return self.trained.scores

    @property
    def metric(self) -> str:
        return self.predictor.task.metric

    def summary(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {"run": str(self.path), **self.trained._asdict()}


def train(
    *data: str | Path,
    out: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    announce: Callable[[Plan], None] | None = None,
    **asked: Any,
) -> Run:
    """Train on pairs, or as a named recipe says; the same call goes on with a run that was stopped.

    Args:
        data: pairs.tsv, .csv or .jsonl, or two line-aligned files; any of them .gz; a folder with one table.
        out: the run folder, ``runs/NAME`` by default.
        device: auto, cpu or cuda.
        progress: who watches; nobody by default.
        announce: called with the plan before training starts.
        asked: see `regard.planning.Request`.

    Raises:
        RegardError: see regard.errors; what was refused leaves nothing behind.
    """
    folder, planned = propose(*data, out=out, device=device, **asked)
    if announce:
        announce(planned)
    where = find_device(device)
    trained = train_run(planned.recipe, planned.corpus, planned.task, folder, progress or Quiet(), where)
    predictor = load(folder.path, device)
    write_report(predictor, planned.corpus, trained)
    return Run(folder.path, trained, predictor, next_commands(predictor, planned.corpus.dev[0]))


def propose(
    *data: str | Path, out: str | Path | None = None, device: str = "auto", **asked: Any
) -> tuple[RunFolder, Plan]:
    """What `train` would do, and where; nothing is written but the cache of large corpora."""
    keep_freed_memory()
    for name in asked.keys() & {"dev", "test", "settings"}:
        asked[name] = _listed(asked[name])
    request = Request(train=_listed(data), **asked)
    folder, where = RunFolder(out or default_folder(request)), find_device(device)
    if folder.exists():
        return folder, resume(folder, request)
    folder.refuse_foreign()
    return folder, plan(request, where)


def _listed(given: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    return (str(given),) if isinstance(given, str | Path) else tuple(map(str, given))


def default_folder(request: Request) -> Path:
    """``runs/`` and the recipe's name or the data file's."""
    name = request.recipe or (Path(request.train[0]).resolve().name if request.train else "run")
    return Path("runs") / Path(name).name.split(".")[0]


def resume(folder: RunFolder, request: Request) -> Plan:
    """The saved recipe of a run that has begun, if it is what was asked for.

    Raises:
        RunError: the folder holds another run, or other settings were asked for.
    """
    recipe, settings = folder.recipe(), assignments(request)
    asked = override(begin(request), settings)
    other = [one for one in settings if not is_set(recipe, one)] or _differences(asked, recipe, request)
    if other:
        message = f"the folder holds a run that began with other settings: {', '.join(other)}"
        hint = "repeat the command that made it to go on, or choose another --out"
        raise RunError(message, where=str(folder.path), hint=hint)
    reason = ("going on", f"with {folder.recipe_file}, {recipe.training.steps:,} steps in all")
    if folder.report_file.exists():
        reason = ("finished", f"{folder.path} is trained to its end; another --out begins anew")
    return Plan(recipe, recipe.corpus(), folder.task(), [reason])


def _differences(asked: Recipe, recipe: Recipe, request: Request) -> list[str]:
    """The parts of a run that began otherwise than asked, apart from what planning chose."""
    if not request.recipe:
        return ["data"] if asked.data != recipe.data else []
    by_time = {"steps", "evaluate_every", "checkpoint_every", "optimisation"} if request.time_limit else set()
    planned: Any = {"training": {"precision"} | by_time}
    one, other = asked.model_dump(exclude=planned), recipe.model_dump(exclude=planned)
    return [part for part in one if one[part] != other[part]]
