//! Which file of a crate uses which. In: the crate's parsed files. Out: the graph of their uses.
//!
//! A use is an import or a path, in code or among the tokens of a macro, that means an item of
//! another file. What a re-export hands on counts for the file that defines it, so a `mod.rs` that
//! only declares and re-exports is no part of the graph. Naming a module is no use: what is taken
//! out of it is. Where the methods of a type are spread over files, `self.method()` uses the file
//! of that method. Calls of methods on anything else are not seen, because that takes types.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Expr, ImplItem, Item, Type};

use super::circles::Graph;
use super::modules::{Files, Meaning, Modules, for_tests, imports, is_re_export};

/// The files that a crate begins with.
const ROOTS: &[&str] = &["lib.rs", "main.rs"];

/// An item: its module and its name.
type Place = (usize, String);

/// For each type the files of its methods.
type Methods<'a> = BTreeMap<Place, BTreeMap<String, &'a str>>;

/// The uses among a crate's files.
pub fn graph(files: &Files) -> Result<Graph> {
    let mut graph = Graph::new();
    for root in ROOTS.iter().filter(|root| files.contains_key(**root)) {
        let modules = Modules::load(files, root)?;
        let methods = methods(&modules);
        for (id, module) in modules.0.iter().enumerate() {
            let mut references = References {
                modules: &modules,
                methods: &methods,
                module: id,
                own_type: None,
                uses: BTreeMap::new(),
            };
            for item in &module.items {
                references.visit_item(item);
            }
            let uses = graph.entry(module.file.to_owned()).or_default();
            for (file, line) in references.uses {
                let first = uses.entry(file.to_owned()).or_insert(line);
                *first = line.min(*first);
            }
        }
    }
    Ok(graph)
}

fn methods<'a>(modules: &Modules<'a>) -> Methods<'a> {
    let mut methods = Methods::new();
    for (id, module) in modules.0.iter().enumerate() {
        for item in &module.items {
            let Item::Impl(item) = item else { continue };
            if item.trait_.is_some() {
                continue;
            }
            let Some(place) = type_of(modules, id, &item.self_ty) else {
                continue;
            };
            let of_type = methods.entry(place).or_default();
            for item in &item.items {
                if let ImplItem::Fn(function) = item
                    && !for_tests(&function.attrs)
                {
                    of_type.insert(function.sig.ident.to_string(), module.file);
                }
            }
        }
    }
    methods
}

/// The item that the type of an `impl` is, if it is one of this crate.
fn type_of(modules: &Modules<'_>, module: usize, of: &Type) -> Option<Place> {
    let Type::Path(of) = of else { return None };
    let mut meanings = modules.resolve(module, &segments(&of.path)).into_iter();
    meanings.find_map(|meaning| match meaning {
        Meaning::Item { item, .. } => Some(item),
        Meaning::Module(_) => None,
    })
}

fn segments(path: &syn::Path) -> Vec<String> {
    let segments = path.segments.iter();
    segments.map(|segment| segment.ident.to_string()).collect()
}

/// Collects what one module uses of other files.
struct References<'m, 'a> {
    modules: &'m Modules<'a>,
    methods: &'m Methods<'a>,
    module: usize,
    /// The type of the `impl` that we are in.
    own_type: Option<Place>,
    /// Each file that is used, with the line of the first use.
    uses: BTreeMap<&'a str, usize>,
}

impl<'a> References<'_, 'a> {
    fn uses(&mut self, file: &'a str, line: usize) {
        if file != self.modules.0[self.module].file {
            let first = self.uses.entry(file).or_insert(line);
            *first = line.min(*first);
        }
    }

    /// A path in code.
    fn path(&mut self, path: &[String], line: usize) {
        if let [own, method, ..] = path
            && own == "Self"
        {
            self.own_method(method, line);
            return;
        }
        for meaning in self.modules.resolve(self.module, path) {
            if let Meaning::Item { item, next } = meaning {
                self.uses(self.modules.0[item.0].file, line);
                if let Some(next) = next {
                    self.method(&item, &next, line);
                }
            }
        }
    }

    fn own_method(&mut self, name: &str, line: usize) {
        if let Some(place) = self.own_type.clone() {
            self.method(&place, name, line);
        }
    }

    fn method(&mut self, of: &Place, name: &str, line: usize) {
        let file = self.methods.get(of).and_then(|methods| methods.get(name));
        if let Some(file) = file.copied() {
            self.uses(file, line);
        }
    }

    /// The paths among the tokens of a macro. A single word says too little there: it may be a
    /// variable or a field. If it is an import, that was seen already.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let line = first.span().start().line;
                    let mut path = vec![first.to_string()];
                    while let Some(next) = next_segment(&tokens[at..]) {
                        path.push(next);
                        at += 3;
                    }
                    if path.len() > 1 {
                        self.path(&path, line);
                    } else if first == "self"
                        && let Some(method) = called_method(&tokens[at..])
                    {
                        self.own_method(&method, line);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The name that follows `::`.
fn next_segment(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [
            TokenTree::Punct(first),
            TokenTree::Punct(second),
            TokenTree::Ident(name),
            ..,
        ] if first.as_char() == ':' && second.as_char() == ':' => Some(name.to_string()),
        _ => None,
    }
}

/// `name` of `.name(…)`.
fn called_method(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [
            TokenTree::Punct(dot),
            TokenTree::Ident(name),
            TokenTree::Group(arguments),
            ..,
        ] if dot.as_char() == '.' && arguments.delimiter() == Delimiter::Parenthesis => {
            Some(name.to_string())
        }
        _ => None,
    }
}

impl<'ast> Visit<'ast> for References<'_, '_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_re_export(item) {
            return;
        }
        let line = item.use_token.span.start().line;
        for import in imports(item) {
            let meanings: BTreeSet<Meaning> = self.modules.resolve(self.module, &import.path);
            for meaning in meanings {
                match meaning {
                    Meaning::Item { item, .. } => self.uses(self.modules.0[item.0].file, line),
                    // Traits are used without being named.
                    Meaning::Module(id) if import.name.is_none() => {
                        self.uses(self.modules.0[id].file, line);
                    }
                    Meaning::Module(_) => {}
                }
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            self.path(&segments(path), first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if let Expr::Path(receiver) = &*call.receiver
            && receiver.path.is_ident("self")
        {
            self.own_method(&call.method.to_string(), call.method.span().start().line);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.visit_path(&invocation.path);
        self.tokens(invocation.tokens.clone());
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let outer = self.own_type.take();
        self.own_type = type_of(self.modules, self.module, &item.self_ty);
        visit::visit_item_impl(self, item);
        self.own_type = outer;
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    /// Each module is looked at by itself.
    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    /// `pub(in crate::a)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

#[cfg(test)]
mod tests {
    use super::super::circles::circles;
    use super::*;

    fn parsed(sources: &[(&str, &str)]) -> Files {
        let parse =
            |(name, text): &(&str, &str)| ((*name).to_owned(), syn::parse_file(text).unwrap());
        sources.iter().map(parse).collect()
    }

    fn found(sources: &[(&str, &str)]) -> Vec<String> {
        circles(&graph(&parsed(sources)).unwrap())
    }

    #[test]
    fn a_circle_through_super_is_found() {
        let sources = [
            ("lib.rs", "mod a;\nmod b;"),
            ("a.rs", "use super::b::B;\npub struct A(B);"),
            ("b.rs", "pub struct B;\n\nfn f() { super::a::A; }"),
        ];
        assert_eq!(found(&sources), ["a.rs:1 -> b.rs:3 -> a.rs"]);
    }

    #[test]
    fn a_circle_through_a_re_export_is_found_at_the_file_that_defines() {
        let sources = [
            ("lib.rs", "pub mod parts;\nmod user;"),
            ("parts/mod.rs", "mod one;\npub use one::{One as Uno, two};"),
            (
                "parts/one.rs",
                "pub struct One;\npub fn two() { crate::user::call() }",
            ),
            (
                "user.rs",
                "use crate::parts;\npub fn call() { let _: parts::Uno; }",
            ),
        ];
        assert_eq!(
            found(&sources),
            ["parts/one.rs:2 -> user.rs:2 -> parts/one.rs"]
        );
    }

    #[test]
    fn a_circle_through_a_glob_and_through_a_macro_is_found() {
        let sources = [
            ("lib.rs", "mod a;\nmod b;\nmod c;"),
            ("a.rs", "pub use crate::b::*;"),
            (
                "b.rs",
                "pub struct B;\nfn f() { println!(\"{}\", crate::c::C); }",
            ),
            (
                "c.rs",
                "use crate::a;\npub const C: u8 = 1;\nfn f(_: a::B) {}",
            ),
        ];
        assert_eq!(found(&sources), ["b.rs:2 -> c.rs:3 -> b.rs"]);
    }

    #[test]
    fn a_parent_that_only_declares_and_re_exports_closes_no_circle() {
        let sources = [
            ("lib.rs", "pub mod parts;"),
            (
                "parts/mod.rs",
                "mod one;\nmod two;\npub use one::One;\nuse two::Two;",
            ),
            ("parts/one.rs", "use super::Two;\npub struct One(Two);"),
            ("parts/two.rs", "pub struct Two;"),
        ];
        assert_eq!(found(&sources), [""; 0]);
    }

    #[test]
    fn a_parent_that_uses_its_child_and_is_used_by_it_is_a_circle() {
        let sources = [
            ("lib.rs", "mod parent;"),
            (
                "parent.rs",
                "mod child;\npub use child::Child;\npub struct Parent(Child);",
            ),
            (
                "parent/child.rs",
                "pub struct Child(Option<Box<super::Parent>>);",
            ),
        ];
        assert_eq!(
            found(&sources),
            ["parent.rs:3 -> parent/child.rs:1 -> parent.rs"]
        );
    }

    #[test]
    fn a_parent_that_only_re_exports_a_child_that_uses_it_is_no_circle() {
        let sources = [
            ("lib.rs", "mod parent;"),
            (
                "parent.rs",
                "mod child;\npub use child::Child;\npub struct Parent;",
            ),
            ("parent/child.rs", "pub struct Child(super::Parent);"),
        ];
        assert_eq!(found(&sources), [""; 0]);
    }

    #[test]
    fn methods_of_one_type_in_two_files_that_call_each_other_are_a_circle() {
        let sources = [
            ("lib.rs", "mod group;"),
            (
                "group/mod.rs",
                "mod holds;\npub struct Group;\nimpl Group {\n fn run(&self) { self.hold(); }\n\
                 fn log(&self) {} }",
            ),
            (
                "group/holds.rs",
                "use super::Group;\nimpl Group {\n pub fn hold(&self) { info!(self.log()); } }",
            ),
        ];
        assert_eq!(
            found(&sources),
            ["group/holds.rs:1 -> group/mod.rs:4 -> group/holds.rs"]
        );
    }

    #[test]
    fn what_is_for_tests_only_does_not_count() {
        let sources = [
            ("lib.rs", "mod a;\nmod b;"),
            (
                "a.rs",
                "pub struct A;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse crate::b::B;\n\
                 impl A {\n #[cfg(test)]\n fn f() { crate::b::B; } }\n\
                 #[cfg(all(test, unix))]\nmod inline { use crate::b::B; }",
            ),
            ("a/tests.rs", "use crate::b::B;\nmod missing;"),
            ("b.rs", "pub struct B(crate::a::A);"),
        ];
        assert_eq!(found(&sources), [""; 0]);
    }

    #[test]
    fn other_crates_and_imports_that_lead_to_themselves_are_no_uses() {
        let sources = [
            ("lib.rs", "mod a;\nmod b;\npub use a::*;\npub use b::*;"),
            (
                "a.rs",
                "use std::fmt;\nuse serde::serde;\npub use crate::*;\nfn f(_: fmt::Error) {}",
            ),
            (
                "b.rs",
                "use a::a;\nuse crate::nothing;\nfn f() { a::b(); unknown(); }",
            ),
        ];
        assert_eq!(found(&sources), [""; 0]);
    }

    #[test]
    fn a_module_without_a_file_is_an_error() {
        let files = parsed(&[("lib.rs", "mod gone;")]);
        let error = graph(&files).unwrap_err().to_string();
        assert_eq!(error, "lib.rs declares the module gone, which has no file");
    }
}
