//! `nonstop image ...`: builds, lists and checks base images in the lab's state folder.

use crate::{args::ImageVerb, error::CliError, print, print_json, table::Table};
use nonstop_image::{BuildOptions, ImageStore, Progress, build};
use nonstop_model::Lab;
use std::{
    io::{IsTerminal, Write, stderr},
    time::Instant,
};

/// Carries out `verb` for `lab`.
pub(crate) fn run(lab: &Lab, verb: &ImageVerb, json: bool) -> Result<(), CliError> {
    let store = ImageStore::new(lab.images());
    match verb {
        ImageVerb::Build { names, recipes, force } => {
            let cache = lab.state.join("cache/images");
            let options = BuildOptions { force: *force, ..BuildOptions::default() };
            let mut built = Vec::new();
            for name in names {
                let started = Instant::now();
                let recipe = recipes.join(name.as_str());
                let mut show = Show::default();
                let image =
                    build(&recipe, &store, &cache, options, &mut |p| show.progress(name, &p))
                        .map_err(|source| CliError::Image { name: name.to_string(), source })?;
                let how = if image.fresh { "built" } else { "unchanged" };
                show.line(&format!("{name}: {how} in {:.1} s", started.elapsed().as_secs_f32()));
                built.push(serde_json::json!({
                    "name": name, "digest": image.digest, "fresh": image.fresh,
                }));
                if !json {
                    print(&format!("{name} {}", image.digest));
                }
            }
            if json {
                print_json(&built);
            }
            Ok(())
        }
        ImageVerb::List => {
            let images = store.list().map_err(CliError::Images)?;
            let rows = images.iter().map(|image| {
                serde_json::json!({
                    "name": image.name, "digest": image.digest, "current": image.current,
                })
            });
            if json {
                print_json(&rows.collect::<Vec<_>>());
            } else {
                let mut table = Table::new(["IMAGE", "DIGEST", "CURRENT"]);
                for image in &images {
                    let current = if image.current { "yes" } else { "" };
                    table.row([image.name.to_string(), image.digest.clone(), current.into()]);
                }
                print(&table.text(crate::width()));
            }
            Ok(())
        }
        ImageVerb::Check => check(&store, json),
    }
}

fn check(store: &ImageStore, json: bool) -> Result<(), CliError> {
    let (mut bad, mut rows) = (0, Vec::new());
    for image in store.list().map_err(CliError::Images)? {
        let checked = store.verify(&image.name, &image.digest);
        let found = match &checked {
            Ok(_) => "good".to_string(),
            Err(e) => {
                bad += 1;
                e.to_string()
            }
        };
        if !json {
            print(&format!("{} {}: {found}", image.name, image.digest));
        }
        rows.push(serde_json::json!({
            "name": image.name, "digest": image.digest, "good": checked.is_ok(), "found": found,
        }));
    }
    if json {
        print_json(&rows);
    }
    if bad == 0 { Ok(()) } else { Err(CliError::NotGood(format!("{bad} images are not whole"))) }
}

/// Progress on stderr: one line that changes on a terminal, a line a stage elsewhere.
#[derive(Default)]
struct Show {
    stage: &'static str,
}

impl Show {
    fn progress(&mut self, name: &nonstop_model::ImageName, progress: &Progress) {
        let of = progress.total.map(|total| format!(" {}/{total}", progress.done));
        let line =
            format!("{name}: {}{} {}", progress.stage, of.unwrap_or_default(), progress.text);
        if stderr().is_terminal() {
            let line: String = line.chars().take(100).collect();
            let _gone = write!(stderr(), "\r\x1b[K{line}");
        } else if self.stage != progress.stage {
            eprintln!("{line}");
        }
        self.stage = progress.stage;
    }

    fn line(&self, text: &str) {
        let clear = if stderr().is_terminal() { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{text}");
    }
}
