"The registry of languages against the names that the data sets themselves use."
import os
from pathlib import Path

import pandas as pd
import pytest

from xtl.core.errors import UserError
from xtl.tasks.languages import LANGUAGES, MINI_LANGUAGES, XTREME_LANGUAGES, known_code, language, language_table

MIRROR = Path(os.environ.get('XTL_DATA') or Path(__file__).parents[2]/'shared'/'hub')/'google'/'xtreme'
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason='no mirror of the data sets: XTL_DATA is not set and ../shared/hub does not exist')

def configs(prefix): return {folder.name.removeprefix(prefix) for folder in MIRROR.glob(prefix + '*')}

def values(column, codes=XTREME_LANGUAGES): return {getattr(LANGUAGES[c], column) for c in codes} - {None}

@needs_mirror
def test_ud_names_are_the_configurations_of_udpos(): assert values('ud') == configs('udpos.')

@needs_mirror
def test_tatoeba_codes_are_the_configurations_of_tatoeba(): assert values('tatoeba') == configs('tatoeba.')

@needs_mirror
def test_codes_are_the_configurations_of_panx():
    held = configs('PAN-X.')
    assert held and held <= set(XTREME_LANGUAGES)

@needs_mirror
def test_tydiqa_prefixes_are_those_of_the_question_ids():
    ids = pd.concat([pd.read_parquet(f, columns=['id']) for f in sorted((MIRROR/'tydiqa').glob('*.parquet'))]).id
    assert values('tydiqa') == set(ids.str.split('-').str[0])

@pytest.mark.parametrize('column', ['name', 'ud', 'tatoeba', 'tydiqa'])
def test_no_name_stands_for_two_languages(column):
    held = [getattr(l, column) for l in LANGUAGES.values() if getattr(l, column) is not None]
    assert len(held) == len(set(held))

def test_every_family_of_the_embedded_world_has_all_three_tiers():
    table = language_table().loc[list(MINI_LANGUAGES)]
    assert len(table) == 10 and (table.groupby('family').tier.nunique() == 3).all()

@pytest.mark.parametrize('code, tier', [('yo', 'low'), ('te', 'low'), ('ur', 'mid'), ('nl', 'mid'), ('it', 'high'), ('en', 'high'), ('qad', 'low'), ('qac', 'mid'), ('qaa', 'high')])
def test_tiers_near_their_limits(code, tier): assert language(code).tier == tier

@pytest.mark.parametrize('wrong', ['swa', 'Swahili', 'xz', ''])
def test_unknown_codes_are_answered_in_one_line(wrong):
    with pytest.raises(UserError) as error: language(wrong)
    assert f"'{wrong}'" in str(error.value) and '\n' not in str(error.value)

@pytest.mark.parametrize('given, code', [
    ('hau', 'ha'), ('yor_Latn', 'yo'), ('en-US', 'en'), ('EN', 'en'), ('kas_Deva', next(l.code for l in LANGUAGES.values() if l.flores == 'kas_Deva')),
    ('zh-Hant-TW', next(l.code for l in LANGUAGES.values() if l.flores == 'zho_Hant')), ('qaa', 'qaa'), ('xz', 'xz'), ('swahili', 'swahili')])
def test_languages_by_their_other_codes(given, code): assert known_code(given) == code

def test_every_code_of_the_registry_is_known_by_its_flores_name():
    assert {l.flores: known_code(l.flores) for l in LANGUAGES.values() if l.flores} == {l.flores: l.code for l in LANGUAGES.values() if l.flores}
