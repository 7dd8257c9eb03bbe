//! Numbers that look random and are the same for the same seed (SplitMix64, Steele et al. 2014), and random changes to bytes.
//!
//! Refuses to know what the bytes mean.

/// The generator.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        // The finaliser adds the step itself.
        let number = tiebreak::domain::mix64(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        number
    }

    /// A number below `n`; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Whether something happens in so many of 100 cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Bytes that matter to a parser.
const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"null",
    b"\\",
    b"\n",
    b"\xff",
    b"\0",
    b"-1e999",
    b"[{}]",
    b"\xef\xbb\xbf",
    b"true",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"9223372036854775808",
    b"1e308",
    b"NaN",
    b"\\u0000",
    b"\\ud800",
    b"\x1b[31m",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
    b"../",
    b"/",
    b"data:",
    b"{{",
    b"}}",
    b"{%",
    b"%}",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\0\0\0\0\0\0\0\0",
    b"''",
];

/// Changes the bytes in one to five places; `other` is another valid input to take parts of.
pub fn change(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    for _ in 0..=chance.below(5) {
        let (a, b) = (chance.below(bytes.len()), chance.below(bytes.len()));
        let (from, to) = (a.min(b), a.max(b));
        match chance.below(10) {
            0 | 1 if !bytes.is_empty() => bytes[a] ^= 1 << chance.below(8),
            2 if !bytes.is_empty() => bytes[a] = chance.next() as u8,
            3 => bytes.truncate(a),
            4 => drop(bytes.drain(from..to.min(from + 64))),
            5 => {
                let copy = bytes[from..to.min(from + 256)].to_vec();
                bytes.splice(a..a, copy);
            }
            6 => {
                let (x, y) = (chance.below(other.len()), chance.below(other.len()));
                bytes.splice(a..a, other[x.min(y)..x.max(y).min(x.min(y) + 512)].iter().copied());
            }
            7 => number(bytes, a, chance),
            8 if chance.percent(5) => {
                let (open, close) = [("[", "]"), ("{\"a\":", "}"), ("(", ")")][chance.below(3)];
                let depth = [10, 127, 128, 1000, 20_000][chance.below(5)];
                let nested = open.repeat(depth) + "1" + &close.repeat(if chance.percent(50) { depth } else { 0 });
                bytes.splice(a..a, nested.into_bytes());
            }
            _ => {
                let token = TOKENS[chance.below(TOKENS.len())];
                bytes.splice(a..a, token.iter().copied());
            }
        }
    }
    bytes.truncate(1 << 20);
}

/// Replaces the decimal number at or after a place.
fn number(bytes: &mut Vec<u8>, at: usize, chance: &mut Chance) {
    let Some(from) = bytes[at.min(bytes.len())..].iter().position(u8::is_ascii_digit).map(|n| at + n) else { return };
    let len = bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let numbers = ["0", "1", "-1", "7", "255", "65536", "2147483648", "4294967296", "9007199254740993", "1e400", "0.5"];
    bytes.splice(from..from + len, numbers[chance.below(numbers.len())].bytes());
}
