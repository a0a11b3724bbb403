"""Colours of classes: the dataset's own, else distinct ones; and masks painted in them."""

from __future__ import annotations

import numpy as np
import pytest

from segsweep.data import palette
from segsweep.data.sources import IGNORE, SOURCES, build, resolve

HEX = {"sky": "#808080", "road": "#804080", "bicyclist": "#0080c0"}


def test_a_source_keeps_the_colours_of_its_authors() -> None:
    found = palette.of("camvid", {})
    assert list(found) == list(build("camvid", root=None, options={}).classes)
    assert {name: found[name] for name in HEX} == HEX
    assert palette.of("cityscapes", {"classes": "8cat"})["human"] == "#dc143c"


def test_what_is_left_out_changes_no_other_colour() -> None:
    found = palette.of("camvid", {})
    left = palette.of("camvid", {}, ["road"])
    assert left == {name: colour for name, colour in found.items() if name != "road"}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_a_colour_for_each_class(name: str) -> None:
    found = palette.of(name, resolve(name, {}))
    assert list(found) == list(build(name, root=None, options={}).classes)
    assert len(set(found.values())) == len(found)
    assert palette.of(name, {}) == found


def test_default_colours_are_those_of_pascal_voc() -> None:
    names = ["background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car"]
    assert palette.default(names) == (
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128),
        (0, 128, 128), (128, 128, 128),
    )  # fmt: skip
    assert palette.default(names[1:]) == palette.default(names)[1:]


def test_default_colours_differ_for_as_many_classes_as_there_may_be() -> None:
    many = palette.default([f"c{i}" for i in range(254)])
    assert len(set(many)) == 254
    assert (0, 0, 0) not in many


def test_painting_leaves_background_and_ignored_pixels_alone() -> None:
    image = np.full((1, 4, 3), 100, np.uint8)
    labels = np.array([[0, 1, 2, IGNORE]], np.uint8)
    colours = {"background": "#000000", "road": "#804080", "car": "#0000ff"}
    found = palette.paint(image, labels, colours)
    assert found[0].tolist() == [[100] * 3, [114, 82, 114], [50, 50, 178], [100] * 3]
    assert found.dtype == np.uint8
    assert (image == 100).all()


def test_a_panel_shows_image_truth_and_prediction() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (6, 5, 3), dtype=np.uint8)
    truth, guess = (rng.integers(0, 2, (6, 5), dtype=np.uint8) for _ in range(2))
    colours = {"background": "#000000", "lesion": "#ff0000"}
    found = palette.panel(image, truth, guess, colours)
    assert found.shape == (6, 15 + 2 * palette.GAP, 3)
    step = 5 + palette.GAP
    for place, part in enumerate((image, palette.paint(image, truth, colours),
                                  palette.paint(image, guess, colours))):  # fmt: skip
        np.testing.assert_array_equal(found[:, place * step : place * step + 5], part)
