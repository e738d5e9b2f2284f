"Builds the package from settings.ini; the notebooks that runs and reports are made of travel inside it."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=['='])
config.read(Path(__file__).parent/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
lab, slurm, lora, track = (cfg[f'{name}_requirements'].split() for name in ('lab', 'slurm', 'lora', 'track'))
# A package's page has no files beside it, and there is no address yet that images and notebooks could be linked by
readme = re.sub(r'!\[[^]]*\]\((?!https?:)[^)]*\)', '', Path('README.md').read_text(encoding='utf-8'))
readme = re.sub(r'\[([^]]+)\]\((?!https?:|#)[^)]*\)', r'\1', readme)
setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'].split(),
    author=cfg['author'], license='Apache-2.0',
    long_description=readme, long_description_content_type='text/markdown',
    classifiers=[f'Programming Language :: Python :: {v}' for v in ('3.11', '3.13')] + [ # those that it was run on
        'Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research', 'Operating System :: POSIX :: Linux',
        'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(), # what a worker of a cluster needs, and no more
    extras_require={'lab': lab, 'slurm': slurm, 'lora': lora, 'track': track,
                    'dev': lab + slurm + lora + track + cfg['dev_requirements'].split()},
    packages=find_packages(include=['xtl', 'xtl.*']) + ['xtl.notebooks.experiments', 'xtl.notebooks.report'],
    package_dir={'xtl.notebooks.experiments': 'nbs/experiments', 'xtl.notebooks.report': 'nbs/report'},
    package_data={'xtl': ['mini_encoder/*', 'languages.tsv'], 'xtl.notebooks.experiments': ['*.ipynb'],
                  'xtl.notebooks.report': ['report.ipynb', '*.css', '*.js']},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': ['xtl=xtl._modidx:d']},
    zip_safe=False,
)
