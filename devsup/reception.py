"""What agents say, and what it means for the supervisor: one method per message."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import anyio

from devsup import events
from devsup.decide import vocabulary as words
from devsup.errors import DevsupError
from devsup.system.link import adopt
from devsup.system.listener import Address

if TYPE_CHECKING:
    from devsup.current import Current
    from devsup.guard import Guard, TakenError
    from devsup.learned import Learned
    from devsup.supervisor import Supervisor
    from devsup.system.link import Link, LinkServer, Message


class Reception:
    """Takes the messages of all links of one service; what a worker says that is gone is dropped."""

    def __init__(self, supervisor: Supervisor, links: LinkServer, learned: Learned, guard: Guard) -> None:
        self._supervisor, self._learned, self._guard = supervisor, learned, guard
        links.on_hello, links.on_end, links.on_message = self.hello, self.end, self.message

    async def hello(self, link: Link) -> None:
        """A process of a worker has an agent, or a fork server is there."""
        worker = self._supervisor.workers.get(link.generation)
        if not link.generation:
            self._supervisor.forks.hello(link)
        elif worker is not None:
            await worker.started.wait()  # a fork may be quicker than the word of it
            if worker.handle is not None:
                worker.handle.links.append(link)
                self._tell_settings(link)

    def end(self, link: Link) -> None:
        """A process is gone, or has closed its link."""
        self._supervisor.forks.end(link)
        worker = self._supervisor.workers.get(link.generation)
        self._supervisor.hangs.gone(link)
        if worker is not None and worker.handle is not None and link in worker.handle.links:
            worker.handle.links.remove(link)
            if link.prompts or link.debugged:
                self._pause()
            if link.awaits is not None:
                self._supervisor.said(link.awaits[0], link, link.awaits[1].round)

    def message(self, link: Link, message: Message, fds: list[int]) -> None:
        """Do what one message asks for."""
        if not link.generation:
            self._supervisor.forks.message(link, message)
        elif link.generation in self._supervisor.workers:
            handler = getattr(self, f"_on_{message['op']}", None)
            if handler is not None:
                fds = handler(link, message, fds) or []
        for fd in fds:
            os.close(fd)

    def _worker(self, link: Link) -> Current:
        return self._supervisor.workers[link.generation]

    def _tell_settings(self, link: Link) -> None:
        self._soon(
            link,
            "settings",
            **self._supervisor.plan.settings,
            learned=self._learned.decisions(),
            daemons=self._learned.facts.daemons,
        )

    def _soon(self, link: Link, op: str, fds: tuple[int, ...] = (), **fields: Any) -> None:
        async def send() -> None:
            await link.send(op, fds, **fields)

        self._supervisor.tasks.start_soon(send)

    def _reply_held(self, link: Link, message: Message) -> None:
        """Tell a process that is about to accept whether it may; true when it is sent, in the order of the commands."""

        async def send() -> None:
            await link.send("reply", id=message["id"], held=self._supervisor.holds(link.generation))

        self._supervisor.tasks.start_soon(send)

    def _on_intends(self, link: Link, message: Message, _fds: list[int]) -> None:
        if message["port"]:
            self._worker(link).intended = (str(message["host"]), int(message["port"]))

    def _on_claim(self, link: Link, message: Message, _fds: list[int]) -> None:
        """A bind found its address taken: by our own listener, by our own claim, or by a stranger."""
        address = Address(message["family"], message["host"], message["port"])
        kept = self._supervisor.listeners.adopt(address, link.generation, message["place"])
        if kept is not None:
            self._worker(link).listened = True
            self._soon(link, "reply", (kept.sock.fileno(),), id=message["id"], backlog=kept.backlog)
        elif not address.port or self._supervisor.listeners.release(address):
            self._soon(link, "reply", id=message["id"], released=True)
        else:
            self._supervisor.tasks.start_soon(self._name_holder, link, message["id"], address)

    def _on_unserved(self, link: Link, message: Message, _fds: list[int]) -> None:
        """A program asks whether a connection to this address would wait for a worker that has not come yet."""
        unserved = self._supervisor.listeners.is_unserved(message["host"], message["port"], link.generation)
        self._soon(link, "reply", id=message["id"], unserved=unserved)

    async def _name_holder(self, link: Link, key: int, address: Address) -> None:
        taken = await self._guard.taken(address)
        if taken is not None and await self._took_over(taken):
            await link.send("reply", id=key, released=True)
            return
        self._refuse(link, taken)
        if taken is None:
            found = "this very program"
        else:
            found = taken.listeners[0].describe() if taken.listeners else "a process that cannot be seen from here"
        await link.send("reply", id=key, holder=found)

    async def _took_over(self, taken: TakenError) -> bool:
        """Whether who held the port is ended: an older copy of the command, where that was asked for."""
        if not (self._supervisor.plan.take_over and taken.is_copy):
            return False
        from devsup import take_over  # noqa: PLC0415 - 30 ms that few need

        try:
            await anyio.to_thread.run_sync(take_over.from_strangers, taken)
        except DevsupError as exc:
            self._supervisor.bus.publish(events.Trouble(text=str(exc)))
            return False
        return True

    def _refuse(self, link: Link, taken: TakenError | None) -> None:
        """A first start comes to nothing where somebody is in its way, unless it can do without that address."""
        current = self._supervisor.workers.get(link.generation)  # it may be gone by now
        if taken is not None and current is not None and link.generation == 1 and not current.listened and current.ready is None:
            current.refused = events.Refused(problem=taken.problem, remedy=taken.remedy, code=taken.exit_code, taken=True)

    def _on_listening(self, link: Link, message: Message, fds: list[int]) -> list[int]:
        sock = adopt(fds.pop(0), message["family"])
        where = Address(message["family"], *sock.getsockname()[:2])
        place = message["place"] or self._worker(link).places.get(where, "")
        address, is_new = self._supervisor.listeners.keep(sock, message["backlog"], link.generation, place)
        worker = self._worker(link)
        is_first, worker.listened, worker.refused = not worker.listened, True, None
        link.listens = not message["manages"]
        if is_new:  # else another process of the worker serves it too
            self._supervisor.bus.publish(events.ListenerKept(url=address.url))
        if link.generation == 1 and is_first:
            self._supervisor.tasks.start_soon(self._allow, link, message, address)
        else:
            self._reply_held(link, message)
        return fds

    async def _allow(self, link: Link, message: Message, address: Address) -> None:
        """The program waits in its first `listen` until it is known that nobody listens beside it."""
        taken, worker = await self._guard.taken(address), self._supervisor.workers.get(link.generation)
        if taken is not None and worker is not None and not await self._took_over(taken):
            worker.refused = events.Refused(problem=taken.problem, remedy=taken.remedy, code=taken.exit_code)
            self._supervisor.bus.publish(worker.refused)
            self._supervisor.put(words.StopAsked())
        self._reply_held(link, message)

    def _on_bound(self, link: Link, message: Message, _fds: list[int]) -> None:
        self._worker(link).places[Address(message["family"], message["host"], message["port"])] = message["place"]

    def _on_private(self, link: Link, message: Message, _fds: list[int]) -> None:
        self._worker(link).private.add(Address(message["family"], message["host"], message["port"]))

    def _on_ready(self, link: Link, message: Message, _fds: list[int]) -> None:
        link.serves, link.listens, link.adopts = True, False, message["adopts"]
        self._reply_held(link, message)
        self._supervisor.listeners.secure(message["secure"])
        self._supervisor.tasks.start_soon(self._become_ready, self._worker(link), link, message)

    def _on_reader(self, link: Link, message: Message, _fds: list[int]) -> None:
        link.thread = message["thread"]

    def _on_beat(self, link: Link, message: Message, _fds: list[int]) -> None:
        self._supervisor.hangs.beat(link, message)

    def _on_raised(self, link: Link, message: Message, _fds: list[int]) -> None:
        self._supervisor.unhandled.tell(link.generation, message)

    def _on_loaded(self, link: Link, message: Message, _fds: list[int]) -> None:
        self._worker(link).loaded = True
        self._supervisor.reloads.mark("imported", message["at"])

    def _on_answered(self, link: Link, message: Message, _fds: list[int]) -> None:
        self._supervisor.reloads.answered(link.generation, message["at"])

    async def _become_ready(self, worker: Current, link: Link, message: Message) -> None:
        await self._supervisor.joins(link)
        await self._learned_of(link, message)
        if worker.handle is not None and link.pid == worker.handle.pid:
            self._supervisor.forks.prepare(link)
        if not (message["aside"] and self._has_more_to_come(worker)):
            self._supervisor.ready(worker, message["server"], link.python, [], message["routes"])

    def _on_connections(self, _link: Link, _message: Message, fds: list[int]) -> list[int]:
        self._supervisor.front.keep(fds)
        return []

    def _on_over(self, link: Link, message: Message, _fds: list[int]) -> None:
        if message["alone"]:
            self._supervisor.tasks.start_soon(self._supervisor.over, link)

    def _has_more_to_come(self, current: Current) -> bool:
        """Whether the address that the program means to serve is not there yet: what serves aside is its metrics or such."""
        kept = self._supervisor.listeners.kept.items()
        return current.intended is not None and not any(
            address.port == current.intended[1] and held.generation == current.generation for address, held in kept
        )

    def _on_served(self, link: Link, _message: Message, _fds: list[int]) -> None:
        link.serves = link.listens = False
        self._supervisor.tasks.start_soon(self._supervisor.wake_sleeper, self._worker(link), link)

    def _on_files(self, link: Link, message: Message, _fds: list[int]) -> None:
        self._supervisor.tasks.start_soon(self._learned_of, link, message)

    async def _learned_of(self, link: Link, message: Message) -> None:
        await self._supervisor.changes.learned(link.generation, link.pid, message["paths"], message["packages"])

    def _on_clear(self, link: Link, message: Message, _fds: list[int]) -> None:
        self._supervisor.said("drain", link, message["seq"])

    def _on_drained(self, link: Link, message: Message, _fds: list[int]) -> None:
        self._supervisor.said("close_gate", link, message["seq"])

    def _on_prompt(self, link: Link, message: Message, _fds: list[int]) -> None:
        link.prompts = bool(message["on"])
        self._pause()

    def _on_debugger(self, link: Link, message: Message, _fds: list[int]) -> None:
        link.debugged = bool(message["on"])
        self._pause()

    def _pause(self) -> None:
        """While somebody looks at the program, no limit counts; while it reads from the terminal, the keys are its own."""
        handle = self._supervisor.current.handle
        before, prompts = self._supervisor.terminal.prompting, handle is not None and any(link.prompts for link in handle.links)
        self._supervisor.terminal.prompting = prompts
        if prompts != before:
            self._supervisor.bus.publish(events.Prompting(on=prompts))
        handles = [worker.handle for worker in self._supervisor.workers.values() if worker.handle is not None]
        self._supervisor.put(words.Prompted(any(each.is_debugged() for each in handles)))

    def _on_lost(self, link: Link, message: Message, _fds: list[int]) -> None:
        fields = {key: message[key] for key in ("name", "age", "detail", "origin", "count") if key in message}
        self._supervisor.bus.publish(events.WorkLost(generation=link.generation, **fields))

    def _on_daemon(self, _link: Link, message: Message, _fds: list[int]) -> None:
        if self._learned.daemon(message["target"]):
            self._supervisor.bus.publish(events.DaemonLearned(name=message["name"], origin=message["origin"]))

    def _on_stream(self, link: Link, message: Message, _fds: list[int]) -> None:
        current, route = self._supervisor.current, message["route"]
        served = time.monotonic() - current.ready if current.ready is not None else 0.0
        if self._learned.stream(route, message["what"], message["age"], link.generation, served):
            decision = self._learned.decisions()[route]
            self._supervisor.bus.publish(events.StreamLearned(route=route, decision=decision))
            for each in current.handle.links if current.handle is not None else ():
                self._tell_settings(each)

    def _on_reloader(self, _link: Link, message: Message, _fds: list[int]) -> None:
        self._supervisor.changes.follow(message["dirs"], message["includes"], message["excludes"])
        if self._supervisor.current.generation == 1:
            self._supervisor.bus.publish(events.ReloaderOff(name=message["name"]))

    def _on_usage(self, _link: Link, message: Message, _fds: list[int]) -> None:
        problem, remedy = message["problem"], message["remedy"]
        if self._supervisor.current.generation == 1:
            self._supervisor.current.refused = events.Refused(problem=problem, remedy=remedy, code=2)
        else:  # it ran before: a save can mend it
            self._supervisor.bus.publish(events.Trouble(text=f"{problem} {remedy}"))

    def _on_browser(self, _link: Link, message: Message, _fds: list[int]) -> None:
        self._supervisor.bus.publish(events.BrowserNotOpened(url=message["url"]))

    def _on_trouble(self, _link: Link, message: Message, _fds: list[int]) -> None:
        self._supervisor.bus.publish(events.Trouble(text=message["text"]))
