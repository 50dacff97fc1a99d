//! How the manifests of a repository hang together, and which of them go with some tags.

use super::{Key, Needs, References};
use crate::tree::layout;
use cidery_core::{Digest, Tag};
use std::collections::{BTreeSet, HashMap};

/// Manifests by number, and how they hang together.
pub(super) struct Graph<'a> {
    pub manifests: Vec<&'a References>,
    index: HashMap<Key, u32>,
    children: Vec<Vec<u32>>,
    parents: Vec<Vec<u32>>,
    subject: Vec<Option<u32>>,
    referrers: Vec<Vec<u32>>,
    /// What a tag that stands for it belongs to: as if it were about that.
    about: Vec<Vec<u32>>,
    pub companions: Vec<Companion<'a>>,
    /// A tag that stays stands for it.
    held: Vec<bool>,
    /// A tag that goes stands for it.
    begun: Vec<u32>,
}

/// A tag that belongs to a manifest.
pub(super) struct Companion<'a> {
    pub tag: &'a Tag,
    pub about: usize,
    target: Option<u32>,
}

impl<'a> Graph<'a> {
    pub fn new(needs: &'a Needs, tags: &BTreeSet<Tag>, fixed: impl Fn(&Tag) -> bool) -> Self {
        let manifests: Vec<&References> = needs.manifests.values().collect();
        let index: HashMap<Key, u32> = needs.manifests.keys().copied().zip(0..).collect();
        let count = manifests.len();
        let (mut children, mut parents, mut referrers) =
            (vec![Vec::new(); count], vec![Vec::new(); count], vec![Vec::new(); count]);
        let mut subject = vec![None; count];
        for (at, references) in (0..).zip(&manifests) {
            let place = at as usize;
            for child in references.children.iter().filter_map(|child| index.get(child)) {
                children[place].push(*child);
                parents[*child as usize].push(at);
            }
            let about = references.subject.as_ref().map(|subject| needs.keys.of(subject));
            subject[place] = about.and_then(|subject| index.get(&subject)).copied();
            subject[place].iter().for_each(|subject: &u32| referrers[*subject as usize].push(at));
        }
        let held = needs.manifests.keys().map(|key| needs.held.contains(key)).collect();
        let mut graph = Self {
            manifests,
            index,
            children,
            parents,
            subject,
            referrers,
            about: vec![Vec::new(); count],
            companions: Vec::new(),
            held,
            begun: Vec::new(),
        };
        graph.look_at_tags(needs, tags, fixed);
        graph
    }

    /// The number of a manifest that is here.
    pub fn at(&self, key: Option<Key>) -> Option<usize> {
        Some(*self.index.get(&key?)? as usize)
    }

    fn look_at_tags(&mut self, needs: &'a Needs, tags: &BTreeSet<Tag>, fixed: impl Fn(&Tag) -> bool) {
        let belonging: Vec<(&Tag, &str)> = needs
            .tags
            .keys()
            .filter(|tag| !tags.contains(tag))
            .filter_map(|tag| Some((tag, layout::companion_of(tag)?)))
            .filter(|(tag, _)| !fixed(tag))
            .collect();
        let mut subjects: HashMap<String, usize> = HashMap::new();
        if !belonging.is_empty() {
            let wanted: BTreeSet<&str> = belonging.iter().map(|(_, subject)| *subject).collect();
            let name = |digest: &Digest| String::from(layout::referrers_tag(digest));
            let named = self.manifests.iter().enumerate().map(|(at, manifest)| (name(&manifest.digest), at));
            subjects = named.filter(|(name, _)| wanted.contains(name.as_str())).collect();
        }
        let belonging: HashMap<&Tag, usize> =
            belonging.into_iter().filter_map(|(tag, subject)| Some((tag, *subjects.get(subject)?))).collect();
        for (tag, marks) in &needs.tags {
            let target = marks.current.and_then(|key| self.index.get(&key)).copied();
            match (belonging.get(tag), target) {
                (Some(about), target) => self.companions.push(Companion { tag, about: *about, target }),
                (None, Some(target)) if tags.contains(tag) => self.begun.push(target),
                (None, Some(target)) => self.held[target as usize] = true,
                (None, None) => {}
            }
        }
        for Companion { about, target, .. } in &self.companions {
            let about_number = *about as u32;
            if let Some(target) = target.filter(|target| *target != about_number) {
                self.referrers[*about].push(target);
                self.about[target as usize].push(about_number);
            }
        }
    }

    /// What leads to what.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        let lists = self.children.iter().enumerate().chain(self.referrers.iter().enumerate());
        lists.flat_map(|(one, others)| others.iter().map(move |other| (one, *other as usize)))
    }

    /// Which of them go.
    pub fn going(&self) -> Vec<bool> {
        let mut candidate = vec![false; self.manifests.len()];
        let mut open = self.begun.clone();
        while let Some(at) = open.pop() {
            let at = at as usize;
            if !std::mem::replace(&mut candidate[at], true) {
                open.extend(self.children[at].iter().chain(&self.referrers[at]));
            }
        }
        let is_needed = |at: &u32| {
            let at = *at as usize;
            let about = self.subject[at].iter().chain(&self.about[at]);
            let mut by = self.parents[at].iter().chain(about).chain(&self.referrers[at]);
            candidate[at] && (self.held[at] || by.any(|by| !candidate[*by as usize]))
        };
        let mut open: Vec<u32> = (0..candidate.len() as u32).filter(is_needed).collect();
        while let Some(at) = open.pop() {
            let at = at as usize;
            if std::mem::replace(&mut candidate[at], false) {
                let needed = self.children[at].iter().chain(&self.referrers[at]).chain(&self.subject[at]);
                open.extend(needed.filter(|needed| candidate[**needed as usize]));
            }
        }
        candidate
    }
}

/// What hangs together, by the smallest number of it.
pub(super) struct Parts(Vec<usize>);

impl Parts {
    pub fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    pub fn of(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    pub fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.of(one), self.of(other));
        self.0[one.max(other)] = one.min(other);
    }
}
