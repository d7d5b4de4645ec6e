"""Everything that takes bytes from elsewhere, as functions of these bytes that raise for a bug and for nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import trio
import trio.testing

from saltpeter.domain import crontab
from saltpeter.domain.config import Host, assemble, parse_file
from saltpeter.endpoints import intake
from saltpeter.endpoints.channel import Channel, Limits
from saltpeter.endpoints.control_wire import decode as decode_request
from saltpeter.endpoints.forms import BadRequest
from saltpeter.endpoints.frames import Frames
from saltpeter.endpoints.http import Front, Request, Response, Upgrade
from sp_wrapper import frames, wire

CORPUS = Path(__file__).with_name("corpus")
LONGEST = 4096  # bytes of one input
NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
HOST = Host(statedir="/s", logdir="/l", zone=timezone.utc)

Target = Callable[[bytes], None]


class Found(Exception):
    """A bug that showed itself in a log or an answer, and not as an exception."""


def fuzz_wire(data: bytes) -> None:
    """A frame is a message or refused; what was read is written and read again as the same."""
    for decode in (intake.read, frames.decode_from_wrapper, frames.decode_from_daemon):
        try:
            frame = decode(data)
        except wire.RemoteProtocolError:
            continue
        again = decode(frames.encode(frame.about, frame.message, frame.at))
        if again != frame:
            raise Found(f"{frame} was read again as {again}")


def fuzz_control(data: bytes) -> None:
    """A request is a verb or refused, with a text and a code that fit into a reply."""
    try:
        decode_request(data)
    except BadRequest as refused:
        json.dumps([refused.code, str(refused), refused.id])


def fuzz_frames(data: bytes) -> None:
    """Bytes are messages, or the end, however they are cut; what is to be answered fits into a frame."""
    at = data[0] if data else 0
    whole, cut = _heard(data), _heard(data[:at], data[at:])
    if whole != cut:
        raise Found(f"{whole!r}, but cut at {at} {cut!r}")


def _heard(*pieces: bytes) -> tuple[list[object], bool]:
    frames, heard = Frames(limit=1000), list[object]()
    for piece in pieces:
        if piece and not frames.ended:
            heard += frames.feed(piece)
    frames.farewell(1008, "PROTOCOL")
    return heard, frames.ended


def fuzz_config(data: bytes) -> None:
    """A file is read, or its faults are said with their places; its jobs have a next slot or none."""
    document = parse_file("conf.d/jobs.yaml", data.decode(errors="surrogateescape"))
    config = assemble([document], None, HOST, NOON).config
    for problem in config.problems:
        str(problem).encode(errors="surrogateescape")
    for job in config.jobs.values():
        job.schedule.next_after(NOON)


def fuzz_crontab(data: bytes) -> None:
    """What is imported is a file of jobs that we ourselves accept."""
    origin = crontab.Origin(targets="*", system=data[:1] == b"!", user="root")
    text = crontab.render(crontab.parse(data.decode(errors="replace"), origin).entries, "stdin")
    problems = assemble([parse_file("conf.d/imported.yaml", text)], None, HOST, NOON).config.problems
    if any(problem.fatal for problem in problems):
        raise Found(f"{text}\n{problems}")


def fuzz_http(data: bytes) -> None:
    """Whatever comes is answered or hung up on, within bounds, and nothing is logged as a bug."""
    with _no_bugs_logged():
        answer = trio.run(_answered, data, clock=trio.testing.MockClock(autojump_threshold=0))
    if answer and not answer.startswith(b"HTTP/1.1 "):
        raise Found(f"{answer[:200]!r}")
    if b"Traceback" in answer or b" 500 " in answer[:20]:
        raise Found(f"{answer[:2000]!r}")


async def _answered(data: bytes) -> bytes:
    theirs, ours = trio.testing.memory_stream_pair()
    answer = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(FRONT.converse, theirs)
        await ours.send_all(data)
        await ours.send_eof()
        while part := await ours.receive_some():
            answer += part
    return answer


async def _hello(request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    return Response(200, request.body or request.path.encode(errors="replace"))


async def _echo(channel: Channel) -> None:
    async for text in channel:
        await channel.send(text if isinstance(text, str) else "bytes")


FRONT = Front({("GET", "/"): _hello, ("POST", "/"): _hello}, Upgrade(_echo, Limits()))

TARGETS: Mapping[str, Target] = {
    "wire": fuzz_wire,
    "control": fuzz_control,
    "frames": fuzz_frames,
    "config": fuzz_config,
    "crontab": fuzz_crontab,
    "http": fuzz_http,
}


def corpus(name: str) -> list[Path]:
    """Inputs that are kept for a target: what is worth starting from, and every one that was a bug."""
    return sorted(CORPUS.joinpath(name).iterdir())


class _Bugs(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def _no_bugs_logged() -> Iterator[None]:
    bugs, logger = _Bugs(), logging.getLogger("saltpeter")
    logger.addHandler(bugs)
    try:
        yield
    finally:
        logger.removeHandler(bugs)
    if bugs.records:
        raise Found(logging.Formatter().format(bugs.records[0]))
