"A cell that trains in several processes: what it gives, how it fails, what it leaves behind."
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from test_cli import TINY

STUDY = TINY | dict(name='several', targets=['xnli', 'panx', 'tatoeba'], budgets=[4e9], n_tasks=[2], controls=[], score_intermediate=True)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "The same study with one process a cell and with two."
    folder = tmp_path_factory.mktemp('processes')
    for n in (1, 2):
        (folder/f'{n}.yaml').write_text(yaml.safe_dump(STUDY | dict(processes=n)))
        done = subprocess.run([str(Path(sys.executable).parent/'xtl'), 'run', str(folder/f'{n}.yaml'), '--out', str(folder/str(n)), '--workers', '1'], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
    return folder


def table(runs, n, name): return pd.read_parquet(runs/str(n)/f'{name}.parquet')


def test_two_processes_learn_what_one_does(runs):
    both = table(runs, 1, 'curves').merge(table(runs, 2, 'curves'), on=['phase', 'task', 'step'], suffixes=('', '_two'))
    assert set(both.task) >= {'mnli', 'csqa', 'xnli', 'panx'} # near its end a run's tasks may come in another order: halves of a batch have less padding
    np.testing.assert_allclose(both.loss_two, both.loss, rtol=0.02)
    one, two = (table(runs, n, 'results') for n in (1, 2))
    keys = ['cell', 'target', 'language', 'metric']
    assert one[keys].equals(two[keys]) and (one.score - two.score).abs().mean() < 3
    assert ((two.flops_intermediate >= two.budget_flops) & (two.flops_intermediate < 1.03*two.budget_flops)).all() # an item beyond at most
    assert table(runs, 1, 'intermediate')[['task', 'metric']].equals(table(runs, 2, 'intermediate')[['task', 'metric']])
    assert set(two.processes) == {2}


def test_every_batch_is_counted_once(runs):
    one, two = (table(runs, n, 'ledger').set_index(['phase', 'task']) for n in (1, 2))
    for column in ('useful_flops', 'sequences', 'tokens'): assert (two[column]/one[column]).between(0.94, 1.06).all(), column # to an item, of which these few batches hold some thirty


def test_a_loss_that_is_no_number_is_named_with_its_step(xtl, tmp_path):
    (tmp_path/'broken.yaml').write_text(yaml.safe_dump(STUDY | dict(processes=2, targets=['tatoeba'], learning_rate=1e30, recipes={'all': {'max_length': 96, 'batch_size': 16, 'max_grad_norm': 0.0}})))
    code, _, err = xtl('run', tmp_path/'broken.yaml', '--out', tmp_path/'out', '--workers', '1')
    assert code == 1 and 'the loss became' in err and 'step' in err and len(err.strip().splitlines()) == 1, err


def test_a_process_that_is_killed_has_its_cell_done_again(runs, tmp_path):
    (tmp_path/'long.yaml').write_text(yaml.safe_dump(STUDY | dict(processes=2, target_flops=2e10)))
    run = subprocess.Popen([str(Path(sys.executable).parent/'xtl'), 'run', str(tmp_path/'long.yaml'), '--out', str(tmp_path/'out'), '--workers', '1'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           env=os.environ | {'OMP_NUM_THREADS': '1'})
    def processes():
        "Those that a kernel has forked."
        with suppress(psutil.Error):
            kernels = [p for p in psutil.Process(run.pid).children(recursive=True) if 'ipykernel_launcher' in ' '.join(p.cmdline())]
            return [k for k in kernels if k.parent() in kernels]
        return []
    deadline = time.time() + 300
    while len(found := processes()) < 2 and time.time() < deadline and run.poll() is None: time.sleep(0.1)
    assert len(found) == 2
    found[1].send_signal(signal.SIGKILL)
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0 and 'done' in out, err
    assert not [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not list((tmp_path/'out').rglob('*.part'))
