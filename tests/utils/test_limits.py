import argparse

import pytest

from utils.limits import CHECKPOINT, LIMITS, PICTURE, Limit, add_limit_flags


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("times", [1.0004, 1.2, 1.5, 12345.678])
def test_the_flag_that_a_message_asks_for_is_enough(
    limit: Limit, times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    amount = limit.most * times
    monkeypatch.setenv(limit._variable, str(limit.most))
    assert limit.too_much(limit.most) is None
    what = limit.too_much(amount)
    assert what is not None
    _, _, flag = what.partition("; read it with ")
    parser = argparse.ArgumentParser()
    add_limit_flags(parser, *LIMITS)
    parser.parse_args(flag.split())
    assert limit.too_much(amount) is None


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much"])
def test_what_is_no_limit(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_limit_flags(parser, PICTURE, CHECKPOINT)
    with pytest.raises(SystemExit):
        parser.parse_args([PICTURE.flag, value])
    assert f"{value} is no number above 0" in capsys.readouterr().err
