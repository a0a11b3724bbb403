"""The tables of a report, as plain rows: ranking, failures, settings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from segsweep import results, yamlfile
from segsweep.display import duration
from segsweep.identity import short_params
from segsweep.next_command import relaunch
from segsweep.report.facts import Facts
from segsweep.report.spent import Spent
from segsweep.rundir import Run
from segsweep.spec import to_plain

NAMED = 12  # trials listed by name for one cause


def tiles(facts: Facts, spent: Spent) -> list[tuple[str, str]]:
    """A few numbers for the top of the page: what, how much."""
    split = facts.run.split
    wanted = spent.configs if facts.standing != "finished" else 0
    found = [
        ("cells", f"{len(facts.labels)}"),
        ("configs", f"{len(facts.state.configs):,}" + (f" of {wanted:,}" if wanted else "")),
        ("trials", f"{len(facts.trials):,}"),
        ("folds", f"{facts.spec.folds.count}"),
    ]
    if split:
        found.append(("images", f"{len(split['folds']):,} + {len(split['holdout']):,} held out"))
    found.append(("epochs run", f"{spent.run:,} of {spent.planned:,}"))
    found.append(("wall time", duration(spent.wall)))
    return found


def ranking(facts: Facts) -> list[dict[str, Any]]:
    """A row a cell, with what the comparison knows of it."""
    found = facts.comparison
    standings = {row.config_id: row for row in found.standings} if found else {}
    times = {r["config_id"]: r["runtime_ms"] for r in facts.trials if r["runtime_ms"] is not None}
    sizes = {r["config_id"]: r["parameters"] for r in facts.trials if r["parameters"]}
    rows = []
    for place, row in enumerate(facts.ranking, start=1):
        standing = standings.get(row.config_id)
        rows.append(
            {
                "place": place,
                "label": row.label,
                "config_id": row.config_id,
                "mean": row.mean,
                "std": row.std,
                "folds": row.folds,
                "final": row.final,
                "interval": standing.interval if standing else None,
                "holdout": row.holdout,
                "holdout_interval": standing.holdout_interval if standing else None,
                "tied": bool(standing and standing.tied and found and len(found.tied) > 1),
                "params": short_params(row.params) or "–",
                "configs": row.configs,
                "stopped": row.stopped,
                "runtime_ms": times.get(row.config_id),
                "parameters": sizes.get(row.config_id),
                "micro_batch": row.micro_batch,
                "reduced": row.reduced,
            }
        )
    return rows


def failures(facts: Facts) -> list[dict[str, Any]]:
    """Every cause that ended a trial or took a worker, most frequent first."""
    causes: dict[tuple[str, str], list[str]] = {}
    for row in facts.trials:
        if row["status"] in ("failed", "diverged", "out_of_memory"):
            key = (row["status"].replace("_", " "), str(row["error"] or "no message"))
            causes.setdefault(key, []).append(facts.name_of(row))
    names: dict[str, str] = {row["trial_id"]: facts.name_of(row) for row in facts.trials}
    for event in facts.of("lost"):
        lost = ("worker lost, trial handed out again", str(event.get("error") or "no message"))
        causes.setdefault(lost, []).append(names.get(event["trial_id"], str(event["trial_id"])))
    for event in facts.of("damaged"):
        what = event["what"] if isinstance(event["what"], str) else "; ".join(event["what"])
        causes.setdefault(("damaged, and mended", what), []).append(
            names.get(event.get("trial_id", ""), "the run")
        )
    rows = [
        {"kind": kind, "cause": cause, "count": len(trials), "trials": trials[:NAMED],
         "more": max(0, len(trials) - NAMED)}
        for (kind, cause), trials in causes.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["count"])


def settings(facts: Facts) -> list[tuple[str, str]]:
    """What was run, with what, on what: name and value."""
    launches = facts.of("launch")
    last = launches[-1]
    found = [
        ("run directory", str(facts.run.path)),
        ("segsweep", str(last.get("version", "not recorded"))),
        ("schema of the results", results.SCHEMA_VERSION),
        ("launched", _launched(launches)),
        ("device", str(last.get("device", "not recorded"))),
    ]
    versions: Mapping[str, str] = last.get("versions") or {}
    if versions:
        found.append(("versions", ", ".join(f"{k} {v}" for k, v in versions.items())))
    split = facts.run.split
    if split:
        found += [
            ("data", f"{facts.spec.dataset.name}, {split['images']:,} images, classes "
                     f"{', '.join(split['classes'])}"),
            ("hash of the data", split["fingerprint"]),
            ("hash of the folds", split["folds_hash"]),
        ]  # fmt: skip
    found += [
        (
            "seed of the sweep",
            f"{facts.spec.seed}; each trial has its own, from it, its config, fold and replicate",
        ),
        ("metric", f"{facts.spec.metric.name}, {facts.spec.metric.goal}"),
    ]
    return found


def _launched(launches: list[dict[str, Any]]) -> str:
    places = dict.fromkeys(str(event.get("host", "?")) for event in launches)
    first = launches[0].get("time")
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(first)) if first else "?"
    times = "once" if len(launches) == 1 else f"{len(launches)} times, first"
    return f"{times} at {when} on {', '.join(places)}"


def repeat(run: Run) -> str:
    """The command that runs the same again beside it, with the same numbers."""
    return relaunch(run, storage_path="repeated")


def resolved(facts: Facts) -> str:
    """The sweep with every default filled in, as YAML."""
    return yamlfile.dump(to_plain(facts.spec))


def winner(facts: Facts) -> str | None:
    """The best config in full, as YAML."""
    if not facts.ranking:
        return None
    return yamlfile.dump(dict(facts.state.configs[facts.ranking[0].config_id].config))
