"""Augmentation: reproducible by position, and masks stay masks."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from segsweep.data.augment import PRESETS, Augmenter
from segsweep.data.sources import IGNORE
from segsweep.errors import UnknownName
from tests.data.builders import disc, picture

SIZE = (48, 64)
CHANGING = [name for name in PRESETS if name != "none"]
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _pair(index: int) -> Pair:
    return picture(index, SIZE), disc(index, SIZE)


def _run(augmenter: Augmenter, position: tuple[int, int]) -> Pair:
    return augmenter(*_pair(position[1]), epoch=position[0], index=position[1])


def _same(one: Pair, other: Pair) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("preset", CHANGING)
def test_the_result_depends_on_seed_epoch_and_index_alone(preset: str) -> None:
    positions = [(epoch, index) for epoch in range(3) for index in range(8)]
    first = Augmenter(preset, SIZE, 5)
    expected = {position: _run(first, position) for position in positions}
    shuffled = random.Random(0).sample(positions * 4, len(positions) * 4)  # noqa: S311
    shared = Augmenter(preset, SIZE, 5)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda position: _run(shared, position), shuffled))
    for position, pair in zip(shuffled, found, strict=True):
        assert _same(pair, expected[position])


@pytest.mark.parametrize("preset", CHANGING)
@pytest.mark.parametrize("other", [(6, 0), (5, 1)])
def test_another_seed_or_epoch_gives_another_result(preset: str, other: tuple[int, int]) -> None:
    seed, epoch = other
    results = [
        [_run(Augmenter(preset, SIZE, s), (e, index)) for index in range(8)]
        for s, e in ((5, 0), (seed, epoch))
    ]
    assert not all(_same(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize("preset", CHANGING)
def test_images_change_and_masks_stay_labels(preset: str) -> None:
    augmenter = Augmenter(preset, SIZE, 0)
    changed = ignored = 0
    for index in range(24):
        image, mask = _run(augmenter, (0, index))
        assert image.dtype == mask.dtype == np.uint8
        assert (image.shape, mask.shape) == ((*SIZE, 3), SIZE)
        assert image.flags.c_contiguous
        assert mask.flags.c_contiguous
        assert set(np.unique(mask)) <= {0, 1, IGNORE}
        changed += not np.array_equal(image, picture(index, SIZE))
        ignored += bool((mask == IGNORE).any())
        if preset == "medium":  # pixels from outside are black, and no others are ignored
            outside = image[mask == IGNORE]
            assert outside.size == 0 or outside.mean() < 50 < image[mask != IGNORE].mean()
    assert changed >= 12
    assert (ignored > 0) == (preset != "light")


@pytest.mark.parametrize("preset", CHANGING)
def test_image_and_mask_move_together(preset: str) -> None:
    augmenter = Augmenter(preset, SIZE, 0)
    for index in range(24):
        mask = disc(index, SIZE)
        mask[:8, :8] = 1  # no symmetry left
        image, moved = augmenter(np.dstack([mask * 200] * 3), mask, epoch=0, index=index)
        lesion, skin = image[moved == 1], image[moved == 0]
        assert np.median(lesion) > np.median(skin) + 60
        assert ((image[..., 0] > 90) == (moved == 1))[moved != IGNORE].mean() > 0.75


def test_arguments_are_left_alone_and_may_be_read_only() -> None:
    image, mask = _pair(0)
    image.setflags(write=False)
    mask.setflags(write=False)
    for preset in PRESETS:
        for epoch in range(20):
            Augmenter(preset, SIZE, 0)(image, mask, epoch=epoch, index=0)
    np.testing.assert_array_equal(image, picture(0, SIZE))


def test_none_is_the_identity() -> None:
    image, mask = _pair(0)
    result = Augmenter("none", SIZE, 0)(image, mask, epoch=3, index=4)
    assert result[0] is image
    assert result[1] is mask


def test_it_survives_pickling() -> None:
    augmenter = Augmenter("strong", SIZE, 1)
    expected = _run(augmenter, (0, 0))
    assert _same(_run(pickle.loads(pickle.dumps(augmenter)), (0, 0)), expected)  # noqa: S301


def test_unknown_preset() -> None:
    with pytest.raises(UnknownName, match="did you mean 'medium'"):
        Augmenter("medum", SIZE, 0)


def test_no_look_for_newer_versions_and_no_trace_in_the_environment() -> None:
    code = (
        "import os, urllib.request as u\n"
        "def refuse(*a, **k): raise SystemExit('asked the network')\n"
        "u.OpenerDirector.open = refuse\n"
        "from segsweep.data.augment import Augmenter\n"
        "import numpy as np\n"
        "z = np.zeros((32, 32), np.uint8)\n"
        "Augmenter('light', (32, 32), 0)(np.dstack([z] * 3), z, epoch=0, index=0)\n"
        "assert 'NO_ALBUMENTATIONS_UPDATE' not in os.environ\n"
    )
    clean = {key: value for key, value in os.environ.items() if "ALBUMENTATIONS" not in key}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
