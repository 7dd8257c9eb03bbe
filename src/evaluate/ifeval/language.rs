//! Which language a text is in, as `langdetect` of the reference says.
//!
//! The reference draws at random without a seed, so that a short text may change its language from run to run
//! (EleutherAI/lm-evaluation-harness#4213). Here the answer is the majority over fixed seeds: the one the reference gives
//! most often.

use langdetect::{DetectorFactory, Seed};
use std::collections::BTreeMap;

/// Votes that decide.
const DECIDE: usize = 3;
/// Most draws, with the seeds 0, 1, 2 and so on.
const DRAWS: u128 = 9;

/// Whether the identifier knows a language's code.
pub(super) fn is_known(code: &str) -> bool {
    DetectorFactory::builtin().langlist().iter().any(|known| known == code)
}

/// Whether the text is in that language. A text without letters is in any: the reference counts it so.
pub(super) fn may_be(text: &str, code: &str) -> bool {
    identify(text).is_none_or(|found| found == code)
}

/// The language's code; none of a text without any letters to tell by.
fn identify(text: &str) -> Option<String> {
    let mut votes: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..DRAWS {
        let mut detector = DetectorFactory::builtin().create().ok()?;
        detector.seed = Seed::Int(seed);
        detector.append(text);
        let found = detector.detect().ok()?;
        let count = votes.entry(found).or_default();
        *count += 1;
        if *count == DECIDE {
            break;
        }
    }
    votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_of_the_set_is_known_and_found() {
        let texts = [
            ("ar", "هذا نص باللغة العربية عن الطقس والطعام في المدينة"),
            ("bg", "Това е текст на български език за времето и храната"),
            ("bn", "এটি বাংলা ভাষায় লেখা একটি লেখা"),
            ("de", "Das ist ein Text auf Deutsch über das Wetter und das Essen"),
            ("en", "This is a text in English about the weather and the food"),
            ("fa", "این یک متن به زبان فارسی درباره آب و هوا و غذا است"),
            ("fi", "Tämä on suomenkielinen teksti säästä ja ruoasta"),
            ("gu", "આ ગુજરાતી ભાષામાં લખેલું લખાણ છે"),
            ("hi", "यह हिन्दी में लिखा हुआ एक लेख है जो मौसम के बारे में है"),
            ("it", "Questo è un testo in italiano sul tempo e sul cibo della città"),
            ("kn", "ಇದು ಕನ್ನಡ ಭಾಷೆಯಲ್ಲಿ ಬರೆದ ಬರಹ"),
            ("ko", "이것은 날씨와 음식에 대한 한국어 글입니다"),
            ("mr", "हा मराठी भाषेत लिहिलेला एक लेख आहे आणि तो हवामानाबद्दल आहे"),
            ("ne", "यो नेपाली भाषामा लेखिएको लेख हो र यो मौसमको बारेमा छ"),
            ("pa", "ਇਹ ਪੰਜਾਬੀ ਭਾਸ਼ਾ ਵਿੱਚ ਲਿਖਿਆ ਲੇਖ ਹੈ"),
            ("pt", "Este é um texto em português sobre o tempo e a comida da cidade"),
            ("ru", "Это текст на русском языке о погоде и еде в городе"),
            ("sw", "Hii ni makala iliyoandikwa kwa lugha ya Kiswahili kuhusu hali ya hewa"),
            ("ta", "இது தமிழ் மொழியில் எழுதப்பட்ட கட்டுரை"),
            ("te", "ఇది తెలుగు భాషలో రాసిన వ్యాసం"),
            ("th", "นี่คือข้อความภาษาไทยเกี่ยวกับอากาศและอาหาร"),
            ("ur", "یہ موسم اور کھانے کے بارے میں اردو زبان میں لکھا ہوا ایک مضمون ہے"),
            ("vi", "Đây là một văn bản tiếng Việt về thời tiết và món ăn"),
        ];
        for (code, text) in texts {
            assert!(is_known(code));
            assert_eq!(identify(text).as_deref(), Some(code), "{text}");
        }
        assert!(!is_known("tlh"));
    }

    #[test]
    fn a_text_without_letters_may_be_any_language() {
        assert_eq!(identify("123 456 !?"), None);
        assert!(may_be("123", "en") && may_be("123", "sw"));
    }
}
