//! Where each value of a host is from: a place in a file, or a default.

use std::collections::BTreeMap;
use std::fmt;
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
    /// What it came to, where the default depends on something else.
    pub derived: Option<String>,
}

/// Every key that was looked for, in the order in which that was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    keys: Vec<(Path, Origin)>,
    index: BTreeMap<Path, usize>,
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

    fn origin(&mut self, path: &Path) -> &mut Origin {
        let keys = &mut self.keys;
        let at = *self.index.entry(path.clone()).or_insert_with(|| {
            keys.push((path.clone(), Origin::default()));
            keys.len() - 1
        });
        &mut keys[at].1
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Origin)> {
        self.keys.iter().map(|(path, origin)| (path, origin))
    }
}
