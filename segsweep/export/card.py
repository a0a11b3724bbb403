"""The model card: what a person should know before using an exported model.

After Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993): what it is, how it
was trained, how well it does and where that was measured, how to use it, what to beware of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segsweep.export.temperature import bound
from segsweep.identity import counted, short_params
from segsweep.next_command import command


def text(facts: Mapping[str, Any], metrics: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        facts: of the manifest, with ``classes`` (names), ``temperature`` and ``preprocessing``.
        metrics: the content of ``metrics.json``.
        params: what the search has chosen.
    """
    source = facts["source"]
    parts = [
        f"# {source['cell']}",
        _what(facts, metrics),
        "## How it was chosen and trained",
        _training(facts, params),
        "## Scores",
        *_scores(metrics),
        "## Input and output",
        _use(facts),
        "## Beware",
        _beware(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _what(facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    source, kind = facts["source"], facts["source"]["kind"]
    words = {
        "fold": "the model of fold {}, {}",
        "ensemble": "the mean of the probabilities of {} fold models",
        "retrained": "fitted once more on all {} images of the folds, for {} epochs, {}",
    }[kind]
    if kind == "fold":
        best = "which has the best score on its own validation images"
        known = any(one["value"] is not None for one in metrics["folds"])
        words = words.format(source["folds"][0], best if known else "the first of all")
    elif kind == "ensemble":
        words = words.format(len(source["folds"]))
    else:
        rates = "with the learning rates that the folds had"
        if source["schedule"] == "plateau":
            rates = "its learning rate cut where the training loss stood still (that of the folds "
            rates += "was where the validation score did)"
        words = words.format(source["images"], source["epochs"], rates)
    return (
        f"Config `{source['config_id']}` of the sweep `{source['run']}`: {words}. "
        f"Segments {', '.join(facts['classes'])}."
    )


def _training(facts: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    data, source = facts["data"], facts["source"]
    lines = [
        f"- data: `{data['name']}`, {data['images']} images, {data['held_out']} of them held out "
        f"(fingerprint `{data['fingerprint'][:12]}`)",
        f"- {data['folds']} folds; {source['configs']} configs were tried in {source['cells']} "
        f"cells, and this one was {source['chosen']}",
        f"- searched: {short_params(params) or 'nothing'}; every setting is in `config.yaml`",
    ]
    lines += list(_sizes(facts))
    if facts["root"] and not Path(facts["root"]).is_absolute():
        lines.append(
            f"- paths in `config.yaml`, such as its `dataset.root`, `{facts['root']}`, begin in "
            "the directory that the sweep was launched in"
        )
    return "\n".join(lines)


def _sizes(facts: Mapping[str, Any]) -> Iterator[str]:
    """Precision, what it changes, the number of parameters and the time."""
    precision, masks, took = facts["precision"], facts["masks"], facts["runtime"]
    line = f"- trained in {precision}"
    if masks is not None:
        line += (
            f"; computed in fp32, {masks['differing']} of {masks['pixels']} pixels "
            f"({masks['share']:.2%}) of its masks of {masks['images']} validation images differ "
            "from the trial's own"
        )
    yield line
    line = f"- {facts['parameters']:,} parameters"
    if took is not None and took["ms"] is not None:
        each = " each member" if facts["source"]["kind"] == "ensemble" else ""
        threads = f", {counted(took['threads'], 'thread')}" if took["device"] == "cpu" else ""
        line += f";{each} {took['ms']:.3g} ms an image ({took['device']}{threads}, batch 1)"
    yield line


def _scores(metrics: Mapping[str, Any]) -> Sequence[str]:
    spread = f" ± {metrics['std']:.4f}" if metrics["std"] is not None else ""
    folds = metrics["folds"]
    if metrics["mean"] is None:
        each = ", ".join(f"fold {one['fold']}: {_number(one['value'])}" for one in folds)
        parts = [f"{metrics['undefined']}, so that there is no mean over the folds ({each})."]
    else:
        count = len({one["fold"] for one in folds})
        seeds = metrics["replicates"]
        each = f", the mean of {seeds} replicates on each" if seeds > 1 else ""
        parts = [
            f"`{metrics['metric']}` in the cross-validation: {metrics['mean']:.4f}{spread} "
            f"(mean and standard deviation over {counted(count, 'fold')}{each}, every trial at its "
            "best epoch)."
        ]
    for name, title in (
        ("out_of_fold", "Validation images, each scored by the fold model that has not seen it"),
        ("holdout", "Holdout, which nothing was trained or chosen on"),
    ):
        part = metrics.get(name)
        if part is not None:
            rows = [
                f"| {score} | {_number(v['value'])} | {_ends(v)} |"
                for score, v in part["scores"].items()
            ]
            note = f" {part['note']}" if part.get("note") else ""
            head = "| score | value | 95 % interval |\n|---|---|---|\n"
            parts += [f"{title} ({_of(part)}).{note}", head + "\n".join(rows)]
            parts += [" ".join(part["remarks"])] if part["remarks"] else []
    parts.append(f"Intervals: {metrics['interval']}.")
    if "holdout" not in metrics:
        parts.append(f"No holdout scores: {metrics['no_holdout']}.")
    return parts


def _of(part: Mapping[str, Any]) -> str:
    """What the scores of a split are of."""
    found = counted(part["images"], "image")
    if "groups" in part:
        found += f" in {counted(part['groups'], 'group')}"
    if part["replicates"] > 1:
        found += f", scores averaged over {part['replicates']} replicates"
    return f"{found}, computed in {part['precision']}"


def _ends(score: Mapping[str, Any]) -> str:
    if score["low"] is None:
        return "–"
    return f"{_number(score['low'])} – {_number(score['high'])}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _use(facts: Mapping[str, Any]) -> str:
    shape, onnx = facts["preprocessing"]["resize"], facts["onnx"]
    graph = onnx.get("reason", "")
    if onnx["written"]:
        free = "N, H and W are" if onnx["any_size"] else "N is"
        step = onnx["multiple_of"]
        free += f" free (H and W multiples of {step})" if step > 1 else " free"
        graph = (
            f"`model.onnx` (opset {onnx['opset']}): `image` (N, 3, H, W) → `logits` (N, C, H, W), "
            f"{free}; its logits differ from torch's by {onnx['difference']:.1e} at most, of "
            f"{onnx['largest']:.3g}"
        )
        if not onnx["any_size"]:
            graph += f". One size only: {onnx['why_one_size']}"
    temperature = facts["temperature"]
    binary = len(facts["classes"]) == 2
    how = "sigmoid(logits / T)" if binary else "softmax(logits / T)"
    mask = "logits > 0" if binary else "the class of the largest logit"
    return "\n".join(
        [
            f"- `{command('predict', 'DIR', 'IMAGES', '--out', 'OUT')}` does all of this",
            f"- images: RGB, resized to {shape['height']}×{shape['width']} (height × width), "
            "normalised; see `preprocessing.json`",
            f"- {graph}",
            f"- mask: {mask}; probabilities: {how}, T = {temperature['value']:.4g} "
            f"({temperature['source']})",
        ]
    )


def _beware(facts: Mapping[str, Any]) -> str:
    lines = [
        "- Scores hold for images like those it was trained on; elsewhere they are unknown.",
        "- The config was chosen by its validation scores, which are thereby a little optimistic.",
    ]
    if since := facts.get("defined_since"):
        lines.append(
            "- An earlier segsweep recorded the sweep's scores and defined them otherwise than the "
            f"others here. Since: {since}."
        )
    if facts["source"]["kind"] == "retrained":
        lines.append("- Validation scores are those of the fold models, not of this fit.")
    if facts["source"]["kind"] == "ensemble":
        lines.append("- Validation scores are those of its members, each alone.")
    if facts["precision"] != "fp32":
        lines.append(
            f"- Scores that were computed in {facts['precision']} are those of the trials; the "
            "exported model computes in fp32, and some of its masks' pixels differ."
        )
    found = facts["temperature"]
    if not found["fitted"]:
        lines.append("- Its probabilities are not calibrated.")
    if found["at_bound"]:
        lines.append(f"- {bound(found['value'])}.")
    return "\n".join(lines)
