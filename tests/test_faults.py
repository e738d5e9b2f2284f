"""A run that is stopped leaves nothing behind and goes on; a cell that dies is told from one that fails; scheduler,
machine and folder may be shared, and strangers are refused."""
import json
import os
import re
import shutil
import signal
import socket
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
from distributed import LocalCluster
from distributed.security import Security

from chaos import chaos, started_by
from studies import tiny
from xtl.cli.main import answer
from xtl.core.errors import UserError
from xtl.execution.cluster import Cluster, connect, slurm_cluster
from xtl.execution.job import Job, claimed, read_status
from xtl.execution.notebook import KernelDied, execute_notebook
from xtl.execution.scratch import scratch_folder
from xtl.execution.worker import TRIM, Limits, cell_environment, execute_cell, visible_gpus
from xtl.study.presets import read_study
from xtl.transfer.layout import lay_out

BIN = Path(sys.executable).parent


STUDY = tiny(design=dict(targets=['xnli', 'tatoeba'], budgets=[4e9]), phase3=dict(target_flops=4e9))


@pytest.fixture
def study(tmp_path):
    path = tmp_path/'tiny.yaml'
    path.write_text(yaml.safe_dump(STUDY))
    return path


@pytest.fixture(scope='module')
def laid(tmp_path_factory):
    "The study laid out once; its data serve each test."
    folder = tmp_path_factory.mktemp('laid')
    (folder/'tiny.yaml').write_text(yaml.safe_dump(STUDY))
    return lay_out(read_study(str(folder/'tiny.yaml')), folder/'out').out


@pytest.fixture
def out(laid, tmp_path):
    "A folder for a run, which finds its data there."
    shutil.copytree(laid/'store'/'rows', tmp_path/'out'/'store'/'rows')
    return tmp_path/'out'


def begin(*words, **env):
    "Starts the command line; it listens to SIGHUP, even where the tests run under nohup."
    command = [str(BIN/'xtl'), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
                            env=os.environ | {'OMP_NUM_THREADS': '1'} | env)


def temporary(folder):
    "What lies in a folder for temporary files, but for the cache that torch keeps for all programs of a user."
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith('torchinductor'))


def wait_for_cells(run, parent=None):
    "Until the first cell has its kernel, however busy the machine is, and a moment longer. Its workers may have another parent."
    deadline, parent = time.time() + 300, parent or run.pid
    while 'kernel' not in {kind for kind, _ in started_by(parent)} and time.time() < deadline and run.poll() is None: time.sleep(0.2)
    time.sleep(1)


def test_a_stopped_run_leaves_no_process_nor_folder_and_goes_on(out, tmp_path, xtl, capsys):
    "By each signal in turn, on one folder; then it is run to its end. Of six cells some are left for the last signal."
    tmp, study = tmp_path/'tmp', tmp_path/'tiny.yaml'
    tmp.mkdir()
    study.write_text(yaml.safe_dump(STUDY | {'design': STUDY['design'] | {'seeds': [0, 1]}}))
    for how, workers in ((signal.SIGTERM, 2), (signal.SIGINT, 1), (signal.SIGHUP, 1), (signal.SIGKILL, 2)):
        run = begin('run', study, '--out', out, '--workers', workers, TMPDIR=str(tmp))
        wait_for_cells(run)
        children = psutil.Process(run.pid).children(recursive=True)
        assert {'kernel', 'cell'} <= {kind for kind, _ in started_by(run.pid)}
        assert all(re.fullmatch('xtl-[0-9a-f]{16}', name) for name in temporary(tmp)) and temporary(tmp)
        assert {p.stat().st_mode & 0o777 for p in tmp.glob('xtl-*')} == {0o700}
        run.send_signal(how)
        _, err = run.communicate(timeout=180)
        if how == signal.SIGKILL: assert run.returncode == -9
        else: assert run.returncode == 130 and err == 'xtl: stopped; the same command goes on from here\n', err
        assert not psutil.wait_procs(children, timeout=30)[1]
        if how != signal.SIGKILL: assert temporary(tmp) == []
        assert answer(['status', str(out)])[0] == 0
        text = capsys.readouterr().out
        assert '0 running' in text and 'was stopped' in text
    code, text, err = xtl('run', study, '--out', out, TMPDIR=str(tmp))
    assert code == 0, err
    assert pd.read_parquet(out/'results.parquet').cell.nunique() == 6
    assert not list(out.rglob('*.part')) and not list(out.rglob('.scratch.*')) and temporary(tmp) == []


# What another user does where the tests run as root; otherwise the same one, without the keys too. A first try, at
# an address where nobody is, loads what Dask loads late, as another user may not read it.
STRANGER = '''
import os, socket, sys
from distributed import Client
from distributed.security import Security
keys = Security.temporary()
def attempt(address, security):
    try: Client(address, security=security, timeout=3)
    except OSError as error: return 'failed' if isinstance(error, PermissionError) else 'refused'
    return 'let in'
for nobody, security in (('tls://127.0.0.1:1', keys), ('tcp://127.0.0.1:1', None)): attempt(nobody, security)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for there in sys.argv[1:]:
    host, port = there.removeprefix('tls://').split(':')
    with socket.create_connection((host, int(port))): print('reached', end=' ')
    print(attempt(there, keys), attempt(there.replace('tls', 'tcp'), None))
'''


def page(port, path):
    "What a server of web pages answers first; empty where none is."
    with suppress(ConnectionError), socket.create_connection(('127.0.0.1', port), timeout=10) as there:
        there.sendall(f'GET {path} HTTP/1.0\r\n\r\n'.encode())
        said = there.recv(12)
        return said.decode() if said.startswith(b'HTTP/') else ''
    return ''


def listening(pid):
    "Ports at which a process waits for others of its cluster, and those at which it has a server of web pages."
    found = psutil.Process(pid).net_connections()
    ports = [c.laddr.port for c in found if c.status == psutil.CONN_LISTEN]
    web = [port for port in ports if page(port, '/')] # its client would wait there for a scheduler without end
    return [port for port in ports if port not in web], web


PAGES = ('/health', '/info/main/workers.html', '/json/counts.json', '/json/index.html', '/metrics', '/statics/css/base.css', '/status')


def test_a_stranger_is_refused_by_the_scheduler_and_the_workers_of_a_running_study(study, out, tmp_path):
    run = begin('run', study, '--out', out, '--workers', '1', IPYTHONDIR=kernels_that(tmp_path, 'time.sleep(600)'))
    try:
        wait_for_cells(run)
        workers = [process.pid for kind, process in started_by(run.pid) if kind == 'worker']
        found = [listening(pid) for pid in (run.pid, *workers)]
        addresses = [f'tls://127.0.0.1:{port}' for ports, _ in found for port in ports]
        assert {page(port, path) for _, web in found for port in web for path in PAGES} <= {'HTTP/1.1 404', 'HTTP/1.0 404'}
        assert len(addresses) >= 2 # the scheduler and a worker at least
        said = subprocess.run([sys.executable, '-c', STRANGER, *addresses], capture_output=True, text=True, cwd='/', timeout=240)
        assert said.stdout.splitlines() == ['reached refused refused']*len(addresses), (addresses, said.stdout, said.stderr)
        seen = subprocess.run(['ps', 'axeww'], capture_output=True, text=True).stdout
        assert 'PRIVATE KEY' not in seen # neither in arguments nor in the environment
    finally:
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=180)


def key_files(folder):
    "Keys as a user has them in files, and Dask's configuration that names them."
    keys = Security.temporary()
    names = dict(ca=keys.tls_ca_file, cert=keys.tls_client_cert, key=keys.tls_client_key)
    for name, text in names.items():
        (folder/f'{name}.pem').write_text(text)
        (folder/f'{name}.pem').chmod(0o600)
    return {f'tls_{name}': str(folder/f'{name}.pem') for name in names}


def test_a_running_scheduler_with_keys_is_used_by_those_who_have_them(tmp_path):
    files = key_files(tmp_path)
    roles = {f'tls_{role}_{what}': files[f'tls_{what}']
             for role in ('scheduler', 'worker', 'client') for what in ('cert', 'key')}
    security = Security(tls_ca_file=files['tls_ca'], require_encryption=True, **roles)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol='tls://', security=security,
                      dashboard_address=None) as there:
        address = there.scheduler_address
        with connect(Cluster(scheduler=address, **files)) as client:
            assert client.submit(int, '7').result(timeout=60) == 7
        others = tmp_path/'others'
        others.mkdir()
        with pytest.raises(UserError, match='answers at .* with these keys'):
            with connect(Cluster(scheduler=address, **key_files(others))): pass
        with pytest.raises(UserError, match='needs files of an authority'):
            with connect(Cluster(scheduler=address)): pass


def test_the_keys_of_a_cluster_are_read_by_its_user_alone(tmp_path, monkeypatch):
    "As far as it goes without a Slurm; `tests/slurm.sh` has one."
    pytest.importorskip('dask_jobqueue')
    monkeypatch.setattr(shutil, 'which', lambda name: f'/usr/bin/{name}')
    (tmp_path/'slurm.yaml').write_text('queue: all\ncores: 1\nmemory: 1GB\ninterface: lo\n')
    with scratch_folder(tmp_path/'running', tmp_path) as keys, slurm_cluster(tmp_path/'slurm.yaml', keys) as there:
        script, files = there.job_script(), sorted(keys.iterdir())
        assert there.scheduler_address.startswith('tls://') and len(files) == 3
        assert all(p.stat().st_mode & 0o777 == 0o600 and str(p) in script for p in files)
        assert keys.stat().st_mode & 0o777 == 0o700 and 'PRIVATE KEY' not in script
        assert "HTTP__ROUTES='[]'" in script and page(there.scheduler.http_server.port, '/health').endswith(' 404')
    assert not keys.exists()


WRITES_ON = """
import os, sys
from pathlib import Path
from threading import Thread
from xtl.execution.job import Job, _end_with, _noted, claim_cell
from xtl.execution.scratch import scratch_folder
job = Job(sys.argv[1], 'cell', {}, {})
reads, writes = os.pipe()
held = []
with claim_cell(job.folder), _noted(held, job.folder), scratch_folder(job.folder) as scratch, _noted(held, scratch):
    Thread(target=_end_with, args=(reads, job, held), daemon=True).start()
    os.close(writes)
    while True: (job.folder/'.cell.ipynb.1.abc.part').write_text('a notebook')
"""

def test_a_cell_that_is_ended_while_it_writes_leaves_no_part(tmp_path):
    for i in range(3):
        folder = tmp_path/str(i)/'cells'/'cell'
        ended = subprocess.run([sys.executable, '-c', WRITES_ON, str(tmp_path/str(i))], env=os.environ | {'TMPDIR': str(tmp_path)}, timeout=60)
        assert ended.returncode == 1
        deadline = time.time() + 30 # of the process that tidies up
        while (left := sorted(p.name for p in folder.iterdir())) != ['.claim', 'cell.ipynb']: assert time.time() < deadline, left; time.sleep(0.02)
        while claimed(tmp_path/str(i), 'cell'): time.sleep(0.02)
    assert not list(tmp_path.glob('xtl-*'))


def test_a_study_survives_kills_and_a_second_run():
    "The short form of `python tests/chaos.py`."
    chaos(cells=5, kills=3, workers=(), compared=0, pause=2.5)


@contextmanager
def scheduler(folder, workers):
    "A Dask scheduler and its workers, each in a process of its own."
    log = open(folder/'dask.log', 'w')
    (folder/'scheduler.json').unlink(missing_ok=True)
    env = os.environ | {'OMP_NUM_THREADS': '1'}
    def start(*words):
        command = [str(BIN/'dask'), *map(str, words), '--no-dashboard']
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=env)
    file = ('--scheduler-file', folder/'scheduler.json')
    processes = [start('scheduler', '--host', '127.0.0.1', '--port', 0, *file)]
    try:
        while not (folder/'scheduler.json').exists(): time.sleep(0.2)
        processes.append(start('worker', *file, '--nthreads', 1, '--nworkers', workers, '--resources', 'GPU=1',
                               '--local-directory', folder))
        yield yaml.safe_load((folder/'scheduler.json').read_text())['address'], processes[0]
    finally:
        for process in processes: process.terminate()
        for process in processes: process.wait(30)


def test_a_scheduler_that_stops_is_answered_by_one_line_and_the_next_run_completes(study, out, tmp_path, xtl):
    with scheduler(tmp_path, 1) as (address, process):
        run = begin('run', study, '--out', out, '--scheduler', address)
        wait_for_cells(run, os.getpid())
        process.terminate()
        _, err = run.communicate(timeout=180)
        said = 'xtl: the Dask scheduler is gone; the same command, with a scheduler that runs, goes on from here\n'
        assert run.returncode == 1 and err == said, err
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
def test_a_scheduler_that_is_not_there_is_named(study, out, here, words, message):
    code, _, err = here('run', study, '--out', out, *words)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize('text, message', [
    ('queue: gpu\ncoers: 1\n', "did you mean 'cores'?"),
    ('[1, 2]', 'must hold arguments of SLURMCluster'),
    ('a: [1', 'is no YAML'),
])
def test_a_wrong_slurm_file_is_refused(study, out, tmp_path, here, text, message):
    pytest.importorskip('dask_jobqueue')
    (tmp_path/'slurm.yaml').write_text(text)
    code, _, err = here('run', study, '--out', out, '--slurm', tmp_path/'slurm.yaml')
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1, err


def stand_in(folder, script, monkeypatch, **limits):
    "How a cell ends whose interpreter is a shell script."
    (folder/'workspace.json').write_text('{}')
    (folder/'python').write_text(f'#!/bin/sh\necho x >> "$0.count"\n{script}\n')
    (folder/'python').chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(folder/'python'))
    started = time.time()
    outcome = execute_cell(Job(str(folder), 'cell', {}, {}), Limits(**limits), wanted=lambda: True)
    assert read_status(folder, 'cell')['error'] == outcome.error
    assert time.time() - started < 50 # less than the script sleeps
    return outcome, (folder/'python.count').read_text().count('x')


# Reports once, then no more
REPORTS = """cell="$(dirname $0)/cells/cell"; mkdir -p $cell
echo '{"state": "running", "phase": "target"}' > $cell/status.json
exec sleep 60"""


@pytest.mark.parametrize('script, limits, error, attempts', [
    # as the system does for want of memory
    ('kill -9 $$', {}, 'its process was killed by SIGKILL, perhaps for want of memory (attempt 3 of 3)', 3),
    ('kill -11 $$', {}, 'its process was killed by SIGSEGV (attempt 3 of 3)', 3),
    ('echo "No module named xtl" >&2; exit 1', {}, 'its process ended with 1: No module named xtl', 1),
    ('exec sleep 60', dict(limit=1), 'ran longer than 1 s', 1),
    ('exec sleep 60', dict(hang=1, start=1), 'did not start within 1 s (attempt 3 of 3)', 3),
    (REPORTS, dict(hang=1), 'hung: no progress for 1 s (attempt 3 of 3)', 3),
    (REPORTS.replace('target', 'starting'), dict(hang=1, limit=4), 'ran longer than 4 s', 1), # slow, not hung
])
def test_faults_are_told_apart_and_tried_again_where_that_helps(tmp_path, monkeypatch, script, limits, error, attempts):
    outcome, tried = stand_in(tmp_path, script, monkeypatch, **limits)
    assert (outcome.state, outcome.error, tried) == ('failed', error, attempts)


def test_a_folder_that_a_worker_does_not_see_is_named(tmp_path):
    outcome = execute_cell(Job(str(tmp_path/'nowhere'), 'cell', {}, {}), Limits(), wanted=lambda: True)
    assert outcome.state == 'failed' and 'does not see' in outcome.error


def test_a_cell_whose_kernel_is_killed_every_time_keeps_its_notebook(study, out, tmp_path, xtl):
    "Its first phase is left to be done again and again by an encoder that kills the kernel when it is read."
    code, _, err = xtl('run', study, '--out', out, '--workers', '1', '--n-tasks', '0', '--set', 'design.controls=[none]', '--set', 'design.budgets=[]',
                       IPYTHONDIR=kernels_that(tmp_path, KILLED))
    assert code == 1, err
    assert 'failed: none-r0: its kernel was killed by SIGKILL, perhaps for want of memory (attempt 3 of 3)' in err, err
    assert 'found = run_cell(space, cell' in (out/'cells'/'none-r0'/'cell.ipynb').read_text()
    assert not list((out/'cells').rglob('*.part')) # what it left in the store is removed by whoever computes it next
    assert '1 failed' in xtl('status', out)[1]


KILLED = """def watch():
    while 'xtl.evaluation.languages' not in sys.modules: time.sleep(0.01)
    time.sleep(1)
    os.kill(os.getpid(), 9)
threading.Thread(target=watch, daemon=True).start()"""


def kernels_that(folder, script):
    "A folder for IPython with which every kernel first runs a script."
    startup = folder/'ipython'/'profile_default'/'startup'
    startup.mkdir(parents=True)
    (startup/'first.py').write_text(f'import os, sys, threading, time\n{script}\n')
    return str(folder/'ipython')


@pytest.mark.parametrize('program, error', [
    (['false'], 'its kernel did not start: it ended with 1'),
    (['sh', '-c', 'sleep 60'], 'its kernel did not start: Kernel didn.t respond in 2 seconds'),
])
def test_a_kernel_that_does_not_start_is_named(tmp_path, monkeypatch, program, error):
    (tmp_path/'kernels'/'python3').mkdir(parents=True)
    spec = dict(argv=program, display_name='broken', language='python')
    (tmp_path/'kernels'/'python3'/'kernel.json').write_text(json.dumps(spec))
    monkeypatch.setenv('JUPYTER_PATH', str(tmp_path))
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('1')]), tmp_path/'template.ipynb')
    with pytest.raises(KernelDied, match=error):
        execute_notebook(tmp_path/'template.ipynb', tmp_path/'done.ipynb', {}, start_timeout=2)


def test_every_local_worker_has_its_gpu_and_declares_it(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    with connect(Cluster(3)) as client:
        client.wait_for_workers(3, timeout=120) # a run begins with the first that is there
        assert sorted(client.run(visible_gpus).values()) == [['3'], ['3'], ['5']]
        assert [w['resources'] for w in client.scheduler_info(n_workers=-1)['workers'].values()] == [{'GPU': 1.0}]*3


def test_a_cell_keeps_the_memory_that_dask_has_its_workers_give_back(monkeypatch):
    monkeypatch.delenv(TRIM[0], raising=False)
    with connect(Cluster(1)) as client:
        worker, = client.run(lambda: dict(os.environ)).values()
        cell, = client.run(cell_environment, 1, None).values()
    assert TRIM in worker.items() and TRIM[0] not in cell
    assert worker.keys() - cell.keys() == {TRIM[0]}


def test_a_worker_that_dies_again_while_it_starts_is_replaced():
    def workers(): return [p for kind, p in started_by(os.getpid()) if kind == 'worker']
    with connect(Cluster(1)) as client:
        for _ in range(3):
            before = workers()
            for process in before:
                with suppress(psutil.NoSuchProcess): process.kill()
            deadline = time.time() + 60
            # the next one is killed at its start
            while not set(workers()) - set(before) and time.time() < deadline: time.sleep(0.01)
        assert client.submit(int, '7').result(timeout=120) == 7


def test_workers_that_take_long_to_end_are_no_fault_of_a_run(monkeypatch):
    from distributed.deploy import SpecCluster
    close = SpecCluster.__exit__
    def slowly(self, *error):
        close(self, *error)
        raise TimeoutError # what Dask raises on a busy machine
    monkeypatch.setattr(SpecCluster, '__exit__', slowly)
    with connect(Cluster(1)) as client: worker, = client.run(os.getpid).values()
    assert not psutil.pid_exists(worker)
    with pytest.raises(TimeoutError), connect(Cluster(1)): raise TimeoutError # one of the run itself
