//! The modules of a crate, and what a path in one of them names. In: the crate's parsed files. Out:
//! each module with its items, and for a path the items and modules that it means, however many
//! re-exports lie between.
//!
//! Modules, items and imports that are for tests only are left away.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, Token, UseTree, Visibility};

/// A crate's files by their names below `src/`.
pub type Files = BTreeMap<String, syn::File>;

/// A module: a file, or an inline one in a file.
pub(crate) struct Module<'a> {
    /// The file that it is in.
    pub(crate) file: &'a str,
    /// Everything in it but modules.
    pub(crate) items: Vec<&'a Item>,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    names: BTreeSet<String>,
    imports: Vec<Import>,
}

/// One name that a `use` brings in, or all names of a module.
pub(crate) struct Import {
    /// The name it has here; none for a glob.
    pub(crate) name: Option<String>,
    /// Where it comes from.
    pub(crate) path: Vec<String>,
}

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Meaning {
    /// A module.
    Module(usize),
    /// An item, and the segment of the path that follows it: a variant or an associated function.
    Item {
        item: (usize, String),
        next: Option<String>,
    },
}

/// A crate's modules; the first is its root.
pub(crate) struct Modules<'a>(pub(crate) Vec<Module<'a>>);

impl<'a> Modules<'a> {
    /// The modules below the file `root`.
    pub(crate) fn load(files: &'a Files, root: &str) -> Result<Self> {
        let mut modules = Self(Vec::new());
        let Some((root, file)) = files.get_key_value(root) else {
            bail!("there is no {root}");
        };
        modules.add(files, root, "", None, &file.items)?;
        Ok(modules)
    }

    /// Adds a module, with its children, whose files are in `folder`.
    fn add(
        &mut self,
        files: &'a Files,
        file: &'a str,
        folder: &str,
        parent: Option<usize>,
        all: &'a [Item],
    ) -> Result<usize> {
        let id = self.0.len();
        let kept = all.iter().filter(|item| !for_tests(attributes(item)));
        let (declared, items): (Vec<_>, Vec<_>) =
            kept.partition(|item| matches!(item, Item::Mod(_)));
        let mut uses = Uses(Vec::new());
        for item in &items {
            uses.visit_item(item);
        }
        self.0.push(Module {
            file,
            parent,
            children: BTreeMap::new(),
            names: items.iter().filter_map(|item| name(item)).collect(),
            imports: uses.0.into_iter().flat_map(imports).collect(),
            items,
        });
        for item in declared {
            let Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let below = format!("{folder}{name}/");
            let child = if let Some((_, inline)) = &module.content {
                self.add(files, file, &below, Some(id), inline)?
            } else if elsewhere(&module.attrs) {
                continue;
            } else {
                let own = [format!("{folder}{name}.rs"), format!("{below}mod.rs")];
                let Some((file, parsed)) = own.iter().find_map(|own| files.get_key_value(own))
                else {
                    bail!("{file} declares the module {name}, which has no file");
                };
                self.add(files, file, &below, Some(id), &parsed.items)?
            };
            self.0[id].children.insert(name, child);
        }
        Ok(id)
    }

    /// What a path in a module means; nothing if it leads out of the crate.
    pub(crate) fn resolve(&self, module: usize, path: &[String]) -> BTreeSet<Meaning> {
        self.follow(module, path, &mut BTreeSet::new())
    }

    /// `busy` has the names that are being looked up: an import may lead to itself.
    fn follow(
        &self,
        module: usize,
        path: &[String],
        busy: &mut BTreeSet<(usize, String)>,
    ) -> BTreeSet<Meaning> {
        let Some((first, rest)) = path.split_first() else {
            return BTreeSet::from([Meaning::Module(module)]);
        };
        let start = match first.as_str() {
            "crate" => Some(0),
            "self" => Some(module),
            "super" => self.0[module].parent,
            _ => None,
        };
        if let Some(start) = start {
            return self.follow(start, rest, busy);
        }
        let mut meanings = BTreeSet::new();
        for meaning in self.look_up(module, first, busy) {
            match meaning {
                Meaning::Module(id) => meanings.extend(self.follow(id, rest, busy)),
                Meaning::Item { item, next } => {
                    let next = next.or_else(|| rest.first().cloned());
                    meanings.insert(Meaning::Item { item, next });
                }
            }
        }
        meanings
    }

    /// What a name means in a module: its own items and modules, then imports, then globs.
    fn look_up(
        &self,
        module: usize,
        name: &str,
        busy: &mut BTreeSet<(usize, String)>,
    ) -> BTreeSet<Meaning> {
        let key = (module, name.to_owned());
        if !busy.insert(key.clone()) {
            return BTreeSet::new();
        }
        let here = &self.0[module];
        let mut meanings = BTreeSet::new();
        meanings.extend(here.children.get(name).copied().map(Meaning::Module));
        if here.names.contains(name) {
            meanings.insert(Meaning::Item {
                item: key.clone(),
                next: None,
            });
        }
        let named = |import: &&Import| import.name.as_deref() == Some(name);
        for import in here.imports.iter().filter(named) {
            meanings.extend(self.follow(module, &import.path, busy));
        }
        if meanings.is_empty() {
            for glob in here.imports.iter().filter(|import| import.name.is_none()) {
                for meaning in self.follow(module, &glob.path, busy) {
                    if let Meaning::Module(id) = meaning {
                        meanings.extend(self.look_up(id, name, busy));
                    }
                }
            }
        }
        busy.remove(&key);
        meanings
    }
}

/// Every `use` of an item, those in functions included.
struct Uses<'a>(Vec<&'a syn::ItemUse>);

impl<'a> Visit<'a> for Uses<'a> {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.0.push(item);
    }

    fn visit_item_mod(&mut self, _: &'a syn::ItemMod) {}

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        if !for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }
}

/// What a `use` brings in.
pub(crate) fn imports(item: &syn::ItemUse) -> Vec<Import> {
    fn walk(tree: &UseTree, path: &[String], found: &mut Vec<Import>) {
        let with = |name: &syn::Ident| {
            let mut path = path.to_vec();
            if name != "self" {
                path.push(name.to_string());
            }
            path
        };
        match tree {
            UseTree::Path(part) => {
                let mut below = path.to_vec();
                below.push(part.ident.to_string());
                walk(&part.tree, &below, found);
            }
            UseTree::Name(leaf) => {
                let path = with(&leaf.ident);
                let name = path.last().cloned();
                found.push(Import { name, path });
            }
            UseTree::Rename(leaf) => found.push(Import {
                name: Some(leaf.rename.to_string()),
                path: with(&leaf.ident),
            }),
            UseTree::Glob(_) => found.push(Import {
                name: None,
                path: path.to_vec(),
            }),
            UseTree::Group(group) => {
                for tree in &group.items {
                    walk(tree, path, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(&item.tree, &[], &mut found);
    found
}

/// Whether a `use` hands on what it names, rather than using it.
pub(crate) fn is_re_export(item: &syn::ItemUse) -> bool {
    !matches!(item.vis, Visibility::Inherited)
}

/// Whether attributes say that this is compiled for tests only.
pub(crate) fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let test = path
            .segments
            .last()
            .is_some_and(|last| last.ident == "test");
        test || path.is_ident("cfg") && attribute.parse_args().is_ok_and(|meta| needs_test(&meta))
    })
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|all| all.iter().any(needs_test)),
        _ => false,
    }
}

/// Whether `#[path]` takes a module's file from elsewhere. Targets that share such a file cannot be
/// used by it.
fn elsewhere(attributes: &[Attribute]) -> bool {
    let mut paths = attributes.iter().map(Attribute::path);
    paths.any(|path| path.is_ident("path"))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
