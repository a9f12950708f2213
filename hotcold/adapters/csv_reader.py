"""Reads ranges of lines of a CSV file. Where that fails, it reads them again as texts, which tells the rows that are at fault.

A row is a line that is not empty. A line break within quotes ends it all the same, because files are cut at lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from hotcold.adapters.bad_rows import readable_texts
from hotcold.adapters.input_files import open_input
from hotcold.adapters.row_batch import RowBatch, Wanted
from hotcold.domain.batch_plan import InputFile, Piece
from hotcold.domain.errors import BadInputError

_NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
# A field in quotes and what may follow them, or one without quotes: as pyarrow takes a line apart.
_QUOTED = rb'"[^"]*+(?:""[^"]*+)*+"'
_FIELD = rb'(?:%s[^,\r]*+|(?!")[^,\r]*+)' % _QUOTED
_FIELDS = re.compile(rb"%s(?:,%s)*+" % (_FIELD, _FIELD))
_QUOTED_FIELD = re.compile(rb"(^|,)" + _QUOTED)
# What pyarrow reads as a number, after spaces and tabs around it.
_NUMBER = r"^(?i:[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|infinity|nan(?:\([a-z0-9_]*\))?))$"
_SHOWN = 40

_Faults = dict[int, str]


def read_csv(file: InputFile, piece: Piece, wanted: Wanted, batch_rows: int) -> Iterator[RowBatch]:
    """The rows of a range of lines, a batch at a time.

    Args:
        file: as it was planned.
        piece: the range, in bytes.
        wanted: which of its columns.
        batch_rows: most rows of a batch.

    Raises:
        BadInputError: the file was cut off, lacks a column, or has one twice.
        InvalidInputError: a feature is missing or there twice.
    """
    header, content = _load(file, piece)
    names = pacsv.read_csv(pa.BufferReader(header)).column_names
    kinds = _kinds(wanted)
    wanted.require(pa.schema([(name, kinds.get(name, pa.null())) for name in names]), file.url)
    kinds = {name: kinds[name] for name in names if name in kinds}
    table, faults = _read_lines(content, names, kinds)
    first = 0
    for batch in _with_nulls(table, wanted).to_batches(batch_rows):
        rows = range(first, first + batch.num_rows)
        yield RowBatch(batch, {row - first: why for row, why in faults.items() if row in rows})
        first = rows.stop


def count_csv_rows(file: InputFile, piece: Piece) -> int:
    """Rows of a range of lines, counted without taking them apart."""
    return len(_rows_of(_load(file, piece)[1]))


def _load(file: InputFile, piece: Piece) -> tuple[bytes, bytes]:
    """The header line, and the lines of the range."""
    with open_input(file) as source:
        header = source.read(file.header_bytes)
        source.seek(piece.first)
        content = source.read(piece.count)
    if len(content) != piece.count:
        raise BadInputError(f"{file.url} ends within bytes {piece.first} to {piece.first + piece.count}; it was cut off")
    return header, content


def _rows_of(content: bytes) -> list[bytes]:
    return [row for line in content.split(b"\n") if (row := line.strip(b"\r"))]


def _kinds(wanted: Wanted) -> dict[str, pa.DataType]:
    features = {field.name: pa.string() if field.dtype == "category" else pa.float64() for field in wanted.fields}
    return dict.fromkeys(wanted.columns.names, pa.string()) | features


def _read_lines(content: bytes, names: Sequence[str], kinds: Mapping[str, pa.DataType]) -> tuple[pa.Table, _Faults]:
    """One row for each row of the content, and what is wrong with some of them."""
    count = len(_rows_of(content))
    try:
        table = _parse(
            content, names, pacsv.ConvertOptions(column_types=kinds, include_columns=list(kinds), null_values=_NULLS)
        )
        # Else a line break stands within quotes, or a carriage return within a line.
        if table.num_rows == count:
            return table, {}
    except pa.ArrowInvalid:
        # It names one row at most, and stops there.
        pass
    table, faults = _read_texts(_rows_of(content), names, list(kinds))
    for index, (name, kind) in enumerate(kinds.items()):
        if pa.types.is_floating(kind):
            numbers, refused = _to_numbers(name, table.column(index).combine_chunks())
            table, faults = table.set_column(index, name, numbers), refused | faults
    return table, faults


def _parse(content: bytes, names: Sequence[str], convert: pacsv.ConvertOptions, returns_in_values: bool = False) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(content),
        pacsv.ReadOptions(column_names=names, use_threads=False),
        pacsv.ParseOptions(newlines_in_values=returns_in_values),
        convert,
    )


def _read_texts(rows: Sequence[bytes], names: Sequence[str], chosen: Sequence[str]) -> tuple[pa.Table, _Faults]:
    """All values as texts, nulls where a row cannot be taken apart; the texts need not be UTF-8."""
    # Not by pyarrow's handler of invalid rows, which is never called for one that is not UTF-8.
    needed = re.compile(b",".join([_FIELD] * len(names)))
    faults = {number: _why_torn(row, len(names)) for number, row in enumerate(rows) if not needed.fullmatch(row)}
    whole = [number for number in range(len(rows)) if number not in faults]
    types = dict.fromkeys(chosen, pa.string())
    convert = pacsv.ConvertOptions(column_types=types, include_columns=list(chosen), check_utf8=False)
    # Nothing at all would be an error.
    table = _parse(b"\n".join(rows[number] for number in whole) or b"\n", names, convert, returns_in_values=True)
    if table.num_rows != len(whole):
        raise BadInputError(f"{len(whole)} lines were taken for {table.num_rows} rows, so nobody can say which are at fault")
    places = np.full(len(rows), -1, dtype=np.int64)
    places[whole] = np.arange(len(whole))
    return table.combine_chunks().take(pa.array(places, mask=places < 0)), faults


def _why_torn(row: bytes, columns: int) -> str:
    """Why a line cannot be taken apart into so many columns."""
    if not _FIELDS.fullmatch(row):
        return "a quoted value does not end on its line, or a carriage return stands outside of one"
    found = 1 + _QUOTED_FIELD.sub(rb"\1", row).count(b",")
    return f"the line has {found} columns; needed are {columns}"


def _to_numbers(name: str, texts: pa.Array) -> tuple[pa.Array, _Faults]:
    """Numbers by the rules of pyarrow's reader, null where a text stands for nothing; and the rows whose text is no number."""
    trimmed = pc.ascii_trim(texts, " \t")
    is_nothing = pc.or_(pc.is_null(texts), pc.is_in(texts, value_set=pa.array(_NULLS)))
    is_number = pc.and_not(pc.fill_null(pc.match_substring_regex(trimmed, _NUMBER), False), is_nothing)
    numbers = pc.if_else(is_number, trimmed, pa.scalar(None, pa.string())).cast(pa.float64())
    rows = np.flatnonzero(np.asarray(pc.invert(pc.or_(is_nothing, is_number))))
    shown = readable_texts(texts.take(pa.array(rows))).to_pylist()
    return numbers, {
        int(row): f"feature {name!r} is {text[:_SHOWN]!r}; a number is needed" for row, text in zip(rows, shown, strict=True)
    }


def _with_nulls(table: pa.Table, wanted: Wanted) -> pa.Table:
    """Texts that stand for nothing become null. Of ids and what is passed through, only the empty one: NA is a name, too."""
    for index, name in enumerate(table.column_names):
        texts = table.column(index)
        if pa.types.is_string(texts.type):
            nulls = pa.array(_NULLS if name in wanted.categories else [""])
            table = table.set_column(
                index, name, pc.if_else(pc.is_in(texts, value_set=nulls), pa.scalar(None, pa.string()), texts)
            )
    return table
