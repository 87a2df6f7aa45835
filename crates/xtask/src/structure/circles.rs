//! Circles in a graph of files. In: which file uses which, and on what line first. Out: for each use
//! that is part of a circle, the shortest circle that it is part of; and the knots that circles form.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// For each file the files that it uses, each with the line of the first use.
pub type Graph = BTreeMap<String, BTreeMap<String, usize>>;

/// The circles of a graph, shortest first, each as `a.rs:3 -> b.rs:1 -> a.rs` with the lines of the
/// uses. Every use that keeps a circle closed is in one of them; a longer circle all of whose uses
/// are in shorter ones is left away.
pub fn circles(graph: &Graph) -> Vec<String> {
    let mut found: BTreeSet<(usize, Vec<&str>)> = BTreeSet::new();
    for (user, uses) in graph {
        for used in uses.keys() {
            if let Some(way) = shortest(graph, used, user) {
                found.insert((way.len(), from_the_least(way)));
            }
        }
    }
    let mut listed: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut circles = Vec::new();
    for (_, circle) in found {
        let next = circle.iter().cycle().skip(1);
        let uses: Vec<(&str, &str)> = circle.iter().copied().zip(next.copied()).collect();
        if uses.iter().any(|one| listed.insert(*one)) {
            listed.extend(uses);
            circles.push(shown(graph, &circle));
        }
    }
    circles
}

/// The files that all reach each other, knot by knot, largest first. A knot is what has to be
/// untied; the circles say where.
pub fn knots(graph: &Graph) -> Vec<Vec<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = graph
        .keys()
        .map(|file| (file.as_str(), reached_from(graph, file)))
        .collect();
    let mut knots: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (file, others) in &reached {
        let back = |other: &&&str| reached.get(**other).is_some_and(|back| back.contains(file));
        let knot: Vec<&str> = others.iter().filter(back).copied().collect();
        if knot.len() > 1 {
            knots.insert(knot);
        }
    }
    let mut knots: Vec<Vec<&str>> = knots.into_iter().collect();
    knots.sort_by_key(|knot| std::cmp::Reverse(knot.len()));
    knots
}

/// All files that a file uses, and those that they use, and so on.
fn reached_from<'a>(graph: &'a Graph, file: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        for next in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    reached
}

/// The shortest way between two files, both included.
fn shortest<'a>(graph: &'a Graph, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let mut way = vec![file];
            while way.last() != Some(&from) {
                way.extend(way.last().and_then(|file| came_from.get(file)));
            }
            way.reverse();
            return Some(way);
        }
        for next in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
            if next != from && !came_from.contains_key(next.as_str()) {
                came_from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}

/// The same circle, however it was entered, in the same order.
fn from_the_least(mut circle: Vec<&str>) -> Vec<&str> {
    let least = circle.iter().enumerate().min_by_key(|(_, file)| **file);
    let at = least.map_or(0, |(at, _)| at);
    circle.rotate_left(at);
    circle
}

fn shown(graph: &Graph, circle: &[&str]) -> String {
    let nexts = circle.iter().cycle().skip(1);
    let mut parts: Vec<String> = circle
        .iter()
        .zip(nexts)
        .map(|(file, next)| format!("{file}:{}", graph[*file][*next]))
        .collect();
    parts.extend(circle.first().map(|file| (*file).to_owned()));
    parts.join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each use on a line of its own.
    fn graph(uses: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (line, (user, used)) in uses.iter().enumerate() {
            let uses = graph.entry((*user).to_owned()).or_default();
            uses.insert((*used).to_owned(), line + 1);
        }
        graph
    }

    #[test]
    fn files_that_use_each_other_in_one_direction_form_no_circle() {
        let tree = graph(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]);
        assert_eq!(circles(&tree), [""; 0]);
    }

    #[test]
    fn circles_are_listed_once_the_shortest_first() {
        let knot = graph(&[("c", "a"), ("a", "b"), ("b", "c"), ("d", "e"), ("e", "d")]);
        assert_eq!(
            circles(&knot),
            ["d:4 -> e:5 -> d", "a:2 -> b:3 -> c:1 -> a"]
        );
    }

    #[test]
    fn files_that_all_reach_each_other_are_one_knot() {
        let two = graph(&[
            ("a", "b"),
            ("b", "a"),
            ("b", "c"),
            ("c", "d"),
            ("d", "e"),
            ("e", "c"),
        ]);
        assert_eq!(knots(&two), [vec!["c", "d", "e"], vec!["a", "b"]]);
    }

    #[test]
    fn a_longer_circle_that_has_no_use_of_its_own_is_not_listed() {
        // a -> b -> c -> a is there too, but each of its uses is in one of these.
        let knot = graph(&[
            ("a", "b"),
            ("b", "a"),
            ("b", "c"),
            ("c", "b"),
            ("c", "a"),
            ("a", "c"),
        ]);
        assert_eq!(
            circles(&knot),
            ["a:1 -> b:2 -> a", "a:6 -> c:5 -> a", "b:3 -> c:4 -> b"]
        );
    }
}
