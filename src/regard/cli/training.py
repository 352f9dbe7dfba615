"""What ``train`` and ``demo`` share: the plan, the bar, and how a run ends."""

from typing import TYPE_CHECKING, Any

from regard.cli.common import emit, say, score_lines

if TYPE_CHECKING:
    from regard.api import Run


def run_training(*data: str, dry_run: bool, as_json: bool, quiet: bool, **request: Any) -> None:
    """Plan, tell the plan, train, and tell the scores beside the baseline's."""
    from regard import api
    from regard.planning import Plan
    from regard.runner import answered_rows, spread
    from regard.training.watching import Quiet, Watcher

    with Quiet() if quiet else Watcher() as progress:

        def announce(plan: Plan) -> None:
            for label, reason in plan.reasons:
                say(f"{label:>11}  {reason}", quiet)
            progress.show([plan.task.shown(row) for row in spread(answered_rows(plan.recipe, plan.corpus))])

        if dry_run:
            plan = api.propose(*data, **request)[1]
            announce(plan)
            if as_json:
                emit({"plan": plan.reasons, "recipe": plan.recipe.model_dump(mode="json")})
            return
        run = api.train(*data, **request, progress=progress, announce=announce)
    if as_json:
        emit(run.summary())
    _tell(run, quiet)


def _tell(run: "Run", quiet: bool) -> None:
    from regard.metrics.names import is_better

    trained, baseline = run.trained, run.predictor.task.baseline_name
    for line in score_lines(trained.scores, trained.baseline, (f"on {trained.scored_on}", baseline)):
        say(line, quiet)
    counted = f"; {trained.reference_tokens:,} reference tokens" if trained.reference_tokens else ""
    say(f"{trained.steps} steps in {trained.seconds:.0f} s{counted}", quiet)
    if run.metric in trained.scores:
        say(trained.signatures[run.metric], quiet)
        if not is_better(run.metric, trained.scores[run.metric], trained.baseline[run.metric]):
            say(f"No better than the baseline, {baseline} ({run.metric}): more data or more steps?", quiet)
    say(f"\nreport   {run.path / 'report.html'}", quiet)
    for line in run.next_commands:
        say(f"try      {line}", quiet)
