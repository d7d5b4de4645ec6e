"""What the daemon says on the control socket, as types: for the schema, and for who reads the code.

The messages are made in `views`, `tail`, `viewer` and `conversation`; tests hold them against these. Times are ISO 8601
with an offset, and "" where they are not known yet.
"""

# No annotations from the future: a TypedDict reads what is required of it from the types themselves.

from typing import Any, Literal, TypeAlias, Union

from typing_extensions import NotRequired, TypedDict

EndWord: TypeAlias = Literal[
    "", "exited", "timeout", "killed", "refused", "lost", "no_response", "error", "maintenance"
]
VerdictWord: TypeAlias = Literal["", "success", "failed", "killed", "no_targets"]
Stage: TypeAlias = Literal["waiting", "launched", "running", "paused", "ended"]
Code: TypeAlias = Union[int, Literal[""]]  # "" until it has ended


class Hold(TypedDict):
    """Maintenance that a person has set; `machine` "" is every machine."""

    machine: str
    reason: str
    by: str
    since: str
    until: Union[str, None]


Maintenance = TypedDict("Maintenance", {"global": bool, "machines": list[str], "holds": list[Hold]})


class Problem(TypedDict):
    """Something wrong in conf.d; `line` 0 where no line is to blame."""

    path: str
    line: int
    job: str
    key: str
    text: str
    fatal: bool


class Configuration(TypedDict):
    crons: dict[str, dict[str, Any]]
    maintenance: Maintenance
    saltpeter_config: dict[str, Any]
    problems: list[Problem]
    serial: int


class Config(TypedDict):
    """On connecting, and whenever the configuration or the maintenance changes."""

    type: Literal["config"]
    config: Configuration
    sp_version: str


class RunningRun(TypedDict):
    """`machines` are those that have not ended, of `targets` in all."""

    name: str
    started: str
    machines: list[str]
    targets: int


class LastState(TypedDict):
    last_run: str
    result_ok: bool
    verdict: VerdictWord
    job_instance: str
    next_run: str


class Status(TypedDict):
    """`running` is whole; `last_state` is what has changed of it. `store_problem` is there while there is one."""

    type: Literal["status"]
    running: dict[str, RunningRun]
    last_state: dict[str, LastState]
    sp_version: str
    store_problem: NotRequired[str]


class Ending(TypedDict):
    retcode: int
    outcome: EndWord


class MachineResult(TypedDict):
    """One machine's part of a run; `ret` is always "", `output_length` is in bytes."""

    ret: str
    retcode: Code
    outcome: EndWord
    starttime: str
    endtime: str
    last_heartbeat: str
    wrapper_version: str
    output_length: int
    attempt: int
    paused: bool
    late: NotRequired[Ending]


class DetailsData(TypedDict):
    next_run: str
    last_run: str
    job_instance: str
    verdict: VerdictWord
    targets: list[str]
    overlap: bool
    results: dict[str, MachineResult]


class Details(TypedDict):
    """Of a subscribed job: at once, and on change."""

    type: Literal["details"]
    cron: str
    data: DetailsData


class OutputChunk(TypedDict):
    """More output; positions in UTF-16 code units."""

    type: Literal["output_chunk"]
    cron: str
    machine: str
    chunk: str
    position: int
    total_length: int
    is_complete: bool
    instance: str


class TimelineMoment(TypedDict):
    cron: str
    job_instance: str
    machine: str
    timestamp: str
    ret_code: Union[Code, None]
    msg_type: Literal["machine_start", "machine_result"]


class TimelineData(TypedDict):
    id: Union[str, int]
    serial: int
    content: list[TimelineMoment]


class Timeline(TypedDict):
    """The answer to getTimeline."""

    type: Literal["timeline"]
    timeline: TimelineData


class Process(TypedDict):
    pid: int
    name: str
    state: str


class Receipt(TypedDict):
    """What a kill did on a machine."""

    signalled: list[Process]
    ended: list[Process]
    survived: list[Process]


class KilledMachine(TypedDict):
    retcode: int
    outcome: EndWord
    receipt: Union[Receipt, None]


class KillReceipt(TypedDict):
    """A kill is done; `id` is that of the request, if it had one."""

    type: Literal["kill_receipt"]
    job: str
    job_instance: str
    machines: dict[str, KilledMachine]
    id: NotRequired[Union[str, int]]


class Failure(TypedDict):
    code: str
    message: str


class Reply(TypedDict):
    """The answer to a request with an id: `result` where it is ok, else `error`."""

    type: Literal["reply"]
    id: Union[str, int]
    ok: bool
    result: NotRequired[dict[str, Any]]
    error: NotRequired[Failure]


class Error(TypedDict):
    """The answer to a request without an id that failed."""

    type: Literal["error"]
    code: str
    message: str


# --- protocol 2 -----------------------------------------------------------------------------------


class LivingRun(TypedDict):
    """A run that has not ended: `open` of its `targets` machines have not, `failed` of them have failed.

    `machines` are all, or those of which something has changed.
    """

    cron: str
    slot: Union[str, None]
    by: str
    started: str
    targets: int
    open: int
    failed: int
    machines: dict[str, Stage]


class Snapshot(TypedDict):
    """Everything, up to `serial` of the daemon's life `life`."""

    type: Literal["snapshot"]
    protocol: Literal[2]
    life: str
    serial: int
    because: Literal["new", "restarted", "too_old"]
    sp_version: str
    crons: dict[str, dict[str, Any]]
    jobs: dict[str, LastState]
    runs: dict[str, LivingRun]
    maintenance: Maintenance
    saltpeter_config: dict[str, Any]
    problems: list[Problem]
    store_problem: Union[str, None]


class Changes(TypedDict):
    """What has changed since the snapshot or changes before, up to `serial`. null: it is there no longer."""

    type: Literal["changes"]
    serial: int
    crons: NotRequired[dict[str, Union[dict[str, Any], None]]]
    jobs: NotRequired[dict[str, LastState]]
    runs: NotRequired[dict[str, Union[LivingRun, None]]]
    maintenance: NotRequired[Maintenance]
    saltpeter_config: NotRequired[dict[str, Any]]
    problems: NotRequired[list[Problem]]
    store_problem: NotRequired[Union[str, None]]


class RunKill(TypedDict):
    """`machines` is empty when the whole run was meant."""

    machines: list[str]
    by: str
    at: str


class RunFacts(TypedDict):
    """A run apart from its machines; `duration` in seconds."""

    job_instance: str
    cron: str
    slot: Union[str, None]
    by: str
    started: str
    ended: Union[str, None]
    verdict: Union[VerdictWord, None]
    text: str
    machines: int
    failed: int
    duration: Union[float, None]
    kills: list[RunKill]


class Report(TypedDict):
    """How a machine's part ended."""

    retcode: int
    outcome: EndWord
    text: str
    receipt: Union[Receipt, None]
    usage: Union[dict[str, Any], None]


class MachinePart(TypedDict):
    """One machine's part of a run, all that is known of it."""

    attempt: int
    state: Stage
    targeted: str
    launched: Union[str, None]
    confirmed: Union[str, None]
    started: Union[str, None]
    ended: Union[str, None]
    retcode: Union[int, None]
    outcome: Union[EndWord, None]
    text: str
    late: Union[Report, None]
    pid: Union[int, None]
    wrapper_version: str
    output_length: int
    receipt: Union[Receipt, None]
    usage: Union[dict[str, Any], None]
    last_heartbeat: Union[str, None]
    rss: Union[int, None]
    cpu: Union[float, None]


class RunTold(TypedDict):
    """Of a subscribed job's run: `whole` at first, then its `results` that have changed.

    `lengths` are the bytes of output of the machines that have written more, and then nothing else is there.
    """

    type: Literal["run"]
    cron: str
    job_instance: str
    serial: int
    whole: bool
    run: NotRequired[RunFacts]
    results: NotRequired[dict[str, MachinePart]]
    lengths: NotRequired[dict[str, int]]


Message: TypeAlias = Union[
    Config, Status, Details, OutputChunk, Timeline, KillReceipt, Reply, Error, Snapshot, Changes, RunTold
]
