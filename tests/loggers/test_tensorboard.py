from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from rl_platform.loggers import tensorboard
from rl_platform.run_dir import RunDir
from tests.loggers.conftest import Make

RESUME = {"loggers": {}, "env_steps": 200}


def read(run: RunDir) -> EventAccumulator:
    events = EventAccumulator(str(run.path), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return events.Reload()


def points(run: RunDir, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in read(run).Scalars(tag)]


@pytest.mark.parametrize("data", [b"", b"1", b"123456789", bytes(range(256)) * 5])
def test_record_checksums_are_tensorboards(data: bytes) -> None:
    record = tensorboard.frame(data)
    length = struct.pack("<Q", len(data))
    assert record == b"".join(
        (length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data)))
    )


def test_points_are_there_at_once_against_environment_steps(make: Make, run: RunDir) -> None:
    group = make(tensorboard={})
    group.log({"Train/mean_reward": 0.5, "Episode_Reward/lifting": 0.25}, 100)
    group.log({"Train/mean_reward": 0.75}, 200)
    assert points(run, "Train/mean_reward") == [(100, 0.5), (200, 0.75)]
    assert points(run, "Episode_Reward/lifting") == [(100, 0.25)]


def test_more_points_than_the_default_limit_of_readers(make: Make, run: RunDir) -> None:
    group = make(tensorboard={})
    for step in range(12_000):
        group.log({"a": step}, step)
    assert [step for step, _ in points(run, "a")] == list(range(12_000))


def test_after_a_resume_each_step_is_there_once(make: Make, run: RunDir) -> None:
    group = make(tensorboard={})
    for step in (100, 200, 300, 400):
        group.log({"a": 1.0}, step)
    group = make(RESUME, tensorboard={})
    for step in (300, 400, 500):
        group.log({"a": 2.0}, step)
    assert points(run, "a") == [(100, 1), (200, 1), (300, 2), (400, 2), (500, 2)]


def test_a_run_that_starts_anew_forgets_everything(make: Make, run: RunDir) -> None:
    make(tensorboard={}).log({"a": 1.0}, 100)
    make(tensorboard={}).log({"a": 2.0}, 50)
    assert points(run, "a") == [(50, 2.0)]


def test_half_a_record_of_a_killed_run_does_no_harm(make: Make, run: RunDir) -> None:
    group = make(tensorboard={})
    for step in (100, 200, 300):
        group.log({"a": 1.0}, step)
    (file,) = run.path.glob("events.out.tfevents.*")
    os.truncate(file, file.stat().st_size - 5)
    make(RESUME, tensorboard={}).log({"a": 2.0}, 300)
    assert points(run, "a") == [(100, 1), (200, 1), (300, 2)]


def test_pictures_videos_and_the_result(make: Make, run: RunDir, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    png = tmp_path / "curve.png"
    Figure(figsize=(3, 2), dpi=100).savefig(png)
    group = make(tensorboard={})
    group.log_image("learning_curve", png, 300)
    group.log_video("policy", run.videos / "policy_9.mp4", 300)
    group.summary({"env_steps": 300, "eval": {"success_rate": 0.98}})
    group.close("finished")
    events = read(run)
    (image,) = events.Images("learning_curve")
    assert (image.step, image.width, image.height) == (300, 300, 200)
    assert image.encoded_image_string == png.read_bytes()
    videos = events.Tensors("policy_video")
    assert [(video.step, video.tensor_proto.string_val[0]) for video in videos] == [
        (300, b"`videos/policy_9.mp4`")
    ]
    assert b'"success_rate": 0.98' in events.Tensors("summary")[0].tensor_proto.string_val[0]
