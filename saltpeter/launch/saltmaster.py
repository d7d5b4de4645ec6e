"""Talking to a Salt master with Salt's own library. The one module that imports it; itself imported late.

Everything here blocks and is meant for worker threads; any number of them may call at once.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import salt.config
from salt.channel.client import ReqChannel
from salt.client import LocalClient
from salt.exceptions import AuthenticationError, AuthorizationError
from salt.utils.args import condition_input
from salt.utils.minions import CkMinions
from salt.utils.network import ip_bracket

from saltpeter.domain.job import Target, TargetType
from saltpeter.errors import LaunchError, LaunchUnknown
from saltpeter.launch.calls import Order


class SaltMaster:
    """The master that `config` (a file, such as /etc/salt/master) is about.

    A request is given up after `request_timeout_s` seconds. Raises LaunchError when the file cannot be used.
    """

    def __init__(self, config: str, request_timeout_s: float) -> None:
        self.opts = _read_options(config)
        self._request_timeout_s = request_timeout_s
        self._lock = threading.Lock()  # guards the client
        self._client: Any = None

    def publish(self, jid: str, order: Order, expression: str | list[str], kind: TargetType) -> list[str]:
        """Ask the master to send out `order`; returns the minions that it takes the target for, down or up.

        Raises LaunchUnknown or LaunchError, as `Launcher.publish` does.
        """
        with _unknown("the Salt master gave no answer"):
            client = self._shared_client()
            try:
                try:
                    return self._send(client, jid, order, expression, kind)
                except AuthenticationError:  # the key in a client made before the master's first start is empty
                    return self._send(self._shared_client(instead_of=client), jid, order, expression, kind)
            except (AuthenticationError, AuthorizationError) as exc:
                raise LaunchError(f"the Salt master refuses {order.function} from this user: {exc}") from exc

    def match(self, target: Target) -> list[str] | None:
        """The accepted minions that `target` names; None when this user may not see which are accepted.

        Raises LaunchError for a bad target, and LaunchUnknown when what the master has stored cannot be read.
        """
        if not os.access(Path(self.opts["pki_dir"]) / "minions", os.R_OK | os.X_OK):
            return None
        if target.type is TargetType.RANGE:
            target = Target(",".join(self._expand_range(target.expression)), TargetType.LIST)
        with _complaints.heard() as complaints, _unknown("Salt cannot match a target"):
            found: list[str] = CkMinions(self.opts).check_minions(target.expression, target.type.value)["minions"]
        if complaints and not found:
            raise LaunchError(complaints[0])
        return found

    def returned(self, jid: str) -> Mapping[str, Mapping[str, Any]]:
        """What the minions returned for `jid` so far, by minion; from the master's job cache.

        Raises LaunchUnknown when that cannot be read.
        """
        with _unknown("Salt's job cache cannot be read"):
            found: Mapping[str, Mapping[str, Any]] = self._job_cache("get_jid")(jid)
            return found

    def has_published(self, jid: str) -> bool:
        """True once the master has taken the order on. False may also mean that it has not got to it yet.

        Raises LaunchUnknown when the job cache cannot be read.
        """
        with _unknown("Salt's job cache cannot be read"):
            return bool(self._job_cache("get_load")(jid))

    def answers(self, timeout_s: float) -> bool:
        """Does a worker of the master answer? An open port alone may belong to one that hangs."""
        uri = f"tcp://{ip_bracket(self.opts['interface'])}:{self.opts['ret_port']}"
        try:
            with ReqChannel.factory(self.opts, crypt="clear", master_uri=uri) as channel:
                return bool(channel.send({"cmd": "ping"}, timeout=timeout_s))
        except Exception:  # whatever it is, there was no answer
            return False

    def _send(self, client: Any, jid: str, order: Order, expression: str | list[str], kind: TargetType) -> list[str]:
        # not run_job: that prints to stdout when there is no match
        answer = client.pub(
            expression,
            order.function,
            arg=condition_input([], dict(order.kwargs)),
            tgt_type=kind.value,
            jid=jid,
            timeout=self._request_timeout_s,
        )
        return list(answer["minions"])

    def _job_cache(self, function: str) -> Callable[[str], Any]:
        found: Callable[[str], Any] = self._shared_client().returners[f"{self.opts['master_job_cache']}.{function}"]
        return found

    def _shared_client(self, instead_of: object = None) -> Any:
        """One client for all threads: each request opens a channel of its own, and the rest reads files."""
        with self._lock:
            if self._client is instead_of:
                self._client = LocalClient(mopts=dict(self.opts))
            return self._client

    def _expand_range(self, expression: str) -> list[str]:
        """The names in a range expression. Salt's own matcher takes a bad one for all minions."""
        try:
            seco_range = importlib.import_module("seco.range")
        except ImportError as exc:
            raise LaunchError(
                "targets of type range need the Python library seco.range, which is not installed"
            ) from exc
        try:
            return list(seco_range.Range(self.opts["range_server"]).expand(expression))
        except seco_range.RangeException as exc:
            raise LaunchError(f"the range server refuses {expression!r}: {exc}") from exc


class _Complaints(logging.Filter):
    """What Salt's target matcher finds wrong with an expression: it says so in its log only, and matches nothing.

    The complaints of a thread that listens are collected, and kept out of the log.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heard = threading.local()
        logger = logging.getLogger("salt.utils.minions")
        logger.setLevel(logging.ERROR)
        logger.addFilter(self)

    @contextmanager
    def heard(self) -> Iterator[list[str]]:
        self._heard.texts = []
        try:
            yield self._heard.texts
        finally:
            del self._heard.texts

    def filter(self, record: logging.LogRecord) -> bool:
        texts: list[str] | None = getattr(self._heard, "texts", None)
        if texts is None:
            return True
        cause = record.exc_info[1] if record.exc_info else None
        texts.append(record.getMessage() + (f": {cause}" if cause else ""))
        return False


_complaints = _Complaints()


@contextmanager
def _unknown(problem: str) -> Iterator[None]:
    """Salt gives no list of what it may raise: whatever is not known to be final leaves the matter open."""
    try:
        yield
    except LaunchError:
        raise
    except Exception as exc:
        raise LaunchUnknown(f"{problem}: {str(exc) or type(exc).__name__}") from exc


def _read_options(config: str) -> dict[str, Any]:
    if not Path(config).is_file():
        raise LaunchError(f"there is no Salt master configuration at {config}")
    try:
        opts: dict[str, Any] = salt.config.client_config(config)
    except (Exception, SystemExit) as exc:  # it exits when it cannot read the file, with the reason as context
        reason = exc.__context__ if isinstance(exc, SystemExit) else exc
        raise LaunchError(f"the Salt master configuration {config} cannot be used: {reason}") from exc
    opts["request_channel_tries"] = 1  # a request sent again by Salt itself would cost as long again
    return opts
