//! Where packages, programs and this suite's files are.

use std::path::{Path, PathBuf};

/// The folder that holds launch/, params/ and policies/: `SPIKEWING_SHARE`, or the nearest such folder above the launch
/// file, the program, or here.
pub fn share_folder(launch_file: &Path) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("SPIKEWING_SHARE") {
        return Some(PathBuf::from(dir));
    }
    let starts = [
        std::path::absolute(launch_file).ok(),
        std::env::current_exe().ok(),
        std::env::current_dir().ok().map(|d| d.join("here")),
    ];
    starts.into_iter().flatten().find_map(|start| {
        start
            .ancestors()
            .flat_map(|a| [a.to_owned(), a.join("share/spikewing")])
            .find(|a| a.join("params").is_dir() && a.join("launch").is_dir())
    })
}

/// The prefix under which a package is installed, of those in `AMENT_PREFIX_PATH`.
///
/// # Errors
/// Names the package, and what to do.
pub fn package(name: &str, ament_prefix_path: Option<&str>) -> Result<PathBuf, String> {
    let Some(path) = ament_prefix_path.filter(|p| !p.is_empty()) else {
        return Err(format!(
            "package `{name}` is not part of this suite, and no ROS 2 is sourced (AMENT_PREFIX_PATH is not set): source one that has it"
        ));
    };
    std::env::split_paths(path)
        .find(|prefix| prefix.join("share/ament_index/resource_index/packages").join(name).exists())
        .ok_or_else(|| {
            format!("package `{name}` is in none of the sourced folders (AMENT_PREFIX_PATH: {path})")
        })
}

/// A program of a package.
///
/// # Errors
/// Names package and program.
pub fn program(package_name: &str, exec: &str, ament_prefix_path: Option<&str>) -> Result<PathBuf, String> {
    let prefix = package(package_name, ament_prefix_path)?;
    let program = prefix.join("lib").join(package_name).join(exec);
    if program.is_file() {
        Ok(program)
    } else {
        Err(format!("package `{package_name}` has no program `{exec}` ({})", program.display()))
    }
}

/// A program in `PATH`.
///
/// # Errors
/// Names it.
pub fn executable(name: &str, path: Option<&str>) -> Result<PathBuf, String> {
    if name.contains('/') {
        let file = PathBuf::from(name);
        return if file.is_file() { Ok(file) } else { Err(format!("there is no program {name}")) };
    }
    std::env::split_paths(path.unwrap_or_default())
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("there is no program `{name}` in PATH"))
}
