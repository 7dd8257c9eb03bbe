//! The strategies, a row each.

#![expect(clippy::unnecessary_wraps, reason = "the functions of a table have one type")]

use super::{
    Against, CandidatePair, Chosen, HashMap, HashSet, Pool, SelectError, SelectOptions, Strategy, StratumKey,
    StratumSize, allocate, hash64,
};

/// The table.
pub const STRATEGIES: &[Strategy] = &[
    Strategy {
        name: "random",
        help: "every pair with the same probability",
        scores: false,
        represents: true,
        choose: random,
    },
    Strategy {
        name: "stratified",
        help: "random within strata (--by), so many of each (--quota proportional, equal, neyman or NAME=N)",
        scores: false,
        represents: true,
        choose: stratified,
    },
    Strategy {
        name: "hard_negatives",
        help: "the best answer against the runner-up, the middle one, or within a band of score gaps (--against)",
        scores: true,
        represents: false,
        choose: hard_negatives,
    },
    Strategy {
        name: "best_worst",
        help: "the best answer against the worst, largest score gaps first",
        scores: true,
        represents: false,
        choose: best_worst,
    },
    Strategy {
        name: "close",
        help: "of each prompt the two answers whose scores are nearest, smallest gaps first",
        scores: true,
        represents: false,
        choose: close,
    },
    Strategy {
        name: "uncertain",
        help: "the pairs of which the scores are least sure, however many of a prompt",
        scores: true,
        represents: false,
        choose: uncertain,
    },
    Strategy {
        name: "diverse",
        help: "one pair each of prompts that differ most in their wording",
        scores: false,
        represents: false,
        choose: diverse,
    },
    Strategy {
        name: "mix",
        help: "50 % stratified random, 30 % best_worst, 20 % close",
        scores: true,
        represents: true,
        choose: mix,
    },
];

/// Shares of the deterministic parts of `mix`; the rest is random.
const MIX_BEST_WORST: f64 = 0.3;
const MIX_CLOSE: f64 = 0.2;
/// Width of the hashed trigram vectors by which prompts are compared.
const WIDTH: usize = 256;

fn random(pool: &Pool, options: &SelectOptions) -> Result<Vec<Chosen>, SelectError> {
    Ok(drawn(pool, &pool.pairs, options.limit.unwrap_or(usize::MAX), options.seed, "random"))
}

/// `n` of these pairs at random.
fn drawn(pool: &Pool, pairs: &[CandidatePair], n: usize, seed: u64, strategy: &'static str) -> Vec<Chosen> {
    let n = n.min(pairs.len());
    let p_select = n as f64 / pairs.len().max(1) as f64;
    let one = |pair| Chosen { pair, strategy, p_select };
    pool.shuffled(pairs, seed).into_iter().take(n).map(one).collect()
}

fn stratified(pool: &Pool, options: &SelectOptions) -> Result<Vec<Chosen>, SelectError> {
    if options.by.is_empty() {
        let names: Vec<&str> = StratumKey::ALL.iter().map(|(name, _)| *name).collect();
        return Err(SelectError::NoKey("stratified", names.join(", ")));
    }
    within_strata(pool, options, &HashSet::new(), options.limit.unwrap_or(usize::MAX), "stratified")
}

/// `n` pairs at random within strata, without those `taken`.
fn within_strata(
    pool: &Pool,
    options: &SelectOptions,
    taken: &HashSet<CandidatePair>,
    n: usize,
    strategy: &'static str,
) -> Result<Vec<Chosen>, SelectError> {
    let mut strata = pool.strata(&options.by);
    for pairs in strata.values_mut() {
        pairs.retain(|pair| !taken.contains(pair));
    }
    let judged = |name: &String| pool.judged.get(name).copied().unwrap_or_default();
    let sizes: Vec<StratumSize> = strata
        .iter()
        .map(|(name, p)| StratumSize { name: name.clone(), size: p.len(), judged: judged(name) })
        .collect();
    let quotas = allocate(&sizes, n, &options.allocation)?;
    let each = strata.values().zip(quotas);
    Ok(each.flat_map(|(pairs, quota)| drawn(pool, pairs, quota, options.seed, strategy)).collect())
}

/// Each prompt's scored answers, worst first, by the prompt's position.
fn ranked(pool: &Pool) -> Vec<Vec<usize>> {
    let mut of_prompt = vec![Vec::new(); pool.prompts.len()];
    for (i, answer) in pool.answers.iter().enumerate() {
        if answer.score.is_some_and(f64::is_finite) {
            of_prompt[answer.prompt].push(i);
        }
    }
    let score = |i: &usize| pool.answers[*i].score.unwrap_or(0.0);
    for answers in &mut of_prompt {
        answers.sort_by(|i, j| score(i).total_cmp(&score(j)).then(i.cmp(j)));
    }
    of_prompt
}

/// The pair of these two answers, where it may be formed.
fn formed(known: &HashSet<CandidatePair>, i: usize, j: usize) -> Option<CandidatePair> {
    let both = [CandidatePair { a: i, b: j }, CandidatePair { a: j, b: i }];
    both.into_iter().find(|pair| known.contains(pair))
}

/// Chosen without chance, in this order.
fn certain(pairs: Vec<CandidatePair>, limit: Option<usize>, strategy: &'static str) -> Vec<Chosen> {
    let one = |pair| Chosen { pair, strategy, p_select: 1.0 };
    pairs.into_iter().take(limit.unwrap_or(usize::MAX)).map(one).collect()
}

/// Pairs with scores in order of their gap; `sign` −1 for the largest first. Equal gaps in random order.
fn by_gap(pool: &Pool, pairs: Vec<CandidatePair>, sign: f64, seed: u64) -> Vec<CandidatePair> {
    let mut gaps: Vec<(f64, u64, CandidatePair)> =
        pairs.into_iter().filter_map(|p| Some((sign * pool.gap(p)?.abs(), pool.draw(p, seed), p))).collect();
    gaps.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)).then(x.2.cmp(&y.2)));
    gaps.into_iter().map(|(.., pair)| pair).collect()
}

fn hard_negatives(pool: &Pool, options: &SelectOptions) -> Result<Vec<Chosen>, SelectError> {
    let known: HashSet<CandidatePair> = pool.pairs.iter().copied().collect();
    let pairs = match options.against {
        Against::Band(low, high) => {
            let inside = |p: &CandidatePair| pool.gap(*p).is_some_and(|gap| (low..=high).contains(&gap.abs()));
            pool.pairs.iter().copied().filter(inside).collect()
        }
        Against::RunnerUp | Against::Middle => {
            let against = |answers: &Vec<usize>| {
                let [others @ .., best] = answers.as_slice() else { return None };
                let other = match options.against {
                    Against::Middle => others.get(others.len() / 2)?,
                    _ => others.last()?,
                };
                formed(&known, *best, *other)
            };
            ranked(pool).iter().filter_map(against).collect()
        }
    };
    Ok(certain(by_gap(pool, pairs, 1.0, options.seed), options.limit, "hard_negatives"))
}

fn best_worst(pool: &Pool, options: &SelectOptions) -> Result<Vec<Chosen>, SelectError> {
    let known: HashSet<CandidatePair> = pool.pairs.iter().copied().collect();
    let ends = |answers: &Vec<usize>| match answers.as_slice() {
        [worst, .., best] => formed(&known, *best, *worst),
        _ => None,
    };
    let pairs = ranked(pool).iter().filter_map(ends).collect();
    Ok(certain(by_gap(pool, pairs, -1.0, options.seed), options.limit, "best_worst"))
}

fn close(pool: &Pool, options: &SelectOptions) -> Result<Vec<Chosen>, SelectError> {
    let mut prompts = HashSet::new();
    let all = by_gap(pool, pool.pairs.clone(), 1.0, options.seed);
    let nearest = all.into_iter().filter(|pair| prompts.insert(pool.answers[pair.a].prompt)).collect();
    Ok(certain(nearest, options.limit, "close"))
}

fn uncertain(pool: &Pool, options: &SelectOptions) -> Result<Vec<Chosen>, SelectError> {
    // The entropy of σ(gap) falls with the gap: its order is the gap's.
    Ok(certain(by_gap(pool, pool.pairs.clone(), 1.0, options.seed), options.limit, "uncertain"))
}

fn diverse(pool: &Pool, options: &SelectOptions) -> Result<Vec<Chosen>, SelectError> {
    let mut of_prompt: HashMap<usize, CandidatePair> = HashMap::new();
    let mut prompts = Vec::new();
    for pair in pool.shuffled(&pool.pairs, options.seed) {
        let prompt = pool.answers[pair.a].prompt;
        if of_prompt.insert(prompt, pair).is_none() {
            prompts.push(prompt);
        }
    }
    let vectors: Vec<Vec<f32>> = prompts.iter().map(|p| trigrams(&pool.prompts[*p].text)).collect();
    let limit = options.limit.unwrap_or(usize::MAX).min(prompts.len());
    // Greedy farthest point (Gonzalez 1985): next comes the prompt that is least like all before it.
    let mut nearest = vec![f32::NEG_INFINITY; prompts.len()];
    let mut out = Vec::with_capacity(limit);
    let mut next = 0;
    while out.len() < limit {
        out.push(of_prompt[&prompts[next]]);
        nearest[next] = f32::INFINITY;
        for (like, vector) in nearest.iter_mut().zip(&vectors) {
            let dot: f32 = vector.iter().zip(&vectors[next]).map(|(x, y)| x * y).sum();
            *like = like.max(dot);
        }
        next = (0..prompts.len()).min_by(|i, j| nearest[*i].total_cmp(&nearest[*j])).unwrap_or(0);
    }
    Ok(certain(out, None, "diverse"))
}

/// A text as a vector of hashed character trigrams, of length 1.
fn trigrams(text: &str) -> Vec<f32> {
    let chars: Vec<char> = text.to_lowercase().chars().collect();
    let mut out = vec![0.0f32; WIDTH];
    for three in chars.windows(3) {
        let hash = hash64(three.iter().collect::<String>().as_bytes());
        out[(hash % WIDTH as u64) as usize] += 1.0;
    }
    let length = out.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    for x in &mut out {
        *x /= length;
    }
    out
}

fn mix(pool: &Pool, options: &SelectOptions) -> Result<Vec<Chosen>, SelectError> {
    let limit = options.limit.unwrap_or(pool.pairs.len()).min(pool.pairs.len());
    let part = |share: f64| SelectOptions { limit: Some((limit as f64 * share).round() as usize), ..options.clone() };
    let mut out = best_worst(pool, &part(MIX_BEST_WORST))?;
    let mut taken: HashSet<CandidatePair> = out.iter().map(|c| c.pair).collect();
    let nearest = close(pool, &SelectOptions { limit: None, ..options.clone() })?;
    let wanted = part(MIX_CLOSE).limit.unwrap_or(0);
    out.extend(nearest.into_iter().filter(|c| taken.insert(c.pair)).take(wanted));
    let taken: HashSet<CandidatePair> = out.iter().map(|c| c.pair).collect();
    let rest = limit.saturating_sub(out.len());
    out.extend(within_strata(pool, options, &taken, rest, "random")?);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::*;

    /// `n` prompts with `k` answers each; scores by a hash, so that they are of no order.
    fn pool(n: usize, k: usize) -> Pool {
        let mut out = Pool::default();
        for prompt in 0..n {
            let tags = vec![["math", "chat", "code"][prompt % 3].to_owned()];
            let id = format!("p{prompt}");
            let text = format!("prompt number {prompt} about {}", tags[0]);
            out.prompts.push(PromptFacts { id, text, tags, source: "test".into(), words: 5, turns: 1 });
            let first = out.answers.len();
            for i in 0..k {
                let hash = mix64((prompt * 31 + i) as u64);
                out.answers.push(Candidate {
                    id: format!("s1.p{prompt}.{i}"),
                    prompt,
                    model: if i % 2 == 0 { "base".into() } else { "tuned".into() },
                    score: Some((hash % 1000) as f64 / 100.0),
                    chars: (hash % 777) as usize,
                });
            }
            for a in first..first + k {
                out.pairs.extend((a + 1..first + k).map(|b| CandidatePair { a, b }));
            }
        }
        out
    }

    fn choose(name: &str, pool: &Pool, options: &SelectOptions) -> Vec<Chosen> {
        Strategy::named(name).unwrap().choose(pool, options).unwrap()
    }

    fn limited(limit: usize) -> SelectOptions {
        SelectOptions { limit: Some(limit), by: vec![StratumKey::Tag], seed: 3, ..SelectOptions::default() }
    }

    #[test]
    fn every_strategy_chooses_what_was_asked_for_and_no_pair_twice() {
        let pool = pool(40, 4);
        for strategy in STRATEGIES {
            let found = strategy.choose(&pool, &limited(25)).unwrap();
            let distinct: HashSet<_> = found.iter().map(|c| c.pair).collect();
            assert_eq!((found.len(), distinct.len()), (25, 25), "{}", strategy.name);
            assert_eq!(found, strategy.choose(&pool, &limited(25)).unwrap(), "{}", strategy.name);
            let all = SelectOptions { limit: None, ..limited(0) };
            assert!(strategy.choose(&pool, &all).unwrap().len() <= pool.pairs.len());
        }
    }

    #[test]
    fn without_scores_the_strategies_that_compare_them_say_so() {
        let mut pool = pool(4, 3);
        pool.answers.iter_mut().for_each(|a| a.score = None);
        for strategy in STRATEGIES {
            assert_eq!(strategy.choose(&pool, &limited(2)).is_err(), strategy.scores, "{}", strategy.name);
        }
        let by = SelectOptions { by: Vec::new(), ..limited(2) };
        assert!(Strategy::named("stratified").unwrap().choose(&pool, &by).unwrap_err().to_string().contains("--by"));
    }

    #[test]
    fn what_is_chosen_is_what_the_names_say() {
        let pool = pool(30, 5);
        let score = |i: usize| pool.answers[i].score.unwrap();
        let of = |prompt: usize| {
            let mut s: Vec<f64> = pool.answers.iter().filter(|a| a.prompt == prompt).filter_map(|a| a.score).collect();
            s.sort_by(f64::total_cmp);
            s
        };
        for c in choose("best_worst", &pool, &SelectOptions::default()) {
            let s = of(pool.answers[c.pair.a].prompt);
            assert_eq!((score(c.pair.a) - score(c.pair.b)).abs(), s[4] - s[0]);
        }
        for (against, other) in [(Against::RunnerUp, 3), (Against::Middle, 2)] {
            let found = choose("hard_negatives", &pool, &SelectOptions { against, ..SelectOptions::default() });
            assert_eq!(found.len(), 30);
            for c in found {
                let s = of(pool.answers[c.pair.a].prompt);
                assert_eq!((score(c.pair.a) - score(c.pair.b)).abs(), s[4] - s[other]);
            }
        }
        let band = SelectOptions { against: Against::Band(1.0, 2.0), ..SelectOptions::default() };
        let inside = choose("hard_negatives", &pool, &band);
        assert!(!inside.is_empty());
        assert!(inside.iter().all(|c| (1.0..=2.0).contains(&(score(c.pair.a) - score(c.pair.b)).abs())));
        let gaps = |found: Vec<Chosen>| found.iter().map(|c| pool.gap(c.pair).unwrap().abs()).collect::<Vec<_>>();
        assert!(gaps(choose("close", &pool, &SelectOptions::default())).is_sorted());
        assert!(gaps(choose("uncertain", &pool, &limited(40))).is_sorted());
    }

    #[test]
    fn strata_get_their_quotas() {
        let pool = pool(30, 4);
        let equal = SelectOptions { allocation: Allocation::Equal, ..limited(30) };
        let found = choose("stratified", &pool, &equal);
        for tag in ["math", "chat", "code"] {
            let n = found.iter().filter(|c| pool.prompts[pool.answers[c.pair.a].prompt].tags[0] == tag).count();
            assert_eq!(n, 10, "{tag}");
        }
        assert!(found.iter().all(|c| (c.p_select - 10.0 / 60.0).abs() < 1e-12));
        for key in StratumKey::ALL {
            let strata = pool.strata(&[key.1]);
            assert_eq!(strata.values().map(Vec::len).sum::<usize>(), pool.pairs.len(), "{}", key.0);
        }
        assert_eq!(pool.strata(&[StratumKey::ScoreGap]).len(), 4);
        assert_eq!(pool.strata(&[StratumKey::LengthGap]).len(), 3);
    }

    #[test]
    fn a_grown_pool_keeps_the_random_order_of_what_it_had() {
        let (small, large) = (pool(10, 3), pool(20, 3));
        let order = |pool: &Pool| {
            let found = choose("random", pool, &SelectOptions::default());
            found.into_iter().map(|c| c.pair).filter(|p| p.b < 30).collect::<Vec<_>>()
        };
        assert_eq!(order(&small), order(&large));
    }

    #[test]
    fn diverse_prefers_other_wording() {
        let mut pool = pool(6, 2);
        for (i, text) in [
            "how do I boil an egg",
            "how do I boil two eggs",
            "how do I boil an egg?",
            "prove that π is irrational",
            "how do I boil eggs",
            "how do I boil the egg",
        ]
        .iter()
        .enumerate()
        {
            pool.prompts[i].text = (*text).to_owned();
        }
        for seed in 0..20 {
            let found = choose("diverse", &pool, &SelectOptions { seed, ..limited(2) });
            assert!(found.iter().any(|c| pool.answers[c.pair.a].prompt == 3), "{seed}");
        }
    }

    /// The weighted mean over what `mix` chose estimates the mean over the pool.
    #[test]
    fn the_weighted_estimate_under_mix_is_unbiased() {
        let pool = pool(60, 4);
        // Something that depends on the gap, so that an unweighted mean is biased.
        let value = |p: CandidatePair| pool.gap(p).unwrap().abs();
        let truth = pool.pairs.iter().map(|p| value(*p)).sum::<f64>() / pool.pairs.len() as f64;
        let draws = 2000u64;
        let (mut sum, mut squares, mut plain) = (0.0, 0.0, 0.0);
        for seed in 0..draws {
            let found = choose("mix", &pool, &SelectOptions { seed, ..limited(60) });
            let total: f64 = found.iter().map(|c| value(c.pair) / c.p_select).sum();
            let estimate = total / pool.pairs.len() as f64;
            plain += found.iter().map(|c| value(c.pair)).sum::<f64>() / found.len() as f64 / draws as f64;
            sum += estimate;
            squares += estimate * estimate;
        }
        let mean = sum / draws as f64;
        let error = ((squares / draws as f64 - mean * mean) / draws as f64).sqrt();
        eprintln!("truth {truth:.4}, weighted {mean:.4} ± {:.4}, unweighted {plain:.4}", 1.96 * error);
        assert!((mean - truth).abs() < 3.0 * error, "{mean} ± {error} is not {truth}");
        assert!((plain - truth).abs() > 10.0 * error, "the unweighted mean is meant to be biased: {plain}");
    }

    /// Neyman allocation lowers the variance of the stratified mean by the factor that its formula predicts.
    #[test]
    fn neyman_beats_proportional_by_the_predicted_factor() {
        let sizes = [500usize, 500];
        let p: [f64; 2] = [0.98, 0.5];
        let variance = |n: &[usize]| -> f64 { (0..2).map(|h| 0.25 * p[h] * (1.0 - p[h]) / n[h] as f64).sum() };
        let strata: Vec<StratumSize> =
            (0..2).map(|h| StratumSize { name: h.to_string(), size: sizes[h], judged: (p[h] * 1e6, 1e6) }).collect();
        let of = |how| allocate(&strata, 100, &how).unwrap();
        let (even, best) = (of(Allocation::Proportional), of(Allocation::Neyman));
        let (mut even_square, mut best_square) = (0.0, 0.0);
        let mut state = 1u64;
        let mut uniform = || {
            state = mix64(state);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut estimate = |n: &[usize]| -> f64 {
            (0..2).map(|h| 0.5 * (0..n[h]).filter(|_| uniform() < p[h]).count() as f64 / n[h] as f64).sum()
        };
        let truth = 0.5 * (p[0] + p[1]);
        for _ in 0..20_000 {
            even_square += (estimate(&even) - truth).powi(2);
            best_square += (estimate(&best) - truth).powi(2);
        }
        let (found, predicted) = (even_square / best_square, variance(&even) / variance(&best));
        eprintln!("proportional/Neyman variance {found:.3}, predicted {predicted:.3}");
        assert!(predicted > 1.2 && (found / predicted - 1.0).abs() < 0.05, "{found} {predicted}");
    }
}
