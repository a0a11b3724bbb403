"""Generated lesions: the same for a seed and an index, whatever is asked for besides."""

from __future__ import annotations

import numpy as np

from segsweep.data.sources import build


def test_an_image_does_not_depend_on_how_many_there_are() -> None:
    few = build("synthetic_lesions", root=None, options={"images": 6})
    many = build("synthetic_lesions", root=None, options={"images": 40})
    assert few.samples() == many.samples()[:6]
    one, other = few.samples()[5], many.samples()[5]
    np.testing.assert_array_equal(few.read(one)[0], many.read(other)[0])


def test_another_seed_gives_other_images() -> None:
    sources = [build("synthetic_lesions", root=None, options={"seed": s}) for s in (0, 1)]
    first, second = (source.read(source.samples()[0])[0] for source in sources)
    assert (first != second).mean() > 0.5
    assert len({source.digest(source.samples()[0]) for source in sources}) == 2


def test_patients_and_diagnoses() -> None:
    samples = build("synthetic_lesions", root=None, options={"images": 100}).samples()
    diagnoses = [sample.attributes["diagnosis"] for sample in samples]
    assert [diagnoses.count(d) for d in ("common", "atypical", "melanoma")] == [40, 40, 20]
    patients = [sample.attributes["patient"] for sample in samples]
    assert {patients.count(patient) for patient in set(patients)} == {1, 2, 3}
