//! The kernel that an image has in its own filesystem, once it was taken out.

use serde::{Deserialize, Serialize};

use super::{AbsolutePath, Boot, CmdLine, Sha256};

/// What was found in an image. The files are in the image store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InsideKernel {
    /// What the image calls it: `6.12.48+deb13-amd64`. An image may call it anything.
    pub version: String,
    pub kernel: Sha256,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<Sha256>,
    /// What its guest needs: where its root filesystem is, and a console.
    pub cmdline: CmdLine,
}

impl InsideKernel {
    /// What a VM boots with it. What the configuration declares comes last, where it counts.
    pub fn boot(&self, state_dir: &AbsolutePath, declared: Option<&CmdLine>) -> Boot {
        let file = |sha256: &Sha256| state_dir.join(&["images", &Self::file_name(sha256)]);
        Boot::Kernel {
            kernel: file(&self.kernel),
            initrd: self.initrd.as_ref().map(file),
            cmdline: Some(match declared {
                Some(declared) => self.cmdline.then(declared),
                None => self.cmdline.clone(),
            }),
        }
    }

    /// The names in the image store.
    pub fn file_names(&self) -> impl Iterator<Item = String> {
        let files = std::iter::once(&self.kernel).chain(&self.initrd);
        files.map(Self::file_name)
    }

    /// As that of a kernel beside an image: the same name, the same content.
    pub fn file_name(sha256: &Sha256) -> String {
        format!("{sha256}.boot")
    }
}
