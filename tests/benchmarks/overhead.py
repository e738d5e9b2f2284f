"""How long does the machinery around a cell take? Runs a cell whose results are in the store already, prints the
seconds of each part.

    python tests/benchmarks/overhead.py [REPEATS]

Fails when the fastest of the repeats (five by default) takes six seconds or more.
"""
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from xtl.execution.job import job
from xtl.study.designs import cells
from xtl.study.presets import read_study
from xtl.transfer.layout import lay_out


def once(work) -> dict[str, float]:
    "Seconds of each part of an execution: until the notebook's first cell runs, each cell, after the last, in all."
    started = time.time()
    process = subprocess.Popen([sys.executable, '-m', 'xtl.execution.job'], stdin=subprocess.PIPE, text=True)
    process.stdin.write(json.dumps(asdict(work)) + '\n')
    process.stdin.flush()
    assert process.wait() == 0
    ended, folder = time.time(), Path(work.out)/'cells'/work.name
    timed = [c for c in json.loads((folder/'cell.ipynb').read_text())['cells'] if c['cell_type'] == 'code']
    def when(cell, which): return datetime.fromisoformat(cell['metadata']['papermill'][which]).timestamp()
    parts = {'process and kernel start': when(timed[0], 'start_time') - started}
    for cell in timed:
        first = next(line for line in ''.join(cell['source']).splitlines() if not line.startswith('#'))
        parts[first[:60]] = cell['metadata']['papermill']['duration']
    return parts | {'kernel end': ended - when(timed[-1], 'end_time'), 'together': ended - started}


def main(repeats: int) -> bool:
    "Prints the parts of the fastest repeat; whether it stayed under six seconds."
    study = read_study('mini').but(name='overhead', data=dict(languages=('qab',)),
                                   design=dict(targets=('tatoeba',), controls_expected={}, n_tasks=(0,), controls=('none',), budgets=()))
    with tempfile.TemporaryDirectory() as folder:
        space = lay_out(study, Path(folder)/'out')
        work = job(space, cells(study)[0])
        found = []
        for _ in range(repeats + 1): # the first fills the store
            (space.out/'cells'/work.name/'done.json').unlink(missing_ok=True)
            found.append(once(work))
    best = min(found[1:], key=lambda parts: parts['together'])
    for part, seconds in best.items(): print(f'{seconds:6.2f} s  {part}')
    print(f"{repeats} repeats: {', '.join(format(f['together'], '.1f') for f in found[1:])} s")
    return best['together'] < 6

if __name__ == '__main__': sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 5) else 1)
