"""Makes xtl/languages.tsv, the registry of languages beyond XTREME's forty: `python tests/language_table.py`.

What is typed here: which languages (those of FLORES-200 by their codes, and some sixty with data in other collections),
sizes in CC-100 (Conneau et al. 2020, arXiv 1911.02116, Table 6), classes of Joshi et al. 2020 (arXiv 2004.09095; class
0, which holds whatever nobody looked for, is left out), names of scripts (ISO 15924). What is read from packages:
English names and two-letter codes (ISO 639-3, `iso639-lang`), families (Glottolog, as URIEL has it, `lang2vec`). Both
are needed here alone: `pip install iso639-lang && pip install --no-deps lang2vec`. What no source says is left empty;
of XTREME's languages only the codes are written, their facts stand in nbs/tasks/10_languages.ipynb.
"""
import csv
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from iso639 import Lang

from xtl.tasks.languages import XTREME_LANGUAGES

PLACE = Path(__file__).parent.parent/'xtl'/'languages.tsv'

FLORES = """
ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn als_Latn amh_Ethi apc_Arab arb_Arab arb_Latn ars_Arab
ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl bem_Latn ben_Beng
bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn cjk_Latn ckb_Arab crh_Latn cym_Latn
dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn est_Latn eus_Latn ewe_Latn fao_Latn fij_Latn fin_Latn
fon_Latn fra_Latn fur_Latn fuv_Latn gaz_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva
hne_Deva hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn
kan_Knda kas_Arab kas_Deva kat_Geor kaz_Cyrl kbp_Latn kea_Latn khk_Cyrl khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn kmr_Latn
knc_Arab knc_Latn kon_Latn kor_Hang lao_Laoo lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn lua_Latn lug_Latn
luo_Latn lus_Latn lvs_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Arab min_Latn mkd_Cyrl mlt_Latn mni_Beng mos_Latn mri_Latn
mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nqo_Nkoo nso_Latn nus_Latn nya_Latn oci_Latn ory_Orya pag_Latn pan_Guru pap_Latn
pbt_Arab pes_Arab plt_Latn pol_Latn por_Latn prs_Arab quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Olck scn_Latn
shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn
swe_Latn swh_Latn szl_Latn tam_Taml taq_Latn taq_Tfng tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi tpi_Latn tsn_Latn
tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn vie_Latn war_Latn
wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zsm_Latn zul_Latn
""".split()

OTHERS = """
lat_Latn bre_Latn fry_Latn bbj_Latn pcm_Latn bzd_Latn cni_Latn hch_Latn nah_Latn oto_Latn shp_Latn tar_Latn roh_Latn cor_Latn
glv_Latn sme_Latn sms_Latn myv_Cyrl mdf_Cyrl kpv_Cyrl koi_Cyrl krl_Latn olo_Latn bxr_Cyrl hsb_Latn dsb_Latn gsw_Latn nds_Latn
chv_Cyrl sah_Cyrl mhr_Cyrl udm_Cyrl oss_Cyrl che_Cyrl ava_Cyrl abk_Cyrl wln_Latn cos_Latn arg_Latn haw_Latn tah_Latn ton_Latn
kal_Latn nav_Latn chr_Cher quc_Latn yua_Latn gom_Deva doi_Deva div_Thaa new_Deva xal_Cyrl tyv_Cyrl kaa_Latn ven_Latn nbl_Latn
nde_Latn gun_Latn wbp_Latn
""".split()

SCRIPTS = dict(part.split('=') for part in (
    'Latn=Latin Arab=Arabic Cyrl=Cyrillic Beng=Bengali Deva=Devanagari Grek=Greek Hebr=Hebrew Jpan=Japanese '
    'Geor=Georgian Hang=Hangul Mlym=Malayalam Mymr=Burmese Taml=Tamil Telu=Telugu Thai=Thai Hans=Han Hant=Han '
    'Ethi=Ethiopic Gujr=Gujarati Guru=Gurmukhi Orya=Odia Knda=Kannada Sinh=Sinhala Khmr=Khmer Laoo=Lao Tibt=Tibetan '
    "Armn=Armenian Olck=Ol_Chiki Nkoo=N'Ko Tfng=Tifinagh Cher=Cherokee Thaa=Thaana").split())

XTREME = { # What FLORES calls XTREME's languages where the three-letter code is not that of the two letters
    'arb_Arab': 'ar', 'pes_Arab': 'fa', 'swh_Latn': 'sw', 'zho_Hans': 'zh', 'zsm_Latn': 'ms'}
CODES = { # Two letters of the language that a code of FLORES stands for as its usual variety
    'als': 'sq', 'azj': 'az', 'gaz': 'om', 'khk': 'mn', 'kmr': 'ku', 'lvs': 'lv', 'npi': 'ne', 'ory': 'or', 'pbt': 'ps',
    'plt': 'mg', 'quy': 'qu', 'uzn': 'uz', 'ydd': 'yi', 'ayr': 'ay'}
NAMES = {'ajp': 'South Levantine Arabic', 'swh': 'Swahili', 'ell': 'Greek', 'zho': 'Chinese', 'mni': 'Manipuri',
         'oto': 'Otomi', 'npi': 'Nepali', 'ory': 'Odia', 'ydd': 'Yiddish', 'khk': 'Mongolian', 'lvs': 'Latvian', 'uzn': 'Uzbek',
         'azj': 'Azerbaijani', 'kmr': 'Kurmanji', 'plt': 'Malagasy', 'als': 'Albanian', 'pbt': 'Pashto', 'ckb': 'Sorani',
         'nah': 'Nahuatl', 'ton': 'Tongan', 'pan': 'Punjabi', 'kir': 'Kyrgyz', 'kaa': 'Karakalpak', 'tyv': 'Tuvan'}
MAIN = { # Of languages in two scripts, the one that has the plain code
    'ace_Latn', 'arb_Arab', 'bjn_Latn', 'kas_Arab', 'knc_Latn', 'min_Latn', 'taq_Latn', 'zho_Hans'}

CC100 = {name: float(size) for name, size in (part.split('=') for part in (
    'sv=85 ro=61.4 nb=49 da=45.6 uk=84.6 pl=44.6 sk=23.2 hr=20.5 cs=16.3 lt=13.7 ca=10.1 sl=10.3 lv=8.8 sq=5.4 sr=9.1 '
    'az=6.5 is=3.2 gl=2.9 mk=4.8 hy=5.5 la=2.5 be=4.3 mn=3 si=3.6 ne=3.8 zho_Hant=16.6 kn=3.3 eo=0.9 cy=0.8 gu=1.9 '
    'ps=0.7 ky=1.2 uz=0.7 ga=0.5 am=0.8 pa=0.8 ku=0.4 so=0.4 ha=0.3 sd=0.4 km=1.5 or=0.6 yi=0.3 fy=0.2 ug=0.4 mg=0.2 '
    'gd=0.1 lo=0.6 sa=0.3 br=0.1 bs=0.1 xh=0.1 su=0.1 om=0.1 as=0.1').split())}
JOSHI = {
    1: """kin kir mkd ibo mri nob nno sun azj bre khk gaz hye che plt npi als epo oci cym kan tgk bak tat chv nav arg
          aka asm ast ayr bam bho bod bug crh dzo fao fij fur gla grn guj ilo kab kas khm kmr ckb kik kon lij lin lmo ltg lug
          mai mni nya ory pag pap run ltz sag sat scn smo sna snd som srd ssw szl tpi tso tuk tum twi uig vec ydd ewe quy""",
    2: 'amh hau tsn xho zul gle pan isl lao mlt san tir wol',
    3: 'arz dan ron ukr uzn lat slv slk lvs lit bel glg bos ceb',
    4: 'cat hrv ces pol srp swe'}
BRANCHES = ('Romance', 'Italic', 'Germanic', 'Slavic', 'Baltic', 'Indo-Aryan', 'Iranian', 'Celtic', 'Greek',
            'Albanian') # Of Indo-European, the narrowest first
ALIASES = {'Atlantic-Congo': 'Niger-Congo', 'Austroasiatic': 'Austro-Asiatic', 'Tai-Kadai': 'Kra-Dai',
           'Artificial Language': 'Constructed'}
FAMILIES = { # Where URIEL has nothing, or no branch
    'nqo': 'Mande', 'hye': 'IE: Armenian', 'lit': 'IE: Baltic', 'lvs': 'IE: Baltic', 'ltg': 'IE: Baltic',
    'nob': 'IE: Germanic', 'nno': 'IE: Germanic', 'srd': 'IE: Romance', 'twi': 'Niger-Congo'}


def families() -> dict[str, set[str]]:
    "The families that URIEL names for each language, all depths of Glottolog's tree together."
    place = Path(find_spec('lang2vec').submodule_search_locations[0])/'data'/'family_features.npz'
    kept = np.load(place, allow_pickle=False)
    names = [str(f).removeprefix('F_') for f in kept['feats']]
    held = kept['data'].reshape(len(kept['langs']), -1) > 0
    return {str(code): [n for n, has in zip(names, row) if has] for code, row in zip(kept['langs'], held)}


def family(iso3: str, known: dict) -> str:
    "The family as the table of XTREME writes it; empty where nobody says."
    tree = known.get(iso3) or known.get({'zho': 'cmn', 'aka': 'twi', 'kon': 'ktu', 'ajp': 'apc', 'nah': 'nhn', 'oto': 'ote',
                                         'grn': 'gug', 'est': 'ekk', 'twi': 'aka', 'lvs': 'lav', 'ltg': 'lav',
                                         'nob': 'nor', 'nno': 'nor'}.get(iso3, '')) or []
    if not tree or iso3 in FAMILIES: return FAMILIES.get(iso3, '')
    if 'Indo-European' not in tree: return ALIASES.get(tree[0], tree[0])
    return next((f'IE: {b}' for b in BRANCHES if b in tree), 'IE')


def english(iso3: str) -> tuple[str, str]:
    "English name and two-letter code."
    if iso3 == 'ajp': return NAMES[iso3], ''
    found = Lang(iso3)
    name = re.sub(r' \(.*\)$', '', found.name)
    return NAMES.get(iso3, name), found.pt1


def rows() -> list[dict]:
    "The table."
    known, made = families(), []
    for flores in FLORES + OTHERS:
        iso3, script = flores.split('_')
        name, short = english(iso3)
        code = XTREME.get(flores) or CODES.get(iso3) or short or iso3
        twice = sum(f.startswith(f'{iso3}_') for f in FLORES) > 1
        if twice and flores not in MAIN: code, name = flores, f"{name} ({SCRIPTS[script].replace('_', ' ')} script)"
        if flores == 'zho_Hant': name = 'Chinese (traditional)'
        codes_alone = code in XTREME_LANGUAGES
        joshi = next((c for c, codes in JOSHI.items() if iso3 in codes.split() and code != flores), '')
        facts = dict(name=name, family=family(iso3, known), script=SCRIPTS[script].replace('_', ' '),
                     cc100_gib=CC100.get(code, ''), joshi=joshi)
        codes = dict(flores=flores if flores in FLORES else '', iso3=iso3)
        made.append(dict(code=code) | {k: '' if codes_alone else v for k, v in facts.items()} | codes)
    return sorted(made, key=lambda r: r['code'])


if __name__ == '__main__':
    table = rows()
    with PLACE.open('w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, table[0], delimiter='\t', lineterminator='\n')
        writer.writeheader()
        writer.writerows(table)
    print(f'{len(table)} languages in {PLACE}')
