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

from chaos import started_by
from studies import ROWS, tiny

SEVERAL = dict(intermediate=['mnli', 'qqp'], targets=['xnli', 'panx', 'tatoeba'], budgets=[4e9], n_tasks=[2], controls=[])


def start(folder, n, design=None, **changes):
    "A run with so many processes a cell."
    study = tiny(**dict(name='several', phase2=dict(score_intermediate=True), mlm=dict(share=0.2, languages='targets', batch_size=8), device=dict(processes=n), design=SEVERAL | (design or {})) | changes)
    (folder/f'{n}.yaml').write_text(yaml.safe_dump(study))
    return subprocess.Popen([str(Path(sys.executable).parent/'xtl'), 'run', str(folder/f'{n}.yaml'), '--out', str(folder/str(n)), '--workers', '1'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {'OMP_NUM_THREADS': '1'})


def forked(run):
    "The processes that a kernel of a run has forked."
    with suppress(psutil.Error):
        kernels = [p for kind, p in started_by(run.pid) if kind == 'kernel']
        return [k for k in kernels if k.parent() in kernels]
    return []


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "The same study with one process a cell and with two, one of which is killed."
    folder = tmp_path_factory.mktemp('processes')
    alone = start(folder, 1)
    out, err = alone.communicate(timeout=600)
    assert alone.returncode == 0, err
    both, deadline = start(folder, 2), time.time() + 300
    while len(found := forked(both)) < 2 and time.time() < deadline and both.poll() is None: time.sleep(0.05)
    assert len(found) == 2
    found[1].send_signal(signal.SIGKILL)
    out, err = both.communicate(timeout=600)
    assert both.returncode == 0 and 'k2-s0-b4e9-r0: done' in out, err
    return folder, found


def tables(runs, name): return (pd.read_parquet(runs[0]/str(n)/f'{name}.parquet') for n in (1, 2))


def test_two_processes_learn_what_one_does(runs):
    one, two = tables(runs, 'curves')
    both = one.merge(two, on=['phase', 'task', 'step'], suffixes=('', '_two'))
    # near its end a run's tasks may come in another order: halves of a batch have less padding
    assert set(both.task) >= {'mnli', 'qqp', 'mlm', 'xnli', 'panx'}
    np.testing.assert_allclose(both.loss_two, both.loss, rtol=0.02)
    one, two = tables(runs, 'results')
    keys = ['cell', 'target', 'language', 'metric']
    assert one[keys].equals(two[keys]) and (one.score - two.score).abs().mean() < 3
    assert (two.flops_intermediate/two.budget_flops).between(1, 1.03).all() # an item beyond at most
    assert set(two.device_processes) == {2}
    one, two = tables(runs, 'intermediate')
    assert one[['task', 'metric']].equals(two[['task', 'metric']])


def test_every_batch_is_counted_once(runs):
    one, two = (t.set_index(['phase', 'task']) for t in tables(runs, 'ledger'))
    for column in ('useful_flops', 'sequences', 'tokens'):
        # to an item, of which these few batches hold some thirty
        assert (two[column]/one[column]).between(0.94, 1.06).all(), column
    assert set(two.device) == {'2 x ' + one.device.iloc[0]}


def test_a_process_that_was_killed_leaves_nothing_behind(runs):
    assert not [p for p in runs[1] if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not list(runs[0].rglob('*.part')) and not list(runs[0].glob('*/running/*'))


def test_a_loss_that_is_no_number_is_named_with_its_step(tmp_path):
    broken = start(tmp_path, 2, dict(targets=['tatoeba'], intermediate=['mnli'], n_tasks=[1]), phase2=dict(learning_rate=1e30, max_grad_norm=0),
                   phase3=dict(recipes={'all': ROWS}))
    _, err = broken.communicate(timeout=600)
    assert broken.returncode == 1 and 'the loss became' in err and 'step' in err, err
    assert len(err.strip().splitlines()) == 1, err
