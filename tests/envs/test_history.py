"""Delays of actions and observations, and observations of several steps."""

from __future__ import annotations

import pytest
import torch

from rl_platform.envs.delays import ActionDelay
from rl_platform.envs.env import Env
from rl_platform.envs.history import ObservationHistory
from rl_platform.envs.randomness import EnvRandom
from rl_platform.errors import NonFiniteError, UserError
from tests.envs.test_every_env import make, random_actions, rollout

QUIET = "env.observations.policy.joint_pos={scale:1.0,noise:0.0%s}"
LATE = (
    "env.action_delay_steps=[0,3]",
    "env.observations.policy.joint_pos={scale:1.0,noise:0.01,history_steps:3,delay_steps:[1,2]}",
    "env.observations.policy.joint_vel={scale:1.0,noise:0.01,delay_steps:[0,4]}",
)


def history(settings: list[dict[str, object]], sizes: list[int], num_envs: int = 1) -> ObservationHistory:
    random = EnvRandom(num_envs, 0, torch.device("cpu"))
    random.seed(1)
    return ObservationHistory(random, num_envs, sizes, settings)


def test_a_history_shows_the_oldest_step_first_and_leaves_other_terms_alone() -> None:
    own: list[dict[str, object]] = [
        {"history_steps": 3, "delay_steps": None},
        {"history_steps": None, "delay_steps": None},
    ]
    memory, ids = history(own, [2, 1]), torch.arange(1)
    assert memory.dim == 7
    steps = [torch.tensor([[10.0 * t, 10.0 * t + 1.0, -t]]) for t in range(1, 5)]
    assert memory.start(ids, steps[0]).tolist() == [[10, 11, 10, 11, 10, 11, -1]]
    memory.add(ids, steps[1])
    memory.add(ids, steps[2])
    assert memory.add(ids, steps[3]).tolist() == [[20, 21, 30, 31, 40, 41, -4]]


def test_a_delayed_history_ends_with_the_delayed_step() -> None:
    memory, ids = history([{"history_steps": 2, "delay_steps": [2, 2]}], [1]), torch.arange(1)
    memory.start(ids, torch.tensor([[0.0]]))
    seen = [memory.add(ids, torch.tensor([[float(t)]])).tolist()[0] for t in range(1, 6)]
    assert seen == [[0, 0], [0, 0], [0, 1], [1, 2], [2, 3]]
    assert memory.newest.tolist() == [[5.0]]


def test_a_new_episode_forgets_the_one_before_and_draws_its_own_delay() -> None:
    memory = history([{"history_steps": None, "delay_steps": [0, 3]}], [1], num_envs=400)
    ids = torch.arange(400)
    memory.start(ids, torch.zeros(400, 1))
    for t in range(1, 5):
        seen = memory.add(ids, torch.full((400, 1), float(t)))
    counts = torch.bincount(4 - seen[:, 0].long(), minlength=4)
    assert counts.min() > 60  # each of the four delays has about a hundred
    again = memory.start(ids[:200], torch.full((200, 1), 9.0))
    assert (again == 9.0).all()
    later = memory.add(ids, torch.full((400, 1), 5.0))[:, 0]
    assert set(later[:200].tolist()) == {5.0, 9.0}
    assert later[200:].tolist() == (seen[200:, 0] + 1.0).tolist()


def test_an_action_takes_effect_when_its_delay_is_over() -> None:
    random = EnvRandom(2, 0, torch.device("cpu"))
    delay = ActionDelay(random, torch.tensor([-1.0]), torch.tensor([1.0]), [2, 2], 2)
    delay.reset(torch.arange(2))
    sent = [torch.full((2, 1), t / 10) for t in range(1, 5)]
    assert [round(delay.apply(a)[0, 0].item(), 6) for a in sent] == [0.0, 0.0, 0.1, 0.2]
    delay.reset(torch.tensor([1]))
    assert delay.apply(sent[0])[:, 0].tolist() == pytest.approx([0.3, 0.0])


def test_before_the_first_action_arrives_the_nearest_bound_to_zero_holds() -> None:
    random = EnvRandom(1, 0, torch.device("cpu"))
    delay = ActionDelay(random, torch.tensor([0.5]), torch.tensor([1.0]), [1, 1], 1)
    delay.reset(torch.arange(1))
    assert delay.apply(torch.tensor([[1.0]])).item() == 0.5


def test_a_delayed_robot_does_later_what_the_other_does_now() -> None:
    still = "env.events.reset_robot.joint_noise=0.0"
    now, late = make("reach", 1, 3, still), make("reach", 1, 3, still, "env.action_delay_steps=[3,3]")
    waited = torch.zeros(4, now.num_envs, now.action_dim)
    actions = random_actions(now, 12)
    for action in waited[:3]:
        now.step(action)
    for action in actions[:9]:
        now.step(action)
    for action in actions:
        late.step(action)
    assert torch.equal(late.physics.data("ctrl"), now.physics.data("ctrl"))
    assert torch.equal(late.action, actions[-1])  # what observations and rewards call the action is not late


def test_an_environments_observation_is_the_undelayed_one_of_steps_ago() -> None:
    now, late = (make("walker12", 3, 3, QUIET % more) for more in ("", ",history_steps:2,delay_steps:[1,1]"))
    actions = random_actions(now, 8)
    seen, seen_late = rollout(now, actions), rollout(late, actions)
    first, width = _columns(now, "joint_pos")
    expected = torch.cat([seen[:, :, first : first + width][5], seen[:, :, first : first + width][6]], 1)
    assert torch.equal(seen_late[7][:, first : first + 2 * width], expected)
    rest = seen[7][:, first + width :]
    assert torch.equal(seen_late[7][:, first + 2 * width :], rest)
    assert late.observation_dims["policy"] == now.observation_dims["policy"] + width


def _columns(env: Env, term: str) -> tuple[int, int]:
    first = 0
    for name, (function, _, parameters) in env._groups.terms["policy"].items():
        width = function(env._state, **parameters).shape[1]
        if name == term:
            return first, width
        first += width
    raise AssertionError(term)


def test_delays_and_histories_continue_bit_for_bit() -> None:
    short = "env.episode_length_s=0.6"
    env, other = make("walker12", 6, 3, short, *LATE), make("walker12", 6, 99, short, *LATE)
    actions = random_actions(env, 60)
    rollout(env, actions[:25])
    other.load_state_dict(env.state_dict())
    assert torch.equal(rollout(env, actions[25:]), rollout(other, actions[25:]))


def test_delays_do_not_depend_on_how_environments_are_spread() -> None:
    short = "env.episode_length_s=0.6"
    whole = make("walker12", 6, 3, short, *LATE)
    part = make("walker12", 4, 3, short, *LATE, env_offset=2)
    actions = random_actions(whole, 40)
    assert torch.equal(rollout(whole, actions)[:, 2:], rollout(part, actions[:, 2:]))


def test_a_nan_is_named_at_once_although_it_is_seen_later() -> None:
    env = make("walker12", 2, 3, QUIET % ",delay_steps:[2,2]")
    function, own, parameters = env._groups.terms["policy"]["joint_pos"]
    broken = lambda s: function(s).index_fill(0, torch.tensor([1]), torch.nan)  # noqa: E731
    env._groups.terms["policy"]["joint_pos"] = (broken, own, parameters)
    with pytest.raises(NonFiniteError, match=r"observation policy/joint_pos .*environment 1"):
        env.step(torch.zeros(2, 12))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env.action_delay_steps=[2,1]", r"env\.action_delay_steps: must be \[low, high\]"),
        ("env.action_delay_steps=[-1,1]", r"env\.action_delay_steps: must be \[low, high\]"),
        (QUIET % ",delay_steps:2", r"policy\.joint_pos\.delay_steps: must be \[low, high\]"),
        (QUIET % ",history_steps:0", r"policy\.joint_pos\.history_steps: .* at least 1, got 0"),
        (QUIET % ",history_step:2", r"policy\.joint_pos\.history_step: no such parameter"),
    ],
)
def test_mistakes_are_named(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make("walker12", 1, 3, override)
