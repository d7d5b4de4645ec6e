"""Launch orders, good for a while only, and signed where conf.d names a key to sign with."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping

import trio

from saltpeter.errors import LaunchError
from sp_wrapper import seal

WITHIN_S = 20.0
MOST_MACHINES = 20_000  # of one order: their marks must fit into one variable


async def signed(env: Mapping[str, str], run: str, machines: Collection[str], key: str) -> dict[str, str]:
    """`env`, and the signature of it and of the machines that it is for, by the private key in the file `key`.

    Raises LaunchError.
    """
    if len(machines) > MOST_MACHINES:
        text = f"a signed order is for {MOST_MACHINES} machines at most, not for {len(machines)}"
        raise LaunchError(f"order_key: {text}; give the job a batch_size")
    marks = b"".join(sorted(seal.mark(run, machine) for machine in machines))
    whole = {**env, "SP_MACHINES": base64.b64encode(marks).decode()}
    names = sorted(whole)
    signature = await _signature(seal.text(whole, names, str.encode), key)
    return {**whole, seal.NAMES: ",".join(names), seal.SIGNATURE: signature}


async def _signature(text: bytes, key: str) -> str:
    """In base64, on one line. Raises LaunchError."""
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", seal.NAMESPACE, "-f", key]
    with trio.move_on_after(WITHIN_S):
        try:
            done = await trio.run_process(
                command, stdin=text, capture_stdout=True, capture_stderr=True, check=False, start_new_session=True
            )
        except OSError as exc:
            problem = f"ssh-keygen cannot be run ({exc.strerror}); install OpenSSH's client on the daemon's host"
            raise LaunchError(f"order_key: {problem}") from exc
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip()
            raise LaunchError(f"order_key: {key} cannot sign: {why or 'ssh-keygen failed'}")
        return "".join(done.stdout.decode().splitlines()[1:-1])
    raise LaunchError(f"order_key: signing with {key} took longer than {WITHIN_S:g} seconds")
