"""Every file of `conf/`: composes, checks, is explained, and refuses misspelt keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from rl_platform import conf_files, config
from rl_platform.commands import help as help_page
from rl_platform.composition import Composer
from rl_platform.conf_files import CONF_DIR, GROUPS
from rl_platform.errors import UserError
from rl_platform.schema import shown

FILES = sorted(CONF_DIR.rglob("*.yaml"))
OPTIONS = [(group, name) for group in GROUPS for name in conf_files.options(group)]


def file_id(value: Any) -> str | None:
    return str(value.relative_to(CONF_DIR)) if isinstance(value, Path) else None


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


def choice(group: str, name: str) -> list[str]:
    """The overrides that bring an option in."""
    if group == "tuned":
        env, _, algo = name.removesuffix("_gpu").rpartition("_")
        typed = [f"tuned={name}"] if name.endswith("_gpu") else []  # chosen by itself with device=cuda
        return [f"env={env}", *choice("algo", algo), *typed]
    if group == "algo":  # and an agent that can do with it
        return [f"agent={name}", f"algo={name}"]
    return [f"{group}={name}"]


def as_one(value: Any) -> str:
    """What a hint makes of a typed 1 for a key that has this value: it stays where it may."""
    if isinstance(value, bool):
        return "true"
    return shown(value) if isinstance(value, list) else "1"


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_and_checks(composer: Composer, group: str, name: str) -> None:
    """Its keys and those of the module's schema are the same, and every value is allowed."""
    job = composer.compose(choice(group, name))
    assert job.choices[group] == name
    cfg = config.check_job(job)
    assert isinstance(cfg, DictConfig)


@pytest.mark.parametrize(("group", "name"), [pair for pair in OPTIONS if pair[0] in ("env", "agent", "algo")])
def test_every_misspelt_key_is_found(composer: Composer, group: str, name: str) -> None:
    """With + and ++ as well; the hint names the key that was meant."""
    section = composer.compose(choice(group, name)).defaults[group]
    for key in section:
        wrong = f"{group}.{key}x"
        for prefix in ("", "+", "++"):
            with pytest.raises(UserError) as caught:
                composer.compose([*choice(group, name), f"{prefix}{wrong}=1"])
            assert f"there is no key {wrong}" in str(caught.value)
            offered = re.search(rf"did you mean {group}\.{key}=(.*)\?", str(caught.value))
            assert offered is not None
            assert offered[1] == as_one(section[key])


@pytest.mark.parametrize(("group", "name"), [pair for pair in OPTIONS if pair[0] in ("env", "agent", "algo")])
def test_a_misspelt_key_in_a_file_is_found(composer: Composer, group: str, name: str) -> None:
    """What is not typed but written in YAML passes Hydra; the schema finds it, and the key that lacks."""
    cfg = composer.compose(choice(group, name)).config.copy()
    values = config.resolved(cfg)
    for key in list(values[group]):
        if key == "name":
            continue
        wrong = dict(values[group])
        wrong[f"{key}x"] = wrong.pop(key)
        with pytest.raises(UserError) as caught:
            config.check(values | {group: wrong}, values)
        assert f"{group}.{key}x: no such key" in str(caught.value)
        assert f"did you mean {group}.{key}?" in str(caught.value)
        assert f"{group}.{key}: is missing" in str(caught.value)


def test_a_misspelt_key_of_a_logger_and_of_the_root_is_found(composer: Composer) -> None:
    for wrong, meant in (
        ("logger.wandb.projet", "logger.wandb.project"),
        ("max_iteratons", "max_iterations"),
    ):
        with pytest.raises(UserError, match=f"did you mean {meant}=x"):
            composer.compose(["logger=wandb", f"+{wrong}=x"])
    with pytest.raises(UserError, match=r"logger.files.x: no such key"):
        config.check_job(composer.compose(["+logger.files.x=1"]))


def test_the_root_file_and_its_schema_have_the_same_keys(composer: Composer) -> None:
    with pytest.raises(UserError, match="sede: no such key"):
        config.check(config.resolved(composer.compose([]).config) | {"sede": 1})


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_every_file_says_what_it_is(path: Path) -> None:
    assert len(conf_files.describe(path)) > 10


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name != "tuned"], ids=file_id)
def test_every_key_has_a_comment(path: Path) -> None:
    """Of its own, or that of a key that it stands under."""
    commented: set[str] = set()
    for entry in conf_files.entries(path):
        parents = {entry.key[:i] for i, letter in enumerate(entry.key) if letter == "."}
        if entry.comment or parents & commented:
            commented.add(entry.key)
        elif entry.value and entry.key not in ("name",) and not entry.key.startswith(("defaults", "hydra")):
            pytest.fail(f"{path.relative_to(CONF_DIR)}: {entry.key} has no comment")


def test_the_groups_are_those_of_the_directory() -> None:
    found = {path.name for path in CONF_DIR.iterdir() if path.is_dir() and any(path.glob("*.yaml"))}
    assert found - {"experiment"} <= set(GROUPS)


def test_help_shows_every_option_and_the_usual_keys() -> None:
    page = help_page.page()
    for group, name in OPTIONS:
        assert f"\n    {name} " in page, f"{group}={name}"
    entries = dict(help_page.common_keys())
    assert len(entries) >= 20
    for key, entry in entries.items():
        assert f"\n  {key}={entry.value} " in page
    assert all(len(line) <= 130 for line in page.splitlines())


@pytest.mark.parametrize("key", [key for key, _ in help_page.common_keys()])
def test_the_usual_keys_can_be_typed(composer: Composer, key: str) -> None:
    value = dict(help_page.common_keys())[key].value.replace(" ", "")
    composer.compose(["logger=wandb", f"{key}={value}"])


def test_entries_read_what_is_written(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "# What it is.\na: 1  # one\nb:  # two\n  c: {d: 2}\n  e: '#3' # three\nf: \"\"\n# g\nh: [1, 2]\n",
        encoding="utf-8",
    )
    found = [(entry.key, entry.value, entry.comment) for entry in conf_files.entries(file)]
    assert found == [
        ("a", "1", "one"),
        ("b", "", "two"),
        ("b.c", "{d: 2}", ""),
        ("b.e", "'#3'", "three"),
        ("f", '""', ""),
        ("h", "[1, 2]", ""),
    ]
    assert conf_files.describe(file) == "What it is."


@pytest.fixture
def own_conf(tmp_path: Path) -> Path:
    """A user's directory: an agent that chooses its own algo, and settings for the pair."""
    files = {
        "algo/other.yaml": "name: ppo\ngamma: 0.1\ngae_lambda: 0.1\nclip_coef: 0.1\nent_coef: 0.1\n",
        "agent/other.yaml": (
            "defaults:\n  - override /algo@_global_.algo: other\n  - _self_\nname: ppo\nwidth: 1\n"
        ),
        "tuned/lift_other.yaml": (
            "# @package _global_\nseed: 9\nenv: {num_envs: 8}\nalgo: {gamma: 0.2}\nagent: {width: 2}\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_an_agent_chooses_its_algo_and_their_tuning(own_conf: Path) -> None:
    job = Composer([own_conf]).compose(["env=lift", "agent=other"])
    assert job.choices["algo"] == "other"
    assert job.choices["tuned"] == "lift_other"
    assert (job.config.seed, job.config.env.num_envs) == (9, 8)
    assert (job.config.algo.gamma, job.config.algo.gae_lambda, job.config.agent.width) == (0.2, 0.1, 2)


def test_the_command_line_wins_over_the_tuning(own_conf: Path) -> None:
    composer = Composer([own_conf])
    assert composer.compose(["agent=other", "algo.gamma=0.3"]).config.algo.gamma == 0.3
    untuned = composer.compose(["agent=other", "~tuned"]).config
    assert (untuned.seed, untuned.algo.gamma, untuned.agent.width) == (42, 0.1, 1)
    other = composer.compose(["agent=other", "algo=ppo"])
    assert other.choices["algo"] == "ppo"
    assert other.config.algo.gamma != 0.2


def test_a_broken_file_of_the_users_is_named(own_conf: Path) -> None:
    (own_conf / "agent" / "broken.yaml").write_text("a: [\n")
    with pytest.raises(UserError, match=r"broken.yaml.*line 2"):
        Composer([own_conf]).compose(["agent=broken"])
    with pytest.raises(UserError, match="there is no such directory"):
        Composer([own_conf / "nowhere"])


@pytest.mark.parametrize(
    ("name", "settings", "seeds"),
    [
        ("lift", 1, [71, 72, 73, 74, 75]),
        ("lift_agents", 5, [91, 92, 93]),
        ("half_cheetah_sac", 1, [111, 112, 113]),
        ("gymnasium", 7, [111, 112, 113]),
    ],
)
def test_an_experiment_is_a_sweep_over_held_back_seeds(
    composer: Composer, name: str, settings: int, seeds: list[int]
) -> None:
    assert name in conf_files.options("experiment")
    jobs = composer.sweep([f"experiment={name}"])
    configs = [config.check_job(job) for job in jobs]
    assert [cfg.seed for cfg in configs] == seeds * settings
    assert len({(cfg.env.name, cfg.agent.name) for cfg in configs}) == settings
    for job in jobs:  # each with the settings of its pair
        assert job.choices["tuned"] == f"{job.choices['env']}_{job.choices['algo']}"


def test_what_is_typed_counts_more_than_an_experiment(composer: Composer) -> None:
    words = ["experiment=half_cheetah_sac", "eval_interval=7"]
    jobs = composer.sweep([*words, "seed=5,6", "env=hopper"])
    assert [(job.config.seed, job.choices["env"], job.config.eval_interval) for job in jobs] == [
        (5, "hopper", 7),
        (6, "hopper", 7),
    ]
    job = composer.compose([*words, "seed=5"])
    assert (job.choices["env"], job.choices["algo"], job.config.eval_interval) == ("half_cheetah", "sac", 7)
    assert (job.config.seed, job.config.num_threads, job.has_recipe) == (5, 1, False)
    with pytest.raises(UserError, match="did you mean experiment=lift"):
        composer.compose(["experiment=lft"])
    with pytest.raises(UserError, match="one sweep has one experiment"):
        composer.sweep(["experiment=lift,gymnasium"])
