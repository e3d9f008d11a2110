"""`python run.py help [GROUP=OPTION …]`, `python run.py --help`: what can be typed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rl_platform import conf_files, suggest
from rl_platform.commands import COMMANDS
from rl_platform.conf_files import CONF_DIR, GROUPS, Entry
from rl_platform.errors import UserError

# The keys that people type most; the files have all the others.
COMMON_KEYS = {
    "config.yaml": [
        "seed",
        "device",
        "num_threads",
        "max_iterations",
        "total_env_steps",
        "stop_after_s",
        "score_to_win",
        "save_interval",
        "keep_checkpoints",
        "eval_interval",
        "eval.episodes",
        "video_interval",
        "run_name",
        "output_dir",
    ],
    "env/lift.yaml": ["num_envs", "physics"],
    "algo/ppo.yaml": ["learning_rate", "rollout_steps", "num_minibatches", "update_epochs", "gamma"],
    "agent/ppo.yaml": ["actor.hidden_sizes"],
    "logger/wandb.yaml": ["wandb.project"],
}

TUNED = "tuned/lift_ppo.yaml"  # what env=lift agent=ppo is trained with, above the options' own values

WIDTH = 130  # columns of the page

PAGE = """\
Train robot policies in simulation.

  python run.py env=lift agent=ppo                      train; ends with an evaluation, a plot and a video
  python run.py env=lift agent=ppo seed=7 algo.gamma=0.98   any key of the configuration
  python run.py resume=RUN [max_iterations=2000]        go on from a run's last checkpoint, in its directory
  python run.py -m env=lift agent=ppo seed=1,2,3        a sweep: one run for each combination of values
  python run.py COMMAND …                               see below; python run.py COMMAND --help

RUN is a run directory, such as outputs/lift/ppo/2026-01-31_12-00-00-000000_s42.

Commands
{commands}

Groups: choose an option with group=option (python run.py help env=lift shows all its keys)
{groups}

Keys that people use, with the values that env=lift agent=ppo has
{keys}

Flags
  -m, --multirun        sweep over values that are written with commas, or as range(1,4)
  --cfg job             print the whole configuration of the run instead of starting it
  --resolve             with --cfg: with its interpolations resolved
  --package KEY         with --cfg: only what is at this key, such as algo
  --config-dir DIR      look for groups in a directory of your own too (DIR/env/mine.yaml)
  --cfg hydra, --info defaults, --shell-completion   Hydra's own

Examples
  python run.py env=lift agent=ppo stop_after_s=60             a minute of wall time, then save and evaluate
  python run.py env=lift agent=ppo env.num_envs=1024 num_threads=4
  python run.py env=lift agent=ppo logger=[tensorboard,wandb] logger.wandb.project=arms
  python run.py -m env=lift agent=ppo algo.learning_rate=1e-4,3e-4,1e-3 seed=1,2,3
  python run.py -m env=cartpole sweep=[ppo,seeds5] launcher.parallel=2
  python run.py -m experiment=lift launcher.parallel=2         the README's table again, two runs at a time
  python run.py eval RUN --json
  python run.py export RUN --format torchscript
  python run.py compare RUN RUN outputs/sweeps/… --by algo.gamma
  python run.py play RUN --video lift.mp4
  python run.py play RUN --viewer web"""


def main(argv: Sequence[str]) -> int:
    """Print the page, or the files of the options that are named."""
    parser = argparse.ArgumentParser(prog="python run.py help", add_help=False)
    parser.add_argument("wanted", nargs="*", metavar="GROUP=OPTION")
    parser.add_argument("-cd", "--config-dir", action="append", default=[])
    options, _ = parser.parse_known_args(argv)
    folders = options.config_dir
    print("\n".join(_file(word, folders) for word in options.wanted) if options.wanted else page(folders))
    return 0


def page(folders: Sequence[str] = ()) -> str:
    """The page of `python run.py --help`, with the groups in the user's own folders."""
    return PAGE.format(
        commands=_table(list(COMMANDS.items())),
        groups="\n".join(_groups(folders)),
        keys=_table([(f"{key}={entry.value}", entry.comment) for key, entry in common_keys()]),
    )


def common_keys() -> Iterator[tuple[str, Entry]]:
    """Yield the keys that people use, with their lines in `conf/`, and the values that `TUNED` gives them."""
    tuned = {entry.key: entry.value for entry in conf_files.entries(CONF_DIR / TUNED)}
    for file, names in COMMON_KEYS.items():
        found = {entry.key: entry for entry in conf_files.entries(CONF_DIR / file)}
        group = file.partition("/")[0] if "/" in file else ""
        for name in names:
            key = f"{group}.{name}" if group else name
            yield key, replace(found[name], value=tuned.get(key, found[name].value))


def _groups(folders: Sequence[str]) -> Iterator[str]:
    for group, meaning in GROUPS.items():
        options = conf_files.options(group, folders)
        yield f"  {group}: {meaning}"
        if options:
            yield "\n".join(_cut(line) for line in _table(list(options.items()), indent=4).split("\n"))


def _cut(line: str) -> str:
    """The line, or as much of it as there is room for."""
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1].rstrip()}…"


def _file(word: str, folders: Sequence[str]) -> str:
    """The text of an option's file.

    Raises:
        UserError: there is no such group or option.
    """
    group, _, name = word.partition("=")
    groups = {key: conf_files.find(key, folders) for key in GROUPS}
    if group not in groups:
        raise UserError(f"help {word}: write help GROUP=OPTION; the groups are {', '.join(groups)}.")
    if name not in groups[group]:
        raise UserError(str(suggest.option(group, name, {key: list(found) for key, found in groups.items()})))
    text = groups[group][name].read_text(encoding="utf-8")
    how = (
        "type its keys as they stand, with dots"
        if "@package _global_" in text
        else f"type its keys with {group}. before them"
    )
    return "\n".join([f"# ---- conf/{group}/{name}.yaml: {how}\n{text}", *_tuned(group, name, folders)])


def _tuned(group: str, env: str, folders: Sequence[str]) -> Iterator[str]:
    """The settings that come before an environment's own when it is trained."""
    files = conf_files.find("tuned", folders) if group == "env" else {}
    for algo in conf_files.find("algo", folders):
        for name, who in ((f"{env}_{algo}", ""), (f"{env}_{algo}_gpu", " where a GPU simulates")):
            if name in files:
                told = (
                    f"with algo={algo}{who} these come before the above; type them as they stand, with dots"
                )
                yield f"# ---- conf/tuned/{name}.yaml: {told}\n{files[name].read_text(encoding='utf-8')}"


def _table(rows: Sequence[tuple[str, str]], indent: int = 2) -> str:
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{'':{indent}}{name:{width}}{text}".rstrip() for name, text in rows)
