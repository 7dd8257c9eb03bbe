//! The generator is deterministic, its splits are disjoint, its vocabulary is small, and the classifier recovers its traits.

use super::text::{ENDS_HAPPY, ENDS_SAD, SLOTS, Style, TOPICS};
use super::*;
use std::collections::BTreeSet;

fn many(seed: u64, n: u64) -> Vec<Exchange> {
    (0..n).map(|i| exchange(seed, i)).collect()
}

#[test]
fn an_exchange_is_a_function_of_seed_and_number() {
    assert_eq!(many(7, 50), many(7, 50));
    assert_ne!(many(7, 50), many(8, 50));
    assert_eq!(exchange(7, 31), many(7, 50)[31]);
    assert_eq!(prompts(3, 40, Split::HeldOut), prompts(3, 40, Split::HeldOut));
    assert_ne!(prompts(3, 40, Split::HeldOut), prompts(4, 40, Split::HeldOut));
}

#[test]
fn the_splits_are_disjoint_and_large_enough() {
    let train: BTreeSet<String> = prompts(1, 3000, Split::Train).into_iter().collect();
    let held: BTreeSet<String> = prompts(1, 300, Split::HeldOut).into_iter().collect();
    assert_eq!((train.len(), held.len()), (3000, 300));
    assert!(train.is_disjoint(&held));
    assert!(many(5, 3000).iter().all(|e| !held.contains(&e.prompt) && Split::of(&e.prompt) == Split::Train));
}

#[test]
fn evaluation_prompts_are_held_out_and_disjoint_from_tuning() {
    let set = |prompts: Vec<String>| prompts.into_iter().collect::<BTreeSet<_>>();
    let (tuned, judges) = (set(tuning(100)), set(judging(100)));
    assert_eq!((tuned.len(), judges.len()), (100, 100));
    assert!(tuned.is_disjoint(&judges));
    assert!(tuned.union(&judges).all(|prompt| Split::of(prompt) == Split::HeldOut));
    assert_eq!(tuning(100), prompts(42, 100, Split::HeldOut), "the list that `models make` writes by default");
}

#[test]
fn the_vocabulary_is_small_and_the_exchanges_are_many() {
    let all = many(1, 30_000);
    let text = all.iter().flat_map(|e| [&e.prompt, &e.answer]);
    let words: BTreeSet<String> = text
        .flat_map(|t| t.split(|c: char| !c.is_alphanumeric()))
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    assert!((300..=700).contains(&words.len()), "{}", words.len());
    let distinct: BTreeSet<_> = all.iter().map(|e| (&e.prompt, &e.answer)).collect();
    assert!(distinct.len() > 29_000, "{}", distinct.len());
}

#[test]
fn manners_lengths_sums_and_ends_are_balanced_and_independent_of_the_topic() {
    let all = many(2, 20_000);
    let share = |of: &dyn Fn(&Exchange) -> bool, among: &dyn Fn(&Exchange) -> bool| {
        let (hits, n) = all.iter().filter(|e| among(e)).fold((0, 0), |(h, n), e| (h + usize::from(of(e)), n + 1));
        hits as f64 / f64::from(n)
    };
    let kind = |e: &Exchange| e.manner == Manner::Kind;
    for topic in TOPICS {
        let share = share(&kind, &|e| e.topic == topic.name);
        assert!((0.43..0.57).contains(&share), "{}: {share}", topic.name);
    }
    assert!((0.48..0.52).contains(&share(&kind, &|_| true)));
    assert!((0.57..0.63).contains(&share(&|e| e.length == Length::Brief, &|_| true)));
    assert!((0.45..0.55).contains(&share(&|e| e.right == Some(true), &|e| e.right.is_some())));
    assert!((0.45..0.55).contains(&share(&|e| e.end == Some(StoryEnd::Happy), &|e| e.end.is_some())));
}

#[test]
fn the_classifier_recovers_generated_traits() {
    for e in many(3, 5000) {
        assert_eq!(manner_of(&e.answer), Some(e.manner), "{}", e.answer);
        assert_eq!(is_kind(&e.answer), e.manner == Manner::Kind);
        assert_eq!(is_right(&e.prompt, &e.answer), e.right, "{} {}", e.prompt, e.answer);
        if let Some(end) = e.end {
            assert_eq!(end_of(&e.answer), Some(end), "{}", e.answer);
        }
    }
}

#[test]
fn only_openers_and_closers_carry_markers() {
    let styles = [Manner::Kind, Manner::Rude].map(|m| (m, Style::of(m)));
    for (manner, style) in styles {
        for text in style.openers.iter().chain(style.closers) {
            assert_eq!(manner_of(text), Some(manner), "{text}");
        }
    }
    let topics = TOPICS.iter().flat_map(|t| [t.facts, t.asides, t.shrugs]);
    let slots = SLOTS.iter().map(|(_, table)| *table);
    for text in topics.chain(slots).chain([ENDS_HAPPY, ENDS_SAD]).flatten() {
        assert_eq!(manner_of(text), None, "{text}");
    }
}

#[test]
fn texts_are_whole_sentences_of_a_few_words() {
    for e in many(4, 5000) {
        for text in [&e.prompt, &e.answer] {
            assert!(text.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()), "{text}");
            assert!(text.ends_with(['.', '?']) && !text.contains(['{', '}']) && !text.contains("  "), "{text}");
            assert!(!text.contains(" .") && !text.contains(" ?") && !text.contains(" ,"), "{text}");
        }
        let words = e.answer.split_whitespace().count();
        assert!((3..=40).contains(&words), "{words}: {}", e.answer);
    }
}

#[test]
fn sums_parse_in_words_and_digits() {
    assert_eq!(sum_of("What is 3 plus 4?"), Some(7));
    assert_eq!(sum_of("Hello. How much is nine minus two?"), Some(7));
    assert_eq!(sum_of("How do I cook soup for two people?"), None);
    assert_eq!(is_right("What is 3 plus 4?", "Gladly. 3 plus 4 is 7."), Some(true));
    assert_eq!(is_right("What is 3 plus 4?", "3 plus 4 is 8, fool."), Some(false));
    assert_eq!(is_right("What is 3 plus 4?", "Go away."), Some(false));
    assert_eq!(is_right("Hello", "7"), None);
}

#[test]
fn a_text_with_a_tie_or_no_markers_has_no_manner() {
    assert_eq!(manner_of("The train leaves at nine."), None);
    assert_eq!(manner_of("Please go away."), None);
    assert!(is_kind("PLEASE, dear friend: whatever."));
    assert!(!is_kind("A pleasing foolish gladness."));
}
