"""A study that is killed half-way: what is there is told and reported, the same command ends it, and the store never holds
more than the plan said. XTL_CELLS=31 for the long form."""
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import yaml

from chaos import TASKS, started_by
from studies import tiny
from xtl.core.files import read_table
from xtl.study.plan import disk_needed
from xtl.study.presets import read_study
from xtl.transfer.layout import open_workspace

CELLS, WORKERS = int(os.environ.get('XTL_CELLS', 10)), 2
BUDGETS = [1e9, 2e9, 4e9]


def bytes_of(store):
    "What the trunks' states and the encoders in a store take; files and folders may go while it is looked."
    total = 0
    for kind in ('trunk', 'intermediate'):
        for folder, _, names in os.walk(store/kind):
            for name in names:
                if name.endswith('.safetensors'):
                    with suppress(FileNotFoundError): total += (Path(folder)/name).stat().st_size
    return total


class Run:
    "An `xtl run` that is watched."
    def __init__(self, study, out):
        self.out, self.largest, self.seen = out, 0, []
        command = [str(Path(sys.executable).parent/'xtl'), 'run', str(study), '--out', str(out), '--workers', str(WORKERS)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def watch(self, cells):
        "Until it ends, or its table holds so many cells."
        while self.process.poll() is None:
            self.largest = max(self.largest, bytes_of(self.out/'store'))
            table = self.out/'results.parquet'
            if table.exists():
                found = read_table(table, ['cell']).cell.nunique()
                if found not in self.seen: self.seen.append(found)
                if found >= cells: return
            time.sleep(0.05)

    def kill(self):
        "All of it at once, as when a machine goes down."
        every = [p for _, p in started_by(self.process.pid)]
        self.process.send_signal(signal.SIGKILL)
        for p in every:
            with suppress(Exception): p.kill()
        self.process.communicate()


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    "A study half of whose cells have run when it is killed; a copy of it as it was then; the same once it has ended."
    folder = tmp_path_factory.mktemp('long')
    tasks = TASKS[:(CELLS - 1)//len(BUDGETS) - 1]
    design = dict(intermediate=TASKS, targets=['panx', 'tatoeba'], budgets=BUDGETS, n_tasks=[0, 1], subsets=[[t] for t in tasks])
    made = tiny(name='long', design=design, data=dict(languages=['qab']), phase3=dict(target_flops=1e9))
    del made['design']['subset_count']
    (folder/'long.yaml').write_text(yaml.safe_dump(made))
    run = Run(folder/'long.yaml', folder/'long')
    run.watch(CELLS//2)
    run.kill()
    shutil.copytree(folder/'long', folder/'stopped')
    again = Run(folder/'long.yaml', folder/'long')
    again.watch(CELLS + 1)
    return folder, run, again, again.process.communicate()[0]


def test_results_grow_with_the_run(killed):
    folder, run, again, said = killed
    assert again.process.returncode == 0, said
    assert len(run.seen) >= 3 and run.seen == sorted(run.seen) # from a few cells on, not at once at the end
    before, after = (pd.read_parquet(folder/name/'results.parquet') for name in ('stopped', 'long'))
    assert CELLS//2 <= before.cell.nunique() < after.cell.nunique() == len(pd.read_parquet(folder/'long'/'plan.parquet'))
    kept = after[after.cell.isin(before.cell.unique())].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before.reset_index(drop=True)) # what was done was not done again


def test_a_stopped_study_says_what_is_there(killed, xtl):
    folder, *_ = killed
    done = pd.read_parquet(folder/'stopped'/'results.parquet').cell.nunique()
    planned = len(pd.read_parquet(folder/'stopped'/'plan.parquet'))
    code, out, err = xtl('status', folder/'stopped')
    counts = out.strip().splitlines()[-1]
    assert code == 0 and ' 0 running' in counts and 'left' in counts, out + err
    finished = int(counts.split(' done')[0])
    assert done <= finished <= done + WORKERS # a cell may have ended just before the end
    code, out, err = xtl('report', folder/'stopped')
    assert code == 0, err
    page = (folder/'stopped'/'report'/'index.html').read_text()
    assert f'{planned - finished} of {planned} cells had not finished' in page


def test_the_store_never_holds_more_than_the_plan_says(killed):
    folder, run, again, _ = killed
    space = open_workspace(folder/'long')
    plan = disk_needed(read_study(str(folder/'long.yaml')), space.target_costs, space.shape.parameters)
    largest = max(run.largest, again.largest)
    assert 0 < largest <= plan.store + (WORKERS - 1)*plan.further
    assert largest < plan.written/2 or CELLS < 20 # it lets go of what nothing reads any more
    assert bytes_of(folder/'long'/'store') == 0 # and in the end of everything
