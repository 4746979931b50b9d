import errno
import os
import signal

import pytest
from lightning.pytorch import Callback

from matcher.errors import MatcherError
from matcher.training.slices import Slices

pytestmark = pytest.mark.filterwarnings("ignore")


class Signal(Callback):
    """Sends this process a signal at a step."""

    def __init__(self, number, step):
        self.number, self.step = number, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_after_its_step(make_module, make_data, make_trainer, tmp_path, number):
    slices = Slices(tmp_path)
    trainer = make_trainer(9, Signal(number, 1), slices)
    trainer.fit(make_module(), datamodule=make_data())
    assert trainer.global_step == 2 and slices.interrupted and (tmp_path / "last.ckpt").is_file()
    assert getattr(signal.getsignal(number), "__self__", None) is not slices


def test_it_saves_without_the_temporary_folder_and_keeps_the_last_one_where_the_disk_is_full(
    make_module, make_data, make_trainer, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.mkstemp", lambda *_, **__: pytest.fail("that may be another disk"))
    make_trainer(1, Slices(tmp_path)).fit(make_module(), datamodule=make_data())
    before = (tmp_path / "last.ckpt").read_bytes()

    def half(content, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.save", half)
    with pytest.raises(MatcherError, match=r"cannot write .*last\.ckpt: No space left on device"):
        make_trainer(1, Slices(tmp_path)).fit(make_module(), datamodule=make_data())
    assert (tmp_path / "last.ckpt").read_bytes() == before and [path.name for path in tmp_path.glob("*ckpt*")] == ["last.ckpt"]


def test_a_second_signal_ends_it_at_once():
    slices = Slices("nowhere")
    slices.interrupt(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        slices.interrupt(signal.SIGINT, None)


def test_time_ends_a_slice(make_module, make_data, make_trainer, tmp_path, caplog):
    trainer = make_trainer(9, Slices(tmp_path, minutes=0.0))
    with caplog.at_level("INFO", logger="matcher"):
        trainer.fit(make_module(), datamodule=make_data())
    assert trainer.global_step == 1 and "stopped after step 1 of 9; the same command goes on from there" in caplog.text


def test_it_saves_every_few_minutes_and_at_the_end(make_module, make_data, make_trainer, tmp_path, monkeypatch):
    saved = []
    trainer = make_trainer(3, Slices(tmp_path, every_minutes=0.0))
    monkeypatch.setattr(trainer, "save_checkpoint", lambda path: saved.append(trainer.global_step))
    trainer.fit(make_module(), datamodule=make_data())
    assert saved == [1, 2, 3]
    trainer = make_trainer(3, Slices(tmp_path))
    monkeypatch.setattr(trainer, "save_checkpoint", lambda path: saved.append(-trainer.global_step))
    trainer.fit(make_module(), datamodule=make_data())
    assert saved == [1, 2, 3, -3]
