from types import SimpleNamespace

import pytest
import torch
from torch import nn

from matcher.training import pace


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now.seconds)
    return now


def test_views_a_second_leave_validation_out(clock):
    found, logged = pace.Pace(every=2), []
    trainer = SimpleNamespace(global_step=0, max_steps=9, callback_metrics={})
    module, batch = SimpleNamespace(log_dict=logged.append), SimpleNamespace(source=range(5), views=2)
    for seconds, validates in ((1, False), (2, True), (50, False), (2, False)):
        clock.seconds += seconds
        found.on_train_batch_end(trainer, module, None, batch, 0)
        if validates:
            found.on_validation_start(trainer, module)
    assert logged == [{"views_per_second": pytest.approx(20 / 4)}] and found.reached == logged[0]


def test_share_of_the_peak(clock):
    found = pace.Pace(every=1)
    found.peak, found.flops_a_view, found.views, found.seconds, found.steps = 6000.0, 10.0, 100, 2.0, 1
    logged = []
    found.report(SimpleNamespace(global_step=1, max_steps=2, callback_metrics={}), SimpleNamespace(log_dict=logged.append))
    assert logged[0]["share_of_peak"] == pytest.approx(3 * 10 * 50 / 6000)


def test_operations_of_a_convolution_are_counted():
    class Module(nn.Module):
        size, device = 8, torch.device("cpu")

        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3, padding=1, bias=False)

        def forward(self, pictures):
            return self.layer(pictures)

    assert pace.count_flops(Module()) == 2 * 8 * 8 * 4 * 3 * 9


def test_precision_says_what_is_computed_in():
    assert [pace.computed_in(name) for name in ("bf16-mixed", "16-mixed", "32-true")] == [torch.bfloat16, torch.float16, torch.float32]
