"Keys that cannot forget, and damage that is found: each module touched in turn, each kind of file of the store and of the cells changed in turn."
import ast
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
from studies import finished

from xtl.core import code
from xtl.core.code import PACKAGE, code_version
from xtl.core.errors import UserError
from xtl.core.files import read_json
from xtl.core.seals import damage
from xtl.study.designs import cells
from xtl.study.presets import read_study
from xtl.transfer.layout import lay_out
from xtl.transfer.results import TABLES, stale_cells

STEPS = {'world': 'xtl.world.once', 'rows': 'xtl.data.tokenised', 'trunk, cooldown': 'xtl.transfer.phase2', 'learned': 'xtl.transfer.learned',
         'target': 'xtl.transfer.phase3', 'cell': 'xtl.transfer.tables'}


def modules():
    return sorted(p for p in PACKAGE.rglob('*.py') if p.name not in ('__init__.py', '_modidx.py'))


LOADED = """
import json, os, sys
for module in sys.argv[1:]: __import__(module) # what they load of other packages, once for all
for name in [m for m in sys.modules if m.split('.')[0] == 'xtl']: del sys.modules[name]
def loaded(module):
    there, here = os.pipe()
    if not os.fork():
        __import__(module)
        os.write(here, json.dumps([m for m in sys.modules if m.startswith('xtl.') and sys.modules[m].__file__]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(there, 60_000))
print(json.dumps({module: loaded(module) for module in sys.argv[1:]}))
"""


def loaded_by(*names):
    "For each module the modules of the package that Python itself loads with it."
    done = subprocess.run([sys.executable, '-c', LOADED, *names], capture_output=True, text=True, check=True)
    return {name: {PACKAGE.parent.joinpath(*m.split('.')).with_suffix('.py') for m in found} & set(modules())
            for name, found in json.loads(done.stdout).items()}


def touched(source):
    "A source whose first function does something more; one without functions has another name."
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    if not functions: return source + '\nTOUCHED = 1\n'
    first, lines = functions[0].body[0], source.splitlines(keepends=True)
    line, at = lines[first.lineno - 1].encode(), first.col_offset
    own_line = not line[:at].strip()
    lines[first.lineno - 1] = (line[:at] + b'touched = 1' + (b'\n' + line[:at] if own_line else b'; ') + line[at:]).decode()
    return ''.join(lines)


def test_touching_a_function_runs_again_what_uses_it_and_a_docstring_nothing(tmp_path, monkeypatch):
    copy, parsed, look = tmp_path/'xtl', {}, code._looked_at.__wrapped__
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns('mini_encoder', '__pycache__'))
    def looked_at(path, package): # a module is parsed again when it was written to, not each time
        if path not in parsed: parsed[path] = look(path, package)
        return parsed[path]
    def write(path, source):
        path.write_text(source)
        parsed.pop(path, None)
    monkeypatch.setattr(code, '_looked_at', looked_at)
    def versions(): return {step: code_version(module, copy) for step, module in STEPS.items()}
    before, loaded, table = versions(), loaded_by(*STEPS.values()), {}
    for path in modules():
        place = copy/path.relative_to(PACKAGE)
        source = place.read_text()
        write(place, touched(source))
        table[path] = [s for s, v in versions().items() if v != before[s]]
        write(place, source)
    for path in modules(): # docstrings and comments of all of them
        place = copy/path.relative_to(PACKAGE)
        better = re.sub(r'^"""(.*?)"""', r'"""Put better: \1"""', place.read_text(), count=1, flags=re.S)
        write(place, better + '\n# and a comment\n')
    assert versions() == before
    for path, again in table.items():
        assert {s for s, module in STEPS.items() if path in loaded[module]} <= set(again), path
        print(f"{path.relative_to(PACKAGE).as_posix():30s} {'; '.join(again) or '-'}")
    again = {p.relative_to(PACKAGE).as_posix(): set(a) for p, a in table.items()}
    assert again['tasks/recipes.py'] >= {'trunk, cooldown', 'target', 'cell'} and again['world/lexicon.py'] == {'world'} | again['world/sentences.py'] & set(STEPS)
    assert again['report/page.py'] == again['analysis/panel.py'] == again['cli/run.py'] == set()
    assert 'trunk, cooldown' not in again['evaluation/metrics.py'] and 'target' in again['evaluation/metrics.py']


@pytest.fixture(scope='module')
def whole(tmp_path_factory, written_world):
    "A study of three cells, and its tables."
    study = read_study('mini').but(name='damaged', data=dict(languages=('qab',)), phase2=dict(score_intermediate=True), phase3=dict(target_flops=2e9), device=dict(keep=('trunk', 'intermediate')),
                                   design=dict(intermediate=('csqa', 'qqp'), targets=('panx', 'tatoeba'), budgets=(2e9,), controls_expected={}, n_tasks=(0, 2), subset_count=1, control_seeds=0, full_seeds=0))
    out = tmp_path_factory.mktemp('whole')/'out'
    with pytest.MonkeyPatch.context() as changed:
        changed.delenv('XTL_WORLD') # its store holds the world too, each time the same files as the code wrote them once
        changed.setattr('xtl.world.once.write_world', lambda folder, seed: shutil.copytree(written_world, folder))
        tables = run(lay_out(study, out))
        yield study, out, tables


def run(space):
    "Runs what is stale and collects, as `xtl run` does."
    stale = stale_cells(space)
    finished(space, [cell for cell in cells(space.study) if cell.name in stale])
    return {name: pd.read_parquet(space.out/f'{name}.parquet') for name in TABLES}


def kinds(out):
    "One file of each kind in store and cells: by the name of its result and its own, numbers and languages left out."
    found = defaultdict(list)
    for path in sorted([*(out/'store').rglob('*'), *(out/'cells').rglob('*')]):
        if not path.is_file() or path.suffix == '.lock' or path.name.startswith('.'): continue
        parts = path.relative_to(out).parts
        kind = '/'.join((*parts[:2], '*', *parts[3:])) if parts[0] == 'store' else '/'.join((parts[0], '*', *parts[2:]))
        if 'mirror' in parts: kind = f'store/world/*/mirror/{path.suffix}'
        if 'predictions' in parts: kind = '/'.join(kind.split('/')[:-2]) + '/' + path.suffix
        found[kind].append(path)
    return {k: v[len(v)//2] for k, v in found.items()}


def same(a, b):
    "Whether two sets of tables hold the same but for how long it took."
    timed = {'seconds', 'evaluation_seconds', 'flops_per_second', 'peak_share'}
    return all(a[n].drop(columns=[c for c in a[n] if c in timed]).equals(b[n].drop(columns=[c for c in b[n] if c in timed])) for n in b)


MADE_FROM = {'trunk': ('intermediate', 'intermediate-scores', 'target'), 'intermediate': ('intermediate-scores', 'target')} # What nobody reads once these are there


def rounds(found):
    "Kinds that are damaged at once: each is read although the others are damaged too; of a kind of result, and of the cells, a file at a time."
    groups = defaultdict(list)
    for kind in sorted(found): groups['/'.join(kind.split('/')[:2])].append(kind)
    last = [k for name, kinds in groups.items() if name.startswith('store/') and name.split('/')[1] not in MADE_FROM for k in [kinds]]
    together = [[kinds[i] for kinds in last if i < len(kinds)] for i in range(max(map(len, last)))]
    return together + [[kind] for name, kinds in groups.items() if kinds not in last for kind in kinds]


@pytest.mark.parametrize('change', ['flipped', 'cut'])
def test_damage_in_every_kind_of_file_is_found_told_and_mended(whole, change, capfd):
    study, out, tables = whole
    found = kinds(out)
    assert len(found) > 25, sorted(found)
    if change == 'cut': found = {kind: found[kind] for kind in {(k.split('/')[0], p.suffix): k for k, p in found.items()}.values()}
    tried = rounds(found)
    assert sorted(sum(tried, [])) == sorted(found)
    for several in tried:
        stored = {kind: found[kind].parents[len(found[kind].relative_to(out).parts) - 4] for kind in several if kind.startswith('store/')}
        for kind in several:
            content = (path := found[kind]).read_bytes()
            middle = len(content)//2
            path.write_bytes(content[:middle] + (bytes([content[middle] ^ 1]) + content[middle + 1:] if change == 'flipped' else b''))
            if kind in stored: assert damage(stored[kind]), kind
            else: assert any(why.startswith('damaged') for why in stale_cells(lay_out(study, out)).values()), kind
        if stored:
            for done in out.glob('cells/*/done.json'): done.unlink() # so that the store is read,
            for kind in several:
                for later in MADE_FROM.get(kind.split('/')[1], ()): shutil.rmtree(out/'store'/later) # this part of it, too
        again = run(lay_out(study, out))
        told = capfd.readouterr().err
        for kind, folder in stored.items(): assert re.search(f'{folder.name}.* in the store is damaged', told), (kind, told)
        assert same(again, tables), several
        print(f'{change} {", ".join(several)}: found')


def test_rows_that_are_damaged_while_a_cell_runs_are_not_read(whole):
    study, out, _ = whole
    space = lay_out(study, out)
    path = Path(space.prepared.folders['panx/test/qab'])/'arrays.safetensors'
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match='rows of panx .test, qab. are damaged'): space.prepared.load('panx', 'test', 'qab')
    path.write_bytes(content)
    assert read_json(path.parent/'about.json')['inputs']['language'] == 'qab'
