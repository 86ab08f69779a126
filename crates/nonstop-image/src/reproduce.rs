//! Shows that an image does not depend on where, when and by whom it was built.

use crate::{
    build::{BuildOptions, Progress, build},
    error::{At, ImageError},
    recipe::{Kind, files_below},
    store::ImageStore,
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// Builds the image of `recipe_dir` twice and gives both digests, which must be equal.
///
/// The second build is of a copy of the recipe in another folder at another depth, with other
/// file modes, times and order in the folders. Packages come once from the mirror and are shared,
/// so that a package published meanwhile makes no difference. All is below `scratch`, which must
/// be empty, and takes twice the time of a build. Needs root.
pub fn build_twice(
    recipe_dir: &Path,
    scratch: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<[String; 2], ImageError> {
    let name = recipe_dir.canonicalize().at("find", recipe_dir)?;
    let name = name.file_name().expect("a folder's canonical path has a name").to_owned();
    let cache = scratch.join("cache");
    let force = BuildOptions { force: true, ..BuildOptions::default() };
    let first = ImageStore::new(scratch.join("first"));
    let first = build(recipe_dir, &first, &cache, force, progress)?;

    let copy = scratch.join("another/and deeper").join(name);
    fs::create_dir_all(&copy).at("make folder", &copy)?;
    let mut files = files_below(recipe_dir)?;
    for folder in files.iter().filter(|f| f.kind == Kind::Folder) {
        fs::create_dir(copy.join(&folder.path)).at("make folder", copy.join(&folder.path))?;
    }
    files.reverse();
    for file in files {
        let (from, to) = (recipe_dir.join(&file.path), copy.join(&file.path));
        match file.kind {
            Kind::Folder => {}
            Kind::Link => {
                let target = fs::read_link(&from).at("read link", &from)?;
                std::os::unix::fs::symlink(target, &to).at("make link", &to)?;
            }
            Kind::File { runs } => {
                let content = fs::read(&from).at("read", &from)?;
                fs::write(&to, content).at("write", &to)?;
                let mode = if runs { 0o700 } else { 0o600 };
                fs::set_permissions(&to, Permissions::from_mode(mode)).at("set mode of", &to)?;
            }
        }
    }
    let second = ImageStore::new(scratch.join("another/second"));
    let second = build(&copy, &second, &cache, force, progress)?;
    Ok([first.digest, second.digest])
}
