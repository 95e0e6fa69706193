"""What the demo stands on gives way: what it says then. The same for real: tests/integration/."""

import logging
import sys
from pathlib import Path

import pytest
import trio

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from trioworker._demo.files import Dropped, Dropper, ForeignManifest, Manifest
from trioworker._demo.folder import Folder, about, names_in
from trioworker._demo.program import CannotRun, Logs, Program, Settings, run, told
from trioworker._demo.verdict import CannotJudge, judge

from .test_program import NOTHING, Blind

FULL = "No space left on device"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    folder.create()
    return folder


def test_an_error_from_writing_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=FULL) as caught, about(tmp_path / "a"):
        Path("/dev/full").write_bytes(b"much")

    assert told(caught.value) == f"{tmp_path}/a: {FULL}"


def test_one_that_names_its_file_keeps_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, about(tmp_path / "a"):
        (tmp_path / "b").read_bytes()

    assert told(caught.value) == f"{tmp_path}/b: No such file or directory"


def test_a_manifest_that_cannot_grow_says_so_instead_of_writing_a_part(folder: Folder) -> None:
    manifest = Manifest(folder)
    manifest.path.symlink_to("/dev/full")

    with pytest.raises(OSError, match=FULL) as caught:
        manifest.add(Dropped(1, 1, 1, "hash"))
    assert caught.value.filename == str(manifest.path)


def test_a_file_arrives_also_while_there_is_no_inbox(folder: Folder) -> None:
    dropper = Dropper(folder, seed=1)
    for number, way in enumerate([dropper._write, dropper._rename_into_place], start=1):
        folder.inbox.rename(folder.root / f"old{number}")
        way(Dropped(1, 1, number, "hash"))

        assert names_in(folder.inbox) == [f"001-0000{number}.jsonl"]


def test_a_line_of_the_manifest_that_is_somebody_elses_is_refused(folder: Folder) -> None:
    Manifest(folder).add(Dropped(1, 1, 1, "hash"))
    with (folder.root / "manifest.jsonl").open("a") as file:
        file.write('\n{"seed": 1}\n')

    with pytest.raises(ForeignManifest, match="line 3: the demo has not written that"):
        Manifest(folder).read()
    with pytest.raises(CannotRun, match=r"manifest\.jsonl: line 3: the demo has not written that"):
        run(Settings(files=0, seconds=0, directory=folder.root), Blind())


def test_a_damaged_database_is_refused_with_the_way_out(folder: Folder) -> None:
    settings = Settings(files=0, seconds=0, directory=folder.root)
    assert run(settings, Blind()) == 0
    size = folder.database.stat().st_size
    with folder.database.open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * (size - 4096))

    with pytest.raises(CannotRun, match=r"demo\.db: is damaged: .*move what is in done/ back"):
        run(settings, Blind())


async def test_what_cannot_be_judged_is_named(folder: Folder) -> None:
    folder.database.write_bytes(b"no database" * 1000)

    with pytest.raises(CannotJudge, match=r"demo\.db: file is not a database"):
        await judge(folder)


def test_a_directory_that_goes_away_is_told_and_all_is_stopped(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    def take_away(_: object) -> None:
        folder.root.rename(folder.root.with_name("elsewhere"))

    settings = Settings(files=1, seconds=0, directory=folder.root)

    assert run(settings, Blind(take_away)) == 1
    out = capsys.readouterr().out
    assert f"FAILED: {folder.root}/manifest.jsonl: No such file or directory\n" in out
    assert f"FAILED: {folder.database}: unable to open database file\n" in out
    assert out.endswith(
        f"to go on, once what is named is mended: trioworker demo --dir {folder.root}\n"
    )


def test_output_that_nobody_reads_is_the_command_lines_to_deal_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_off(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", break_off)
    with pytest.raises(BrokenPipeError):
        run(NOTHING, Blind())


@pytest.mark.parametrize("link", ["/dev/full", "/nowhere/demo.log"])
def test_a_log_that_cannot_be_written_is_one_problem(folder: Folder, link: str) -> None:
    (folder.root / "demo.log").symlink_to(link)
    with Logs(folder) as logs:
        for _ in range(3):
            logging.getLogger("trioworker.engine").info("something")

    [problem] = logs.problems
    assert problem.startswith(f"{folder.root}/demo.log: No s")


def test_a_log_record_that_is_wrong_is_as_loud_as_ever(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    with Logs(folder) as logs:
        logging.getLogger("trioworker.engine").info("%d", "no number")

    assert logs.problems == []
    assert "Logging error" in capsys.readouterr().err


async def test_an_error_that_comes_again_and_again_is_told_once(folder: Folder) -> None:
    with Logs(folder) as logs:
        program = Program(Settings(files=0, seconds=0), folder, logs)
        error = OSError("disk I/O error")
        error.add_note("database: demo.db")
        for _ in range(3):
            program._ledger._enter("db", error)
        program._ledger._enter("stats", ValueError("once"))
        engine = program._engine
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            engine.kill()
        problems = list(program._unaccounted(engine.report()))

    assert problems == [
        "db: OSError: disk I/O error; database: demo.db (3 times)",
        "stats: ValueError: once",
    ]
