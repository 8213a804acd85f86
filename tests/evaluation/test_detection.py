"""Detection against picai_eval's own way from files to numbers, and against cases worked out by hand."""

import math
import pickle
import sys

import numpy as np
import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.detection import (
    DetectedCase,
    detect_case,
    pool_cases,
    probability_channel,
    read_probabilities,
)

SHAPE = (12, 40, 40)


@pytest.fixture
def picai_eval():
    return pytest.importorskip("picai_eval", reason="picai_eval is not installed: pip install picai_eval")


def _blob(*corner, side=4):
    return tuple(slice(start, start + side) for start in corner)


def _case(lesions=(), candidates=()):
    """Probabilities and reference from corners of lesions, and from pairs of a corner and a confidence."""
    probability, reference = np.full(SHAPE, 1e-3, np.float32), np.zeros(SHAPE, bool)
    for corner in lesions:
        reference[_blob(*corner)] = True
    for corner, confidence in candidates:
        probability[_blob(*corner)] = confidence
    return probability, reference


HERE, THERE, ELSEWHERE = (2, 3, 3), (2, 20, 20), (6, 30, 5)


def test_a_hit_a_miss_and_a_false_alarm(picai_eval):
    found = detect_case(*_case(lesions=[HERE, THERE], candidates=[(HERE, 0.75), (ELSEWHERE, 0.5)]))
    assert sorted(found.lesions) == [(0, 0.5, 0.0), (1, 0.0, 0.0), (1, 0.75, pytest.approx(1))]
    assert (found.confidence, found.positive) == (0.75, True)
    assert pickle.loads(pickle.dumps(found)) == found


def test_nothing_there_and_nothing_found(picai_eval):
    assert detect_case(*_case()) == DetectedCase((), 0.0, False)
    assert detect_case(*_case(lesions=[HERE])) == DetectedCase(((1, 0.0, 0.0),), 0.0, True)
    alarm = detect_case(*_case(candidates=[(HERE, 0.5)]))
    assert alarm == DetectedCase(((0, 0.5, 0.0),), 0.5, False)


def test_a_speck_does_not_hide_the_lesion_behind_it(picai_eval):
    probability, reference = _case(lesions=[HERE], candidates=[(HERE, 0.25)])
    probability[10, 38, 38] = 0.9  # too small to be a lesion, and so certain that the threshold leaves nothing else
    assert [(hit, score) for hit, score, _ in detect_case(probability, reference).lesions] == [(1, 0.25)]


def test_faint_candidates_far_from_the_lesion_count(picai_eval):
    probability, reference = _case(lesions=[HERE], candidates=[(HERE, 0.75), (ELSEWHERE, 0.015625)])
    assert sorted(score for _, score, _ in detect_case(probability, reference).lesions) == [0.015625, 0.75]


@pytest.mark.parametrize("seed", range(3))
def test_cropping_changes_nothing_for_picai_eval(picai_eval, seed):
    from picai_eval.eval import evaluate_case
    from report_guided_annotation import extract_lesion_candidates
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    field, noise = (gaussian_filter(rng.standard_normal(SHAPE), 2) for _ in range(2))
    probability = (1 / (1 + np.exp(-40 * (field + 0.5 * noise - 0.18)))).astype(np.float32)
    reference = field > 0.17
    probability[:, :8], reference[:, :8] = 0, False
    candidates = extract_lesion_candidates(probability, threshold="dynamic-v2")[0]
    expected, confidence, _, _ = evaluate_case(candidates, reference.astype(int), min_overlap=0.1)
    found = detect_case(probability, reference)
    assert len(found.lesions) > 2
    assert sorted(found.lesions) == sorted(expected)
    assert found.confidence == confidence


def test_pooled_as_picai_eval_pools(picai_eval):
    inputs = [
        _case([HERE, THERE], [(HERE, 0.8), (ELSEWHERE, 0.7)]),
        _case([THERE], [(THERE, 0.6), (HERE, 0.65)]),
        _case([], [(HERE, 0.4), (THERE, 0.3)]),
        _case(),
    ]
    found = pool_cases(detect_case(*case) for case in inputs)
    expected = picai_eval.evaluate(
        y_det=[np.where(probability > 0.01, probability, 0) for probability, _ in inputs],
        y_true=[reference.astype(int) for _, reference in inputs],
        num_parallel_calls=1,
    )
    assert found.AP == pytest.approx(expected.AP)
    assert found.AUROC == pytest.approx(expected.auroc)
    for limit, sensitivity in found.sensitivity.items():
        assert sensitivity == pytest.approx(expected.lesion_TPR_at_FPR(limit))
    assert (found.cases, found.positive_cases, found.lesions, found.candidates) == (4, 2, 3, 6)


def test_froc_by_hand(picai_eval):
    # four cases, three lesions; by falling confidence: hit, alarm, hit, alarm; one lesion is missed
    cases = [
        DetectedCase(((1, 0.9, 0.5), (0, 0.8, 0.0)), 0.9, True),
        DetectedCase(((1, 0.7, 0.5), (1, 0.0, 0.0)), 0.7, True),
        DetectedCase(((0, 0.6, 0.0),), 0.6, False),
        DetectedCase((), 0.0, False),
    ]
    found = pool_cases(cases, [0.1, 0.25, 0.5, 8])
    np.testing.assert_allclose(found.froc, [[0, 0], [0, 1 / 3], [0.25, 1 / 3], [0.25, 2 / 3], [0.5, 2 / 3]])
    assert found.sensitivity == pytest.approx({0.1: 1 / 3, 0.25: 2 / 3, 0.5: 2 / 3, 8: 2 / 3})
    assert found.AP == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert found.AUROC == 1
    assert found.numbers()["sensitivity_at_0.25_FP"] == pytest.approx(2 / 3)


def test_a_perfect_detector_has_a_sensitivity_of_one(picai_eval):
    # no lesion is missed, so no threshold of 0 ends picai_eval's curve, which then loses its last candidates
    for scores in ([0.9], [0.5, 0.5], [0.9, 0.8, 0.7]):
        found = pool_cases([DetectedCase(((1, score, 1.0),), score, True) for score in scores])
        assert found.AP == 1
        assert set(found.sensitivity.values()) == {1.0}
        assert found.froc[-1].tolist() == [0, 1]
        assert math.isnan(found.AUROC)


@pytest.mark.filterwarnings("error")  # scikit-learn's, on what is undefined
def test_undefined_numbers(picai_eval):
    healthy = [DetectedCase((), 0.0, False), DetectedCase(((0, 0.5, 0.0),), 0.5, False)]
    found = pool_cases(healthy)
    assert math.isnan(found.AP) and math.isnan(found.AUROC) and all(map(math.isnan, found.sensitivity.values()))
    missed = pool_cases([DetectedCase(((1, 0.0, 0.0),), 0.0, True), DetectedCase((), 0.0, False)])
    assert (missed.AP, missed.AUROC, missed.sensitivity[8.0], missed.candidates) == (0, 0.5, 0, 0)
    with pytest.raises(XModalError, match="no case"):
        pool_cases([])


def test_shapes_must_agree(picai_eval):
    with pytest.raises(XModalError, match=r"\(3, 4, 5\), the reference \(3, 4, 6\)"):
        detect_case(np.zeros((3, 4, 5)), np.zeros((3, 4, 6), bool))


def test_nothing_is_printed(picai_eval, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] in ("picai_eval", "report_guided_annotation")]:
        del sys.modules[name]
    detect_case(*_case())
    assert capsys.readouterr().out == ""


def test_without_picai_eval(monkeypatch):
    monkeypatch.setitem(sys.modules, "picai_eval", None)
    monkeypatch.setitem(sys.modules, "picai_eval.eval", None)
    with pytest.raises(XModalError, match=r'pip install "nnunet-xmodal\[detection\]"'):
        detect_case(*_case())


def test_reads_what_nnunet_writes(tmp_path):
    file = tmp_path / "case.npz"
    np.savez_compressed(file, probabilities=np.ones((2, 3, 4, 5), np.float32))
    assert read_probabilities(file).shape == (2, 3, 4, 5)
    np.savez_compressed(file, softmax=np.ones(3))
    with pytest.raises(XModalError, match="case.npz holds no probabilities.*--npz"):
        read_probabilities(file)
    file.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(XModalError, match="case.npz"):
        read_probabilities(file)
    for wrong in (np.full((2, 3, 4, 5), np.nan, np.float32), np.array("text"), np.array([None])):
        np.savez_compressed(file, probabilities=wrong)
        with pytest.raises(XModalError, match="case.npz holds no probabilities"):
            read_probabilities(file)
    with pytest.raises(XModalError, match="nowhere.npz"):
        read_probabilities(tmp_path / "nowhere.npz")


def test_channels_of_labels_and_regions(make_dataset_json):
    labels, regions = make_dataset_json("labels+ignore"), make_dataset_json("regions+ignore")
    assert [probability_channel(labels, name) for name in ("edema", "tumour")] == [1, 2]
    assert [probability_channel(regions, name) for name in ("whole", "tumour")] == [0, 1]
