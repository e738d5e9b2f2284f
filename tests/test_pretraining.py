"Pretraining: any script, any interruption, any order."
import json
import signal
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from safetensors.torch import load_file

from xtl.core.errors import UserError
from xtl.encoder.pretraining import PretrainSettings, pretrain, tokenise, train_tokenizer
from xtl.encoder.sampling import language_shares

TEXTS = {
    'en': ['The cat sleeps in the house.\nWhere does the cat sleep? In the house.', 'A dog runs.'] * 15,
    'ru': ['Кошка спит в доме.', 'Собака бежит по улице.'] * 10,
    'th': ['แมวนอนหลับอยู่ในบ้าน', 'หมากำลังวิ่งอยู่บนถนน'] * 10,
    'zh': ['猫睡在房子里。', '狗在街上跑。'] * 10,
    'ar': ['القطة تنام في البيت.', 'الكلب يجري في الشارع.'] * 10,
}
TINY = PretrainSettings(width=16, heads=2, layers=1, feedforward=32, vocabulary=600, steps=40, documents=6, max_length=24)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder/'model.safetensors')


def same(first: dict, second: dict) -> bool:
    return set(first) == set(second) and all(torch.equal(first[n], second[n]) for n in first)


def test_text_of_every_script_comes_back_whole():
    tokenizer = train_tokenizer(TEXTS, 800)
    for text in [t.split('\n')[0] for texts in TEXTS.values() for t in texts[:2]] + ['Ünïcödé Ωμέγα', 'नमस्ते', '日本語']:
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == unicodedata.normalize('NFKC', text)


def test_pieces_point_at_their_characters():
    tokenizer = train_tokenizer(TEXTS, 800)
    text = 'The cat sleeps in the house.'
    for start, end in tokenizer(text, return_offsets_mapping=True).offset_mapping[1:-1]: assert 0 <= start <= end <= len(text)
    assert tokenizer('a', 'b').input_ids.count(tokenizer.sep_token_id) == 3 # <s> a </s></s> b </s>
    assert [tokenizer.convert_tokens_to_ids(t) for t in ('<s>', '<pad>', '</s>', '<unk>')] == [0, 1, 2, 3]


def test_long_documents_are_cut_and_lose_nothing():
    tokenizer = train_tokenizer(TEXTS, 800)
    document = ' '.join(f'The dog runs {i} times.' for i in range(40))
    corpus = tokenise({'en': [document]}, tokenizer, 24)
    inner = [i for a, b in zip(corpus.starts, corpus.starts[1:]) for i in corpus.ids[a + 1:b - 1]]
    assert max(corpus.starts[1:] - corpus.starts[:-1]) == 24
    assert inner == tokenizer(document, add_special_tokens=False).input_ids


def test_small_languages_are_seen_more_often_than_their_share():
    shares = language_shares({'big': 1_000_000, 'small': 1000})
    assert 0.1 < shares['small'] < 0.12 and sum(shares.values()) == pytest.approx(1)


def test_a_language_without_text_is_refused(tmp_path):
    with pytest.raises(UserError, match="no text of language 'xx'"): pretrain(TEXTS | {'xx': ['', ' ']}, tmp_path/'encoder', TINY)
    assert not (tmp_path/'encoder').exists()


def test_the_order_of_languages_does_not_matter(tmp_path):
    forward = pretrain(TEXTS, tmp_path/'forward', TINY)
    backward = pretrain(dict(reversed(TEXTS.items())), tmp_path/'backward', TINY)
    assert same(weights(forward), weights(backward))
    assert (forward/'tokenizer.json').read_text() == (backward/'tokenizer.json').read_text()


def test_seeds_differ(tmp_path):
    first = pretrain(TEXTS, tmp_path/'0', TINY)
    second = pretrain(TEXTS, tmp_path/'1', PretrainSettings(**{**json.loads((first/'pretraining.json').read_text())['settings'], 'seed': 1}))
    assert not same(weights(first), weights(second))


@pytest.mark.parametrize('which', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_ends_with_the_same_weights(tmp_path, which):
    "A killed one goes on from its last checkpoint; one that was asked to stop has saved, without any before."
    script, minutes = tmp_path/'run.py', 0 if which == signal.SIGKILL else 1000
    script.write_text('import signal, sys, time\nsys.path[:0] = sys.argv[2:]\nsignal.signal(signal.SIGINT, signal.default_int_handler) # as in a terminal\n'
                      'from test_pretraining import TEXTS, TINY\nfrom xtl.encoder.pretraining import pretrain\n'
                      "def slow(model, tokenizer): print('step', flush=True); time.sleep(0.05); return {}\n"
                      f"pretrain(TEXTS, sys.argv[1], TINY, watch=slow, watch_every=1, minutes={minutes})\n")
    here = Path(__file__).parent
    command = [sys.executable, str(script), str(tmp_path/'killed'), str(here), str(here.parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    state = tmp_path/'killed'/'state.safetensors'
    for _ in range(5): assert process.stdout.readline() == 'step\n'
    if which != signal.SIGKILL: assert not state.exists()
    process.send_signal(which)
    process.communicate()
    assert process.returncode != 0 and state.exists() and not (tmp_path/'killed/model.safetensors').exists()
    whole = pretrain(TEXTS, tmp_path/'whole', TINY)
    assert same(weights(pretrain(TEXTS, tmp_path/'killed', TINY)), weights(whole))


def test_the_template_has_one_cell_of_parameters_and_is_not_run_with_the_library():
    path = Path(__file__).parents[1]/'nbs/experiments/pretrain.ipynb'
    cells = nbformat.read(path, 4).cells
    assert sum('parameters' in c.metadata.get('tags', []) for c in cells) == 1
    assert cells[0].cell_type == 'raw' and 'skip_exec: true' in cells[0].source
    assert not any('#| export' in c.source for c in cells)


LINES = {
    'news': [{'en': f'The {a} sleeps in house {i}.', 'ru': f'{b} спит в доме {i}.', 'zh': f'{c}睡在房子{i}里。'}
             for i in range(8) for a, b, c in (('cat', 'Кошка', '猫'), ('dog', 'Собака', '狗'))],
    'help': [{'en': 'Press the button.', 'ar': 'اضغط الزر.'}, {'en': 'Close the window.', 'ar': 'أغلق النافذة.'}],
}
PAIRED = replace(TINY, pairs=6)


def test_a_stopped_run_with_translations_ends_with_the_same_weights(tmp_path):
    def stop(model, tokenizer): raise KeyboardInterrupt
    whole = pretrain(TEXTS, tmp_path/'whole', PAIRED, parallel=LINES)
    with pytest.raises(KeyboardInterrupt):
        pretrain(TEXTS, tmp_path/'stopped', PAIRED, watch=stop, watch_every=13, minutes=0, parallel=LINES)
    assert same(weights(pretrain(TEXTS, tmp_path/'stopped', PAIRED, parallel=LINES)), weights(whole))
    assert not same(weights(whole), weights(pretrain(TEXTS, tmp_path/'alone', TINY)))
    assert json.loads((whole/'pretraining.json').read_text())['lines'] == {'help': 2, 'news': 16}


def test_the_order_of_collections_and_of_languages_in_a_line_does_not_matter(tmp_path):
    forward = pretrain(TEXTS, tmp_path/'forward', PAIRED, parallel=LINES)
    turned = {name: [dict(reversed(line.items())) for line in LINES[name]] for name in reversed(LINES)}
    assert same(weights(forward), weights(pretrain(TEXTS, tmp_path/'backward', PAIRED, parallel=turned)))


def test_other_lines_are_another_run(tmp_path):
    def stop(model, tokenizer): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        pretrain(TEXTS, tmp_path/'out', PAIRED, watch=stop, watch_every=13, minutes=0, parallel=LINES)
    with pytest.raises(UserError, match='other text or settings'):
        pretrain(TEXTS, tmp_path/'out', PAIRED, parallel={'news': LINES['news']})


def test_pairs_and_parallel_text_need_each_other(tmp_path):
    for settings, lines in ((PAIRED, None), (TINY, LINES)):
        with pytest.raises(UserError, match='need parallel text'): pretrain(TEXTS, tmp_path/'out', settings, parallel=lines)
    assert not (tmp_path/'out').exists()


def write_parallel(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for code, text in files.items(): (folder/f'{code}.txt').write_text(text, encoding='utf-8')
    return folder


def test_parallel_text_from_the_command_line(tmp_path, here):
    first = write_parallel(tmp_path/'news', en='A cat.\nA dog.\nA bird.\n', sw='Paka.\n\nNdege.\n')
    second = write_parallel(tmp_path/'help', en='Press.\nClose.\n', yo='Tẹ.\nPa dé.\n')
    code, out, err = here('pretrain', '--parallel', str(first), '--parallel', str(second), '--width', '16', '--heads', '2', '--layers', '1', '--vocabulary', '600',
               '--steps', '3', '--pairs', '4', '--out', str(tmp_path/'encoder'))
    assert code == 0 and '8 texts in 3 languages' in out + err and '2 parallel lines of news' in out + err
    report = json.loads((tmp_path/'encoder/pretraining.json').read_text())
    assert report['lines'] == {'help': 2, 'news': 2} and sorted(report['text']) == ['en', 'sw', 'yo']


@pytest.mark.parametrize('files, said', [
    (dict(en='A cat.\nA dog.\n', sw='Paka.\n'), 'en.txt has 2 lines and sw.txt 1'),
    (dict(en='A cat.\n'), 'files of 1 languages: expected two or more, such as en.txt and sw.txt'),
    (dict(en='A cat.\n', klingonish='Paka.\n'), "unknown language 'klingonish'"),
    (dict(en='A cat.\n\n', sw='\nMbwa.\n'), 'no line in two languages'),
])
def test_what_is_not_parallel_is_refused_in_one_line(tmp_path, here, files, said):
    folder = write_parallel(tmp_path/'news', **files)
    code, _, err = here('pretrain', '--parallel', folder, '--out', tmp_path/'encoder')
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1 and not (tmp_path/'encoder').exists()


def test_two_folders_of_one_name_are_refused(tmp_path, here):
    (tmp_path/'a').mkdir(), (tmp_path/'b').mkdir()
    folders = [write_parallel(tmp_path/place/'news', en='A cat.\n', sw='Paka.\n') for place in 'ab']
    code, _, err = here('pretrain', *(x for f in folders for x in ('--parallel', f)), '--out', tmp_path/'encoder')
    assert code == 2 and 'have one name' in err and not (tmp_path/'encoder').exists()
