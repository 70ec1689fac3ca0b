"""Options in messages are spelled as the caller spells them."""

import pytest

from tsattn import messages


def test_python_names_arguments():
    assert messages.option("decimal", ",") == "decimal=','"
    told = messages.advice("pass {decimal=,}", "name it by {timestamp}")
    assert told == "pass `decimal=','`, or name it by `timestamp=...`"


def test_a_command_names_its_own_options_quoted_for_a_shell():
    with messages.command({"exclude": "--data.exclude", "target": "--data.target"}):
        assert messages.option("exclude", "Unnamed: 4") == "--data.exclude 'Unnamed: 4'"
        assert messages.option("target") == "--data.target"
        assert messages.advice("pass {exclude=#1}") == "pass `--data.exclude '#1'`"
    assert not messages.on_command_line()


def test_a_way_that_the_command_does_not_have_is_not_proposed():
    with messages.command({"timestamp": "--timestamp"}):
        told = messages.advice("leave it out by {exclude}", "name the times by {timestamp}")
        assert told == "name the times by `--timestamp`"
        with pytest.raises(KeyError):
            messages.option("exclude")
