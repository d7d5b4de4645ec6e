"""What a wrapper is told through its environment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

from saltpeter.domain.job import Job, Overlap


def wrapper_env(job: Job, *, run: str, attempt: int, token: str, url: str, expires_at: datetime) -> Mapping[str, str]:
    """The environment of the wrapper for one attempt of `run`, the same on every machine; aware, when it expires.

    SP_MACHINE_ID is the launcher's to add, since only it knows the machine by the name Salt gave it.
    """
    order = {
        "SP_WEBSOCKET_URL": url,
        "SP_JOB_NAME": job.name,
        "SP_JOB_INSTANCE": run,
        "SP_JOB_INSTANCE_NAME": run,
        "SP_COMMAND": job.command,
        "SP_CWD": job.cwd or "",
        "SP_USER": job.user or "",
        "SP_TIMEOUT": "0" if math.isinf(job.timeout_s) else f"{job.timeout_s:g}",
        "SP_KILL_SIGNAL": job.kill_signal,
        "SP_KILL_GRACE": f"{job.kill_grace_s:g}",
        "SP_OUTPUT_LIMIT": str(job.output_limit),
        "SP_WRAPPER_LOGLEVEL": job.wrapper.loglevel,
        "SP_WRAPPER_LOGDIR": job.wrapper.logdir,
        "SP_ATTEMPT": str(attempt),
        "SP_TOKEN": token,
        "SP_EXPIRES": f"{expires_at.timestamp():.0f}",
    }
    if job.overlap is Overlap.ALLOW:
        order["SP_ALLOW_OVERLAP"] = "1"
    if job.secret_env:
        if job.mask_secrets:
            order["SP_MASK_SECRETS"] = "1"
        order["SP_SECRETS"] = ",".join(job.secret_env)  # the names only: what Salt carries, Salt keeps
    return {**job.env, **order}
