"""All sections at once: every part is run, what fails or is missing does not end the others."""

import sys
import types

import pandas as pd
import pytest

from ca14lib.experiments.everything import SECTIONS, run_everything


@pytest.fixture
def sections(monkeypatch):
    """Two sections of parts that do as their names say."""
    calls = []

    def module(name, parts):
        made = types.ModuleType(name)
        made.PARTS = dict.fromkeys(parts)

        def run(*, parts, **arguments):
            (part,) = parts
            calls.append((name, part, arguments))
            if part == "broken":
                raise RuntimeError("1 of 2 runs failed, the first with:\nTraceback …\nValueError: a bad number\n")
            if part == "runs missing":
                raise RuntimeError("2 of 2 runs failed, the first with:\nTraceback …\nImportError: needs gym-anm\n")
            if part == "missing":
                raise ImportError("driving needs highway-env: pip install 'ca14lib[applications]'")
            return {"a": pd.DataFrame(), "b": pd.DataFrame()}

        made.run = run
        monkeypatch.setitem(sys.modules, name, made)

    module("first_section", ["good", "broken"])
    module("second_section", ["missing", "runs missing", "also good"])
    return {"first": "first_section", "second": "second_section"}, calls


def test_every_part_is_run_and_what_fails_does_not_end_the_others(sections, tmp_path):
    names, calls = sections
    outcomes = run_everything(
        seeds=3, quick=True, output=tmp_path, cache_folder=tmp_path / "runs", jobs=1, progress=False, sections=names
    )
    assert [(item.section, item.part) for item in outcomes] == [
        ("first", "good"), ("first", "broken"), ("second", "missing"), ("second", "runs missing"),
        ("second", "also good"),
    ]  # fmt: skip
    assert [item.failed for item in outcomes] == [False, True, False, False, False]
    assert "a bad number" in outcomes[1].text
    assert "ca14lib[applications]" in outcomes[2].text
    assert outcomes[3].text == "left out: ImportError: needs gym-anm"
    assert outcomes[4].tables == 2
    for section, _, arguments in calls:
        assert arguments["seeds"] == 3
        assert arguments["quick"]
        assert arguments["cache_folder"] == tmp_path / "runs" / section.removesuffix("_section")


def test_too_few_seeds_are_refused_before_anything_runs(sections):
    names, calls = sections
    with pytest.raises(ValueError, match="two seeds, got 1"):
        run_everything(seeds=1, progress=False, sections=names)
    assert not calls


def test_the_sections_are_those_of_the_course_and_have_parts():
    for path in SECTIONS.values():
        module = __import__(path, fromlist=["PARTS"])
        assert module.PARTS
        assert callable(module.run)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_help_of_a_section_names_its_parts(section):
    import typer.main

    from ca14lib.cli import run_app

    command = typer.main.get_command(run_app).commands[section]
    (text,) = [option.help for option in command.params if option.name == "part"]
    module = __import__(SECTIONS[section], fromlist=["PARTS"])
    assert [part for part in module.PARTS if part not in text] == []


def test_the_command_for_everything_says_what_failed(sections, monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from ca14lib import cli
    from ca14lib.experiments import everything

    names, _ = sections
    monkeypatch.setattr(everything, "SECTIONS", names)
    done = CliRunner().invoke(
        cli.app, ["run", "all", "--quick", "--seeds", "2", "--output", str(tmp_path), "--cache", str(tmp_path)]
    )
    assert done.exit_code == 1
    assert "a bad number" in " ".join(done.output.split())
    assert "ca14lib[applications]" in " ".join(done.output.split()), "what stands in brackets is no markup"


def test_an_error_keeps_what_stands_in_brackets(monkeypatch, capsys):
    from ca14lib import cli

    def fails() -> None:
        raise ImportError("needs onnx: pip install 'ca14lib[export]'")

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit):
        cli.main()
    assert "pip install 'ca14lib[export]'" in capsys.readouterr().err


def test_an_empty_list_of_datasets_says_how_to_make_one(monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from ca14lib import cli

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    done = CliRunner().invoke(cli.app, ["list", "datasets"])
    assert done.exit_code == 0
    assert "ca14 collect CA14/GridWorld-v0" in " ".join(done.output.split())
