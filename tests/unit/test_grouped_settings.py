"""One group of settings, for an adapter and for the default tracker."""

from __future__ import annotations

import pytest

import rootspan
from rootspan import ConfigurationError, Tracker
from rootspan.adapter import GroupedSettings


def hook(request: object) -> str:
    return "u1"


def test_it_is_divided_and_taken_back() -> None:
    before = rootspan.default_tracker.settings
    group = GroupedSettings("app.settings")
    assert group.options is None
    options = group.apply({"service_name": "shop", "record": "tracked", "user_id": None}, user_id=hook, event="visit")
    assert (options.record, options.user_id, options.event) == ("tracked", None, "visit")
    assert group.options is options
    assert rootspan.default_tracker.settings.resource_attributes["service.name"] == "shop"
    shop = rootspan.default_tracker.settings
    group.apply({"service_name": "shop"})
    assert rootspan.default_tracker.settings is shop  # nothing changed
    group.apply(None)
    assert rootspan.default_tracker.settings is before


def test_the_environment_is_read_only_where_the_group_leaves_it_to_that(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Tracker.default()
    monkeypatch.setattr("rootspan.adapter.grouped_settings.default_tracker", tracker)
    monkeypatch.setenv("ROOTSPAN_TIMEOUT", "never")
    group = GroupedSettings("app.settings")
    group.apply({"timeout": 5, "disabled": True})
    assert tracker.settings.timeout == 5
    assert not caplog.records
    group.apply({"timeout": 6, "disabled": True})
    group.apply(None)
    assert tracker.settings.disabled
    assert "its environment is wrong. ROOTSPAN_TIMEOUT" in caplog.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["record"], "app.settings has to be a dict.\nFix: "),
        ({"recrod": "all"}, "There is no setting 'recrod' for app.settings.\nFix: did you mean 'record'?"),
        ({5: "all"}, "There is no setting 5 for app.settings.\nFix: the names are agent_name, api_key, "),
        ({"service_name": 5}, "service_name= cannot be 5"),
        ({"tracker": Tracker(disabled=True), "tags": ["a"]}, "'tags' would change nothing.\nFix: Tracker(tags=...)"),
        ({"user_id": "os.path.no_such_function"}, "user_id='os.path.no_such_function', which cannot be imported: "),
        ({"tracker": "shop.tracker"}, "Fix: name a tracker, such as 'shop.tracking.tracker'"),
        ({"user_id": "not a path"}, "user_id='not a path', which cannot be imported: "),
    ],
)
def test_a_mistake_changes_nothing(given: object, said: str) -> None:
    before, group = rootspan.default_tracker.settings, GroupedSettings("app.settings")
    with pytest.raises(ConfigurationError) as raised:
        group.apply(given)
    assert said in str(raised.value)
    assert "Fix: " in str(raised.value)
    assert group.options is None
    assert rootspan.default_tracker.settings is before


def test_functions_may_be_named_by_their_paths() -> None:
    options = GroupedSettings("app.settings").apply({"user_id": "os.path.basename", "exclude": ["/health"]})
    assert options.user_id is __import__("os").path.basename
    assert GroupedSettings("x").apply({"exclude": "/static/*"}).exclude == "/static/*"
