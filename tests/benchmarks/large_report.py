"""How long does the report of a very large study take? Simulates one, renders it and prints the times.

    python tests/benchmarks/large_report.py [SEEDS]

34 seeds, the default, are 10,098 cells with 90 scores each.
"""
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_report import write_outcome

from xtl.report.page import render
from xtl.analysis.simulation import Design, simulate_study

def main(seeds: int) -> None:
    "Prints the number of cells, the seconds that the report took and its size."
    results = simulate_study(Design(budgets=(1e12, 2e12, 4e12, 8e12), numbers=tuple(range(1, 10)), subsets=9, seeds=seeds), effect='tier')
    with tempfile.TemporaryDirectory() as folder:
        out = write_outcome(Path(folder)/'out', results)
        start = time.perf_counter()
        page = render(out)
        print(f'{results.cell.nunique():,} cells, {len(results):,} rows: {time.perf_counter() - start:.0f} s, a page of {page.stat().st_size/2**20:.1f} MiB')

if __name__ == '__main__': main(int(sys.argv[1]) if len(sys.argv) > 1 else 34)
