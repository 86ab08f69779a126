//! What works without the daemon: checking lab and template files, printing their schemas.

use crate::{
    args::{Cli, LabVerb},
    error::CliError,
    print, print_json,
};
use nonstop_model::{EnvironmentTemplate, Lab};
use std::path::PathBuf;

/// `nonstop lab ...`.
pub(crate) fn lab(cli: &Cli, verb: &LabVerb) -> Result<(), CliError> {
    match verb {
        LabVerb::Check => {
            let lab = Lab::load(&cli.lab)?;
            if cli.json {
                print_json(&lab);
            } else {
                print(&format!("{}: lab `{}` is good", cli.lab.display(), lab.name));
            }
        }
        LabVerb::Schema { template: false } => print_json(&schemars::schema_for!(Lab)),
        LabVerb::Schema { template: true } => {
            print_json(&schemars::schema_for!(EnvironmentTemplate));
        }
    }
    Ok(())
}

/// `nonstop template check`: every file, each with its own error.
pub(crate) fn check_templates(cli: &Cli, files: &[PathBuf]) -> Result<(), CliError> {
    let files = if files.is_empty() { lab_templates(cli)? } else { files.to_vec() };
    let (mut good, mut bad) = (Vec::new(), 0);
    for path in files {
        let text = std::fs::read_to_string(&path)
            .map_err(|source| CliError::Read { path: path.clone(), source })?;
        match EnvironmentTemplate::parse(&path.display().to_string(), &text) {
            Ok(template) => good.push((path, template)),
            Err(e) => {
                bad += 1;
                eprintln!("{:?}", miette::Report::new(e));
            }
        }
    }
    if cli.json {
        print_json(&good.iter().map(|(path, _)| path).collect::<Vec<_>>());
    } else {
        for (path, template) in &good {
            print(&format!("{}: good ({})", path.display(), template.title));
        }
    }
    if bad == 0 { Ok(()) } else { Err(CliError::NotGood(format!("{bad} templates are not good"))) }
}

fn lab_templates(cli: &Cli) -> Result<Vec<PathBuf>, CliError> {
    let folder = Lab::load(&cli.lab)?.templates;
    let read = |source| CliError::Read { path: folder.clone(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|e| e == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_schemas_are_those_of_the_types() {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../templates/schema/");
        for (file, schema) in [
            ("lab.schema.json", schemars::schema_for!(Lab)),
            ("template.schema.json", schemars::schema_for!(EnvironmentTemplate)),
        ] {
            let text = std::fs::read_to_string(format!("{shipped}{file}")).expect("shipped");
            let expected = serde_json::to_string_pretty(&schema).expect("json");
            assert_eq!(text.trim_end(), expected, "write it anew with `nonstop lab schema`");
        }
    }

    #[test]
    fn the_shipped_templates_are_good() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../templates");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("there") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|e| e == "yaml") {
                let text = std::fs::read_to_string(&path).expect("readable");
                EnvironmentTemplate::parse(&path.display().to_string(), &text).expect("good");
                count += 1;
            }
        }
        assert!(count >= 2);
    }
}
