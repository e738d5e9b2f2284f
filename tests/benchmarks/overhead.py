"""How long does the machinery around a cell take? Has a cell executed whose results are in the store already, by the process that a worker
keeps for its cells, and prints the seconds of each part: with a kernel that is forked from it, and with a new one as a cell with a GPU has it.

    python tests/benchmarks/overhead.py [REPEATS]

Fails when the fastest of the repeats (five by default) takes two seconds or more with a kernel that is forked.
"""
import json
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from xtl.execution.job import job
from xtl.execution.worker import CellServer, cell_environment
from xtl.study.designs import cells
from xtl.study.presets import read_study
from xtl.transfer.layout import lay_out


def once(server, work, load: bool) -> dict[str, float]:
    "Seconds of each part of an execution: until the notebook's first cell runs, each cell, after the last, in all."
    started = time.time()
    server.start(work, load)
    while (code := server.poll()) is None: time.sleep(0.01)
    assert code == 0, server.last_word()
    ended, folder = time.time(), Path(work.out)/'cells'/work.name
    timed = [c for c in json.loads((folder/'cell.ipynb').read_text())['cells'] if c['cell_type'] == 'code']
    def when(cell, which): return datetime.fromisoformat(cell['metadata']['papermill'][which]).timestamp()
    parts = {'process and kernel start': when(timed[0], 'start_time') - started}
    for cell in timed:
        first = next(line for line in ''.join(cell['source']).splitlines() if not line.startswith('#'))
        parts[first[:60]] = cell['metadata']['papermill']['duration']
    return parts | {'kernel end': ended - when(timed[-1], 'end_time'), 'together': ended - started}


def main(repeats: int) -> bool:
    "Prints the parts of the fastest repeat of each way; whether that with a forked kernel stayed under two seconds."
    study = read_study('mini').but(name='overhead', data=dict(languages=('qab',)),
                                   design=dict(targets=('tatoeba',), controls_expected={}, n_tasks=(0,), controls=('none',), budgets=()))
    best = {}
    with tempfile.TemporaryDirectory() as folder:
        space = lay_out(study, Path(folder)/'out')
        work = job(space, cells(study)[0])
        for way, load in (('a new kernel', False), ('a forked kernel', True)):
            server, found = CellServer(cell_environment(1, None)), []
            for _ in range(repeats + 1): # the first fills the store, or loads the libraries
                (space.out/'cells'/work.name/'done.json').unlink(missing_ok=True)
                found.append(once(server, work, load))
            server.end()
            best[way] = min(found[1:], key=lambda parts: parts['together'])
            print(f"{way}: the first {found[0]['together']:.1f} s, then {', '.join(format(f['together'], '.1f') for f in found[1:])} s")
            for part, seconds in best[way].items(): print(f'{seconds:6.2f} s  {part}')
    new, forked = (parts['together'] for parts in best.values())
    print(f'a new kernel takes {new/forked:.1f} times as long')
    return forked < 2

if __name__ == '__main__': sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 5) else 1)
