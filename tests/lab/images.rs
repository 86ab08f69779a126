//! The same recipe gives the same image, wherever it is built.

use anyhow::Result;
use nonstop_testkit::turn::Turn;
use std::{fs, path::Path};

#[test]
fn micro_built_twice_in_different_folders_has_one_digest() -> Result<()> {
    let _turn = Turn::take();
    let recipe = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../images/micro"));
    let folder = nonstop_tests::built_images()?.join(format!("../twice-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let digests = nonstop_image::build_twice(recipe, &folder, &mut |_| ());
    fs::remove_dir_all(&folder)?;
    let [first, second] = digests?;
    assert_eq!(first, second);
    Ok(())
}
