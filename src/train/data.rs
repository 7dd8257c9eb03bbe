//! Tokenises a run's rows and builds their loss masks, once, before training.
//!
//! Owns the boundary between prompt and answer, the EOS token, the rows left out, the split into training and evaluation, and
//! the order of rows. Refuses to truncate: a row that is too long is left out and counted.
//!
//! * A conversation is rendered by the chat template: the prompt alone with the generation prompt, and prompt and answer
//!   together. The template's output is unchanged; nothing is added.
//! * Plain text gets the EOS token's text after the answer unless it ends with it, and the tokenizer's prefix once.
//! * The boundary is the longest prefix that the prompt shares with both full texts (TRL ≥ 1). Every answer token is in the
//!   mask, EOS included. There is no padding here, so none can be in a mask.
//!
//! ORPO's rows are tokenised the same way. TRL's ORPO trainer differs: it appends the EOS id again after a template that ends
//! in a newline, and truncates long answers.

mod encode;
mod example;
mod overlooked;
mod pack;
mod rows;
mod single;
mod unfinished;

pub use encode::Encode;
pub use example::{Example, TokeniseOptions, Tokenised};
pub(crate) use example::{common_prefix, remedies};
pub(crate) use overlooked::RULE as OVERLOOKED;
pub(crate) use pack::pack;
pub use rows::Rows;
pub(crate) use single::answer_mask;

use crate::domain::{Finding, PairId, PairRow, ReplyRef, Severity};
use crate::model::error::Error;
use crate::nn::policy::Row;
use crate::nn::random::{stream, uniform};
use overlooked::Overlooked;

/// Tokenises `rows`; calls `progress(done)` after every row.
///
/// # Errors
/// When the template or the tokenizer rejects a row; the message names it.
pub fn tokenise(
    encode: &dyn Encode,
    rows: &Rows,
    options: &TokeniseOptions,
    mut progress: impl FnMut(usize) -> Result<(), Error>,
) -> Result<Tokenised, Error> {
    let mut out = Tokenised::default();
    let mut boundary_shifts: Vec<PairId> = Vec::new();
    let mut overlooked = Overlooked::default();
    for i in 0..rows.len() {
        progress(i)?;
        if let Some(why) = overlooked.look(encode, rows, i) {
            out.drop(why);
            continue;
        }
        match rows {
            Rows::Pairs(rows) => pair(encode, i, &rows[i], options, &mut out, &mut boundary_shifts)?,
            Rows::Examples(rows) => single::example(encode, i, &rows[i], options, &mut out, &mut boundary_shifts)?,
            Rows::Ratings(rows) => single::rating(encode, i, &rows[i], options, &mut out, &mut boundary_shifts)?,
            Rows::Prompts(rows) => single::prompt(encode, i, &rows[i], options, &mut out)?,
        }
    }
    out.findings.extend(overlooked.findings());
    out.train_on_something();
    if let Rows::Ratings(_) = rows {
        single::add_mismatched_rows(&mut out.train, options.mismatch_block);
        single::add_mismatched_rows(&mut out.eval, options.mismatch_block);
    }
    if let (Rows::Examples(_), true) = (rows, options.packing) {
        out.train = pack(std::mem::take(&mut out.train), options.max_length);
    }
    progress(rows.len())?;
    if out.cut > 0 {
        out.findings.push(Finding {
            rule: "answers_cut".into(),
            step: 0,
            severity: Severity::Note,
            text: format!("{} cut at the limit of tokens: their end is read, not learned.", of_answers(out.cut)),
            remedy: "Sample with more max_new_tokens, or judge whole answers.".into(),
            pair: None,
        });
    }
    if let Some(first) = boundary_shifts.first() {
        out.findings.push(Finding {
            rule: "prompt_not_a_prefix".into(),
            step: 0,
            severity: Severity::Warn,
            text: format!(
                "In {} of {} rows the tokenised prompt is not a prefix of prompt + answer; tokens after the common prefix \
                 count as the answer.",
                boundary_shifts.len(),
                rows.len()
            ),
            remedy: "Check the chat template, or end plain prompts with a space or newline.".into(),
            pair: Some(first.clone()),
        });
    }
    Ok(out)
}

fn of_answers(n: usize) -> String {
    if n == 1 { "1 answer was".into() } else { format!("{n} answers were") }
}

/// A preference pair: two sequences, chosen then rejected.
fn pair(
    encode: &dyn Encode,
    i: usize,
    row: &PairRow,
    options: &TokeniseOptions,
    out: &mut Tokenised,
    boundary_shifts: &mut Vec<PairId>,
) -> Result<(), Error> {
    match unfinished::said_of(encode, &row.prompt, &[row.chosen_reply(), row.rejected_reply()]) {
        Ok(None) => {}
        Ok(Some(why)) => {
            out.unsaid(why, &row.pair);
            return Ok(());
        }
        Err(e) => return out.refused("pair", &row.pair, &e),
    }
    out.cut += [row.chosen_reply(), row.rejected_reply()].iter().filter(|answer| answer.cut).count();
    let encoded = || {
        Ok((
            encode.prompt(&row.prompt)?,
            encode.replied(&row.prompt, row.chosen_reply())?,
            encode.replied(&row.prompt, row.rejected_reply())?,
        ))
    };
    let (prompt, chosen, rejected) = match encoded() {
        Ok(encoded) => encoded,
        Err(e) => return out.refused("pair", &row.pair, &e),
    };
    let boundary = common_prefix(&prompt, &chosen).min(common_prefix(&prompt, &rejected));
    if boundary < prompt.len() {
        boundary_shifts.push(row.pair.clone());
    }
    if boundary == 0 {
        out.drop("no common prefix of prompt and answers");
    } else if chosen.len() == boundary || rejected.len() == boundary {
        out.drop("an empty answer");
    } else if chosen == rejected {
        out.drop("identical answers");
    } else {
        let side = |ids: Vec<u32>, whole: bool, answer: ReplyRef<'_>| -> Result<Row, Error> {
            let all = ids.len();
            if options.read_value {
                return Ok(Row { valued: vec![all - 1], ids, ..Row::default() });
            }
            let mut scored = single::answer_mask(encode, &row.prompt, answer, boundary, &ids)?;
            if whole {
                scored = (1..boundary).chain(scored).collect();
            }
            Ok(Row::new(ids, scored))
        };
        let sides = side(chosen, options.score_prompt, row.chosen_reply())
            .and_then(|chosen| Ok(vec![chosen, side(rejected, false, row.rejected_reply())?]));
        let rows = match sides {
            Ok(rows) => rows,
            Err(e) => return out.refused("pair", &row.pair, &e),
        };
        if !options.read_value && rows.iter().any(|side| side.scored.is_empty()) {
            out.drop("no tokens in the loss mask");
            return Ok(());
        }
        let example = Example {
            id: row.pair.clone(),
            prompt_id: options.split_id(&row.prompt_id, || row.prompt.derived_id()),
            row: i,
            prompt: boundary,
            rows,
            kl_rows: Vec::new(),
            margin: row.margin,
            agreed: row.agreed,
            desirable: true,
        };
        out.push(example, options, encode.context());
    }
    Ok(())
}

/// The order of `n` rows in an epoch: the file's, or a permutation determined by seed and epoch.
#[must_use]
pub fn order(n: usize, shuffle: bool, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    if shuffle {
        // Streams from 2^40 on belong to epochs; those of adapters and dropout are below.
        let mut rng = stream(seed, (1 << 40) + epoch);
        for i in (1..n).rev() {
            let j = (uniform(&mut rng) * (i + 1) as f64) as usize;
            order.swap(i, j.min(i));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Conversation, DroppedRows, Message, PromptBody, PromptId, SftRow, is_held_out};

    /// One token a byte; a conversation ends its turns with 0, plain text ends in 1.
    struct Bytes;

    impl Encode for Bytes {
        fn context(&self) -> usize {
            50
        }

        fn conversation(&self, talk: &Conversation, open: bool) -> Result<Vec<u32>, Error> {
            let turn = |m: &Message| {
                let name = m.role.bytes().next().map(u32::from);
                name.into_iter().chain(m.content.bytes().map(u32::from)).chain([0]).collect::<Vec<u32>>()
            };
            let mut ids: Vec<u32> = talk.iter().flat_map(turn).collect();
            if open {
                ids.push(u32::from(b'a'));
            }
            Ok(ids)
        }

        fn separator(&self, _turn: &[u32]) -> usize {
            0
        }

        fn ending(&self, turn: &[u32]) -> usize {
            usize::from(turn.last().is_some_and(|id| *id < 2))
        }

        fn opens_thought(&self, prompt: &PromptBody) -> Result<bool, Error> {
            Ok(matches!(prompt, PromptBody::Text(text) if text.ends_with("<think>")))
        }

        fn text(&self, text: &str) -> Result<Vec<u32>, Error> {
            Ok(text.bytes().map(u32::from).chain([1]).collect())
        }

        fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error> {
            if matches!(prompt, PromptBody::Text(text) if text == "odd") {
                return Err(Error::Template { model: "m".into(), why: "roles must alternate".into() });
            }
            Ok(match prompt {
                PromptBody::Text(t) => t.bytes().map(u32::from).collect(),
                PromptBody::Chat(talk) => self.conversation(talk, true)?,
            })
        }

        fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error> {
            let mut ids = self.prompt(prompt)?;
            // As in byte-pair tokenizers: a space merges with the next character.
            if answer.starts_with('!') {
                ids.pop();
                ids.push(999);
            }
            ids.extend(answer.bytes().map(u32::from));
            ids.push(1);
            Ok(ids)
        }
    }

    fn row(n: usize, prompt: &str, chosen: &str, rejected: &str) -> PairRow {
        PairRow {
            turns: None,
            pair: PairId::new(format!("q{n}")),
            prompt_id: PromptId::new(format!("p{n}")),
            prompt: PromptBody::Text(prompt.into()),
            chosen: chosen.into(),
            rejected: rejected.into(),
            margin: None,
            agreed: None,
            strategy: None,
            rater: None,
        }
    }

    fn tokens(rows: &[PairRow], max: usize) -> Tokenised {
        tokenise(&Bytes, &Rows::Pairs(rows.to_vec()), &TokeniseOptions::new(max), |_| Ok(())).unwrap()
    }

    #[test]
    fn the_answer_starts_after_the_prompt_and_includes_eos() {
        let out = tokens(&[row(1, "ab", "cd", "e")], 100);
        let pair = &out.train[0];
        assert_eq!((pair.prompt, &pair.rows[0].ids[..2]), (2, &[97, 98][..]));
        assert_eq!(pair.answer(0), [99, 100, 1]);
        assert_eq!(pair.answer(1), [101, 1]);
        assert_eq!((pair.rows[0].scored.as_slice(), pair.rows[1].scored.as_slice()), (&[2, 3, 4][..], &[2, 3][..]));
        assert_eq!((pair.longest(), pair.tokens()), (5, 9));
        assert!(out.findings.is_empty() && out.dropped.is_empty());
    }

    #[test]
    fn a_token_across_the_boundary_moves_it_for_both_sides() {
        let out = tokens(&[row(7, "ab ", "x", "!y")], 100);
        assert_eq!(out.train[0].prompt, 2);
        assert_eq!(out.train[0].answer(0), [32, 120, 1]);
        assert_eq!(out.train[0].answer(1)[0], 999);
        assert_eq!(out.findings[0].pair, Some(PairId::new("q7")));
        assert_eq!(out.findings[0].severity, Severity::Warn);
    }

    #[test]
    fn rows_that_are_too_long_are_counted_and_not_truncated() {
        let rows = [row(1, "ab", "cdefg", "e"), row(2, "ab", " ", "x"), row(3, "ab", "x", "x"), row(4, "ab", "x", "y")];
        let out = tokens(&rows, 7);
        let counts: Vec<_> = out.dropped.iter().map(|d| (d.reason.as_str(), d.count)).collect();
        assert_eq!(counts, [("longer than max_length", 1), ("an empty answer", 1), ("identical answers", 1)]);
        assert_eq!(out.train.len(), 1);
        assert_eq!(out.train[0].row, 3);
        let out = tokens(&[row(1, "ab", &"c".repeat(60), "e")], 100);
        assert_eq!(out.dropped[0].reason, "longer than the model's context");
    }

    #[test]
    fn a_row_that_the_template_refuses_is_left_out_in_its_words() {
        let out = tokens(&[row(1, "ab", "cd", "e"), row(2, "odd", "cd", "e"), row(3, "odd", "cd", "e")], 20);
        assert_eq!(out.train.len(), 1);
        let reason = "refused by the chat template: roles must alternate".to_owned();
        assert_eq!(out.dropped, [DroppedRows { reason, count: 2 }]);
        let finding = &out.findings[0];
        assert!(finding.rule == "template_refused" && finding.text.contains("roles must alternate"), "{finding:?}");
        assert_eq!((out.findings.len(), finding.pair.clone()), (1, Some(row(2, "odd", "", "").pair)));
    }

    #[test]
    fn an_answer_that_ends_inside_its_thought_is_left_out_and_said() {
        let rows = [
            row(1, "ab", "<think>\nOkay", "<think>\nfine\n</think>\n\nHello"),
            row(2, "ab", "<think>\nx\n</think>\n\n", "Hello"),
            row(3, "ab", "Hello", "<think>\nno"),
            row(4, "a<think>", "Okay", "fine\n</think>\n\nHello"),
            row(5, "a<think>", "So.\n</think>\nYes", "fine\n</think>\n\nHello"),
        ];
        let out = tokens(&rows, 100);
        let counts: Vec<_> = out.dropped.iter().map(|d| (d.reason.as_str(), d.count)).collect();
        assert_eq!(counts, [("an answer that ends inside its thought", 3), ("an empty answer", 1)]);
        assert_eq!(out.train.iter().map(|e| e.row).collect::<Vec<_>>(), [4]);
        let found: Vec<_> = out.findings.iter().map(|f| (f.rule.as_str(), f.pair.clone())).collect();
        assert_eq!(found, [("thought_unfinished", Some(PairId::new("q1")))]);
        // Turns that are learned are looked at; drafts that are not may end anywhere.
        let talk = |last: &str, train: bool| {
            let mut turn = Message::assistant(last);
            turn.more.set("train", train.into());
            let talk = vec![Message::new("user", "u"), turn, Message::new("user", "v"), Message::assistant("ok")];
            let body = crate::domain::SftBody::Messages(talk.into());
            SftRow { id: PairId::new("t1"), prompt_id: PromptId::new("p1"), body }
        };
        let texts = Rows::Examples(vec![talk("<think>\nhm", true), talk("<think>\nhm", false)]);
        let out = tokenise(&Bytes, &texts, &TokeniseOptions::new(90), |_| Ok(())).unwrap();
        assert_eq!((out.train.len(), out.dropped[0].count), (1, 1));
    }

    #[test]
    fn the_end_of_a_cut_answer_is_read_and_not_learned() {
        let mut cut = row(1, "ab", "cd", "e");
        cut.turns = Some(Box::new(crate::domain::PairTurns { chosen_cut: true, ..Default::default() }));
        let out = tokens(&[cut.clone()], 100);
        let pair = &out.train[0];
        assert_eq!((pair.answer(0), pair.rows[0].scored.as_slice()), (&[99, 100, 1][..], &[2, 3][..]));
        assert_eq!(pair.rows[1].scored, [2, 3]);
        assert_eq!((out.findings[0].rule.as_str(), out.findings.len()), ("answers_cut", 1));
        assert!(out.findings[0].text.starts_with("1 answer was cut"), "{:?}", out.findings);
        assert_eq!(tokens(&[row(1, "ab", "cd", "e")], 100).train[0].rows[0].scored, [2, 3, 4]);
    }

    #[test]
    fn not_every_row_is_held_out() {
        let rows: Vec<PairRow> = (1..=3).map(|i| row(i, &format!("ab{i}"), "cd", "e")).collect();
        let split = |fraction| {
            let options = TokeniseOptions { eval_fraction: fraction, ..TokeniseOptions::new(20) };
            tokenise(&Bytes, &Rows::Pairs(rows.clone()), &options, |_| Ok(())).unwrap()
        };
        let (some, all) = (split(0.0), split(0.999_999));
        assert_eq!((some.train.len(), some.eval.len(), some.findings.len()), (3, 0, 0));
        assert_eq!((all.train.len(), all.eval.len()), (1, 2));
        assert_eq!(all.findings[0].rule, "all_rows_held_out");
        // One prompt alone is never held out, and the prompt that trains is the last to be held out.
        let same: Vec<PairRow> = (1..=3).map(|i| row(i, "ab", "cd", "e")).collect();
        let options = TokeniseOptions { eval_fraction: 0.999_999, ..TokeniseOptions::new(20) };
        let same = tokenise(&Bytes, &Rows::Pairs(same), &options, |_| Ok(())).unwrap();
        assert_eq!((same.train.len(), same.eval.len(), same.findings.len()), (3, 0, 1));
        let kept = &all.train[0].prompt_id;
        let below =
            |id: &PromptId| (1..1000).map(|i| f64::from(i) / 1000.0).find(|f| is_held_out(id, *f)).unwrap_or(1.0);
        assert!(all.eval.iter().all(|e| below(&e.prompt_id) <= below(kept)));
    }

    #[test]
    fn turns_say_whether_they_are_learned_and_answers_of_several_turns_learn_the_assistants() {
        let mut draft = Message::assistant("DRAFT");
        draft.more.set("weight", 0.into());
        let talk = vec![Message::new("user", "u"), draft, Message::new("user", "v"), Message::assistant("ok")];
        let row = SftRow {
            id: PairId::new("t1"),
            prompt_id: PromptId::new("p1"),
            body: crate::domain::SftBody::Messages(talk.into()),
        };
        let learned = |row: &Row| row.scored.iter().filter_map(|at| char::from_u32(row.ids[*at])).collect::<String>();
        // Without `assistant_only_loss` too: the row says itself what it trains.
        let out = tokenise(&Bytes, &Rows::Examples(vec![row]), &TokeniseOptions::new(50), |_| Ok(())).unwrap();
        assert_eq!(learned(&out.train[0].rows[0]), "ok\0");
        let mut pair = row_of_turns();
        let several = vec![Message::assistant("x"), Message::new("user", "y"), Message::assistant("z")];
        pair.turns = Some(Box::new(crate::domain::PairTurns { chosen: several, ..Default::default() }));
        let out = tokenise(&Bytes, &Rows::Pairs(vec![pair.clone()]), &TokeniseOptions::new(50), |_| Ok(())).unwrap();
        assert_eq!(learned(&out.train[0].rows[0]), "x\0z\0");
        // An import refuses such a row; a log that holds one is named.
        pair.prompt = PromptBody::Text("q".into());
        let told = tokenise(&Bytes, &Rows::Pairs(vec![pair]), &TokeniseOptions::new(50), |_| Ok(())).unwrap_err();
        assert!(told.to_string().contains("pair q1: an answer of messages needs a prompt of messages"), "{told}");
    }

    fn row_of_turns() -> PairRow {
        PairRow { prompt: PromptBody::user("q"), ..row(1, "", "readable", "no") }
    }

    #[test]
    fn the_split_depends_on_the_prompt_alone() {
        let ids: Vec<_> = (0..2000).map(|i| PromptId::new(format!("p{i}"))).collect();
        let share = ids.iter().filter(|p| is_held_out(p, 0.2)).count();
        assert!((300..500).contains(&share), "{share} of 2000");
        assert!(ids.iter().all(|p| !is_held_out(p, 0.0)));
        assert!(
            ids.iter().filter(|p| is_held_out(p, 0.1)).all(|p| is_held_out(p, 0.2)),
            "a smaller share is part of a larger"
        );
    }

    #[test]
    fn the_order_is_a_permutation_by_seed_and_epoch() {
        let a = order(50, true, 1, 0);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_eq!(a, order(50, true, 1, 0));
        assert!(a != order(50, true, 1, 1) && a != order(50, true, 2, 0));
        assert_eq!(order(3, false, 1, 5), [0, 1, 2]);
    }
}
