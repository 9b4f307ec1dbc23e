"""Tables as people save them: long ids, quotes, separators and encodings; right, or refused with the row."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_scripts.reading.encodings import decode_text
from data_scripts.reading.tables import mend_ids, read_table
from data_scripts.schema import DataError

LONG = [110101199003070011, 110101199003070012, 110101199003070013]


def table(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, allow_short_rows=False)


def test_long_ids_keep_their_digits_beside_a_blank(tmp_path):
    ids = [*LONG, None]
    texts = [*map(str, LONG), ""]
    pq.write_table(pa.table({"id": pa.array(ids, pa.int64())}), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["id"].tolist() == texts
    lines = "".join(json.dumps({"id": one, "n": 1.0}) + "\n" for one in ids)
    found = table(tmp_path / "t.jsonl", lines)
    assert found["id"].tolist() == texts
    assert found["n"].tolist() == ["1"] * 4
    assert table(tmp_path / "t.csv", "id,x\n" + "".join(f"{one},1\n" for one in texts))["id"].tolist() == texts


def test_other_kinds_of_parquet_columns(tmp_path):
    columns = {
        "dictionary": pa.array(["007", None]).dictionary_encode(),
        "unsigned": pa.array([2**64 - 1, None], pa.uint64()),
        "decimal": pa.array([5, None], pa.decimal128(20, 0)),
        "bytes": pa.array([b"007", None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert found.iloc[0].tolist() == ["007", str(2**64 - 1), "5", "007"]
    assert found.iloc[1].tolist() == [""] * 4
    pd.DataFrame({"a": ["x", "y"]}, index=[5, 6]).to_parquet(tmp_path / "index.parquet")
    assert list(read_table(tmp_path / "index.parquet").columns) == ["a"]


@pytest.mark.parametrize("lost", ["1.10101E+17", "1.1010119900307e+17", "1E+17", "110101199003070016.0"])
def test_ids_that_have_lost_digits_are_refused(tmp_path, lost):
    found = table(tmp_path / "t.csv", f"id\n7\n{lost}\n")
    with pytest.raises(DataError, match=r"t.csv row 2: column 'id'.*last digits are lost"):
        mend_ids(found, ["id"], tmp_path / "t.csv")


def test_a_float_of_parquet_has_lost_digits(tmp_path):
    pq.write_table(pa.table({"id": pa.array([float(LONG[0]), None])}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="last digits are lost"):
        mend_ids(read_table(tmp_path / "t.parquet"), ["id"], tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (["5.0", "", "17.0"], ["5", "", "17"]),
        (["5", "", "17"], ["5", "", "17"]),
        (["1.2.3", "5.0", ""], ["1.2.3", "5.0", ""]),
        (["12E3", "007", "1e5a"], ["12E3", "007", "1e5a"]),
    ],
)
def test_decimals_of_whole_columns_are_whole_numbers(tmp_path, given, right):
    found = pd.DataFrame({"id": given}, dtype=str)
    mend_ids(found, ["id"], tmp_path / "t.csv")
    assert found["id"].tolist() == right


def test_one_id_written_in_two_ways_is_refused(tmp_path):
    found = pd.DataFrame({"id": ["5", "6.0", "5.0"]}, dtype=str)
    with pytest.raises(DataError, match=r"row 3: column 'id' is '5\.0', and another row has '5'"):
        mend_ids(found, ["id"], tmp_path / "t.csv")


HEADER = ["image", "patient", "report"]
SWALLOWING = '1.png\tb\t"Hazy" opacity.\n2.png\tc\t"Clear lungs.\n3.png\td\tEffusion.\n4.png\te\t"Tram lines" seen."\n'


def test_quotes_that_are_signs_of_the_text_are_kept(tmp_path):
    found = table(tmp_path / "t.tsv", "\t".join(HEADER) + "\n" + SWALLOWING)
    assert found["report"].tolist() == ['"Hazy" opacity.', '"Clear lungs.', "Effusion.", '"Tram lines" seen."']
    closed = table(tmp_path / "t.tsv", 'image\treport\n1.png\t"Clear.\n2.png\tEffusion.\n3.png\tMass."\n4.png\tx\n')
    assert closed["report"].tolist() == ['"Clear.', "Effusion.", 'Mass."', "x"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        # The quote is closed at the end of a later report, so that the whole is well formed.
        ('1.png,a,"Clear.\n2.png,b,Effusion, left.\n3.png,c,Mass."\n4.png,d,Clear.\n', r"row 1 \(line 2\)"),
        ('1.png,a,Clear.\n2.png,b,"Clear.\n3.png,c,Effusion, left.\n', "line 3 has a quote"),
        ('1.png,a,"Clear" lungs, no effusion.\n2.png,b,x\n', "line 2 has a quote"),
        ("1.png,a,Clear lungs\nno effusion.\n", r"row 2 \(line 3\) has fewer fields"),
    ],
)
def test_rows_that_a_quote_swallows_are_named(tmp_path, rows, match):
    with pytest.raises(DataError, match=match):
        table(tmp_path / "t.csv", ",".join(HEADER) + "\n" + rows)


def test_short_rows_of_published_tables_end_in_blanks(tmp_path):
    (tmp_path / "t.csv").write_text('image,report,view\n1.png,"Clear,\nno effusion."\n2.png,Mass,PA\n')
    assert read_table(tmp_path / "t.csv")["view"].tolist() == ["", "PA"]
    with pytest.raises(DataError, match="fewer fields"):
        read_table(tmp_path / "t.csv", allow_short_rows=False)


def test_text_before_the_ids_and_line_breaks_within_quotes(tmp_path):
    with pytest.raises(DataError, match="looks like a row of its own"):
        table(
            tmp_path / "t.csv", 'report,image\n"Clear.,1.png\nEffusion, left,2.png\nMass,3.png\nHazy",4.png\nx,5.png\n'
        )
    report = 'FINDINGS:\n1, small nodule\nHeart, lungs normal. He said ""good"".\n\nIMPRESSION: none'
    found = table(tmp_path / "t.csv", f'image,report\n1.png,"{report}"\nsmith,Clear.\n')
    assert found["report"].tolist() == [report.replace('""', '"'), "Clear."]


TEXT = "The patient\u2019s lungs are clear \u2013 no effusion; heart normal, stable."


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_separators_and_encodings(tmp_path, name, separator, encoding):
    rows = [["image", "report"], ["1.png", f'"{TEXT}"'], ["2.png", "Clear."]]
    content = "\r\n".join(separator.join(row) for row in rows).encode(encoding)
    found = table(tmp_path / name, content)
    assert found.to_dict("list") == {"image": ["1.png", "2.png"], "report": [TEXT, "Clear."]}


def test_the_line_of_excel_and_packed_tables(tmp_path):
    assert table(tmp_path / "t.csv", "sep=;\r\na;b\r\n1,5;2\r\n").to_dict("list") == {"a": ["1,5"], "b": ["2"]}
    assert table(tmp_path / "t.csv.gz", gzip.compress(b"a,b\n1,2\n"))["b"].tolist() == ["2"]
    assert table(tmp_path / "t.jsonl.gz", gzip.compress(b'{"a": "007"}\n'))["a"].tolist() == ["007"]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.xlsx", b"PK", "save the sheet as CSV"),
        ("t.csv", b"", "it is empty"),
        ("t.csv.gz", b"\x1f\x8bbroken", "cannot be read"),
        ("t.parquet", b"PAR1broken", "cannot be read"),
        ("t.jsonl", b'{"a": 1}\n[1]\n', "line 2 is no JSON object"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is no JSON"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, name, content, match):
    with pytest.raises(DataError, match=match):
        table(tmp_path / name, content)


FOREIGN = {
    "gbk": "双肺纹理清晰",
    "cp1251": "Легкие чистые",
    "shift_jis": "肺野に異常なし",
    "iso8859-2": "Płuca bez zmian",
    "cp1253": "Πνεύμονες καθαροί",
    "euc_kr": "양측 폐야 정상",
}


@pytest.mark.parametrize("encoding", FOREIGN)
def test_other_code_pages_are_refused_or_named(encoding):
    content = FOREIGN[encoding].encode(encoding)
    # Beside the names of many files, foreign letters are few.
    for whole in (content, b"image,report,patient\n" + (b"folder/film.png," + content + b",P1\n") * 3):
        with pytest.raises(DataError, match="--encoding"):
            decode_text(whole, "t.txt")
    assert decode_text(content, "t.txt", encoding) == FOREIGN[encoding]


def test_western_text_is_not_refused():
    for text in ("Œdème “à gauche” – 5 µg/ml, 2·5 cm ± 3°…", "Größe, Öffnung", "Está «así», ¿no? Ñandú", "é"):
        assert decode_text(text.encode("cp1252"), "t.txt") == text


def test_utf_8_with_a_broken_byte_is_not_made_into_other_signs():
    content = "Größe 5 cm.\nŒdème.\n".encode() + b"The patient\x92s lungs.\n"
    with pytest.raises(DataError, match="utf-8 but for 1 bytes, the first in line 3"):
        decode_text(content, "t.txt")
    with pytest.raises(DataError, match=r"NUL characters.*--encoding"):
        decode_text("No mark.".encode("utf-16-le"), "t.txt")
    assert decode_text("No mark.".encode("utf-16-le"), "t.txt", "utf-16-le") == "No mark."
    with pytest.raises(DataError, match="not ascii"):
        decode_text(content, "t.txt", "ascii")
