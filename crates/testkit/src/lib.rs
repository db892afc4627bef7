//! Real processes under test: actions, scenarios, verdicts.
