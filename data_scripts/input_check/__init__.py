"""How the input check (`modeling_chexficient.input_check_chexficient`) is fitted and judged.

python -m data_scripts.input_check.fit --out modeling_chexficient/input_check_chexficient.json
python -m data_scripts.input_check.judge DATA/nih_chestxray14 DATA/covid_chestxray
"""
