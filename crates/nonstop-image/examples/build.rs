//! Builds one image: `cargo run -p nonstop-image --example build -- images/micro STATE [--force] [--keep-packages]`.

use nonstop_image::{BuildOptions, ImageStore, build};
use std::{path::Path, time::Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, state, rest @ ..] = args.as_slice() else {
        return Err("usage: build RECIPE_FOLDER STATE_FOLDER [--force]".into());
    };
    let store = ImageStore::new(Path::new(state).join("images"));
    let cache = Path::new(state).join("cache/images");
    let has = |flag: &str| rest.iter().any(|a| a == flag);
    let options = BuildOptions { force: has("--force"), keep_packages: has("--keep-packages") };
    let start = Instant::now();
    let built = build(Path::new(recipe), &store, &cache, options, &mut |p| {
        let total = p.total.map(|t| format!("/{t}")).unwrap_or_default();
        eprintln!(
            "{:6.1} {:<10} {}{total} {}",
            start.elapsed().as_secs_f64(),
            p.stage,
            p.done,
            p.text
        );
    })
    .map_err(|e| {
        let mut text = e.to_string();
        let mut cause = std::error::Error::source(&e);
        while let Some(c) = cause {
            text += &format!(": {c}");
            cause = c.source();
        }
        text
    })?;
    println!("{} {}", store.path(&built.manifest.name, &built.digest).display(), built.fresh);
    Ok(())
}
