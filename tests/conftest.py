"""What the tests share: the real data beside the project, a strict mode that forbids skips, a command line that is run
as a user runs it."""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Sums depend on the number of threads: the same one here, before torch is imported, and in what the tests start
os.environ['OMP_NUM_THREADS'] = '1'

import pytest

ROOT = Path(__file__).parent.parent


def real_data():
    "The mirror with real data: XTL_DATA, or the one beside the project."
    given = os.environ.get('XTL_DATA')
    return Path(given) if given else ROOT.parent/'shared'/'hub'


def gpu():
    "Whether what only a GPU can show is to be tested."
    import torch
    return torch.cuda.is_available() or 'XTL_GPU' in os.environ


collect_ignore = [] if gpu() else ['test_gpu.py']


def pytest_report_header():
    return 'GPU: tests of it, too' if gpu() else 'no GPU: its own tests, test_gpu.py, are not collected'


def pytest_configure(config):
    "The embedded world is written once for all tests, as `make test` has it: the workers of a parallel run are told by the first process."
    if 'XTL_WORLD' in os.environ: return
    config.own_world = os.environ['XTL_WORLD'] = tempfile.mkdtemp(prefix='xtl-world-')


# Files that take longest, the longest first: one that is begun last leaves the other worker of a parallel run idle
LONG = ('faults', 'real_study', 'report', 'training', 'cli', 'steps', 'processes', 'long', 'hub', 'mini', 'data', 'tasks')


def pytest_collection_modifyitems(items):
    place = {f'test_{name}': i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place))) # which leaves the order within a file


def pytest_unconfigure(config):
    if hasattr(config, 'own_world'): shutil.rmtree(config.own_world, ignore_errors=True)


@pytest.fixture(scope='session')
def written_world():
    "The embedded world as a mirror, which nobody may change."
    from xtl.core.steps import Store
    from xtl.world.once import World
    return Store(Path(os.environ['XTL_WORLD'])).get(World())


@pytest.fixture(scope='session')
def hub():
    folder = real_data()
    if not (folder/'google'/'xtreme').is_dir():
        pytest.skip('no real data: set XTL_DATA to a mirror, or put one at ../shared/hub')
    return folder


@pytest.fixture
def xtl():
    "Runs the command line; gives exit code, standard output and standard error."
    def run(*words, timeout=600, **env):
        command = [str(Path(sys.executable).parent/'xtl'), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout,
                              env={k: v for k, v in os.environ.items() if k != 'XTL_DATA'} | env)
        return done.returncode, done.stdout, done.stderr
    return run


@pytest.fixture
def here(capsys, monkeypatch):
    "Runs a command in this process, where that it is one of its own is not the point; gives what `xtl` gives."
    from xtl.cli.main import answer, printed_line
    monkeypatch.delenv('XTL_DATA', raising=False)
    def run(*words):
        capsys.readouterr()
        code, line = answer([str(w) for w in words])
        out, err = capsys.readouterr()
        return code, out, err + (printed_line(line) + '\n' if line else '')
    return run


def pytest_sessionfinish(session, exitstatus):
    "With XTL_STRICT a skipped test is a failure: everything it needs should be there."
    reporter = session.config.pluginmanager.get_plugin('terminalreporter')
    skipped = reporter.stats.get('skipped', []) if reporter else []
    if os.environ.get('XTL_STRICT') and skipped and exitstatus == 0 and real_data().is_dir():
        reporter.write_line(f'{len(skipped)} tests were skipped that should have run', red=True)
        session.exitstatus = 1
