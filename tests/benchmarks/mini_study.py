"""Where does the time of the mini study go? Runs it as `xtl run mini` does and prints the core-seconds of each part, and how many such cells ten minutes hold.

    python tests/benchmarks/mini_study.py [WORKERS]
"""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

PARTS = {'intermediate': 'phase 2', 'target': 'phase 3', 'evaluation': 'evaluation', 'waiting': 'waiting for another cell'}


def parts(out: Path) -> pd.Series:
    "Seconds of all cells by part; what no part holds is the start of kernels, figures, writing."
    from xtl.core.files import read_json
    told = [read_json(p) for p in sorted(out.glob('cells/*/status.json'))]
    found = pd.Series(0.0, [*PARTS.values(), 'around it'])
    for status in told:
        for name, part in status['parts'].items(): found[PARTS[name.split()[0]]] += part['seconds']
    found['around it'] = sum(s['seconds'] for s in told) - found.sum()
    return found


def main(workers: int) -> None:
    "Prints the table and the cells in ten minutes."
    with tempfile.TemporaryDirectory() as folder:
        out, started = Path(folder)/'mini', time.perf_counter()
        subprocess.run([str(Path(sys.executable).parent/'xtl'), 'run', 'mini', '--out', str(out), '--workers', str(workers)], check=True, stdout=subprocess.DEVNULL)
        wall, found = time.perf_counter() - started, parts(out)
        cells = len(list(out.glob('cells/*/status.json')))
    whole = wall*workers
    found['no cell at work'] = whole - found.sum()
    for part, seconds in found.items(): print(f'{seconds:6.0f} s  {seconds/whole:4.0%}  {part}')
    print(f'{wall:.0f} s for {cells} cells with {workers} workers, {whole/cells:.1f} core-seconds a cell; ten minutes hold {cells*600/wall:.0f}')


if __name__ == '__main__': main(int(sys.argv[1]) if len(sys.argv) > 1 else len(os.sched_getaffinity(0)))
