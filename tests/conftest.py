"""What the tests share: the real data beside the project, a strict mode that forbids skips, a command line that is run
as a user runs it."""
import os
import subprocess
import sys
from pathlib import Path

# Sums depend on the number of threads: the same one here, before torch is imported, and in what the tests start
os.environ['OMP_NUM_THREADS'] = '1'

import pytest

ROOT = Path(__file__).parent.parent


def real_data():
    "The mirror with real data: XTL_DATA, or the one beside the project."
    given = os.environ.get('XTL_DATA')
    return Path(given) if given else ROOT.parent/'shared'/'hub'


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


def pytest_sessionfinish(session, exitstatus):
    "With XTL_STRICT a skipped test is a failure: everything it needs should be there."
    reporter = session.config.pluginmanager.get_plugin('terminalreporter')
    skipped = reporter.stats.get('skipped', []) if reporter else []
    if os.environ.get('XTL_STRICT') and skipped and exitstatus == 0 and real_data().is_dir():
        reporter.write_line(f'{len(skipped)} tests were skipped that should have run', red=True)
        session.exitstatus = 1
