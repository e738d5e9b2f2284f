"A run that is stopped leaves nothing behind and goes on; a cell that dies is told from one that fails; the scheduler and the disk folder may be shared."
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
import yaml

from chaos import chaos, started_by
from studies import tiny
from xtl.execution.cluster import Cluster, connect
from xtl.execution.job import Job, claimed, read_status
from xtl.execution.notebook import KernelDied, execute_notebook
from xtl.execution.worker import Limits, execute_cell, visible_gpus

BIN = Path(sys.executable).parent


@pytest.fixture
def study(tmp_path):
    path = tmp_path/'tiny.yaml'
    path.write_text(yaml.safe_dump(tiny(design=dict(targets=['xnli', 'tatoeba'], budgets=[4e9]), phase3=dict(target_flops=2e10))))
    return path


def begin(*words):
    "Starts the command line."
    return subprocess.Popen([str(BIN/'xtl'), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {'OMP_NUM_THREADS': '1'})


def wait_for_cells(run, out):
    "Until the first cell runs, and a little longer."
    deadline = time.time() + 300
    while not list(out.glob('cells/*/status.json')) and time.time() < deadline and run.poll() is None: time.sleep(0.2)
    time.sleep(3)


@pytest.mark.parametrize('how', [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_leaves_no_process_and_goes_on(study, tmp_path, xtl, how):
    out = tmp_path/'out'
    run = begin('run', study, '--out', out, '--workers', '2')
    wait_for_cells(run, out)
    children = psutil.Process(run.pid).children(recursive=True)
    assert {'kernel', 'cell'} <= {kind for kind, _ in started_by(run.pid)}
    run.send_signal(how)
    _, err = run.communicate(timeout=180)
    if how == signal.SIGKILL: assert run.returncode == -9
    else: assert run.returncode == 130 and err == 'xtl: stopped; the same command goes on from here\n', err
    assert not psutil.wait_procs(children, timeout=30)[1]
    text = xtl('status', out)[1]
    assert '0 running' in text and 'was stopped' in text
    code, text, err = xtl('run', study, '--out', out)
    assert code == 0, err
    assert set(pd.read_parquet(out/'results.parquet').cell) == {'none-r0', 'target-only-b4e09-r0', 'k2-s0-b4e09-r0'}
    assert not list(out.rglob('*.part'))


def test_a_study_survives_kills_and_a_second_run():
    "The short form of `python tests/chaos.py`."
    chaos(cells=5, kills=3, workers=(), compared=0, pause=2.5)


@contextmanager
def scheduler(folder, workers):
    "A Dask scheduler and its workers, each in a process of its own."
    log = open(folder/'dask.log', 'w')
    (folder/'scheduler.json').unlink(missing_ok=True)
    def start(*words): return subprocess.Popen([str(BIN/'dask'), *map(str, words)], stdout=log, stderr=log, cwd=folder, env=os.environ | {'OMP_NUM_THREADS': '1'})
    processes = [start('scheduler', '--host', '127.0.0.1', '--port', 0, '--no-dashboard', '--scheduler-file', folder/'scheduler.json')]
    try:
        while not (folder/'scheduler.json').exists(): time.sleep(0.2)
        processes.append(start('worker', '--scheduler-file', folder/'scheduler.json', '--nthreads', 1, '--nworkers', workers, '--resources', 'GPU=1', '--no-dashboard', '--local-directory', folder))
        yield yaml.safe_load((folder/'scheduler.json').read_text())['address'], processes[0]
    finally:
        for process in processes: process.terminate()
        for process in processes: process.wait(30)


def test_a_scheduler_that_stops_is_answered_by_one_line_and_the_next_run_completes(study, tmp_path, xtl):
    out = tmp_path/'out'
    with scheduler(tmp_path, 1) as (address, process):
        run = begin('run', study, '--out', out, '--scheduler', address)
        wait_for_cells(run, out)
        process.terminate()
        _, err = run.communicate(timeout=180)
        assert run.returncode == 1 and err == 'xtl: the Dask scheduler is gone; the same command, with a scheduler that runs, goes on from here\n', err
        deadline = time.time() + 60
        while any(claimed(out, p.name) for p in (out/'cells').iterdir()): assert time.time() < deadline; time.sleep(0.2)
    with scheduler(tmp_path, 1) as (address, _):
        code, text, err = xtl('run', study, '--out', out, '--scheduler', address)
    assert code == 0 and err == '' and pd.read_parquet(out/'results.parquet').cell.nunique() == 3, err


@pytest.mark.parametrize('words, message', [
    (['--scheduler', 'tcp://127.0.0.1:1'], "no Dask scheduler answers at 'tcp://127.0.0.1:1'"),
    (['--scheduler', 'nowhere at all'], "no Dask scheduler answers at 'nowhere at all'"),
    (['--scheduler', 'tcp://127.0.0.1:1', '--workers', '2'], 'leave out --workers'),
])
def test_a_scheduler_that_is_not_there_is_named(study, tmp_path, xtl, words, message):
    code, _, err = xtl('run', study, '--out', tmp_path/'out', *words)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize('text, message', [('queue: gpu\ncoers: 1\n', "did you mean 'cores'?"), ('[1, 2]', 'must hold arguments of SLURMCluster'), ('a: [1', 'is no YAML')])
def test_a_wrong_slurm_file_is_refused(study, tmp_path, xtl, text, message):
    pytest.importorskip('dask_jobqueue')
    (tmp_path/'slurm.yaml').write_text(text)
    code, _, err = xtl('run', study, '--out', tmp_path/'out', '--slurm', tmp_path/'slurm.yaml')
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1, err


def stand_in(folder, script, monkeypatch, **limits):
    "How a cell ends whose interpreter is a shell script."
    (folder/'workspace.json').write_text('{}')
    (folder/'python').write_text(f'#!/bin/sh\necho x >> "$0.count"\n{script}\n')
    (folder/'python').chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(folder/'python'))
    started = time.time()
    outcome = execute_cell(Job(str(folder), 'cell', {}, {}), Limits(**limits), wanted=lambda: True)
    assert read_status(folder, 'cell')['error'] == outcome.error and time.time() - started < 50 # less than the script sleeps
    return outcome, (folder/'python.count').read_text().count('x')


@pytest.mark.parametrize('script, limits, error, attempts', [
    ('kill -9 $$', {}, 'its process was killed by SIGKILL, perhaps for want of memory (attempt 3 of 3)', 3), # as the system does for want of memory
    ('kill -11 $$', {}, 'its process was killed by SIGSEGV (attempt 3 of 3)', 3),
    ('echo "No module named xtl" >&2; exit 1', {}, 'its process ended with 1: No module named xtl', 1),
    ('exec sleep 60', dict(limit=1), 'ran longer than 1 s', 1),
    ('exec sleep 60', dict(hang=1), 'hung: no progress for 1 s (attempt 3 of 3)', 3),
])
def test_faults_are_told_apart_and_tried_again_where_that_helps(tmp_path, monkeypatch, script, limits, error, attempts):
    outcome, tried = stand_in(tmp_path, script, monkeypatch, **limits)
    assert (outcome.state, outcome.error, tried) == ('failed', error, attempts)


def test_a_folder_that_a_worker_does_not_see_is_named(tmp_path):
    outcome = execute_cell(Job(str(tmp_path/'nowhere'), 'cell', {}, {}), Limits(), wanted=lambda: True)
    assert outcome.state == 'failed' and 'does not see' in outcome.error


def test_a_cell_whose_kernel_is_killed_every_time_keeps_its_notebook(study, tmp_path, xtl):
    "Its first phase is left to be done again and again by an encoder that kills the kernel when it is read."
    out = tmp_path/'out'
    code, _, err = xtl('run', study, '--out', out, '--workers', '1', '--n-tasks', '0', PYTHONPATH=str(killer(tmp_path)))
    assert code == 1 and 'failed: none-r0: its kernel was killed by SIGKILL, perhaps for want of memory (attempt 3 of 3)' in err, err
    assert 'pieces = cell_pieces' in (out/'cells'/'none-r0'/'cell.ipynb').read_text()
    assert not list((out/'cells').rglob('*.part')) # what it left in the store is removed by whoever computes it next
    assert '2 failed' in xtl('status', out)[1]


def killer(folder):
    "A folder that, first on Python's path, makes kernels kill themselves when they train or score."
    (folder/'path').mkdir()
    (folder/'path'/'sitecustomize.py').write_text('''
import os, sys, threading, time
def watch():
    while 'xtl.evaluation.languages' not in sys.modules: time.sleep(0.01)
    time.sleep(1)
    os.kill(os.getpid(), 9)
if 'ipykernel_launcher' in ' '.join(sys.orig_argv): threading.Thread(target=watch, daemon=True).start()
''')
    return os.pathsep.join([str(folder/'path'), os.environ.get('PYTHONPATH', '')])


@pytest.mark.parametrize('program, error', [(['false'], 'its kernel did not start: it ended with 1'), (['sh', '-c', 'sleep 60'], 'its kernel did not start: Kernel didn.t respond in 2 seconds')])
def test_a_kernel_that_does_not_start_is_named(tmp_path, monkeypatch, program, error):
    (tmp_path/'kernels'/'python3').mkdir(parents=True)
    (tmp_path/'kernels'/'python3'/'kernel.json').write_text(json.dumps(dict(argv=program, display_name='broken', language='python')))
    monkeypatch.setenv('JUPYTER_PATH', str(tmp_path))
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('1')]), tmp_path/'template.ipynb')
    with pytest.raises(KernelDied, match=error): execute_notebook(tmp_path/'template.ipynb', tmp_path/'done.ipynb', {}, start_timeout=2)


def test_every_local_worker_has_its_gpu_and_declares_it(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    with connect(Cluster(3)) as client:
        client.wait_for_workers(3, timeout=120) # a run begins with the first that is there
        assert sorted(client.run(visible_gpus).values()) == [['3'], ['3'], ['5']]
        assert [w['resources'] for w in client.scheduler_info(n_workers=-1)['workers'].values()] == [{'GPU': 1.0}]*3


def test_a_worker_that_dies_again_while_it_starts_is_replaced():
    def workers(): return [p for kind, p in started_by(os.getpid()) if kind == 'worker']
    with connect(Cluster(1)) as client:
        for _ in range(3):
            before = workers()
            for process in before:
                with suppress(psutil.NoSuchProcess): process.kill()
            deadline = time.time() + 60
            while not set(workers()) - set(before) and time.time() < deadline: time.sleep(0.01) # the next one is killed at its start
        assert client.submit(int, '7').result(timeout=120) == 7


def test_a_table_is_exported_as_csv(study, tmp_path, xtl):
    out = tmp_path/'out'
    assert xtl('run', study, '--out', out, '--n-tasks', '0', '--targets', 'tatoeba')[0] == 0
    code, text, err = xtl('export', out, '--csv', tmp_path/'results.csv')
    table, read = pd.read_parquet(out/'results.parquet'), pd.read_csv(tmp_path/'results.csv')
    assert code == 0 and list(read.columns) == list(table.columns) and read.score.tolist() == table.score.tolist() and read.flops_target.tolist() == table.flops_target.tolist(), err
    for column in ('phase2_learning_rate', 'phase2_schedule', 'mixture_sampling', 'design_budget_scope', 'device_precision', 'encoder_fingerprint', 'data_source', 'code', 'version_torch', 'version_transformers', 'target_learning_rate'):
        assert table[column].notna().all(), column
    code, _, err = xtl('export', out, '--csv', tmp_path/'x.csv', '--table', 'result')
    assert code == 2 and "did you mean 'results'?" in err
    assert xtl('export', tmp_path/'nowhere', '--csv', tmp_path/'x.csv')[0] == 2
