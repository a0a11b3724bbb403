"""A comparison as text for elsewhere: CSV, Markdown, and LaTeX for a paper."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from segsweep.compare.comparison import Comparison, Interval
from segsweep.identity import counted, short_params

Format = Callable[[Comparison], str]
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def to_csv(found: Comparison) -> str:
    """One row a champion, every number in full; empty where there is none."""
    factors = list(dict.fromkeys(name for row in found.standings for name in row.levels))
    names = [
        "place", "run", "cell", *factors, "config_id", "params", "metric", "mean", "std", "low",
        "high", "folds", "holdout", "holdout_std", "holdout_low", "holdout_high", "tied",
        "p_against_best", "configs", "finished", "parameters", "runtime_ms",
    ]  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for place, row in enumerate(found.standings, start=1):
        ends, held = row.interval, row.holdout_interval
        writer.writerow(
            {
                "place": place,
                "run": row.run,
                "cell": row.cell,
                **row.levels,
                "config_id": row.config_id,
                "params": short_params(row.params),
                "metric": found.metric,
                "mean": row.mean,
                "std": row.std,
                "low": ends.low if ends else None,
                "high": ends.high if ends else None,
                "folds": len(row.scores),
                "holdout": row.holdout,
                "holdout_std": row.holdout_std,
                "holdout_low": held.low if held else None,
                "holdout_high": held.high if held else None,
                "tied": row.tied,
                "p_against_best": found.against_best(row.config_id),
                "configs": row.configs,
                "finished": row.finished,
                "parameters": row.parameters,
                "runtime_ms": row.runtime_ms,
            }
        )
    return text.getvalue()


def to_markdown(found: Comparison) -> str:
    """A table, then what can be claimed and what must be known."""
    head = ["#", *_heads(found), "p (Holm)", "holdout", "ms/image", "parameters"]
    lines = [_bar(head), _bar(["--:", ":--", *["--:"] * (len(head) - 2)])]
    for place, row in enumerate(found.standings, start=1):
        cell = f"**{_marked(row.label)}**" if row.tied else _marked(row.label)
        p = found.against_best(row.config_id)
        lines.append(
            _bar(
                [
                    str(place), cell, spread(row.mean, row.std), ends(row.interval),
                    "–" if p is None else probability(p), spread(row.holdout, row.holdout_std),
                    number(row.runtime_ms, 1), "–" if not row.parameters else f"{row.parameters:,}",
                ]
            )
        )  # fmt: skip
    claims = list(dict.fromkeys(test.claim for test in found.tests.values()))
    notes = [caption(found), *claims, found.limits, *found.warnings]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def to_latex(found: Comparison) -> str:
    r"""A table for ``\usepackage{booktabs}``; bold: not told from the best."""
    held = any(row.holdout is not None for row in found.standings)
    heads = [*_heads(found), *(["Holdout"] if held else [])]
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_escaped(_sentence(found))}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"    \toprule",
        f"    {' & '.join(map(_escaped, heads))} \\\\",
        r"    \midrule",
    ]
    for row in found.standings:
        name = _escaped(row.label)
        cells = [rf"\textbf{{{name}}}" if row.tied else name]
        cells += [_plus(row.mean, row.std), _ends(row.interval)]
        cells += [_plus(row.holdout, row.holdout_std)] if held else []
        lines.append(f"    {' & '.join(cells)} \\\\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Format] = {"csv": to_csv, "markdown": to_markdown, "latex": to_latex}


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def spread(mean: float | None, std: float | None) -> str:
    """``0.8123 ± 0.0123``."""
    return number(mean) if std is None else f"{number(mean)} ± {number(std)}"


def ends(interval: Interval | None) -> str:
    """``0.79 to 0.84``, or a dash."""
    return "–" if interval is None else " to ".join(interval.text())


def probability(p: float) -> str:
    """To three digits, and never 0."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def caption(found: Comparison) -> str:
    """What the numbers are."""
    seeds = f", {found.replicates} seeds each" if found.replicates > 1 else ""
    drawn = f"resampled by {found.grouped}" if found.grouped else "resampled"
    ways = {row.interval.images for row in found.standings if row.interval}
    images = f"and images ({drawn})" if ways == {"resampled"} else "and images, by the folds"
    level = next((row.interval.level for row in found.standings if row.interval), None)
    text = f"{found.metric.removeprefix('val/')}: mean ± standard deviation over "
    text += f"{counted(found.folds, 'fold')}{seeds}"
    if level is not None:
        text += f"; {100 * level:g} % intervals for other seeds {images}"
    return f"{text}; bold: not told from the best"


def _sentence(found: Comparison) -> str:
    return f"{caption(found)}. {found.tests['folds'].claim}"


def _heads(found: Comparison) -> list[str]:
    level = next((row.interval.level for row in found.standings if row.interval), 0.95)
    name = found.metric.removeprefix("val/")
    return ["cell", f"{name} ± sd, {counted(found.folds, 'fold')}", f"{100 * level:g} % interval"]


def _bar(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _marked(text: str) -> str:
    """Nothing that Markdown would take for its own."""
    return "".join(f"\\{c}" if c in "\\`*_|<>[]" else c for c in text)


def _escaped(text: str) -> str:
    r"""Nothing that LaTeX would take for its own; ± and – as it wants them."""
    plain = "".join(SPECIAL.get(character, character) for character in text)
    return plain.replace("±", r"$\pm$").replace("–", "--")


def _plus(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "--"
    return f"${mean:.3f}$" if std is None else rf"${mean:.3f} \pm {std:.3f}$"


def _ends(interval: Interval | None) -> str:
    return "--" if interval is None else f"$[{', '.join(interval.text(3))}]$"
