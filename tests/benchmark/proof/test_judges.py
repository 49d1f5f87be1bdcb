"""Who is asked, and who need not be."""

from __future__ import annotations

from benchmark.proof.judges import Check, refusals
from edge_asr.errors import PackageError


class Checks:
    """Judges that refuse with these words, or not; they remember who was asked."""

    def __init__(self, **said: str) -> None:
        self.said, self.asked = said, list[str]()

    def checks(self) -> dict[str, Check]:
        return {judge: self._check(judge) for judge in self.said}

    def _check(self, judge: str) -> Check:
        def check() -> None:
            self.asked.append(judge)
            if self.said[judge]:
                raise PackageError(self.said[judge])

        return check


def test_golden_steps_imply_what_later_judges_say() -> None:
    judges = Checks(load="", verify="differs from its golden steps: so", export="")
    assert refusals(judges.checks()) == {
        "verify": "differs from its golden steps: so",
        "export": "as verify does",
    }
    assert judges.asked == ["load", "verify"]


def test_other_refusals_imply_nothing() -> None:
    judges = Checks(load="a mean of 3", verify="", export="")
    assert refusals(judges.checks()) == {"load": "a mean of 3"}
    assert judges.asked == ["load", "verify", "export"]


def test_all_are_asked_where_that_is_wanted() -> None:
    judges = Checks(load="differs from its golden steps", verify="", export="")
    assert list(refusals(judges.checks(), all_of_them=True)) == ["load"]
    assert judges.asked == ["load", "verify", "export"]
