"""`logger=tensorboard`: event files in the run directory, against environment steps.

They are written here, record by record, for the sake of the start-up time: `torch.utils.tensorboard`
takes 0.3 s to import (1.6 s from a cold disk) and a thread, TensorBoard's message types 0.03 s.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING

from rl_platform.loggers.base import Context, GrowingFile


@dataclass
class Config:
    """Has no options."""


def make_logger(config: Config, context: Context) -> TensorBoardLogger:
    """Write a new event file beside those of earlier sittings."""
    return TensorBoardLogger(context.run_dir.path, context.env_steps, context.say)


class TensorBoardLogger:
    """Writes each record at once, so that the curves are up to date and a killed run loses none."""

    def __init__(self, directory: Path, env_steps: int, say: Callable[[str], None]) -> None:
        """Make TensorBoard forget the points after `env_steps` in the files that are there."""
        earlier = list(directory.glob("events.out.tfevents.*"))
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._directory = directory
        self._file = GrowingFile(directory / name, say)
        self._write(Event(file_version="brain.Event:2"))
        if earlier:
            # Readers drop every point at or after the step of a START.
            self._write(Event(step=env_steps + 1, session_log=SessionLog(status=SessionLog.START)))

    def log(self, metrics: Mapping[str, float], env_steps: int) -> None:
        """Write all numbers in one record."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(Event(step=env_steps, summary=Summary(value=values)))

    def log_image(self, name: str, path: Path, env_steps: int) -> None:
        """Write the picture into the event file."""
        png = path.read_bytes()
        width, height = struct.unpack(">II", png[16:24])  # of the IHDR chunk, PNG specification 11.2.1
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        self._write(Event(step=env_steps, summary=Summary(value=[Summary.Value(tag=name, image=image)])))

    def log_video(self, name: str, path: Path, env_steps: int) -> None:
        """Say where the video is: TensorBoard does not play MP4."""
        self._write_text(f"{name}_video", f"`{os.path.relpath(path, self._directory)}`", env_steps)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Write the result as text."""
        text = json.dumps(values, indent=2)
        self._write_text("summary", f"```json\n{text}\n```", int(values.get("env_steps", 0)))

    def state_dict(self) -> dict[str, Any]:
        """There is nothing to remember that is not in the files."""
        return {}

    def close(self, state: str) -> None:
        """Close the file."""
        self._file.close()

    def _write_text(self, tag: str, markdown: str, env_steps: int) -> None:
        plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype=DT_STRING, string_val=[markdown.encode()], tensor_shape=shape)
        value = Summary.Value(tag=tag, metadata=plugin, tensor=tensor)
        self._write(Event(step=env_steps, summary=Summary(value=[value])))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.write(frame(event.SerializeToString()))


def frame(data: bytes) -> bytes:
    """Return a TFRecord: length, its masked CRC, data, their masked CRC, all little-endian."""
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C (Castagnoli, RFC 3720 B.4), rotated and shifted as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc_table() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC_TABLE = _crc_table()
