"The Hub as it is: outages, gates, scripts, pins and a cache, tried against one of our own on the loopback."
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Runs in a process of its own, since `huggingface_hub` reads its address and its cache when it is imported.
SCENARIOS = '''
import io, json, os, sys, time
sys.path.insert(0, sys.argv[1])
from fake_hub import Hub
hub = Hub()
os.environ.update(HF_ENDPOINT=hub.url, HF_HOME=sys.argv[2], HF_HUB_DISABLE_XET='1', HF_HUB_ETAG_TIMEOUT='3', HF_HUB_DOWNLOAD_TIMEOUT='3', HF_HUB_DISABLE_TELEMETRY='1')
for name in ('HF_HUB_OFFLINE', 'HF_TOKEN', 'HF_HUB_CACHE', 'HF_DATASETS_CACHE', 'HF_DATASETS_OFFLINE'): os.environ.pop(name, None)
import pyarrow as pa, pyarrow.parquet as pq
from huggingface_hub import constants
from huggingface_hub.utils import _http
from xtl.core.errors import UserError
from xtl.data import loading
from xtl.tasks.task import Source
loading.PAUSES = (0, 0, 0)

def parquet(*words):
    file = io.BytesIO()
    pq.write_table(pa.table({'word': list(words)}), file)
    return file.getvalue()
CARD = """---
configs:
""" + ''.join(f"""- config_name: {c}
  data_files:
  - split: test
    path: {c}/test.parquet
""" for c in ('sw', 'yo')) + '---\\n'
FILES = {'README.md': CARD.encode(), 'sw/test.parquet': parquet('moja', 'mbili'), 'yo/test.parquet': parquet('kan')}
for name in ('own/plain', 'own/gated', 'own/private', *(f'own/fault{n}' for n in range(12))): hub.commit(name, FILES)
hub.commit('own/script', {'README.md': b'---\\n---\\n', 'script.py': b'raise SystemExit'})
hub.commit('own/script', FILES, 'refs/convert/parquet')
hub.closed |= {'own/gated': 'gated', 'own/private': 'private'}
found, number = {}, iter(range(10**6))
def read(label, repository, config='sw', split='test', revision=None):
    told, started = [], time.time()
    loading.resolved_commit.cache_clear(); loading._cards.clear()
    try: rows, commit = loading.hub_rows(Source(repository, config, split), revision, sys.argv[2] + f'/arrow{next(number)}', told.append)
    except UserError as error: result = dict(kind=type(error).__name__, line=str(error))
    else: result = dict(kind='rows', rows=list(rows['word']), commit=commit)
    found[label] = result | dict(pauses=len(told), seconds=time.time() - started)
'''


def run(tmp_path, script):
    done = subprocess.run([sys.executable, '-c', SCENARIOS + script + '\nprint(json.dumps(found))', str(Path(__file__).parent), str(tmp_path)],
                          capture_output=True, text=True, timeout=600, env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert all('\n' not in f.get('line', '') for f in found.values())
    return found


def test_each_thing_that_is_not_to_be_had_has_a_line_of_its_own(tmp_path):
    found = run(tmp_path, '''
read('there', 'own/plain')
found['there']['right'] = hub.head('own/plain', 'main')
read('no config', 'own/plain', 'zu')
read('no split', 'own/plain', split='train')
read('no repository', 'own/nowhere')
read('private', 'own/private')
read('gated', 'own/gated')
read('no revision', 'own/plain', revision='v9')
read('script', 'own/script')
found['script']['right'] = hub.head('own/script', 'refs/convert/parquet')
read('script pinned', 'own/script', revision=hub.head('own/script', 'main'))
read('parquet pinned', 'own/script', revision=hub.head('own/script', 'refs/convert/parquet'))
''')
    assert found['there']['rows'] == ['moja', 'mbili'] and found['there']['commit'] == found['there']['right']
    assert found['no config']['kind'] == found['no split']['kind'] == 'MissingData', found
    for label, words in (('no repository', 'no data set own/nowhere.*HF_TOKEN'), ('private', 'private.*HF_TOKEN'), ('gated', 'accept the terms at https://.*own/gated'),
                         ('no revision', "no revision 'v9'"), ('script pinned', 'loading script.*refs/convert/parquet.*' + found['script']['right'])):
        assert found[label]['kind'] == 'UserError' and re.search(words, found[label]['line']), (label, found[label])
    assert not any('etwork' in f.get('line', '') for f in found.values())
    for label in ('script', 'parquet pinned'): assert found[label]['rows'] == ['moja', 'mbili'] and found[label]['commit'] == found['script']['right'], found[label]


def test_an_outage_is_never_a_language_that_is_not_there(tmp_path):
    found = run(tmp_path, '''
n = iter(range(12))
for place in ('README.md', 'test.parquet', 'api/datasets'):
    for kind in ('503', '429', 'reset'):
        name = f'own/fault{next(n)}'
        hub.fail(f'{name}.*{place}' if place != 'api/datasets' else f'api/datasets/{name}', kind, 10**6)
        read(f'{place} {kind} for ever', name)
        hub.faults.clear()
        hub.fail(f'{name}.*{place}' if place != 'api/datasets' else f'api/datasets/{name}', kind, 1)
        read(f'{place} {kind} once', name)
        hub.faults.clear()
''' if os.environ.get('XTL_LONG') else '''
for n, (place, kind) in enumerate((('README.md', '503'), ('test.parquet', 'reset'))):
    hub.fail(f'own/fault{n}.*{place}', kind, 10**6)
    read(f'{place} {kind} for ever', f'own/fault{n}')
    hub.faults.clear()
    hub.fail(f'own/fault{n}.*{place}', kind, 1)
    read(f'{place} {kind} once', f'own/fault{n}')
    hub.faults.clear()
''')
    for label, one in found.items():
        if label.endswith('once'): assert one['kind'] == 'rows' and one['rows'] == ['moja', 'mbili'], (label, one)
        else: assert one['kind'] == 'HubOutage' and one['pauses'] == 3 and 'does not answer' in one['line'], (label, one)


@pytest.mark.parametrize('how', ['offline', 'down'])
def test_what_was_read_once_is_read_again_without_the_hub(tmp_path, how):
    found = run(tmp_path, '''
read('first', 'own/plain')
read('script first', 'own/script')
''' + ('constants.HF_HUB_OFFLINE = True' if how == 'offline' else "hub.fail('', 'reset', 10**6)") + '''
before = hub.requests
read('again', 'own/plain')
read('script again', 'own/script')
read('never', 'own/plain', 'yo')
found['asked'] = dict(requests=hub.requests - before)
''')
    for label in ('', 'script '):
        first, again = found[f'{label}first' if label else 'first'], found[f'{label}again' if label else 'again']
        assert again['kind'] == 'rows' and (again['rows'], again['commit']) == (first['rows'], first['commit']), again
    assert found['never']['kind'] == ('UserError' if how == 'offline' else 'HubOutage'), found['never']
    if how == 'offline': assert found['asked']['requests'] == 0 and 'HF_HUB_OFFLINE' in found['never']['line'] and found['again']['seconds'] < 5
