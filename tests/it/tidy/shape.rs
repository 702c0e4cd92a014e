//! Sizes, exceptions without a reason, unfinished work, missing module docs, and places outside the repository.

use super::edges::is_test;
use super::source::{Token, matches, tokens};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Where the project is worked on is no part of it. In pieces, so that this file does not name them.
const PLACES: &[&str] = &[concat!("../", "shared"), concat!("/wo", "rk/")];

/// Files and functions beyond the hard limits.
pub(super) fn size_problems(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        problems.push(format!("{path}: {lines} lines, more than {FILE_LINES_MAX}"));
    }
    for (name, first, last) in functions(&tokens(text)) {
        let lines = last - first + 1;
        if lines > FUNCTION_LINES_MAX {
            problems
                .push(format!("{path}:{first}: {name} has {lines} lines, more than {FUNCTION_LINES_MAX}"));
        }
    }
    problems
}

/// The functions with a body: name, first and last line.
fn functions(tokens: &[Token]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].is("fn") && pair[1].is_word() {
            let last = body_end(&tokens[at + 2..]);
            found.extend(last.map(|last| (pair[1].text.clone(), pair[0].line, last)));
        }
    }
    found
}

/// The line of the brace that closes the body, or none for a declaration.
fn body_end(tokens: &[Token]) -> Option<usize> {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for token in tokens {
        match token.text.as_str() {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets = brackets.saturating_sub(1),
            ";" if braces == 0 && brackets == 0 => return None,
            "{" => braces += 1,
            "}" if braces <= 1 => return Some(token.line),
            "}" => braces -= 1,
            _ => {}
        }
    }
    None
}

/// `allow`, `expect` without a reason, and what stands for work not done.
pub(super) fn word_problems(path: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut problems = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let rest = &tokens[at..];
        if matches(rest, &["todo", "!"]) || matches(rest, &["unimplemented", "!"]) {
            problems.push(format!("{path}:{}: {}!", token.line, token.text));
        }
        if matches(rest, &["#", "["]) || matches(rest, &["#", "!", "["]) {
            let attribute = attribute(rest);
            let has = |texts: &[&str]| (0..attribute.len()).any(|at| matches(&attribute[at..], texts));
            if has(&["allow", "("]) {
                problems.push(format!("{path}:{}: allow, where expect with a reason belongs", token.line));
            }
            if has(&["expect", "("]) && !has(&["reason", "="]) {
                problems.push(format!("{path}:{}: expect without a reason", token.line));
            }
        }
    }
    problems
}

/// The tokens of the attribute that begins here, up to the bracket that closes it.
fn attribute(tokens: &[Token]) -> &[Token] {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "[" => depth += 1,
            "]" if depth <= 1 => return &tokens[..at],
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens
}

/// A module that does not begin by saying what it is for.
pub(super) fn doc_problems(path: &str, text: &str) -> Vec<String> {
    match text.starts_with("//! ") || is_test(path) {
        true => Vec::new(),
        false => vec![format!("{path}: does not begin with its module doc")],
    }
}

/// Names of places that exist on one machine only.
pub(super) fn place_problems(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    let named = lines.filter(|(_, line)| PLACES.iter().any(|place| line.contains(place)));
    named.map(|(at, _)| format!("{path}:{}: names a place outside the repository", at + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::{PLACES, doc_problems, place_problems, size_problems, word_problems};

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(size_problems("a.rs", &"\n".repeat(600)), [""; 0]);
        assert_eq!(size_problems("a.rs", &"\n".repeat(601)).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        let function = |lines: usize| format!("fn long() {{{}}}\n", "\n".repeat(lines - 1));
        assert_eq!(size_problems("a.rs", &function(70)), [""; 0]);
        assert_eq!(size_problems("a.rs", &function(71)), ["a.rs:1: long has 71 lines, more than 70"]);
        let inside = format!("impl A {{ fn short(x: [u8; 2]);\n fn other() {{ '{{' }}\n{} }}", function(80));
        assert_eq!(size_problems("a.rs", &inside), ["a.rs:3: long has 80 lines, more than 70"]);
    }

    #[test]
    fn allow_and_a_bare_expect_are_found() {
        assert_eq!(word_problems("a.rs", "#[allow(dead_code)] fn f() {}").len(), 1);
        assert_eq!(word_problems("a.rs", "#![allow(dead_code)]").len(), 1);
        assert_eq!(word_problems("a.rs", "#[cfg_attr(test, allow(dead_code))] fn f() {}").len(), 1);
        assert_eq!(word_problems("a.rs", "#[expect(dead_code)] fn f() {}").len(), 1);
        let fine = "#[expect(dead_code, reason = \"x\")] fn allow() { self.allow(1).expect(\"y\") }";
        assert_eq!(word_problems("a.rs", fine), [""; 0]);
    }

    #[test]
    fn unfinished_work_is_found() {
        assert_eq!(word_problems("a.rs", "fn f() { todo!() }\nfn g() { unimplemented!() }").len(), 2);
        assert_eq!(word_problems("a.rs", "// todo!()\nfn todo() {}"), [""; 0]);
    }

    #[test]
    fn a_module_without_docs_is_found() {
        assert_eq!(doc_problems("src/app/a.rs", "use b;\n//! Late.").len(), 1);
        assert_eq!(doc_problems("src/app/a.rs", "//! What it is for.\n"), [""; 0]);
        assert_eq!(doc_problems("src/app/tests.rs", "use super::*;"), [""; 0]);
    }

    #[test]
    fn a_place_outside_is_found() {
        for place in PLACES {
            let text = format!("see\n{place}x\n");
            assert_eq!(place_problems("a.md", &text), ["a.md:2: names a place outside the repository"]);
        }
        assert_eq!(place_problems("a.md", "shared work"), [""; 0]);
    }
}
