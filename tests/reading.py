"""How the notebooks read: a table of counts for each checkout that is given, side by side.

    python tests/reading.py [FOLDER ...]

Without a folder, of this checkout. For a state before: `git worktree add ../then COMMIT`, then both folders.
"""
import argparse
import ast
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
WIDTH, CELL, MODULE = 120, 40, 400 # characters a line; lines an exported cell, a module
STAGES = ('core', 'tasks', 'world', 'data', 'encoder', 'training', 'evaluation', 'study', 'transfer', 'execution',
          'analysis', 'report', 'cli')
EXPORT, NAMED = re.compile(r'^#\|\s*export', re.M), re.compile(r'^#\|\s*default_exp\s+(\S+)', re.M)


@dataclass
class Notebook:
    "What is counted of a notebook."
    path: Path
    module: str = ''                              # It exports to, such as 'data.rows'; empty for a template
    code: list[str] = field(default_factory=list) # Its cells of code, whole
    exported: list[str] = field(default_factory=list) # Of these the exported ones
    shown: int = 0                        # Lines of demonstration: not exported, no import, no blank line
    first: str = ''                               # Its first cell of prose

    @property
    def stage(self) -> str:
        "The stage, or in the flat layout the module."
        return self.module.split('.')[0]

    @property
    def lines(self) -> int:
        "Lines that are exported."
        return sum(len(code_lines(source)) for source in self.exported)

    def wide(self) -> list[str]:
        "Lines of code that are too long."
        return [line for source in self.code for line in source.splitlines() if len(line) > WIDTH]

    def long_cells(self) -> list[str]:
        "Exported cells that are too long."
        return [source for source in self.exported if cell_length(source) > CELL]


def code_lines(source: str) -> list[str]:
    "Lines of a cell, without blank ones and directives."
    return [line for line in source.splitlines() if line.strip() and not line.startswith('#|')]


def cell_length(source: str) -> int:
    "Lines of a cell, blank ones counted, directives not."
    return sum(not line.startswith('#|') for line in source.splitlines())


def tree(source: str) -> ast.Module:
    "A cell as Python reads it; magic and commands of the shell are calls of IPython."
    try: return ast.parse(source)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager
        return ast.parse(TransformerManager().transform_cell(source))


def shown_lines(source: str) -> int:
    "Lines of demonstration in a cell: what is neither blank nor a directive nor an import."
    body = tree(source).body
    imports = [n for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
    return len(code_lines(source)) - sum(n.end_lineno - n.lineno + 1 for n in imports)


def read_notebook(path: Path) -> Notebook:
    "The counts of one notebook."
    found = Notebook(path)
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown' and not found.first: found.first = source
        if cell['cell_type'] != 'code': continue
        found.code.append(source)
        if name := NAMED.search(source): found.module = name[1]
        elif EXPORT.search(source): found.exported.append(source)
        else: found.shown += shown_lines(source)
    return found


def notebooks(root: Path = ROOT) -> list[Notebook]:
    "The notebooks of a checkout, those of Jupyter's checkpoints left out."
    paths = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
    return [read_notebook(p) for p in paths]


def modules(root: Path = ROOT) -> dict[str, int]:
    "Lines of every exported module, by its path in the package."
    package = root/'xtl'
    paths = sorted(p for p in package.rglob('*.py') if p.name not in ('__init__.py', '_modidx.py'))
    return {str(p.relative_to(package)): len(p.read_text(encoding='utf-8').splitlines()) for p in paths}


def ratios(books: list[Notebook]) -> dict[str, float]:
    "Exported lines to a line of demonstration, by stage."
    exported, shown = Counter(), Counter()
    for book in books:
        if book.module: exported[book.stage] += book.lines; shown[book.stage] += book.shown
    return {stage: exported[stage]/max(1, shown[stage]) for stage in exported}


def table(root: Path) -> dict[str, str]:
    "What the reading of a checkout is measured by, in words."
    books, sizes = notebooks(root), modules(root)
    every = [line for b in books for source in b.code for line in source.splitlines()]
    exporting = [b for b in books if b.module]
    largest = max(sizes, key=sizes.get)
    longest = max(books, key=lambda b: max(map(len, '\n'.join(b.code).splitlines()), default=0))
    ratio = sum(b.lines for b in exporting)/sum(b.shown for b in exporting)
    rows = {
        'notebooks': f'{len(books)}, {len(exporting)} of them modules',
        'exported lines a module, median': f'{median(sizes.values()):.0f}',
        'exported lines a module, largest': f'{sizes[largest]} ({largest})',
        'lines of code': f'{len(every)}',
        'longest line': f'{max(map(len, every))} ({longest.path.name})',
        f'lines of code over {WIDTH}': f'{sum(len(b.wide()) for b in books)}',
        f'cells over {CELL} exported lines': f'{sum(len(b.long_cells()) for b in books)}',
        'longest exported cell': f'{max(cell_length(source) for b in books for source in b.exported)}',
        'exported lines to one of demonstration': f'{ratio:.1f}',
    }
    found = ratios(books)
    order = [s for s in STAGES if s in found] + sorted(set(found) - set(STAGES))
    return rows | {f'  {stage}': f'{found[stage]:.1f}' for stage in order}


def main(folders: list[Path]) -> None:
    "Prints the tables of checkouts side by side."
    tables = [table(folder.resolve()) for folder in folders]
    names = list(dict.fromkeys(name for t in tables for name in t))
    rows = [['', *map(str, folders)], *([name, *(t.get(name, '–') for t in tables)] for name in names)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows: print('  '.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='*', type=Path, default=[ROOT], help='checkouts, this one by default')
    main(parser.parse_args().folders)
