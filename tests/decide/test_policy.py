"""The reload state machine: a walk over every reachable state, and the stories it must tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import pytest

from devsup import events
from devsup.decide import policy
from devsup.decide import vocabulary as words

Mode = Literal["drain", "handover", "restart", "off"]
MODES: tuple[Mode, ...] = ("drain", "handover", "restart", "off")
GENERATIONS = 3  # the one that serves, one before it, one that retires
ROUNDS = 2


class World(NamedTuple):
    """What is really so: who runs, who was told to stop or killed, which timers may fire, what an agent may still say."""

    mode: str = "drain"
    alive: frozenset[int] = frozenset()
    spawned: frozenset[int] = frozenset()
    stopped: frozenset[int] = frozenset()
    retired: frozenset[int] = frozenset()
    killed: frozenset[int] = frozenset()
    gate_closed: bool = False
    answering: bool = False
    timers: frozenset[tuple[str, int, int]] = frozenset()
    promises: frozenset[words.Cleared | words.Drained] = frozenset()


class Node(NamedTuple):
    """One state of the walk."""

    state: words.State
    world: World


def obey(world: World, commands: words.Commands) -> World:
    """The world after the commands; a command that makes no sense fails the walk."""
    for command in commands:
        match command:
            case words.Spawn(generation):
                assert generation not in world.spawned, f"generation {generation} used twice"
                alive, spawned = world.alive | {generation}, world.spawned | {generation}
                world = world._replace(alive=alive, spawned=spawned, gate_closed=False)
            case words.Stop(generation, cut):
                assert generation in world.alive, f"{generation} is told to stop and does not run"
                assert generation not in world.stopped or (cut and generation in world.retired), f"{generation} is stopped twice"
                world = world._replace(stopped=world.stopped | {generation})
            case words.Kill(generation):
                assert generation in world.alive, f"{generation} is killed and does not run"
                asked = generation in world.stopped | world.retired or ("boot", generation, 0) not in world.timers
                assert asked, f"{generation} is killed without having been asked to stop"
                world = world._replace(killed=world.killed | {generation})
            case words.Retire(generation, final):
                assert generation in world.alive, f"{generation} is to retire and does not run"
                assert generation not in world.retired or final, f"{generation} retires twice"
                world = world._replace(retired=world.retired | {generation})
            case words.Announce(generation):
                assert generation in world.alive, f"{generation} is announced and does not run"
            case words.AskDrain(generation, number):
                assert generation in world.alive
                world = world._replace(promises=frozenset({words.Cleared(generation, number)}))
            case words.CloseGate(generation, number):
                assert not world.gate_closed, "the gate is closed twice"
                world = world._replace(gate_closed=True, promises=frozenset({words.Drained(generation, number)}))
            case words.OpenGate():
                assert world.gate_closed or world.mode == "handover", "an open gate is opened"
                world = world._replace(gate_closed=False)
            case words.SetTimer(name, seconds, generation, number):
                assert seconds > 0
                world = world._replace(timers=world.timers | {(name, generation, number)})
            case words.Answer(on):
                world = world._replace(answering=on)
            case words.Tell():
                pass
    return world


def facts(node: Node) -> Iterator[tuple[words.Fact, World]]:
    """All that may happen next, with the world after it."""
    state, world = node
    yield from (
        (fact, world)
        for fact in (
            words.Changed(),
            words.Unchanged(),
            words.ReloadAsked(),
            words.StopAsked(),
            words.Prompted(not state.prompting),
        )
    )
    for generation in world.alive:
        yield words.WorkerReady(generation), world
        if generation in world.stopped:
            yield words.WorkerLeft(generation), world
        gone = world._replace(alive=world.alive - {generation})
        if generation == state.phase.generation:
            gone = gone._replace(promises=frozenset(), gate_closed=False)
        for ended, listened in (
            (events.Exit(code=0), False),
            (events.Exit(code=0), True),
            (events.Exit(signal=9), True),
            (events.Exit(code=1), False),
        ):
            yield words.WorkerExited(generation, ended, 0.0, listened), gone
        yield words.WorkerExited(generation, events.Exit(code=2), 0.0, refused=2), gone
    for promise in world.promises:
        yield promise, world._replace(promises=frozenset())
    for timer in world.timers:
        name, generation, number = timer
        yield words.TimerFired(name, generation, number), world._replace(timers=world.timers - {timer})  # type: ignore[arg-type]


def walk(limits: words.Limits) -> set[Node]:
    """Every state that can be reached within so many generations."""
    state, commands = policy.begin(limits)
    first = Node(state, obey(World(limits.reload), commands))
    seen, todo = {first}, [first]
    while todo:
        node = todo.pop()
        for fact, world in facts(node):
            state, commands = policy.step(node.state, fact)
            # The walk is over shapes, not over histories: forget what can matter no more.
            after = obey(world, commands)
            whose = {"retire": state.retiring}
            live = frozenset(each for each in after.timers if each[1] == whose.get(each[0], state.phase.generation))
            told, killed, retired = after.stopped & after.alive, after.killed & after.alive, after.retired & after.alive
            reached = Node(state, after._replace(timers=live, stopped=told, killed=killed, retired=retired))
            check(reached)
            if reached not in seen and max(after.spawned) <= GENERATIONS and state.rounds <= ROUNDS:
                seen.add(reached)
                todo.append(reached)
    return seen


def check(node: Node) -> None:
    """What must be so in every state."""
    state, world = node
    phase = state.phase
    others = {state.retiring, getattr(phase, "before", 0)} - {0}
    assert len(others) <= 1 or state.limits.reload == "handover"
    match phase:
        case words.Stopping(gone=True) | words.Resting() | words.Broken() | words.Over():
            assert world.alive == others, f"{phase} while {world.alive} run"
        case words.Starting(generation) | words.Serving(generation) | words.Waiting(generation) | words.Stopping(generation):
            assert world.alive == {generation} | others, f"{phase} while {world.alive} run"
    if state.retiring:
        ends = any(name == "retire" and generation == state.retiring for name, generation, _ in world.timers)
        ending = isinstance(phase, words.Stopping) and phase.then == "end"
        assert ends or ending or state.retiring in world.killed, "a worker retires for ever"
    if isinstance(phase, words.Serving):
        assert not world.gate_closed, "a worker serves behind a closed gate"
        assert not world.answering, "the placeholder answers beside a worker"
    if isinstance(phase, words.Waiting):
        assert world.gate_closed == phase.closed
        assert world.promises or any(name == "drain" for name, _, _ in world.timers), "a wait without an end"
    if isinstance(phase, words.Stopping):
        stopping = any(name == "stop" for name, _, _ in world.timers)
        stopping = stopping or any(name == "retire" for name, _, _ in world.timers)
        killed = {state.retiring if phase.gone else phase.generation} <= world.killed
        assert stopping or killed, "a stop without a limit"
    if isinstance(phase, words.Broken) and state.limits.reload != "off":
        assert world.answering, "clients hang while no worker can run"
    if isinstance(phase, words.Resting):
        assert any(name == "backoff" for name, _, _ in world.timers), "a rest without an end"


@pytest.mark.parametrize("mode", MODES)
def test_every_reachable_state_is_sound(mode: Mode) -> None:
    seen = walk(words.Limits(reload=mode))
    kinds = {type(node.state.phase) for node in seen}
    expected = {words.Starting, words.Serving, words.Stopping, words.Over}
    expected |= {words.Waiting} if mode == "drain" else set()
    expected |= {words.Resting, words.Broken} if mode != "off" else set()
    assert kinds == expected


def test_the_walk_finds_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that stops a worker twice, or starts one beside another, does not pass."""
    real = policy._while_stopping

    def stops_twice(phase: words.Stopping, state: words.State, fact: words.Fact) -> tuple[words.Phase, words.Commands]:
        if isinstance(fact, words.StopAsked):
            return phase, (words.Stop(phase.generation, cut=True),)
        return real(phase, state, fact)

    monkeypatch.setattr(policy, "_while_stopping", stops_twice)
    with pytest.raises(AssertionError, match="stopped twice"):
        walk(words.Limits())


def tell(*story: words.Fact, limits: words.Limits | None = None) -> tuple[words.State, list[words.Command]]:
    """Play facts from the beginning; the last state, and the commands of the last fact."""
    state, commands = policy.begin(limits or words.Limits())
    for fact in story:
        state, commands = policy.step(state, fact)
    return state, list(commands)


def test_a_change_waits_first_with_the_gate_open() -> None:
    state, commands = tell(words.WorkerReady(1), words.Changed())
    assert state.phase == words.Waiting(1)
    assert commands == [words.AskDrain(1, 1), words.SetTimer("drain", 60.0, 1, 1)]


def test_the_gate_closes_only_when_the_work_of_the_save_is_done() -> None:
    state, commands = tell(words.WorkerReady(1), words.Changed(), words.Cleared(1, 1))
    assert state.phase == words.Waiting(1, closed=True)
    assert commands == [words.CloseGate(1, 1), words.SetTimer("gate", 5.0, 1, 1)]


def test_a_gate_that_was_closed_too_long_opens_and_a_stale_answer_counts_for_nothing() -> None:
    story = (words.WorkerReady(1), words.Changed(), words.Cleared(1, 1), words.TimerFired("gate", 1, 1))
    state, commands = tell(*story)
    assert state.phase == words.Waiting(1, round=2, first=1)
    assert commands == [words.OpenGate(1), words.AskDrain(1, 2)]
    state, commands = tell(*story, words.Drained(1, 1))
    assert (state.phase, commands) == (words.Waiting(1, round=2, first=1), [])


def test_the_drain_limit_cuts() -> None:
    _, commands = tell(words.WorkerReady(1), words.Changed(), words.TimerFired("drain", 1, 1))
    assert commands == [words.Stop(1, cut=True), words.SetTimer("stop", 5.0, 1)]


def test_the_limit_of_a_drain_that_was_called_off_does_not_cut_the_next_one() -> None:
    story = (words.WorkerReady(1), words.Changed(), words.Unchanged(), words.Changed())
    state, commands = tell(*story, words.TimerFired("drain", 1, 1))
    assert (state.phase, commands) == (words.Waiting(1, round=2, first=2), [])
    _, commands = tell(*story, words.TimerFired("drain", 1, 2))
    assert commands[0] == words.Stop(1, cut=True)


def test_no_limit_counts_while_a_debugger_prompts() -> None:
    state, commands = tell(words.WorkerReady(1), words.Changed(), words.Prompted(True), words.TimerFired("drain", 1, 1))
    assert state.phase == words.Waiting(1)
    assert commands == [words.SetTimer("drain", 60.0, 1, 1)]


def test_each_round_behind_the_gate_may_last_twice_as_long() -> None:
    story: tuple[words.Fact, ...] = (words.WorkerReady(1), words.Changed())
    for number in (1, 2, 3):
        _, commands = tell(*story, words.Cleared(1, number))
        assert commands[1] == words.SetTimer("gate", 5.0 * 2 ** (number - 1), 1, number)
        story += (words.Cleared(1, number), words.TimerFired("gate", 1, number))
    _, commands = tell(*story, words.Unchanged(), words.Changed(), words.Cleared(1, 5))
    assert commands[1] == words.SetTimer("gate", 5.0, 1, 5), "the next reload begins anew"


def test_under_a_debugger_ctrl_c_waits_and_what_the_user_asks_for_is_done() -> None:
    """A stop that is to let work end waits for it; one that cuts comes to its end whatever is halted."""
    looked_at: tuple[words.Fact, ...] = (words.WorkerReady(1), words.Prompted(True))
    _, commands = tell(*looked_at, words.StopAsked(), words.TimerFired("stop", 1))
    assert commands == [words.SetTimer("stop", 5.0, 1)]
    _, commands = tell(*looked_at, words.StopAsked(), words.StopAsked())
    assert commands == [words.Kill(1)]
    _, commands = tell(*looked_at, words.Changed(), words.ReloadAsked(), words.TimerFired("stop", 1))
    assert commands == [words.Kill(1)]
    limits = words.Limits(reload="restart")
    _, commands = tell(*looked_at, words.Changed(), words.ReloadAsked(), limits=limits)
    assert commands[0] == words.Stop(1, cut=True)


def test_restart_mode_waits_for_the_end_of_a_prompt() -> None:
    limits = words.Limits(reload="restart")
    state, commands = tell(words.WorkerReady(1), words.Prompted(True), words.Changed(), limits=limits)
    assert (state.phase, commands) == (words.Serving(1, stale=True), [])
    state, _ = tell(words.WorkerReady(1), words.Prompted(True), words.Changed(), words.Prompted(False), limits=limits)
    assert state.phase == words.Stopping(1, "start")


def test_saves_while_a_worker_boots_become_one_reload() -> None:
    state, _ = tell(words.Changed(), words.Changed(), words.Changed())
    assert state.phase == words.Starting(1, stale=True)
    state, _ = tell(words.Changed(), words.Changed(), words.WorkerReady(1))
    assert state.phase == words.Waiting(1)


def test_a_boot_that_hangs_is_restarted_by_a_save() -> None:
    state, commands = tell(words.TimerFired("hold", 1), words.Changed())
    assert state.phase == words.Stopping(1, "start")
    assert commands[0] == words.Stop(1, cut=True)


def test_undone_changes_call_a_reload_off() -> None:
    state, commands = tell(words.WorkerReady(1), words.Changed(), words.Cleared(1, 1), words.Unchanged())
    assert state.phase == words.Serving(1)
    assert commands[0] == words.OpenGate(1)


def died(generation: int, at: float) -> words.WorkerExited:
    """Killed while it served."""
    return words.WorkerExited(generation, events.Exit(signal=9), at, listened=True)


def test_deaths_are_answered_by_back_off_and_three_in_a_minute_by_waiting_for_a_save() -> None:
    first = (words.WorkerReady(1), died(1, 10.0))
    state, commands = tell(*first)
    assert state.phase == words.Resting(1)
    assert words.SetTimer("backoff", 0.25, 1) in commands
    second = (*first, words.TimerFired("backoff", 1), words.WorkerReady(2), died(2, 20.0))
    _, commands = tell(*second)
    assert words.SetTimer("backoff", 1.0, 2) in commands
    third = (*second, words.TimerFired("backoff", 2), words.WorkerReady(3))
    state, commands = tell(*third, died(3, 69.9))
    assert state.phase == words.Broken(3)
    assert words.Answer(on=True) in commands
    state, _ = tell(*third, died(3, 80.1))
    assert state.phase == words.Resting(3), "the first death is more than a minute ago"
    state, _ = tell(*third, died(3, 69.9), words.Changed())
    assert state.phase == words.Starting(4)


@pytest.mark.parametrize(
    ("ended", "code"),
    [(events.Exit(code=0), 0), (events.Exit(code=7), 7), (events.Exit(signal=15), 143)],
    ids=["0", "7", "SIGTERM"],
)
def test_without_reload_the_exit_code_is_the_workers(ended: events.Exit, code: int) -> None:
    state, _ = tell(words.WorkerReady(1), words.WorkerExited(1, ended, 0.0, listened=True), limits=words.Limits(reload="off"))
    assert state.phase == words.Over(code)


def test_a_program_that_ends_well_before_it_listens_is_done() -> None:
    state, _ = tell(words.WorkerExited(1, events.Exit(code=0), 0.0))
    assert state.phase == words.Over(0)


def test_a_failed_start_waits_for_a_save_and_exits_where_asked_to() -> None:
    failed = words.WorkerExited(1, events.Exit(code=1), 0.0)
    assert tell(failed)[0].phase == words.Broken(1)
    assert tell(failed, limits=words.Limits(exit_on_failure=True))[0].phase == words.Over(1)
    assert tell(words.Changed(), failed)[0].phase == words.Starting(2), "the save may have mended it"


def test_the_second_ctrl_c_kills() -> None:
    state, commands = tell(words.WorkerReady(1), words.StopAsked())
    assert state.phase == words.Stopping(1, "end")
    _, commands = tell(words.WorkerReady(1), words.StopAsked(), words.StopAsked())
    assert commands == [words.Kill(1)]


def test_ctrl_c_during_a_reload_ends_it_all() -> None:
    exited = words.WorkerExited(1, events.Exit(code=0), 0.0, listened=True)
    state, commands = tell(
        words.WorkerReady(1), words.Changed(), words.Cleared(1, 1), words.Drained(1, 1), words.StopAsked(), exited
    )
    assert (state.phase, commands) == (words.Over(0), [])


# -- two workers at once ----------------------------------------------------------------------------------------------

HANDOVER = words.Limits(reload="handover")
BESIDE = (words.WorkerReady(1), words.Changed())


def exited(generation: int, code: int = 0) -> words.WorkerExited:
    return words.WorkerExited(generation, events.Exit(code=code), 0.0, listened=True)


def test_a_program_that_is_over_makes_room_before_its_process_is_gone() -> None:
    stopping = (words.WorkerReady(1), words.Changed(), words.Cleared(1, 1), words.Drained(1, 1))
    state, commands = tell(*stopping, words.WorkerLeft(1))
    assert (state.phase, state.retiring) == (words.Starting(2), 1)
    assert commands[0] == words.Retire(1)
    assert words.SetTimer("retire", 5.0, 1, 1) in commands
    assert words.Spawn(2) in commands
    assert tell(*stopping, words.WorkerLeft(1), words.TimerFired("retire", 1, 1))[1] == [words.Kill(1)]
    assert tell(*stopping, words.WorkerLeft(1), exited(1))[0].retiring == 0


def test_the_end_of_all_waits_for_the_process() -> None:
    state, commands = tell(words.WorkerReady(1), words.StopAsked(), words.WorkerLeft(1))
    assert (state.phase, commands) == (words.Stopping(1, "end"), [])


def test_a_handover_starts_beside_and_retires_once_ready() -> None:
    state, commands = tell(*BESIDE, limits=HANDOVER)
    assert state.phase == words.Starting(2, before=1)
    assert words.Spawn(2) in commands
    assert not [each for each in commands if isinstance(each, words.Answer | words.Stop)]
    state, commands = tell(*BESIDE, words.WorkerReady(2), limits=HANDOVER)
    assert (state.phase, state.retiring) == (words.Serving(2), 1)
    order = [words.Retire(1), words.SetTimer("retire", 60.0, 1), words.OpenGate(2), words.Announce(2)]
    assert commands == order, "the old lets go before the new one is announced"


def test_a_retiring_worker_is_cut_at_its_limit_and_killed_after_that() -> None:
    story = (*BESIDE, words.WorkerReady(2), words.TimerFired("retire", 1))
    assert tell(*story, limits=HANDOVER)[1] == [words.Stop(1, cut=True), words.SetTimer("retire", 5.0, 1, 1)]
    assert tell(*story, words.TimerFired("retire", 1, 1), limits=HANDOVER)[1] == [words.Kill(1)]


def test_a_failed_newcomer_leaves_the_old_worker_serving() -> None:
    state, commands = tell(*BESIDE, exited(2, 1), limits=HANDOVER)
    assert (state.phase, commands) == (words.Serving(1), [])
    state, _ = tell(*BESIDE, exited(2, 1), words.Changed(), limits=HANDOVER)
    assert state.phase == words.Starting(3, before=1), "numbers are never used again"


def test_a_newcomer_that_is_outdated_when_ready_is_replaced_and_never_announced() -> None:
    state, commands = tell(*BESIDE, words.Changed(), words.WorkerReady(2), limits=HANDOVER)
    assert state.phase == words.Stopping(2, "start", before=1)
    assert words.Announce(2) not in commands
    state, _ = tell(*BESIDE, words.Changed(), words.WorkerReady(2), exited(2), limits=HANDOVER)
    assert state.phase == words.Starting(3, before=1)


def test_a_second_handover_waits_for_the_first_to_end_or_cuts_it_when_asked() -> None:
    story = (*BESIDE, words.WorkerReady(2), words.Changed())
    state, commands = tell(*story, limits=HANDOVER)
    assert (state.phase, commands) == (words.Serving(2, stale=True), [])
    assert tell(*story, exited(1), limits=HANDOVER)[0].phase == words.Starting(3, before=2)
    assert tell(*story, words.ReloadAsked(), limits=HANDOVER)[1] == [words.Stop(1, cut=True)]


def test_a_newcomer_that_is_never_ready_is_ended() -> None:
    _, commands = tell(*BESIDE, words.TimerFired("boot", 2), limits=HANDOVER)
    assert commands[1:] == [words.Kill(2)]


def test_the_old_worker_s_death_leaves_the_newcomer_alone() -> None:
    state, commands = tell(*BESIDE, died(1, 1.0), limits=HANDOVER)
    assert (state.phase, commands) == (words.Starting(2), [])


@pytest.mark.parametrize("ready", [True, False])
def test_ctrl_c_ends_both_and_then_devsup(ready: bool) -> None:
    story: tuple[words.Fact, ...] = (*BESIDE, *([words.WorkerReady(2)] if ready else []), words.StopAsked())
    state, commands = tell(*story, limits=HANDOVER)
    assert {words.Stop(2, cut=False, final=True), words.Retire(1, final=True)} <= set(commands)
    assert isinstance(tell(*story, exited(2), limits=HANDOVER)[0].phase, words.Stopping)
    assert tell(*story, exited(2), exited(1), limits=HANDOVER)[0].phase == words.Over(0)
    assert tell(*story, exited(1), exited(2), limits=HANDOVER)[0].phase == words.Over(0)
    assert state.retiring == 1


def test_a_doubted_failure_is_tried_again_at_once() -> None:
    doubted = words.WorkerExited(1, events.Exit(signal=11), 0.0, doubted=True)
    state, commands = tell(doubted)
    assert state.phase == words.Starting(2)
    assert words.Spawn(2) in commands
