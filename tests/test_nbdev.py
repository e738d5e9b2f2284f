"""Notebooks and package say the same, and both keep the order of the house: stages as folders, imports from earlier
ones, lines, cells and modules of a size that can be read, README after the index."""
import ast
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from conftest import ROOT
from reading import CELL, MODULE, STAGES, WIDTH, Notebook, cell_length, modules, notebooks, read_notebook, tree

BIN = Path(sys.executable).parent
SKIPPED = ('.ipynb_checkpoints', '__pycache__', '_proc')
LEFT_OUT = ('.git', '.venv', 'runs', '_docs', '_proc', '__pycache__', 'build', '*.egg-info', '.ruff_cache')


def differing(a: Path, b: Path, suffix: str) -> list[str]:
    "Files under `a` and `b` that are not the same."
    def names(root): return {p.relative_to(root) for p in root.rglob(f'*{suffix}') if not set(SKIPPED) & set(p.parts)}
    def same(name): return (a/name).exists() and (b/name).exists() and filecmp.cmp(a/name, b/name, shallow=False)
    return sorted(str(n) for n in names(a) | names(b) if not same(n))


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "The project, exported and cleaned again."
    folder = tmp_path_factory.mktemp('drift')/'project'
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    for command in ('nbdev_export', 'nbdev_clean'):
        done = subprocess.run([str(BIN/command)], cwd=folder, capture_output=True, text=True,
                              env=os.environ | {'PYTHONPATH': str(folder)})
        assert done.returncode == 0, done.stderr
    return folder


def test_exporting_leaves_no_difference(copy):
    assert differing(ROOT/'xtl', copy/'xtl', '.py') == []


def test_cleaning_leaves_no_difference(copy):
    assert differing(ROOT/'nbs', copy/'nbs', '.ipynb') == []


# The order of stages and rooms

def room_of(path: Path, root: Path) -> tuple[str, int, str]:
    "Stage, number and module's name of a notebook such as nbs/data/30_rows.ipynb."
    stage, (number, name) = path.relative_to(root/'nbs').parts[0], path.stem.split('_', 1)
    return stage, int(number), name


def exporting(root: Path = ROOT) -> list[Notebook]:
    "The notebooks that are modules."
    return [b for b in notebooks(root) if b.module]


def imported(source: str, module: str) -> Iterator[tuple[str, str]]:
    "What a cell of that module imports of the package, in functions too: module and name, '' for the module itself."
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import): yield from ((a.name.removeprefix('xtl').lstrip('.'), '') for a in node.names
                                                     if a.name.split('.')[0] == 'xtl')
        if not isinstance(node, ast.ImportFrom): continue
        place = (node.module or '').split('.') if node.module else []
        if node.level: place = module.split('.')[:-node.level] + place
        elif place[:1] == ['xtl']: place = place[1:]
        else: continue
        yield from (('.'.join(place), a.name) for a in node.names)


def imports_of(book: Notebook, known: set[str]) -> Iterator[str]:
    "Modules that a notebook imports, its own left out; a folder that is imported stands for all its modules."
    for source in book.code:
        for place, name in imported(source, book.module):
            target = f'{place}.{name}' if f'{place}.{name}' in known else place
            if target in known: yield from {target} - {book.module}
            else: yield from (m for m in known if m.split('.')[0] == target)


def wrong_imports(root: Path = ROOT) -> list[str]:
    "Imports from later stages and rooms."
    books = exporting(root)
    rooms = {b.module: room_of(b.path, root) for b in books}
    def rank(module): return STAGES.index(rooms[module][0]), rooms[module][1]
    return sorted(f'{b.module} imports {other}' for b in books for other in set(imports_of(b, set(rooms)))
                  if rank(other) >= rank(b.module))


def circles(root: Path = ROOT) -> list[str]:
    "Modules that import themselves by way of others."
    books = exporting(root)
    after = {b.module: set(imports_of(b, {b.module for b in books})) for b in books}
    for _ in after: # as often as a way can be long
        after = {m: others.union(*(after[o] for o in others)) for m, others in after.items()}
    return sorted(m for m, others in after.items() if m in others)


def private_names(source: str, module: str, known: set[str]) -> list[str]:
    "Names with a leading underscore that a source takes from another module."
    taken, others = [], set()
    def private(name): return name.startswith('_') and not name.startswith('__')
    for place, name in imported(source, module):
        if f'{place}.{name}' in known: others.add(name)
        elif private(name) and place != module: taken.append(f'{place}.{name}')
    for node in ast.walk(tree(source)):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name): continue
        if node.value.id in others and private(node.attr):
            taken.append(f'{node.value.id}.{node.attr}')
    return taken


def crossings(root: Path = ROOT) -> list[str]:
    "Private names of one module in another, or in a template."
    books, known = notebooks(root), {b.module for b in exporting(root)}
    def others(b): return known - {b.module} # a demonstration may look into its own module
    found = [(b.path.name, name) for b in books for s in b.code for name in private_names(s, b.module, others(b))]
    return sorted(f'{path}: {name}' for path, name in found)


def test_every_room_has_a_folder_a_number_and_a_module_of_its_own():
    found = exporting()
    assert [b.path.name for b in found if '.'.join(room_of(b.path, ROOT)[::2]) != b.module] == []
    assert {b.stage for b in found} == set(STAGES)
    names = [b.module for b in found]
    assert sorted(n for n in set(names) if names.count(n) > 1) == []
    assert {name.removesuffix('.py').replace('/', '.') for name in modules()} == set(names)


def test_a_notebook_imports_from_earlier_stages_and_earlier_rooms_alone():
    assert wrong_imports() == []


def test_no_import_goes_in_a_circle():
    assert circles() == []


def test_no_private_name_crosses_a_module():
    assert crossings() == []


def written(root: Path, **sources: str) -> Path:
    "A project of notebooks with a cell of code each, by stage, number and name."
    for place, source in sources.items():
        stage, number, name = place.split('_')
        path = root/'nbs'/stage/f'{number}_{name}.ipynb'
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = [dict(cell_type='code', source=s) for s in (f'#| default_exp {stage}.{name}', f'#| export\n{source}')]
        path.write_text(json.dumps(dict(cells=cells)))
    return root


def test_what_breaks_the_order_is_found(tmp_path):
    root = written(tmp_path, core_10_errors='def f():\n    from xtl.data.rows import g',
                   data_10_bucc='import xtl.data.rows',
                   data_20_rows='from xtl.core.errors import f, _g\nfrom ..data import bucc as b\nb.x, b.__name__',
                   data_30_tokens='from xtl.data import rows\nrows._h(rows.k)')
    assert wrong_imports(root) == ['core.errors imports data.rows', 'data.bucc imports data.rows']
    assert circles(root) == ['core.errors', 'data.bucc', 'data.rows']
    assert crossings(root) == ['20_rows.ipynb: core.errors._g', '30_tokens.ipynb: rows._h']


# How it reads

def listed(counts: dict[Path, object]) -> str:
    "A notebook a line with what was counted in it, where that is something."
    return '\n'.join(f'{path.relative_to(ROOT/"nbs")}: {n}' for path, n in counts.items() if n)


def test_no_line_of_code_is_too_long():
    assert listed({b.path: len(b.wide()) for b in notebooks()}) == '', f'lines of code over {WIDTH} characters'


def test_no_exported_cell_is_too_long():
    long = {b.path: [cell_length(s) for s in b.long_cells()] for b in notebooks()}
    assert listed(long) == '', f'exported cells over {CELL} lines'


def test_no_module_is_too_long():
    assert {name: n for name, n in modules().items() if n > MODULE} == {}


def test_the_first_cell_of_prose_is_title_and_subtitle_alone():
    def alone(text):
        lines = text.splitlines()
        return len(lines) == 3 and lines[0].startswith('# ') and not lines[1] and lines[2].startswith('> ')
    assert listed({b.path: b.first for b in notebooks() if not alone(b.first)}) == ''


def test_no_cell_begins_or_ends_with_an_empty_line():
    "Which would double the empty lines between two cells of a module."
    sources = {p: [''.join(c['source']) for c in json.loads(p.read_text())['cells']] for p in (ROOT/'nbs').rglob('*.ipynb')
               if not set(SKIPPED) & set(p.parts)}
    assert len(sources) > 100
    assert listed({p: [s[-40:] for s in found if s != s.strip('\n')] for p, found in sources.items()}) == ''


def mixed(book: Notebook) -> list[str]:
    "Cells of a module's notebook that import and do something else, but for exported ones."
    def other(n): return not isinstance(n, (ast.Import, ast.ImportFrom))
    def body(s): return [] if s.startswith('#| export') else tree(s).body
    return [s[:60] for s in book.code if len({other(n) for n in body(s)}) == 2]


def test_imports_have_cells_of_their_own():
    "nbdev runs every cell that imports when it makes the site, and none of those before it that do not."
    assert listed({b.path: mixed(b) for b in notebooks() if b.module}) == ''


def test_what_reads_badly_is_found(tmp_path):
    wide = '# ' + 'x'*WIDTH
    root = written(tmp_path, core_10_errors=wide[:WIDTH], core_20_files=f'{wide}\nx = 1\n{wide}',
                   core_30_steps='\n'.join('x'*(CELL + 1)))
    found = [read_notebook(p) for p in sorted((root/'nbs').rglob('*.ipynb'))]
    assert [len(b.wide()) for b in found] == [0, 2, 0] and [len(b.long_cells()) for b in found] == [0, 0, 1]
    assert [b.lines for b in found] == [1, 3, CELL + 1]


SHOWN = ('analysis', 'report') # Stages whose every notebook shows what it defines
RATIO = 3                      # Exported lines to one of demonstration, at most


def test_notebooks_show_what_they_define():
    books = {b.path.name: b.lines/max(1, b.shown) for b in notebooks() if b.module and b.stage in SHOWN}
    assert len(books) > 20
    assert {name: round(ratio, 2) for name, ratio in books.items() if ratio > RATIO} == {}


def test_notebooks_are_small():
    sizes = {b.path: b.path.stat().st_size for b in notebooks()}
    assert listed({path: size for path, size in sizes.items() if size > 110_000}) == ''


def test_stored_outputs_name_no_machine_and_hold_no_warnings():
    for path in sorted((ROOT/'nbs').rglob('*.ipynb')):
        outputs = [o for c in json.loads(path.read_text())['cells'] for o in c.get('outputs', [])]
        assert not [o for o in outputs if o['output_type'] == 'error' or o.get('name') == 'stderr'], path.name
        places = ('site-packages', '/home/', '/tmp/', str(ROOT))
        assert not any(place in json.dumps(outputs) for place in places), path.name


# What travels

def test_templates_keep_exactly_one_cell_of_parameters(copy):
    places = ('experiments', 'report') # tutorials are no templates: they run as they are
    templates = [b.path for b in notebooks(copy) if not b.module and b.path.parent.name in places]
    assert {'cell.ipynb', 'pretrain.ipynb', 'report.ipynb'} <= {p.name for p in templates}
    for path in templates:
        cells = json.loads(path.read_text())['cells']
        assert sum('parameters' in c['metadata'].get('tags', []) for c in cells) == 1, path
        assert 'skip_exec: true' in ''.join(cells[0]['source']), path


def test_nothing_in_the_project_is_a_symbolic_link():
    git = subprocess.run(['git', 'ls-files', '--stage'], cwd=ROOT, capture_output=True, text=True)
    if git.returncode == 0: # a checkout, not what was unpacked from an archive
        assert [line for line in git.stdout.splitlines() if line.startswith('120000')] == []
    places = [ROOT/name for name in ('nbs', 'xtl', 'tests')]
    assert [str(p) for place in places for p in place.rglob('*') if p.is_symlink()] == []


def carried(words: list[str]) -> set[str]:
    "Packages that requirements bring with them, themselves included, as they are installed here."
    found, todo = set(), [Requirement(w) for w in words]
    while todo:
        one = todo.pop()
        if canonicalize_name(one.name) in found: continue
        found.add(canonicalize_name(one.name))
        try: needed = requires(one.name) or []
        except PackageNotFoundError: continue
        todo += [r for r in map(Requirement, needed) if not r.marker or r.marker.evaluate({'extra': ''})]
    return found


def test_a_worker_installs_what_runs_import_and_nothing_that_only_authors_need():
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    worker = carried(config['DEFAULT']['requirements'].split())
    owners = packages_distributions()
    code = [p.read_text() for p in (ROOT/'xtl').rglob('*.py')]
    code += [s for b in notebooks() if not b.module for s in b.code]
    nodes = [n for source in code for n in ast.walk(tree(source))]
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    names = {n.split('.')[0] for n in names} - set(sys.stdlib_module_names)
    names -= {'xtl', 'dask_jobqueue', 'peft'} # the last two are extras, for Slurm and for adapters
    missing = {n for n in names if not worker & {canonicalize_name(o) for o in owners.get(n, [])}}
    assert len(names) > 20 and missing == set()
    authors = {'jupyterlab', 'notebook', 'nbdev', 'execnb', 'pytest', 'ruff', 'hypothesis', 'playwright'}
    assert authors & worker == set()


def test_tested_versions_are_there_for_every_python_that_is_promised():
    "Pythons of distributions are older than the newest with the same number: Debian's is 3.11.2."
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    first, looked_at = config['DEFAULT']['min_python'] + '.0', 0
    for line in (ROOT/'constraints.txt').read_text().split():
        name, number = line.split('==')
        try: about = metadata(name)
        except PackageNotFoundError: continue # of another machine, or an extra
        if about['Version'].split('+')[0] != number: continue
        looked_at += 1
        assert SpecifierSet(about.get('Requires-Python') or '').contains(first), line
    assert looked_at > 100


def test_the_readme_follows_the_index(copy):
    words = ['--to', 'markdown', '--log-level', 'ERROR', '--TagRemovePreprocessor.remove_input_tags', 'remove_input',
             '--output-dir', copy/'readme', '--output', 'README', copy/'nbs'/'index.ipynb']
    done = subprocess.run([str(BIN/'jupyter'), 'nbconvert', *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = (copy/'readme'/'README.md').read_text().replace('](tutorials/', '](nbs/tutorials/') # from where it stands
    assert made == (ROOT/'README.md').read_text()
    links = re.findall(r'\]\(((?!https?:|#)[^)]+)\)', made)
    assert len(links) > 4 and [link for link in links if not (ROOT/link).exists()] == []


def test_a_wheel_holds_modules_templates_and_encoder(copy, tmp_path):
    words = ['wheel', '--quiet', '--no-deps', '--wheel-dir', tmp_path, copy]
    done = subprocess.run([sys.executable, '-m', 'pip', *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = set(zipfile.ZipFile(next(tmp_path.glob('xtl-*.whl'))).namelist())
    assert {f'xtl/{name}' for name in modules()} <= names
    assert {f'xtl/{stage}/__init__.py' for stage in STAGES} <= names
    assert {'xtl/mini_encoder/model.safetensors', 'xtl/mini_encoder/tokenizer.json'} <= names
    templates = {f'xtl/notebooks/experiments/{p.name}' for p in (ROOT/'nbs'/'experiments').glob('*.ipynb')}
    assert {n for n in names if n.endswith('.ipynb')} == templates | {'xtl/notebooks/report/report.ipynb'}
    assert {'xtl/notebooks/report/report.css', 'xtl/notebooks/report/report.js'} <= names



def test_no_link_between_notebooks_is_broken():
    found, broken = 0, []
    for path in sorted((ROOT/'nbs').rglob('*.ipynb')):
        if set(SKIPPED) & set(path.parts): continue
        prose = '\n'.join(''.join(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'markdown')
        links = re.findall(r'\]\(((?!https?:|#|mailto:)[^)\s]+)\)', prose)
        found += len(links)
        broken += [f'{path.name}: {link}' for link in links if not (path.parent/link.split('#')[0]).exists()]
    assert found > 5 and broken == []
