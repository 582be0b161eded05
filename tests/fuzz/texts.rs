//! Texts at random, each made from a seed by a few changes.

pub struct Texts<'a> {
    state: u64,
    seeds: &'a [&'a str],
}

/// What trips those who read: separators, ends, escapes, half characters.
const AWKWARD: [&[u8]; 24] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"/",
    b"//",
    b"..",
    b"-",
    b"@",
    b"%00",
    b"\"",
    b"\\",
    b"\\u",
    b"{",
    b"}",
    b"[",
    b"\xff",
    b"\xc3",
    "\u{feff}".as_bytes(),
    "\u{202e}".as_bytes(),
    b"99999999999999999999",
];

impl<'a> Texts<'a> {
    pub fn new(seed: u64, seeds: &'a [&'a str]) -> Self {
        Self { state: seed, seeds }
    }

    pub fn next(&mut self) -> Vec<u8> {
        let mut text = self.one_of_seeds();
        for _ in 0..self.below(5) {
            self.change(&mut text);
        }
        text
    }

    fn change(&mut self, text: &mut Vec<u8>) {
        let at = self.below(text.len() + 1);
        let end = at + self.below(text.len() - at + 1).min(8);
        match self.below(7) {
            0 => drop(text.drain(at..end)),
            1 => {
                let awkward = AWKWARD[self.below(AWKWARD.len())];
                drop(text.splice(at..at, awkward.iter().copied()));
            }
            2 if at < text.len() => text[at] = self.draw() as u8,
            3 => {
                let twice = text[at..end].to_vec();
                drop(text.splice(at..at, twice));
            }
            4 => {
                // The end of another one.
                let other = self.one_of_seeds();
                text.truncate(at);
                text.extend(&other[self.below(other.len() + 1)..]);
            }
            5 => text.truncate(at),
            _ => {
                let many = 1 + self.below(300);
                let byte = text.get(at).copied().unwrap_or(b'a');
                drop(text.splice(at..at, std::iter::repeat_n(byte, many)));
            }
        }
    }

    fn one_of_seeds(&mut self) -> Vec<u8> {
        let at = self.below(self.seeds.len());
        self.seeds[at].as_bytes().to_vec()
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.draw() % limit.max(1) as u64) as usize
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
