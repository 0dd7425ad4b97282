//! Where each value of a host is from: a place in a file, or a default.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::rc::Rc;

use super::diagnostic::Place;

/// The way to a value from the top of the file: `vm.web.disk[0].path`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Element(usize),
}

impl Path {
    pub(super) fn key(&self, key: &str) -> Rc<Self> {
        self.and(Step::Key(key.to_owned()))
    }

    pub(super) fn element(&self, index: usize) -> Rc<Self> {
        self.and(Step::Element(index))
    }

    fn and(&self, step: Step) -> Rc<Self> {
        let mut steps = self.0.clone();
        steps.push(step);
        Rc::new(Self(steps))
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    pub(super) fn of(keys: &[&str]) -> Self {
        Self(
            keys.iter()
                .map(|key| Step::Key((*key).to_owned()))
                .collect(),
        )
    }

    /// This path, and then each one above it.
    pub(super) fn and_above(&self) -> impl Iterator<Item = Self> {
        (1..=self.0.len())
            .rev()
            .map(|length| Self(self.0[..length].to_vec()))
    }

    /// The rest of the way from `top`, which this leads through.
    pub(super) fn below(&self, top: &Self) -> Self {
        Self(self.0.get(top.0.len()..).unwrap_or_default().to_vec())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if index == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Element(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

/// Where a value is from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// `None`: no file has it.
    pub place: Option<Place>,
    /// What it came to, as TOML, where the default depends on something else.
    pub derived: Option<String>,
}

/// Every key that was looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    keys: BTreeMap<Path, Origin>,
    /// VMs and networks, with the places of their names.
    entries: BTreeMap<Path, Place>,
}

impl Origins {
    pub(super) fn taken(&mut self, path: &Path, place: Option<Place>) {
        let origin = self.origin(path);
        // A section may be in several files, and in some not.
        origin.place = origin.place.take().or(place);
    }

    pub(super) fn derived(&mut self, path: &Path, value: String) {
        self.origin(path).derived = Some(value);
    }

    pub(super) fn declared(&mut self, path: &Path, place: Place) {
        self.entries.insert(path.clone(), place);
    }

    fn origin(&mut self, path: &Path) -> &mut Origin {
        self.keys.entry(path.clone()).or_default()
    }

    /// Every key that was looked for.
    pub fn keys(&self) -> impl Iterator<Item = (&Path, &Origin)> {
        self.keys.iter()
    }

    /// VMs and networks, with the places of their names.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Place)> {
        self.entries.iter()
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Origin> {
        self.keys.get(path)
    }

    pub(super) fn entry(&self, path: &Path) -> Option<&Place> {
        self.entries.get(path)
    }

    /// Whether keys of the table at `path` were looked for.
    pub(super) fn has_below(&self, path: &Path) -> bool {
        let after = (Bound::Excluded(path), Bound::Unbounded);
        let next = self.keys.range::<Path, _>(after).next();
        next.is_some_and(|(next, _)| next.0.starts_with(&path.0))
    }

    /// How many tables the array at `path` has.
    pub(super) fn elements(&self, path: &Path) -> usize {
        let mut count = 0;
        while self.has_below(&path.element(count)) {
            count += 1;
        }
        count
    }
}
