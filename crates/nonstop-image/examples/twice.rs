//! Shows that an image is reproducible: `cargo run -p nonstop-image --example twice -- images/micro SCRATCH`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, scratch] = args.as_slice() else {
        return Err("usage: twice RECIPE_FOLDER EMPTY_FOLDER".into());
    };
    let [first, second] =
        nonstop_image::build_twice(Path::new(recipe), Path::new(scratch), &mut |_| {})?;
    println!("{first}\n{second}");
    if first == second { Ok(()) } else { Err("the two digests differ".into()) }
}
