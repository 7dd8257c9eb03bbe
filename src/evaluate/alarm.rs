//! Alarms: how far a measure may get worse before it is a finding.
//!
//! Owns the table, a row each. The levels are this program's choice. Refuses intervals: an alarm speaks of the values seen, the
//! report says how sure they are.

use crate::domain::{EvalState, Finding, MeasureValues, Severity, measure_values, suite};

/// What an alarm looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AlarmKind {
    /// a − b is above the level.
    Rises,
    /// The value of a is below the level.
    Below,
}

/// A measure that raises an alarm.
struct AlarmRow {
    suite: &'static str,
    measure: &'static str,
    kind: AlarmKind,
    /// The level from which it warns, then that of the alarm.
    levels: &'static [f64],
    /// What it means, as the end of a sentence.
    means: &'static str,
    remedy: &'static str,
}

const FORGETS: &str = "a forgets what b could predict";
const FORGETS_REMEDY: &str = "Mix in SFT rows (mix_ratio=0.2), lower learning_rate, raise beta, or stop earlier.";
const NATS: &[f64] = &[0.05, 0.15];

const fn forgetting(measure: &'static str) -> AlarmRow {
    AlarmRow {
        suite: "forgetting",
        measure,
        kind: AlarmKind::Rises,
        levels: NATS,
        means: FORGETS,
        remedy: FORGETS_REMEDY,
    }
}

static ALARMS: &[AlarmRow] = &[
    forgetting("nats"),
    forgetting("nats/chat"),
    forgetting("nats/math"),
    forgetting("nats/code"),
    forgetting("nats/fiction"),
    AlarmRow {
        suite: "forgetting",
        measure: "top1",
        kind: AlarmKind::Below,
        levels: &[0.85],
        means: "a and b often disagree on the likeliest token",
        remedy: FORGETS_REMEDY,
    },
];

/// The alarms that the measurements raise.
pub(super) fn alarms(state: &EvalState, step: u64) -> Vec<Finding> {
    ALARMS.iter().filter_map(|row| raised(row, state, step)).collect()
}

fn raised(row: &AlarmRow, state: &EvalState, step: u64) -> Option<Finding> {
    let measure = suite(row.suite)?.measures.iter().find(|measure| measure.key == row.measure)?;
    let MeasureValues { a, b } = measure_values(state, row.suite, measure)?;
    let over = |level: &&f64| match row.kind {
        AlarmKind::Rises => a - b > **level,
        AlarmKind::Below => a < **level,
    };
    let (at, level) = row.levels.iter().enumerate().rfind(|(_, level)| over(level))?;
    let word = if at + 1 == row.levels.len() { "alarm" } else { "warning" };
    let seen = match row.kind {
        AlarmKind::Rises => format!("rises by {:.3} from {b:.3} to {a:.3}, above the {word} level {level}", a - b),
        AlarmKind::Below => format!("is {a:.3}, below the {word} level {level}"),
    };
    Some(Finding {
        rule: format!("{}_{word}", row.suite),
        step,
        severity: Severity::Warn,
        text: format!("{}: {} {seen}: {}.", row.suite, measure.title, row.means),
        remedy: row.remedy.into(),
        pair: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Contestant, ItemKey, Measurement, Metrics};

    fn state(nats: f64, top1: f64) -> EvalState {
        let mut state = EvalState::default();
        for side in Contestant::BOTH {
            let mut values = Metrics::new();
            values.set("tokens", 10.0);
            values.set("nats", 10.0 * if side == Contestant::A { 2.0 + nats } else { 2.0 });
            values.set("top1", 10.0 * if side == Contestant::A { top1 } else { 1.0 });
            let key = ItemKey { suite: "forgetting".into(), item: "chat-1".into(), seed: 0 };
            state.measure(Measurement { key, side, cluster: "c".into(), values });
        }
        state
    }

    #[test]
    fn an_alarm_names_the_level_that_was_passed() {
        assert_eq!(alarms(&state(0.0, 1.0), 1), []);
        assert_eq!(alarms(&state(-3.0, 0.9), 1), []);
        let found = alarms(&state(0.1, 0.9), 1);
        assert_eq!((found.len(), found[0].rule.as_str()), (1, "forgetting_warning"));
        assert!(
            found[0].text.contains("rises by 0.100 from 2.000 to 2.100, above the warning level 0.05"),
            "{found:?}"
        );
        let found = alarms(&state(0.2, 0.8), 1);
        assert_eq!(found.iter().map(|f| f.rule.as_str()).collect::<Vec<_>>(), ["forgetting_alarm"; 2]);
        assert!(found[1].text.contains("is 0.800, below the alarm level 0.85"), "{found:?}");
    }

    #[test]
    fn every_alarm_is_on_a_measure_that_exists() {
        for row in ALARMS {
            let suite = suite(row.suite).unwrap();
            assert!(suite.measures.iter().any(|m| m.key == row.measure), "{}/{}", row.suite, row.measure);
        }
    }
}
