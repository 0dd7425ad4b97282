//! Reads the configuration's files: the one place that does.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};

use crate::cli::Configuration;
use crate::config::{Attached, Source};
use crate::generation::{Input, Origin, Role};

const FILE: &str = "/etc/nkudo/nkudo.toml";
const DROP_INS: &str = "/etc/nkudo/nkudo.d";
/// 10,000 VMs need some 4 MB; what is larger is not a configuration.
const LARGEST: u64 = 16 << 20;

/// The name of what is read from standard input.
const STANDARD_INPUT: &str = "<standard input>";

/// Reads the files that the command line names, or the ones in /etc.
pub(super) fn read(configuration: &Configuration) -> anyhow::Result<Vec<Source>> {
    let files = if configuration.files.is_empty() {
        default_files()?
    } else {
        configuration.files.clone()
    };
    files.iter().map(|path| source(path)).collect()
}

fn default_files() -> anyhow::Result<Vec<Utf8PathBuf>> {
    if !Utf8Path::new(FILE).exists() {
        bail!(
            "there is no {FILE}\nhint: nkudo.toml(5) begins with a whole file; another than that is named on the command line"
        );
    }
    let mut files = vec![Utf8PathBuf::from(FILE)];
    files.extend(drop_ins(Utf8Path::new(DROP_INS))?);
    Ok(files)
}

/// The files of a directory of drop-ins, in the order of their names: the directory's own is of no meaning.
fn drop_ins(directory: &Utf8Path) -> anyhow::Result<Vec<Utf8PathBuf>> {
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err).with_context(|| format!("cannot list {directory}")),
    };
    let mut drop_ins = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot list {directory}"))?
            .into_path();
        if path.extension() == Some("toml") {
            drop_ins.push(path);
        }
    }
    drop_ins.sort();
    Ok(drop_ins)
}

fn source(path: &Utf8Path) -> anyhow::Result<Source> {
    if path == "-" {
        return text(std::io::stdin().lock(), STANDARD_INPUT);
    }
    // Asked before opening: opening a FIFO waits for a writer.
    let kind = std::fs::metadata(path).with_context(|| format!("cannot read {path}"))?;
    if !kind.is_file() {
        bail!("cannot read {path}: it is not a regular file");
    }
    text(
        File::open(path).with_context(|| format!("cannot read {path}"))?,
        path.as_str(),
    )
}

fn text(reader: impl Read, name: &str) -> anyhow::Result<Source> {
    let mut bytes = Vec::new();
    let size = reader.take(LARGEST + 1).read_to_end(&mut bytes);
    if size.with_context(|| format!("cannot read {name}"))? as u64 > LARGEST {
        bail!("cannot read {name}: it is larger than 16 MiB");
    }
    let text = String::from_utf8(bytes)
        .map_err(|err| err.utf8_error())
        .with_context(|| format!("cannot read {name}: it is not UTF-8"))?;
    Ok(Source {
        name: name.to_owned(),
        text,
    })
}

/// What a file is that the configuration names and that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// A mistake.
    IsSaid,
    /// On the host that the configuration is for.
    IsElsewhere,
}

/// Stands for a file that is on another host: user-data that asks for nothing.
const ELSEWHERE: &str = "#cloud-config\n{}\n";

/// The files that the configuration names. Why one cannot be read is said where it is named.
pub(super) fn attached(paths: &BTreeSet<Utf8PathBuf>, missing: Missing) -> Vec<Attached> {
    let text = |path: &Utf8PathBuf| {
        if missing == Missing::IsElsewhere && !path.exists() {
            return Ok(ELSEWHERE.to_owned());
        }
        source(path)
            .map(|source| source.text)
            .map_err(|err| err.root_cause().to_string())
    };
    let attached = |path: &Utf8PathBuf| Attached {
        path: path.clone(),
        text: text(path),
    };
    paths.iter().map(attached).collect()
}

/// The sources as a generation records them: relative paths would mean something else elsewhere.
pub(super) fn inputs(sources: &[Source], attached: &[Attached]) -> anyhow::Result<Vec<Input>> {
    let input = |source: &Source| {
        let name = if source.name == STANDARD_INPUT {
            source.name.clone()
        } else {
            camino::absolute_utf8(&source.name)
                .with_context(|| format!("cannot make {} absolute", source.name))?
                .into_string()
        };
        Ok(Input::new(name, &source.text, Role::Configuration))
    };
    let mut inputs = sources
        .iter()
        .map(input)
        .collect::<anyhow::Result<Vec<_>>>()?;
    inputs.extend(attached.iter().map(|file| {
        let text = file.text.as_deref().unwrap_or_default();
        Input::new(file.path.to_string(), text, Role::Attached)
    }));
    Ok(inputs)
}

/// What the files of a generation are now. `None` where they cannot be read again: what came from
/// standard input is gone.
pub(super) fn again(origin: Origin, inputs: &[Input]) -> anyhow::Result<Option<Vec<Input>>> {
    let of = |role| {
        let inputs = inputs.iter().filter(move |input| input.role == role);
        inputs.map(|input| Utf8PathBuf::from(&input.name))
    };
    let files = match origin {
        Origin::Default => default_files()?,
        Origin::Named if inputs.iter().any(|input| input.name == STANDARD_INPUT) => {
            return Ok(None);
        }
        Origin::Named => of(Role::Configuration).collect(),
    };
    let sources = files
        .iter()
        .map(|path| source(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // Those that the configuration names are the same as long as it is.
    let attached = attached(&of(Role::Attached).collect(), Missing::IsSaid);
    self::inputs(&sources, &attached).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_come_in_the_order_of_their_names_whatever_the_directory_says() {
        let names = ["10-lan.toml", "20-web.toml", "9-late.toml", "a.toml"];
        let files = |order: &[usize]| {
            let place = tempfile::tempdir().unwrap();
            let directory = Utf8Path::from_path(place.path()).unwrap();
            for at in order {
                std::fs::write(directory.join(names[*at]), "").unwrap();
            }
            std::fs::write(directory.join("web.toml.orig"), "").unwrap();
            let found = drop_ins(directory).unwrap();
            let found = found.iter().filter_map(|path| path.file_name());
            found.map(str::to_owned).collect::<Vec<_>>()
        };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            assert_eq!(files(&order), names);
        }
        assert!(drop_ins(Utf8Path::new("/nowhere")).unwrap().is_empty());
    }
}
