//! What works without the daemon: checking lab and template files, printing their schemas.

use crate::{
    args::{Cli, LabVerb},
    error::CliError,
    print, print_json,
};
use nonstop_image::ImageStore;
use nonstop_model::{EnvironmentTemplate, Lab, lab::LabError, template::Known, yaml::ConfigError};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// `nonstop lab ...`, but for the host key, which is the daemon's.
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
        LabVerb::HostKey(_) => {
            return Err(CliError::Misused("that is answered elsewhere".into()));
        }
    }
    Ok(())
}

/// `nonstop template check`: every file, each with all that is wrong with it.
pub(crate) fn check_templates(cli: &Cli, files: &[PathBuf], xml: bool) -> Result<(), CliError> {
    let lab = match Lab::load(&cli.lab) {
        Ok(lab) => Some(lab),
        Err(LabError::Read { .. }) if !files.is_empty() && !xml => {
            let lab = cli.lab.display();
            eprintln!("there is no {lab}: data domains, servers and images are not looked up");
            None
        }
        Err(e) => return Err(e.into()),
    };
    let known = lab.as_ref().map(known).transpose()?;
    let files = match &lab {
        Some(lab) if files.is_empty() => lab_templates(&lab.templates)?,
        _ => files.to_vec(),
    };
    let (mut rows, mut bad) = (Vec::new(), 0);
    for path in files {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) => {
                bad += 1;
                let message = format!("read {}: {e}", path.display());
                eprintln!("{message}");
                let error = serde_json::json!({ "message": message });
                rows.push(serde_json::json!({ "file": path, "good": false, "errors": [error] }));
                continue;
            }
        };
        let shown = path.display().to_string();
        let checked = EnvironmentTemplate::parse_all(&shown, &text, known.as_ref());
        let errors = match &checked {
            Ok(template) if !cli.json => {
                print(&format!("{shown}: good ({})", template.title));
                Vec::new()
            }
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(as_json).collect(),
        };
        let rendered = match (&lab, xml && checked.is_ok()) {
            (Some(lab), true) => Some(rendered(cli, lab, &path)?),
            _ => None,
        };
        if let (Some(xml), false) = (&rendered, cli.json) {
            print(xml);
        }
        rows.push(serde_json::json!({
            "file": path, "good": errors.is_empty(), "errors": errors, "xml": rendered,
        }));
        if let Err(errors) = checked {
            bad += 1;
            errors.into_iter().for_each(|e| eprintln!("{:?}", miette::Report::new(e)));
        }
    }
    if cli.json {
        print_json(&rows);
    }
    match bad {
        0 => Ok(()),
        1 => Err(CliError::NotGood("1 template is not good".into())),
        bad => Err(CliError::NotGood(format!("{bad} templates are not good"))),
    }
}

fn as_json(e: &ConfigError) -> serde_json::Value {
    serde_json::json!({
        "line": e.line, "column": e.column, "message": e.message, "help": e.help,
    })
}

/// What templates may name in `lab`.
fn known(lab: &Lab) -> Result<Known, CliError> {
    let images = ImageStore::new(lab.images()).list().map_err(CliError::Images)?;
    let built = images.into_iter().filter(|image| image.current).map(|image| image.name);
    Ok(Known { images: Some(built.collect()), ..Known::of(lab) })
}

/// The libvirt XML of a template, as the program renders it that would use it.
fn rendered(cli: &Cli, lab: &Lab, template: &Path) -> Result<String, CliError> {
    let program = lab.programs.join("nonstopd");
    let output = Command::new(&program)
        .arg("--lab")
        .args([&cli.lab, Path::new("--render"), template])
        .output()
        .map_err(|source| CliError::Run { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(CliError::NotGood(format!("{} refused: {}", program.display(), said.trim())))
}

fn lab_templates(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let read = |source| CliError::Read { path: folder.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
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
                EnvironmentTemplate::parse(&path.display().to_string(), &text, None).expect("good");
                count += 1;
            }
        }
        assert!(count >= 5);
    }
}
