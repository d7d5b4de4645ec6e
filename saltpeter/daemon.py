"""The daemon: builds every part, owns the outer nurseries, and leaves them in order."""

from __future__ import annotations

import gc
import logging
import os
import random
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from saltpeter import logs
from saltpeter.domain.config import Assembly, Host
from saltpeter.domain.events import Configured
from saltpeter.domain.job import Config, Settings
from saltpeter.domain.outcome import LEASE_S
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
from saltpeter.engine.clock import Alarm, now
from saltpeter.engine.departures import Departures
from saltpeter.engine.lag import LagWatch, watching
from saltpeter.engine.latecomers import Roster
from saltpeter.engine.launcher import Launcher
from saltpeter.engine.leases import Leases
from saltpeter.engine.means import Means
from saltpeter.engine.people import TOKENS_FILE, TokenFile
from saltpeter.engine.record import Observers, Recorder, telling_of_the_store
from saltpeter.engine.recovery import remember, take_up
from saltpeter.engine.reload import Directory, Reloader, report
from saltpeter.engine.roster import Executions
from saltpeter.engine.runs import Runs
from saltpeter.engine.scheduler import Scheduler
from saltpeter.engine.tokens import Tokens, load_key
from saltpeter.launch.counted import CountedLauncher
from saltpeter.launch.local import LocalLauncher
from saltpeter.launch.salt import SaltLauncher
from saltpeter.logs import fields
from saltpeter.store.diary import live
from saltpeter.store.places import SESSION_KEY_FILE
from saltpeter.store.retention import Retention
from saltpeter.store.sqlite import SqliteStore, open_store
from sp_wrapper import __version__

log = logging.getLogger(__name__)

KEY_FILE = "wrapper-token.key"  # in the state directory
MOST_CLIENTS = 1024  # whom nobody knows yet: people are fewer than machines, and may say more before that


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


@attrs.frozen(kw_only=True, eq=False)
class Ground:
    """What a daemon stands on: what it has read and opened, and the nursery of its services."""

    conf_d: Directory
    assembly: Assembly
    tokens: TokenFile
    board: Board
    store: SqliteStore
    ports: Listening
    services: trio.Nursery
    metrics: Metrics
    pulse: Pulse

    @property
    def settings(self) -> Settings:
        """Those in force; conf.d may change them."""
        return self.board.state.config.settings

    def of_state(self, name: str) -> Path:
        """A file in the state directory."""
        return Path(self.settings.statedir) / name


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
        async with self._standing() as ground:
            means = await self._means(ground)
            await ground.services.start(live, ground.store, now)
            await remember(ground.store, ground.board)
            async with trio.open_nursery() as runs_nursery:
                await runs_nursery.start(means.departures.serve)
                runs_nursery.start_soon(means.leases.serve, name="leases")
                runs = Runs(means, runs_nursery, self._reread_to_the_end)
                last_slots = await ground.store.last_slots()
                scheduler = Scheduler(ground.board, now, runs.due, runs.note, last_slots)
                await take_up(ground.store, ground.board, runs)
                await trio.lowlevel.checkpoint()  # so that the runs have put down who may speak for them
                await _open_doors(ground, means, runs)
                await self._keep_current(ground, scheduler)
                runs_nursery.start_soon(scheduler.serve, name="scheduler")
                _tune_garbage_collection()
                log.info("Ready: %s", ground.ports.addresses, extra=fields("daemon.ready", version=__version__))
                with watching(LagWatch(_both_told(ground.metrics, ground.pulse))):
                    yield ground.ports.addresses
                runs_nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def _standing(self) -> AsyncIterator[Ground]:
        """Read conf.d, open the store, bind the ports. Leaving ends the services and closes what was opened."""
        conf_d = Directory(str(self.directory), self.host, now)
        assembly = await trio.to_thread.run_sync(conf_d.load)
        settings = assembly.config.settings
        self._configure_logs(settings)
        report(assembly.config)
        tls = certificate(assembly.config)
        tokens = TokenFile(Path(settings.statedir) / TOKENS_FILE)
        board = Board(State(assembly.config))
        fares = telling_of_the_store(board, now)
        async with (
            open_store(Path(settings.statedir), __version__, now, fares, Path(settings.logdir)) as store,
            listening(settings, tokens, tls) as ports,
            trio.open_nursery() as services,
        ):
            yield Ground(
                conf_d=conf_d,
                assembly=assembly,
                tokens=tokens,
                board=board,
                store=store,
                ports=ports,
                services=services,
                metrics=Metrics(board, store.health),
                pulse=Pulse(now()),
            )
            services.cancel_scope.cancel()

    def _configure_logs(self, settings: Settings) -> None:
        logs.configure(debug=settings.debug or self.debug, format="json" if settings.log_format == "json" else "text")

    async def _means(self, ground: Ground) -> Means:
        """What the runs work with: the record of them, and the ways to machines."""
        observers = Observers((ground.metrics, ground.pulse))
        return Means(
            record=Recorder(ground.store, ground.board, observers, ground.metrics.committed),
            executions=Executions(),
            departures=Departures(),
            leases=Leases(LEASE_S),
            launchers=await self._launchers(ground),
            now=now,
            settings=lambda: ground.settings,
            machines_url=ground.ports.addresses.machines_url,
            chance=random.SystemRandom(),
            tokens=Tokens(await trio.to_thread.run_sync(load_key, ground.of_state(KEY_FILE))),
            allow_legacy=ground.settings.allow_legacy_wrappers,
        )

    async def _launchers(self, ground: Ground) -> dict[str, Launcher]:
        settings = ground.settings
        local = LocalLauncher(str(ground.of_state("wrappers")))
        await ground.services.start(local.serve)
        if settings.executor != "salt":
            return {"local": local}
        salt = SaltLauncher(settings.master_config, after_import=lambda: self._configure_logs(settings))
        await ground.services.start(salt.serve)
        return {"local": local, "salt": CountedLauncher(salt, ground.metrics.salt_failed)}

    async def _keep_current(self, ground: Ground, scheduler: Scheduler) -> None:
        """Forget what is old, follow what is written in conf.d, and heed the clock."""
        retention = Retention(lambda: ground.settings.retention, ground.store, now)
        await ground.services.start(retention.serve)

        def apply(config: Config) -> None:
            before = ground.settings.retention
            self._configure_logs(config.settings)
            ground.board.post(Configured(config=config, at=now()))
            scheduler.stir()
            if config.settings.retention != before:
                retention.stir()

        self._reloader = Reloader(ground.conf_d, ground.assembly, apply)
        await ground.services.start(self._reloader.serve)
        alarm = Alarm(scheduler.stir)
        scheduler.wake_me_at = alarm.set
        ground.services.start_soon(alarm.serve, name="clock")


async def _open_doors(ground: Ground, means: Means, runs: Runs) -> None:
    """Let wrappers and clients in."""
    machines = MachinesEndpoint(Roster(means, ground.store), now, means.allow_legacy).front(most_strangers())
    audit = Audit(ground.of_state(AUDIT_FILE))
    gate = await _gate(ground, audit)
    told = (gate, _checks(ground, means.launchers), ground.metrics.scrape, ground.pulse, audit)
    controlled = ControlEndpoint(ground.board, ground.store, runs, __version__, now, *told)
    control = controlled.front(min(most_strangers(), MOST_CLIENTS))
    _observe(ground.metrics, machines=machines, control=control)
    await ground.services.start(gate.watch)
    await ground.ports.serve(ground.services, machines=machines, control=control)


async def _gate(ground: Ground, audit: Audit) -> Gate:
    key = await trio.to_thread.run_sync(load_key, ground.of_state(SESSION_KEY_FILE))
    names = own_names(socket.gethostname())

    def required() -> bool:
        return ground.ports.is_exposed or ground.settings.require_tokens

    def hosts() -> Collection[str]:
        return (*names, ground.settings.api_ws_bind_addr, *ground.settings.api_ws_hosts)

    return Gate(ground.tokens, key, now, required, hosts, audit.note)


def _checks(ground: Ground, launchers: Mapping[str, Launcher]) -> dict[str, Check]:
    """What must hold for the daemon to be ready."""
    checks = {
        "config": readiness.of_config(ground.board),
        "ports": readiness.always(str(ground.ports.addresses)),
        "store": readiness.of_store(ground.store.health),
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
    """What is there now stays. Young objects are looked at now and then; with thousands of
    connections a full pass would stop the loop for a second, and finds nothing: what ends leaves no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 1_000, 1_000)
