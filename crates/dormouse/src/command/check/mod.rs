//! `check`: what this kernel and these privileges can do.

mod criu;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use dormouse_kernel::features::{Feature, Probe, State, probe_all};
use tracing::{error, warn};

use super::Done;
use crate::args::Check;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::persona::Persona;
use crate::terminal;
use criu::Answer;

/// The verdicts, in CRIU's words: scripts look for them.
const GOOD: &str = "Looks good.\n";
const MAYBE: &str = "Looks good but some kernel features are missing\n\
    which, depending on your process tree, may cause\n\
    dump or restore failure.\n";
const BAD: &str = "Does not look good.\n";

pub(super) fn run(persona: Persona, check: &Check) -> Result<Done, Failure> {
    if let Some(name) = &check.feature {
        return one(name, check.json);
    }
    let features = probe_all();
    for feature in features.iter().filter(|f| !f.state.is_yes()) {
        let (name, state) = (feature.name(), told(feature.state));
        if feature.needed() {
            error!("{name} is missing: {state}");
        } else if check.extra || check.all {
            warn!("{name} is missing: {state}");
        }
    }
    let verdict = Verdict::of(&features, check.extra || check.all);
    let out = match (check.json, persona) {
        (true, _) => json(&features, verdict),
        (false, Persona::Criu) => verdict.text().to_owned(),
        (false, Persona::Dormouse) => format!("{}\n\n{}", table(&features), verdict.text()),
    };
    terminal::print(&out).map_err(Failure::Output)?;
    Ok(Done::Exit(verdict.exit()))
}

/// What comes of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Maybe,
    Bad,
}

impl Verdict {
    /// What is optional counts only if it was asked for.
    fn of(features: &[Feature], extra: bool) -> Self {
        let missing = |needed| features.iter().any(|f| f.needed() == needed && !f.state.is_yes());
        match (missing(true), extra && missing(false)) {
            (true, _) => Self::Bad,
            (false, true) => Self::Maybe,
            (false, false) => Self::Good,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Good => GOOD,
            Self::Maybe => MAYBE,
            Self::Bad => BAD,
        }
    }

    const fn exit(self) -> Exit {
        match self {
            Self::Good => Exit::Success,
            Self::Maybe | Self::Bad => Exit::Missing,
        }
    }
}

fn told(state: State) -> String {
    match state {
        State::Yes => String::new(),
        State::No(reason) | State::Denied(reason) => reason.to_string(),
    }
}

const fn word(state: State) -> &'static str {
    match state {
        State::Yes => "yes",
        State::No(_) => "no",
        State::Denied(_) => "denied",
    }
}

fn table(features: &[Feature]) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["", "feature", "what for", "why not"]);
    for feature in features {
        let colour = match (feature.state, feature.needed()) {
            (State::Yes, _) => Color::Green,
            (State::No(_) | State::Denied(_), true) => Color::Red,
            (State::No(_) | State::Denied(_), false) => Color::Yellow,
        };
        let need = match (feature.state.is_yes(), feature.needed()) {
            (false, true) => " (needed)",
            _ => "",
        };
        table.add_row([
            Cell::new(word(feature.state)).fg(colour),
            Cell::new(feature.name()),
            Cell::new(feature.what_for()),
            Cell::new(format!("{}{need}", told(feature.state))),
        ]);
    }
    table.trim_fmt()
}

fn json(features: &[Feature], verdict: Verdict) -> String {
    let features: Vec<_> = features
        .iter()
        .map(|f| {
            serde_json::json!({
                "name": f.name(),
                "what_for": f.what_for(),
                "needed": f.needed(),
                "state": word(f.state),
                "reason": (!f.state.is_yes()).then(|| told(f.state)),
            })
        })
        .collect();
    let all = serde_json::json!({ "good": verdict == Verdict::Good, "features": features });
    format!("{all:#}\n")
}

/// `--feature NAME`: CRIU's names, and those of the table.
fn one(name: &str, json: bool) -> Result<Done, Failure> {
    let state = match criu::answer(name) {
        Some(Answer::Probe(probe)) => Ok(probe.state()),
        Some(Answer::Yes) => Ok(State::Yes),
        Some(Answer::NotYet(reason)) => Err(reason.to_owned()),
        None => match Probe::ALL.iter().find(|p| p.name() == name) {
            Some(probe) => Ok(probe.state()),
            None => return Err(Failure::UnknownFeature(name.to_owned())),
        },
    };
    let reason = match state {
        Ok(State::Yes) => None,
        Ok(state) => Some(told(state)),
        Err(reason) => Some(reason),
    };
    if json {
        let answer = serde_json::json!({
            "name": name,
            "supported": reason.is_none(),
            "reason": reason,
        });
        terminal::print(&format!("{answer:#}\n")).map_err(Failure::Output)?;
    } else if reason.is_none() {
        terminal::print(&format!("{name} is supported\n")).map_err(Failure::Output)?;
    }
    Ok(Done::Exit(match reason {
        None => Exit::Success,
        Some(reason) => {
            warn!("{name} is not supported: {reason}");
            Exit::Missing
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_kernel::Errno;
    use dormouse_kernel::features::Reason;

    const YES: State = State::Yes;
    const NO: State = State::No(Reason::Errno(Errno::NOSYS));
    const DENIED: State = State::Denied(Reason::Finding("the caller lacks it"));

    fn features(needed: State, optional: State) -> Vec<Feature> {
        vec![
            Feature { probe: Probe::Kcmp, state: needed },
            Feature { probe: Probe::SoftDirty, state: optional },
        ]
    }

    #[test]
    fn what_is_optional_counts_if_asked_for() {
        assert_eq!(Verdict::of(&features(YES, YES), true), Verdict::Good);
        assert_eq!(Verdict::of(&features(YES, NO), false), Verdict::Good);
        assert_eq!(Verdict::of(&features(YES, NO), true), Verdict::Maybe);
        assert_eq!(Verdict::of(&features(DENIED, YES), false), Verdict::Bad);
        assert_eq!(Verdict::of(&features(NO, NO), true), Verdict::Bad);
    }

    #[test]
    fn a_table_and_json_tell_all() {
        let features = features(DENIED, NO);
        insta::assert_snapshot!(format!("{}\n{}", table(&features), json(&features, Verdict::Bad)));
    }
}
