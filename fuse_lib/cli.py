"""The command line: `python -m fuse_lib run 00 -p seeds=3 --out build`, and `course`, `list`, `grid`, `collect`,
`claims`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 1 (a notebook or a run failed, or a file could not be read or written)
    or 2 (bad arguments)."""
    args = _parser().parse_args(arguments)
    try:
        return args.command(args)
    except ValueError as error:
        print(f"fuse_lib: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # its text names the file
        print(f"fuse_lib: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    from fuse_lib import notebooks

    path = notebooks.find(args.notebook, args.notebooks or notebooks.FOLDER)
    values = notebooks.chosen(path, args.parameter)
    out = Path(args.out)
    try:
        done = notebooks.run(path, out, values)
    except notebooks.NotebookFailed as error:
        print(f"fuse_lib: {error}\nWhat ran until then: {out / path.name}", file=sys.stderr)
        return 1
    figures = done.with_name(done.stem + "_figures")
    number = len(list(figures.glob("*.png")))
    print(f"notebook  {done}\npage      {done.with_suffix('.html')}\nfigures   {figures}/ ({number})")
    row = Path(str(values.get("out", "")))  # "" is the folder that we are in, and no file
    if row.is_file():
        print(f"row       {row}")
    return 0


def _course(args: argparse.Namespace) -> int:
    from fuse_lib import course

    out, chapters = Path(args.out), []
    for chapter in course.run(out, args.notebooks):
        chapters.append(chapter)
        print(chapter, flush=True)
    failed = sum(chapter.failure is not None for chapter in chapters)
    print(f"{len(chapters) - failed} of {len(chapters)} notebooks ran through\nindex     {out / course.INDEX}")
    return int(failed > 0)


def _collect(args: argparse.Namespace) -> int:
    from fuse_lib import notebooks

    folder = Path(args.folder)
    table = Path(args.table) if args.table else folder / "collected.csv"
    rows, unreadable = notebooks.collect(folder, table)
    for file, why in unreadable.items():
        print(f"fuse_lib: left out {file}: {why}", file=sys.stderr)
    print(f"table     {table} ({len(rows)} rows, {len(rows.columns)} columns)")
    return int(bool(unreadable))


def _list(args: argparse.Namespace) -> int:
    from fuse_lib import notebooks

    for path in notebooks.some(args.notebooks or notebooks.FOLDER):
        said = notebooks.minutes(path)
        minutes = f" ({said[0]} minutes to read, {said[1]} to run)" if said else ""
        print(f"{path.stem}: {notebooks.title(path)}{minutes}")
        for parameter in notebooks.parameters(path):
            print(f"    {parameter}")
    return 0


def _grid(args: argparse.Namespace) -> int:
    from fuse_lib import lab

    runs = lab.read(args.plan)
    if args.workers == 0:
        lab.keep_memory()
    try:
        lab.grid(runs, args.out, workers=args.workers, scheduler=args.scheduler, threads=args.threads,
                 device=args.device)  # fmt: skip
    except lab.RunsFailed as error:
        print(f"fuse_lib: {error}\nThe others are in {args.out}", file=sys.stderr)
        return 1
    print(f"rows  {Path(args.out) / 'rows.csv'}\nruns  {Path(args.out) / 'runs.csv'} ({len(runs)})")
    return 0


def _claims(args: argparse.Namespace) -> int:
    from fuse_lib import claims

    if args.check:
        current = claims.is_current(args.check)
        print(f"{args.check}: the claims table is {'current' if current else 'out of date; run claims --write'}")
        return int(not current)
    if args.write:
        claims.write(args.write)
        print(f"written  {args.write}")
        return 0
    for row in claims.table().itertuples():
        print(f"{row.verdict.upper()}: {row.claim} ({row.source})")
        print(f"    {row.effect}")
        if row.detail:
            print(f"    ({row.detail})")
        print(f"    notebook {row.notebook}; {row.tables}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuse_lib", description="The FUSE course from the command line.")
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser("run", help="execute a notebook; write its page and figures")
    run.add_argument("notebook", help="number, name or path")
    run.add_argument("-p", dest="parameter", metavar="NAME=VALUE", action="append", default=[], help="a parameter")
    run.add_argument("-o", "--out", default="build", help="folder for the results (build)")
    run.set_defaults(command=_run)
    course = commands.add_parser("course", help="execute all notebooks; write an index page with their figures")
    course.add_argument("-o", "--out", default="build/course", help="folder for the results (build/course)")
    course.set_defaults(command=_course)
    listing = commands.add_parser("list", help="notebooks, their minutes and parameters")
    listing.set_defaults(command=_list)
    grid = commands.add_parser("grid", help="make the runs of a plan; see fuse_lib.lab")
    grid.add_argument("plan", help="JSON or TOML file of settings; a list means each of its elements")
    grid.add_argument("-o", "--out", required=True, help="folder for the results; runs that are in it are not repeated")
    grid.add_argument("--workers", type=int, help="processes on this machine; 0: none but this (one a processor)")
    grid.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a dask scheduler, in the place of processes of our own"
    )
    grid.add_argument("--threads", type=int, default=1, help="of torch in a run (1)")
    grid.add_argument("--device", default="cpu", help="cpu, cuda, or auto (cpu)")
    grid.set_defaults(command=_grid)
    collect = commands.add_parser("collect", help="one table of the rows that runs have written with -p out=FILE.csv")
    collect.add_argument("folder", help="where the CSV files are, in it or below")
    collect.add_argument("-o", "--table", help="the table to write (FOLDER/collected.csv)")
    collect.set_defaults(command=_collect)
    claims = commands.add_parser(
        "claims", help="what is claimed of FUSE, and what data/results says of it, with all numbers"
    )
    claims.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put the table, headlines only, between the two marks in a Markdown file",
    )
    claims.add_argument("--check", type=Path, metavar="FILE", help="only say whether the file's table is current")
    claims.set_defaults(command=_claims)
    for command in (run, course, listing):
        command.add_argument("--notebooks", type=Path, help="folder of the notebooks (the checkout's)")
    return parser
