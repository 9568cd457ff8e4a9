from __future__ import annotations

import json

from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.workflow.doctor import FAIL, examine


def test_a_sound_installation_has_no_failure_and_every_subject_once():
    findings = examine()
    assert [finding for finding in findings if finding.level == FAIL] == []
    subjects = [finding.subject for finding in findings]
    assert len(set(subjects)) == len(subjects)
    assert {"GPU", "OpenSlide", "TIAToolbox", "built-in model", "CONCH weights", "CONCH tokenizer"} <= set(subjects)


def test_weights_that_are_named_but_missing_are_a_note(monkeypatch, tmp_path):
    monkeypatch.setenv("DUALPROTO_CONCH_WEIGHTS", str(tmp_path / "no.bin"))
    finding = next(finding for finding in examine() if finding.subject == "CONCH weights")
    assert finding.level == "note"
    assert "no.bin: no such file of CONCH weights; accept the licence" in finding.text


def test_weights_and_tokenizer_that_are_there_are_found(monkeypatch, tmp_path):
    for name in ("WEIGHTS", "TOKENIZER"):
        (tmp_path / name).touch()
        monkeypatch.setenv(f"DUALPROTO_CONCH_{name}", str(tmp_path / name))
    found = {finding.subject: finding for finding in examine()}
    assert found["CONCH weights"].level == found["CONCH tokenizer"].level == "ok"


def test_text_and_json():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "ok    built-in model" in result.output
    found = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).output)
    assert {item["subject"] for item in found} >= {"system", "packages"}
