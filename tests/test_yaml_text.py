"""The YAML of a run is what OmegaConf writes, and is read again as what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from rl_platform import config, yaml_text

TEXTS = [
    "",
    "7",
    "1e3",
    "0x10",
    "yes",
    "null",
    "~",
    "12:30:00",
    "2026-01-01",
    "on: a",
    "# x",
    "- x",
    " x ",
    "ü",
]


@pytest.mark.parametrize("env", ["lift", "humanoid", "gymnasium"])
def test_a_configuration_is_written_as_omegaconf_does(env: str) -> None:
    own = ["env.id=CartPole-v1"] if env == "gymnasium" else []
    cfg = config.compose([f"env={env}", *own, "launcher=slurm", "stop_after_s=1e22"])
    assert yaml_text.dump(cfg) == OmegaConf.to_yaml(cfg, resolve=True)
    assert yaml_text.dump(OmegaConf.to_container(cfg)) == yaml_text.dump(cfg)


def test_text_stays_text_and_numbers_stay_numbers(tmp_path: Path) -> None:
    cfg = {"texts": [*TEXTS, "line\nline", "😀"], "numbers": [1, 1.0, 1e-7, 1e22, -0.0, True, None]}
    (tmp_path / "config.yaml").write_text(yaml_text.dump(cfg))
    again = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    assert repr(again) == repr(cfg)
    assert yaml_text.dump({"texts": TEXTS}) == OmegaConf.to_yaml({"texts": TEXTS})


def test_libyaml_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config.compose(["env=cartpole"])
    fast = yaml_text.dump(cfg)
    monkeypatch.delattr(yaml, "CDumper")
    yaml_text._dumper.cache_clear()
    try:
        assert yaml_text.dump(cfg) == fast
    finally:
        yaml_text._dumper.cache_clear()


def test_interpolations_are_resolved() -> None:
    assert yaml_text.dump(OmegaConf.create({"a": 1, "b": "${a}"})) == "a: 1\nb: 1\n"
