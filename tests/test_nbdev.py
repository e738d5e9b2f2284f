"Notebooks and package say the same: exporting and cleaning change nothing, templates keep their parameters, README follows the index."
import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

BIN = Path(sys.executable).parent


def differing(a, b, suffixes):
    "Files under `a` and `b` that are not the same."
    def names(root): return {p.relative_to(root) for p in root.rglob('*') if p.suffix in suffixes and '.ipynb_checkpoints' not in p.parts and '__pycache__' not in p.parts and '_proc' not in p.parts}
    return sorted(str(n) for n in names(a) | names(b) if not ((a/n).exists() and (b/n).exists() and filecmp.cmp(a/n, b/n, shallow=False)))


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp('drift')/'project'
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns('.git', '.venv', 'runs', '_docs', '_proc', '__pycache__', 'build', '*.egg-info'), symlinks=True)
    for command in (['nbdev_export'], ['nbdev_clean']):
        done = subprocess.run([str(BIN/command[0])], cwd=folder, capture_output=True, text=True, env=os.environ | {'PYTHONPATH': str(folder)})
        assert done.returncode == 0, done.stderr
    return folder


def test_exporting_leaves_no_difference(copy):
    assert differing(ROOT/'xtl', copy/'xtl', {'.py'}) == []


def test_cleaning_leaves_no_difference(copy):
    assert differing(ROOT/'nbs', copy/'nbs', {'.ipynb'}) == []


def test_templates_keep_exactly_one_cell_of_parameters(copy):
    templates = sorted([*(copy/'nbs'/'experiments').glob('*.ipynb'), *(copy/'nbs'/'report').glob('*.ipynb')])
    assert {'cell.ipynb', 'pretrain.ipynb', 'report.ipynb'} <= {p.name for p in templates}
    for path in templates:
        cells = json.loads(path.read_text())['cells']
        assert sum('parameters' in c['metadata'].get('tags', []) for c in cells) == 1, path
        assert 'skip_exec: true' in ''.join(cells[0]['source']), path


def test_notebooks_are_small_and_import_from_lower_numbers_only():
    numbers = {p.stem[3:]: int(p.stem[:2]) for p in (ROOT/'nbs').glob('[0-9]*.ipynb')}
    for path in sorted((ROOT/'nbs').glob('[0-9]*.ipynb')):
        assert path.stat().st_size < 110_000, f'{path.name} is too large'
        source = '\n'.join(''.join(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code')
        for line in source.splitlines():
            words = line.split()
            if words[:1] == ['from'] and len(words) > 2 and words[1].startswith('xtl.') and words[2] == 'import':
                module = words[1].split('.')[1]
                assert numbers[module] < int(path.stem[:2]), f'{path.name} imports {module}'


def test_stored_outputs_name_no_machine_and_hold_no_warnings():
    for path in sorted((ROOT/'nbs').rglob('*.ipynb')):
        outputs = [o for c in json.loads(path.read_text())['cells'] for o in c.get('outputs', [])]
        assert not [o for o in outputs if o['output_type'] == 'error' or o.get('name') == 'stderr'], path.name
        assert not any(place in json.dumps(outputs) for place in ('site-packages', '/home/', '/tmp/', str(ROOT))), path.name


def test_the_readme_follows_the_index(copy):
    done = subprocess.run([str(BIN/'jupyter'), 'nbconvert', '--to', 'markdown', '--log-level', 'ERROR', '--TagRemovePreprocessor.remove_input_tags', 'remove_input', '--output-dir', str(copy/'readme'), '--output', 'README', str(copy/'nbs'/'index.ipynb')],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (copy/'readme'/'README.md').read_text() == (ROOT/'README.md').read_text()


def test_a_wheel_holds_templates_and_encoder(copy, tmp_path):
    import zipfile
    done = subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir', str(tmp_path), str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(next(tmp_path.glob('xtl-*.whl'))).namelist()
    assert {'xtl/notebooks/experiments/cell.ipynb', 'xtl/notebooks/report/report.ipynb', 'xtl/mini_encoder/model.safetensors', 'xtl/mini_encoder/tokenizer.json'} <= set(names)
