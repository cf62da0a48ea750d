"""What is done differently on a GPU, as far as it can be tried without one."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from aigc_text import TrainingOptions, api
from aigc_text.generation.engines.kv_cache import Direct
from aigc_text.hub import loading
from aigc_text.models import transformer
from aigc_text.models.rnn import model as rnn_model
from aigc_text.training import step


@pytest.fixture
def on_gpu(monkeypatch):
    """Tensors without data that say they are on a GPU, under autocast."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    with FakeTensorMode():
        yield lambda *size: torch.empty(*size, device="cuda:0", dtype=torch.bfloat16)


def test_recurrent_kernels_are_called_in_fp32_under_autocast_on_a_gpu(on_gpu):
    with rnn_model.full_precision(on_gpu(2, 3), on_gpu(1)) as found:
        assert [x.dtype for x in found] == [torch.float32] * 2 and found[0].is_cuda
    here = torch.empty(2, dtype=torch.bfloat16)
    with rnn_model.full_precision(here) as found:
        assert found[0] is here


def test_the_positions_of_a_transformer_are_not_read_back_from_a_device():
    places = torch.arange(3, 5, device="meta")  # a value that is looked at raises
    with pytest.raises(RuntimeError):
        int(places[0])
    assert transformer.visible(None, places, 3).shape == (1, 1, 2, 5)
    assert transformer.visible(None, places, 0) is None


def test_a_mask_without_padding_is_not_given_to_the_model():
    seen = []

    class Model(torch.nn.Module):
        config = type("Config", (), {"get_text_config": lambda self, decoder: object()})()

        def forward(self, input_ids, attention_mask=None, position_ids=None, cache=None, **_):
            seen.append((attention_mask, position_ids))
            shape = (*input_ids.shape, 5)
            return type("Out", (dict,), {"logits": torch.zeros(shape)})(cache=None, past_key_values=None)

    ids = torch.ones(2, 3, dtype=torch.long)
    padded = torch.tensor([[0, 1, 1], [1, 1, 1]])
    for mask in (torch.ones_like(ids), padded):
        one = Direct(Model(), ids, {"attention_mask": mask}, 4)
        one.scores(ids)
    assert seen[0] == (None, None)
    assert seen[1][0].equal(padded) and seen[1][1].tolist() == [[0, 0, 1], [0, 1, 2]]


@pytest.mark.parametrize(
    ("device", "adapter", "expected"), [("cuda", False, "fp32"), ("cuda", True, None), ("cpu", False, None)]
)
def test_what_is_trained_is_not_rounded_to_bf16_on_a_gpu(device, adapter, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "choose_device", lambda wanted: device)
    monkeypatch.setattr(api, "load", lambda *names, **kwargs: asked.append(kwargs))
    api.load_to_train("gpt2", adapter=adapter, config=None)
    assert asked[0].get("dtype") == expected


def test_a_step_seeds_the_generators_of_the_gpu(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with torch.random.fork_rng(devices=[]):
        step.seed(TrainingOptions(seed=3), 5, 0, torch.device("cuda"))
        assert seeded == [torch.initial_seed()]
        step.seed(TrainingOptions(seed=3), 5, 0, torch.device("cpu"))
        assert seeded == [torch.initial_seed()]
