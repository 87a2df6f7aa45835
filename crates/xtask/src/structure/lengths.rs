//! What is long. In: a source file. Out: a warning for the file if it is long and does not say why,
//! and one for each long function in it.

use syn::Block;
use syn::visit::{self, Visit};

/// A longer file says why in its head comment, with the word "lines" in it.
const FILE: usize = 500;

/// A longer function does more than one thing, tests included.
const FUNCTION: usize = 60;

/// A warning if the file is long and its head comment gives no reason.
pub fn long_file(file: &str, text: &str) -> Option<String> {
    let length = text.lines().count();
    let mut head = text.lines().take_while(|line| line.starts_with("//!"));
    let says_why = head.any(|line| line.contains("lines"));
    (length > FILE && !says_why)
        .then(|| format!("{file}: {length} lines, and its head comment does not say why"))
}

/// A warning for each long function, longest first.
pub fn long_functions(file: &str, parsed: &syn::File) -> Vec<String> {
    let mut functions = Functions::default();
    functions.visit_file(parsed);
    let mut long = functions.long;
    long.sort_by_key(|(length, line, _)| (std::cmp::Reverse(*length), *line));
    let warning = |(length, line, name)| format!("{file}:{line}: `{name}` has {length} lines");
    long.into_iter().map(warning).collect()
}

/// Length, line and name of each long function.
#[derive(Default)]
struct Functions {
    long: Vec<(usize, usize, String)>,
}

impl Functions {
    /// From the line of the signature to that of the closing brace.
    fn look(&mut self, signature: &syn::Signature, block: &Block) {
        let first = signature.fn_token.span.start().line;
        let length = block.brace_token.span.close().end().line - first + 1;
        if length > FUNCTION {
            self.long.push((length, first, signature.ident.to_string()));
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.look(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.look(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.look(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_gives_a_reason() {
        let long = "x\n".repeat(FILE + 1);
        let excused = format!("//! Many lines, for it is a table.\n{long}");
        assert!(long_file("a.rs", &long).is_some());
        assert!(long_file("a.rs", &excused).is_none());
        assert!(long_file("a.rs", "x\n").is_none());
    }

    #[test]
    fn long_functions_are_listed_with_their_length_the_longest_first() {
        let body = |lines: usize| "    x();\n".repeat(lines);
        let text = format!(
            "/// Doc.\nfn a() {{\n{}}}\nimpl T {{\n    fn b() {{\n{}}}\n}}\nfn c() {{\n{}}}\n",
            body(FUNCTION - 1), // and two lines for `fn` and the brace
            body(FUNCTION),
            body(FUNCTION - 2),
        );
        let parsed = syn::parse_file(&text).unwrap();
        assert_eq!(
            long_functions("a.rs", &parsed),
            ["a.rs:64: `b` has 62 lines", "a.rs:2: `a` has 61 lines"]
        );
    }
}
