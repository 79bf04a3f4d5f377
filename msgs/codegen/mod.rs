//! From ROS 2 interface files to Rust source: `parse` reads one file, `emit` writes the types.

mod emit;
mod parse;

use std::{collections::BTreeMap, fs, path::Path};

pub use emit::generate;
pub use parse::{Field, Kind, Primitive, Structure};

/// Package name to the structures it defines.
pub type Packages = BTreeMap<String, Package>;

/// What one ROS package defines.
#[derive(Default)]
pub struct Package {
    pub messages: Vec<Structure>,
    pub services: Vec<Service>,
}

/// A service: a request and a response.
pub struct Service {
    pub name: String,
    pub doc: String,
    pub request: Structure,
    pub response: Structure,
}

/// Reads `spikewing_msgs` from `root` and every package under `root/interfaces`.
pub fn collect(root: &Path) -> Result<Packages, String> {
    let mut packages = Packages::new();
    packages.insert("spikewing_msgs".into(), read_package(root, "spikewing_msgs")?);
    for entry in sorted(&root.join("interfaces"))? {
        let name = entry.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        packages.insert(name.clone(), read_package(&entry, &name)?);
    }
    Ok(packages)
}

fn read_package(dir: &Path, package: &str) -> Result<Package, String> {
    let mut result = Package::default();
    for (folder, extension) in [("msg", "msg"), ("srv", "srv")] {
        let folder = dir.join(folder);
        if !folder.is_dir() {
            continue;
        }
        for file in sorted(&folder)? {
            if file.extension().is_none_or(|e| e != extension) {
                continue;
            }
            let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let name = file.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let located = |e: String| format!("{}: {e}", file.display());
            if extension == "msg" {
                result.messages.push(parse::structure(package, &name, "msg", &text).map_err(located)?);
            } else {
                let (request, response) =
                    text.split_once("\n---").ok_or_else(|| located("a service needs a line `---`".into()))?;
                let response = response.trim_start_matches('-');
                let request = parse::structure(package, &format!("{name}_Request"), "srv", request);
                let response = parse::structure(package, &format!("{name}_Response"), "srv", response);
                let (request, response) = (request.map_err(located)?, response.map_err(located)?);
                let doc = request.doc.clone();
                result.services.push(Service { name, doc, request, response });
            }
        }
    }
    Ok(result)
}

fn sorted(dir: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let read = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut paths: Vec<_> = read.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    paths.sort();
    Ok(paths)
}
