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

# a cache that another tool filled, once whole and once in part
from huggingface_hub import hf_hub_download
commit = hub.head('own/plain')
for label, names in (('whole', list(FILES)), ('in part', [n for n in FILES if '00001' not in n])):
    forget(label)
    for name in names: hf_hub_download('own/plain', name, repo_type='dataset', revision=commit, cache_dir=constants.HF_HUB_CACHE)
    constants.HF_HUB_OFFLINE = True
    read(f'filled {label}', 'own/plain', revision=commit)
    constants.HF_HUB_OFFLINE = False
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


def test_a_cache_that_another_tool_filled_is_read_where_nothing_is_missing(rows):
    assert rows['filled whole']['rows'] == ['moja', 'mbili']
    assert rows['filled in part']['kind'] == 'UserError' and 'not whole' in rows['filled in part']['line'], rows['filled in part']


def test_a_commit_that_is_pinned_and_was_read_asks_nothing_of_the_hub(rows):
    assert rows['pinned']['rows'] == ['moja', 'mbili'] and rows['pinned']['requests'] == 0


# A study from the Hub, from its first run to a machine without a network, and what a user gets for each fault
STUDY = START + '''
import contextlib
from pathlib import Path
from xtl.cli.main import answer, printed_line
from xtl.study.presets import read_study, study_yaml
from xtl.core.steps import Store
from xtl.world.mirror import mini_encoder
from xtl.world.once import World

here, world = Path(sys.argv[2]), Store(Path(os.environ['XTL_WORLD'])).get(World())
hub.commit('models/own/encoder', {p.name: p.read_bytes() for p in Path(mini_encoder()).iterdir()} | {'README.md': b'An encoder.', 'model.fp16.safetensors': b'of no use'})
def part(repository, folder, *splits): return {s: next((world/repository/folder).glob(f'{s}-*')).read_bytes() for s in splits}
def named(config, files): return {f'{config}/{split}-00000-of-00001.parquet': data for split, data in files.items()}
languages = {'en': 'qaa', 'de': 'qab', 'sw': 'qbc'}
panx = {'README.md': card(*(f'PAN-X.{c}' for c in languages)).replace(b'PAN-X.en\\n  data_files:\\n', b'PAN-X.en\\n  data_files:\\n  - split: train\\n    path: PAN-X.en/train*.parquet\\n')}
for code, made_up in languages.items(): panx |= named(f'PAN-X.{code}', part('google/xtreme', f'PAN-X.{made_up}', 'test', *(['train'] if code == 'en' else [])))
hub.commit('google/xtreme', panx)
hub.commit('nyu-mll/multi_nli', {'README.md': card('default', split='train')} | named('default', part('nyu-mll/multi_nli', 'default', 'train')))
hub.commit('tau/commonsense_qa', {'commonsense_qa.py': b'raise SystemExit'})
rows = part('tau/commonsense_qa', 'default', 'train')
hub.commit('tau/commonsense_qa', {'default/train/0000.parquet': rows['train']}, 'refs/convert/parquet')
study = here/'study.yaml'
study.write_text("""
name: from the hub
encoder: {name: own/encoder}
data: {languages: [de, sw], max_train: 200, max_test: 40}
design: {intermediate: [mnli, csqa], n_tasks: [2], controls: [], targets: [panx], budgets: [1e9], subset_count: 1}
phase3: {target_flops: 1e9, recipes: {all: {max_length: 96, batch_size: 16, stride: 24}}}
""")

def xtl(label, *words):
    "What a command ends with, as a user sees it."
    forget()
    before, started, said = hub.requests, time.time(), io.StringIO()
    with contextlib.redirect_stdout(said): code, line = answer([str(w) for w in words])
    found[label] = dict(code=code, line=printed_line(line), said=said.getvalue(), told=list(told), requests=hub.requests - before, seconds=time.time() - started)
    return said.getvalue()

forget('good')
out = here/'out'
# the one cell, in this process; `xtl run` then finds it finished
from xtl.study.designs import cells
from xtl.transfer.cell import run_cell
from xtl.transfer.layout import lay_out
from xtl.transfer.results import write_cell
space = lay_out(read_study(str(study)), out)
(cell,) = cells(space.study)
write_cell(space, cell, run_cell(space, cell))
xtl('first', 'run', study, '--out', out)
pins = read_study(str(out/'study.yaml'))
right = {r: hub.head(r) for r in ('google/xtreme', 'nyu-mll/multi_nli')} | {'tau/commonsense_qa': hub.head('tau/commonsense_qa', 'refs/convert/parquet')}
found['pins'] = dict(data=pins.data.revisions, encoder=pins.encoder.revision, right=right, right_encoder=hub.head('models/own/encoder'),
                     recorded=[(r['repository'], r['revision']) for r in json.loads((out/'data.json').read_text())])
for repository, branch in (('models/own/encoder', 'main'), ('google/xtreme', 'main'), ('nyu-mll/multi_nli', 'main'), ('tau/commonsense_qa', 'refs/convert/parquet')):
    hub.commit(repository, {'README.md': hub.branches[repository, branch].get('README.md', b'') + b'\\nMore about it.'} if branch == 'main' else {}, branch)
xtl('a commit later', 'run', study, '--out', out)
(here/'pinned.yaml').write_text(xtl('pin', 'pin', study))
again = read_study(str(here/'pinned.yaml'))
found['pin'] |= dict(moved=[again.data.revisions[r] != c for r, c in right.items()] + [again.encoder.revision != pins.encoder.revision])
xtl('README alone', 'run', here/'pinned.yaml', '--out', out)
found['README alone']['pins'] = read_study(str(out/'study.yaml')).data.revisions == again.data.revisions
constants.HF_HUB_OFFLINE = True
xtl('offline', 'run', study, '--out', out)
constants.HF_HUB_OFFLINE = False
hub.fail('', 'reset', 10**6)
xtl('down', 'run', study, '--out', out)
hub.faults.clear()
mirror = here/'mirror'
xtl('fetch', 'fetch', study, '--to', mirror)
xtl('fetch again', 'fetch', study, '--to', mirror)
hub.fail('', 'reset', 10**6)
forget('none')
xtl('mirror', 'run', study, '--out', out, '--data', mirror, '--encoder', mirror/'encoders'/'own'/'encoder')
(mirror/'google'/'xtreme'/'.xtl-unfinished-PAN-X.sw').touch()
xtl('mirror in part', 'run', study, '--out', out, '--data', mirror, '--encoder', 'mini')
(mirror/'tau'/'commonsense_qa'/'commonsense_qa.py').touch()
xtl('mirror of a script', 'run', study, '--out', out, '--data', mirror, '--encoder', 'mini')
hub.faults.clear()

ever, nothing = 10**6, []
FAULTS = [ # place, kind, path, times, requests before it, what is typed
    ('model info', '503', 'api/models/own', ever, 0, nothing), ('model info', 'reset', 'api/models/own', ever, 0, nothing),
    ('model info', 'hang', 'api/models/own', ever, 0, nothing), ('model info', 'missing', '', 0, 0, ['--encoder', 'own/nowhere']),
    ('model info', 'private', 'models/own/encoder', 0, 0, nothing), ('weights', 'gated', 'models/own/encoder', 0, 0, nothing),
    ('weights', '503', 'model.safetensors', ever, 0, nothing), ('weights', 'reset', 'model.safetensors', ever, 0, nothing),
    ('data info', '429', 'api/datasets/google', ever, 0, nothing), ('data info', 'hang', 'api/datasets/google', ever, 0, nothing),
    ('data info', 'missing', '', 0, 0, ['--set', 'data.sources={panx: {repository: own/nowhere, config: "PAN-X.{code}"}}']),
    ('data info', 'private', 'google/xtreme', 0, 0, nothing), ('parquet', 'gated', 'google/xtreme', 0, 0, nothing),
    ('parquet', '503', 'PAN-X.sw/test', ever, 0, nothing), ('parquet', 'reset', 'PAN-X.sw/test', ever, 0, nothing),
    ('midway', 'reset', '', ever, 30, nothing), ('a language', 'not there', '', 0, 0, ['--languages', 'de,fr'])]
for n, (place, kind, path, times, skip, words) in enumerate(FAULTS):
    forget(f'cache{n}')
    if times: hub.fail(path, kind, times, skip)
    elif path: hub.closed[path] = kind
    xtl(f'{place}, {kind}', 'run', study, '--out', here/f'out{n}', *words)
    hub.faults.clear(), hub.closed.clear()
for n, (place, kind) in enumerate((('model.safetensors', 'cut'), ('PAN-X.sw/test', 'cut'), ('PAN-X.sw/test', '503'), ('api/datasets', '429'))):
    forget(f'once{n}')
    hub.fail(place, kind)
    xtl(f'{place}, {kind} once', 'fetch', study, '--to', here/f'mirror{n}')
    hub.faults.clear()
same = [(here/f'mirror{n}'/file).read_bytes() == (mirror/file).read_bytes() for n in range(4)
        for file in ('google/xtreme/PAN-X.sw/test-00000-of-00001.parquet', 'encoders/own/encoder/model.safetensors')]
found['copies'] = dict(same=same)
print(json.dumps(found))
'''


@pytest.fixture(scope='module')
def study(tmp_path_factory): return run(tmp_path_factory.mktemp('study'), STUDY)


def test_the_first_run_pins_what_it_reads(study):
    assert study['first']['code'] == 0, study['first']
    pins = study['pins']
    assert pins['data'] == pins['right'] and pins['encoder'] == pins['right_encoder']
    assert {tuple(r) for r in pins['recorded']} == set(pins['right'].items()) # of the script's repository, the branch of Parquet files
    assert study['a commit later']['code'] == 0 and study['a commit later']['requests'] == 0


def test_a_commit_that_changes_a_readme_alone_runs_nothing_again(study):
    assert study['pin']['code'] == 0 and all(study['pin']['moved'])
    assert study['README alone']['code'] == 0 and study['README alone']['pins']
    assert '1 cells, 1 finished already' in study['README alone']['said'] and 'runs again' not in study['README alone']['said'], study['README alone']


@pytest.mark.parametrize('how', ['a commit later', 'offline', 'down', 'mirror'])
def test_a_study_goes_on_without_the_hub_at_once(study, how):
    assert study[how]['code'] == 0 and '1 cells, 1 finished already' in study[how]['said'], study[how]
    assert study[how]['requests'] == 0 and not study[how]['told']


def test_a_mirror_is_whole_or_says_so(study):
    assert study['fetch']['code'] == study['fetch again']['code'] == 0
    assert '--data' in study['fetch']['said'] and '0 bytes fetched' in study['fetch again']['said']
    for label, words in (('mirror in part', 'was not fetched to its end'), ('mirror of a script', 'loading script.*xtl fetch')):
        assert study[label]['code'] == 2 and re.search(words, study[label]['line']), study[label]


OUTAGE = 'the Hub does not answer for'
LINES = {'missing': 'the Hub has no (data set|model) own/nowhere, or it is private.*HF_TOKEN', 'private': 'or it is private.*HF_TOKEN',
         'gated': 'is gated: accept the terms at https://huggingface.co/.* and set HF_TOKEN', 'not there': r'PAN-X.fr, test\) is not in the Hub'}


def test_every_fault_has_its_line_and_its_exit_code(study):
    faults = {l: f for l, f in study.items() if ', ' in l and not l.endswith('once')}
    assert len(faults) == 17
    for label, one in faults.items():
        print(f"{label:22} exit {one['code']}, {one['seconds']:4.1f} s, {len(one['told'])} pauses told: {one['line']}")
        kind = label.split(', ')[1]
        assert one['code'] == 2 and one['line'].startswith('xtl: ') and re.search(LINES.get(kind, OUTAGE), one['line']), (label, one)
        assert len(one['told']) == (0 if kind in LINES else 2) and 'etwork' not in one['line'], (label, one)
        assert kind == 'not there' or not re.search('language|not found', one['line']), (label, one)


def test_what_fails_once_is_asked_for_again(study):
    once = {l: f for l, f in study.items() if l.endswith('once')}
    assert len(once) == 4 and all(f['code'] == 0 for f in once.values()), once
    assert all(len(f['told']) == 1 for l, f in once.items() if 'cut' not in l) and all(study['copies']['same'])
