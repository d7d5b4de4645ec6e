"""Proof that the wrapper is on the machine that it speaks for: by the key of the machine's minion, which is root's."""

from __future__ import annotations

import binascii
import os
import subprocess

from sp_wrapper import seal
from sp_wrapper.order import Order

PROGRAMS = ("/usr/bin/openssl", "/usr/local/bin/openssl", "/bin/openssl")
SIGN_S = 20.0


class NoProof(Exception):
    """The machine cannot prove what it is; the text is for the operator."""


def prove(order: Order) -> str:
    """The signature (RSA, SHA-256) in base64, by the key that the order names; "" where it names none. Blocks.

    Raises NoProof.
    """
    if not order.machine_key:
        return ""
    program = next((each for each in PROGRAMS if os.access(each, os.X_OK)), None)
    if program is None:
        raise NoProof("there is no openssl to prove with on which machine this is; install it")
    text = seal.claimed(order.instance, order.machine, order.attempt, order.secret)
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program; the key is a path, and no option can be made of it
            [program, "dgst", "-sha256", "-sign", os.path.abspath(order.machine_key)],
            input=text,
            capture_output=True,
            env={},
            timeout=SIGN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NoProof(f"openssl cannot be run: {exc}") from exc
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NoProof(f"{order.machine_key} cannot prove on which machine this is: {said[0] if said else 'no reason'}")
    return binascii.b2a_base64(done.stdout, newline=False).decode()
