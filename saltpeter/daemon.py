"""The daemon: builds every part, owns the outer nurseries, and leaves them in order."""

from __future__ import annotations

import gc
import logging
import os
import random
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from saltpeter import logs
from saltpeter.domain.config import Host
from saltpeter.domain.events import Configured
from saltpeter.domain.job import Config, Settings
from saltpeter.domain.state import State
from saltpeter.endpoints import readiness
from saltpeter.endpoints.auth import Gate
from saltpeter.endpoints.control import ControlEndpoint
from saltpeter.endpoints.hosts import own_names
from saltpeter.endpoints.http import Front
from saltpeter.endpoints.machines import MachinesEndpoint
from saltpeter.endpoints.metrics import Metrics
from saltpeter.endpoints.ports import Addresses, Listening, certificate, listening, most_strangers
from saltpeter.endpoints.pulse import Pulse
from saltpeter.endpoints.readiness import Check
from saltpeter.engine.audit import AUDIT_FILE, Audit
from saltpeter.engine.board import Board
from saltpeter.engine.clock import now, watch_steps
from saltpeter.engine.lag import LagWatch, watching
from saltpeter.engine.latecomers import Roster
from saltpeter.engine.launcher import Launcher
from saltpeter.engine.means import Means
from saltpeter.engine.people import TOKENS_FILE, TokenFile
from saltpeter.engine.record import Copies, Recorder, telling_of_the_store
from saltpeter.engine.recovery import remember, take_up
from saltpeter.engine.reload import Directory, Reloader, report
from saltpeter.engine.roster import Executions
from saltpeter.engine.runs import Runs
from saltpeter.engine.scheduler import Scheduler
from saltpeter.engine.storage import StoreHealth
from saltpeter.engine.tokens import Tokens, load_key
from saltpeter.launch.counted import CountedLauncher
from saltpeter.launch.local import LocalLauncher
from saltpeter.launch.salt import SaltLauncher
from saltpeter.logs import fields
from saltpeter.store.lives import live
from saltpeter.store.retention import Retention
from saltpeter.store.sqlite import open_store
from saltpeter.store.textlog import TextLogs
from sp_wrapper import __version__

log = logging.getLogger(__name__)

KEY_FILE = "wrapper-token.key"  # in the state directory
SESSION_KEY_FILE = "session.key"  # the same


async def run(directory: Path, host: Host, debug: bool = False) -> None:
    """Run in the foreground until SIGTERM or SIGINT. Raises SaltpeterError when it cannot start, or go on."""
    raise_file_limit()
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        daemon = Daemon(directory, host, debug)
        await nursery.start(_obey_signals, stop, daemon.reread)
        async with daemon.serving():
            await stop.wait()
            log.info("Stopping; what runs on the machines runs on", extra=fields("daemon.stopping"))
        log.info("Stopped", extra=fields("daemon.stopped"))
        nursery.cancel_scope.cancel()


def raise_file_limit() -> None:
    """Allow ourselves all the open files that we may have: each wrapper's connection is one, and 1024 is a usual limit.

    What is started on this host gets it too.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _obey_signals(
    stop: trio.Event, reread: Callable[[], None], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """SIGHUP reads conf.d again; SIGTERM and SIGINT stop in order, and the second time at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        task_status.started()
        async for number in received:
            if number == signal.SIGHUP:
                log.info("Reload asked for by SIGHUP", extra=fields("config.reload", by="SIGHUP"))
                reread()
            elif stop.is_set():
                os._exit(128 + number)
            else:
                stop.set()


@attrs.define(eq=False)
class Daemon:
    """One daemon, not yet running. `debug` adds to what conf.d says."""

    directory: Path
    host: Host
    debug: bool = False
    _reloader: Reloader | None = attrs.field(default=None, init=False)

    def reread(self) -> None:
        """Read conf.d again, soon."""
        if self._reloader is not None:
            self._reloader.reread()

    async def _reread_to_the_end(self) -> None:
        if self._reloader is not None:
            await self._reloader.reread_to_the_end()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Addresses]:
        """A running daemon. Leaving stops it in order: no more slots, the runs let go of, clients told, store closed.

        Raises ConfigError, StoreError, AddressInUse or LaunchError when it cannot start.
        """
        conf_d = Directory(str(self.directory), self.host, now)
        assembly = await trio.to_thread.run_sync(conf_d.load)
        settings = assembly.config.settings
        self._configure_logs(settings)
        report(assembly.config)
        tls = certificate(assembly.config)
        tokens = TokenFile(Path(settings.statedir) / TOKENS_FILE)
        board = Board(State(assembly.config))
        async with (
            open_store(Path(settings.statedir), __version__, now, telling_of_the_store(board, now)) as store,
            listening(settings, tokens, tls) as ports,
            trio.open_nursery() as services,
        ):
            text_logs, metrics, pulse = TextLogs(Path(settings.logdir)), Metrics(board, store.health), Pulse(now())
            await services.start(text_logs.run)
            launchers = await self._launchers(settings, services, metrics)
            means = Means(
                record=Recorder(store, board, Copies((text_logs, metrics, pulse)), metrics.committed),
                executions=Executions(),
                launchers=launchers,
                now=now,
                settings=lambda: board.state.config.settings,
                machines_url=ports.addresses.machines_url,
                chance=random.SystemRandom(),
                tokens=Tokens(await trio.to_thread.run_sync(load_key, Path(settings.statedir) / KEY_FILE)),
                allow_legacy=settings.allow_legacy_wrappers,
            )
            await services.start(live, store, now)
            await remember(store, board)
            async with trio.open_nursery() as runs_nursery:
                runs = Runs(means, runs_nursery, self._reread_to_the_end)
                scheduler = Scheduler(board, now, runs.due, runs.note, await store.last_slots())
                await take_up(store, board, runs)
                await trio.lowlevel.checkpoint()  # so that the runs have put down who may speak for them
                endpoint = MachinesEndpoint(Roster(means, store), now, settings.allow_legacy_wrappers)
                machines = endpoint.front(most_strangers())
                checks = _checks(board, store.health, launchers, ports.addresses)
                audit = Audit(Path(settings.statedir) / AUDIT_FILE)
                gate = await self._gate(board, tokens, ports, audit)
                told = (gate, checks, metrics.scrape, pulse, audit.note)
                controlled = ControlEndpoint(board, store, runs, __version__, now, *told)
                control = controlled.front(most_strangers())
                _observe(metrics, machines=machines, control=control)
                await services.start(gate.watch)
                await ports.serve(services, machines=machines, control=control)
                retention = Retention(lambda: board.state.config.settings.retention, store, now)
                await services.start(retention.serve)
                self._reloader = Reloader(conf_d, assembly, self._applier(board, scheduler, retention))
                await services.start(self._reloader.serve)
                services.start_soon(watch_steps, scheduler.stir, name="clock")
                runs_nursery.start_soon(scheduler.serve, name="scheduler")
                _tune_garbage_collection()
                log.info("Ready: %s", ports.addresses, extra=fields("daemon.ready", version=__version__))
                with watching(LagWatch(_both_told(metrics, pulse))):
                    yield ports.addresses
                runs_nursery.cancel_scope.cancel()
            services.cancel_scope.cancel()

    def _configure_logs(self, settings: Settings) -> None:
        logs.configure(debug=settings.debug or self.debug, format="json" if settings.log_format == "json" else "text")

    async def _gate(self, board: Board, tokens: TokenFile, ports: Listening, audit: Audit) -> Gate:
        statedir = Path(board.state.config.settings.statedir)
        key = await trio.to_thread.run_sync(load_key, statedir / SESSION_KEY_FILE)
        names = own_names(socket.gethostname())

        def required() -> bool:
            return ports.is_exposed or board.state.config.settings.require_tokens

        def hosts() -> Collection[str]:
            settings = board.state.config.settings
            return (*names, settings.api_ws_bind_addr, *settings.api_ws_hosts)

        return Gate(tokens, key, now, required, hosts, audit.note)

    def _applier(self, board: Board, scheduler: Scheduler, retention: Retention) -> Callable[[Config], None]:
        def apply(config: Config) -> None:
            before = board.state.config.settings
            self._configure_logs(config.settings)
            board.post(Configured(config=config, at=now()))
            scheduler.stir()
            if config.settings.retention != before.retention:
                retention.stir()

        return apply

    async def _launchers(self, settings: Settings, services: trio.Nursery, metrics: Metrics) -> dict[str, Launcher]:
        local = LocalLauncher(str(Path(settings.statedir) / "wrappers"))
        await services.start(local.serve)
        if settings.executor != "salt":
            return {"local": local}
        salt = SaltLauncher(settings.master_config, after_import=lambda: self._configure_logs(settings))
        await services.start(salt.serve)
        return {"local": local, "salt": CountedLauncher(salt, metrics.salt_failed)}


def _checks(
    board: Board,
    health: Callable[[], Awaitable[StoreHealth]],
    launchers: Mapping[str, Launcher],
    addresses: Addresses,
) -> dict[str, Check]:
    """What must hold for the daemon to be ready."""
    checks = {
        "config": readiness.of_config(board),
        "ports": readiness.always(str(addresses)),
        "store": readiness.of_store(health),
    }
    if "salt" in launchers:
        checks["salt"] = readiness.of_launcher(launchers["salt"], "the Salt master")
    return checks


def _both_told(metrics: Metrics, pulse: Pulse) -> Callable[[float], None]:
    """Of how long the loop has kept everybody waiting."""

    def lagged(seconds: float) -> None:
        metrics.lagged(seconds)
        pulse.lagged(seconds, now())

    return lagged


def _observe(metrics: Metrics, *, machines: Front, control: Front) -> None:
    metrics.version(__version__)
    metrics.gauge("saltpeter_wrappers_connected", "Connections of wrappers", lambda: machines.connected)
    metrics.gauge("saltpeter_clients_connected", "Clients of the control socket", lambda: control.connected)


def _tune_garbage_collection() -> None:
    """What is there now stays; with thousands of connections, frequent full passes would stop the loop for long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)
