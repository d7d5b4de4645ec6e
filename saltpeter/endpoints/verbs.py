"""What can be asked of the daemon over its control socket: a frozen class for each request. No IO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, Union

import attrs

from saltpeter.endpoints.forms import (
    ANY_TEXT,
    COUNT,
    FLAG,
    GRAIN,
    ID,
    NAMES,
    RUN,
    SECONDS,
    SIGNAL,
    SOME,
    TEXT,
    TIME,
    BadRequest,
    Given,
    Kind,
    Moment,
    RequestId,
    just_true,
    one_of,
    record,
    whole,
)

MAX_RUNS = 1000
MAX_SLOTS = 1000  # of one request that counts
MAX_LATEST = 100  # runs of each job
MAX_MACHINES = 1000  # of a matrix
MAX_PIECES = 64  # of up to 64 KiB each

JobName: TypeAlias = Annotated[str, Given("cron", TEXT)]
AnyJob: TypeAlias = Annotated[str | None, Given("cron", TEXT)]
Machine: TypeAlias = Annotated[str, Given("machine", TEXT)]
AnyMachine: TypeAlias = Annotated[str | None, Given("machine", TEXT)]
SomeMachines: TypeAlias = Annotated[tuple[str, ...] | None, Given("machines", SOME, single="machine")]
RunId: TypeAlias = Annotated[str, Given("job_instance", TEXT)]
AnyRun: TypeAlias = Annotated[str | None, Given("job_instance", RUN)]
NOW = Moment()


@attrs.frozen
class Run:
    """Start `job` now, on all its targets or on those of them that are `machines`."""

    job: JobName
    machines: Annotated[tuple[str, ...] | None, Given("machines", NAMES)] = None


@attrs.frozen
class Kill:
    """End the runs of `job`: all or `instance`, on every machine or on `machines`.

    `signal` and `grace_s` take the place of the job's own.
    """

    job: JobName
    machines: SomeMachines = None
    instance: AnyRun = None
    signal: Annotated[str | None, Given("signal", SIGNAL)] = None
    grace_s: Annotated[float | None, Given("grace", SECONDS)] = None


@attrs.frozen
class Signal:
    """Send `signal` to the commands of `job`; STOP pauses them and CONT lets them go on."""

    job: JobName
    signal: Annotated[str, Given("signal", SIGNAL)]
    machines: SomeMachines = None
    instance: AnyRun = None


@attrs.frozen
class Hello:
    """Speak protocol `protocol`. `life` and `serial` are those of what the client knows already, from before.

    `listen`: to all that changes; else only to jobs that it subscribes to.
    """

    protocol: Annotated[int, Given("protocol", whole(1, 2))]
    life: Annotated[str | None, Given("life", TEXT)] = None
    serial: Annotated[int | None, Given("serial", COUNT)] = None
    listen: Annotated[bool, Given("listen", FLAG)] = True


@attrs.frozen
class Subscription:
    """Details and output of `job`: of `instance`, or of whichever run is the newest.

    `machine` narrows the output to it; from `position` on, in UTF-16 code units. Without `output` none is wanted.
    `serial` is that up to which the client knows the details of `instance`, from before.
    """

    job: JobName
    machine: AnyMachine = None
    instance: AnyRun = None
    position: Annotated[int, Given("position", COUNT)] = 0
    output: Annotated[bool, Given("output", FLAG)] = True
    serial: Annotated[int | None, Given("serial", COUNT)] = None


@attrs.frozen
class Subscribe:
    subscriptions: tuple[Subscription, ...]


@attrs.frozen
class Unsubscribe:
    jobs: tuple[str, ...]


@attrs.frozen
class Leave:
    """No more output of `machine`; of the job it is told all the same."""

    job: JobName
    machine: Machine


@attrs.frozen
class Acknowledge:
    """The client has the output of `job` on `machine` up to `position`, in UTF-16 code units."""

    job: JobName
    machine: Machine
    position: Annotated[int, Given("position", COUNT)]


@attrs.frozen
class GetRuns:
    """Runs that started in [since, until), newest first. `failed`: only those that did, or only those that did not."""

    job: AnyJob = None
    since: Annotated[Moment | None, Given("since", TIME)] = None
    until: Annotated[Moment | None, Given("until", TIME)] = None
    failed: Annotated[bool | None, Given("failed", FLAG)] = None
    limit: Annotated[int, Given("limit", whole(1, MAX_RUNS))] = 100


@attrs.frozen
class GetRun:
    """All that is known of one run."""

    instance: RunId


@attrs.frozen
class GetLatest:
    """The newest runs of each of `jobs`, and how long each usually takes."""

    jobs: Annotated[tuple[str, ...], Given("crons", NAMES)]
    count: Annotated[int, Given("count", whole(1, MAX_LATEST))] = 20


@attrs.frozen
class GetMatrix:
    """How the newest `count` runs of `job` ended on its machines, those first that failed most often."""

    job: JobName
    count: Annotated[int, Given("count", whole(1, MAX_LATEST))] = 20
    machines: Annotated[int, Given("machines", whole(1, MAX_MACHINES))] = 200


@attrs.frozen
class GetPassed:
    """The newest slots of `job` that did not run, and why."""

    job: JobName
    limit: Annotated[int, Given("limit", whole(1, MAX_RUNS))] = 20


@attrs.frozen
class GetAlike:
    """Which machines of a run wrote the same."""

    instance: RunId


@attrs.frozen
class GetOutput:
    """A stretch of one machine's output; `position` and `limit` count pieces as they were stored."""

    instance: RunId
    machine: Machine
    attempt: Annotated[int | None, Given("attempt", whole(1, 10_000))] = None  # None: the latest
    position: Annotated[int, Given("position", whole(0, 2**31))] = 0
    limit: Annotated[int, Given("limit", whole(1, MAX_PIECES))] = 16
    raw: Annotated[bool, Given("raw", FLAG)] = False  # its bytes, not its text


@attrs.frozen
class Next:
    """The slots after `since` and up to `until`, soonest first, of `job` or of all."""

    job: AnyJob = None
    count: Annotated[int | None, Given("count", whole(1, MAX_SLOTS))] = None
    since: Annotated[Moment, Given("from", TIME)] = NOW
    until: Annotated[Moment | None, Given("to", TIME)] = None


@attrs.frozen
class Why:
    """What became of the job's slot at `at`, or near it."""

    job: JobName
    at: Annotated[Moment, Given("at", TIME)] = NOW


@attrs.frozen
class Hold:
    """Put `machine` ("": every machine) under maintenance."""

    machine: Annotated[str, Given("machine", ANY_TEXT)]
    reason: Annotated[str, Given("reason", ANY_TEXT)] = ""
    until: Annotated[Moment | None, Given("until", TIME)] = None


@attrs.frozen
class Release:
    """End the maintenance of `machine` that was set by hand."""

    machine: Annotated[str, Given("machine", ANY_TEXT)]


@attrs.frozen
class ShowMaintenance:
    """What is under maintenance."""


@attrs.frozen
class Reload:
    """Read the configuration again."""


@attrs.frozen
class GetTimeline:
    """When the machines of the runs that started in [start, end) began and ended."""

    start: Annotated[Moment, Given("start_date", TIME)]
    end: Annotated[Moment, Given("end_date", TIME)]
    id: Annotated[RequestId, Given("id", ID)] = ""


@attrs.frozen
class Stats:
    """How the job's latest runs went, and how long they took."""

    job: JobName


@attrs.frozen
class GetActive:
    """Which jobs have anything in [start, end): runs, slots that did not run, slots to come."""

    start: Annotated[Moment, Given("start_date", TIME)]
    end: Annotated[Moment, Given("end_date", TIME)]


@attrs.frozen
class GetBars:
    """The runs and slots of `jobs` in [start, end). What lies in the same `grain_s` seconds is told as one."""

    jobs: Annotated[tuple[str, ...], Given("crons", NAMES)]
    start: Annotated[Moment, Given("start_date", TIME)]
    end: Annotated[Moment, Given("end_date", TIME)]
    grain_s: Annotated[float, Given("grain", GRAIN)] = 0.0


@attrs.frozen
class GetMachines:
    """How the machines fare on which something has ended, since `since` or ever."""

    since: Annotated[Moment | None, Given("since", TIME)] = None


@attrs.frozen
class GetMachine:
    """What ended on one machine lately."""

    machine: Machine


@attrs.frozen
class GetAudit:
    """Who asked for which change, newest first; of what was written down earlier than the place `before`."""

    since: Annotated[Moment | None, Given("since", TIME)] = None
    who: Annotated[str | None, Given("who", TEXT)] = None
    before: Annotated[int | None, Given("before", COUNT)] = None
    limit: Annotated[int, Given("limit", whole(1, MAX_RUNS))] = 100


@attrs.frozen
class Health:
    """How the daemon fares."""


Verb: TypeAlias = Union[
    Hello,
    Run,
    Kill,
    Signal,
    Subscribe,
    Unsubscribe,
    Leave,
    Acknowledge,
    GetRuns,
    GetRun,
    GetLatest,
    GetMatrix,
    GetPassed,
    GetAlike,
    GetOutput,
    Next,
    Why,
    Hold,
    Release,
    ShowMaintenance,
    Reload,
    GetTimeline,
    GetActive,
    GetBars,
    GetMachines,
    GetMachine,
    Health,
    Stats,
    GetAudit,
]

_SUBSCRIPTION = record(Subscription)
_LEAVE = record(Leave)


def _subscribe(where: str, value: Any) -> Subscribe:
    if not isinstance(value, dict):
        return Subscribe(tuple(Subscription(job) for job in NAMES.read(where, value)))
    subscription: Subscription = _SUBSCRIPTION.read(where, value)
    if subscription.position and subscription.machine is None:
        raise BadRequest("bad_value", f"{where}.position is that of one machine: {where}.machine is missing")
    if not subscription.output and subscription.machine is not None:
        raise BadRequest("bad_value", f"{where}.machine says whose output is wanted, and {where}.output that none is")
    if subscription.serial is not None and subscription.instance is None:
        raise BadRequest("bad_value", f"{where}.serial is that of one run: {where}.job_instance is missing")
    return Subscribe((subscription,))


def _unsubscribe(where: str, value: Any) -> Unsubscribe | Leave:
    if not isinstance(value, dict):
        return Unsubscribe(NAMES.read(where, value))
    leave: Leave = _LEAVE.read(where, value)
    return leave


VERBS: Mapping[str, Kind] = {
    "hello": record(Hello),
    "run": record(Run, short="cron"),
    "killCron": record(Kill, short="cron", without=("machine",)),
    "killMachine": record(Kill, without=("machines",), needs=("machine",)),
    "signal": record(Signal),
    "pause": record(Signal, short="cron", signal="STOP"),
    "resume": record(Signal, short="cron", signal="CONT"),
    "subscribe": Kind(_subscribe, {"anyOf": [NAMES.schema, _SUBSCRIPTION.schema]}),
    "unsubscribe": Kind(_unsubscribe, {"anyOf": [NAMES.schema, _LEAVE.schema]}),
    "ack": record(Acknowledge),
    "getRuns": record(GetRuns),
    "getRun": record(GetRun, short="job_instance"),
    "getLatest": record(GetLatest, short="crons"),
    "getMatrix": record(GetMatrix, short="cron"),
    "getPassed": record(GetPassed, short="cron"),
    "getAlike": record(GetAlike, short="job_instance"),
    "getOutput": record(GetOutput),
    "getTimeline": record(GetTimeline),
    "getActive": record(GetActive),
    "getBars": record(GetBars),
    "getMachines": record(GetMachines),
    "getMachine": record(GetMachine, short="machine"),
    "getAudit": record(GetAudit),
    "health": just_true(Health),
    "next": record(Next, short="cron"),
    "why": record(Why, short="cron"),
    "stats": record(Stats, short="cron"),
    "maintenance": one_of({"set": record(Hold), "end": record(Release), "show": just_true(ShowMaintenance)}),
    "reload": just_true(Reload),
}
