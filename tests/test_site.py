"""The site as far as it is made without Quarto: nbdev's processing of every notebook, but for the execution of its imports
and exported cells, which `show_doc` stands for here."""
import json
import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from execnb.nbio import read_nb, write_nb
from nbdev.processors import FilterDefaults, exec_show_docs
from nbdev.quarto import _nbdev_yml
from nbdev.showdoc import show_doc

from conftest import ROOT
from reading import notebooks
from xtl.report.page import prepare_site, settle_links

HOME = 'https://xtl.github.io/xtl'
SETTINGS = _nbdev_yml.format(title='xtl', description='', branch='main', git_url='https://github.com/xtl/xtl', doc_host='https://xtl.github.io',
                             doc_baseurl='/xtl', doc_path='_docs')


class Processed(FilterDefaults):
    def base_procs(self): return [p for p in super().base_procs() if p is not exec_show_docs]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The folder of processed notebooks, links settled, with what `show_doc` says in place of its call."
    pages = tmp_path_factory.mktemp('site')
    (pages/'nbdev.yml').write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(ROOT)
        for book in notebooks():
            page = pages/book.path.relative_to(ROOT/'nbs')
            page.parent.mkdir(exist_ok=True)
            Processed()(found := read_nb(book.path))
            names = vars(import_module(f'xtl.{book.module}')) if book.module else {}
            for cell in found.cells:
                name = re.search(r'^show_doc\((.*)\)$', cell.source, re.M)
                if name: cell.cell_type, cell.source = 'markdown', show_doc(eval(name[1], names))._repr_markdown_()
            write_nb(found, page)
    settle_links(pages, source=False)
    return pages


def prose(page):
    return [''.join(c['source']) for c in json.loads(page.read_text())['cells'] if c['cell_type'] in ('markdown', 'raw')]


def test_every_introduction_is_in_its_page(site):
    for book in notebooks():
        kept, cells = '\n'.join(prose(site/book.path.relative_to(ROOT/'nbs'))), json.loads(book.path.read_text())['cells']
        written = [''.join(c['source']) for c in cells if c['cell_type'] == 'markdown']
        title, subtitle = written[0].splitlines()[0][2:], written[0].splitlines()[-1][2:]
        words = ' '.join(kept.split()).replace("''", "'") # the title's cell is front matter, folded by YAML
        assert title in words and subtitle in words, book.path
        for text in written[1:]: # but for the links that names become
            plain = re.sub(r'\[(`[^`]+`)\]\([^)]*\)', r'\1', kept)
            assert re.sub(r'\[(`[^`]+`)\]\([^)]*\)', r'\1', text) in plain, (book.path, text[:80])


def test_links_of_the_site_lead_to_what_is_there(site):
    pages = {(p.parent/re.search(r'output-file: (\S+)', '\n'.join(prose(p)) + '\noutput-file: ' + p.with_suffix('.html').name)[1]) for p in site.rglob('*.ipynb')}
    links, broken = 0, []
    for page in site.rglob('*.ipynb'):
        text = '\n'.join(prose(page))
        assert HOME not in page.read_text() and 'github.com/xtl' not in page.read_text() and '[source]' not in text, page
        for link in re.findall(r'\]\(((?!https?:|#|mailto:)[^)\s]+)\)', text):
            links += 1
            to = Path((page.parent/link.split('#')[0])).resolve()
            if to not in pages and not to.exists() and not (ROOT/'nbs'/to.relative_to(site)).exists(): broken.append(f'{page.name}: {link}')
    assert links > 40 and broken == []
    assert not {'site-url', 'repo-url'} & set(yaml.safe_load((site/'nbdev.yml').read_text())['website'])


def test_links_to_the_source_stay_where_there_is_one(tmp_path):
    (tmp_path/'nbdev.yml').write_text(SETTINGS)
    link = '[source](https://github.com/xtl/xtl/blob/main/xtl/core/files.py#L9){target="_blank"}\n'
    (tmp_path/'core').mkdir()
    (tmp_path/'core'/'one.ipynb').write_text(json.dumps(dict(cells=[dict(source=[link, f'[a]({HOME}/data/rows.html#a)'])])))
    settle_links(tmp_path, source=True)
    assert json.loads((tmp_path/'core'/'one.ipynb').read_text())['cells'][0]['source'] == [link, '[a](../data/rows.html#a)']
    assert 'repo-url' in (tmp_path/'nbdev.yml').read_text()


def test_the_sites_settings_are_those_of_the_top_folder(tmp_path, monkeypatch):
    "nbdev reads them beside the notebooks, where a file of their own would be another place for them."
    for name in ('nbs', '_proc'): (tmp_path/name).mkdir()
    (tmp_path/'_quarto.yml').write_text('project: {type: website}\n')
    (tmp_path/'settings.ini').write_text('[DEFAULT]\n')
    def ran(words, cwd, check):
        assert (cwd/'nbs'/'_quarto.yml').read_text() == (cwd/'_quarto.yml').read_text() and check
        if words[0].endswith('nbdev_proc_nbs'): (cwd/'_proc'/'nbdev.yml').write_text(SETTINGS)
        else: (cwd/'nbs'/'sidebar.yml').write_text('website: {}\n')
    monkeypatch.setattr('xtl.report.page.subprocess', SimpleNamespace(run=ran))
    assert prepare_site(tmp_path) == tmp_path/'_proc' and (tmp_path/'_proc'/'sidebar.yml').exists()
    assert not (ROOT/'nbs'/'_quarto.yml').is_symlink() and 'nbs/_quarto.yml' in (ROOT/'.gitignore').read_text().splitlines()
