"""Which part may know which: the layers of docs/architecture.md, read off the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Know nothing of the platform but each other.
UTILITIES = [
    "atomic",
    "chosen",
    "clock",
    "conf_files",
    "distributed",
    "errors",
    "gymnasium_process",
    "opengl",
    "other_names",
    "place",
    "provenance",
    "recorded",
    "registry",
    "ring",
    "schedule",
    "schema",
    "scores",
    "seeding",
    "sharding",
    "signals",
    "slurm",
    "statistics",
    "suggest",
    "tensor_math",
    "threads",
    "timing",
    "yaml_text",
]
CONFIGURATION = ["agreement", "composition", "config"]
DIRECTORY = ["run_dir", "checkpoint", "rewind"]
SEARCH = ["search", "search_report"]
SWEEP = ["states", "sweep_dir", "sweep_table"]
# What turns parts into a run, an evaluation, a video.
ASSEMBLY = ["assemble", "export", "review", "finish", "train", "plots", "evaluate", "old_runs"]
PROTOCOLS = ["envs.base", "algos.base", "loggers.base"]

# A module, or a package with all that is in it → what it may import besides UTILITIES and itself.
# The longest name that fits a module counts.
LAYERS: dict[str, list[str]] = {
    **{name: [] for name in UTILITIES},
    **{name: CONFIGURATION for name in CONFIGURATION},
    **{name: DIRECTORY for name in DIRECTORY},
    **{name: [*SWEEP, *DIRECTORY] for name in SWEEP},
    "sweepers": [],
    "search": ["multirun", "search_report", "sweepers", *SWEEP, *CONFIGURATION, *DIRECTORY],
    "search_report": ["sweepers"],
    "multirun": [*SWEEP, *CONFIGURATION, *DIRECTORY],
    "models": [],
    "buffers": [],
    "physics": [],
    "robots": ["physics.scene"],
    "envs": ["physics"],
    "envs.gymnasium": ["envs", "assemble", *CONFIGURATION],  # Gymnasium's way in: it builds an environment
    "tasks": ["envs", "robots", "physics.scene"],
    "algos": ["models", "buffers"],
    "loggers": [*DIRECTORY],
    "evaluate": PROTOCOLS,
    "plots": DIRECTORY,
    "comparison": ["old_runs", *SWEEP, *DIRECTORY],
    "nan_dump": DIRECTORY,
    "trainer": [*PROTOCOLS, *DIRECTORY, "loggers.console", "evaluate", "nan_dump"],
    "agents": ["trainer", "algos", "models", *PROTOCOLS],
    "assemble": ["agents", "envs", "old_runs", *CONFIGURATION, *DIRECTORY],
    "export": ["assemble", "envs.base"],
    "review": ["assemble", "envs", "evaluate", *DIRECTORY],
    "finish": ["review", "evaluate", "plots", "loggers", "trainer", *DIRECTORY],
    "train": [*ASSEMBLY, *CONFIGURATION, *DIRECTORY, "agents", "envs", "loggers", "trainer"],
    "old_runs": [*CONFIGURATION, *DIRECTORY],
    "ranks": DIRECTORY,
    "follow": [*DIRECTORY, "agents", "loggers", "ranks", "train", "trainer"],
    "join": ["follow"],
    "job": [*DIRECTORY, "join", "train", "old_runs"],
    "commands": [
        "multirun",
        "search",
        "search_report",
        "sweepers",
        "comparison",
        *SWEEP,
        *ASSEMBLY,
        *CONFIGURATION,
        *DIRECTORY,
        "envs",
        "loggers",
        "agents",
        "ranks",
        "join",
    ],
}
FILES = sorted((ROOT / "rl_platform").rglob("*.py"))


def module_name(path: Path) -> str:
    """`rl_platform/envs/env.py` → `envs.env`."""
    parts = path.relative_to(ROOT / "rl_platform").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, by its full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            folder = ROOT / node.module.replace(".", "/")
            for alias in node.names:
                inside = (folder / f"{alias.name}.py").exists() or (folder / alias.name).is_dir()
                found.add(f"{node.module}.{alias.name}" if inside else node.module)
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def broken_rules(module: str, imports: set[str]) -> list[str]:
    """One line for each import that the layers forbid."""
    layer = max((name for name in LAYERS if within(module, name)), key=len, default=None)
    if layer is None:
        return [f"{module} is in no layer: give it a place in LAYERS"]
    allowed = [*LAYERS[layer], layer, *UTILITIES]
    ours = {name.removeprefix("rl_platform.") for name in imports if name.startswith("rl_platform.")}
    return [
        f"{module} imports {name}; {layer} may know {', '.join(LAYERS[layer]) or 'utilities only'}"
        for name in sorted(ours)
        if not any(within(name, package) for package in allowed)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path) or "rl_platform")
def test_imports_stay_within_the_layers(path: Path) -> None:
    module = module_name(path)
    if module:
        assert broken_rules(module, imported(path)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path) or "rl_platform")
def test_nothing_imports_the_launchers(path: Path) -> None:
    assert not {name for name in imported(path) if within(name, "launchers") or within(name, "hydra_plugins")}


def test_run_py_knows_the_commands_alone() -> None:
    ours = {name for name in imported(ROOT / "run.py") if name.startswith("rl_platform")}
    assert ours == {"rl_platform.commands", "rl_platform.errors"}


@pytest.mark.parametrize("module", ["algos.ppo", "models.mlp", "buffers", "loggers.wandb"])
@pytest.mark.parametrize("target", ["envs.env", "physics.cpu", "train", "tasks.lift"])
def test_the_rules_can_be_broken(module: str, target: str) -> None:
    """An algorithm that imports an environment is found and named."""
    (line,) = broken_rules(module, {f"rl_platform.{target}", "torch"})
    assert line.startswith(f"{module} imports {target};")


def test_a_module_without_a_layer_is_found() -> None:
    assert broken_rules("novelty", set()) == ["novelty is in no layer: give it a place in LAYERS"]
