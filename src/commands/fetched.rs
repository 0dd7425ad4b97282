//! What is waited for while nobody else is kept waiting, without the lock: images that are got, and VMs that somebody
//! is at.

use std::collections::{BTreeMap, BTreeSet};

use crate::apply::{self, Doing, Holder, Lock, NoImage, VmLock};
use crate::host::{AbsolutePath, Host, Image, ImageName, StoredFile, VmId};
use crate::image::Store;
use crate::plan::{ImageStep, Plan};

/// How often one image is got that is gone again when the host is looked at anew.
const TRIES: u32 = 3;

/// What became of the images that plans needed.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    times: BTreeMap<StoredFile, u32>,
    kernel_times: BTreeMap<ImageName, u32>,
    /// Those that cannot be had, and why.
    failed: BTreeMap<StoredFile, NoImage>,
    /// Those whose kernel cannot be had.
    no_kernel: BTreeMap<ImageName, NoImage>,
    /// The plan that was said before.
    said: Option<Plan>,
}

/// Where a piece of work has come to that needs the lock.
#[derive(Debug)]
pub(super) enum Turn<T> {
    Done(T),
    Lacks(Lacking),
    /// Somebody has the lock of this VM.
    Waits(VmId),
}

impl<T> Turn<T> {
    pub(super) fn map<U>(self, of: impl FnOnce(T) -> U) -> Turn<U> {
        match self {
            Self::Done(done) => Turn::Done(of(done)),
            Self::Lacks(lacking) => Turn::Lacks(lacking),
            Self::Waits(id) => Turn::Waits(id),
        }
    }
}

/// Images that have to be got first. Nothing was changed yet.
#[derive(Debug)]
pub(super) struct Lacking {
    state_dir: AbsolutePath,
    images: Vec<ImageStep>,
    kernels: Vec<(ImageName, Image)>,
}

impl Lacking {
    /// The names of the images.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let images = self.images.iter().map(|step| step.image.as_str());
        let kernels = self.kernels.iter().map(|(image, _)| image.as_str());
        images.chain(kernels).collect()
    }
}

/// Does work that needs the lock. Where images are lacking they are got without it, as a VM that somebody is at is
/// waited for, and the work is begun anew: the host may have changed.
pub(super) fn with_lock<T>(
    mut work: impl FnMut(&mut Fetched) -> anyhow::Result<Turn<T>>,
) -> anyhow::Result<T> {
    let mut fetched = Fetched::default();
    loop {
        let held = lock()?;
        let turn = work(&mut fetched)?;
        drop(held);
        match turn {
            Turn::Done(done) => return Ok(done),
            Turn::Lacks(lacking) => fetched.get(&lacking),
            Turn::Waits(id) => until_free(&id)?,
        }
    }
}

/// Takes the lock, and says whom it waits for.
pub(super) fn lock() -> anyhow::Result<Lock> {
    apply::lock(|holder| match holder {
        // It has just taken it, or is none that says who it is.
        "" => tracing::info!("waiting for another nkudo to finish"),
        holder => tracing::info!("waiting for another nkudo (PID {holder}) to finish"),
    })
}

/// Takes the lock at a moment when nobody is at this VM. Who has the lock may count on that: what takes long about a VM
/// begins with it.
pub(super) fn lock_with(id: &VmId) -> anyhow::Result<Lock> {
    loop {
        let held = lock()?;
        if apply::holder(id)?.is_none() {
            return Ok(held);
        }
        drop(held);
        until_free(id)?;
    }
}

/// Takes the lock of a VM, and says whom it waits for.
pub(super) fn lock_vm(id: &VmId, doing: Doing) -> anyhow::Result<VmLock> {
    apply::lock_vm(id, doing, waiting)
}

/// Waits until nobody is at a VM, and says who is.
pub(super) fn until_free(id: &VmId) -> anyhow::Result<()> {
    apply::until_free(id, waiting)
}

fn waiting(holder: &Holder) {
    tracing::info!("waiting for {holder} to finish");
}

impl Fetched {
    /// Whether the work was begun before.
    pub(super) fn is_again(&self) -> bool {
        self.said.is_some()
    }

    /// What a plan needs that was not tried, or is gone again.
    pub(super) fn lacking(&self, plan: &Plan, host: &Host) -> Option<Lacking> {
        let images = plan.images.iter();
        let images = images.filter(|step| !self.failed.contains_key(&step.file));
        let kernels = plan.kernels.iter().map(|step| &step.image);
        let kernels = kernels.filter(|image| !self.no_kernel.contains_key(*image));
        let kernels =
            kernels.filter_map(|image| Some((image.clone(), host.images.get(image)?.clone())));
        let lacking = Lacking {
            state_dir: host.state_dir.clone(),
            images: images.cloned().collect(),
            kernels: kernels.collect(),
        };
        (!lacking.images.is_empty() || !lacking.kernels.is_empty()).then_some(lacking)
    }

    pub(super) fn failed(&self) -> &BTreeMap<StoredFile, NoImage> {
        &self.failed
    }

    pub(super) fn without_kernel(&self) -> &BTreeMap<ImageName, NoImage> {
        &self.no_kernel
    }

    /// Says a plan, once.
    pub(super) fn say(&mut self, plan: &Plan) {
        let rest = Plan {
            images: Vec::new(),
            kernels: Vec::new(),
            ..plan.clone()
        };
        if self.said.as_ref() == Some(&rest) {
            return;
        }
        if self.is_again() {
            tracing::info!("the plan is another one by now:");
        }
        for line in plan.to_string().lines() {
            tracing::info!("{line}");
        }
        if plan.is_empty() {
            tracing::info!("nothing to do");
        }
        self.said = Some(rest);
    }

    fn get(&mut self, lacking: &Lacking) {
        let store = Store::new(&lacking.state_dir);
        for ImageStep { file, image, .. } in &lacking.images {
            let times = self.times.entry(file.clone()).or_default();
            *times += 1;
            if *times > TRIES {
                let path = store.path(file);
                let why = format!("it was got {TRIES} times, and {path} is gone each time");
                self.failed.insert(file.clone(), NoImage(why));
            } else if let Err(err) = store.ensure(file, image) {
                self.failed
                    .insert(file.clone(), NoImage(format!("{err:#}")));
            }
        }
        for (name, image) in &lacking.kernels {
            let times = self.kernel_times.entry(name.clone()).or_default();
            *times += 1;
            let taken = if *times > TRIES {
                Err(anyhow::anyhow!(
                    "it was taken out {TRIES} times, and is gone each time"
                ))
            } else {
                store.ensure_kernel(image, name.as_str())
            };
            if let Err(err) = taken {
                let why = NoImage(format!("{err:#}"));
                self.no_kernel.insert(name.clone(), why);
            }
        }
    }
}
