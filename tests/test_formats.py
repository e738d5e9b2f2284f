"Files as people bring them: every kind is read by `xtl tasks --check` as what it is, or told in one line what is wrong with it."
import gzip
import json

import pandas as pd
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from xtl.cli.main import answer

TOPIC = dict(head='sequence', columns=dict(text='text', label='label'), languages=['ha'])
NER = dict(head='token', columns=dict(text='tokens', label='tags'), languages=['ha'])
SPAN = dict(head='span', columns=dict(text=['question', 'context'], label='answers'), languages=['ha'])
CHOICE = dict(head='choice', columns=dict(text='start', options=['a', 'b'], label='right'), languages=['ha'])
LISTED = dict(head='choice', columns=dict(text='start', options='ends', label='right'), languages=['ha'])
PARALLEL = dict(head='retrieval', pivot='en')
ROWS = [dict(text='zin polu', label=1), dict(text='zin kefa', label=0)]
SQUAD = dict(version='2.0', data=[dict(title='x', paragraphs=[dict(context='zin polu kefa', qas=[
    dict(id='1', question='zin', answers=[dict(text='polu', answer_start=4)], is_impossible=False), dict(id='2', question='miro', answers=[], is_impossible=True)])])])
TAGGED = 'zin O\npolu B-X\n\nkefa B-X\n'
UNIVERSAL = '# sent_id = 1\n# text = zinpolu\n1-2\tzinpolu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tzin\tzin\tDET\t_\t_\t2\tdet\t_\t_\n2\tpolu\tpolu\tNOUN\t_\t_\t0\troot\t_\t_\n2.1\tx\t_\t_\t_\t_\t_\t_\t_\t_\n'
ANSWER = dict(question='zin', context='zin polu')


def lines(rows): return ''.join(json.dumps(row) + '\n' for row in rows)


def table(rows): return 'start,a,b,right\n' + ''.join(f'zin,polu,kefa,{right}\n' for right in rows)


READ = { # What it is -> file, what it holds, the definition, and what is told of it
    'semicolons': ('a.csv', 'text;label\nzin, polu;yes\nzin kefa;no\n', TOPIC, 'zin, polu</s>  ->  yes'),
    'a byte order mark and CRLF': ('a.csv', '\ufefftext,label\r\nzin polu,yes\r\nzin kefa,no\r\n', TOPIC, 'zin polu</s>  ->  yes'),
    'quotes with line breaks': ('a.csv', 'text,label\n"zin\n""polu""",yes\nzin kefa,no\n', TOPIC, 'yes 1, no 1'),
    'TSV with CRLF and quotes': ('a.tsv', 'text\tlabel\r\n"zin polu\tyes\r\nzin kefa\tno\r\n', TOPIC, 'yes 1, no 1'),
    'a JSON list': ('a.json', json.dumps(ROWS, indent=1), TOPIC, '1 1, 0 1'),
    'a JSON list in a file of lines': ('a.jsonl', json.dumps(ROWS), TOPIC, '1 1, 0 1'),
    'JSON lines in a .json': ('a.json', lines(ROWS), TOPIC, '1 1, 0 1'),
    'JSON as pandas writes it': ('a.json', pd.DataFrame(ROWS).to_json(), TOPIC, '1 1, 0 1'),
    'rows under data': ('a.json', json.dumps(dict(data=ROWS)), TOPIC, '1 1, 0 1'),
    'gzip': ('a.csv.gz', gzip.compress(b'text,label\nzin polu,yes\nzin kefa,no\n'), TOPIC, 'yes 1, no 1'),
    'floats': ('a.csv', 'text,label\nzin polu,1.0\nzin kefa,0.0\n', TOPIC, '1 1, 0 1'),
    'true and false': ('a.jsonl', lines(r | dict(label=bool(r['label'])) for r in ROWS), TOPIC, 'true 1, false 1'),
    'True and False': ('a.csv', 'text,label\nzin polu,True\nzin kefa,False\n', TOPIC | dict(map={'label': {True: 'right', False: 'wrong'}}), 'right 1, wrong 1'),
    'numbers of named classes': ('a.csv', 'text,label\nzin polu,1\nzin kefa,0\n', TOPIC | dict(labels=['no', 'yes']), 'yes 1, no 1'),
    'yes and no unquoted in YAML': ('a.csv', 'text,label\nzin polu,yes\nzin kefa,no\n', TOPIC | dict(labels=['yes', 'no']), 'yes 1, no 1'),
    'ISO 639-3': ('a.csv', 'text,label\nzin polu,yes\nzin kefa,no\n', TOPIC | dict(languages=['hau']), 'test ha '),
    'FLORES': ('a.csv', 'text,label\nzin polu,yes\nzin kefa,no\n', TOPIC | dict(languages=['yor_Latn']), 'test yo '),
    'BCP 47': ('a.csv', 'text,label\nzin polu,yes\nzin kefa,no\n', TOPIC | dict(languages=['en-US']), 'test en '),
    'two columns': ('a.conll', TAGGED, NER, 'B-X 2, O 1'),
    'four columns, a comment, a document': ('a.conll', '-DOCSTART- -X- -X- O\n\n# id 7\nzin DT B-NP O\npolu NN I-NP B-X\n', NER, 'zin polu</s>  ->  O B-X'),
    'a .txt of names': ('a.txt', TAGGED, NER, 'B-X 2, O 1'),
    'a .tsv of names': ('a.tsv', TAGGED.replace(' ', '\t'), NER | dict(format='conll'), 'B-X 2, O 1'),
    'BIOES': ('a.conll', 'zin B-X\npolu E-X\nkefa S-Y\nmiro O\n', NER, 'B-X 1, E-X 1, S-Y 1, O 1'),
    'IO, mapped': ('a.conll', 'zin X\npolu O\n', NER | dict(map={'tags': {'X': 'I-X'}}), 'I-X 1, O 1'),
    'CoNLL-U': ('a.conllu', UNIVERSAL, NER, 'zin polu</s>  ->  DET NOUN'),
    'lists in a CSV': ('a.csv', "tokens,tags\n\"['zin', 'polu']\",\"['O', 'B-X']\"\n", NER, 'zin polu</s>  ->  O B-X'),
    'words with spaces in a CSV': ('a.csv', 'tokens,tags\nzin polu,O B-X\n', NER, 'zin polu</s>  ->  O B-X'),
    'numbers of tags': ('a.jsonl', lines([dict(tokens=['zin', 'polu'], tags=[0, 1])]), NER | dict(labels=['O', 'B-X']), 'O 1, B-X 1'),
    "SQuAD's own layout": ('a.json', json.dumps(SQUAD), SPAN, 'with an answer 1, without 1'),
    'one answer as text': ('a.jsonl', lines([ANSWER | dict(answers='polu')]), SPAN, 'with an answer 1'),
    'answers as a list of texts': ('a.jsonl', lines([ANSWER | dict(answers=['polu'])]), SPAN, 'with an answer 1'),
    'answers in a CSV': ('a.csv', "question,context,answers\nzin,zin polu,\"{'text': ['polu'], 'answer_start': [4]}\"\n", SPAN, 'with an answer 1'),
    'letters': ('a.csv', table('AB'), CHOICE, '0 1, 1 1'), 'from 1': ('a.csv', table('12'), CHOICE, '0 1, 1 1'),
    'from 0': ('a.csv', table('01'), CHOICE, '0 1, 1 1'), 'the option itself': ('a.csv', table(['polu', 'kefa']), CHOICE, '0 1, 1 1'),
    'letters, named': ('a.csv', table('AB'), CHOICE | dict(labels=['A', 'B']), 'A 1, B 1'),
    'options as a list': ('a.jsonl', lines(dict(start='zin', ends=['polu', 'kefa'], right=n) for n in (0, 1)), LISTED, '0 1, 1 1'),
    'options as a list in a CSV': ('a.csv', "start,ends,right\nzin,\"['polu', 'kefa']\",0\nzin,\"['polu', 'kefa']\",1\n", LISTED, '0 1, 1 1'),
}


def checked(folder, given, files):
    if given['head'] == 'retrieval': given = given | dict(files=dict(test=files))
    else: given = given | dict(files=dict(train=files, test=files))
    (folder/'mine.yaml').write_text(yaml.safe_dump(dict(tasks=dict(mine=given)), sort_keys=False))
    return answer(['tasks', str(folder/'mine.yaml'), '--check'])


def put(folder, name, held): (folder/name).write_bytes(held if isinstance(held, bytes) else held.encode())


@pytest.mark.parametrize('kind', READ)
def test_a_file_is_read_as_what_it_is(tmp_path, capsys, kind):
    name, held, given, told = READ[kind]
    put(tmp_path, name, held)
    assert checked(tmp_path, given, name) == (0, '')
    said = capsys.readouterr().out
    assert told in said, said


def test_parquet_with_classes_and_with_numbers(tmp_path, capsys):
    classes = Features(tokens=Sequence(Value('string')), tags=Sequence(ClassLabel(names=['O', 'B-X'])))
    Dataset.from_dict(dict(tokens=[['zin', 'polu']], tags=[[0, 1]]), features=classes).to_parquet(tmp_path/'a.parquet')
    pd.DataFrame(ROWS).to_parquet(tmp_path/'b.parquet')
    assert checked(tmp_path, NER, 'a.parquet')[0] == 0 and 'O 1, B-X 1' in capsys.readouterr().out
    assert checked(tmp_path, TOPIC, 'b.parquet')[0] == 0 and '1 1, 0 1' in capsys.readouterr().out


def test_parallel_lines_stay_side_by_side(tmp_path, capsys):
    put(tmp_path, 'a.en', 'zin\n\npolu\n'), put(tmp_path, 'a.ha', 'kefa\n\nmiro\n')
    assert checked(tmp_path, PARALLEL | dict(format='text'), {'en': 'a.en', 'ha': 'a.ha'}) == (0, '')
    said = capsys.readouterr().out
    assert '2 rows' in said and 'miro</s> | <s> polu' in said, said
    put(tmp_path, 'a.ha', 'kefa\n')
    assert 'a.ha has 1 lines, but its pivot 3' in checked(tmp_path, PARALLEL | dict(format='text'), {'en': 'a.en', 'ha': 'a.ha'})[1]


def test_several_files_one_a_language_and_by_a_star(tmp_path, capsys):
    for name in ('a-1.csv', 'a-2.csv', 'hau.csv'): put(tmp_path, name, 'text,label\nzin polu,yes\nzin kefa,no\n')
    given = {k: v for k, v in TOPIC.items() if k != 'languages'}
    def told(train, test, **more):
        held = given | more | dict(files=dict(train=train, test=test))
        (tmp_path/'mine.yaml').write_text(yaml.safe_dump(dict(tasks=dict(mine=held)), sort_keys=False))
        code, said = answer(['tasks', str(tmp_path/'mine.yaml'), '--check'])
        return capsys.readouterr().out if code == 0 else said
    assert 'a-*.csv): 4 rows' in told('a-*.csv', {'hau': 'hau.csv'})
    assert 'test ha' in told('a-1.csv', '{iso3}.csv', languages=['ha'])
    both = told(['a-1.csv', 'a-2.csv'], {'ha': ['a-1.csv', 'hau.csv']})
    assert both.count('4 rows') == 2, both
    assert 'mine.yaml, line 10: ' in told(['a-1.csv', 'a-3.csv'], {'ha': 'hau.csv'})
    put(tmp_path, 'a-2.csv', 'text,label\nzin polu,yes\nzin kefa,perhaps\n')
    assert "line 3 of a-2.csv, column 'label': the label 'perhaps'" in told('a-*.csv', {'ha': 'hau.csv'}, labels=['yes', 'no'])


WRONG = { # What is wrong -> file, what it holds, the definition, and what is said
    'no labels in the file': ('a.csv', 'text\nzin polu\n', TOPIC, "a.csv, line 1: unknown column 'label'"),
    'one label': ('a.csv', 'text,label\nzin,yes\npolu,yes\n', TOPIC, "one label alone, 'yes', in its training rows"),
    'a text a label': ('a.csv', 'text,label\n' + ''.join(f'zin,{n}x\n' for n in range(1100)), TOPIC, "1,100 labels in its training rows: is 'label' the column"),
    'options counted somehow': ('a.csv', table('11'), CHOICE, 'counted from 0 or from 1'),
    'an option that is not there': ('a.csv', table('17'), CHOICE, "the right option '7' is none of 2"),
    'broken gzip': ('a.csv.gz', b'text,label', TOPIC, 'no whole gzip file'),
    'broken JSON': ('a.json', '[{"text": "zin"},\n {"text": }]', TOPIC, 'a.json, line 2, column 11: no JSON'),
    'a list of lists': ('a.json', '[{"text": "zin"},\n ["zin"]]', TOPIC, 'a.json, line 2: no object of names and values'),
    'no Parquet': ('a.parquet', 'text,label\n', TOPIC, 'is no Parquet file'),
    'UTF-16': ('a.csv', 'text,label\nzin,yes\n'.encode('utf-16'), TOPIC, 'is UTF-16'),
    'lines for a topic': ('a.txt', 'zin\n', TOPIC, 'line 10: `tasks.mine.files.train` holds lines of text alone'),
    'words for a topic': ('a.conll', TAGGED, TOPIC, 'line 10: `tasks.mine.files.train` holds words and tags'),
    'a spreadsheet': ('a.xlsx', 'PK', TOPIC, 'line 10: `tasks.mine.files.train` must end in .csv'),
    'a format that is none': ('a.csv', 'text,label\n', TOPIC | dict(format='excel'), 'line 9: `tasks.mine.format` must be one of csv'),
    'a language twice': ('a.csv', 'text,label\n', TOPIC | dict(languages=['ha', 'hau']), 'line 7: `tasks.mine.languages` has Hausa (ha) twice'),
    'a word without a tag': ('a.conll', 'zin O\npolu\n', NER, 'a.conll, line 2: 1 columns'),
    'SQuAD without contexts': ('a.json', json.dumps(dict(data=[dict(paragraphs=[dict(qas=[dict(id='1')])])])), SPAN, 'not as those of SQuAD'),
}


@pytest.mark.parametrize('kind', WRONG)
def test_what_is_wrong_is_one_line(tmp_path, kind):
    name, held, given, says = WRONG[kind]
    put(tmp_path, name, held)
    code, said = checked(tmp_path, given, name)
    assert code == 2 and says in said and '\n' not in said, said


def test_rare_tags_that_no_training_row_has_are_told_and_many_are_refused(tmp_path, capsys):
    put(tmp_path, 'train.conll', 'zin O\npolu B-X\n\n'*20)
    put(tmp_path, 'test.conll', 'zin O\npolu B-X\n\n'*20 + 'zin B-Y\n')
    files = dict(train='train.conll', test='test.conll')
    (tmp_path/'mine.yaml').write_text(yaml.safe_dump(dict(tasks=dict(mine=NER | dict(files=files)))))
    assert answer(['tasks', str(tmp_path/'mine.yaml'), '--check']) == (0, '')
    said = capsys.readouterr().out
    assert 'in no training row, so never predicted: B-Y 1' in said and said.count('never predicted') == 1
    put(tmp_path, 'test.conll', 'zin O\npolu S-X\n\n'*20)
    code, said = answer(['tasks', str(tmp_path/'mine.yaml'), '--check'])
    assert code == 2 and "20 of 40 words have tags that no training row has, most often 'S-X': known are B-X, O" in said, said
