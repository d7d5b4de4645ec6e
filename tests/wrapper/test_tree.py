from __future__ import annotations

import os
import signal

from sp_wrapper import tree
from sp_wrapper.tree import Proc, TreeKill

TERM, KILL, CONT = signal.SIGTERM, signal.SIGKILL, signal.SIGCONT


def proc(pid: int, parent: int = 1, state: str = "S", session: int = 5) -> Proc:
    return Proc(pid, parent, f"p{pid}", state, pid * 10, session, 0.0, 0)


class Machine:
    """Processes that end on the signals that are listed for them, and those that ignore all."""

    def __init__(self, *procs: Proc, obeys: dict[int, set[int]]) -> None:
        self.procs = {proc.pid: proc for proc in procs}
        self.obeys = obeys
        self.sent: list[tuple[int, int]] = []

    def scan(self) -> list[Proc]:
        return list(self.procs.values())

    def send(self, pid: int, signum: int) -> None:
        self.sent.append((pid, signum))
        if signum in self.obeys.get(pid, set()):
            self.procs.pop(pid, None)


def run(machine: Machine, first: int = TERM, force_at: float = 5.0) -> tuple[TreeKill, float]:
    """Step every tenth of a second until it is over. Answers when that was."""
    kill, now = TreeKill(machine.scan, machine.send, first, force_at), 0.0
    while not kill.step(now):
        now = round(now + 0.1, 1)
    return kill, now


def test_what_obeys_ends_at_once() -> None:
    machine = Machine(proc(10), proc(11, 10), obeys={10: {TERM}, 11: {TERM}})
    kill, at = run(machine)
    assert at <= 0.2
    assert machine.sent == [(10, TERM), (11, TERM)]
    both = [{"pid": 10, "name": "p10"}, {"pid": 11, "name": "p11"}]
    assert kill.receipt() == {"signalled": both, "ended": both, "survived": []}


def test_what_does_not_is_forced_after_the_grace() -> None:
    machine = Machine(proc(10), obeys={10: {KILL}})
    _, at = run(machine)
    assert machine.sent == [(10, TERM), (10, KILL)]
    assert 5.0 <= at <= 5.2


def test_what_survives_is_named_with_its_state() -> None:
    machine = Machine(proc(10, state="D"), obeys={})
    kill, at = run(machine)
    assert at == 6.0
    assert kill.receipt()["survived"] == [{"pid": 10, "name": "p10", "state": "D"}]
    assert kill.receipt()["ended"] == []


def test_what_appears_meanwhile_is_ended_too() -> None:
    machine = Machine(proc(10), obeys={10: {TERM}, 12: {TERM}})
    kill = TreeKill(machine.scan, machine.send, TERM, 5.0)
    kill.step(0.0)
    machine.procs[12] = proc(12)
    assert not kill.step(0.1)
    assert machine.sent[-1] == (12, TERM)


def test_a_stopped_process_is_woken_to_hear_the_signal() -> None:
    machine = Machine(proc(10, state="T"), obeys={10: {CONT}})
    run(machine)
    assert machine.sent == [(10, TERM), (10, CONT)]


def test_kill_as_the_first_signal_waits_for_nothing() -> None:
    machine = Machine(proc(10), obeys={10: {KILL}})
    _, at = run(machine, first=KILL)
    assert at <= 0.2
    assert machine.sent == [(10, KILL)]


def test_asked_again_with_less_patience() -> None:
    machine = Machine(proc(10), obeys={10: {KILL}})
    kill = TreeKill(machine.scan, machine.send, TERM, 60.0)
    kill.step(0.0)
    kill.hurry(1.0)
    kill.hurry(30.0)
    kill.step(1.0)
    assert machine.sent[-1] == (10, KILL)


def test_a_name_may_hold_anything() -> None:
    found = tree.parse_stat("7 (a) b (c) S 3 7 9 0 -1 0 0 0 0 0 100 50 0 0 20 0 1 0 4242 0 2 0")
    assert (found.pid, found.name, found.parent, found.session, found.start) == (7, "a) b (c", 3, 9, 4242)
    assert found.rss == 2 * os.sysconf("SC_PAGE_SIZE")
    assert found.cpu_s == 150 / os.sysconf("SC_CLK_TCK")


def test_the_tree_is_everything_below_but_the_wrappers_own_and_the_dead() -> None:
    procs = [
        proc(2, 1, session=2),
        proc(3, 2, session=2),
        proc(4, 2),
        proc(5, 4),
        proc(6, 5, "Z"),
        proc(7, 6),
        proc(9, 8),
    ]
    assert [found.pid for found in tree.below(2, procs, own_session=2)] == [4, 5, 7]


def test_we_see_ourselves() -> None:
    me = tree.look(os.getpid())
    assert me is not None
    assert me.parent == os.getppid()
    assert me.rss > 0
    assert me in [proc._replace(cpu_s=me.cpu_s, rss=me.rss, state=me.state) for proc in tree.everything()]
    assert tree.look(2**22 + 1) is None
