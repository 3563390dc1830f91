"""Records come back to the bit, whatever happens to the end of the file."""

import numpy as np
import pytest

from fluidgrad.design.journal import Journal, read
from fluidgrad.errors import InputError

STUDY = {"start": [0.1, 0.2], "method": "SLSQP"}


def filled(folder, count=5):
    journal = Journal(folder, STUDY)
    rng = np.random.default_rng(0)
    for k in range(count):
        journal.append({"evaluation": k, "design": (rng.normal(size=3) * 10.0 ** rng.integers(-300, 300, 3)).tolist()})
    return journal


def test_numbers_come_back_to_the_bit(tmp_path):
    special = [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, np.nextafter(1, 2)]
    Journal(tmp_path, STUDY).append({"design": [float(x) for x in special]})
    back = Journal(tmp_path, STUDY).records[0]["design"]
    assert np.array(back).tobytes() == np.array(special).tobytes()
    assert filled(tmp_path / "b").records == Journal(tmp_path / "b", STUDY).records


@pytest.mark.parametrize("state", [np.arange(5.0), np.random.default_rng(1).normal(size=7)])
def test_states_come_back_to_the_bit(tmp_path, state):
    for folder in (tmp_path, None):
        journal = Journal(folder, STUDY)
        journal.save_state("000001", state)
        assert journal.state("000001").tobytes() == state.tobytes()
    assert [f.name for f in (tmp_path / "states").iterdir()] == ["000001.npz"]


def test_a_torn_last_record_is_dropped_wherever_it_was_cut(tmp_path):
    whole = filled(tmp_path)
    file = tmp_path / "journal.jsonl"
    text = file.read_bytes()
    last = text[:-1].rfind(b"\n") + 1
    for cut in range(last, len(text)):
        file.write_bytes(text[:cut])
        again = Journal(tmp_path, STUDY)
        assert again.records == whole.records[:-1]
        again.append(whole.records[-1])
        assert file.read_bytes() == text


def test_a_journal_cut_in_its_first_line_begins_anew(tmp_path):
    filled(tmp_path, 1)
    file = tmp_path / "journal.jsonl"
    text = file.read_bytes()
    file.write_bytes(text[:20])
    assert Journal(tmp_path, STUDY).records == []
    filled(tmp_path, 1)
    assert file.read_bytes() == text


def test_a_garbled_last_record_is_dropped_too(tmp_path):
    filled(tmp_path)
    file = tmp_path / "journal.jsonl"
    text = bytearray(file.read_bytes())
    text[-5] ^= 1
    file.write_bytes(text)
    assert len(Journal(tmp_path, STUDY).records) == 4


def test_a_damaged_record_before_the_last_is_refused(tmp_path):
    filled(tmp_path)
    file = tmp_path / "journal.jsonl"
    text = bytearray(file.read_bytes())
    text[text.index(b"\n") + 30] ^= 1
    file.write_bytes(text)
    with pytest.raises(InputError, match=r"record 2 of .*journal.jsonl is damaged; later records cannot be trusted"):
        Journal(tmp_path, STUDY)


def test_a_journal_of_another_study_is_refused(tmp_path):
    filled(tmp_path)
    with pytest.raises(InputError, match='is of another study: its method was "SLSQP", now "MMA"; the study it was begun with'):
        Journal(tmp_path, STUDY | {"method": "MMA"})


def test_nothing_is_written_before_there_is_something_to_write(tmp_path):
    Journal(tmp_path / "run", STUDY)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", [lambda f: f.unlink(), lambda f: f.write_bytes(b""), lambda f: f.write_bytes(f.read_bytes()[:-30])])
def test_a_damaged_state_is_refused(tmp_path, damage):
    journal = Journal(tmp_path, STUDY)
    journal.save_state("000003", np.arange(100.0))
    damage(tmp_path / "states" / "000003.npz")
    with pytest.raises(InputError, match=r"the state .*000003.npz cannot be read: .*; its journal needs it"):
        journal.state("000003")


def test_states_cannot_carry_objects(tmp_path):
    journal = Journal(tmp_path, STUDY)
    (tmp_path / "states").mkdir()
    np.savez(tmp_path / "states" / "000000.npz", state=np.array([{"a": 1}], object))
    with pytest.raises(InputError, match="cannot be read"):
        journal.state("000000")


def test_read_counts_the_whole_bytes(tmp_path):
    filled(tmp_path)
    file = tmp_path / "journal.jsonl"
    records, whole = read(file)
    assert len(records) == 6 and whole == file.stat().st_size
