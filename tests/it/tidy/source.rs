//! Rust text as tokens: enough to find paths, attributes and functions without being misled by comments and strings.

use std::iter::Peekable;
use std::str::Chars;

/// A word, `::`, or one other character. Comments are gone; a string or character literal is one `"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Token {
    pub(super) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub(super) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// The tokens of a file.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    Lexer { rest: source.chars().peekable(), line: 1, found: Vec::new() }.run()
}

/// The tokens that are compiled into the program: without what `#[cfg(test)]` stands before.
pub(super) fn shipped_tokens(source: &str) -> Vec<Token> {
    let all = tokens(source);
    let mut shipped = Vec::new();
    let mut at = 0;
    while at < all.len() {
        if matches(&all[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = item_end(&all, at + 7);
        } else {
            shipped.push(all[at].clone());
            at += 1;
        }
    }
    shipped
}

/// Whether the tokens begin with these texts.
pub(super) fn matches(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.is(text))
}

/// The position after the item that begins here: its `;`, or the `}` that closes it.
fn item_end(tokens: &[Token], begin: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(begin) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" if depth <= 1 => return at + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    found: Vec<Token>,
}

impl Lexer<'_> {
    fn run(mut self) -> Vec<Token> {
        while let Some(c) = self.next() {
            match c {
                '/' if self.rest.peek() == Some(&'/') => self.skip_line(),
                '/' if self.rest.peek() == Some(&'*') => self.skip_block(),
                '"' => self.string(0, true),
                '\'' => self.quote(),
                ':' if self.rest.peek() == Some(&':') => {
                    self.next();
                    self.push("::");
                }
                c if c.is_alphanumeric() || c == '_' => self.word(c),
                c if c.is_whitespace() => {}
                c => self.push(&c.to_string()),
            }
        }
        self.found
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next();
        self.line += usize::from(c == Some('\n'));
        c
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    fn push(&mut self, text: &str) {
        self.found.push(Token { text: text.to_owned(), line: self.line });
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|c| c != '\n') {}
    }

    fn skip_block(&mut self) {
        let mut depth = 0;
        let mut before = '/';
        while let Some(c) = self.next() {
            let pair = (before, c);
            // The characters of a pair are used up: "/*/" opens and does not close.
            before = ' ';
            match pair {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => before = c,
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// The rest of a string after its opening quote, up to a quote with this many `#`.
    fn string(&mut self, hashes: usize, escapes: bool) {
        self.push("\"");
        while let Some(c) = self.next() {
            if c == '\\' && escapes {
                self.next();
            } else if c == '"' && self.hashes() >= hashes {
                self.skip(hashes);
                return;
            }
        }
    }

    fn hashes(&self) -> usize {
        self.rest.clone().take_while(|c| *c == '#').count()
    }

    /// A character literal, or the tick of a lifetime.
    fn quote(&mut self) {
        let mut ahead = self.rest.clone();
        let (first, second) = (ahead.next(), ahead.next());
        if first == Some('\\') {
            self.skip(2);
            while self.next().is_some_and(|c| c != '\'') {}
        } else if second == Some('\'') {
            self.skip(2);
        }
        self.push("\"");
    }

    fn word(&mut self, first: char) {
        let mut word = String::from(first);
        while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
        }
        let hashes = self.hashes();
        let opens = self.rest.clone().nth(hashes) == Some('"');
        match word.as_str() {
            "r" | "br" | "cr" if opens => {
                self.skip(hashes + 1);
                self.string(hashes, false);
            }
            // The prefix of a plain string or character: what follows is read as one.
            "b" | "c" if matches!(self.rest.peek(), Some('"' | '\'')) => {}
            _ => self.push(&word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{shipped_tokens, tokens};

    fn text(source: &str) -> String {
        tokens(source).iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_hide_nothing_and_show_nothing() {
        assert_eq!(text("a // b\n/* c /* d */ e */ f"), "a f");
        assert_eq!(text(r##"a("b \" c", r#"d " e"#, b"f") g"##), "a ( \" , \" , \" ) g");
        assert_eq!(text(r"x('\'', 'y', '\u{1F}') z"), "x ( \" , \" , \" ) z");
        assert_eq!(text("fn f<'a>(x: &'a str) -> a::B"), "fn f < \" a > ( x : & \" a str ) - > a :: B");
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        assert_eq!(tokens("\"a\nb\" /* \n */ c").last().unwrap().line, 3);
    }

    #[test]
    fn only_the_item_after_cfg_test_is_left_out() {
        let source = "a; #[cfg(test)] mod t; b; #[cfg(test)] fn f(x: [u8; 2]) { if y { z } } c";
        let words: Vec<_> = shipped_tokens(source).into_iter().map(|token| token.text).collect();
        assert_eq!(words, ["a", ";", "b", ";", "c"]);
    }
}
