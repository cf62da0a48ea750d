"""What the loop does after a validation for every objective (a plateau, early stopping), and options by group."""

import itertools

import pytest
import torch
from torch import nn

from aigc_text.errors import OptionError, TrainingError
from aigc_text.training import optimizers, trainer
from aigc_text.training.objective import Objective, Step
from tests.training.test_trainer import Net, Regression, data, options, run, weights


def figures(*losses):
    """An `evaluate` that gives one loss after the other."""
    left = iter(losses)
    return lambda model: {"loss": next(left)}


def test_a_plateau_halves_the_rate_after_its_patience_and_again(tmp_path):
    opts = options(schedule="plateau", plateau_patience=2, warmup_steps=0, max_steps=8, eval_every=1)
    reports = run(Net(), opts=opts, evaluate=figures(5, 4, 6, 6, 6, 6, 3, 7))
    rates = [r.logs["learning_rate"] / opts.learning_rate for r in reports]
    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert [r.step for r in reports if "times 0.5" in r.message] == [4, 6]


def test_a_plateau_goes_no_lower_than_min_rate():
    opts = options(schedule="plateau", plateau_patience=1, min_rate=0.3, warmup_steps=0, max_steps=6, eval_every=1)
    reports = run(Net(), opts=opts, evaluate=figures(1, 2, 3, 4, 5, 6))
    assert [r.logs["learning_rate"] / opts.learning_rate for r in reports] == pytest.approx([1, 1, 0.5, 0.3, 0.3, 0.3])


def test_a_resumed_run_remembers_how_long_it_waited(tmp_path):
    opts = options(schedule="plateau", plateau_patience=3, max_steps=6, eval_every=1, save_every=1)
    first = trainer.train(Net(), Regression(), data(), opts, evaluate=figures(1, 2, 2), checkpoints=tmp_path)
    list(itertools.islice(first, 3))
    first.close()
    rest = run(Net(), opts=opts, evaluate=figures(2, 2, 2), checkpoints=tmp_path, resume=True)
    assert [r.step for r in rest if "learning rate times" in r.message] == [4]


def test_early_stopping_ends_the_run_and_gives_the_best_weights_back(tmp_path):
    opts = options(early_stopping=2, max_steps=50, eval_every=1, save_every=50)
    model, seen = Net(), []
    for report in trainer.train(model, Regression(), data(), opts, evaluate=figures(3, 1, 2, 2), checkpoints=tmp_path):
        seen.append((report.step, weights(model), report.message))
    assert seen[3][2] == "stopped: eval_loss has not improved since step 2"
    assert seen[-1][2] == "the weights are those of step 2, the best"
    assert weights(model).equal(seen[1][1])
    again = run(other := Net(seed=9), opts=opts, evaluate=figures(), checkpoints=tmp_path, resume=True)
    assert weights(other).equal(seen[1][1]), "a finished run that is resumed delivers the same"
    assert "stopped" not in again[-1].message


@pytest.mark.parametrize("given", [{"early_stopping": 2}, {"schedule": "plateau"}, {"deliver": "best"}])
def test_patience_needs_a_validation(given):
    with pytest.raises(OptionError, match="needs a validation"):
        run(Net(), opts=options(**given))


class TwoParts(Objective):
    def groups(self, model):
        return {"first": list(model.layers[0].parameters()), "second": list(model.layers[3].parameters())}

    def steps(self, model, batch, step):
        yield Step("first", model(**batch))
        yield Step("second", model(**batch))


def test_a_group_has_its_own_optimizer_and_rate():
    opts = options(group=("second.optimizer=sgd", "second.learning_rate=0.5", "second.momentum=0.9"), warmup_steps=0)
    model = Net()
    built = TwoParts().optimizers(model, opts)
    assert isinstance(built["first"][0], torch.optim.AdamW)
    assert isinstance(built["second"][0], torch.optim.SGD)
    assert built["second"][0].param_groups[0]["momentum"] == 0.9
    report = run(model, TwoParts(), opts=opts)[0]
    assert (report.logs["first_learning_rate"], report.logs["second_learning_rate"]) == (1e-2, 0.5)


def test_a_group_is_clipped_by_its_own_norm():
    batches, start = data(), weights(Net())
    opts = options(
        optimizer="sgd", learning_rate=1.0, weight_decay=0.0, warmup_steps=0, max_steps=1, max_grad_norm=1e-3
    )
    opts = opts.parse({**{n: getattr(opts, n) for n in opts.fields()}, "group": ("second.max_grad_norm=1e-5",)})
    model = Net()
    run(model, TwoParts(), batches, opts)
    moved = (weights(model) - start).abs()
    first, second = moved[:24].norm().item(), moved[24:].norm().item()
    assert first == pytest.approx(1e-3, rel=1e-2)
    assert second == pytest.approx(1e-5, rel=1e-1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scond.optimizer=sgd", "no group 'scond'. Did you mean 'second'?"),
        ("second.learnin_rate=1", "'learnin_rate' is no option of a group. Did you mean 'learning_rate'?"),
        ("second=1", "not of the form NAME.OPTION=VALUE"),
        ("second.optimizer=adm", "optimizer cannot be 'adm'"),
    ],
)
def test_a_wrong_group_is_refused_with_what_is_allowed(text, message):
    with pytest.raises(OptionError) as refused:
        run(Net(), TwoParts(), opts=options(group=(text,)))
    assert message in refused.value.message


def test_asgd_is_looked_at_and_ends_with_the_mean_of_its_iterates():
    opts = options(optimizer="asgd", average_from=3, warmup_steps=0, max_steps=6, eval_every=1, weight_decay=0.0)
    model, looked, walked = Net(dropout=0.0), [], []
    for _ in trainer.train(
        model, Regression(), data(), opts, evaluate=lambda m: looked.append(weights(m)) or {"loss": 1.0}
    ):
        walked.append(weights(model))
    assert torch.allclose(looked[1], walked[1]), "until then the average is the iterate itself"
    assert torch.allclose(looked[2], torch.stack(walked[2:3]).mean(0), atol=1e-6)
    assert torch.allclose(looked[5], torch.stack(walked[2:]).mean(0), atol=1e-6)
    assert weights(model).equal(looked[5]), "delivered are the averages"


def test_embeddings_and_the_output_are_not_muons():
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "hidden": nn.Linear(4, 4)})
    adamw, muon = optimizers.build(model, list(model.parameters()), options(optimizer="muon"))
    assert [p is model["hidden"].weight for g in muon.param_groups for p in g["params"]] == [True]
    assert sum(len(g["params"]) for g in adamw.param_groups) == 2


def test_a_start_that_is_never_beaten_is_what_early_stopping_gives_back(tmp_path):
    opts = options(early_stopping=2, eval_on_start=True, max_steps=9, eval_every=1)
    model = Net()
    start = weights(model)
    reports = run(model, opts=opts, evaluate=figures(1, 2, 3), checkpoints=tmp_path)
    assert [r.step for r in reports] == [0, 1, 2, 2]
    assert reports[0].logs == {"eval_loss": 1}
    assert weights(model).equal(start)


def test_a_lack_of_memory_says_what_to_lower():
    class Greedy(Regression):
        def divisible(self, batch):
            return False

        def steps(self, model, batch, step):
            torch.empty(10**15)
            yield Step("model", model(**batch))

    with pytest.raises(TrainingError) as refused:
        run(Net(), Greedy(), opts=options(gradient_accumulation_steps=3))
    assert refused.value.message == "out of memory with batch_size=4 and block_size=its default"
    assert "--gradient-accumulation-steps 6" in refused.value.cure
