"Builds the package from settings.ini; the notebooks that runs and reports are made of travel inside it."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=['='])
config.read(Path(__file__).parent/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
lab, slurm = cfg['lab_requirements'].split(), cfg['slurm_requirements'].split()
setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'].split(),
    author=cfg['author'], author_email=cfg['author_email'], license='Apache-2.0',
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(), # what a worker of a cluster needs, and no more
    extras_require={'lab': lab, 'slurm': slurm, 'dev': lab + slurm + cfg['dev_requirements'].split()},
    packages=find_packages(include=['xtl', 'xtl.*']) + ['xtl.notebooks.experiments', 'xtl.notebooks.report'],
    package_dir={'xtl.notebooks.experiments': 'nbs/experiments', 'xtl.notebooks.report': 'nbs/report'},
    package_data={'xtl': ['mini_encoder/*', 'languages.tsv'], 'xtl.notebooks.experiments': ['*.ipynb'],
                  'xtl.notebooks.report': ['report.ipynb', '*.css', '*.js']},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': ['xtl=xtl._modidx:d']},
    zip_safe=False,
)
