"""Does a study survive? Runs one undisturbed in one process, then again while its workers, cells and kernels are killed at random and a second `xtl run` works on the same
folder, then parts of it with other numbers of workers; compares the tables bit for bit and looks for what was left behind. Prints its counts.

    python tests/chaos.py [--cells 63] [--kills 20] [--workers 1 4] [--compared 6]

In full about 20 minutes on two cores.
"""
import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import yaml

from studies import finished, tiny
from xtl.study.presets import read_study
from xtl.transfer.layout import lay_out

TASKS = ['mnli', 'csqa', 'squad', 'qqp', 'cosmosqa', 'hellaswag', 'squad2', 'ccg', 'anli']
MEASURED = ['seconds', 'evaluation_seconds'] # what no two runs share


def study(cells: int) -> dict:
    "A study of about so many cells (a multiple of 21 from 21 on), each with next to no training; a smaller one has some of the cells of a larger one."
    seeds, tasks = max(1, cells // 21), TASKS[:max(1, (cells - 3)//2)]
    design = dict(intermediate=TASKS, targets=['xnli'], budgets=[1e9, 1.5e9], n_tasks=[0, 1], subsets=[[t] for t in tasks],
                  seeds=list(range(seeds)))
    made = tiny(name='chaos', data=dict(languages=['qab']), design=design, phase3=dict(target_flops=1e9))
    del made['design']['subset_count']
    return made


class Place:
    "A folder for a run, with a folder for everything temporary."
    def __init__(self, root: Path, name: str, settings: dict, data: Path | None = None):
        self.out, self.tmp, self.study = root/name, root/f'{name}-tmp', root/f'{name}.yaml'
        self.tmp.mkdir()
        self.study.write_text(yaml.safe_dump(settings))
        if data: shutil.copytree(data/'store'/'rows', self.out/'store'/'rows') # the data of another run, to save time

    def start(self, workers: int) -> subprocess.Popen:
        "Starts `xtl run`."
        return subprocess.Popen([str(Path(sys.executable).parent/'xtl'), 'run', str(self.study), '--out', str(self.out), '--workers', str(workers)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | {'TMPDIR': str(self.tmp)})

    def table(self) -> pd.DataFrame:
        "The results, but for what is measured."
        return pd.read_parquet(self.out/'results.parquet').drop(columns=MEASURED)

    def left(self) -> list[str]:
        "Temporary files that were left, but for the cache that torch keeps for all programs of a user."
        return [str(p) for p in (*self.out.rglob('*.part'), *self.tmp.iterdir(), *(self.out/'running').glob('*')) if not p.name.startswith('torchinductor')]


def finish(process: subprocess.Popen) -> None:
    "Waits for a run that must succeed."
    _, said = process.communicate()
    assert process.returncode == 0, said


def undisturbed(place: Place) -> None:
    "A study's cells one after the other in this process."
    finished(lay_out(read_study(str(place.study)), place.out))


def cell_of(process: psutil.Process) -> str:
    "The cell that a process of a run works on, by the claim that it, its parent or one of its children holds."
    for one in (process, process.parent(), *process.children()):
        with suppress(psutil.Error):
            for file in one.open_files():
                if file.path.endswith('/.claim'): return Path(file.path).parent.name
    return ''


def started_by(pid: int) -> list[tuple[str, psutil.Process]]:
    "Workers, what they keep for cells, processes of cells, and kernels that a process started, by kind. Any of them may end while it is looked at."
    kinds = {'xtl-kernel': 'kernel', 'ipykernel_launcher': 'kernel', 'xtl-cell': 'cell', 'xtl.execution.job': 'server', 'spawn_main': 'worker'}
    found = []
    with suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error): # what is forked has the command line of what it was forked from
                named = [kind for text, kind in kinds.items() if text in ' '.join([process.name(), *process.cmdline()])]
                found += [(kind, process) for kind in named[:1]]
    return found


def disturb(runs: list[subprocess.Popen], kills: int, pause: float, rng: random.Random) -> tuple[dict[str, int], set]:
    "Kills processes of the runs until they end, `kills` at least when they take long enough; how many of each kind, and every process that was seen."
    count, spared, seen = dict.fromkeys(('worker', 'server', 'cell', 'kernel'), 0), {}, set()
    while any(run.poll() is None for run in runs):
        time.sleep(pause*rng.uniform(0.5, 1.5))
        found = [one for run in runs for one in started_by(run.pid)]
        seen |= {process for _, process in found}
        if not found or sum(count.values()) >= kills: continue
        kind = rng.choice(sorted({k for k, _ in found})) # of any kind with the same probability
        process = rng.choice([p for k, p in found if k == kind])
        with suppress(psutil.Error):
            cell = cell_of(process)
            if kind != 'worker' and spared.get(cell, 0) == 2: continue # a third death would be the last of its three attempts
            process.send_signal(signal.SIGKILL)
            count[kind] += 1
            if kind != 'worker': spared[cell] = spared.get(cell, 0) + 1
    return count, seen


def same_predictions(a: Place, b: Place) -> int:
    "How many files of predictions there are. Raises `AssertionError` when one differs."
    files = sorted(p.relative_to(a.out) for p in a.out.glob('cells/*/predictions/**/*') if p.is_file())
    assert files and all((a.out/f).read_bytes() == (b.out/f).read_bytes() for f in files)
    return len(files)


def chaos(cells: int, kills: int, workers: tuple[int, ...], compared: int, seed: int = 0, pause: float = 3.0) -> None:
    "The whole comparison. Raises `AssertionError` with the first thing that is wrong."
    root, started = Path(tempfile.mkdtemp(prefix='xtl-chaos-')), time.time()
    def say(text): print(f'{time.time() - started:6.0f} s  {text}', flush=True)
    try:
        calm = Place(root, 'calm', study(cells))
        undisturbed(calm)
        table = calm.table()
        assert not calm.left(), calm.left()
        say(f'undisturbed, in one process: {table.cell.nunique()} cells, {len(table)} scores')
        wild = Place(root, 'wild', study(cells), calm.out)
        runs = [wild.start(2)]
        while not list(wild.out.glob('cells/*/status.json')) and runs[0].poll() is None: time.sleep(0.2)
        runs.append(wild.start(1)) # a second run on the same folder
        count, seen = disturb(runs, kills, pause, random.Random(seed))
        for run in runs: finish(run)
        assert sum(count.values()) >= kills, count
        pd.testing.assert_frame_equal(wild.table(), table, check_exact=True)
        files = same_predictions(calm, wild)
        time.sleep(1)
        alive = [p for p in seen if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert not alive and not wild.left(), (alive, wild.left())
        say(f"disturbed, with a second run: {sum(count.values())} kills ({', '.join(f'{n} {k}s' for k, n in count.items())}); {wild.table().cell.nunique()} cells, the same table, "
            f'{files} files of predictions the same; of {len(seen)} processes none is left, nor a temporary file')
        for n in workers:
            some = study(compared)
            other = Place(root, f'workers-{n}', some, calm.out)
            finish(other.start(n))
            part = other.table()
            pd.testing.assert_frame_equal(part, table[table.cell.isin(part.cell)].reset_index(drop=True), check_exact=True)
            assert not other.left(), other.left()
            say(f'undisturbed, {n} worker(s): {part.cell.nunique()} cells, the same scores')
    finally: shutil.rmtree(root, ignore_errors=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cells', type=int, default=63, help='cells of the study')
    parser.add_argument('--kills', type=int, default=20, help='processes to kill')
    parser.add_argument('--workers', type=int, nargs='*', default=[1, 4], help='other numbers of workers to compare with two')
    parser.add_argument('--compared', type=int, default=6, help='cells of that comparison')
    parser.add_argument('--seed', type=int, default=0, help='of the choice of victims')
    given = parser.parse_args()
    chaos(given.cells, given.kills, tuple(given.workers), given.compared, given.seed)
