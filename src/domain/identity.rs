//! Words in an answer that name a model or its maker, and so break a blind comparison.
//!
//! The list is that of FastChat's arena (its messages of failed requests left out) with names that came later. A word
//! counts whole, in any case: "bombard" is not "Bard".

use unicode_segmentation::UnicodeSegmentation;

/// The names, in lower case; one may be several words.
const NAMES: &[&str] = &[
    "01.ai",
    "ai2",
    "alibaba",
    "alibaba cloud",
    "anthropic",
    "bard",
    "chatglm",
    "chatgpt",
    "claude",
    "deepmind",
    "deepseek",
    "gemini",
    "gemma",
    "google",
    "gpt",
    "grok",
    "hugging face",
    "keg lab",
    "koala",
    "laion",
    "lamda",
    "llama",
    "lmsys",
    "meta ai",
    "mistral",
    "moonshot",
    "olmo",
    "open assistant",
    "openai",
    "palm",
    "qianwan",
    "qwen",
    "smollm",
    "tülu",
    "uc berkeley",
    "vicuna",
    "xai",
    "zhipu",
];

/// The names in a text, each once, in the order of the list. Empty: the text names nobody.
#[must_use]
pub fn identity_words(text: &str) -> Vec<&'static str> {
    let lower = text.to_lowercase();
    let bounds: Vec<usize> = lower.split_word_bound_indices().map(|(at, _)| at).chain([lower.len()]).collect();
    let bound = |at: usize| bounds.binary_search(&at).is_ok();
    // A version may follow a name at once, as in "gpt-4", "qwen2.5" or "llama3".
    let ends = |at: usize| bound(at) || lower[at..].starts_with(|c: char| c.is_ascii_digit());
    let named = |name: &&str| lower.match_indices(*name).any(|(at, _)| bound(at) && ends(at + name.len()));
    NAMES.iter().copied().filter(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole_in_any_case_with_their_versions() {
        assert_eq!(identity_words("I am ChatGPT, made by OpenAI."), ["chatgpt", "openai"]);
        assert_eq!(
            identity_words("as Qwen2.5, llama3 and GPT-4 (UC Berkeley)"),
            ["gpt", "llama", "qwen", "uc berkeley"]
        );
        assert_eq!(identity_words("Tülu and 01.AI"), ["01.ai", "tülu"]);
        assert!(identity_words("They bombard the palms; claudette and googled.").is_empty());
        assert!(identity_words("").is_empty());
    }
}
