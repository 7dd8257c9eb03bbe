//! Which of a prompt's candidates become pairs.
//!
//! Owns the strategy `random`. A prompt's candidates are shuffled by their numbers before any of them is written, and paired two
//! by two: so the pairs are known while their answers are still being written, and a verdict can name one. Once all have ended,
//! equal and empty ones drop out; the pairs whose answers both remain stay as they are, and the rest are paired in the same
//! order. That is a uniformly random matching of what remains: no candidate is labelled twice while another waits, and of n
//! candidates each pair is chosen with probability `⌊n/2⌋ / C(n, 2)`. For two or three candidates that is one random pair.

use crate::domain::{Completion, CompletionId, Pair, PairId, Prompt, RunId, hash64};
use crate::nn::random::{stream, uniform};

/// The id of a prompt's candidate.
pub(super) fn candidate_id(run: &RunId, prompt: &Prompt, number: usize) -> CompletionId {
    CompletionId::new(format!("{run}.{}.{number}", prompt.id))
}

/// The completions whose texts differ by more than surrounding whitespace, the first of each kept, and how many were dropped.
pub(super) fn distinct(completions: Vec<Completion>) -> (Vec<Completion>, usize) {
    let all = completions.len();
    let mut kept: Vec<Completion> = Vec::new();
    for c in completions {
        if kept.iter().all(|k| k.text.trim() != c.text.trim()) {
            kept.push(c);
        }
    }
    let same = all - kept.len();
    (kept, same)
}

/// The numbers of a prompt's `per_prompt` candidates in the order in which they are paired.
fn shuffled(prompt: &Prompt, per_prompt: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..per_prompt).collect();
    let mut rng = stream(seed, hash64(format!("{} pairs", prompt.id).as_bytes()));
    for i in (1..per_prompt).rev() {
        order.swap(i, (uniform(&mut rng) * (i + 1) as f64) as usize);
    }
    order
}

/// The numbers that become pairs where those in `remain` are left.
fn matching(order: &[usize], remain: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
    let (mut pairs, mut single) = (Vec::new(), Vec::new());
    for two in order.chunks(2) {
        match *two {
            [a, b] if remain(a) && remain(b) => pairs.push((a, b)),
            _ => single.extend(two.iter().copied().filter(|k| remain(*k))),
        }
    }
    pairs.extend(single.chunks_exact(2).map(|two| (two[0], two[1])));
    pairs
}

fn pair(run: &RunId, prompt: &Prompt, (a, b): (usize, usize), n: usize) -> Pair {
    Pair {
        id: PairId::new(format!("{}:{run}.{a}-{b}", prompt.id)),
        prompt: prompt.id.clone(),
        a: candidate_id(run, prompt, a),
        b: candidate_id(run, prompt, b),
        strategy: "random".into(),
        p_select: (n / 2) as f64 / (n * (n - 1) / 2) as f64,
    }
}

/// The pairs of a prompt while its candidates are being written, with the candidates' numbers. They stay if both remain.
pub(super) fn foreseen(run: &RunId, prompt: &Prompt, per_prompt: usize, seed: u64) -> Vec<((usize, usize), Pair)> {
    let numbers = matching(&shuffled(prompt, per_prompt, seed), |_| true);
    numbers.into_iter().map(|two| (two, pair(run, prompt, two, per_prompt))).collect()
}

/// The pairs of a prompt's finished candidates.
pub(super) fn pairs(run: &RunId, prompt: &Prompt, distinct: &[Completion], per_prompt: usize, seed: u64) -> Vec<Pair> {
    let remain = |k: usize| {
        let id = candidate_id(run, prompt, k);
        distinct.iter().any(|c| c.id == id)
    };
    let numbers = matching(&shuffled(prompt, per_prompt, seed), remain);
    numbers.into_iter().map(|two| pair(run, prompt, two, distinct.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Finish, LogProb, PromptBody, PromptId};
    use std::collections::{BTreeMap, BTreeSet};

    fn prompt() -> Prompt {
        let body = PromptBody::Text("Why?".into());
        Prompt { id: PromptId::new("p1"), body, source: "".into(), tags: [].into() }
    }

    fn completion(k: usize, text: &str) -> Completion {
        let id = candidate_id(&RunId::new("sample-1"), &prompt(), k);
        let (prompt, model) = (PromptId::new("p1"), String::new());
        let (tokens, finish) = (1, Finish::Eos);
        Completion {
            turns: [].into(),
            id,
            prompt,
            model: model.into(),
            text: text.into(),
            tokens,
            finish,
            sampler: None,
            logprob: LogProb::UNKNOWN,
        }
    }

    #[test]
    fn a_foreseen_pair_stays_if_both_of_its_answers_remain() {
        let run = RunId::new("sample-1");
        for seed in 0..200 {
            let before = foreseen(&run, &prompt(), 6, seed);
            let left: Vec<Completion> = [0, 1, 3, 4, 5].map(|k| completion(k, &format!("text {k}"))).into();
            let after: BTreeSet<PairId> = pairs(&run, &prompt(), &left, 6, seed).into_iter().map(|p| p.id).collect();
            let kept = before.iter().filter(|((a, b), _)| *a != 2 && *b != 2);
            assert!(kept.clone().count() == 2 && kept.clone().all(|(_, pair)| after.contains(&pair.id)), "{seed}");
            assert_eq!(after.len(), 2);
        }
        let all: Vec<Completion> = (0..4).map(|k| completion(k, &format!("text {k}"))).collect();
        let before: Vec<Pair> = foreseen(&run, &prompt(), 4, 9).into_iter().map(|(_, pair)| pair).collect();
        assert_eq!(pairs(&run, &prompt(), &all, 4, 9), before);
    }

    #[test]
    fn what_remains_is_matched_uniformly_and_no_candidate_twice() {
        let run = RunId::new("sample-1");
        // Candidates 1 and 4 of six drop out: each of the six pairs of the other four has probability 1/3.
        let left: Vec<Completion> = [0, 2, 3, 5].map(|k| completion(k, &format!("text {k}"))).into();
        let mut counts: BTreeMap<PairId, usize> = BTreeMap::new();
        let draws = 6_000;
        for seed in 0..draws {
            let found = pairs(&run, &prompt(), &left, 6, seed);
            let used: BTreeSet<&CompletionId> = found.iter().flat_map(|p| [&p.a, &p.b]).collect();
            assert!(found.len() == 2 && used.len() == 4);
            assert!((found[0].p_select - 1.0 / 3.0).abs() < 1e-12);
            for pair in found {
                let two = if pair.a < pair.b { (pair.a, pair.b) } else { (pair.b, pair.a) };
                *counts.entry(PairId::new(format!("{} {}", two.0, two.1))).or_default() += 1;
            }
        }
        assert_eq!(counts.len(), 6);
        // Five standard deviations of a count with p = 1/3.
        let (mean, sd) = (draws as f64 / 3.0, (draws as f64 * 2.0 / 9.0).sqrt());
        assert!(counts.values().all(|n| (*n as f64 - mean).abs() < 5.0 * sd), "{counts:?}");
    }

    #[test]
    fn equal_candidates_drop_out_and_one_makes_no_pair() {
        let run = RunId::new("sample-1");
        let (left, same) = distinct(vec![completion(0, "a"), completion(1, " a\n"), completion(2, "b")]);
        assert_eq!((left.len(), same), (2, 1));
        assert_eq!(pairs(&run, &prompt(), &left, 3, 1).len(), 1);
        assert!(pairs(&run, &prompt(), &left[..1], 3, 1).is_empty());
        assert!(pairs(&run, &prompt(), &[], 1, 1).is_empty() && foreseen(&run, &prompt(), 1, 1).is_empty());
    }
}
