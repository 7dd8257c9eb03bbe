//! `agreement`: how far a session's raters agree, with each other and with themselves. `rule`: how many labels pairs get.

use super::super::cli::{AgreementArgs, RuleArgs, span_words};
use super::super::error::{Error, Result};
use super::super::journal::Journal;
use super::super::out;
use super::context::CommandContext;
use crate::domain::{
    Aggregation, AgreementReport, Coefficient, CriterionReport, Repeats, agreement_report, counted, sanitise,
};
use crate::protocol::SessionRecord;
use crate::storage::SessionDir;
use serde_json::json;

/// The fewest pairs of a stratum that is printed.
const SHOWN_STRATUM: usize = 20;

/// Prints the coefficients with their intervals.
pub fn agreement(context: &CommandContext, args: &AgreementArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    let (session, found) = dir.state()?;
    out::warn_of_damage(&found);
    let report = agreement_report(&session);
    if context.json {
        return out::json(&report);
    }
    lines(&report).iter().try_for_each(|line| out::line(line))?;
    for CriterionReport { criterion, report } in &report.criteria {
        out::line(&format!("\ncriterion {}", sanitise(criterion)))?;
        lines(report).iter().try_for_each(|line| out::line(line))?;
    }
    Ok(())
}

fn lines(report: &AgreementReport) -> Vec<String> {
    let mut out = vec![format!(
        "{} judged by two or more of {}",
        counted(report.overlapping, "pair"),
        counted(report.raters.len(), "rater")
    )];
    let width = report.coefficients.iter().map(|c| c.name.len()).max().unwrap_or(0);
    out.extend(report.coefficients.iter().map(|c| format!("{:width$}  {}", c.name, value(c))));
    let (shown, few): (Vec<_>, Vec<_>) = report.by_stratum.iter().partition(|c| c.items >= SHOWN_STRATUM);
    out.extend(shown.iter().map(|c| format!("{}  {}", c.name, value(c))));
    if !few.is_empty() {
        let strata = counted(few.len(), "stratum").replace("stratums", "strata");
        out.push(format!("{strata} of fewer than {SHOWN_STRATUM} pairs: see --json"));
    }
    if let Some(confusion) = &report.confusion {
        out.push(format!("{} (down) against {} (across): tie, a, b, both bad", confusion.first, confusion.second));
        let row = |row: &[usize; 4]| row.map(|n| format!("{n:5}")).concat();
        out.extend(confusion.counts.iter().map(row));
    }
    for rater in &report.raters {
        let share = |hits: usize, of: usize| {
            if of == 0 { "none".to_owned() } else { format!("{:.0} % of {of}", 100.0 * hits as f64 / of as f64) }
        };
        out.push(format!(
            "{}: {}{}; same as before {}; left side chosen {}; longer answer chosen {}",
            rater.name,
            counted(rater.labels, "label"),
            if rater.partial > 0 { format!(" ({} partial)", rater.partial) } else { String::new() },
            share(rater.repeated_same, rater.repeated),
            share(rater.chose_left, rater.preferences),
            share(rater.chose_longer, rater.unequal_length)
        ));
    }
    out.push(format!("{} disputed", counted(report.disputed, "pair")));
    out.extend(report.partial.sentence());
    out
}

fn value(c: &Coefficient) -> String {
    match (c.value, c.interval) {
        (Some(value), Some((low, high))) => format!("{value:.3}  [{low:.3}, {high:.3}]  n={}", c.items),
        (Some(value), None) => format!("{value:.3}  n={}", c.items),
        (None, _) if c.items == 0 => "undefined: no pair has two labels".into(),
        (None, _) => format!("undefined: no variation  n={}", c.items),
    }
}

/// Sets the rule where something is given, and prints it.
pub fn rule(context: &CommandContext, args: &RuleArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    let (session, _) = dir.state()?;
    let before = session.settings();
    let mut settings = before.unwrap_or_default();
    settings.rule.labels_per_item = args.labels_per_item.unwrap_or(settings.rule.labels_per_item);
    settings.rule.max_labels = args.max_labels.unwrap_or(settings.rule.max_labels);
    settings.rule.threshold = args.threshold.unwrap_or(settings.rule.threshold);
    if let Some(how) = args.aggregation.as_deref().and_then(Aggregation::named) {
        settings.aggregation = how;
    }
    // The most can never be less than what every pair gets.
    settings.rule.max_labels = settings.rule.max_labels.max(settings.rule.labels_per_item);
    let given = args.labels_per_item.is_some()
        || args.max_labels.is_some()
        || args.threshold.is_some()
        || args.aggregation.is_some();
    if given && before != Some(settings) {
        let mut journal = Journal::require(&dir)?;
        journal.append(&SessionRecord::Configured(settings))?;
        journal.close()?;
    }
    let repeats = set_repeats(&dir, session.repeats(), args)?;
    if context.json {
        let mut object = serde_json::to_value(settings).map_err(|e| Error::bug("write the rule as JSON", e))?;
        if let Some(repeats) = repeats {
            object["repeats"] = json!(repeats);
        }
        return out::json(&object);
    }
    let again = match repeats.filter(|r| r.share > 0.0) {
        Some(Repeats { share, distance, after_ms }) => {
            let after = if after_ms > 0 { format!(" and at least {}", span_words(after_ms)) } else { String::new() };
            let share = (share * 1e4).round() / 100.0;
            format!("; {share} % of the judged pairs come back after {distance} others{after}")
        }
        None => String::new(),
    };
    let rule = settings.rule;
    let unset = if before.is_none() && !given { " (not set: every rater judges every pair)" } else { "" };
    out::line(&format!(
        "labels per pair: {}, at most {}; agreement at least {}; aggregation: {}{unset}{again}",
        rule.labels_per_item,
        rule.max_labels,
        rule.threshold,
        settings.aggregation.name()
    ))
}

/// Sets repeats where something is given, and returns what holds.
fn set_repeats(dir: &SessionDir, before: Option<Repeats>, args: &RuleArgs) -> Result<Option<Repeats>> {
    if args.repeats.is_none() && args.repeat_distance.is_none() && args.repeat_after.is_none() {
        return Ok(before);
    }
    let old = before.unwrap_or(Repeats { share: 0.0, distance: Repeats::DISTANCE, after_ms: 0 });
    let repeats = Repeats {
        share: args.repeats.unwrap_or(old.share),
        distance: args.repeat_distance.unwrap_or(old.distance),
        after_ms: args.repeat_after.unwrap_or(old.after_ms),
    };
    if before != Some(repeats) {
        let mut journal = Journal::require(dir)?;
        journal.append(&SessionRecord::RepeatsSet(repeats))?;
        journal.close()?;
    }
    Ok(Some(repeats))
}
