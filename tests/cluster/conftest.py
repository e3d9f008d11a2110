"""The SLURM of the tests here: started when the first of them asks, ended after the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.place import Place
from tests.cluster.slurm import Slurm, cluster, missing


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Two nodes with two GPUs each that are none, without accounting."""
    if reason := missing():
        pytest.skip(reason)
    with cluster() as running:
        yield running


@pytest.fixture(scope="session")
def accounting_slurm() -> Iterator[Slurm]:
    """The same with accounting."""
    if reason := missing():
        pytest.skip(reason)
    with cluster(accounting=True) as running:
        yield running


@pytest.fixture
def place(slurm: Slurm, tmp_path: Path) -> Place:
    """An empty directory on the cluster's login node."""
    return Place(slurm, tmp_path)
