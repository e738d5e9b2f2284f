"""The Hub as it is: outages, gates, scripts, pins, a cache and a mirror, tried against one of our own on the loopback.
`pytest -s` prints what a user gets for each fault."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Runs in a process of its own, since `huggingface_hub` reads its address and its cache when it is imported.
START = '''
import io, json, os, sys, time
sys.path.insert(0, sys.argv[1])
from fake_hub import Hub
hub = Hub()
os.environ.update(HF_ENDPOINT=hub.url, HF_HOME=sys.argv[2], HF_HUB_DISABLE_XET='1', HF_HUB_ETAG_TIMEOUT='1', HF_HUB_DOWNLOAD_TIMEOUT='1', HF_HUB_DISABLE_TELEMETRY='1', XTL_HUB_PAUSES='0,0')
for name in ('HF_HUB_OFFLINE', 'HF_TOKEN', 'HF_HUB_CACHE', 'HF_DATASETS_CACHE', 'HF_DATASETS_OFFLINE', 'XTL_DATA'): os.environ.pop(name, None)
import pyarrow as pa, pyarrow.parquet as pq
from huggingface_hub import constants
from xtl.core.errors import UserError
from xtl.data import hub as client, loading
from xtl.tasks.task import Source
found, told = {}, []
client.tell = told.append

def parquet(*words):
    file = io.BytesIO()
    pq.write_table(pa.table({'word': list(words)}), file)
    return file.getvalue()

def card(*configs, split='test'):
    parts = ''.join(f"""- config_name: {c}
  data_files:
  - split: {split}
    path: {c}/{split}*.parquet
""" for c in configs)
    return f'---\\nconfigs:\\n{parts}---\\n'.encode()

def forget(cache=None):
    "As a process that starts anew, perhaps with a cache of its own."
    client.hub_commit.cache_clear(); loading._cards.clear(); loading._views.clear(); told.clear()
    if cache: constants.HF_HUB_CACHE = f'{sys.argv[2]}/{cache}'
'''
ROWS = START + '''
FILES = {'README.md': card('sw', 'yo'), 'sw/test-00000-of-00002.parquet': parquet('moja'), 'sw/test-00001-of-00002.parquet': parquet('mbili'), 'yo/test.parquet': parquet('kan')}
for name in ('own/plain', 'own/gated', 'own/private', *(f'own/fault{n}' for n in range(9))): hub.commit(name, FILES)
hub.commit('own/script', {'README.md': b'---\\n---\\n', 'script.py': b'raise SystemExit'})
hub.commit('own/script', {'sw/test/0000.parquet': parquet('moja'), 'sw/test/0001.parquet': parquet('mbili'), 'yo/partial-test/0000.parquet': parquet('kan')}, 'refs/convert/parquet')
hub.commit('own/bare', {'bare.py': b'raise SystemExit'})
hub.closed |= {'own/gated': 'gated', 'own/private': 'private'}
number = iter(range(10**6))
def read(label, repository, config='sw', split='test', revision=None):
    forget()
    started = time.time()
    try: rows, commit = loading.hub_rows(Source(repository, config, split), revision, sys.argv[2] + f'/arrow{next(number)}')
    except UserError as error: result = dict(kind=type(error).__name__, line=str(error))
    else: result = dict(kind='rows', rows=list(rows['word']), commit=commit)
    found[label] = result | dict(told=list(told), seconds=time.time() - started)

read('there', 'own/plain')
found['there']['right'] = hub.head('own/plain')
read('no config', 'own/plain', 'zu')
read('no split', 'own/plain', split='train')
read('no repository', 'own/nowhere')
read('no name', 'own/a/b')
read('private', 'own/private')
read('gated', 'own/gated')
read('no revision', 'own/plain', revision='v9')
read('script', 'own/script')
found['script']['right'] = hub.head('own/script', 'refs/convert/parquet')
read('script in part', 'own/script', 'yo')
read('script alone', 'own/bare')
read('script pinned', 'own/script', revision=hub.head('own/script'))
read('parquet pinned', 'own/script', revision=hub.head('own/script', 'refs/convert/parquet'))

for n, (place, kind) in enumerate((p, k) for p in ('README.md', 'test-00001', 'api/datasets') for k in ('503', '429', 'reset')):
    path = f'own/fault{n}.*{place}' if place != 'api/datasets' else f'{place}/own/fault{n}'
    for label, times in (('for ever', 10**6), ('once', 1)):
        hub.fail(path, kind, times)
        read(f'{place} {kind} {label}', f'own/fault{n}')
        hub.faults.clear()

hub.commit('own/plain', {'README.md': card('sw', 'yo') + b'Another word about it.'})
old, before = found['there']['commit'], hub.requests
read('pinned', 'own/plain', revision=old)
found['pinned']['requests'] = hub.requests - before
for how in ('offline', 'down'):
    if how == 'offline': constants.HF_HUB_OFFLINE = True
    else: hub.fail('', 'reset', 10**6)
    before = hub.requests
    read(f'{how} again', 'own/plain', revision=None)
    read(f'{how} script again', 'own/script')
    read(f'{how} never', 'own/plain', 'yo')
    found[f'{how} asked'] = dict(requests=hub.requests - before)
    constants.HF_HUB_OFFLINE = False
    hub.faults.clear()
print(json.dumps(found))
'''


def run(folder, script):
    done = subprocess.run([sys.executable, '-c', script, str(Path(__file__).parent), str(folder)], capture_output=True, text=True, timeout=600,
                          env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert all('\n' not in f.get('line', '') for f in found.values())
    return found


@pytest.fixture(scope='module')
def rows(tmp_path_factory): return run(tmp_path_factory.mktemp('rows'), ROWS)


def test_each_thing_that_is_not_to_be_had_has_a_line_of_its_own(rows):
    assert rows['there']['rows'] == ['moja', 'mbili'] and rows['there']['commit'] == rows['there']['right']
    assert rows['no config']['kind'] == rows['no split']['kind'] == 'MissingData', rows
    for label, words in (('no repository', 'no data set own/nowhere.*HF_TOKEN'), ('private', 'private.*HF_TOKEN'), ('gated', 'accept the terms at https://.*own/gated.*HF_TOKEN'),
                         ('no revision', "no revision 'v9'"), ('script pinned', 'loading script.*refs/convert/parquet.*' + rows['script']['right']),
                         ('script in part', 'in part only'), ('script alone', 'only a loading script.*no Parquet files'), ('no name', 'own/a/b')):
        assert rows[label]['kind'] == 'UserError' and re.search(words, rows[label]['line']), (label, rows[label])
    refused = [l for l in rows if l.split()[0] in ('no', 'private', 'gated', 'script')]
    assert not any('etwork' in rows[l].get('line', '') or rows[l]['told'] for l in refused)
    for label in ('script', 'parquet pinned'): assert rows[label]['rows'] == ['moja', 'mbili'] and rows[label]['commit'] == rows['script']['right'], rows[label]


def test_an_outage_is_never_a_language_that_is_not_there(rows):
    faults = {l: f for l, f in rows.items() if l.endswith((' once', ' for ever'))}
    assert len(faults) == 18
    for label, one in faults.items():
        if label.endswith('once'): assert one['kind'] == 'rows' and one['rows'] == ['moja', 'mbili'] and len(one['told']) == 1, (label, one)
        else: assert one['kind'] == 'HubOutage' and len(one['told']) == 2 and 'does not answer' in one['line'], (label, one)
        assert all('asking again in 0 s' in t for t in one['told'])


@pytest.mark.parametrize('how', ['offline', 'down'])
def test_what_was_read_once_is_read_again_without_the_hub(rows, how):
    for first, again in (('there', f'{how} again'), ('script', f'{how} script again')):
        assert rows[again]['kind'] == 'rows' and (rows[again]['rows'], rows[again]['commit']) == (rows[first]['rows'], rows[first]['commit']), rows[again]
        assert rows[again]['seconds'] < 5
    assert rows[f'{how} never']['kind'] == ('UserError' if how == 'offline' else 'HubOutage'), rows[f'{how} never']
    if how == 'offline': assert rows['offline asked']['requests'] == 0 and 'HF_HUB_OFFLINE' in rows['offline never']['line']
    else: assert any('is read as it was at' in t for t in rows['down again']['told'])


def test_a_commit_that_is_pinned_and_was_read_asks_nothing_of_the_hub(rows):
    assert rows['pinned']['rows'] == ['moja', 'mbili'] and rows['pinned']['requests'] == 0
