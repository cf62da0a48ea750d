"""What several processes keep: a state of each one's own, and one verdict for all; see test_distributed.

The driver's children import this file.
"""

import itertools
from pathlib import Path

import pytest
import torch

from aigc_text.errors import TrainingError
from aigc_text.training import trainer
from aigc_text.training.objective import Verdict
from tests.training.test_distributed import Mean, close, curves_match, points
from tests.training.test_trainer import Carried, Net, Recurrent, options, weights


class CarriedApart(Carried):
    per_process = True

    def __init__(self):
        self.state = torch.zeros(2, 4)


def recurrent(rank, folder, stop, resume):
    objective = CarriedApart()
    run = trainer.train(
        Recurrent(), objective, points([4]), options(save_every=1), checkpoints=Path(folder), resume=resume
    )
    reports = list(itertools.islice(run, stop))
    run.close()
    return [[dict(r.logs) for r in reports if r.logs], objective.state.tolist()]


def test_each_process_gets_its_own_state_back(team, tmp_path):
    whole = team.call(2, recurrent, str(tmp_path / "a"), 99, False)
    assert whole[0][1] != whole[1][1]
    first = team.call(2, recurrent, str(tmp_path / "b"), 3, False)
    rest = team.call(2, recurrent, str(tmp_path / "b"), 99, True)
    for a, b, c in zip(first, rest, whole, strict=True):
        assert a[0] + b[0] == c[0] and b[1] == c[1]
    with pytest.raises(TrainingError, match="state of its own in each process, and 2 saved one, not 1"):
        recurrent(0, str(tmp_path / "b"), 99, True)


def test_a_recurrent_model_reads_on_in_rows_of_several_processes(team, data, tmp_path):
    words = ["train", "--backend", "rnn", "--from-scratch", "-o", "hidden_size=16", "-o", "embedding_size=8"]
    words += ["--data", data, "--batch-size", 5, "--block-size", 12, "--vocab-size", 300, "--precision", "fp32"]
    words += ["--max-steps", 6, "--eval-every", 3, "--learning-rate", 0.01]
    for world in (1, 2):
        done = team.command(world, *words, "--output", tmp_path / str(world))
        assert done["codes"] == [0] * world, done["err"]
    curves_match(tmp_path / "1", tmp_path / "2", 6)
    saved = torch.load(tmp_path / "2" / "checkpoints" / "step-6" / "objective.pt", weights_only=True)
    assert [state["layers"][0][0].shape[1] for state in saved] == [3, 2]


class Scripted(Mean):
    """Starts anew after the first validation, goes back to the best after the second, and stops after the fourth."""

    def __init__(self):
        self.verdicts = [Verdict(reset=("model",)), Verdict(roll_back=True), Verdict(), Verdict(stop="enough")]

    def after_eval(self, logs):
        return self.verdicts.pop(0)

    def reset(self, model, group):
        for layer in model.layers:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()


def verdicts(rank, folder):
    """`evaluate` differs by process, so only one that all listen to keeps them together."""
    figures = iter([[1, 2, 3, 4], [4, 3, 2, 1]][rank])
    model = Net(dropout=0.0)
    opts = options(eval_every=1, save_every=1)
    run = trainer.train(
        model, Scripted(), points([4]), opts, evaluate=lambda m: {"loss": next(figures)}, checkpoints=Path(folder)
    )
    reports = [[r.step, dict(r.logs), r.message] for r in run]
    return [reports, weights(model).tolist()]


def test_all_processes_follow_the_same_verdict_to_the_same_weights(team, tmp_path):
    one, two = verdicts(0, str(tmp_path / "one")), team.call(2, verdicts, str(tmp_path / "two"))
    assert two[0] == two[1]
    assert [message for _, _, message in one[0]] == ["model reset", "rolled back to step 1", "", "stopped: enough"]
    assert [message for _, _, message in two[0][0]] == [message for _, _, message in one[0]]
    close(one[0], two[0][0])
    assert one[1] == pytest.approx(two[0][1], abs=1e-4)
