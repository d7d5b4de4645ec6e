"""The wrapper gets onto real minions through Salt alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from saltpeter.lab import Lab
from saltpeter.wrapper_build import build
from tests.helpers.daemon import command
from tests.helpers.salt_lab import LabHandle

pytestmark = pytest.mark.salt


async def wrapper(lab: Lab, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """`saltpeter wrapper ...` with the lab's master: exit code, stdout, stderr."""
    env = {**os.environ, **variables}
    done = await command("wrapper", *arguments, "--master-config", str(lab.master_config), env=env)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_machines_get_the_wrapper_and_say_what_they_have(salt_lab: LabHandle, tmp_path: Path) -> None:
    file = tmp_path / "a folder" / "sp_wrapper.py"
    file.parent.mkdir()
    where = ("m[12]", "--path", str(file))
    code, out, _ = await wrapper(salt_lab.lab, "status", *where)
    assert code == 1
    assert [line.split("\t")[0:4:3] for line in out.splitlines()] == [["m1", "missing"], ["m2", "missing"]]

    file.write_text("#!/bin/sh\necho sp_wrapper 0.9.31\n")
    file.chmod(0o755)
    code, out, _ = await wrapper(salt_lab.lab, "status", *where)
    assert code == 0
    assert [line.split("\t")[1:4:2] for line in out.splitlines()] == [["0.9.31", "other"]] * 2

    code, out, err = await wrapper(salt_lab.lab, "deploy", *where, "--json")
    assert code == 0, err
    assert "to 2 machines: m1, m2" in err
    found = json.loads(out)
    assert [each["machine"] for each in found] == ["m1", "m2"]
    assert all(each["current"] and each["version"] == "sp_wrapper 1.0.0" and each["python"] for each in found)
    built = tmp_path / "built.py"
    build(built)
    assert file.read_bytes() == built.read_bytes()
    assert [each.name for each in file.parent.iterdir()] == ["sp_wrapper.py"], "no draft is left"

    code, out, err = await wrapper(salt_lab.lab, "deploy", *where)
    assert (code, err) == (0, ""), "there is nothing to do"
    assert all("\tcurrent\t" in line for line in out.splitlines())
    code, out, _ = await wrapper(salt_lab.lab, "status", *where, FORCE_COLOR="1", COLUMNS="160")
    titles, *shown = out.splitlines()
    assert (code, titles.count("\x1b[") > 0, len(shown)) == (0, True, 2)
    code, out, _ = await wrapper(salt_lab.lab, "status", *where, "--json")
    assert (code, [each["current"] for each in json.loads(out)]) == (0, [True, True])


async def test_a_machine_that_cannot_take_it_says_why(salt_lab: LabHandle, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, out, _ = await wrapper(salt_lab.lab, "deploy", "m1", "--path", str(tmp_path / "file" / "sp_wrapper.py"))
    assert code == 1
    assert out.startswith("m1\t\t\tfailed\tmkdir: ")


async def test_a_target_that_names_nobody_is_said_so(salt_lab: LabHandle) -> None:
    code, out, err = await wrapper(salt_lab.lab, "status", "nobody*")
    assert (code, out) == (4, "")
    assert "nobody* names no machine that the Salt master knows" in err
