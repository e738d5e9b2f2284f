"The report: any state of a study is reported, nothing from data is executed, and a real browser shows it."
import json
import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from nbformat.reader import NotJSONError
from xtl.core.errors import UserError
from xtl.core.files import write_json
from xtl.report.findings import encoder_kind, find
from xtl.evaluation.submission import write_gold
from xtl.report.claims import claims
from xtl.report.comparison import flat
from xtl.report.page import cell_pages, fill, render, render_comparison, render_site, template_folder
from xtl.report.tables import table_xtreme
from xtl.report.tradeoff import table_pareto, table_published
from xtl.report.words import answer_sentences, caveats, detect_sentence, first_sentence
from xtl.analysis.coverage import DESIGNS
from xtl.analysis.simulation import Design, Noise, simulate_study

CHROMIUM = next((p for p in ('/usr/bin/chromium', shutil.which('chromium-browser'), shutil.which('google-chrome')) if p and Path(p).exists()), None)
CHROMIUM_FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
EVIL = '<script>alert(1)</script>'

def write_ledger(cells: pd.DataFrame, rng) -> pd.DataFrame:
    rows = []
    for c in cells.itertuples():
        tasks = c.tasks.split('+') if c.tasks else []
        for task in tasks:
            share = 1 / len(tasks)
            rows.append(dict(cell=c.cell, phase='intermediate', task=task, sequences=1000, tokens=50000, useful_flops=c.budget_flops * share * 0.9, executed_flops=c.budget_flops * share,
                             seconds=3., wanted_share=share, realised_share=share + rng.normal(0, 0.004)))
        rows.append(dict(cell=c.cell, phase='target', task='xnli', sequences=500, tokens=25000, useful_flops=8e8, executed_flops=1e9, seconds=2., wanted_share=np.nan, realised_share=np.nan))
    return pd.DataFrame(rows)

def write_curves(cells: pd.DataFrame, rng) -> pd.DataFrame:
    steps = np.arange(1, 61)
    parts = []
    for c in cells[cells.tasks != ''].itertuples():
        for task in c.tasks.split('+'):
            parts.append(pd.DataFrame(dict(cell=c.cell, phase='intermediate', task=task, step=steps, flops=steps * c.budget_flops / 60, loss=2 * np.exp(-steps / 20) + 0.4 + rng.normal(0, 0.08, 60), learning_rate=1e-4)))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=['cell', 'phase', 'task', 'step', 'flops', 'loss', 'learning_rate'])

def write_outcome(out: Path, results: pd.DataFrame, failed: tuple = (), seed: int = 0) -> Path:
    "A run's folder around a results table, with all its files."
    rng = np.random.default_rng(seed)
    cells = results.drop_duplicates('cell')
    out.mkdir(parents=True, exist_ok=True)
    results.to_parquet(out/'results.parquet')
    write_ledger(cells, rng).to_parquet(out/'ledger.parquet')
    write_curves(cells, rng).to_parquet(out/'curves.parquet')
    phase2 = cells.budget_flops.where(cells.tasks != '', 0.0)
    pd.DataFrame(dict(cell=cells.cell, intermediate=phase2, target=1e9, to_do_intermediate=phase2*0.6, to_do_target=1e9)).to_parquet(out/'plan.parquet')
    pd.DataFrame([dict(cell=c.cell, phase=p, segment=f'{p}-{c.cell}', executed_flops=f) for c in cells.itertuples() for p, f in (('intermediate', c.budget_flops*0.6), ('target', 1e9)) if p == 'target' or c.tasks],
                 columns=['cell', 'phase', 'segment', 'executed_flops']).to_parquet(out/'segments.parquet')
    languages = results.language.unique()[1:4]
    layers = [dict(cell=c, target=t, language=l, layer=n, score=30 + 10 * n - 3 * n**2 + rng.normal(0, 2)) for c in cells.cell for t in ('bucc', 'tatoeba') for l in languages for n in range(5)]
    pd.DataFrame(layers, columns=['cell', 'target', 'language', 'layer', 'score']).to_parquet(out/'layers.parquet')
    (out/'study.yaml').write_text(f'{{name: simulated, data: {{source_language: {results.language.iloc[0]}}}}}')
    (out/'versions.json').write_text(json.dumps({'python': '3.11', 'torch': '2.13.0'}))
    (out/'data.json').write_text(json.dumps([dict(task='mnli', repository='nyu-mll/multi_nli', config='default', split='train', revision='abc', rows=1000, fingerprint='0123456789abcdef', dropped=2, realigned=0)]))
    for cell in [*cells.cell, *failed]:
        folder = out/'cells'/cell
        folder.mkdir(parents=True)
        (folder/'cell.ipynb').write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
        status = {'state': 'failed', 'error': 'loss became NaN at step 7'} if cell in failed else {'state': 'done'}
        (folder/'status.json').write_text(json.dumps(status))
    return out

def parts(out: Path) -> str:
    "The HTML of every cell of the report, without kernel and rendering."
    template, names, shown = json.loads((template_folder()/'report.ipynb').read_text()), {}, []
    for cell in template['cells']:
        if cell['cell_type'] != 'code': continue
        lines = ''.join(cell['source']).strip().split('\n')
        if 'parameters' in cell['metadata'].get('tags', []): lines = [f'out = {str(out)!r}', 'None']
        exec('\n'.join(lines[:-1]), names)
        shown.append(getattr(eval(lines[-1], names), 'data', ''))
    return '\n'.join(shown)

# -- any state of a study is reported

MINI = Design()

def test_empty_study_says_that_there_are_no_scores(tmp_path):
    page = render(tmp_path).read_text()
    assert 'No cell of this study has scores yet' in page and page.count('xtl-missing') > 10
    assert page.startswith('<!DOCTYPE html>') and '<figure' not in page

def test_a_cell_whose_notebook_is_damaged_costs_its_page_and_not_the_report(tmp_path):
    (tmp_path/'cells'/'one').mkdir(parents=True)
    (tmp_path/'cells'/'one'/'cell.ipynb').write_text('{')
    with pytest.raises(NotJSONError): render(tmp_path)
    assert '</html>' in (tmp_path/'report'/'index.html').read_text()

@pytest.mark.parametrize('control', ['none', 'target-only', 'intermediate'])
def test_one_cell_is_reported_and_what_is_missing_is_said(tmp_path, control):
    results = simulate_study(MINI)
    one = results[results.cell == results[results.control == control].cell.iloc[0]]
    page = parts(write_outcome(tmp_path/'out', one))
    assert 'xtl-missing' in page and 'no intervals are given' in page and 'nan' not in visible_text(page).lower()

def test_partly_failed_study_names_the_failed_cell_and_its_error(tmp_path):
    results = simulate_study(MINI, effect='linear', seed=4)
    lost = results.cell.unique()[10]
    page = parts(write_outcome(tmp_path/'out', results[~((results.cell == lost) & results.target.isin(['xquad', 'panx']))], failed=('b-failed',)))
    text = visible_text(page)
    assert '1 of 51 cells failed' in text and 'loss became NaN at step 7' in text and '1 cell lacks some scores' in text
    assert 'href="cells/b-failed.html"' in page

TABLES = ['results', 'ledger', 'curves', 'plan', 'segments', 'layers']

@pytest.mark.parametrize('name', TABLES)
@pytest.mark.parametrize('change', ['lost', 'empty', 'short'])
def test_a_table_that_is_lost_empty_or_short_is_no_reason_to_fail(tmp_path, monkeypatch, name, change):
    def outline(figure, into, **how): into.write(b'<svg/>') # words alone are looked at: only short tables are also drawn out
    if change != 'short': monkeypatch.setattr('matplotlib.figure.Figure.savefig', outline)
    path = write_outcome(tmp_path/'out', simulate_study(MINI, seed=1))/f'{name}.parquet'
    rows = pd.read_parquet(path)
    if change == 'lost': path.unlink()
    else: (rows.iloc[:0] if change == 'empty' else rows[rows.cell != rows.cell.iloc[len(rows) // 2]]).to_parquet(path)
    assert 'nan' not in visible_text(parts(tmp_path/'out')).lower()

def test_a_study_whose_cells_all_failed_says_so(tmp_path):
    out = write_outcome(tmp_path/'out', simulate_study(MINI))
    for name in TABLES: pd.DataFrame().to_parquet(out/f'{name}.parquet') # as `collect` leaves them
    for path in out.glob('cells/*/status.json'): path.write_text(json.dumps({'state': 'failed', 'error': 'no memory'}))
    text = visible_text(parts(out))
    assert 'No cell of this study has scores yet' in text and '50 of 50 cells failed' in text and 'no memory' in text

def test_planned_cells_that_were_not_begun_are_counted(tmp_path):
    results = simulate_study(MINI)
    out = write_outcome(tmp_path/'out', results)
    for cell in results.cell.unique()[-2:]: shutil.rmtree(out/'cells'/cell)
    text = visible_text(parts(out))
    assert '2 of 50 cells had not finished when this was written' in text and '48 done, 2 waiting' in text

def test_source_language_alone_is_no_transfer(tmp_path):
    results = simulate_study(MINI)
    text = visible_text(parts(write_outcome(tmp_path/'out', results[results.language == 'qaa'])))
    assert 'Only the source language was scored' in text and 'nan' not in text.lower()

def test_markup_in_names_is_shown_as_text(tmp_path):
    results = simulate_study(MINI)
    results['tasks'] = results.tasks.str.replace('mnli', EVIL)
    results['encoder'] = EVIL
    results['language'] = results.language.replace('qcc', '$x$<b>')
    page = parts(write_outcome(tmp_path/'out', results))
    assert EVIL not in page and '$x$<b>' not in page and '&lt;script&gt;' in page

def test_no_such_run_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match='no run at'): render(tmp_path/'nowhere')

def test_page_needs_no_network(mini_page):
    text = mini_page.read_text()
    addresses = re.findall(r'(?:src|href)="([^"#][^"]{0,40})', text)
    assert [a for a in addresses if not a.startswith(('data:', 'cells/'))] == []
    assert not re.search(r'@import|url\(http|<script[^>]+src=', text)

def test_template_has_one_parameters_cell_and_is_skipped_by_the_notebook_tests():
    template = json.loads((template_folder()/'report.ipynb').read_text())
    tagged = [c for c in template['cells'] if 'parameters' in c['metadata'].get('tags', [])]
    assert len(tagged) == 1 and ''.join(tagged[0]['source']).startswith('out =')
    assert 'skip_exec: true' in ''.join(template['cells'][0]['source']) and template['cells'][0]['cell_type'] == 'raw'

def test_headings_are_in_order(mini_page):
    levels = [int(n) for n in re.findall(r'<h([1-6])', mini_page.read_text())]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))

# -- a real browser

@pytest.fixture(scope='module')
def mini_page(tmp_path_factory):
    results = simulate_study(Design(subsets=6), effect='tier', collapsed=0.05, seed=1)
    return render(write_outcome(tmp_path_factory.mktemp('mini')/'out', results, failed=('broken',)))

def visible_text(page: str) -> str:
    return re.sub(r'<[^>]+>', ' ', re.sub(r'<(style|script).*?</\1>', '', page, flags=re.S))

@pytest.fixture(scope='module')
def browser():
    if CHROMIUM is None: pytest.skip('no Chromium on this machine: the report was not opened in a browser')
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()

@pytest.fixture(params=[1280, 390], ids=['desktop', 'phone'])
def opened(request, browser, mini_page):
    page, errors = browser.new_page(viewport={'width': request.param, 'height': 900}), []
    page.on('console', lambda message: errors.append(message.text) if message.type in ('error', 'warning') else None)
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.goto(mini_page.as_uri())
    yield page, errors, request.param
    page.close()

def test_browser_shows_every_figure_without_an_error(opened):
    page, errors, width = opened
    shown = page.evaluate("[...document.images].map(i => [i.complete && i.naturalWidth > 0, i.alt.length > 40, !!i.closest('figure').querySelector('figcaption').textContent])")
    assert len(shown) == 10 and all(all(s) for s in shown) and errors == []
    assert page.evaluate('document.documentElement.scrollWidth') <= width

@pytest.mark.parametrize('width, kind', [(688, ':not(.xtl-wide)'), (1016, '.xtl-wide')], ids=['upright', 'across'])
def test_nothing_is_cut_off_on_paper(browser, mini_page, width, kind):
    page = browser.new_page(viewport={'width': width, 'height': 1000}) # A4 without its margins; wide tables lie across
    page.emulate_media(media='print')
    page.goto(mini_page.as_uri())
    right = page.evaluate("kind => [...document.querySelectorAll(`.xtl-table${kind} table, main > *, img`)].map(e => e.getBoundingClientRect().right)", kind)
    assert len(right) > 10 and max(right) <= width
    style = "([name, property]) => [...new Set([...document.querySelectorAll(name)].map(e => getComputedStyle(e)[property]))]"
    for name in ('.xtl-caption', '.xtl-figure', '.xtl-table thead', '.xtl-table tr'):
        assert page.evaluate(style, [name, 'breakInside']) == ['avoid'], name # captions stay whole, heads are repeated
    assert page.evaluate(style, ['.xtl-caption', 'breakAfter']) == ['avoid']
    assert page.evaluate(style, ['.xtl-table thead button', 'display']) == ['contents'] # else repeated heads are empty
    page.close()

def test_browser_resolves_every_internal_link(opened, mini_page):
    page, *_ = opened
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href'))")
    inside = [l[1:] for l in links if l.startswith('#')]
    assert len(inside) >= 8 and all(page.evaluate('id => !!document.getElementById(id)', i) for i in inside)
    files = [l for l in links if l.startswith('cells/')]
    assert len(files) == len(list(mini_page.parent.parent.glob('cells/*'))) > 50 and all((mini_page.parent/l).exists() for l in files)

def test_browser_sorts_a_table_and_its_csv_holds_it(opened):
    page, *_ = opened
    column = "[...document.querySelectorAll('#tab-xtreme tbody tr')].map(r => Number(r.cells[4].dataset.sort))"
    head = page.locator('#tab-xtreme thead th').nth(4)
    head.locator('button').click()
    up = page.evaluate(column)
    assert up == sorted(up) and head.get_attribute('aria-sort') == 'ascending'
    head.locator('button').click()
    assert page.evaluate(column) == up[::-1] and head.get_attribute('aria-sort') == 'descending'
    text = page.evaluate("fetch(document.querySelector('#tab-xtreme a.xtl-csv').href).then(r => r.text())")
    assert text.startswith('control,budget_flops,n_tasks,kind,group,score,low,high') and len(text.splitlines()) > len(up)

def shown_rows(page, name):
    "The texts of a table's rows that are seen."
    return page.evaluate("""name => [...document.querySelectorAll(`#${name} tbody tr`)].filter(r => !r.hidden)
                            .map(r => [...r.cells].map(c => c.textContent.trim()))""", name)

def choose(page, name, column, value):
    page.locator(f'#{name} .xtl-tools label', has_text=column).locator('select').select_option(value)

def test_languages_open_at_the_most_compute_and_tasks_and_others_can_be_chosen(opened):
    page, *_ = opened
    first = shown_rows(page, 'tab-languages')
    assert len(first) == 9 and {(r[2], r[3]) for r in first} == {('4 TFLOP', '9')}
    choose(page, 'tab-languages', 'tasks', '1')
    choose(page, 'tab-languages', 'tier', 'low')
    low = shown_rows(page, 'tab-languages')
    assert len(low) == 3 and {tuple(r[1:4]) for r in low} == {('low', '4 TFLOP', '1')}
    bold = page.evaluate("[...document.querySelectorAll('#tab-languages td.xtl-best')].map(c => [c.parentElement.hidden, Number(c.dataset.sort)])")
    best = page.evaluate("Math.max(...[...document.querySelectorAll('#tab-languages tr:not([hidden]) td:nth-child(7)')].map(c => Number(c.dataset.sort)))")
    assert [False, best] in bold and not any(hidden for hidden, _ in bold)

def test_a_wide_table_says_so_and_its_first_columns_stay(opened):
    page, _, width = opened
    assert page.locator('#tab-xtreme .xtl-hint').is_visible() and page.locator('#tab-versions .xtl-hint').is_hidden()
    place = "document.querySelector('#tab-xtreme tbody tr').cells[{}].getBoundingClientRect().left"
    before = [page.evaluate(place.format(i)) for i in (0, 5)]
    page.evaluate("document.querySelector('#tab-xtreme .xtl-scroll').scrollLeft = 150")
    after = [page.evaluate(place.format(i)) for i in (0, 5)]
    assert after[0] == before[0] and after[1] == before[1] - 150

def test_what_is_seen_of_a_table_is_copied_as_markdown_and_latex(opened):
    page, *_ = opened
    page.evaluate("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    choose(page, 'tab-xtreme', 'tasks', '9')
    page.locator('#tab-xtreme summary').click()
    page.locator('#tab-xtreme details label', has_text='cells').locator('input').uncheck()
    page.locator('#tab-xtreme button', has_text='Copy as Markdown').click()
    lines = page.evaluate('copied').splitlines()
    assert len(lines) == 2 + 3 and 'cells' not in lines[0] and lines[1].startswith('| ---: | ---: | --- | ---: |')
    assert all(line.count('|') == lines[0].count('|') for line in lines) and lines[-1].count('**') >= 2
    page.locator('#tab-xtreme button', has_text='Copy as LaTeX').click()
    latex = page.evaluate('copied')
    assert latex.startswith('\\begin{tabular}{rrlr') and '\\textbf{' in latex and '±' not in latex and '$\\pm$' in latex

def test_contents_name_sections_figures_and_tables_and_every_one_has_a_link_to_itself(opened):
    page, _, width = opened
    listed = page.evaluate("[...document.querySelectorAll('nav a')].map(a => a.hash)")
    linked = page.evaluate("[...document.querySelectorAll('a.xtl-permalink')].map(a => a.hash)")
    assert {'#targets', '#fig-targets', '#tab-xtreme'} <= set(listed) <= set(linked)
    page.evaluate('scrollTo(0, document.body.scrollHeight)')
    if width > 1100: assert page.locator('nav').bounding_box()['y'] == 0 # stays at the side

ALL_SEEN = """.xtl-page { max-width: none !important } .xtl-fixed, thead th { position: static !important }
.xtl-scroll { overflow: visible !important; max-height: none !important }
.xtl-page pre { white-space: pre-wrap !important }"""

def axe_on(page) -> tuple[list, list]:
    "What axe finds wrong on a page, and where it cannot judge contrast once nothing is clipped or under something."
    axe = pytest.importorskip('axe_playwright_python.sync_playwright')
    found = axe.Axe().run(page).response
    assert len(found['passes']) > 25
    page.add_style_tag(content=ALL_SEEN)
    page.set_viewport_size({'width': 3000, 'height': 900}) # on which contrast does not depend
    contrast = axe.Axe().run(page, options={'runOnly': ['color-contrast']}).response
    wrong = [(v['id'], len(v['nodes'])) for v in found['violations'] + contrast['violations']]
    return wrong, [n['target'] for v in contrast['incomplete'] for n in v['nodes']]

def test_axe_finds_no_violation(opened):
    page, _, width = opened
    page.emulate_media(color_scheme='light' if width > 1100 else 'dark')
    assert axe_on(page) == ([], [])

@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'dark')])
def test_axe_finds_no_violation_on_the_page_of_a_cell(browser, tmp_path, width, scheme):
    from nbformat import write
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
    scores = pd.DataFrame({f'language {i}': [1.5, 2.5] for i in range(30)}, index=['xnli', 'xquad'])
    shown = [new_output('display_data', {'text/html': html}) for html in (scores.to_html(), scores.style.to_html())]
    printed = new_output('stream', text='a long line ' * 40)
    code = new_code_cell(f'x = {"1 + " * 90}1', outputs=[*shown, printed])
    (tmp_path/'cells'/'one').mkdir(parents=True)
    write(new_notebook(cells=[new_markdown_cell('# One cell'), code]), tmp_path/'cells'/'one'/'cell.ipynb')
    page = browser.new_page(viewport={'width': width, 'height': 900}, color_scheme=scheme)
    page.goto(cell_pages(tmp_path)[0].as_uri())
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert axe_on(page) == ([], [])
    page.close()

def test_an_executed_cell_opens_in_a_browser(browser, mini_page):
    page = browser.new_page()
    page.goto(mini_page.as_uri())
    page.locator('#tab-cells tbody a').first.click()
    assert page.url.endswith('/report/cells/broken.html') and page.locator('a', has_text='All cells').count() == 1
    page.close()

# -- several studies side by side

def comparable(folder: Path, name: str, budgets: tuple, settings: dict) -> Path:
    "A run's folder around a simulated study with some settings."
    out = write_outcome(folder/name, simulate_study(Design(budgets=budgets), effect='tier', seed=len(name)))
    (out/'study.yaml').write_text(json.dumps(dict(name=name, data=dict(source_language='qaa'), **settings)))
    return out

@pytest.fixture(scope='module')
def two_studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp('compared')
    return [comparable(folder, 'short', (1e12, 2e12), dict(phase2=dict(warmup=0.1, clip=1.0))),
            comparable(folder, 'longer', (2e12, 4e12), dict(phase2=dict(warmup=0.2, clip=1.0)))]

@pytest.fixture(scope='module')
def compared(two_studies):
    return render_comparison(two_studies)

def table_rows(page: str, name: str) -> list[list[str]]:
    "The texts of a table's rows, its head first."
    table = re.search(f'id="{name}".*?<table.*?</table>', page, re.S)[0]
    cells = [re.findall('<t[hd].*?</t[hd]>', row, re.S) for row in re.findall('<tr.*?</tr>', table, re.S)]
    return [[re.sub('<[^>]+>', '', cell) for cell in row] for row in cells]

def test_studies_stand_side_by_side_where_their_settings_differ(compared):
    page = compared.read_text()
    assert table_rows(page, 'tab-differences') == [
        ['kind', 'name', 'short', 'longer'], ['setting', 'name', 'short', 'longer'],
        ['setting', 'phase2.warmup', '0.1', '0.2']]
    assert 'which differ in 1 setting: phase2.warmup.' in visible_text(page)
    answers = table_rows(page, 'tab-answers')
    assert [row[0] for row in answers[1:]] == ['short', 'longer'] and all('tasks' in row[3] for row in answers[1:])

def test_gains_of_each_study_are_those_of_its_own_report(two_studies, compared):
    rows = table_rows(compared.read_text(), 'tab-gains')
    assert rows[0] == ['over', 'group', 'compute', 'tasks', 'short', 'longer']
    at = {tuple(row[:4]): row[4:] for row in rows[1:]}
    for column, out in enumerate(two_studies):
        gain = find(out).gain('target-only', 'tier', 'low', 9)
        text = f'{gain.gain:+.1f} [{gain.low:.1f}, {gain.high:.1f}]'.replace('-', '−')
        assert at['target-only', 'low', ('2 TFLOP', '4 TFLOP')[column], '9'][column] == text
    assert at['target-only', 'low', '1 TFLOP', '9'][1] == '' and at['target-only', 'low', '4 TFLOP', '9'][0] == ''
    assert all(at['target-only', 'low', '2 TFLOP', '9'])

def test_a_study_without_scores_stands_beside_one_with_scores(two_studies, tmp_path):
    (tmp_path/'study.yaml').write_text('{name: empty}')
    page = render_comparison([tmp_path, two_studies[0]]).read_text()
    assert 'No cell of this study has scores yet' in page and 'nan' not in visible_text(page).lower()
    assert '<figure' in page and render_comparison([tmp_path, two_studies[0].parent]).read_text().count('xtl-missing') >= 3

def test_studies_of_the_same_folder_name_are_told_apart_and_the_same_folder_is_refused(two_studies, tmp_path):
    out = shutil.copytree(two_studies[0], tmp_path/'b'/'short')
    text = visible_text(render_comparison([out, two_studies[0]]).read_text())
    assert 'Nothing differs' in text and f'b/short, {two_studies[0].parent.name}/short' in text
    with pytest.raises(UserError, match='given twice'): render_comparison([out, out/'.'])

def test_settings_are_compared_by_their_whole_names():
    settings = {'phase3': {'recipes': {'all': {'learning_rate': 1e-05}}}, 'design': {'n_tasks': [0, 2]}, 'tasks': {}}
    assert flat(settings) == {'phase3.recipes.all.learning_rate': '1.0e-05', 'design.n_tasks': '[0, 2]', 'tasks': '{}'}

@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'dark')])
def test_the_page_of_several_studies_opens_without_an_error(browser, compared, width, scheme):
    page, errors = browser.new_page(viewport={'width': width, 'height': 900}, color_scheme=scheme), []
    page.on('console', lambda message: errors.append(message.text))
    page.goto(compared.as_uri())
    assert page.evaluate('document.documentElement.scrollWidth') <= width and errors == []
    assert axe_on(page) == ([], [])
    links = page.evaluate("[...document.querySelectorAll('a[href], img[src]')].map(a => a.getAttribute('href') ?? a.src)")
    assert links and all(link.startswith(('#', 'data:')) for link in links)
    page.close()

# -- what the report says

BALANCED = DESIGNS['xtreme-base'] # speaks of numbers of tasks in general

def test_a_clear_best_is_claimed_with_its_interval():
    found = simulated_findings(BALANCED, source='en', effect='peak', size=5., seed=1)
    assert re.match(r'3 tasks are best for low-resource languages: \+\d+\.\d \(\d+\.\d to \d+\.\d\) points ahead', first_sentence(found))
    assert 'intermediate' not in first_sentence(found) and 'tasks bring' in ' '.join(answer_sentences(found))

def test_a_gain_of_low_resource_languages_alone_is_told():
    found = simulated_findings(Design(subsets=6), effect='tier', size=12.)
    assert 'Low-resource languages gain more than high-resource ones' in ' '.join(answer_sentences(found))

def test_no_difference_is_said_to_be_undetectable():
    found = simulated_findings(BALANCED, source='en', effect='none', seed=2)
    assert first_sentence(found).startswith('No number of tasks is clearly best')
    assert 'do not clearly differ in what they gain' in ' '.join(answer_sentences(found))

def test_nested_sets_of_tasks_name_no_best_number():
    nested = simulated_findings(Design(subsets=1, seeds=3), effect='tier', size=12.)
    assert 'none is called best' in first_sentence(nested) and not nested.best.claimed.any()
    assert 'the task sets that were run' in detect_sentence(nested)

def test_what_the_design_detects_is_the_half_of_its_interval():
    found = simulated_findings(MINI, effect='tier', seed=1)
    rows = found.gains['target-only']
    rows = rows[(rows.kind == 'tier') & (rows.group == 'low') & (rows.budget_flops == found.budget)]
    assert f'{((rows.high - rows.low) / 2).median():.1f} points half of the time' in detect_sentence(found)

def test_trained_targets_and_retrieval_have_a_sentence_each():
    found = simulated_findings(MINI, effect='linear', size=12.)
    assert answer_sentences(found)[-1].startswith('On retrieval, tasks bring +')
    without = simulated_findings(MINI, only=lambda r: ~r.target.isin(['bucc', 'tatoeba']))
    assert 'retrieval' not in ' '.join(answer_sentences(without))

def test_targets_alone_leave_open_what_tasks_bring():
    found = simulated_findings(MINI, only=lambda r: r.control == 'target-only')
    assert 'nothing but the targets alone was run' in first_sentence(found)

def test_no_share_of_resamples_is_told(mini_page):
    text = visible_text(mini_page.read_text())
    assert 'resample' not in text and 'bootstrap' not in text and '→' not in text

def test_numbers_that_lack_a_budget_are_told():
    all_run, lacking = (simulated_findings(MINI, only=only) for only in (lambda r: r.score > -1e9, lambda r: ~((r.n_tasks == 9) & (r.budget_flops == 4e12))))
    assert ['Not every number of tasks' in ' '.join(caveats(f)) for f in (all_run, lacking)] == [False, True]

def test_what_of_the_data_was_not_there_or_not_used_is_told(tmp_path):
    out = write_outcome(tmp_path/'out', simulate_study(MINI))
    write_json(out/'workspace.json', dict(missing=[dict(task='panx', split='test', language='qab', why='not there'), dict(task='bucc', split='development', language='qac', why='not there')], shape=dict(parameters=1_884_288)))
    (out/'study.yaml').write_text('data: {source_language: qaa, max_train: 2000, max_test: null}')
    notes = caveats(find(out))
    assert 'Not in the data, so not scored: panx in qab.' in notes and 'The data were cut to at most 2,000 training rows a split, so no score is the benchmark’s own.' in notes

def test_a_target_on_which_all_cells_give_the_commonest_answer_was_hardly_learned(tmp_path):
    results = simulate_study(MINI)
    results.loc[results.target == 'pawsx', 'score'] = 57.
    out = write_outcome(tmp_path/'out', results)
    assert not [n for n in caveats(find(out)) if 'hardly learned' in n] # half of the labels are of either kind, as far as is known
    write_gold(out/'gold', 'pawsx', 'qaa', ['0']*57 + ['1']*43)
    found = find(out)
    assert [n for n in caveats(found) if n.startswith('pawsx was hardly learned')] and not len(found.collapsed)

def test_average_of_xtreme_counts_the_source_language():
    found = simulated_findings(MINI, seed=3)
    level = found.levels[found.levels.control == 'none'].set_index('kind').score
    results = found.outcome.results[(found.outcome.results.control == 'none') & found.outcome.results.metric.isin(['accuracy', 'f1', 'exact_match'])]
    by_hand = results.groupby(['cell', 'target', 'language']).score.mean().groupby(['cell', 'target']).mean().groupby('cell').mean().mean()
    assert level['xtreme'] == pytest.approx(by_hand) and level['xtreme'] > level['all']
    assert 'XTREME average' in table_xtreme(found).data and f"{by_hand:.1f} ±" in table_xtreme(found).data

def test_the_best_model_of_each_target_counts_the_source_language():
    found = simulated_findings(MINI, effect='linear', seed=3)
    headline = found.outcome.results.assign(score=lambda t: t.groupby(['cell', 'target', 'language']).score.transform('mean')).drop_duplicates(['cell', 'target', 'language'])
    points = headline.groupby(['control', 'budget_flops', 'n_tasks', 'target']).score.mean()
    best = points['intermediate'].groupby('target').max() - points['none'].groupby('target').mean()
    assert f'{best.mean():+.1f}' in claims(found)[4].measured

def test_points_of_the_front_have_intervals():
    assert table_pareto(simulated_findings(MINI, effect='linear')).data.count(' ± ') >= 4

def test_forty_languages_are_needed_to_speak_of_forty():
    found = simulated_findings(Design(languages=('en', 'de', 'fr', 'sw', 'yo', 'hi')), source='en')
    assert claims(found)[8].verdict == 'not testable' and '6 of 40 languages' in claims(found)[8].why and claims(found)[13].verdict == 'supported'

def test_real_languages_in_a_small_encoder_are_not_called_mini_but_small():
    design = Design(languages=('en', 'de', 'fr', 'sw', 'yo', 'hi'))
    found = simulated_findings(design, source='en')
    assert [encoder_kind(found.outcome), any('is small' in c for c in caveats(found))] == ['small', True]

def test_published_figures_stand_only_beside_their_own_encoder():
    design = Design(languages=('en', 'de', 'fr', 'sw', 'yo', 'hi'))
    large = simulated_findings(design, source='en', encoder='FacebookAI/xlm-roberta-large')
    assert 'published (Phang et al. 2020)' in table_published(large).data and 'published (' not in table_published(simulated_findings(design, source='en')).data
    assert len(claims(large)) == 15 and {c.verdict for c in claims(large)} <= {'supported', 'contradicted', 'not testable'}

def test_a_gain_as_published_is_supported_and_another_contradicted():
    design = Design(languages=('en', 'de', 'fr', 'sw', 'yo', 'hi'), numbers=(9,), seeds=6)
    verdicts = [claims(simulated_findings(design, source='en', encoder='FacebookAI/xlm-roberta-large', effect='linear', size=size, noise=Noise(0.3, 0.1, 0.2, 0.3)))[1] for size in (6.7, 0.)]
    assert verdicts[0].measured.startswith('all nine: +8.') and verdicts[0].verdict == 'supported', verdicts[0]
    assert verdicts[1].verdict == 'contradicted', verdicts[1]

def test_a_mini_study_decides_nothing_about_real_languages():
    verdicts = claims(simulated_findings(Design(subsets=6), effect='linear', size=12.))
    assert verdicts[12].verdict == 'not testable' and 'within it the claim is supported' in verdicts[12].why

def simulated_findings(design, source='qaa', encoder='simulated', only=None, **more):
    with TemporaryDirectory() as folder:
        results = simulate_study(design, **more).assign(encoder=encoder)
        (results if only is None else results[only(results)]).to_parquet(Path(folder)/'results.parquet')
        (Path(folder)/'study.yaml').write_text(f'data: {{source_language: {source}}}')
        return find(folder)

# -- Quarto, whose part a script plays here: what the real one (1.11) was seen to do

QUARTO = """#!{python}
import json, re, shutil, sys
from pathlib import Path
import yaml
here, name = Path.cwd(), sys.argv[2]
if {trouble!r} == 'fails':
    print('\\x1b[1m\\x1b[31mERROR: no such theme\\x1b[39m\\x1b[22m\\n\\n    at render (file:///quarto.js:1:2)', file=sys.stderr)
    sys.exit(1)
project = next((f for f in (here, *here.parents) if (f/'_quarto.yml').exists()), None)
settings = yaml.safe_load((project/'_quarto.yml').read_text()) if project else {{}}
if not isinstance(settings, dict):
    print('\\x1b[31mERROR: YAML value must be an object\\x1b[39m\\n    at readYaml (file:///quarto.js:3:4)', file=sys.stderr)
    sys.exit(1)
if name.startswith('--'): # a whole project: settings beside it are read, raw notebooks of the library are no pages
    for more in settings['metadata-files']: settings['project'].update(yaml.safe_load((project/more).read_text()).get('project', {{}}))
    site = project/settings['project'].get('output-dir', '_site')
    for page in sorted(project.rglob('*.ipynb')):
        cells = [''.join(c['source']) for c in json.loads(page.read_text())['cells']]
        if any(re.match(r'#\\| *export', c) for c in cells):
            print(f'\x1b[31mERROR: YAMLException in {{page.name}}: #| export\x1b[39m', file=sys.stderr)
            sys.exit(1)
        there = (site/page.relative_to(project)).with_suffix('.html')
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text('<!-- by Quarto -->' + page.read_text())
    sys.exit(0)
page = (here/name).with_suffix('.html')
if {trouble!r} != 'silent':
    cells = (here/name).read_text()
    page.write_text('<!DOCTYPE html><!-- by Quarto -->' + ('<div class="xtl-answer">' if 'xtl-answer' in cells else '') + '</html>')
if settings.get('project', {{}}).get('type') == 'website':
    site = project/'_site'/here.relative_to(project)
    site.mkdir(parents=True, exist_ok=True)
    shutil.move(page, site/page.name)
    with (project/'.gitignore').open('a') as ignore: ignore.write('\\n/.quarto/\\n**/*.quarto_ipynb\\n')
"""

@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    "A report's executed notebook, for tests of what is made of it."
    folder = tmp_path_factory.mktemp('filled')
    return fill(template_folder()/'report.ipynb', folder, folder/'report'/'index.ipynb')

@pytest.fixture
def quarto(tmp_path, monkeypatch, filled):
    """Puts a stand-in for Quarto first on PATH; gives a function that sets what goes wrong with it. The notebook is
    executed once for all."""
    def fill_once(template, out, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(filled, target))
    monkeypatch.setattr('xtl.report.page.fill', fill_once)
    folder = tmp_path/'bin'
    folder.mkdir()
    monkeypatch.setenv('PATH', str(folder), prepend=os.pathsep)
    def does(trouble=''):
        (folder/'quarto').write_text(QUARTO.format(python=sys.executable, trouble=trouble))
        (folder/'quarto').chmod(0o755)
    does()
    (tmp_path/'project'/'out').mkdir(parents=True)
    return does

def test_quarto_renders_the_executed_notebook_where_it_is_installed(tmp_path, quarto, capsys):
    page = render(tmp_path/'project'/'out')
    assert 'by Quarto' in page.read_text() and 'not installed' not in capsys.readouterr().out

@pytest.mark.parametrize('settings', ['project:\n  type: website\n', '../_quarto.yml'])
def test_a_quarto_project_above_the_run_does_not_take_its_report(tmp_path, quarto, settings):
    project = tmp_path/'project'
    (project/'_quarto.yml').write_text(settings)
    page = render(project/'out')
    assert page.exists() and 'by Quarto' in page.read_text()
    assert not (project/'_site').exists() and not (project/'.gitignore').exists()

def test_a_quarto_project_above_the_temporary_folder_is_told(tmp_path, quarto, monkeypatch):
    (tmp_path/'_quarto.yml').write_text('project:\n  type: website\n')
    monkeypatch.setattr('xtl.report.page.gettempdir', lambda: str(tmp_path))
    with pytest.raises(UserError, match='set TMPDIR'): render(tmp_path/'project'/'out')

def test_a_failing_quarto_is_told_in_one_line(tmp_path, quarto):
    quarto('fails')
    with pytest.raises(UserError) as error: render(tmp_path/'project'/'out')
    assert str(error.value) == 'Quarto failed: ERROR: no such theme'

def test_a_quarto_that_leaves_no_page_is_told_and_the_older_page_stays(tmp_path, quarto):
    page = render(tmp_path/'project'/'out')
    quarto('silent')
    with pytest.raises(UserError, match='left no whole page'): render(tmp_path/'project'/'out')
    assert 'by Quarto' in page.read_text()


SITE = {'settings.ini': (ROOT/'settings.ini').read_text(), '_quarto.yml': (ROOT/'_quarto.yml').read_text(), 'xtl/__init__.py': ''}
PAGES = {'index.ipynb': ['# Tiny\n\n> A start.', 'Two commands install it.'], 'core/10_files.ipynb': ['# Files\n\n> Read them.', 'An introduction.'],
         'report/report.ipynb': ['# Report\n\n> To be filled.', 'Its template.']}

@pytest.fixture
def checkout(tmp_path, quarto, monkeypatch):
    "A small checkout whose report's template is its own, and a run in it."
    root = tmp_path/'project'
    for name, text in SITE.items():
        (root/name).parent.mkdir(exist_ok=True)
        (root/name).write_text(text)
    for name, cells in PAGES.items():
        (root/'nbs'/name).parent.mkdir(parents=True, exist_ok=True)
        book = dict(cells=[dict(cell_type='markdown', metadata={}, source=c) for c in cells], metadata={}, nbformat=4, nbformat_minor=5)
        (root/'nbs'/name).write_text(json.dumps(book))
    monkeypatch.setattr('xtl.report.page.template_folder', lambda: root/'nbs'/'report')
    monkeypatch.setattr('xtl.report.page.cell_pages', lambda out: [])
    return root

def test_the_site_holds_every_introduction_and_the_report(checkout):
    site = render_site(checkout/'out')
    assert site == checkout/'_docs' and not (checkout/'_proc'/'_docs').exists()
    for name, (_, text) in PAGES.items():
        page = (site/name).with_suffix('.html').read_text()
        assert 'by Quarto' in page and (text in page) == (name != 'report/report.ipynb'), name
    shown = (site/'report'/'report.html').read_text()
    assert 'xtl-answer' in shown and 'href=\\"cells/' not in shown
    assert (checkout/'nbs'/'_quarto.yml').read_text() == SITE['_quarto.yml'] and not (checkout/'_site').exists()

def test_settings_of_the_site_that_are_no_settings_are_told_in_one_line(checkout):
    "As a link that landed as a file that holds its target."
    (checkout/'_quarto.yml').write_text('../_quarto.yml')
    with pytest.raises(UserError) as error: render_site(checkout/'out')
    assert str(error.value) == 'Quarto failed: ERROR: YAML value must be an object'

# -- training drawn as it happens

WATCHING = """
from xtl.execution.live import watching
heard = []
with watching(heard.append) as observe:
    for n in (1, 2, 3): observe(dict(phase='target', of='xnli', flops=n*1e9, target_flops=4e9, loss=1/n, seconds=n))
    {ending}
print(len(heard), [h['flops'] for h in heard][-1])"""

@pytest.fixture(scope='module')
def looked_on():
    "Outputs of a training that a person looks on, by how it ends; what a Jupyter server tells a kernel is told here."
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook
    cells = [new_code_cell(WATCHING.format(ending=ending)) for ending in ('pass', 'raise ValueError("no more")')]
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv('JPY_SESSION_NAME', 'cell.ipynb')
        done = NotebookClient(new_notebook(cells=cells), allow_errors=True).execute()
    return [c.outputs for c in done.cells]

def test_of_training_that_is_looked_on_nothing_stays(looked_on):
    assert [o.output_type for o in looked_on[0]] == ['stream'] and looked_on[0][0].text == '3 3000000000.0\n'

def test_training_that_is_looked_on_is_drawn_and_stays_when_it_fails(looked_on):
    line, drawn, error = looked_on[1]
    assert '25%' in line.text and 'image/png' in drawn.data and error.evalue == 'no more'

def test_nobody_looks_on_in_a_batch(monkeypatch):
    from xtl.execution.live import watching
    monkeypatch.delenv('JPY_SESSION_NAME', raising=False)
    with watching(print) as observe: assert observe is print
