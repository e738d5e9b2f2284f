"""What a user may get wrong ends in one line and exit code 2, nothing being written; the rest is accepted and in effect.

All inputs with XTL_INPUTS=all; otherwise every fourth of each kind.
"""
import os
from collections import Counter, defaultdict
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from inputs import all_inputs
from xtl.cli.main import answer, printed_line


def chosen():
    "The inputs to try."
    inputs, kinds, kept = all_inputs(), Counter(), []
    for one in inputs:
        if os.environ.get('XTL_INPUTS') == 'all' or kinds[one.kind] % 4 == 0: kept.append(one)
        kinds[one.kind] += 1
    return kept


def lay(folder, files):
    "Writes the files of an input."
    for name, content in files.items():
        path = folder/name
        (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
        if content is not None: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def verdict(one, folder, monkeypatch):
    "What is wrong with the answer to an input; empty when nothing is."
    folder.mkdir()
    monkeypatch.chdir(folder)
    lay(folder, one.files)
    before, out, err = sorted(map(str, folder.rglob('*'))), StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err): code, line = answer(list(one.words))
    said = err.getvalue() + printed_line(line)
    if 'not foreseen' in said or 'Traceback' in said: return f'unforeseen: {said}'
    if code != one.code: return f'exit code {code}: {said or out.getvalue()[-200:]}'
    if code == 0: return '' if one.says in out.getvalue() else f'accepted, but without {one.says!r}: {out.getvalue()}'
    if not said.startswith('xtl: ') or len(said.splitlines()) != 1: return f'no single line: {said}'
    if not said.isprintable(): return f'control codes: {said!r}'
    if one.says not in said: return f'says nothing of {one.says!r}: {said}'
    return '' if sorted(map(str, folder.rglob('*'))) == before else f'left behind: {sorted(map(str, folder.rglob("*")))}'


def test_there_are_enough_inputs_of_every_kind():
    inputs = all_inputs()
    assert len(inputs) >= 400 and len({(i.words, str(i.files)) for i in inputs}) > 0.99*len(inputs)


def test_nothing_wrong_is_silent(tmp_path, monkeypatch):
    monkeypatch.delenv('XTL_DATA', raising=False)
    counts, wrong = defaultdict(Counter), []
    for i, one in enumerate(chosen()):
        found = verdict(one, tmp_path/str(i), monkeypatch)
        counts[one.kind.partition(':')[0]]['wrong' if found else 'right'] += 1
        if found: wrong.append(f"{one.kind}: xtl {' '.join(map(repr, one.words))} {one.files if len(str(one.files)) < 400 else ''}\n    {found[:300]}")
    for kind, count in counts.items(): print(f"{kind}: {count['right']} of {count.total()} right")
    print(f"{sum(c['right'] for c in counts.values())} of {sum(c.total() for c in counts.values())} inputs answered as they should be")
    assert not wrong, '\n'.join(wrong)
