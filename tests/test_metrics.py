"Properties of the metrics, the submission folder, and what is refused."
import json
import random
import string

import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score

from xtl.core.errors import UserError
from xtl.evaluation.metrics import mlqa_normalise, score, squad2_scores, squad_normalise
from xtl.evaluation.submission import FOLDERS, overall, score_submission, submission_file, write_gold, write_predictions
from xtl.tasks.paper import NER, TARGETS

LIMITS = settings(deadline=None, max_examples=60)
words = st.text(alphabet='abcdeéßжकال电化ก' + string.punctuation + '“”。 ', min_size=1, max_size=12)
answers = st.lists(st.tuples(st.lists(words, min_size=1, max_size=3), words), min_size=1, max_size=8)
ids = st.integers(0, 30).map(str)
pairs = st.sets(st.tuples(ids.map('de-{}'.format), ids.map('en-{}'.format)), min_size=1, max_size=20)

def labelled(labels): return st.lists(st.tuples(st.sampled_from(labels), st.sampled_from(labels)), min_size=1, max_size=40)

def tagged(labels):
    sentence = st.lists(st.tuples(st.sampled_from(labels), st.sampled_from(labels)), min_size=1, max_size=12)
    return st.lists(sentence, min_size=1, max_size=8)

def both(items): return [g for g, _ in items], [p for _, p in items]

def qa(items): return {f'q{i}': list(g) for i, (g, _) in enumerate(items)}, {f'q{i}': p for i, (_, p) in enumerate(items)}

@st.composite
def items_of(draw, target):
    "Gold and predictions of a target, as items that can be shuffled together, and how to put the items together."
    head = TARGETS[target].head
    if head == 'sequence': return draw(labelled(TARGETS[target].labels)), both
    if head == 'token': return draw(tagged(TARGETS[target].labels)), lambda items: both([both(sentence) for sentence in items])
    if head == 'span': return [(f'q{i}', g, p) for i, (g, p) in enumerate(draw(answers))], lambda items: ({i: g for i, g, _ in items}, {i: p for i, _, p in items})
    if target == 'tatoeba': return draw(labelled(range(12))), both
    gold, mined = draw(pairs), draw(pairs)
    return [(p, True) for p in gold] + [(p, False) for p in mined], lambda items: ([p for p, g in items if g], [p for p, g in items if not g])

@LIMITS
@given(data=st.data(), target=st.sampled_from(list(TARGETS)), seed=st.integers(0, 99))
def test_the_order_of_items_changes_no_score(data, target, seed):
    items, together = data.draw(items_of(target))
    shuffled = random.Random(seed).sample(items, len(items))
    assert score(target, 'de', *together(items)) == score(target, 'de', *together(shuffled))

@LIMITS
@given(data=st.data(), target=st.sampled_from([t for t in TARGETS if TARGETS[t].head != 'span']))
def test_the_right_prediction_scores_100(data, target):
    items, together = data.draw(items_of(target))
    gold, _ = together(items)
    if target == 'panx' and not any(tag != 'O' for s in gold for tag in s): return # nothing to find
    assert set(score(target, 'de', gold, gold).values()) == {100.}

@LIMITS
@given(items=answers, target=st.sampled_from(['xquad', 'mlqa', 'tydiqa']), code=st.sampled_from(TARGETS['mlqa'].languages))
def test_a_gold_answer_scores_100_and_an_empty_one_0(items, target, code):
    normalise = squad_normalise if target != 'mlqa' else lambda a: mlqa_normalise(a, code)
    gold = {i: g for i, g in qa(items)[0].items() if all(normalise(a) for a in g)}
    if not gold: return
    assert score(target, code, gold, {i: g[-1] for i, g in gold.items()}) == {'f1': 100., 'exact_match': 100.}
    assert score(target, code, gold, {i: '' for i in gold}) == {'f1': 0., 'exact_match': 0.}

def evaluate_v2(gold, predictions):
    "The figures of SQuAD 2.0's evaluator, as its script goes about them."
    exact, f1 = {}, {}
    for i, answers in gold.items():
        answers = [a for a in answers if squad_normalise(a)] or ['']
        exact[i] = max(int(squad_normalise(a) == squad_normalise(predictions[i])) for a in answers)
        f1[i] = 0.
        for a in answers:
            right, found = squad_normalise(a).split(), squad_normalise(predictions[i]).split()
            same = sum(min(right.count(w), found.count(w)) for w in set(right))
            if not right or not found: points = float(right == found)
            else: points = 2 * (same/len(found)) * (same/len(right)) / (same/len(found) + same/len(right)) if same else 0.
            f1[i] = max(f1[i], points)
    sides = {'': list(gold), 'HasAns_': [i for i in gold if gold[i]], 'NoAns_': [i for i in gold if not gold[i]]}
    return {f'{side}{name}': 100*sum(of[i] for i in ids)/len(ids) for side, ids in sides.items() if ids for name, of in (('exact_match', exact), ('f1', f1))}

perhaps = st.lists(st.tuples(st.lists(words, max_size=3), st.one_of(words, st.just(''))), min_size=1, max_size=8)

@LIMITS
@given(items=perhaps)
def test_open_questions_are_scored_as_squad_2_scores_them(items):
    gold, predicted = qa(items)
    assert squad2_scores(gold, predicted) == pytest.approx(evaluate_v2(gold, predicted))

@LIMITS
@given(items=perhaps, seed=st.integers(0, 99))
def test_open_questions_answered_rightly_score_100_in_any_order(items, seed):
    gold, predicted = qa(items)
    order = random.Random(seed).sample(list(gold), len(gold))
    assert squad2_scores({i: gold[i] for i in order}, predicted) == squad2_scores(gold, predicted)
    assert set(squad2_scores(gold, {i: next((a for a in g if squad_normalise(a)), '') for i, g in gold.items()}).values()) == {100.}

@LIMITS
@given(gold=pairs)
def test_no_mined_pair_scores_0(gold): assert set(score('bucc', 'de', gold, []).values()) == {0.}

@LIMITS
@given(sentences=tagged(NER))
def test_no_entity_scores_0(sentences):
    gold = [[g for g, _ in s] for s in sentences]
    assert set(score('panx', 'de', gold, [['O'] * len(s) for s in gold]).values()) == {0.}

@LIMITS
@given(data=st.data())
def test_entities_are_scored_as_seqeval_scores_them(data):
    items, together = data.draw(items_of('panx'))
    gold, predicted = together(items)
    expected = {'f1': f1_score(gold, predicted) * 100, 'precision': precision_score(gold, predicted) * 100, 'recall': recall_score(gold, predicted) * 100}
    assert score('panx', 'de', gold, predicted) == expected

def spans_of_tags(sentence):
    "Spans as seqeval 0.0.12 finds them in tags without a prefix: runs of one tag, but each that begins with S alone."
    spans, start = set(), 0
    for i in range(1, len(sentence) + 1):
        if i == len(sentence) or sentence[i] != sentence[start] or sentence[i].startswith('S'):
            spans.add((start, i, sentence[start]))
            start = i
    return spans

@LIMITS
@given(data=st.data())
def test_parts_of_speech_are_scored_as_xtremes_version_of_seqeval_scores_them(data):
    items, together = data.draw(items_of('udpos'))
    gold, predicted = together(items)
    of_gold, of_predicted = ({(n, *span) for n, sentence in enumerate(side) for span in spans_of_tags(sentence)} for side in (gold, predicted))
    right = len(of_gold & of_predicted)
    expected = {'f1': 200*right/(len(of_gold) + len(of_predicted)), 'precision': 100*right/len(of_predicted), 'recall': 100*right/len(of_gold)}
    assert score('udpos', 'de', gold, predicted) == pytest.approx(expected)

def test_the_hand_made_case_of_the_older_seqeval():
    "Gold and prediction that were given to seqeval 0.0.12 itself."
    found = score('udpos', 'de', [['SCONJ', 'NOUN', 'NOUN', 'SYM', 'SYM']], [['CCONJ', 'NOUN', 'VERB', 'SYM', 'SYM']])
    assert found == pytest.approx({'precision': 40., 'recall': 50., 'f1': 400/9})

@LIMITS
@given(scores=st.lists(st.floats(0, 100), min_size=30, max_size=30), seed=st.integers(0, 99))
def test_the_order_of_languages_changes_no_average(scores, seed):
    rows = [dict(target=t, language=c, metric=m) for t, ms in [('xnli', ['accuracy']), ('tydiqa', ['f1', 'exact_match'])] for c in TARGETS[t].languages for m in ms][:30]
    table = pd.DataFrame(rows).assign(score=scores[:len(rows)])
    a, b = overall(table), overall(table.sample(frac=1, random_state=seed))
    assert a.score == b.score and a.averages.equals(b.averages) and a.missing == b.missing

@LIMITS
@given(data=st.data())
def test_only_a_whole_submission_bears_the_benchmarks_name(data):
    rows = [(t, c) for t in TARGETS for c in TARGETS[t].languages]
    points = {t: float(n) for n, t in enumerate(TARGETS)}
    def table(rows): return pd.DataFrame([dict(target=t, language=c, metric=m, score=points[t]) for t, c in rows for m in (('f1', 'exact_match') if TARGETS[t].head == 'span' else (TARGETS[t].metric,))])
    whole = overall(table(rows))
    assert (whole.name, whole.missing, whole.score) == ('XTREME score', (), 4.)
    gone = data.draw(st.one_of(st.sampled_from(list(TARGETS)).map(lambda t: (t, None)), st.sampled_from(rows)))
    part = overall(table([(t, c) for t, c in rows if (t, c) != gone and (t, None) != gone]))
    assert 'partial' in part.name and part.missing == ((gone[0] if gone[1] is None else '.'.join(gone)),)
    left = [points[t] for t in TARGETS if (t, None) != gone]
    assert part.score == pytest.approx(sum(left)/len(left))

@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_files_give_the_scores_of_the_lists_they_were_written_from(data, tmp_path_factory):
    folder, expected = tmp_path_factory.mktemp('submission'), {}
    for target in data.draw(st.sets(st.sampled_from(list(TARGETS)), min_size=1, max_size=4)):
        for code in data.draw(st.sets(st.sampled_from(TARGETS[target].languages), min_size=1, max_size=2)):
            items, together = data.draw(items_of(target))
            gold, predicted = together(items)
            write_gold(folder/'gold', target, code, gold)
            write_predictions(folder/'predictions', target, code, predicted)
            expected |= {(target, code, m): s for m, s in score(target, code, gold, predicted).items()}
    table = score_submission(folder/'predictions', folder/'gold')
    assert {(r.target, r.language, r.metric): r.score for r in table.itertuples()} == expected

# What is refused

GOOD = {
    'xnli': (['neutral', 'entailment'], ['neutral', 'neutral']), 'pawsx': (['0', '1'], ['1', '1']), 'udpos': ([['NOUN'], ['VERB', 'X']], [['NOUN'], ['VERB', 'X']]),
    'panx': ([['B-LOC', 'O']], [['B-LOC', 'O']]), 'tatoeba': ([0, 1], [1, 1]), 'bucc': ([('de-1', 'en-1')], [('de-1', 'en-1')]),
    'xquad': ({'q': ['a b']}, {'q': 'b'}), 'mlqa': ({'q': ['b']}, {'q': 'b'}), 'tydiqa': ({'q': ['b', 'c']}, {'q': 'b'}),
}

@pytest.fixture
def submission(tmp_path):
    for target, (gold, predicted) in GOOD.items():
        for code in TARGETS[target].languages[:2]:
            write_gold(tmp_path/'gold', target, code, gold)
            write_predictions(tmp_path/'predictions', target, code, predicted)
    return tmp_path

def refused(folder):
    with pytest.raises(UserError) as error: score_submission(folder/'predictions', folder/'gold')
    assert '\n' not in str(error.value)
    return str(error.value)

def test_a_whole_submission_is_scored(submission):
    table = score_submission(submission/'predictions', submission/'gold')
    assert set(table.target) == set(TARGETS) and overall(table).name.endswith('(partial set)')

def test_any_subset_of_targets_is_scored(submission):
    for name in FOLDERS:
        if name != 'xnli': [f.unlink() for f in (submission/'predictions'/name).iterdir()] and (submission/'predictions'/name).rmdir()
    assert set(score_submission(submission/'predictions', submission/'gold').target) == {'xnli'}

@pytest.mark.parametrize('folder, message', [('predictions', 'no predictions for'), ('gold', 'no gold for')])
@pytest.mark.parametrize('target', list(TARGETS))
def test_a_missing_language_is_named(submission, folder, message, target):
    code = TARGETS[target].languages[1]
    submission_file(submission/folder, target, code).unlink()
    assert f'{message} {code}' in refused(submission)

@pytest.mark.parametrize('target', [t for t in TARGETS if t != 'bucc'])
def test_too_few_and_too_many_items_are_refused(submission, target):
    gold, predicted = GOOD[target]
    code = TARGETS[target].languages[0]
    for wrong in [dict(predicted, other='x'), {}] if isinstance(predicted, dict) else [predicted + predicted[-1:], predicted[:-1]]:
        path = write_predictions(submission/'predictions', target, code, wrong)
        assert str(path) in refused(submission)

def test_a_missing_word_of_a_sentence_is_refused(submission):
    write_predictions(submission/'predictions', 'udpos', 'af', [['NOUN'], ['VERB']])
    assert 'sentence 2 has 1 predicted tags for 2 words' in refused(submission)

@pytest.mark.parametrize('target, code, text, message', [
    ('xnli', 'ar', 'neutral\n0\n', "line 2: '0' is none of entailment"),
    ('xnli', 'ar', 'neutral\n\nneutral\n', "line 2: '' is none of"),
    ('udpos', 'af', 'Haus\tNOUN\n\nVERB\nX\n', r"line 1: 'Haus\tNOUN' is none of"),
    ('panx', 'af', 'B-LOC\nB-MISC\n', "line 2: 'B-MISC'"),
    ('tatoeba', 'af', '0\n-1\n', "line 2: '-1' is no index"),
    ('bucc', 'de', 'de-1\ten-1\ten-2\n', 'line 1'),
    ('xquad', 'ar', '{"q": "b"', 'is no JSON'),
    ('xquad', 'ar', '{"q": "b", "q": "c"}', "holds 'q' twice"),
    ('xquad', 'ar', '{"q": ["b"]}', 'is no object from question id to answer text'),
    ('mlqa', 'ar', '[]', 'is no object from question id to answer text'),
])
def test_malformed_files_are_named_with_their_line(submission, target, code, text, message):
    path = submission_file(submission/'predictions', target, code)
    path.write_text(text, encoding='utf-8')
    error = refused(submission)
    assert message in error and str(path) in error

@pytest.mark.parametrize('content', ['{"data": 3}', '{"data": [{"paragraphs": [{"qas": [{"id": "q"}]}]}]}', '3', '{"q": ["b"]}'])
def test_gold_that_is_not_in_squads_form_is_refused(submission, content):
    submission_file(submission/'gold', 'tydiqa', 'ar').write_text(content)
    assert "SQuAD's form" in refused(submission)

def test_a_question_twice_in_gold_is_refused(submission):
    qa = {'id': 'q', 'answers': [{'text': 'b'}]}
    submission_file(submission/'gold', 'tydiqa', 'ar').write_text(json.dumps({'data': [{'paragraphs': [{'qas': [qa, qa]}]}]}))
    assert "holds question 'q' twice" in refused(submission)

def test_bytes_that_are_no_text_are_refused(submission):
    submission_file(submission/'predictions', 'xnli', 'ar').write_bytes(b'neutral\n\xff\xfe\n')
    assert 'is not UTF-8 text' in refused(submission)

def test_files_and_folders_out_of_place_are_refused(submission):
    (submission/'predictions'/'xnli'/'ar.tsv').write_text('neutral\n')
    assert 'out of place' in refused(submission)
    (submission/'predictions'/'xnli'/'ar.tsv').rename(submission/'predictions'/'xnli'/'test-arabic.tsv')
    assert "unknown language in" in refused(submission)
    (submission/'predictions'/'xnli'/'test-arabic.tsv').unlink()
    (submission/'predictions'/'bucc').mkdir()
    assert "did you mean 'bucc2018'" in refused(submission)

def test_folders_that_do_not_exist_or_are_empty_are_refused(tmp_path):
    assert 'is not a folder' in refused(tmp_path)
    (tmp_path/'predictions').mkdir(), (tmp_path/'gold').mkdir()
    assert 'holds no target folder' in refused(tmp_path)
    (tmp_path/'predictions'/'xnli').mkdir()
    assert 'has no gold' in refused(tmp_path)
    (tmp_path/'gold'/'xnli').mkdir()
    assert 'holds no files' in refused(tmp_path)

@pytest.mark.parametrize('target, values', [('xnli', ['neu\ttral']), ('xnli', ['neutral\n']), ('xnli', ['']), ('panx', [['B-LOC', 'O O\tO']]), ('bucc', [('de\t1', 'en-1')]), ('bucc', [('', 'en-1')])])
def test_what_a_line_cannot_hold_is_not_written(tmp_path, target, values):
    with pytest.raises(UserError, match='cannot be a field'): write_predictions(tmp_path, target, 'de', values)
    assert not list(tmp_path.rglob('*.tsv*'))
