"""A real Groovy, in one JVM per list of jobs (a JVM start costs one to two seconds)."""

import gzip
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SCRIPTS = HERE.parents[1] / "groovy"

Jobs = Sequence[dict[str, Any]]
COLOURS = {"Tumor": [200, 0, 30], "Stroma": [90, 160, 90]}


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
def scripts() -> list[Path]:
    return sorted(SCRIPTS.glob("*.groovy"))


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
                SCRIPTS,
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


def region_id(slide: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{slide}/{number}"))


def write_result(
    out: Path,
    file: str,
    regions: int,
    *,
    suffix: str = ".geojson",
    kind: str = "annotation",
    first: int = 0,
    slide: dict[str, Any] | None = None,
    frame: str = "qupath",
    recorded: int | None = None,
) -> Path:
    """Write a slide's folder as the product does: one square per region, the first point at (10 * number, 20)."""
    folder = out / file
    folder.mkdir(parents=True, exist_ok=True)
    features = []
    for number in range(first, first + regions):
        x = 10 * number
        ring = [[x, 20], [x + 8, 20], [x + 8, 28], [x, 28], [x, 20]]
        name = list(COLOURS)[number % 2]
        properties = {
            "objectType": kind,
            "classification": {"name": name, "color": COLOURS[name]},
            "isLocked": True,
            "measurements": {"DualProto area mm^2": 0.5, "DualProto mean score": 0.9},
        }
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append(
            {"type": "Feature", "id": region_id(file, number), "geometry": geometry, "properties": properties}
        )
    data = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    (folder / (file + suffix)).write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    record = {
        "slide": {"file": file, "path": f"/cluster/{file}", "width": 1000, "height": 800, "mpp": 0.5, **(slide or {})},
        "frame": frame,
        "classes": [{"id": i, "name": n, "colour": COLOURS[n]} for i, n in enumerate(COLOURS, 1)],
        "regions": regions if recorded is None else recorded,
        "formats": [suffix[1:]],
    }
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def write_project(folder: Path, images: list[dict[str, Any]], *, masked: bool = False) -> Path:
    folder.mkdir(parents=True)
    entries = []
    for number, image in enumerate(images, 1):
        name = image["name"]
        uri = "file:/slides/" + name.replace("%", "%25").replace(" ", "%20")
        entries.append({"id": str(number), "uris": [uri], "width": 1000, "height": 800, **image})
    project = folder / "project.qpproj"
    project.write_text(json.dumps({"images": entries, "masked": masked}))
    return project


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Path]:
    return write_result


@pytest.fixture(scope="session")
def make_project() -> Callable[..., Path]:
    return write_project
