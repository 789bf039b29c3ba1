"""Prices: those shipped, and those of the user on top."""

from pathlib import Path

import pytest

from halo.prices import PricesInvalid, read_prices
from planner.cost.gpus import GPUS


def test_every_profile_has_a_price() -> None:
    assert set(read_prices({})) == {gpu.name for gpu in GPUS}


def test_a_file_of_ones_own_comes_first_and_may_leave_kinds_out(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[usd_per_gpu_hour]\nA100 = 1\n"NVIDIA H100" = 2.25\n')
    prices = read_prices({"HALO_PRICES": str(tmp_path / "own.toml")})
    assert (prices["A100-80"], prices["H100"]) == (1.0, 2.25)
    assert prices["L4"] == read_prices({})["L4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[prices]\nH100 = 1\n", "is not one table [usd_per_gpu_hour]"),
        ("[usd_per_gpu_hour", "is not TOML"),
        ("[usd_per_gpu_hour]\nH1000 = 1\n", "no GPU kind is called 'H1000'"),
        ("[usd_per_gpu_hour]\nH100 = -1\n", "the price of H100 is -1"),
        ("[usd_per_gpu_hour]\nH100 = nan\n", "the price of H100 is nan"),
        ('[usd_per_gpu_hour]\nH100 = "cheap"\n', "the price of H100 is 'cheap'"),
    ],
)
def test_what_is_wrong_is_told_with_its_fix(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(PricesInvalid, match="these prices cannot be used") as raised:
        read_prices({"HALO_PRICES": str(tmp_path / "own.toml")})
    assert told in str(raised.value)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(PricesInvalid, match="cannot be read"):
        read_prices({"HALO_PRICES": "nowhere.toml"})
