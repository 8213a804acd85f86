"""Logs as nnU-Net writes them, restarts, cut lines and foreign bytes included."""

from math import isnan

import pytest

from nnunet_xmodal.files.training_log import log_files, parse_training_log, read_training_log

HEAD = """
#######################################################################
Please cite the following paper when using nnU-Net:
#######################################################################

2025-09-30 08:05:00.100000: Using splits from existing split file: /data/splits_final.json
"""


def epoch(number: int, seconds: float, dice: str = "[np.float32(0.5), np.float32(nan)]", begins: str = "08:05") -> str:
    stamp = f"2025-09-30 {begins}:00.000000:"
    lines = ("", f"Epoch {number}", "Current learning rate: 0.01", "train_loss -0.25", "val_loss 1.5e-05",
             f"Pseudo dice {dice}", f"Epoch time: {seconds} s", "Yayy! New best EMA pseudo Dice: 0.0506")  # fmt: skip
    return "".join(f"{stamp} {line} \n" for line in lines)


def validation(*cases: str, complete: bool = True) -> str:
    lines = [f"2025-09-30 09:00:{5 * i:02d}.000000: predicting {case} \n" for i, case in enumerate(cases)]
    lines += [f"2025-09-30 09:01:00.000000: {case}, shape torch.Size([2, 8, 8]), rank 0 \n" for case in cases]
    if complete:
        lines += ["2025-09-30 09:00:30.000000: Validation complete \n"]
        lines += ["2025-09-30 09:00:30.100000: Mean Validation Dice:  0.7 \n"]
    return "".join(lines)


def parse(text: str):
    return parse_training_log(text.splitlines(keepends=True))


def test_epochs():
    log = parse(HEAD + epoch(0, 30.0) + epoch(1, 20.0) + epoch(2, 22.0))
    assert [e.number for e in log.epochs] == [0, 1, 2] and log.epochs == log.completed
    first = log.epochs[0]
    assert (first.train_loss, first.val_loss, first.seconds) == (-0.25, 1.5e-05, 30.0)
    assert first.pseudo_dice[0] == 0.5 and isnan(first.pseudo_dice[1])
    assert log.seconds_per_epoch == 22.0  # the first warms up


@pytest.mark.parametrize(
    "text, values",
    [
        ("[np.float32(0.1), np.float32(0.0208)]", (0.1, 0.0208)),
        ("[0.1, 0.0208]", (0.1, 0.0208)),
        ("[np.float64(1.0)]", (1.0,)),
        ("[np.float32(1e-04)]", (1e-4,)),
        ("[]", ()),
    ],
)
def test_pseudo_dice_of_every_numpy(text, values):
    assert parse(epoch(0, 1.0, text)).epochs[0].pseudo_dice == values


def test_losses_that_are_no_numbers():
    stamp = "2025-01-01 00:00:00: "
    log = parse(f"{stamp}Epoch 0\n{stamp}train_loss nan\n{stamp}val_loss -inf\n")
    assert isnan(log.epochs[0].train_loss) and log.epochs[0].val_loss == float("-inf")
    assert not log.completed and log.seconds_per_epoch is None


def test_a_restart_replaces_the_epochs_that_it_repeats():
    text = epoch(0, 1.0) + epoch(1, 2.0) + epoch(2, 3.0)[:80] + epoch(1, 4.0) + epoch(2, 5.0)
    assert [(e.number, e.seconds) for e in parse(text).epochs] == [(0, 1.0), (1, 4.0), (2, 5.0)]


def test_validation():
    log = parse(epoch(0, 1.0) + validation("a", "case with blanks"))
    assert list(log.predicted) == ["a", "case with blanks"]
    assert log.seconds_per_case == 15.0  # 30 s for two


def test_a_validation_that_was_cut_off_has_no_time_per_case():
    log = parse(validation("a", "b", complete=False))
    assert list(log.predicted) == ["a", "b"] and log.validated is None and log.seconds_per_case is None


def test_only_the_last_validation_counts():
    assert list(parse(validation("a", "b") + validation("b")).predicted) == ["b"]
    assert list(parse(validation("a", "b", complete=False) + validation("a")).predicted) == ["a"]
    assert not parse(epoch(0, 1.0) + validation("a") + epoch(1, 1.0)).predicted


def test_nothing_yet(tmp_path):
    log = read_training_log(tmp_path / "absent")
    assert not log.epochs and not log.predicted and log.seconds_per_epoch is None


def test_logs_follow_each_other_in_time_though_months_have_no_leading_zero(tmp_path):
    names = [f"training_log_2025_{day}_08_05_00.txt" for day in ("9_9", "9_30", "10_2", "10_12")]
    for number, name in enumerate(names):
        (tmp_path / name).write_text(HEAD + epoch(number, 1.0))
    assert [file.name for file in log_files(tmp_path)] == names
    assert [e.number for e in read_training_log(tmp_path).epochs] == [0, 1, 2, 3]


def test_foreign_bytes_and_half_lines_are_passed_over(tmp_path):
    content = epoch(0, 1.0).encode() + b"2025-09-30 08:05:00.000000: predicting \xff\xfe\n\x00\r2025-09-30 08:06"
    (tmp_path / "training_log_2025_9_30_08_05_00.txt").write_bytes(content)
    log = read_training_log(tmp_path)
    assert len(log.completed) == 1 and len(log.predicted) == 1


def test_times_that_no_calendar_has_are_passed_over():
    assert not parse("2025-99-99 99:99:99: Epoch 0\n").epochs
