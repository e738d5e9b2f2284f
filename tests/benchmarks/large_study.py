"""How long do `xtl --help`, `xtl status` and the report take, of a large and of a very large study?

    python tests/benchmarks/large_study.py [help] [status] [report] [--seeds 34]

The status is of 513 cells, the design of xtreme-large on the embedded world, of which 460 are done and two run; it is timed in a new
process, its imports apart, whose seconds are told as well. The report is of a simulated study: 34 seeds, the default, are 10,098 cells
with 90 scores each.
"""
import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_report import write_outcome

from xtl.analysis.simulation import Design, simulate_study
from xtl.core.files import write_json
from xtl.core.seals import seal
from xtl.execution.job import claim_cell, write_status
from xtl.report.page import render
from xtl.study.designs import cells
from xtl.study.presets import read_study
from xtl.transfer.layout import lay_out
from xtl.transfer.results import cell_keys

DONE, RUNNING = 460, 2
STATUS = """
import contextlib, io, sys, time
started = time.perf_counter()
from xtl.cli.main import answer
from xtl.execution.progress import look
from xtl.transfer.layout import open_workspace
imported, said = time.perf_counter(), io.StringIO()
with contextlib.redirect_stdout(said): assert answer(['status', sys.argv[1]]) == (0, '')
print(f'{time.perf_counter() - imported:.2f} s after {imported - started:.1f} s of imports: {said.getvalue().splitlines()[-1]}')
"""


def help_of(repeats: int = 5) -> None:
    "Prints how long help takes, at least."
    def once():
        started = time.perf_counter()
        subprocess.run([str(Path(sys.executable).parent/'xtl'), '--help'], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started
    print(f'xtl --help: {min(once() for _ in range(repeats)):.2f} s, the shortest of {repeats}')


def status_of(folder: Path, repeats: int = 3) -> None:
    "Prints how long `xtl status` takes."
    space = lay_out(read_study('mini').but(name='large', design=dict(vars(read_study('xtreme-large').design))), folder/'out')
    keys = cell_keys(space, cells(space.study))
    def parts(n): return {p: dict(seconds=60.0 + n % 7, flops=1e12) for p in ('intermediate', 'target', *(f'evaluation {t}' for t in space.study.design.targets))}
    with ExitStack() as claims:
        for n, (name, key) in enumerate(keys.items()):
            place = space.out/'cells'/name
            if n < DONE:
                write_status(space.out, name, dict(state='done', seconds=800.0, parts=parts(n)))
                write_json(place/'done.json', key)
                seal(place)
            elif n < DONE + RUNNING:
                claims.enter_context(claim_cell(place))
                write_status(space.out, name, dict(state='running', phase='target', of='xnli', step=9, loss=0.7, flops_per_second=3e10, parts={'intermediate': parts(n)['intermediate']}))
        for _ in range(repeats):
            told = subprocess.run([sys.executable, '-c', STATUS, str(space.out)], check=True, capture_output=True, text=True).stdout
            print(f'xtl status, {len(keys)} cells: {told.strip()}', flush=True)


def report_of(folder: Path, seeds: int) -> None:
    "Prints the number of cells, the seconds that the report took and its size."
    results = simulate_study(Design(budgets=(1e12, 2e12, 4e12, 8e12), numbers=tuple(range(1, 10)), subsets=9, seeds=seeds), effect='tier')
    out = write_outcome(folder/'out', results)
    start = time.perf_counter()
    page = render(out)
    print(f'report of {results.cell.nunique():,} cells, {len(results):,} rows: {time.perf_counter() - start:.0f} s, a page of {page.stat().st_size/2**20:.1f} MiB')


def main() -> None:
    "Measures what is named, else all."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('parts', nargs='*', help='help, status, report; all of them by default')
    parser.add_argument('--seeds', type=int, default=34, help="of the report's study")
    options = parser.parse_args()
    known = dict(help=lambda folder: help_of(), status=status_of, report=lambda folder: report_of(folder, options.seeds))
    if unknown := {*options.parts} - {*known}: parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for part in options.parts or known:
        with tempfile.TemporaryDirectory() as folder: known[part](Path(folder))

if __name__ == '__main__': main()
