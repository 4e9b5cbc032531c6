"""Loops of the app's own making end; a person who saves, however often, is never taken for one."""

from __future__ import annotations

import random

import pytest

from devsup.decide import flapping


class Service:
    """Generations by the clock, as the watch drives them: a reload follows each change, unless it has to pause."""

    def __init__(self, boot: float, *, wrote: bool | None = None) -> None:
        self.wrote = wrote
        self.boot, self.now, self.generation, self.spawned = boot, 100.0, 1, 90.0
        self.write: flapping.Write | None = None
        self.reload_at: float | None = None
        self.reloads = 0
        self.suspended = False

    @property
    def ready(self) -> float:
        return self.spawned + self.boot

    def advance(self, to: float) -> None:
        if self.reload_at is not None and self.reload_at <= to:
            self.generation, self.spawned, self.reload_at = self.generation + 1, self.reload_at, None
            self.reloads += 1
        self.now = to

    def change(self) -> None:
        """The file has other content now."""
        if self.now > self.ready + flapping.START:
            self.write, pause = None, 0.0
        else:
            self.write = flapping.add_write(self.write, self.generation, self.now - self.spawned)
            found = flapping.pause(self.write, self.wrote)
            if found is None:
                self.suspended = True
                return
            pause = found
        self.reload_at = max(self.now, self.ready + pause if pause else self.ready)


@pytest.mark.parametrize("boot", [0.2, 1.0, 10.0])
@pytest.mark.parametrize("part", [0.1, 0.9, 1.0])
@pytest.mark.parametrize(("wrote", "most"), [(True, 3), (None, 6)])
def test_what_an_app_writes_at_each_start_is_suspended_soon(boot: float, part: float, most: int, *, wrote: bool | None) -> None:
    rng, service = random.Random(boot + part), Service(boot, wrote=wrote)
    service.change()
    while not service.suspended:
        assert service.reload_at is not None
        service.advance(service.reload_at)
        service.advance(service.spawned + boot * part * rng.uniform(0.97, 1.03))
        service.change()
        assert service.reloads <= most


@pytest.mark.parametrize("boot", [0.2, 0.5, 1.0, 3.0, 10.0])
def test_a_person_who_saves_often_is_never_suspended(boot: float) -> None:
    for seed in range(200):
        rng, service = random.Random(seed), Service(boot)
        pace = rng.uniform(0.3, 4.0)
        for _ in range(100):
            service.advance(service.now + pace * rng.uniform(0.5, 1.5))
            service.change()
        assert not service.suspended, f"seed {seed}, every {pace:.1f} s"


@pytest.mark.parametrize("boot", [0.2, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("every", [0.1, 0.3, 0.5, 0.7, 1.0, 1.1, 1.3, 1.7, 2.0, 2.5, 3.0])
def test_nor_is_a_metronome(boot: float, every: float) -> None:
    service = Service(boot)
    for _ in range(200):
        service.advance(service.now + every)
        service.change()
    assert not service.suspended


def test_a_program_that_saves_as_soon_as_the_new_code_serves_never_waits() -> None:
    service = Service(0.3, wrote=False)
    for _ in range(100):
        service.change()
        assert service.reload_at == max(service.now, service.ready)
        service.advance(service.reload_at)
        service.advance(service.ready)
    assert service.reloads == 100


def test_a_row_ends_with_a_generation_without_the_write_and_its_likeness_with_one_elsewhere() -> None:
    write = None
    for generation in (1, 2, 3):
        write = flapping.add_write(write, generation, 0.5)
    assert write == flapping.Write(3, 0.5, 3, 3)
    assert flapping.add_write(write, 3, 0.9) == write
    assert flapping.add_write(write, 5, 0.5) == flapping.Write(5, 0.5)
    assert flapping.add_write(write, 4, 1.5) == flapping.Write(4, 1.5, 4, 1)
    assert flapping.add_write(write, 4, 0.6) == flapping.Write(4, 0.6, 4, 4)


def test_three_crashes_within_a_minute_are_a_loop() -> None:
    crashes: tuple[float, ...] = ()
    for at in (0.0, 50.0, 61.0):
        crashes = flapping.add(crashes, at)
    assert crashes == (50.0, 61.0)
    assert not flapping.is_loop(crashes)
    assert flapping.is_loop(flapping.add(crashes, 62.0))
