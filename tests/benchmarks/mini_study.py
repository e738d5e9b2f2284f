"""How long does the mini study take, and how much of that is training and evaluation? Runs it as `xtl run mini` does and prints both.

    python tests/benchmarks/mini_study.py [WORKERS]
"""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd


def main(workers: int) -> None:
    "Prints wall time, the sum of training and evaluation over the runs that were really made, shared by the workers, and their ratio."
    from xtl.core.files import read_json
    with tempfile.TemporaryDirectory() as folder:
        out, started = Path(folder)/'mini', time.perf_counter()
        subprocess.run([str(Path(sys.executable).parent/'xtl'), 'run', 'mini', '--out', str(out), '--workers', str(workers)], check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        runs = [read_json(p) for kind in ('intermediate', 'target') for p in sorted(out.glob(f'store/{kind}/*/run.json'))]
        ledger = pd.read_parquet(out/'ledger.parquet').query('phase == "intermediate"')
        segments = pd.read_parquet(out/'segments.parquet').query('phase == "intermediate"')
        pace = ledger.seconds.sum()/ledger.executed_flops.sum()
    # what cells share of phase 2 was done once, at the pace of all of it
    training = sum(r['seconds'] for r in runs if r['steps'] and 'evaluation_seconds' in r) + pace*segments.drop_duplicates('segment').executed_flops.sum()
    evaluation = sum(r.get('evaluation_seconds', 0.0) for r in runs)
    print(f'{wall:.0f} s with {workers} workers; training {training:.0f} s and evaluation {evaluation:.0f} s of a core; {wall*workers/(training + evaluation):.2f} times their sum')


if __name__ == '__main__': main(int(sys.argv[1]) if len(sys.argv) > 1 else len(os.sched_getaffinity(0)))
