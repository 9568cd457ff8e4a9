"""A real Groovy, in one JVM per list of jobs (a JVM start costs one to two seconds)."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "groovy" / "import_dualproto.groovy"

Jobs = Sequence[dict[str, Any]]


def _groovy_command() -> list[str] | None:
    jars = os.environ.get("DUALPROTO_GROOVY_JARS")
    if jars:
        java = (
            shutil.which("java", path=str(Path(os.environ["JAVA_HOME"]) / "bin")) if "JAVA_HOME" in os.environ else None
        )
        folder = Path(jars)
        classpath = str(folder / "*") if folder.is_dir() else jars
        return [java or "java", "-cp", classpath, "groovy.ui.GroovyMain"]
    groovy = shutil.which("groovy")
    return [groovy] if groovy else None


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    java = shutil.which("java")
    if "JAVA_HOME" not in environment and java:
        environment["JAVA_HOME"] = str(Path(java).resolve().parents[1])
    return environment


@pytest.fixture(scope="session")
def script() -> Path:
    return SCRIPT


@pytest.fixture(scope="session")
def run_jobs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Jobs], list[dict[str, Any]]]:
    """Run jobs (see driver.groovy) in one JVM; each answer has ``value`` or ``error``."""
    command = _groovy_command()
    if command is None:
        pytest.skip(
            "no Groovy: install it (apt-get install groovy) or set DUALPROTO_GROOVY_JARS to a folder of its jars"
        )

    def run(jobs: Jobs) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp("groovy")
        (folder / "jobs.json").write_text(json.dumps(list(jobs)), encoding="utf-8")
        done = subprocess.run(
            [
                *command,
                "-c",
                "UTF-8",
                HERE / "driver.groovy",
                SCRIPT,
                HERE / "standins",
                folder / "jobs.json",
                folder / "answers.json",
            ],
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answers: list[dict[str, Any]] = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
        return answers

    return run
